"""Pretrained word vectors in text files: a word and its numbers on each line, as in GloVe and word2vec."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from rnntool.data.streams import chomp, open_lines
from rnntool.errors import DataError, setting

_ADVICE = f"set {setting('vectors')} to a GloVe or word2vec text file"


def read_vectors(path: str, *, limit: int) -> tuple[list[str], NDArray[np.float32]]:
    """Read up to `limit` words from the top of a file and their vectors (N, D).

    If a word occurs several times, its first vector counts.
    """
    words: dict[str, None] = {}
    rows: list[NDArray[np.float32]] = []
    size = 0
    with open_lines(path) as lines:
        for line in lines:
            # some words of GloVe contain a space, so the numbers are counted from the end
            word, *numbers = chomp(line).rstrip(" ").rsplit(" ", size or -1)
            if lines.number == 1 and len(numbers) == 1 and word.isdigit():
                continue  # the header of word2vec: the number of words and of dimensions
            size = size or len(numbers)
            if len(numbers) != size or not numbers or _ends_in_a_number(word):
                raise DataError(place=lines.place(), expected=f"a word and {size or 'some'} numbers",
                                found=len(chomp(line).rstrip(" ").split(" ")) - 1, advice=_ADVICE)
            if word in words:
                continue
            try:
                row = np.array(numbers, np.float32)
                if not np.isfinite(row).all():
                    raise ValueError
                rows.append(row)
            except ValueError:
                raise DataError(place=lines.place(), expected="numbers after the word",
                                found="something else", advice=_ADVICE) from None
            words[word] = None
            if len(words) == limit:
                break
    if not words:
        raise DataError(place=path, expected="word vectors", found="an empty file", advice=_ADVICE)
    return list(words), np.stack(rows)


def _ends_in_a_number(word: str) -> bool:
    """Whether a word with spaces ends in a number, so that the line has more numbers than the others."""
    _, space, last = word.rpartition(" ")
    try:
        return bool(space) and math.isfinite(float(last))
    except ValueError:
        return False
