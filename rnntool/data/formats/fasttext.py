"""fastText lines: words that begin with `__label__` are the labels of the line."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rnntool.data.formats.base import Format, TextOptions, UnlabeledError, is_nothing
from rnntool.data.records import Text
from rnntool.data.streams import Lines, chomp

_PREFIX = "__label__"
_LABEL = re.compile(rf"(?:(?<=[ \t])|^){_PREFIX}([^ \t]+)[ \t]*")


def _read_texts(lines: Lines, options: TextOptions) -> Iterator[Text]:
    """Read a record from each line. Labels may stand anywhere in it."""
    for line in lines:
        text = chomp(line)
        labels: list[str] = []
        if _PREFIX in text:
            labels = [label for label in _LABEL.findall(text) if not is_nothing(label)]
            text = _LABEL.sub("", text).strip(" \t") if labels else text
        if labels or not options.need_labels:
            yield Text(text, tuple(labels), place=lines.place())
        else:
            options.on_unlabeled(UnlabeledError(lines.place(), found="none",
                                                advice=f"write the label as {_PREFIX}NAME"))


FASTTEXT = Format(
    name="fasttext",
    extensions=(".ft", ".fasttext"),
    signature=re.compile(_PREFIX),
    read_texts=_read_texts,
    examples={"texts": "__label__pets The cat sleeps.\n__label__food __label__rice We cook.\n"},
    has_labels=True,
)
