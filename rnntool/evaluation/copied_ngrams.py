"""How much of a generated text is copied: the share of its word n-grams that occur in a source text.

A language model that has memorized its training text copies long n-grams from it (McCoy et al., 2023). Knows
no model and no file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_WORD = re.compile(r"\S+")


class CopiedNgrams(NamedTuple):
    """The number of a text's n-grams that occur in the source, and of all its n-grams."""

    copied: int
    total: int


class SourceText:
    """The n-grams of a source text, as hashes of 8 bytes each."""

    def __init__(self, lines: Iterable[str], *, n: int) -> None:
        """Read the source. N-grams extend over line ends, because another text may break lines elsewhere."""
        self.n = n
        words = (word for line in lines for word in line.split())
        self._hashes = np.unique(_ngram_hashes(words, n))

    def copied_ngrams(self, prompt: str, text: str) -> CopiedNgrams:
        """Count the n-grams of prompt + text that end in `text`."""
        words = [(match[0], match.end()) for match in _WORD.finditer(prompt + text)]
        generated = sum(end > len(prompt) for _, end in words)
        context = [word for word, _ in words][max(0, len(words) - generated - self.n + 1) :]
        hashes = _ngram_hashes(context, self.n)
        return CopiedNgrams(int(np.isin(hashes, self._hashes).sum()), len(hashes))


def _ngram_hashes(words: Iterable[str], n: int) -> NDArray[np.int64]:
    """Return a hash of each n-gram. Two different n-grams share a hash with a probability of 2 ** -64."""
    return np.fromiter(map(hash, _ngrams(words, n)), np.int64)


def _ngrams(words: Iterable[str], n: int) -> Iterator[tuple[str, ...]]:
    ngram: tuple[str, ...] = ()
    for word in words:
        ngram = (*ngram, word)[-n:]
        if len(ngram) == n:
            yield ngram
