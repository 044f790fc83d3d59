"""CoNLL-U: the ten columns of Universal Dependencies. Tags are read from some columns and replaced there.

Comments, multiword ranges, empty nodes and all other columns are written back byte for byte. A document
begins at a sentence with the comment `# newdoc` and at the beginning of a file.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from rnntool.data.formats.base import (
    Columns,
    Format,
    SentenceOptions,
    UnlabeledError,
    WriterOptions,
    is_nothing,
    labeled,
)
from rnntool.data.formats.conll import BlockWriter
from rnntool.data.pretokenizer import contractions
from rnntool.data.records import Sentence, Tagged, one_line
from rnntool.data.streams import Lines, chomp, is_blank
from rnntool.errors import DataError, UsageError, setting

_WIDTH = 10
_HEAD, _DEPREL, _MISC = 6, 7, 9
_TAG_COLUMNS = {"upos": 3, "xpos": 4, "feats": 5, "deprel": _DEPREL}
_NEVER_EMPTY = {3, _DEPREL}  # "_" there means that nobody has annotated the file
_OTHER_COLUMNS = {"id", "form", "lemma", "head", "deps", "misc"}
_NOT_A_WORD = re.compile(r"[0-9]+(?:-[0-9]+|\.[0-9]+)")  # 3-4 is a range, 3.1 an empty node
_MISC_KEY = re.compile(r"(?!-?\d+$)[^\s=|]+")
_TEXT = "# text = "
_NEWDOC = re.compile(r"#\s*newdoc\b")
_EXCESS_SPACE = re.compile(r"\A\s+|\s+\Z|(?<=\s)\s+")  # a form has single spaces inside and none around
_Place = tuple[int, str | None]  # index of a column, and a key if the column is MISC


@dataclass(slots=True)
class _Block:
    """The lines of one sentence as they were in the file, each with its ending."""

    lines: list[str]
    rows: list[int]  # indexes of the lines that are words
    after: str  # the blank line; "" if the file ended without one


def _holds_record(lines: Iterable[str]) -> bool:
    """Whether lines hold the blank line that ends a record."""
    return any(map(is_blank, lines))


def _recognizes(rows: Sequence[str]) -> bool:
    words = [row.split("\t") for row in rows if not row.startswith("#")]
    return bool(words) and all(len(cells) == _WIDTH and cells[0][:1].isdigit() for cells in words)


def _read_sentences(lines: Lines, options: SentenceOptions) -> Iterator[Sentence]:
    """Read words from FORM, and tags from "upos" (the default), "xpos", "feats", "deprel" or a key of MISC.

    A word without the key has the tag "O". Each blank line beyond the first is a record without words. The
    comment `# text` gives the text. `DataError` for a line that doesn't have ten columns, for an ID of an
    unknown form, and, if tags are needed, for a word without UPOS or DEPREL.
    """
    places = _places(options.columns)
    block: list[str] = []
    document = object()
    for line in lines:
        if is_blank(line):
            start = lines.number - len(block)
            yield from labeled(options.on_unlabeled, partial(
                _sentence, block, line, lines.name, start, places, options.need_tags, document))
            block = []
        else:
            block.append(line)
            if line[0] == "#" and _NEWDOC.match(line):
                document = object()
    if block:
        start = lines.number - len(block) + 1
        yield from labeled(options.on_unlabeled, partial(
            _sentence, block, "", lines.name, start, places, options.need_tags, document))


def _sentence(
    lines: list[str], after: str, name: str, start: int, places: Sequence[_Place], need_tags: bool,
    document: object,
) -> Sentence:
    words: list[str] = []
    tags: list[list[str]] = [[] for _ in places]
    rows: list[int] = []
    text = None
    for i, line in enumerate(lines):
        if line[0] == "#":
            if line.startswith(_TEXT):
                text = chomp(line)[len(_TEXT) :]
            continue
        cells = line.split("\t")
        if len(cells) != _WIDTH:
            raise DataError(place=f"{name}:{start + i}", expected=f"{_WIDTH} columns separated by tabs",
                            found=len(cells), advice=f"read other columns with {setting('format', 'conll')}")
        number = cells[0]
        if not (number.isascii() and number.isdigit()):
            if _NOT_A_WORD.fullmatch(number):
                continue
            raise DataError(place=f"{name}:{start + i}", expected="an ID such as 3, 3-4 or 3.1",
                            found=repr(number), advice="correct it")
        words.append(cells[1])
        for (index, key), column in zip(places, tags, strict=True):
            tag = cells[index] if key is None else _get(chomp(cells[_MISC]), key)
            if need_tags and (is_nothing(tag) or (index in _NEVER_EMPTY and tag == "_")):
                raise UnlabeledError(
                    f"{name}:{start + i}", expected=f"a tag in {key or f'column {index + 1}'}",
                    found=repr(tag), advice=f"fill it, choose another column with {setting('column')}")
            column.append(tag)
        rows.append(i)
    place = f"{name}:{start + rows[0] if rows else start}"
    return Sentence(words, tags[0], text, source=_Block(lines, rows, after), place=place, more_tags=tags[1:],
                    document=document)


def _places(columns: Columns) -> list[_Place]:
    """Return where the columns are; `UsageError` if two are the same, such as `upos` and `UPOS`."""
    places = [_place(column) for column in columns]
    if len(set(places)) < len(places):
        names = ", ".join(column or "upos" for column in columns)
        raise UsageError(setting="column", expected="each column once", found=names, advice="leave one out")
    return places


def _place(column: str | None) -> _Place:
    name = column or "upos"
    if name.lower() in _TAG_COLUMNS:
        return _TAG_COLUMNS[name.lower()], None
    if name.lower() in _OTHER_COLUMNS or not _MISC_KEY.fullmatch(name):
        raise UsageError(setting="column", expected=f"{', '.join(_TAG_COLUMNS)} or a key of MISC",
                         found=repr(name))
    return _MISC, name


def _get(misc: str, key: str) -> str:
    for item in misc.split("|"):
        if item.startswith(key) and item[len(key) : len(key) + 1] == "=":
            return item[len(key) + 1 :]
    return "O"


def _set(misc: str, key: str, value: str) -> str:
    """Return MISC with `key=value`; the value "O" removes the key.

    Keys stay sorted if they were. A "|" would end the value, so it becomes "/".
    """
    value = value.replace("|", "/")
    if _get(misc, key) == value:
        return misc
    items = [] if misc in ("", "_") else misc.split("|")
    keys = [item.partition("=")[0].lower() for item in items]
    new = [] if value == "O" else [f"{key}={value}"]
    for i, item in enumerate(items):
        if item.startswith(key + "="):
            items[i : i + 1] = new
            break
    else:
        at = bisect(keys, key.lower()) if keys == sorted(keys) else len(items)
        items[at:at] = new
    return "|".join(items) or "_"


class ConlluWriter(BlockWriter):
    """Replaces columns in the lines that were read, or writes CoNLL-U for a sentence from another format."""

    def __init__(self, columns: Columns, *, probs: bool = False) -> None:
        """`probs` writes the probability of the first column's tag to MISC, as `Prob`."""
        self._places = _places(columns)
        self._probs = probs
        self._number = 0  # of the last record
        self._new_paragraph = False

    def _render(self, sentence: Sentence, tagged: Tagged) -> str:
        self._number += 1
        columns = map(one_line, (tagged.tags, *tagged.more_tags))
        rows = list(zip(*columns, strict=True))  # the tags of each word
        probs = tagged.probs if self._probs else None
        block = sentence.source
        if not isinstance(block, _Block):
            return self._new(sentence, rows, probs)
        lines = block.lines.copy()
        for i, (row, tags) in enumerate(zip(block.rows, rows, strict=True)):
            body = chomp(lines[row])
            cells = body.split("\t")
            self._fill(cells, tags, probs[i] if probs else None)
            lines[row] = "\t".join(cells) + lines[row][len(body) :]
        text = "".join(lines) + block.after
        if not block.after:
            self._note_cut(text, bool(block.lines))
        return text

    def _new(self, sentence: Sentence, rows: list[tuple[str, ...]], probs: list[float] | None) -> str:
        """Write a sentence that the official validation (level 1) and evaluation scripts accept.

        They reject a sentence without words, so a blank record only starts a paragraph. They reject words
        without heads, so all words depend on the first one.
        """
        if not sentence.words:
            self._new_paragraph = True
            return ""
        words = [_EXCESS_SPACE.sub("", _composed(word)) or "_" for word in one_line(sentence.words)]
        text, offsets = sentence.text, sentence.located()
        if text is None:
            text, offsets = " ".join(words), None
        tight, groups = [False] * len(words), {}  # tight: no space follows the word
        if offsets:
            tight = [*(a[1] == b[0] for a, b in pairwise(offsets)), False]
            groups = dict(contractions(text, offsets))
        (line,) = one_line([_composed(text)])
        out = ["# newpar\n"] if self._new_paragraph else []
        out += f"# sent_id = {self._number}\n", f"{_TEXT}{line.strip()}\n"
        self._new_paragraph = False
        after = 0  # the index after the last word of the range
        for i, (word, tags) in enumerate(zip(words, rows, strict=True)):
            if i in groups:
                after = groups[i]
                cells = _cells(f"{i + 1}-{after}", "".join(words[i:after]), tight=tight[after - 1])
                out.append("\t".join(cells) + "\n")
            cells = _cells(str(i + 1), word, tight=tight[i] and i >= after)
            cells[_HEAD], cells[_DEPREL] = ("1", "dep") if i else ("0", "root")
            self._fill(cells, tags, probs[i] if probs else None)
            out.append("\t".join(cells) + "\n")
        return "".join(out) + "\n"

    def _fill(self, cells: list[str], tags: Sequence[str], prob: float | None) -> None:
        """Put the tags of one word into the cells of its line."""
        for (index, key), tag in zip(self._places, tags, strict=True):
            if key is not None:
                cells[_MISC] = _set(cells[_MISC], key, tag)
            elif cells[index] != tag:  # an empty cell that was read stays
                cells[index] = tag or "_"
        if prob is not None:
            cells[_MISC] = _set(cells[_MISC], "Prob", f"{prob:.4f}")


def _cells(number: str, form: str, *, tight: bool) -> list[str]:
    """Return the cells of a new line."""
    return [number, form, *"_______", "SpaceAfter=No" if tight else "_"]


def _composed(text: str) -> str:
    """Return the text in NFC, which the format requires."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _writer(options: WriterOptions) -> ConlluWriter:
    return ConlluWriter(options.columns, probs=options.probs)


CONLLU = Format(
    name="conllu",
    extensions=(".conllu",),
    recognizes=_recognizes,
    holds_record=_holds_record,
    read_sentences=_read_sentences,
    sentence_writer=_writer,
    examples={"sentences": "# text = It purrs.\n"
              "1\tIt\tit\tPRON\tPRP\t_\t2\tnsubj\t_\t_\n"
              "2\tpurrs\tpurr\tVERB\tVBZ\t_\t0\troot\t_\tSpaceAfter=No\n"
              "3\t.\t.\tPUNCT\t.\t_\t2\tpunct\t_\t_\n\n"},
    has_tags=True,
    named_columns=True,
    span_column="NER",
    writes_probs=True,
)
