"""CoNLL-U: the ten columns of Universal Dependencies. Tags are read from some columns and replaced there.

CoNLL-U Plus has other columns, which a comment in the first line names.
Comments, multiword ranges, empty nodes and all other columns are written back byte for byte. A document
begins at a sentence with the comment `# newdoc` and at the beginning of a file.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
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
from rnntool.data.treebank import Row, tokens
from rnntool.errors import DataError, UsageError, setting

_COLUMNS: tuple[str, ...] = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
_HEAD, _DEPREL = _COLUMNS.index("head"), _COLUMNS.index("deprel")
_TAG_COLUMNS = ("lemma", "upos", "xpos", "feats", "head", "deprel")
_NEVER_EMPTY = {"upos", "head", "deprel"}  # "_" in them means that the file isn't annotated
_OTHER_COLUMNS = frozenset(_COLUMNS) - set(_TAG_COLUMNS)
_GLOBAL_COLUMNS = re.compile(r"#\s*global\.columns\s*=")
_NOT_A_WORD = re.compile(r"[0-9]+(?:-[0-9]+|\.[0-9]+)")  # 3-4 is a range, 3.1 an empty node
_MISC_KEY = re.compile(r"(?!-?\d+$)[^\s=|]+")
_TEXT = "# text = "
_SENT_ID = "# sent_id = "
_NEWDOC = re.compile(r"#\s*newdoc\b")
_NEWPAR = re.compile(r"#\s*newpar\b")
_SIGNATURE = re.compile(
    rf"(?:[0-9]+|{_NOT_A_WORD.pattern})(?:\t[^\t]*){{{len(_COLUMNS) - 1}}}$"
    r"|#\s*(?:sent_id\b|text = |newdoc\b|newpar\b|global\.columns\b)")
_EXCESS_SPACE = re.compile(r"\A\s+|\s+\Z|(?<=\s)\s+")  # a form has single spaces inside and none around
_Place = tuple[int, str | None]  # index of a column, and a key if the column is MISC


@dataclass(slots=True)
class _Block:
    """The lines of one sentence as they were in the file, each with its ending."""

    columns: tuple[str, ...]  # names in lower case
    lines: list[str]
    rows: list[int]  # indexes of the lines that are words
    after: str  # the blank line; "" if the file ended without one


def _holds_record(lines: Iterable[str]) -> bool:
    """Whether lines hold the blank line that ends a record."""
    return any(map(is_blank, lines))


def _recognizes(rows: Sequence[str]) -> bool:
    words = [row.split("\t") for row in rows if not row.startswith("#")]
    return bool(words) and all(len(cells) == len(_COLUMNS) and cells[0][:1].isdigit() for cells in words)


def _read_sentences(lines: Lines, options: SentenceOptions) -> Iterator[Sentence]:
    """Read words from `word_column` (FORM), and tags from "upos" (the default) or other columns.

    The other columns are "lemma", "xpos", "feats", "head", "deprel", a key of MISC, and any that
    `# global.columns` names in the first line. A word without the key has the tag "O". Each blank line beyond
    the first is a record without words. The comment `# text` gives the text. `DataError` for a line with the
    wrong number of columns, for an ID of an unknown form, and, if tags are needed, for a word without UPOS,
    HEAD or DEPREL.
    """
    read: _Reader | None = None
    block: list[str] = []
    document = object()
    for line in lines:
        read = read or _Reader(line, lines.name, options)
        if is_blank(line):
            yield from labeled(options.on_unlabeled, partial(
                read, block, line, lines.number - len(block), document))
            block = []
        else:
            block.append(line)
            if line[0] == "#" and _NEWDOC.match(line):
                document = object()
    if read and block:
        yield from labeled(options.on_unlabeled, partial(
            read, block, "", lines.number - len(block) + 1, document))


class _Reader:
    """Turns the lines of a sentence into a record."""

    def __init__(self, first_line: str, name: str, options: SentenceOptions) -> None:
        """`first_line` of the file `name` may name the columns."""
        self._name = name
        self._need_tags = options.need_tags
        self._columns = _COLUMNS
        if header := _GLOBAL_COLUMNS.match(first_line):
            self._columns = tuple(first_line[header.end() :].lower().split())
        word_column = (options.word_column or "form").lower()
        if word_column not in self._columns:
            raise DataError(place=f"{name}:1", setting="word_column", found=repr(word_column),
                            expected=f"one of the columns {', '.join(self._columns)}")
        self._word_at = self._columns.index(word_column)
        self._id_at = self._columns.index("id") if "id" in self._columns else None
        optional = options.columns == (None,) and not options.need_tags
        self._places = [] if optional and "upos" not in self._columns else _places(
            options.columns, self._columns)

    def __call__(self, lines: list[str], after: str, start: int, document: object) -> Sentence:
        """Read the sentence whose first line has the number `start`; `after` is the blank line after it."""
        words: list[str] = []
        tags: list[list[str]] = [[] for _ in self._places]
        rows: list[int] = []
        text = sent_id = None
        for i, line in enumerate(lines):
            if line[0] == "#":
                if line.startswith(_TEXT):
                    text = chomp(line)[len(_TEXT) :]
                elif line.startswith(_SENT_ID):
                    sent_id = chomp(line)[len(_SENT_ID) :]
                continue
            cells = chomp(line).split("\t")
            if len(cells) != len(self._columns):
                raise DataError(
                    place=f"{self._name}:{start + i}", found=len(cells),
                    expected=f"{len(self._columns)} columns separated by tabs",
                    advice=f"read other columns with {setting('format', 'conll')}")
            number = "1" if self._id_at is None else cells[self._id_at]
            if not (number.isascii() and number.isdigit()):
                if _NOT_A_WORD.fullmatch(number):
                    continue
                raise DataError(place=f"{self._name}:{start + i}", expected="an ID such as 3, 3-4 or 3.1",
                                found=repr(number), advice="correct it")
            words.append(cells[self._word_at])
            for (index, key), column in zip(self._places, tags, strict=True):
                tag = cells[index] if key is None else _get(cells[index], key)
                never_empty = key is None and self._columns[index] in _NEVER_EMPTY
                if self._need_tags and (is_nothing(tag) or (never_empty and tag == "_")):
                    raise UnlabeledError(
                        f"{self._name}:{start + i}", expected=f"a tag in {key or f'column {index + 1}'}",
                        found=repr(tag), advice=f"fill it, choose another column with {setting('column')}")
                column.append(tag)
            rows.append(i)
        place = f"{self._name}:{start + rows[0] if rows else start}"
        return Sentence(words, tags[0] if tags else None, text, place=place,
                        source=_Block(self._columns, lines, rows, after), more_tags=tags[1:],
                        document=document, rows=rows, sent_id=sent_id)


def is_conllu(sentence: Sentence) -> bool:
    """Return whether a sentence was read from CoNLL-U."""
    return isinstance(sentence.source, _Block)


def with_tokens(sentences: Iterable[Sentence]) -> Iterator[Sentence]:
    """Give sentences of CoNLL-U the text that their tokens make, and the offsets of the tokens.

    Tokens are forms and ranges with `SpaceAfter`. Each paragraph, which `# newpar` or `# newdoc` starts,
    becomes a document, because only the sentences of a paragraph follow each other in running text. Sentences
    without words are left out. `DataError` if IDs and ranges are out of order, or for a form without
    characters.
    """
    document = paragraph = None
    for sentence in filter(_has_words, sentences):
        block = sentence.source
        comments = (line for line in block.lines if line[0] == "#")
        if sentence.document is not document or any(map(_NEWPAR.match, comments)):
            document, paragraph = sentence.document, object()
        yield replace(_with_tokens(sentence, block), document=paragraph)


def _has_words(sentence: Sentence) -> bool:
    return bool(sentence.words)


def _with_tokens(sentence: Sentence, block: _Block) -> Sentence:
    """Return a sentence with its text and tokens; see `with_tokens`."""
    name, _, first_word = sentence.place.rpartition(":")
    columns = [block.columns.index(column) if column in block.columns else None
               for column in ("id", "form", "misc")]
    rows = []
    for number, line in enumerate(block.lines, int(first_word) - block.rows[0]):
        if line[0] != "#":
            cells = chomp(line).split("\t")
            rows.append(Row(f"{name}:{number}", ["" if i is None else cells[i] for i in columns]))
    text, space = "", False
    offsets: list[tuple[int, int]] = []  # of the tokens of words
    multiword: list[tuple[int, int]] = []
    for token in tokens(rows):
        _, form, misc = token.row.cells
        text += " " if space else ""
        if token.in_range:
            multiword.append((len(offsets), len(offsets) + len(token.words)))
        offsets += [(len(text), len(text) + len(form))] * len(token.words)
        text += form
        space = "SpaceAfter=No" not in misc.split("|")
    return replace(sentence, text=text, offsets=offsets, multiword=multiword, space_after=space)


def _places(requested: Columns, columns: tuple[str, ...]) -> list[_Place]:
    """Return where columns of tags are in a file with these columns.

    `UsageError` if two are the same, such as `upos` and `UPOS`.
    """
    places = [_place(column, columns) for column in requested]
    if len(set(places)) < len(places):
        names = ", ".join(column or "upos" for column in requested)
        raise UsageError(setting="column", expected="each column once", found=names, advice="leave one out")
    return places


def _place(column: str | None, columns: tuple[str, ...]) -> _Place:
    name = column or "upos"
    available = [name for name in columns if name not in _OTHER_COLUMNS]
    if name.lower() in available:
        return columns.index(name.lower()), None
    if name.lower() in _COLUMNS or not _MISC_KEY.fullmatch(name) or "misc" not in columns:
        expected = ", ".join(available) + (" or a key of MISC" if "misc" in columns else "")
        raise UsageError(setting="column", expected=expected, found=repr(name))
    return columns.index("misc"), name


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
        self._requested = columns
        self._places = _places(columns, _COLUMNS)
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
        places = self._places
        if block.columns != _COLUMNS:
            places = _places(self._requested, block.columns)
            probs = probs if "misc" in block.columns else None
        for i, (row, tags) in enumerate(zip(block.rows, rows, strict=True)):
            body = chomp(lines[row])
            cells = body.split("\t")
            _fill(cells, places, tags, probs[i] if probs else None, block.columns)
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
        words = list(map(_form, sentence.words))
        text, offsets = sentence.text, sentence.located()
        if text is None:
            text, offsets = " ".join(words), None
        tight, groups = [False] * len(words), {}  # tight: no space follows the word
        if offsets:
            tight = [*(a[1] == b[0] for a, b in pairwise(offsets)), not sentence.space_after]
            groups = dict(contractions(text, offsets) if sentence.multiword is None else sentence.multiword)
        line = _composed(*one_line([text])).strip()
        if sentence.multiword is not None:  # tokens have exact offsets; SpaceAfter knows only single spaces
            line = _EXCESS_SPACE.sub("", line)
        out = ["# newpar\n"] if self._new_paragraph else []
        out += f"# sent_id = {self._number}\n", f"{_TEXT}{line}\n"
        self._new_paragraph = False
        after = 0  # the index after the last word of the range
        for i, (word, tags) in enumerate(zip(words, rows, strict=True)):
            if i in groups:
                after = groups[i]
                form = "".join(words[i:after])
                if sentence.multiword is not None and offsets:
                    form = _form(text[slice(*offsets[i])])
                cells = _cells(f"{i + 1}-{after}", form, tight=tight[after - 1])
                out.append("\t".join(cells) + "\n")
            cells = _cells(str(i + 1), word, tight=tight[i] and i >= after)
            cells[_HEAD], cells[_DEPREL] = ("1", "dep") if i else ("0", "root")
            _fill(cells, self._places, tags, probs[i] if probs else None)
            if (_DEPREL, None) not in self._places:
                cells[_DEPREL] = "dep" if cells[_HEAD] != "0" else "root"
            out.append("\t".join(cells) + "\n")
        return "".join(out) + "\n"


def _fill(
    cells: list[str], places: Sequence[_Place], tags: Sequence[str], prob: float | None,
    columns: tuple[str, ...] = _COLUMNS,
) -> None:
    """Put the tags of one word into the cells of its line."""
    for (index, key), tag in zip(places, tags, strict=True):
        if key is not None:
            cells[index] = _set(cells[index], key, tag)
        elif cells[index] != tag:  # an empty cell that was read stays
            cells[index] = tag or "_"
    if prob is not None:
        misc = columns.index("misc")
        cells[misc] = _set(cells[misc], "Prob", f"{prob:.4f}")


def _form(word: str) -> str:
    """Return a word as a form: in NFC, on one line, without more than single spaces inside."""
    return _EXCESS_SPACE.sub("", _composed(*one_line([word]))) or "_"


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
    extensions=(".conllu", ".conllup"),
    recognizes=_recognizes,
    signature=_SIGNATURE,
    holds_record=_holds_record,
    read_sentences=_read_sentences,
    sentence_writer=_writer,
    examples={"sentences": "# text = It purrs.\n"
              "1\tIt\tit\tPRON\tPRP\t_\t2\tnsubj\t_\t_\n"
              "2\tpurrs\tpurr\tVERB\tVBZ\t_\t0\troot\t_\tSpaceAfter=No\n"
              "3\t.\t.\tPUNCT\t.\t_\t2\tpunct\t_\t_\n\n"},
    settings=frozenset({"word_column"}),
    has_tags=True,
    named_columns=True,
    span_column="NER",
    writes_probs=True,
)
