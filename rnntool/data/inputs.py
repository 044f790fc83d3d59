"""Read records from files: open them, find out their formats, and parse them. Knows no task.

Training, evaluation and the commands that run a model all read their files through `Inputs`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rnntool.data.formats import FORMATS, Format, UnlabeledError, either, guess_format, table_format
from rnntool.data.progress import Log, silent
from rnntool.data.reading import Reading, TableReading
from rnntool.data.records import Kind, Sentence
from rnntool.data.streams import Lines, input_names, may_wait, open_lines
from rnntool.errors import UsageError, setting

_FEWEST_NUMBERS = 3  # words in a sentence that may consist of word numbers
_LONG_SENTENCE = 2000  # words; the longest sentences of treebanks have a few hundred
RecordReader = Callable[[Lines, str], Iterator[Any]]  # takes lines and the name of their format


@contextmanager
def open_with_format(
    path: str, kind: Kind, *, format: str | None, reading: Reading, log: Log, warn: Log = silent,
    supervised: bool = False, header: Collection[str] = (),
) -> Iterator[tuple[Lines, str]]:
    """Open a file; yields its lines and its format, which is guessed and reported if it is None.

    `supervised` says that each record needs labels or tags, which rules out plain text. A pipe has no
    extension, so it is a table if its first line has all names in `header`. `warn` receives a message if the
    guess may be wrong.
    """
    with open_lines(path, errors=reading.encoding_errors, encoding=reading.encoding) as lines:
        if format is None and isinstance(reading, TableReading) and reading.delimiter:
            format = table_format(path, reading.delimiter)
        if format is None:
            guess = guess_format(path, lines, kind, supervised=supervised, header=header)
            format, other = guess.format, guess.looks_like
            if not guess.certain:
                warn(f"{lines.name}: read as {format}, a guess; confirm it with {setting('format', format)}")
            elif other is None:
                log(f"{lines.name}: read as {format}")
            elif FORMATS[other].reads(kind):
                warn(f"{lines.name}: read as {format}, but it looks like {other}; if it is, set "
                     f"{setting('format', other)}")
            else:
                warn(f"{lines.name}: read as {format}, but it looks like {other}; if it is, give a file "
                     f"with only {kind}")
        yield lines, format


class Inputs:
    """The records of several files in order; a record is read when it is needed.

    `formats` are the formats of the files that have been opened, in order. `skipped` is the number of records
    that were left out because they have no labels. `columns` are the names of the columns of the first table
    of texts.
    """

    def __init__(
        self, paths: Sequence[str], kind: Kind, read: RecordReader, *, format: str | None,
        reading: Reading, log: Log, warn: Log = silent, supervised: bool = False,
        chosen: Collection[str] = (), needs_labels: Collection[str] = (), header: Collection[str] = (),
    ) -> None:
        """`read` makes records from the lines of a file, whose format is guessed if `format` is None.

        `reading` says how their bytes are decoded. `supervised` says that each record needs labels or tags.
        `header` is passed to `open_with_format`, `chosen` and `needs_labels` to `check_formats` for each file
        that isn't empty. `UsageError` if standard input is read twice.
        """
        if list(paths).count("-") > 1:
            raise UsageError("standard input can be read only once", advice="give - only once")
        self.paths = paths
        self.kind = kind
        self.read = read
        self.format = format
        self.reading = reading
        self.log = log
        self.warn = warn
        self.supervised = supervised
        self.chosen = chosen
        self.needs_labels = needs_labels
        self.header = header
        self.formats: list[str] = []
        self.skipped = 0
        self.columns: list[str] | None = None
        self._current: Lines | None = None
        self._unopened = list(paths)

    def __iter__(self) -> Iterator[Any]:
        """Read all records, from the first file on."""
        self.skipped = 0
        self._unopened = list(self.paths)
        while self._unopened:
            path = self._unopened.pop(0)
            if path == "-" and sys.stdin is not None and sys.stdin.isatty():
                self.warn("reading from the terminal, one line at a time; end with Ctrl-D")
            source = open_with_format(
                path, self.kind, format=self.format, reading=self.reading, log=self.log, warn=self.warn,
                supervised=self.supervised, header=self.header)
            with source as (lines, format):
                if self.chosen and lines.head():
                    check_formats([format], self.chosen, needs_labels=self.needs_labels, place=lines.name)
                self.formats.append(format)
                lines.warn = self.warn
                self._current = lines
                try:
                    each = self.read(lines, format)
                    yield from _checked(each, self.warn) if self.kind == "sentences" else each
                finally:
                    self._current = None
                    self.columns = self.columns or lines.columns
        if self.skipped:
            records = "records" if self.skipped > 1 else "record"
            self.warn(f"{input_names(self.paths)}: skipped {self.skipped:,} {records} without a label")

    def skip(self, error: UnlabeledError) -> None:
        """Count a record that is left out because it has no labels."""
        self.skipped += 1

    def ready(self) -> bool:
        """Return False if asking for another record might have to wait for more input."""
        if self._current is not None and not self._current.ended():
            return self._current.ready(FORMATS[self.formats[-1]].holds_record)
        return not (self._unopened and may_wait(self._unopened[0]))


def parallel_inputs(
    sources: Sequence[str], targets: str, read: Callable[[Lines, Lines], Iterator[Any]], *, reading: Reading,
    log: Log, warn: Log = silent,
) -> Inputs:
    """Return the records of two files whose lines correspond; `read` makes them of the lines of both.

    `UsageError` for several files of sources, or if both files are standard input.
    """
    if len(sources) != 1:
        raise UsageError(setting="target", expected="one file of sources", found=len(sources),
                         advice="join them with cat")
    if [*sources, targets].count("-") > 1:
        raise UsageError("standard input can be read only once", advice="give - only once")

    def read_both(lines: Lines, _: str) -> Iterator[Any]:
        with open_lines(targets, errors=reading.encoding_errors, encoding=reading.encoding) as others:
            yield from read(lines, others)

    return Inputs(sources, "sequences", read_both, format="text", reading=reading, log=log, warn=warn)


def _checked(sentences: Iterator[Sentence], warn: Log) -> Iterator[Sentence]:
    """Pass sentences on; warn once if words are only numbers, and once if a sentence is too long."""
    numbers_checked = length_checked = False
    for sentence in sentences:
        words = sentence.words
        if not numbers_checked and len(words) >= _FEWEST_NUMBERS:
            numbers_checked = True
            if words == [str(i + 1) for i in range(len(words))]:
                warn(f"{sentence.place}: the words are the numbers 1, 2, 3, …; if the words are in another "
                     f"column, set {setting('word_column')}")
        if not length_checked and len(words) > _LONG_SENTENCE:
            length_checked = True
            warn(f"{sentence.place}: a sentence of {len(words):,} words; if blank lines are missing between "
                 "sentences, insert them")
        yield sentence


def check_formats(
    formats: Iterable[str], chosen: Iterable[str], *, needs_labels: Collection[str] = (),
    place: str | None = None,
) -> None:
    """Raise `UsageError` for a chosen setting that applies to none of the formats.

    A setting in `needs_labels` asks for labels to be read, so it applies to every format with labels.
    """
    formats = set(formats)
    restricted = {name for format in FORMATS.values() for name in format.settings}
    for name in filter(restricted.__contains__, chosen):
        applies = [format.name for format in FORMATS.values()
                   if _applies(name, format, needs_labels=name in needs_labels)]
        if formats.isdisjoint(applies):
            raise UsageError(
                place=place, setting=name, expected=f"files in {either(applies)}",
                found=" and ".join(sorted(formats)),
                advice=f"leave it out, or name the format with {setting('format')}")


def _applies(name: str, format: Format, *, needs_labels: bool) -> bool:
    return name in format.settings or (needs_labels and format.has_labels)
