"""Sentences of a document that a network reads as one: which ones, and where each has its words there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from rnntool.data.records import Sentence
from rnntool.errors import RnntoolError
from rnntool.tasks.base import Ready, always

BREAK = "\n"  # what is read between the sentences of a passage, as if it were a word


def passages(
    sentences: Iterable[Sentence], words: int, ready: Ready = always
) -> Iterator[list[Sentence]]:
    """Sentences of one document together, as many as have that many `words`; or one, which may have more.

    Those of formats that have no documents are alone, and never waited with for the next one. Before the next
    one would be waited for, as `ready` tells, an empty list is given. What came before a bad sentence is
    given before its error is raised.
    """
    passage: list[Sentence] = []
    size = 0
    source = iter(sentences)
    try:
        while True:
            if passage and not ready():
                yield []
            sentence = next(source, None)
            if sentence is None:
                break
            size += len(sentence.words)
            full = size > words or len(passage) >= words  # sentences without words count, too
            if passage and (full or sentence.document != passage[0].document):
                yield passage
                passage, size = [], len(sentence.words)
            passage.append(sentence)
            if not words or sentence.document is None:
                yield passage
                passage, size = [], 0
    except RnntoolError:
        if passage:
            yield passage
        raise
    if passage:
        yield passage


def starts(sizes: Sequence[int]) -> NDArray[np.int64]:
    """Where the sentences of a passage begin, given their sizes, and behind these where its last one ends.

    A BREAK stands between any two, but for those without words.
    """
    steps = np.array([size + 1 if size else 0 for size in sizes])
    ends = np.cumsum(steps)
    return np.append(ends - steps, max(0, ends[-1] - 1))


def where(sizes: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Where the words of all sentences of a batch are, given the sizes of those of each passage.

    Steps and rows, (2, T', N); behind the end of a sentence they are those of anything.
    """
    bounds = list(map(starts, sizes))
    rows = np.repeat(np.arange(len(sizes)), list(map(len, sizes)))  # (N,)
    longest = max(1, *map(max, sizes))
    steps = np.concatenate([each[:-1] for each in bounds]) + np.arange(longest)[:, None]  # (T', N)
    last = max(0, max(each[-1] for each in bounds) - 1)  # of the longest row
    return np.stack([steps.clip(max=last), np.broadcast_to(rows, steps.shape)])
