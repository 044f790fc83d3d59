"""CoNLL-U: the ten columns of Universal Dependencies; some are read as tags and replaced on the way out.

Comments, multiword ranges, empty nodes and all other columns are written back byte for byte. A document
begins with a sentence that has the comment `# newdoc`, and where a file does.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rnntool.data.formats.conll import BlockWriter, is_blank
from rnntool.data.pretokenizer import contractions
from rnntool.data.records import Sentence, Tagged, one_line
from rnntool.data.streams import Lines, chomp
from rnntool.errors import DataError, UsageError

_WIDTH = 10
_HEAD, _DEPREL, _MISC = 6, 7, 9
_COLUMNS = {"upos": 3, "xpos": 4, "feats": 5, "deprel": _DEPREL}
_NEVER_EMPTY = {3, _DEPREL}  # "_" there means that nobody has tagged the file
_OTHERS = {"id", "form", "lemma", "head", "deps", "misc"}
_NO_WORD = re.compile(r"[0-9]+(?:-[0-9]+|\.[0-9]+)")  # 3-4 is a range, 3.1 an empty node
_TEXT = "# text = "
_NEWDOC = re.compile(r"#\s*newdoc\b")
_SPARE = re.compile(r"\A\s+|\s+\Z|(?<=\s)\s+")  # white space that no form may have
_Place = tuple[int, str | None]  # index of a column, and the key where it is a key of MISC


@dataclass(slots=True)
class _Block:
    """The lines of one sentence as they were in the file, each with its ending."""

    lines: list[str]
    rows: list[int]  # which of the lines are words
    after: str  # the blank line; "" where the file ended without one


def whole(lines: Iterable[str]) -> bool:
    """Whether lines hold the end of a record, which is a blank one."""
    return any(map(is_blank, lines))


def read(
    lines: Lines, columns: Sequence[str | None] = (None,), *, need_tags: bool = False
) -> Iterator[Sentence]:
    """Words from FORM, tags from `columns`: "upos" (the default), "xpos", "feats", "deprel" or a key of MISC.

    A word without that key has the tag "O". Each blank line more than needed is a record without words.
    `text` is that of the `# text` comment. Lines of other than ten columns and IDs of no known kind raise
    DataError, as does a word without UPOS or DEPREL where `need_tags` asks for it.
    """
    places = _places(columns)
    block: list[str] = []
    document = object()
    for line in lines:
        if is_blank(line):
            start = lines.number - len(block)
            yield _sentence(block, line, lines.name, start, places, need_tags, document)
            block = []
        else:
            block.append(line)
            if line[0] == "#" and _NEWDOC.match(line):
                document = object()
    if block:
        start = lines.number - len(block) + 1
        yield _sentence(block, "", lines.name, start, places, need_tags, document)


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
            raise DataError(
                f"{name}:{start + i}: expected {_WIDTH} columns separated by tabs, found {len(cells)}; "
                "is this CoNLL-U? see --from conll"
            )
        number = cells[0]
        if not (number.isascii() and number.isdigit()):
            if _NO_WORD.fullmatch(number):
                continue
            raise DataError(
                f"{name}:{start + i}: expected an ID such as 3, 3-4 or 3.1, found {number!r}; correct it"
            )
        words.append(cells[1])
        for (index, key), column in zip(places, tags, strict=True):
            if need_tags and index in _NEVER_EMPTY and cells[index] == "_":
                raise DataError(
                    f"{name}:{start + i}: expected a tag in column {index + 1}, found '_'; see --column")
            column.append(cells[index] if key is None else _get(chomp(cells[_MISC]), key))
        rows.append(i)
    place = f"{name}:{start + rows[0] if rows else start}"
    return Sentence(words, tags[0], text, source=_Block(lines, rows, after), place=place, more=tags[1:],
                    document=document)


def _places(columns: Sequence[str | None]) -> list[_Place]:
    """Where the columns are; `UsageError` where two are in one place, as `upos` and `UPOS`."""
    places = [_column(column) for column in columns]
    if len(set(places)) < len(places):
        names = ", ".join(column or "upos" for column in columns)
        raise UsageError(f"--column: expected each column once, found {names}; leave one out")
    return places


def _column(column: str | None) -> _Place:
    name = column or "upos"
    if name.lower() in _COLUMNS:
        return _COLUMNS[name.lower()], None
    if name.lower() in _OTHERS or not re.fullmatch(r"(?!-?\d+$)[^\s=|]+", name):
        raise UsageError(f"--column: expected {', '.join(_COLUMNS)} or a key of MISC, found {name!r}")
    return _MISC, name


def _get(misc: str, key: str) -> str:
    for item in misc.split("|"):
        if item.startswith(key) and item[len(key) : len(key) + 1] == "=":
            return item[len(key) + 1 :]
    return "O"


def _set(misc: str, key: str, value: str) -> str:
    """MISC with `key=value` in it, in the order of keys where there was one; "O" takes the key away.

    A "|" in the value, which would end it, becomes a "/".
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


class Writer(BlockWriter):
    """Replaces columns in the lines that were read, or makes CoNLL-U of a sentence from elsewhere."""

    def __init__(self, columns: Sequence[str | None] = (None,), *, probs: bool = False) -> None:
        """`columns` are those of `read`; `probs` writes each first tag's probability to MISC, as `Prob`."""
        self._places = _places(columns)
        self._probs = probs
        self._number = 0  # of the record
        self._new_paragraph = False

    def _render(self, sentence: Sentence, tagged: Tagged) -> str:
        self._number += 1
        rows = list(zip(*map(one_line, (tagged.tags, *tagged.more)), strict=True))  # the tags of each word
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
        """A sentence that the official validation (at level 1) and evaluation scripts take.

        They take no sentence without words, so a blank record only begins a paragraph, and no words without
        heads, so all hang on the first one.
        """
        if not sentence.words:
            self._new_paragraph = True
            return ""
        words = [_SPARE.sub("", _composed(word)) or "_" for word in one_line(sentence.words)]
        text, offsets = sentence.text, sentence.located()
        if text is None:
            text, offsets = " ".join(words), None
        tight, groups = [False] * len(words), {}  # tight: no space behind the word
        if offsets:
            tight = [*(a[1] == b[0] for a, b in pairwise(offsets)), False]
            groups = dict(contractions(text, offsets))
        (line,) = one_line([_composed(text)])
        out = ["# newpar\n"] if self._new_paragraph else []
        out += f"# sent_id = {self._number}\n", f"{_TEXT}{line.strip()}\n"
        self._new_paragraph = False
        after = 0  # the last word of a range
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
    """The cells of a new line."""
    return [number, form, *"_______", "SpaceAfter=No" if tight else "_"]


def _composed(text: str) -> str:
    """The text in NFC, as the format wants it."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)
