"""Labeled spans of characters, as annotation tools write them in JSON, and their conversion to word tags.

Reads what doccano, Prodigy, Label Studio and spaCy write, and the entities of `rnntool tag`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from rnntool.data.formats.base import Offsets, UnlabeledError
from rnntool.data.json_text import to_json
from rnntool.errors import DataError

SPAN_KEYS = ("entities", "spans", "label", "labels", "annotations")  # the first that holds spans is read
_START_KEYS, _END_KEYS = ("start", "start_offset"), ("end", "end_offset")  # the latter in doccano
_TOKEN_KEYS = ("start_token", "end_token")  # in `rnntool tag`, if the text is unknown


class CharacterSpan(NamedTuple):
    """A label of the characters from `start` to `end`, where `end` is one past the last."""

    start: int
    end: int
    label: str

    def __str__(self) -> str:
        return f"{self.start}-{self.end} {self.label!r}"


def span_items(value: Any) -> list[Any] | None:
    """Return the items of a list if each of them looks like a span, or None.

    Label Studio writes a list of annotations, each with a list of results. The results of the first
    annotation that was not canceled are used.
    """
    if not isinstance(value, list):
        return None
    results = [item["result"] for item in value
               if isinstance(item, dict) and "result" in item and not item.get("was_cancelled")]
    if results:
        regions = [result.get("value") for result in results[0] if isinstance(result, dict)]
        return [region for region in regions if isinstance(region, dict) and "start" in region]
    looks_right = all(
        (isinstance(item, list) and len(item) == 3)
        or (isinstance(item, dict) and not item.keys().isdisjoint((*_START_KEYS, _TOKEN_KEYS[0])))
        for item in value)
    return value if looks_right else None


def read_spans(items: Sequence[Any], text: str, offsets: Offsets, place: str) -> list[CharacterSpan]:
    """Return spans in the order of the text; `DataError` if one is invalid or two overlap.

    An item is a list of start, end and label, or an object with keys of these names. `offsets` of
    the words are needed for spans that are given by word numbers.
    """
    spans = sorted({span for item in items for span in _parsed(item, offsets, place)})
    for span in spans:
        if not 0 <= span.start < span.end <= len(text):
            raise DataError(
                place=place, expected=f"spans within the {len(text)} characters of the text",
                found=str(span), advice="count from 0 and in characters, not in bytes or UTF-16 units")
    for before, span in pairwise(spans):
        if span.start < before.end:
            raise DataError(place=place, expected="spans that do not overlap", found=f"{before} and {span}",
                            advice="keep one of them, because each word has one tag")
    return spans


def split_at_spans(offsets: Offsets, spans: Iterable[CharacterSpan]) -> tuple[Offsets, list[CharacterSpan]]:
    """Split each word in which a span begins or ends; also return the spans that split a word, in order."""
    borders = sorted((border, span) for span in spans for border in (span.start, span.end))
    split: Offsets = []
    cutting: dict[CharacterSpan, None] = {}
    i = 0
    for start, end in offsets:
        while i < len(borders) and borders[i][0] < end:
            border, span = borders[i]
            if border > start:
                split.append((start, border))
                start = border
                cutting[span] = None
            i += 1
        split.append((start, end))
    return split, list(cutting)


def tags_of_words(offsets: Offsets, spans: Sequence[CharacterSpan], place: str) -> list[str]:
    """Return the IOB2 tags of words. No span may end inside a word; `DataError` for a span without words."""
    tags: list[str] = []
    remaining = iter(offsets)
    word = next(remaining, None)
    for span in spans:
        begun = False
        while word is not None and word[0] < span.end:
            inside = word[0] >= span.start
            tags.append(f"{'I' if begun else 'B'}-{span.label}" if inside else "O")
            begun = begun or inside
            word = next(remaining, None)
        if not begun:
            raise DataError(place=place, expected="spans that contain words",
                            found=f"only white space in {span}", advice="correct the record")
    return tags + ["O"] * (len(offsets) - len(tags))


def _parsed(item: Any, offsets: Offsets, place: str) -> list[CharacterSpan]:
    """Return one span for each label of an item."""
    start: Any
    end: Any
    if isinstance(item, dict):
        start, end = (next((item[key] for key in keys if key in item), None)
                      for keys in (_START_KEYS, _END_KEYS))
        labels = item.get("label", item.get("labels"))
        if start is None and all(_is_index(item.get(key), len(offsets)) for key in _TOKEN_KEYS):
            first, after = (item[key] for key in _TOKEN_KEYS)
            start, end = (offsets[first][0], offsets[after - 1][1]) if first < after else (0, 0)
    else:
        start, end, labels = item
    labels = labels if isinstance(labels, list) else [labels]
    numbers = type(start) is type(end) is int
    if numbers and any(label is None or label != label or not str(label).strip() for label in labels):
        raise UnlabeledError(place, expected="a label in each span", found=to_json(item)[:80],
                             advice="correct the record")
    if not numbers or not labels or not all(isinstance(label, str) and label.strip() for label in labels):
        raise DataError(place=place, expected="spans with a start, an end and a label", found=repr(item)[:80],
                        advice="correct the record")
    return [CharacterSpan(start, end, label) for label in labels]


def _is_index(value: Any, count: int) -> bool:
    return type(value) is int and 0 <= value <= count
