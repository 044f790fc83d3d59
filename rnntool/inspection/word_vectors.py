"""Words by their vectors: neighbours, analogies, and how well likeness agrees with human judgement.

Knows no model: names, numbers, and a way to find a word's row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnntool.data.formats import Judgement
from rnntool.errors import DataError

MOST_PERMUTED = 9  # pairs whose orders are counted one by one; of more the distribution is near enough to t


class Near(NamedTuple):
    """A word near another one: its row, its name, and the cosine."""

    row: int
    name: str
    cosine: float


class Vectors:
    """Words and their vectors, scaled to length 1, so that a product is a cosine."""

    def __init__(
        self, source: str, names: Sequence[str], vectors: NDArray[np.floating[Any]],
        find: Callable[[str], int | None],
    ) -> None:
        """`vectors` (V, D) by `names`; `find` gives the row of a word, None where it has none."""
        self.source = source
        self.names = names
        self.find = find
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        self.rows = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)

    def row(self, word: str) -> int:
        """The row of a word; `DataError` names those spelled like it where it has none."""
        row = self.find(word)
        if row is None:
            near = ", ".join(map(repr, get_close_matches(word, self.names, n=3)))
            raise DataError(f"{self.source}: expected a word that it has a vector for, found {word!r}; "
                            + (f"spelled like it: {near}" if near else "try another word"))
        return row

    def nearest(
        self, vector: NDArray[np.float32], count: int, *, without: Sequence[int] = ()
    ) -> list[Near]:
        """The words of largest cosine with a vector (D,)."""
        cosines = self.rows @ (vector / max(float(np.linalg.norm(vector)), 1e-12))
        cosines[list(without)] = -np.inf
        best = np.argsort(-cosines, kind="stable")[: min(count, len(cosines) - len(set(without)))]
        return [Near(int(i), self.names[i], float(cosines[i])) for i in best]

    def neighbours(self, word: str, count: int) -> list[Near]:
        """The words nearest to a word."""
        row = self.row(word)
        return self.nearest(self.rows[row], count, without=[row])

    def analogy(self, a: str, b: str, c: str, count: int) -> list[Near]:
        """What is to `c` as `b` to `a`: nearest to b - a + c, these three left out (Mikolov et al. 2013)."""
        rows = [self.row(word) for word in (a, b, c)]
        first, second, third = self.rows[rows]
        return self.nearest(second - first + third, count, without=rows)

    def plane(self, places: Sequence[int]) -> tuple[NDArray[np.float32], float]:
        """Where rows lie in the plane in which they differ most (N, 2), and its share of their variance."""
        rows = self.rows[list(places)]
        rows = rows - rows.mean(axis=0)
        left, sizes, _ = np.linalg.svd(rows, full_matrices=False)
        points = np.zeros((len(places), 2), np.float32)
        points[:, : len(sizes[:2])] = (left * sizes)[:, :2]
        total = float(np.square(sizes).sum())
        return points.round(6), float(np.square(sizes[:2]).sum()) / total if total else 1.0


@dataclass(frozen=True)
class Agreement:
    """Spearman's correlation of cosines with judgements, and what it was taken over."""

    spearman: float
    p_value: float
    used: list[Judgement]
    cosines: list[float]
    missing: list[str]  # words without a vector; their pairs don't count


def agreement(vectors: Vectors, pairs: Sequence[Judgement]) -> Agreement:
    """How well the vectors' cosines rank pairs of words as people do.

    `DataError` where fewer than 3 pairs have vectors, or all of them are alike, to people or by cosine.
    """
    from scipy.stats import spearmanr

    missing = dict.fromkeys(word for pair in pairs for word in pair[:2] if vectors.find(word) is None)
    used = [pair for pair in pairs if not missing.keys() & set(pair[:2])]
    if len(used) < 3:
        raise DataError(f"{vectors.source}: expected 3 pairs or more of words that it has vectors for, found "
                        f"{len(used)} of {len(pairs)}; give more pairs or another model")
    scores = [pair.score for pair in used]
    cosines = [float(vectors.rows[vectors.row(a)] @ vectors.rows[vectors.row(b)]) for a, b, _ in used]
    for name, values in (("judgements", scores), ("cosines", cosines)):
        if len(set(values)) < 2:
            raise DataError(f"{vectors.source}: expected {name} that differ, found {values[0]:g} for each of the "
                            f"{len(used)} pairs; give other pairs")
    found = spearmanr(scores, cosines)
    p_value = found.pvalue if len(used) > MOST_PERMUTED else _exact_p_value(scores, cosines)
    return Agreement(float(found.statistic), float(p_value), used, cosines, list(missing))


def _exact_p_value(scores: Sequence[float], cosines: Sequence[float]) -> float:
    """How often chance would bring a rank correlation as far from 0, over all ways to pair the two up."""
    from scipy.stats import permutation_test, rankdata

    ours, theirs = (rankdata(values) - (len(values) + 1) / 2 for values in (scores, cosines))
    found = permutation_test((ours,), lambda x, axis: (x * theirs).sum(axis), permutation_type="pairings",
                             n_resamples=np.inf)
    return float(found.pvalue)
