"""Pretrained word vectors: a word and its numbers on each line, as GloVe and word2vec write them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from rnntool.data.streams import chomp, open_lines
from rnntool.errors import DataError


def read_vectors(path: str, *, limit: int) -> tuple[list[str], NDArray[np.float32]]:
    """Up to `limit` words from the top of the file and their vectors (N, D). A word's first vector counts."""
    words: dict[str, None] = {}
    rows: list[NDArray[np.float32]] = []
    size = 0
    with open_lines(path) as lines:
        for line in lines:
            # some words of GloVe have a space in them, so the numbers are counted from the end
            word, *numbers = chomp(line).rstrip(" ").rsplit(" ", size or -1)
            if lines.number == 1 and len(numbers) == 1 and word.isdigit():
                continue  # word2vec's header: how many words, how many numbers
            size = size or len(numbers)
            if len(numbers) != size or not numbers or _ends_in_a_number(word):
                found = len(chomp(line).rstrip(" ").split(" ")) - 1
                raise DataError(
                    f"{lines.place()}: expected a word and {size or 'some'} numbers, found {found}; "
                    "give --vectors a GloVe or word2vec text file")
            if word in words:
                continue
            try:
                row = np.array(numbers, np.float32)
                if not np.isfinite(row).all():
                    raise ValueError
                rows.append(row)
            except ValueError:
                raise DataError(f"{lines.place()}: expected numbers behind the word, found something else; "
                                "give --vectors a GloVe or word2vec text file") from None
            words[word] = None
            if len(words) == limit:
                break
    if not words:
        raise DataError(f"{path}: expected word vectors, found an empty file; give --vectors a GloVe or "
                        "word2vec text file")
    return list(words), np.stack(rows)


def _ends_in_a_number(word: str) -> bool:
    """Whether the last of several words is one more of the numbers, not a part of what they belong to."""
    _, space, last = word.rpartition(" ")
    try:
        return bool(space) and math.isfinite(float(last))
    except ValueError:
        return False
