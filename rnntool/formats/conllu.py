"""CoNLL-U: the ten columns of Universal Dependencies; one column is read as tags and replaced on the way out.

Comments, multiword ranges, empty nodes and all other columns are written back byte for byte.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass

from rnntool.errors import DataError, UsageError
from rnntool.formats.conll import BlockWriter, is_blank
from rnntool.formats.records import Sentence, Tagged, one_line
from rnntool.streams import Lines, chomp

_WIDTH = 10
_MISC = 9
_COLUMNS = {"upos": 3, "xpos": 4, "feats": 5, "deprel": 7}
_NEVER_EMPTY = {3, 7}  # "_" there means that nobody has tagged the file
_OTHERS = {"id", "form", "lemma", "head", "deps", "misc"}
_NO_WORD = re.compile(r"[0-9]+(?:-[0-9]+|\.[0-9]+)")  # 3-4 is a range, 3.1 an empty node
_TEXT = "# text = "


@dataclass(slots=True)
class _Block:
    """The lines of one sentence as they were in the file, each with its ending."""

    lines: list[str]
    rows: list[int]  # which of the lines are words
    after: str  # the blank line; "" where the file ended without one


def read(lines: Lines, column: str | None, *, need_tags: bool = False) -> Iterator[Sentence]:
    """Words from FORM, tags from `column`: "upos" (the default), "xpos", "feats", "deprel" or a key of MISC.

    A word without that key has the tag "O". Each blank line more than needed is a record without words.
    `text` is that of the `# text` comment. Lines of other than ten columns and IDs of no known kind raise
    DataError, as does a word without UPOS or DEPREL where `need_tags` asks for it.
    """
    index, key = _column(column)
    block: list[str] = []
    for line in lines:
        if is_blank(line):
            yield _sentence(block, line, lines.name, lines.number - len(block), index, key, need_tags)
            block = []
        else:
            block.append(line)
    if block:
        yield _sentence(block, "", lines.name, lines.number - len(block) + 1, index, key, need_tags)


def _sentence(
    lines: list[str], after: str, name: str, start: int, index: int, key: str | None, need_tags: bool
) -> Sentence:
    words: list[str] = []
    tags: list[str] = []
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
                f"{name}:{start + i}: want {_WIDTH} columns separated by tabs, found {len(cells)}; "
                "is this CoNLL-U? see --from conll"
            )
        number = cells[0]
        if not (number.isascii() and number.isdigit()):
            if _NO_WORD.fullmatch(number):
                continue
            raise DataError(
                f"{name}:{start + i}: want an ID such as 3, 3-4 or 3.1, found {number!r}; correct it"
            )
        if need_tags and index in _NEVER_EMPTY and cells[index] == "_":
            raise DataError(f"{name}:{start + i}: want a tag in column {index + 1}, found '_'; see --column")
        words.append(cells[1])
        tags.append(cells[index] if key is None else _get(chomp(cells[_MISC]), key))
        rows.append(i)
    place = f"{name}:{start + rows[0] if rows else start}"
    return Sentence(words, tags, text, source=_Block(lines, rows, after), place=place)


def _column(column: str | None) -> tuple[int, str | None]:
    """Index of the column, and the key where it is a key of MISC."""
    name = column or "upos"
    if name.lower() in _COLUMNS:
        return _COLUMNS[name.lower()], None
    if name.lower() in _OTHERS or not re.fullmatch(r"[^\s=|]+", name):
        raise UsageError(f"--column: want {', '.join(_COLUMNS)} or a key of MISC, found {name!r}")
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
    """Replaces one column in the lines that were read, or makes CoNLL-U of a sentence from elsewhere."""

    def __init__(self, *, column: str | None = None, probs: bool = False) -> None:
        """`column` is that of `read`; `probs` writes the probability of each tag to MISC, as `Prob`."""
        self._index, self._key = _column(column)
        self._probs = probs

    def _render(self, sentence: Sentence, tagged: Tagged) -> str:
        tags = one_line(tagged.tags)
        probs = tagged.probs if self._probs else None
        block = sentence.source
        if not isinstance(block, _Block):
            return self._new(sentence, tags, probs)
        lines = block.lines.copy()
        for i, (row, tag) in enumerate(zip(block.rows, tags, strict=True)):
            if self._key is None:
                cells = lines[row].split("\t", self._index + 1)
                if cells[self._index] != tag:
                    cells[self._index] = tag or "_"
                    lines[row] = "\t".join(cells)
            if self._key is not None or probs is not None:
                front, _, last = lines[row].rpartition("\t")
                old = new = chomp(last)
                if self._key is not None:
                    new = _set(new, self._key, tag)
                if probs is not None:
                    new = _set(new, "Prob", f"{probs[i]:.4f}")
                if new != old:
                    lines[row] = f"{front}\t{new}{last[len(old) :]}"
        text = "".join(lines) + block.after
        if not block.after:
            self._note_cut(text, bool(block.lines))
        return text

    def _new(self, sentence: Sentence, tags: list[str], probs: list[float] | None) -> str:
        if not sentence.words:
            return "\n"
        words = one_line(sentence.words)
        (text,) = one_line([" ".join(words) if sentence.text is None else sentence.text])
        out = [f"{_TEXT}{text}\n"]
        offsets = sentence.offsets or []
        for i, (word, tag) in enumerate(zip(words, tags, strict=True)):
            cells = ["_"] * _WIDTH
            cells[0], cells[1] = str(i + 1), word or "_"
            if self._key is None:
                cells[self._index] = tag or "_"
            else:
                cells[_MISC] = _set(cells[_MISC], self._key, tag)
            if probs is not None:
                cells[_MISC] = _set(cells[_MISC], "Prob", f"{probs[i]:.4f}")
            if i + 1 < len(offsets) and offsets[i][1] == offsets[i + 1][0]:
                cells[_MISC] = _set(cells[_MISC], "SpaceAfter", "No")
            out.append("\t".join(cells) + "\n")
        return "".join(out) + "\n"
