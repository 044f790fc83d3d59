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
