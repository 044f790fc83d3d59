"""Temperature scaling: divide all scores by one number, so that mean probability and accuracy agree.

Knows scores and the correct labels, but no task and no network.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnntool.data.arrays import log_softmax

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 100.0
WEIGHT_DEVIATION = 0.5  # of the logarithm of the weight, before any target is seen
TOLERANCE = 1e-3  # of the logarithm of the temperature
MIN_PROBABILITY = math.exp(-50)  # limits the loss of a gold tag that the scheme forbids


@dataclass(frozen=True)
class Calibration:
    """The temperature of each set of labels, and the calibration error of the first set before scaling."""

    temperatures: tuple[float, ...]
    error_before: float | None

    def report(self) -> dict[str, Any]:
        """Return the entries of a training report."""
        return {"temperature": self.temperatures[0], "ece_uncalibrated": self.error_before}


def fit_temperature(logits: NDArray[Any], targets: NDArray[Any]) -> float:
    """Return the T that maximizes the likelihood of `targets` (N,) under softmax(logits / T), logits (N, L).

    From Guo et al. (2017). Without targets, T is 1.
    """
    scores = logits.astype(np.float64)
    return _fit(lambda temperature: log_softmax(scores / temperature), targets)


def fit_chain_temperature(probs: Callable[[float], NDArray[Any]], targets: NDArray[Any]) -> float:
    """Like `fit_temperature`, for a CRF, where a token's label probabilities depend on the whole sentence.

    `probs` takes a temperature and returns them, (N, L).
    """
    return _fit(lambda temperature: np.log(probs(temperature).clip(min=MIN_PROBABILITY)), targets)


def fit_weight(
    logits: NDArray[Any], others: NDArray[Any], targets: NDArray[Any], *, expected: float
) -> float:
    """Return the weight w of `others` that maximizes the likelihood of softmax((logits + w * others) / T).

    Scores are (N, L), and `targets` (N,). Few targets say little about w: its prior is log-normal around
    `expected`, with a standard deviation of `WEIGHT_DEVIATION`.
    """
    from scipy.optimize import minimize

    if not len(targets):
        return expected
    smoothing = 1 / (len(targets) + 2)

    def objective(logarithms: NDArray[np.float64]) -> float:
        weight, temperature = np.exp(logarithms)
        values = log_softmax((logits + expected * weight * others) / temperature)
        correct = values[np.arange(len(targets)), targets]
        nll = -((1 - smoothing) * correct + smoothing * values.mean(axis=1)).sum()
        return float(nll + (logarithms[0] / WEIGHT_DEVIATION) ** 2 / 2)

    start = np.array([0.0, math.log(fit_temperature(logits + expected * others, targets))])
    result = minimize(
        objective, start, method="Nelder-Mead", options={"xatol": TOLERANCE, "fatol": TOLERANCE})
    return expected * math.exp(float(result.x[0]))


def equal_weight(logits: NDArray[Any], others: NDArray[Any]) -> float:
    """Return the factor by which scores `others` (N, L) spread as far as `logits` (N, L) within a record."""
    first, second = (float((scores - scores.mean(axis=1, keepdims=True)).std()) if scores.size else 0.0
                     for scores in (logits, others))
    return first / second if second else 1.0


def _fit(log_probs: Callable[[float], NDArray[Any]], targets: NDArray[Any]) -> float:
    """Find the best temperature by Brent's method (1973), over its logarithm.

    Targets are smoothed as if there were two more records (Platt, 1999), so that T stays above zero if every
    prediction is correct.
    """
    from scipy.optimize import minimize_scalar

    if not len(targets):
        return 1.0
    smoothing = 1 / (len(targets) + 2)

    def nll(log_temperature: float) -> float:
        values = log_probs(math.exp(log_temperature))  # (N, L)
        correct = values[np.arange(len(targets)), targets]
        return float(-((1 - smoothing) * correct + smoothing * values.mean(axis=1)).mean())

    bounds = math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)
    minimum = minimize_scalar(nll, bounds=bounds, method="bounded", options={"xatol": TOLERANCE / 2})
    return math.exp(minimum.x)
