"""CoNLL columns: one word a line, blank lines between sentences, a column for each tag more on the way out.

Everything that was read is written back byte for byte; `-DOCSTART-` lines are no sentence and pass through. A
document begins with such a line, and where a file does.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from rnntool.data.records import (
    Sentence,
    SentenceWriter,
    Tagged,
    one_line,
)
from rnntool.data.streams import Lines, chomp
from rnntool.errors import DataError, UsageError

_DOCSTART = "-DOCSTART-"


@dataclass(slots=True)
class _Block:
    """The lines of one sentence as they were in the file, each with its ending."""

    separator: str = ""  # "\t", " ", or "" while no line had one
    before: list[str] = field(default_factory=list)  # -DOCSTART- lines and the blank ones after them
    rows: list[str] = field(default_factory=list)  # one line a word
    after: str = ""  # the blank line; "" where the file ended or a document began without one
    start: int = 0  # number of the first line
    cut: bool = False  # the file ended before the blank line


def is_blank(line: str) -> bool:
    """Whether nothing but spaces and tabs stands before the line's ending."""
    return line[0] in " \t\r\n" and not line.strip(" \t\r\n")


def whole(lines: Iterable[str]) -> bool:
    """Whether lines hold the end of a record: a blank one, but the one behind a -DOCSTART- line; or that."""
    words = outside = False
    for line in lines:
        if line.startswith(_DOCSTART):
            if words:
                return True
        elif not is_blank(line):
            words = True
        elif not outside:
            return True
        outside = line.startswith(_DOCSTART)
    return False


def read(
    lines: Lines, columns: Sequence[str | None] = (None,), *, need_tags: bool = False
) -> Iterator[Sentence]:
    """Words from the first column, tags from `columns`: numbers from 1, from -1 backwards, "word" or "last".

    Columns are separated by tabs if the first line with a separator has a tab, else by runs of spaces. Each
    blank line more than needed is a record without words. A sentence that doesn't reach a column has no tags;
    with `need_tags` it raises DataError.
    """
    places = [(column, _index(column)) for column in columns]
    block = _Block()
    document = object()
    for line in lines:
        if line.startswith(_DOCSTART):
            if not block.rows:
                block.before.append(line)
                document = object()
                continue
            lines.back(line)  # it is of what follows, which `whole` is to see from its beginning
        elif not is_blank(line):
            block.start = block.start or lines.number
            block.rows.append(line)
            continue
        elif block.before and not block.rows and block.before[-1].startswith(_DOCSTART):
            block.before.append(line)
            continue
        else:
            block.after = line
        yield _sentence(block, lines, places, need_tags, document)
        block = _Block(block.separator)
    if block.rows or block.before:
        block.cut = True
        yield _sentence(block, lines, places, need_tags, document)


def _sentence(
    block: _Block, lines: Lines, places: Sequence[tuple[str | None, int | None]], need_tags: bool,
    document: object,
) -> Sentence:
    name, start, rows = lines.name, block.start or lines.number, block.rows
    if not rows:
        return Sentence([], [], source=block, place=f"{name}:{start}", more=[[] for _ in places[1:]],
                        document=document)
    block.separator = block.separator or _separator(rows)
    if block.separator == "\t":
        cells = [chomp(row).split("\t") for row in rows]
    else:
        cells = [list(filter(None, chomp(row).replace("\t", " ").split(" "))) for row in rows]
    width = min(map(len, cells))
    found: list[list[str]] = []
    for column, index in places:
        if index is None:
            raise DataError(
                f"{name}:{start}: expected --column to be a number, 'word' or 'last', found {column!r}; "
                f"this line has {len(cells[0])} columns"
            )
        needed = index + 1 if index >= 0 else 1 - index  # counted from the end, never the word itself
        if width >= needed:
            found.append([row[index] for row in cells])
        elif need_tags:
            number, have = next((start + i, len(row)) for i, row in enumerate(cells) if len(row) < needed)
            raise DataError(f"{name}:{number}: expected at least {needed} columns, found {have}; see --column")
        if need_tags and index < 0 and max(map(len, cells)) > width:  # a word with a space in it, say
            want = len(cells[0])
            number, have = next((start + i, len(row)) for i, row in enumerate(cells) if len(row) != want)
            raise DataError(f"{name}:{number}: expected {want} columns as in line {start}, found {have}; correct "
                            "it, or give --column a number from 1")
        if need_tags and "" in found[-1]:
            number = start + found[-1].index("")
            raise DataError(f"{name}:{number}: expected a tag, found an empty cell; see --column")
    words, place = [row[0] for row in cells], f"{name}:{start}"
    if len(found) < len(places):
        return Sentence(words, source=block, place=place, document=document)
    return Sentence(words, found[0], source=block, place=place, more=found[1:], document=document)


