"""How sure a figure is: bootstrap intervals, and a test of two models on the same records.

Knows counts, and no task and no model. Counts are (N, K), a row for each record; a figure is a function of
their sum, (..., K) to (...). Whole records are drawn and swapped, as the words of one depend on each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.float64]
Figure = Callable[[Counts], NDArray[Any]]

LEVEL = 0.95
RESAMPLES = 1000
ROUNDS = 10_000
SWAPS_AT_ONCE = 1 << 22  # flips of a coin that are in memory together
ROUNDING = 1e-12  # of a figure: differences this close are the same one, summed in another order


def interval(
    counts: Counts, figure: Figure, rng: np.random.Generator, *, resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> tuple[float, float]:
    """The bootstrap interval of a figure, by the percentile method (Efron, 1979); wants a record or more.

    As many records as there are are drawn with replacement, `resamples` times.
    """
    n = len(counts)
    sums = np.empty((resamples, counts.shape[1]))
    for total in sums:
        drawn = np.bincount(rng.integers(n, size=n), minlength=n)  # (N,) how often each record came
        total[:] = drawn @ counts
    low, high = np.quantile(figure(sums), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def difference_interval(
    ours: Counts, theirs: Counts, figure: Figure, rng: np.random.Generator, *, resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> tuple[float, float]:
    """The bootstrap interval of our figure less theirs; both sides have the same records drawn."""
    k = ours.shape[1]

    def difference(sums: Counts) -> NDArray[Any]:
        return figure(sums[..., :k]) - figure(sums[..., k:])

    return interval(np.hstack([ours, theirs]), difference, rng, resamples=resamples, level=level)


def p_value(
    ours: Counts, theirs: Counts, figure: Figure, rng: np.random.Generator, *, rounds: int = ROUNDS
) -> float:
    """How often chance alone makes two figures differ as much: a paired, two-sided randomisation test.

    Were the models equal, each record's rows could as well change sides. In each round a coin for each record
    says whether they do; p is (hits + 1) / (rounds + 1) (Noreen, 1989; Yeh, 2000).
    """
    change = theirs - ours  # (N, K) what our sum gains, and theirs loses, by a swap
    change = change[change.any(axis=1)]  # where both are the same a swap changes nothing
    n = len(change)
    if not n:
        return 1.0
    our_sum, their_sum = ours.sum(axis=0), theirs.sum(axis=0)
    ours_now = figure(our_sum)
    observed = abs(ours_now - figure(their_sum)) - ROUNDING * abs(ours_now)
    hits = 0
    at_once = max(1, SWAPS_AT_ONCE // n)
    for start in range(0, rounds, at_once):
        count = min(at_once, rounds - start)
        coins = rng.integers(256, size=(count, -(-n // 8)), dtype=np.uint8)  # eight of them in each
        swapped = np.unpackbits(coins, axis=1, count=n)  # (rounds, N)
        gain = swapped @ change
        hits += int((abs(figure(our_sum + gain) - figure(their_sum - gain)) >= observed).sum())
    return (hits + 1) / (rounds + 1)
