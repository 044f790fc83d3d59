"""Probabilities that mean what they say: one temperature for all scores, fitted on held-out records.

Knows scores and which of them were right, and no task and no network.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LOWEST, HIGHEST = 0.01, 100.0
ACCURACY = 1e-3  # of the temperature's logarithm
IMPOSSIBLE = math.exp(-50)  # what a scheme forbids must not decide alone
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Calibration:
    """What the scores of each set of labels are to be divided by, and the first set's error before."""

    temperatures: tuple[float, ...]
    error_before: float | None

    def report(self) -> dict[str, Any]:
        """As a report has it."""
        return {"temperature": self.temperatures[0], "ece_uncalibrated": self.error_before}


def fit_temperature(logits: NDArray[Any], targets: NDArray[Any]) -> float:
    """The T that makes the softmax of `logits / T` (N, L) likeliest for `targets` (N,) (Guo et al. 2017).

    Targets are smoothed as by two records more (Platt 1999): where all are right, T stays above zero.
    """
    if not len(targets):
        return 1.0
    logits = logits.astype(np.float64)
    smoothing = 1 / (len(targets) + 2)
    wanted = (1 - smoothing) * logits[np.arange(len(targets)), targets] + smoothing * logits.mean(axis=1)

    def nll(log_temperature: float) -> float:
        """Convex in 1 / T, so it has one valley."""
        scale = math.exp(-log_temperature)
        return float((np.logaddexp.reduce(logits * scale, axis=1) - wanted * scale).mean())

    return _best_temperature(nll)


def fit_chain_temperature(probs: Callable[[float], NDArray[Any]], targets: NDArray[Any]) -> float:
    """As `fit_temperature` where the probabilities of a word's labels depend on the whole sentence.

    `probs` gives them, (N, L), for a temperature.
    """
    if not len(targets):
        return 1.0
    smoothing = 1 / (len(targets) + 2)

    def nll(log_temperature: float) -> float:
        found = np.log(probs(math.exp(log_temperature)).clip(min=IMPOSSIBLE))
        right = found[np.arange(len(targets)), targets]
        return float(-((1 - smoothing) * right + smoothing * found.mean(axis=1)).mean())

    return _best_temperature(nll)


def _best_temperature(function: Callable[[float], float]) -> float:
    """Where a function of a temperature's logarithm, of one valley, is lowest, by golden-section search.

    Kiefer (1953).
    """
    low, high = math.log(LOWEST), math.log(HIGHEST)
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = function(left), function(right)
    while high - low > ACCURACY:
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = function(right)
    return math.exp((low + high) / 2)
