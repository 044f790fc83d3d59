"""Word vectors: nearest neighbors, analogies, and agreement with human judgments of similarity.

Knows no model, only names, numbers and a function that finds the row of a word.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnntool.data.records import Judgment
from rnntool.errors import DataError

NORMALIZED_AT_ONCE = 1 << 14  # vectors
MAX_PERMUTED = 9  # pairs; more have too many permutations, and the t distribution is close enough


class Neighbor(NamedTuple):
    """A word near another word or a point: its row, its name, and the cosine."""

    row: int
    name: str
    cosine: float


class Vectors:
    """Words and their vectors, scaled to length 1, so that a dot product is a cosine."""

    def __init__(
        self, source: str, names: Sequence[str], vectors: NDArray[np.floating[Any]],
        find: Callable[[str], int | None],
    ) -> None:
        """Take `vectors` (V, D) and their `names`; `find` returns the row of a word, or None."""
        self.source = source
        self.names = names
        self.find = find
        self.rows = np.empty(vectors.shape, np.float32)
        for start in range(0, len(vectors), NORMALIZED_AT_ONCE):  # a file may have millions of vectors
            block = vectors[start : start + NORMALIZED_AT_ONCE]
            lengths = np.linalg.norm(block, axis=1, keepdims=True)
            self.rows[start : start + len(block)] = block / np.maximum(lengths, 1e-12)

    def row(self, word: str) -> int:
        """Return the row of a word; `DataError` if it has none."""
        row = self.find(word)
        if row is None:
            similar = ", ".join(map(repr, get_close_matches(word, self.names, n=3)))
            raise DataError(place=self.source, expected="a word that has a vector", found=repr(word),
                            advice=f"similar words: {similar}" if similar else "try another word")
        return row

    def nearest(
        self, vector: NDArray[np.float32], count: int, *, excluded: Sequence[int] = ()
    ) -> list[Neighbor]:
        """Return the words whose cosines with a vector (D,) are largest, in descending order."""
        cosines = self.rows @ (vector / max(float(np.linalg.norm(vector)), 1e-12))
        cosines[list(excluded)] = -np.inf
        best = np.argsort(-cosines, kind="stable")[: min(count, len(cosines) - len(set(excluded)))]
        return [Neighbor(int(i), self.names[i], float(cosines[i])) for i in best]

    def neighbors(self, word: str, count: int) -> list[Neighbor]:
        """Return the words nearest to a word."""
        row = self.row(word)
        return self.nearest(self.rows[row], count, excluded=[row])

    def analogy(self, a: str, b: str, c: str, count: int) -> list[Neighbor]:
        """Return the words nearest to b - a + c: what is to `c` as `b` is to `a` (Mikolov et al. 2013)?

        The three words themselves are excluded.
        """
        rows = [self.row(word) for word in (a, b, c)]
        first, second, third = self.rows[rows]
        return self.nearest(second - first + third, count, excluded=rows)

    def principal_plane(self, indices: Sequence[int]) -> tuple[NDArray[np.float32], float]:
        """Project N rows onto their first two principal components.

        Returns the points (N, 2) and the share of the variance that the plane shows.
        """
        rows = self.rows[list(indices)]
        rows = rows - rows.mean(axis=0)
        left, sizes, _ = np.linalg.svd(rows, full_matrices=False)
        points = np.zeros((len(rows), 2), np.float32)
        points[:, : len(sizes[:2])] = (left * sizes)[:, :2]
        total = float(np.square(sizes).sum())
        return points.round(6), float(np.square(sizes[:2]).sum()) / total if total else 1.0


@dataclass(frozen=True)
class Agreement:
    """Spearman's rank correlation of cosines with judgments, and the pairs that it is computed from."""

    spearman: float
    p_value: float
    used: list[Judgment]
    cosines: list[float]
    missing: list[str]  # words without a vector, whose pairs are left out


def agreement(vectors: Vectors, pairs: Sequence[Judgment]) -> Agreement:
    """Measure how well the vectors' cosines rank pairs of words as people do.

    `DataError` if fewer than 3 pairs have vectors, or if all their judgments or all their cosines are equal.
    """
    from scipy.stats import spearmanr

    missing = dict.fromkeys(word for pair in pairs for word in pair[:2] if vectors.find(word) is None)
    used = [pair for pair in pairs if not missing.keys() & set(pair[:2])]
    if len(used) < 3:
        raise DataError(place=vectors.source, expected="at least 3 pairs of words that have vectors",
                        found=f"{len(used)} of {len(pairs)}", advice="give more pairs or another model")
    scores = [pair.score for pair in used]
    cosines = [float(vectors.rows[vectors.row(a)] @ vectors.rows[vectors.row(b)]) for a, b, _ in used]
    for name, values in (("judgments", scores), ("cosines", cosines)):
        if len(set(values)) < 2:
            raise DataError(place=vectors.source, expected=f"{name} that differ",
                            found=f"{values[0]:g} for each of the {len(used)} pairs",
                            advice="give other pairs")
    result = spearmanr(scores, cosines)
    p_value = result.pvalue if len(used) > MAX_PERMUTED else _exact_p_value(scores, cosines)
    return Agreement(float(result.statistic), float(p_value), used, cosines, list(missing))


def _exact_p_value(scores: Sequence[float], cosines: Sequence[float]) -> float:
    """Return the two-sided p-value of a rank correlation, by counting over all permutations."""
    from scipy.stats import permutation_test, rankdata

    x, y = (rankdata(values) - (len(values) + 1) / 2 for values in (scores, cosines))
    result = permutation_test((x,), lambda ranks, axis: (ranks * y).sum(axis), permutation_type="pairings",
                              n_resamples=np.inf)
    return float(result.pvalue)
