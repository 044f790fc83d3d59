"""Bootstrap confidence intervals of a metric, and a significance test of two models on the same records.

Knows no task and no model. Counts are (N, K), one row per record. A metric is a function of their sum, from
(..., K) to (...). Whole records are resampled and swapped, because words of one record are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.float64]
Metric = Callable[[Counts], NDArray[Any]]  # from sums of counts (..., K) to (...)

LEVEL = 0.95  # of confidence
Z = NormalDist().inv_cdf((1 + LEVEL) / 2)
RESAMPLES = 1000
ROUNDS = 10_000
SWAPS_AT_ONCE = 1 << 22  # coin flips that are in memory together
ROUNDING = 1e-12  # relative; the order of a sum changes a metric by less


def interval(
    counts: Counts, metric: Metric, rng: np.random.Generator, *, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """Return the bootstrap confidence interval of a metric by the percentile method (Efron, 1979).

    Draws as many records as there are, with replacement, `resamples` times. Needs at least one record.
    """
    n = len(counts)
    sums = np.empty((resamples, counts.shape[1]))
    for total in sums:
        frequencies = np.bincount(rng.integers(n, size=n), minlength=n)  # (N,)
        total[:] = frequencies @ counts
    with np.errstate(invalid="ignore"):  # a perplexity may be infinite
        low, high = np.quantile(metric(sums), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def wilson_interval(share: float, n: int) -> tuple[float, float]:
    """Return the confidence interval of a share of `n` records (Wilson, 1927), which is never empty."""
    scale, center = 1 + Z**2 / n, share + Z**2 / (2 * n)
    half = Z * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return max(0.0, (center - half) / scale), min(1.0, (center + half) / scale)


def difference_interval(
    counts: Counts, baseline: Counts, metric: Metric, rng: np.random.Generator, *,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """Return the bootstrap confidence interval of a model's metric minus the baseline's.

    Each resample has the same records on both sides.
    """
    k = counts.shape[1]

    def difference(sums: Counts) -> NDArray[Any]:
        return metric(sums[..., :k]) - metric(sums[..., k:])

    return interval(np.hstack([counts, baseline]), difference, rng, resamples=resamples)


def p_value(
    counts: Counts, baseline: Counts, metric: Metric, rng: np.random.Generator, *, rounds: int = ROUNDS
) -> float:
    """Return the p-value of a paired, two-sided approximate randomization test.

    If the models were equally good, swapping the results of a record would make no difference. Each round
    swaps each record with probability 1/2, and is a hit if the difference is as large as the observed one;
    p = (hits + 1) / (rounds + 1) (Noreen, 1989; Yeh, 2000).
    """
    gains = baseline - counts  # (N, K) what a swap adds to the model's sum, and takes from the baseline's
    gains = gains[gains.any(axis=1)]  # swapping equal results changes nothing
    n = len(gains)
    if not n:
        return 1.0
    model_sum, baseline_sum = counts.sum(axis=0), baseline.sum(axis=0)
    model_metric = metric(model_sum)
    observed = abs(model_metric - metric(baseline_sum)) - ROUNDING * abs(model_metric)
    hits = 0
    at_once = max(1, SWAPS_AT_ONCE // n)
    for start in range(0, rounds, at_once):
        count = min(at_once, rounds - start)
        coins = rng.integers(256, size=(count, -(-n // 8)), dtype=np.uint8)  # eight coins per byte
        swaps = np.unpackbits(coins, axis=1, count=n)  # (rounds, N)
        gain = swaps @ gains
        hits += int((abs(metric(model_sum + gain) - metric(baseline_sum - gain)) >= observed).sum())
    return (hits + 1) / (rounds + 1)
