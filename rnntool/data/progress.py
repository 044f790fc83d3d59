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


Watch = Callable[[Stage], None]


class Counter:
    """Adds up what is done, and passes it on to `watch`, with its share if the `total` is known."""

    def __init__(self, name: str, unit: str, watch: Watch, *, total: int | None = None) -> None:
        self.name = name
        self.unit = unit
        self.watch = watch
        self.total = total
        self.done = 0
        self.add(0)  # the speed counts from here

    def add(self, count: int = 1) -> None:
        """Count more that is done."""
        self.done += count
        self.watch(Stage(self.name, min(1.0, self.done / self.total) if self.total else None, self.done,
                         self.unit))


def duration(seconds: float) -> str:
    """Format seconds for people: 48s, 3m05s, 2h14m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"
