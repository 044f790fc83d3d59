"""What the filters share: their inputs one after the other, and the hint for who waits at a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Any

from rnntool import console
from rnntool.formats import whole_record
from rnntool.streams import Lines
from rnntool.tasks.reading import Say, check_formats, opened


class Inputs:
    """Records of several files in order.

    `format` is that of the first file, `ready` says whether a record more can be had without waiting.
    """

    def __init__(
        self, paths: Sequence[str], kind: str, read: Callable[[Lines, str], Iterator[Any]], *,
        format: str | None, errors: str, say: Say, quiet: bool = False, chosen: Collection[str] = (),
    ) -> None:
        """`chosen` are the settings that say how some formats are read, and that others know nothing of."""
        self.paths = paths
        self.kind = kind
        self.read = read
        self.given = format
        self.errors = errors
        self.say = say
        self.quiet = quiet
        self.chosen = chosen
        self.format = format or ""
        self._ready: Callable[[], bool] = _always

    def __iter__(self) -> Iterator[Any]:
        """All records."""
        for path in self.paths:
            if path == "-" and not self.quiet and sys.stdin is not None and sys.stdin.isatty():
                console.say("reading from the terminal, a line at a time; end with Ctrl-D")
            source = opened(path, self.kind, format=self.given, errors=self.errors, say=self.say)
            with source as (lines, found):
                if self.chosen and lines.head():  # an empty input may be in any format
                    check_formats({found}, self.chosen, self.kind, where=f"{lines.name}: ")
                self.format = self.format or found
                self._ready = partial(lines.ready, whole_record(found))
                try:
                    yield from self.read(lines, found)
                finally:
                    self._ready = _always

    def ready(self) -> bool:
        """False where asking for another record would wait."""
        return self._ready()


def _always() -> bool:
    return True
