"""Treebanks: the tokens, words and trees of CoNLL-U files. Knows no task.

`rnntool.data.formats.conllu` reads the same files for taggers, which need the words and some columns.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

from rnntool.data.streams import Lines, chomp, is_blank
from rnntool.errors import DataError

_COLUMNS = 10
_HEAD = 6
_DIGITS = 10  # of a number that is too large for a head
_RANGE = re.compile(r"([1-9][0-9]*)-([1-9][0-9]*)")
_EMPTY_NODE = re.compile(r"[0-9]+\.[0-9]+")


class Span(NamedTuple):
    """Characters of a treebank's text, from `start` up to but not including `end`."""

    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """A syntactic word.

    `head` is the index of its head among all words of the treebank, None for a root. A word of a multiword
    token, such as "don't", is `in_range` and has no span of its own.
    """

    form: str
    lemma: str
    upos: str
    xpos: str
    feats: str
    head: int | None
    deprel: str
    token: Span
    in_range: bool


@dataclass(slots=True)
class Treebank:
    """Sentences one after the other; `text` joins the characters of all tokens, without spaces.

    `places` are the `file:line` of the tokens. Without `has_heads`, HEAD is "_" in all words.
    """

    text: str = ""
    tokens: list[Span] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)
    sentences: list[Span] = field(default_factory=list)
    has_heads: bool = True


class Row(NamedTuple):
    """A line of a file: its `file:line`, and its columns, the first of which are the ID and the form."""

    place: str
    cells: Sequence[str]


@dataclass(slots=True)
class Token:
    """A token's line and those of its words, which are several if the line is a range of IDs."""

    row: Row
    words: list[Row] = field(default_factory=list)
    in_range: bool = False


def read_treebank(files: Iterable[Lines]) -> Treebank:
    """Read CoNLL-U files; empty nodes are left out.

    `DataError` for a wrong number of columns, an ID out of order, a form without characters, and for heads
    that are not a tree with one root.
    """
    treebank = Treebank()
    forms: list[str] = []
    start = 0
    for rows in chain.from_iterable(map(_sentences, files)):
        sentence = list(tokens(rows))
        words = [word for token in sentence for word in token.words]
        if not words:  # only empty nodes
            continue
        if not treebank.words:
            treebank.has_heads = words[0].cells[_HEAD] != "_"
        first_word, sentence_start = len(treebank.words), start
        heads = iter(_heads(words, first_word, has_heads=treebank.has_heads))
        for token in sentence:
            forms.append("".join(c for c in token.row.cells[1] if unicodedata.category(c) != "Zs"))
            span = Span(start, start + len(forms[-1]))
            start = span.end
            treebank.tokens.append(span)
            treebank.places.append(token.row.place)
            for _, cells in token.words:
                _, form, lemma, upos, xpos, feats, _, deprel, _, _ = cells
                treebank.words.append(Word(
                    form=form, lemma=lemma, upos=upos, xpos=xpos, feats=feats, head=next(heads),
                    deprel=deprel, token=span, in_range=token.in_range))
        treebank.sentences.append(Span(sentence_start, start))
    treebank.text = "".join(forms)
    return treebank


def _sentences(lines: Lines) -> Iterator[list[Row]]:
    """Yield the lines of each sentence, without comments."""
    rows: list[Row] = []
    for line in chain(lines, ["\n"]):
        if is_blank(line):
            if rows:
                yield rows
            rows = []
        elif not line.startswith("#"):
            rows.append(Row(lines.place(), chomp(line).split("\t")))
            if len(rows[-1].cells) != _COLUMNS:
                raise DataError(place=rows[-1].place, expected=f"{_COLUMNS} columns separated by tabs",
                                found=len(rows[-1].cells), advice="give a file of CoNLL-U")


def tokens(rows: Sequence[Row]) -> Iterator[Token]:
    """Group the lines of a sentence into tokens, without empty nodes.

    `DataError` if IDs are out of order, or for a form without characters.
    """
    last = 0  # ID of the last word
    token: Token | None = None
    end = 0  # ID of the last word of the multiword token
    for row in rows:
        number, form, *_ = row.cells
        if _EMPTY_NODE.fullmatch(number):
            continue
        if not form.strip():
            raise DataError(place=row.place, expected="a form", found=repr(form), advice="correct it")
        match = _RANGE.fullmatch(number)
        if match and last >= end and int(match[1]) == last + 1 <= int(match[2]):
            token = Token(row, in_range=True)
            end = int(match[2])
            continue
        if number != str(last + 1):
            raise DataError(place=row.place, expected=f"the ID {last + 1}", found=repr(number),
                            advice="correct it")
        last += 1
        if last > end:
            token = Token(row)
        assert token
        token.words.append(row)
        if last >= end:
            yield token
    if last < end:
        raise DataError(place=rows[-1].place, expected=f"words up to the ID {end}",
                        found=f"{last} as the last ID", advice="correct the range")


def _heads(words: Sequence[Row], first: int, *, has_heads: bool) -> list[int | None]:
    """Return the heads of a sentence's words as indices from `first` on; `DataError` if they form no tree."""
    if has_heads:
        numbers = tree_heads([cells[_HEAD] for _, cells in words], lambda word: words[word].place,
                             one_root=True)
        return [first + number - 1 if number else None for number in numbers]
    for place, cells in words:
        if cells[_HEAD] != "_":
            raise DataError(
                place=place, expected="the head _ as in all words before", found=repr(cells[_HEAD]),
                advice="give heads to all words or to none")
    return [None] * len(words)


def tree_heads(cells: Sequence[str], place_of: Callable[[int], str], *, one_root: bool) -> list[int]:
    """Return the heads of a sentence's words as numbers, given the cells of HEAD.

    `DataError` if they form no tree; without `one_root`, several trees are allowed. `place_of` returns the
    `file:line` of a word, counted from 0.
    """
    size = len(cells)
    for word, cell in enumerate(cells):
        if not (cell.isascii() and cell.isdecimal() and len(cell) < _DIGITS and int(cell) <= size):
            raise DataError(place=place_of(word), expected=f"a head from 0 to {size}", found=repr(cell),
                            advice="correct it")
    heads = list(map(int, cells))
    if one_root and (roots := heads.count(0)) != 1:
        raise DataError(place=place_of(0), expected="a sentence with one root", found=roots,
                        advice="give the head 0 to one word alone")
    if cycle := cyclic_word(heads):
        raise DataError(place=place_of(cycle - 1), expected="a tree",
                        found=f"a cycle through word {cycle}", advice="correct its head")
    return heads


def cyclic_word(heads: Sequence[int]) -> int | None:
    """Return a word that is its own head directly or through others, if there is one. Words count from 1."""
    visited_from = {0: 0}  # word: the word from which it was visited first
    for start in range(1, len(heads) + 1):
        word = start
        while word not in visited_from:
            visited_from[word] = start
            word = heads[word - 1]
        if visited_from[word] == start:
            return word
    return None
