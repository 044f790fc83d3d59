"""Make the head that a configuration describes. Each kind of head has a module in this package.

`HEAD_CONFIGS` in `rnntool.models.config` is the table of kinds.
"""

from __future__ import annotations

from importlib import import_module

from rnntool.models.config import HeadConfig
from rnntool.models.encoder import Encoder
from rnntool.models.heads.base import Head


def make_head(config: HeadConfig, encoder: Encoder) -> Head:
    """Make the head for a configuration and an encoder."""
    module, _, name = config.code.partition(":")
    kind: type[Head] = getattr(import_module(f"{__name__}.{module}"), name)
    return kind.for_encoder(config, encoder)
