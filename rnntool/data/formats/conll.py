"""CoNLL columns: a word on each line, blank lines between sentences. Each tag is written as a new column.

Everything that was read is written back byte for byte. Comments and `-DOCSTART-`, `#begin document` and
`#end document` lines belong to no sentence and pass through. A document begins at the start of a file and at
each of these lines except comments.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from rnntool.data.formats.base import (
    Columns,
    Format,
    SentenceOptions,
    UnlabeledError,
    WriterOptions,
    is_nothing,
    labeled,
)
from rnntool.data.records import Sentence, SentenceWriter, Tagged, one_line
from rnntool.data.streams import Lines, chomp, is_blank
from rnntool.errors import DataError, UsageError, setting

_DOCSTART = "-DOCSTART-"
_BORDERS = (_DOCSTART, "#begin document", "#end document")  # between documents; two are from OntoNotes
_DOCSTART_LINE = re.compile(rf"{_DOCSTART}[^a-z]*$")  # other columns may follow, but no words
_IOB_TAG = re.compile(r"O|[BIESLU]-[^\W\d]\S*")  # not I-95
_COMMENT = re.compile(r"#\s?(?:id\s+\S|[\w.:]+\s?=\s)")  # a comment, whatever its number of columns
_BRAT = re.compile(r"[TREAMN#][0-9]+\t")  # a line of a brat annotation file
_PUNCTUATION = frozenset(".,!?;:。।")
_LONGEST_WORD = 2  # average number of spaces in a word; with more, the cells are texts


@dataclass(slots=True)
class _Block:
    """The lines of one sentence as they were in the file, each with its ending."""

    separator: str = ""  # "\t", " ", or "" while no line had one
    ends_in_tab: bool | None = None  # whether all lines of the first sentence end in a tab
    before: list[str] = field(default_factory=list)  # borders, the blank lines after them, and comments
    rows: list[str] = field(default_factory=list)  # one line for each word
    after: str = ""  # the blank line; "" if the file ended or a document began without one
    start: int = 0  # number of the first line
    cut: bool = False  # the file ended before the blank line


def _holds_record(lines: Iterable[str]) -> bool:
    """Whether lines hold the end of a record.

    A record ends at a border between documents that follows words, and at a blank line that doesn't directly
    follow a border.
    """
    words = after_border = False
    for line in lines:
        if line.startswith(_BORDERS):
            if words:
                return True
        elif not is_blank(line):
            words = True
        elif not after_border:
            return True
        after_border = line.startswith(_BORDERS)
    return False


def _read_sentences(lines: Lines, options: SentenceOptions) -> Iterator[Sentence]:
    """Read words from `word_column` (1), and tags from numbered columns, "word" or "last" (the default).

    Columns are counted from 1, or backward from -1. Tabs separate columns if the first line that has a
    separator has a tab; otherwise runs of spaces do. Spaces beside a tab are
    ignored. Each blank line beyond the first is a record without words. A sentence without the column has
    no tags; `DataError` if tags are needed.
    """
    word_at = _word_index(options.word_column)
    indexes = [(column, column_index(column, word_at)) for column in options.columns]
    block = _Block()
    document = object()
    for line in lines:
        if line.startswith(_BORDERS):
            if not block.rows:
                block.before.append(line)
                document = object()
                continue
            lines.push_back(line)  # it belongs to the next record, which `_holds_record` must see whole
        elif not is_blank(line):
            block.start = block.start or lines.number
            block.rows.append(line)
            continue
        elif block.before and not block.rows and block.before[-1].startswith(_BORDERS):
            block.before.append(line)
            continue
        else:
            block.after = line
        yield from labeled(options.on_unlabeled, partial(
            _sentence, block, lines, word_at, indexes, options.need_tags, document))
        block = _Block(block.separator, block.ends_in_tab)
    if block.rows or block.before:
        block.cut = True
        yield from labeled(options.on_unlabeled, partial(
            _sentence, block, lines, word_at, indexes, options.need_tags, document))


def _sentence(
    block: _Block, lines: Lines, word_at: int, indexes: Sequence[tuple[str | None, int | None]],
    need_tags: bool, document: object,
) -> Sentence:
    block.separator = block.separator or _separator(block.rows)
    if block.rows and block.rows[0].startswith("#"):
        _set_comments_apart(block)
    name, start, rows = lines.name, block.start or lines.number, block.rows
    if not rows:
        return Sentence([], [], source=block, place=f"{name}:{start}", more_tags=[[] for _ in indexes[1:]],
                        document=document)
    cells = [_cells(row, block.separator) for row in rows]
    without_last = all(len(row) > 2 and not row[-1].strip(" ") for row in cells)
    if block.ends_in_tab is None:
        block.ends_in_tab = without_last
    if block.ends_in_tab and without_last:
        cells = [row[:-1] for row in cells]
    width = min(map(len, cells))
    if width <= word_at:
        raise DataError(place=f"{name}:{start}", expected=f"a word in column {word_at + 1}",
                        found=f"{width} columns",
                        advice=f"choose another column with {setting('word_column')}")
    columns: list[list[str]] = []
    for column, index in indexes:
        if index is None:
            raise DataError(place=f"{name}:{start}", setting="column", expected="a number, 'word' or 'last'",
                            found=repr(column), advice=f"this line has {len(cells[0])} columns")
        needed = index + 1 if index >= 0 else -index
        if index < 0 and width + index == word_at:  # a column counted from the end never means the word
            needed = width + 1
        if width >= needed:
            columns.append([row[index] for row in cells])
        if need_tags:
            _check_tags(cells, columns, index, needed, name, start)
    words, place = [row[word_at] for row in cells], f"{name}:{start}"
    if len(columns) < len(indexes):
        return Sentence(words, source=block, place=place, document=document, rows=range(len(rows)))
    return Sentence(words, columns[0], source=block, place=place, more_tags=columns[1:], document=document,
                    rows=range(len(rows)))


def _check_tags(
    cells: list[list[str]], columns: list[list[str]], index: int, needed: int, name: str, start: int
) -> None:
    """Raise `DataError` unless each row of a sentence has a tag in the column `index`."""
    choose = f"choose another column with {setting('column')}"
    if min(map(len, cells)) < needed:
        number, width = next((start + i, len(row)) for i, row in enumerate(cells) if len(row) < needed)
        raise UnlabeledError(f"{name}:{number}", expected=f"at least {needed} columns", found=str(width),
                             advice=choose)
    if index < 0 and len(set(map(len, cells))) > 1:  # a word with a space in it, for example
        first = len(cells[0])
        number, width = next((start + i, len(row)) for i, row in enumerate(cells) if len(row) != first)
        raise DataError(place=f"{name}:{number}", expected=f"{first} columns as in line {start}", found=width,
                        advice=f"correct the line, or set {setting('column')} to a number from 1")
    for number, tag in enumerate(columns[-1], start):
        if is_nothing(tag):
            raise UnlabeledError(f"{name}:{number}", expected="a tag", found="an empty cell",
                                 advice=f"fill it, {choose}")


def column_index(column: str | None, word_at: int = 0) -> int | None:
    """Return a column of tags as an index into a list; None for an unknown name."""
    if column in (None, "last"):
        return -1
    if column == "word":
        return word_at
    try:
        number = int(column or "")
    except ValueError:
        return None  # reported with the number of columns, once the first line is read
    if number == 0:
        raise UsageError(setting="column", expected="a number from 1, or from -1 backward", found=0)
    return number - 1 if number > 0 else number


def _word_index(column: str | None) -> int:
    number = column or "1"
    if not (number.isascii() and number.isdigit() and int(number)):
        raise UsageError(setting="word_column", expected="a number from 1", found=repr(column))
    return int(number) - 1


def _cells(row: str, separator: str) -> list[str]:
    if separator == "\t":
        return [cell.strip(" ") or cell for cell in chomp(row).split("\t")]  # a word may be a space
    return list(filter(None, chomp(row).replace("\t", " ").split(" ")))


def _set_comments_apart(block: _Block) -> None:
    """Move comments at the beginning of a sentence to the lines before it. `#` and hashtags may be words.

    A comment either has a form that no row has, or it has a space or a tab after `#` and a different number
    of columns than the first line that doesn't begin with `#`.
    """
    row = next((row for row in block.rows if not row.startswith("#")), None)
    width = row and len(_cells(row, block.separator))
    while block.rows and block.rows[0].startswith("#"):
        first = block.rows[0]
        odd = width and first[1:2] in (" ", "\t") and len(_cells(first, block.separator)) != width
        if not (odd or _COMMENT.match(first)):
            return
        block.before.append(block.rows.pop(0))
        block.start += 1


def _separator(rows: Sequence[str]) -> str:
    # a comment may have a different separator than the rows
    for row in [row for row in rows if not row.startswith("#")] or rows:
        if "\t" in row:
            return "\t"
        if " " in chomp(row).strip(" "):
            return " "
    return ""


def _recognizes(rows: Sequence[str]) -> bool:
    """Whether all lines have the same number of columns and end in tags rather than words.

    A single column of words is recognized if some of them are punctuation.
    """
    rows = [row for row in rows if not row.startswith(_BORDERS) and not _COMMENT.match(row)]
    separator = _separator(rows)
    cells = [_cells(row, separator) for row in rows]
    width = next((len(row) for row in cells if row[0] != "#"), 0)
    cells = [row for row in cells if row[0] != "#" or len(row) == width]
    if not cells or any(len(row) != width for row in cells) or all(map(_BRAT.match, rows)):
        return False
    if width == 1:
        return len(cells) > 3 and any(row[0] in _PUNCTUATION for row in cells)
    if separator == "\t":
        last = [row[-1] for row in cells]
        # the last cell of a table may be a sentence or a number; a tag is one word
        if any(" " in tag for tag in last) or all(re.fullmatch(r"[\d.,]*\d", tag) for tag in last):
            return False
        if sum(row[0].count(" ") for row in cells) > _LONGEST_WORD * len(cells):  # a text and its label
            return False
        several = len(cells) > 1 and not all(" " in row[0] for row in cells)
        return several or all(tag[:1] == tag[:1].upper() for tag in last)
    # one line of text may end in a word such as E-mail
    if len(cells) > 1 and all(_IOB_TAG.fullmatch(row[-1]) for row in cells):
        return True
    # at least three lines, with words in lower case and tags in capitals: no running text looks like that
    words, tags = "".join([row[0] for row in cells]), {row[-1] for row in cells}
    letters = sum(any(map(str.isalpha, tag)) for tag in tags)  # lines of text may all end in a period
    return (len(cells) > 2 and words != words.upper() and all(tag == tag.upper() for tag in tags)
            and 2 * letters > len(tags))


class BlockWriter(SentenceWriter):
    """Writes blocks of lines with blank lines between them, and keeps the sentences of several files apart.

    If a file ended without the last blank line, the output ends in the same way. The missing line endings are
    written only when another sentence follows.
    """

    _missing = ""

    def __call__(self, sentence: Sentence, tagged: Tagged) -> str:
        """Return the lines of one sentence and its blank line."""
        lead, self._missing = self._missing, ""
        return lead + self._render(sentence, tagged)

    @abstractmethod
    def _render(self, sentence: Sentence, tagged: Tagged) -> str: ...

    def _note_cut(self, text: str, has_words: bool) -> None:
        self._missing = ("" if text.endswith("\n") else "\n") + ("\n" if has_words else "")


class ConllWriter(BlockWriter):
    """Adds the tags to the lines that were read, as new last columns, or writes `word<TAB>tag` lines."""

    def __init__(self, columns: Columns, *, probs: bool = False) -> None:
        """`probs` adds another column: the probability of the first column's tag, with four decimals."""
        self._columns = len(columns)
        self._probs = probs

    def _render(self, sentence: Sentence, tagged: Tagged) -> str:
        block = sentence.source
        if not isinstance(block, _Block):
            words = one_line(sentence.words)
            added = self._added(tagged, "\t")
            return "".join([f"{word}\t{cells}\n" for word, cells in zip(words, added, strict=True)]) + "\n"
        separator = block.separator or "\t"
        added = self._added(tagged, separator)
        out = [self._docstart(line) for line in block.before]
        for row, cells in zip(block.rows, added, strict=True):
            body = chomp(row)
            out.append(f"{body}{separator}{cells}{row[len(body) :]}")
        text = "".join(out) + block.after
        if block.cut:
            self._note_cut(text, bool(block.rows))
        return text

    def _added(self, tagged: Tagged, separator: str) -> list[str]:
        """Return the new cells for the line of each word."""
        columns = [one_line(tags) for tags in (tagged.tags, *tagged.more_tags)]
        if self._probs and tagged.probs is not None:
            columns.append([f"{p:.4f}" for p in tagged.probs])
        return columns[0] if len(columns) == 1 else list(map(separator.join, zip(*columns, strict=True)))

    def _docstart(self, line: str) -> str:
        """Return a line outside of sentences. -DOCSTART- with several columns gets the new ones as well."""
        body = chomp(line)
        if not line.startswith(_DOCSTART) or body.rstrip(" \t") == _DOCSTART:
            return line
        separator = "\t" if "\t" in body else " "
        added = ["O"] * self._columns + ["_"] * self._probs
        return body + separator + separator.join(added) + line[len(body) :]


def _writer(options: WriterOptions) -> ConllWriter:
    return ConllWriter(options.columns, probs=options.probs)


CONLL = Format(
    name="conll",
    extensions=(".conll", ".iob", ".iob2", ".bio", ".iobes", ".bioes"),
    recognizes=_recognizes,
    signature=_DOCSTART_LINE,
    holds_record=_holds_record,
    read_sentences=_read_sentences,
    sentence_writer=_writer,
    examples={"sentences": "-DOCSTART- O\n\nAnna B-PER\nsings O\n\nWe O\nlisten O\n\n"},
    settings=frozenset({"word_column"}),
    has_tags=True,
    writes_probs=True,
)