def _index(column: str | None) -> int | None:
    """The column as a list index; None for a name, which only the file's first line can help to correct."""
    if column in _NAMED:
        return _NAMED[column]
    try:
        number = int(column or "")
    except ValueError:
        return None
    if number == 0:
        raise UsageError("--column: expected a number from 1 on, or from -1 backwards, found 0")
    return number - 1 if number > 0 else number


_NAMED = {None: -1, "last": -1, "word": 0}


def _separator(rows: list[str]) -> str:
    for row in rows:
        if "\t" in row:
            return "\t"
        if " " in chomp(row).strip(" "):
            return " "
    return ""


class BlockWriter(SentenceWriter):
    """A writer of blocks between blank lines, which keeps the sentences of several files apart.

    A sentence that its file's end cut off is written as it was; what it lacks comes before the next sentence.
    """

    _lacking = ""

    def __call__(self, sentence: Sentence, tagged: Tagged) -> str:
        """The lines of one sentence and its blank line."""
        lead, self._lacking = self._lacking, ""
        return lead + self._render(sentence, tagged)

    @abstractmethod
    def _render(self, sentence: Sentence, tagged: Tagged) -> str: ...

    def _note_cut(self, text: str, has_words: bool) -> None:
        self._lacking = ("" if text.endswith("\n") else "\n") + ("\n" if has_words else "")


class Writer(BlockWriter):
    """Adds the tags as new last columns to the lines that were read, or writes `word<TAB>tag` lines."""

    def __init__(self, columns: int = 1, *, probs: bool = False) -> None:
        """`probs` adds one column behind the `columns`: the first tag's probability, with four decimals."""
        self._columns = columns
        self._probs = probs

    def _render(self, sentence: Sentence, tagged: Tagged) -> str:
        block = sentence.source
        if not isinstance(block, _Block):
            words = one_line(sentence.words)
            cells = self._cells(tagged, "\t")
            return "".join([f"{word}\t{cell}\n" for word, cell in zip(words, cells, strict=True)]) + "\n"
        separator = block.separator or "\t"
        cells = self._cells(tagged, separator)
        out = [self._outside(line) for line in block.before]
        for row, cell in zip(block.rows, cells, strict=True):
            body = chomp(row)
            out.append(f"{body}{separator}{cell}{row[len(body) :]}")
        text = "".join(out) + block.after
        if block.cut:
            self._note_cut(text, bool(block.rows))
        return text

    def _cells(self, tagged: Tagged, separator: str) -> list[str]:
        """What is added to each word's line."""
        columns = [one_line(tags) for tags in (tagged.tags, *tagged.more)]
        if self._probs and tagged.probs is not None:
            columns.append([f"{p:.4f}" for p in tagged.probs])
        return columns[0] if len(columns) == 1 else list(map(separator.join, zip(*columns, strict=True)))

    def _outside(self, line: str) -> str:
        """A line outside all sentences; one of several columns gets as many as the words have."""
        body = chomp(line)
        if is_blank(line) or body.rstrip(" \t") == _DOCSTART:
            return line
        separator = "\t" if "\t" in body else " "
        added = ["O"] * self._columns + ["_"] * self._probs
        return body + separator + separator.join(added) + line[len(body) :]
