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

    From Guo et al. (2017). Targets are smoothed as if there were two more records (Platt, 1999), so that T
    stays above zero if every prediction is correct. Without targets, T is 1.
    """
    if not len(targets):
        return 1.0
    logits = logits.astype(np.float64)
    smoothing = 1 / (len(targets) + 2)
    correct = logits[np.arange(len(targets)), targets]
    target_logits = (1 - smoothing) * correct + smoothing * logits.mean(axis=1)  # (N,)

    def nll(log_temperature: float) -> float:
        scale = math.exp(-log_temperature)  # convex in the scale, so there is one minimum
        return float((np.logaddexp.reduce(logits * scale, axis=1) - target_logits * scale).mean())

    return _best_temperature(nll)


def fit_chain_temperature(probs: Callable[[float], NDArray[Any]], targets: NDArray[Any]) -> float:
    """Like `fit_temperature`, for a CRF, where a token's label probabilities depend on the whole sentence.

    `probs` takes a temperature and returns them, (N, L).
    """
    if not len(targets):
        return 1.0
    smoothing = 1 / (len(targets) + 2)

    def nll(log_temperature: float) -> float:
        log_probs = np.log(probs(math.exp(log_temperature)).clip(min=MIN_PROBABILITY))
        correct = log_probs[np.arange(len(targets)), targets]
        return float(-((1 - smoothing) * correct + smoothing * log_probs.mean(axis=1)).mean())

    return _best_temperature(nll)


def _best_temperature(nll: Callable[[float], float]) -> float:
    """Minimize a function of the temperature's logarithm by Brent's method (1973)."""
    from scipy.optimize import minimize_scalar

    bounds = math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)
    minimum = minimize_scalar(nll, bounds=bounds, method="bounded", options={"xatol": TOLERANCE / 2})
    return math.exp(minimum.x)
