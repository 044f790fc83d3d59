"""Temperatures compared with a grid search."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rnntool.data.arrays import log_softmax, softmax
from rnntool.evaluation.calibration import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    TOLERANCE,
    Calibration,
    fit_chain_temperature,
    fit_temperature,
)


def records(scale: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Logits (N, L) that are too large by a factor, and targets drawn from the true distribution."""
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(300, 4))
    targets = np.array([rng.choice(4, p=row) for row in softmax(logits)])
    return logits * scale, targets


def grid_minimum(logits: NDArray[Any], targets: NDArray[Any]) -> float:
    """The logarithm of the best temperature on a fine grid, with smoothed targets."""
    smoothing = 1 / (len(targets) + 2)
    grid = np.arange(math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE), TOLERANCE / 2)
    rows = np.arange(len(targets))
    losses = []
    for log_temperature in grid:
        log_probs = log_softmax(logits / math.exp(log_temperature))
        correct, mean = log_probs[rows, targets], log_probs.mean(axis=1)
        losses.append(-((1 - smoothing) * correct + smoothing * mean).mean())
    return float(grid[np.argmin(losses)])


@pytest.mark.parametrize("scale", [0.1, 1.0, 20.0])
def test_a_temperature_equals_that_of_a_grid_search(scale: float) -> None:
    logits, targets = records(scale)
    expected = grid_minimum(logits, targets)
    assert math.log(fit_temperature(logits, targets)) == pytest.approx(expected, abs=TOLERANCE)
    chain = fit_chain_temperature(lambda temperature: softmax(logits / temperature), targets)
    assert math.log(chain) == pytest.approx(expected, abs=TOLERANCE)


def test_a_temperature_of_no_records_is_one() -> None:
    assert fit_chain_temperature(lambda temperature: np.zeros((0, 3)), np.zeros(0, int)) == 1.0
    assert fit_temperature(np.zeros((0, 3)), np.zeros(0, int)) == 1.0


def test_a_report_has_the_first_temperature() -> None:
    assert Calibration((2.0, 3.0), 0.1).report() == {"temperature": 2.0, "ece_uncalibrated": 0.1}


def test_the_module_does_not_import_scipy() -> None:
    code = "import sys, rnntool.evaluation.calibration; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
