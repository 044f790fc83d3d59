"""Signs that the labels of texts are not labels: an id, free text, or a label that nearly every text has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

_FEWEST_SINGLE = 5  # labels that occur only once; fewer are not worth a warning
_DOMINANT = 0.99  # share of the records
_SENTENCE_WORDS = 3  # mean number of words from which labels look like free text
_SHOWN = 30  # characters of a label


def odd_labels(records: Iterable[Sequence[str]]) -> str | None:
    """Say what is odd about the labels of all records, in the order of the file; None if nothing is."""
    counts: Counter[str] = Counter()
    total = 0
    for labels in records:
        counts.update(labels)
        total += 1
    single = sum(count == 1 for count in counts.values())
    if single >= _FEWEST_SINGLE and 2 * single > len(counts):
        return f"{_occurring_once(single, len(counts))}{_looks_like(list(counts), total)}"
    one_each = counts.total() <= total  # beside a label that all texts have, others can be learned
    if len(counts) > 1 and one_each and (most := counts.most_common(1)[0])[1] >= _DOMINANT * total:
        label = most[0] if len(most[0]) <= _SHOWN else most[0][: _SHOWN - 1] + "…"
        return f"{most[1]:,} of {total:,} records have the label {label!r}, so there is little to learn"
    return None


def _occurring_once(single: int, labels: int) -> str:
    which = f"all {labels:,}" if single == labels else f"{single:,} of {labels:,}"
    return f"{which} labels occur only once"


def _looks_like(labels: Sequence[str], total: int) -> str:
    """Say what the different labels, by first occurrence, of `total` records look like; "" if like labels."""
    if len(labels) < 0.9 * total:
        return ""
    if all(label.isascii() and label.isdigit() and len(label) < 20 for label in labels) and all(
            first < second for first, second in pairwise(map(int, labels))):
        return ", and they are numbers that count up, as in a column of ids"
    if sum(len(label.split()) for label in labels) >= _SENTENCE_WORDS * len(labels):
        return ", and they look like free text"
    return ", as in a column of ids" if len(labels) == total else ""
