"""How much of a text stands word for word in another one: runs of words that both have.

Knows no model and no file. A language model that has learned its training text by heart writes runs of it;
the share of such runs is the simplest measure of that (McCoy et al., 2023).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_WORD = re.compile(r"\S+")


class Copied(NamedTuple):
    """How many of a text's runs of words were found in the source, of how many."""

    found: int
    runs: int


class Source:
    """A text that others may have copied from: all its runs of `n` words, 8 bytes each."""

    def __init__(self, lines: Iterable[str], *, n: int) -> None:
        """Runs go on over line ends, which the other text may have elsewhere."""
        self.n = n
        words = (word for line in lines for word in line.split())
        runs: NDArray[np.int64] = np.fromiter(map(hash, _runs(words, n)), np.int64)
        self._runs = np.unique(runs)

    def copied(self, prompt: str, text: str) -> Copied:
        """How many runs of `prompt` + `text` that end in `text` the source has."""
        whole = prompt + text
        words = [(match[0], match.end()) for match in _WORD.finditer(whole)]
        new = sum(end > len(prompt) for _, end in words)
        last = [word for word, _ in words][max(0, len(words) - new - self.n + 1) :]
        runs = np.fromiter(map(hash, _runs(last, self.n)), np.int64)
        # Two runs in 2 ** 64 have one hash.
        return Copied(int(np.isin(runs, self._runs).sum()), len(runs))


def _runs(words: Iterable[str], n: int) -> Iterator[tuple[str, ...]]:
    run: tuple[str, ...] = ()
    for word in words:
        run = (*run, word)[-n:]
        if len(run) == n:
            yield run
