"""The options of `rnntool inspect` that all of its subcommands share."""

from __future__ import annotations

from dataclasses import dataclass

from rnntool.commands.options import Compute, Messages, Reading


@dataclass(frozen=True, kw_only=True)
class Common(Messages, Reading, Compute):
    """Messages, reading and computing in one object."""
