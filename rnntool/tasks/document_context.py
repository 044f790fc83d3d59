"""Document context: a network reads consecutive sentences as one row, with a separator between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from rnntool.data.records import Sentence
from rnntool.errors import RnntoolError
from rnntool.tasks.base import Ready, always

SEPARATOR = "\n"  # a word of its own between the sentences of a row


def document_groups(
    sentences: Iterable[Sentence], words: int, ready: Ready = always
) -> Iterator[list[Sentence]]:
    """Group consecutive sentences of one document, up to `words` words in a group; 0 means no grouping.

    A longer sentence is a group by itself. A sentence from a format without documents is also a group by
    itself, which is yielded at once. If `ready` says that the next sentence has to be waited for, an empty
    list is yielded first. If reading fails, the sentences before the error are yielded before it is raised.
    """
    group: list[Sentence] = []
    size = 0
    source = iter(sentences)
    try:
        while True:
            if group and not ready():
                yield []
            sentence = next(source, None)
            if sentence is None:
                break
            size += len(sentence.words)
            full = size > words or len(group) >= words  # the latter limits the number of empty sentences
            if group and (full or sentence.document != group[0].document):
                yield group
                group, size = [], len(sentence.words)
            group.append(sentence)
            if not words or sentence.document is None:
                yield group
                group, size = [], 0
    except RnntoolError:
        if group:
            yield group
        raise
    if group:
        yield group


def with_separators(sentences: Iterable[Sequence[str]]) -> list[str]:
    """Join the words of a group's sentences, with a separator between them; empty sentences get none."""
    words = [word for sentence in sentences if sentence for word in (SEPARATOR, *sentence)]
    return words[1:]


def sentence_starts(sizes: Sequence[int]) -> NDArray[np.int64]:
    """Return the first step of each sentence in a row, given their sizes, followed by the row's length."""
    steps = np.array([size + 1 if size else 0 for size in sizes])
    ends = np.cumsum(steps)
    return np.append(ends - steps, max(0, ends[-1] - 1))


def sentence_places(sizes: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Return the positions of the words of a batch's N sentences, given the sizes of the sentences by row.

    The result (2, T', N) holds a step and a row for each word; entries after the end of a sentence are
    arbitrary but valid.
    """
    starts = list(map(sentence_starts, sizes))
    rows = np.repeat(np.arange(len(sizes)), list(map(len, sizes)))  # (N,)
    longest = max(1, *map(max, sizes))
    steps = np.concatenate([each[:-1] for each in starts]) + np.arange(longest)[:, None]  # (T', N)
    last = max(0, max(each[-1] for each in starts) - 1)  # step of the longest row
    return np.stack([steps.clip(max=last), np.broadcast_to(rows, steps.shape)])
