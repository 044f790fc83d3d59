"""Inline tags: each line is a sentence of `word_TAG`, `word|TAG` or `word|POS|TAG`, separated by spaces."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from rnntool.data.formats.base import Format, SentenceOptions
from rnntool.data.formats.conll import column_index
from rnntool.data.records import Sentence, SentenceWriter, Tagged, one_line
from rnntool.data.streams import Lines, chomp
from rnntool.errors import DataError

_TAG = re.compile(r"_(?:[BIESLUMW]-\S+|[^_]+)$")  # the label of a span may have underscores
_FEWEST_WORDS = 3  # the format is recognized only with this many


def _read_sentences(lines: Lines, options: SentenceOptions) -> Iterator[Sentence]:
    """Read a sentence from each line. Columns are numbered as in CoNLL, from 1 for the word.

    Bars separate the columns if each word of the first line has a bar. Otherwise the last underscore of each
    word does.
    `DataError` for a word without its tags.
    """
    indexes = [(column, column_index(column)) for column in options.columns]
    width = bars = 0
    for line in lines:
        items = _items([line])
        if items and not width:
            bars = min(item[1:].count("|") for item in items)
            width = bars + 1 if bars else 2
        cells = [_split(item, bars) for item in items]
        for item, row in zip(items, cells, strict=True):
            if len(row) != width or not all(row):
                raise DataError(
                    place=lines.place(), found=repr(item), advice="correct it",
                    expected="word|" + "|".join(["TAG"] * bars) if bars else "word_TAG or word|TAG")
        for column, index in indexes if cells else ():
            if index is None or not -width < index < width:
                raise DataError(place=lines.place(), setting="column", found=repr(column),
                                expected=f"a number from 1 to {width}, or 'last'")
        tags = [[row[index or 0] for row in cells] for _, index in indexes]
        yield Sentence([row[0] for row in cells], tags[0], place=lines.place(), more_tags=tags[1:])


def _recognizes(rows: Sequence[str]) -> bool:
    items = _items(rows)
    bars = min((item[1:].count("|") for item in items), default=0)
    return len(items) >= _FEWEST_WORDS and all(len(_split(item, bars)) > 1 for item in items)


def _items(lines: Sequence[str]) -> list[str]:
    """Split lines at spaces and tabs."""
    return [item for line in lines for item in chomp(line).replace("\t", " ").split(" ") if item]


def _split(item: str, bars: int) -> list[str]:
    """Return a word and its tags; the word alone if it has none."""
    if bars:
        return item.rsplit("|", bars)
    tag = _TAG.search(item, 1)
    return [item[: tag.start()], item[tag.start() + 1 :]] if tag else [item]


class InlineWriter(SentenceWriter):
    """A line of `word_TAG` with single spaces between them. With several columns: `word_TAG/TAG`."""

    def __call__(self, sentence: Sentence, tagged: Tagged) -> str:
        """Return `the_DET cat_NOUN` and a line ending."""
        words, tags = one_line(sentence.words), one_line(tagged.joined())
        return " ".join([f"{word}_{tag}" for word, tag in zip(words, tags, strict=True)]) + "\n"


INLINE = Format(
    name="inline",
    recognizes=_recognizes,
    read_sentences=_read_sentences,
    sentence_writer=lambda options: InlineWriter(),
    examples={"sentences": "Anna_B-PER sings_O\n\nWe_O listen_O\n"},
    has_tags=True,
)
