"""Types with which long-running work reports its progress. Prints nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

Log = Callable[[str], None]  # takes one sentence


def silent(message: str) -> None:
    """Ignore a message."""


class Stage(NamedTuple):
    """The progress of work before a training, such as reading a large file."""

    name: str
    share: float | None  # from 0 to 1; None if the total is unknown
    done: int
    unit: str


def duration(seconds: float) -> str:
    """Format seconds for people: 48s, 3m05s, 2h14m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"
