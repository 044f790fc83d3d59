"""From paths to records: opens, finds the format, reads. For training, evaluation and filters."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

from rnntool.data.formats import guess_format, whole_record
from rnntool.data.progress import Log, silent
from rnntool.data.streams import Lines, may_wait, open_lines
from rnntool.errors import UsageError
from rnntool.tasks.base import AnyTask
from rnntool.tasks.specs.schema import flag
from rnntool.tasks.specs.settings import Settings

TABLES = ("tsv", "csv", "jsonl")
# settings that only some formats read
READ_BY = {"text_column": TABLES, "label_column": TABLES, "unit": ("text",)}


@contextmanager
def opened(path: str, kind: str, *, format: str | None, errors: str, log: Log) -> Iterator[tuple[Lines, str]]:
    """The lines of a file and its format: as given, or guessed for `kind` and said aloud."""
    with open_lines(path, errors=errors) as lines:
        if format is None:
            format = guess_format(path, lines.head(), kind)
            log(f"{lines.name}: read as {format}")
        yield lines, format


class Inputs:
    """Records of several files in order, read as they are asked for.

    `formats` are those of the files up to now, in order.
    """

    def __init__(
        self, paths: Sequence[str], kind: str, read: Callable[[Lines, str], Iterator[Any]], *,
        format: str | None, errors: str, log: Log, warn: Log = silent, chosen: Collection[str] = (),
    ) -> None:
        """`read` makes records of lines in a format, which is the given one or guessed for `kind`.

        `say` takes what was guessed, `tell` a hint for who waits at a terminal. `errors` is as `open_lines`
        has it. `chosen` are settings that must have something to say about each file: see `check_formats`.
        """
        self.paths = paths
        self.kind = kind
        self.read = read
        self.given = format
        self.errors = errors
        self.log = log
        self.warn = warn
        self.chosen = chosen
        self.formats: list[str] = []
        self._open: Lines | None = None
        self._later = list(paths)  # what isn't opened yet

    @classmethod
    def of_task(
        cls, task: type[AnyTask], paths: Sequence[str], settings: Settings, *, targets: bool,
        format: str | None, errors: str, log: Log, warn: Log = silent, chosen: Collection[str] = (),
    ) -> Self:
        """Records as a task reads them, with targets or whether or not they have any."""
        return cls(paths, task.name, lambda lines, found: task.read(lines, found, settings, targets=targets),
                   format=format, errors=errors, log=log, warn=warn, chosen=chosen)

    def __iter__(self) -> Iterator[Any]:
        """All records."""
        self._later = list(self.paths)
        while self._later:
            path = self._later.pop(0)
            if path == "-" and sys.stdin is not None and sys.stdin.isatty():
                self.warn("reading from the terminal, a line at a time; end with Ctrl-D")
            source = opened(path, self.kind, format=self.given, errors=self.errors, log=self.log)
            with source as (lines, found):
                if self.chosen and lines.head():  # an empty input may be in any format
                    check_formats({found}, self.chosen, self.kind, where=f"{lines.name}: ")
                self.formats.append(found)
                self._open = lines
                try:
                    yield from self.read(lines, found)
                finally:
                    self._open = None

    def ready(self) -> bool:
        """False where asking for another record would wait."""
        if self._open is not None and not self._open.ended():
            return self._open.ready(whole_record(self.formats[-1]))
        return not (self._later and may_wait(self._later[0]))


def check_formats(formats: Iterable[str], chosen: Iterable[str], kind: str, *, where: str = "") -> None:
    """Refuse settings that were chosen and say how to read formats that no file is in.

    Of a language model, `label_column` also says that the labels of fastText lines are to be read.
    """
    found = set(formats)
    for name in chosen:
        reading = READ_BY.get(name)
        if name == "label_column" and kind == "lm":
            reading = (*TABLES, "fasttext")
        if reading and not found.intersection(reading):
            raise UsageError(f"{where}{flag(name)}: goes with files in {' or '.join(reading)}, found "
                             f"{' and '.join(sorted(found))}; leave it out, or see --from")
