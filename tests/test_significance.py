"""Intervals against a loop over drawn records, p-values against all swaps there are."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rnntool.evaluation import metrics
from rnntool.evaluation.significance import difference_interval, interval, p_value


def counts(rows: list[tuple[float, ...]]) -> NDArray[np.float64]:
    return np.array(rows, np.float64)


def some(n: int, seed: int, right: float = 0.7) -> NDArray[np.float64]:
    """Sentences of up to 12 words, each right with that probability."""
    rng = np.random.default_rng(seed)
    words = np.random.default_rng(0).integers(0, 13, n)  # the same ones, whatever the seed
    return np.stack([rng.binomial(words, right), words], axis=1).astype(np.float64)


# --- Intervals ---------------------------------------------------------------------------------------------


def test_an_interval_is_that_of_a_loop() -> None:
    rows = some(40, seed=1)
    rng = np.random.default_rng(5)
    figures = []
    for _ in range(200):
        drawn = [rows[i] for i in rng.integers(40, size=40)]
        figures.append(sum(right for right, _ in drawn) / sum(words for _, words in drawn))
    found = interval(rows, metrics.accuracy, np.random.default_rng(5), resamples=200)
    assert found == pytest.approx(tuple(np.quantile(figures, [0.025, 0.975])), abs=1e-12)


def test_an_interval_has_the_width_that_theory_wants() -> None:
    rows = counts([(float(i < 800), 1.0) for i in range(1000)])
    low, high = interval(rows, metrics.accuracy, np.random.default_rng(0), resamples=5000)
    half = 1.96 * math.sqrt(0.8 * 0.2 / 1000)
    assert (low, high) == pytest.approx((0.8 - half, 0.8 + half), abs=0.002)


def test_records_are_drawn_and_not_words() -> None:
    # all the words of a sentence are right or none is, so the interval is as wide as that of 50 words
    rows = counts([(20.0 * (i % 2), 20.0) for i in range(50)])
    low, high = interval(rows, metrics.accuracy, np.random.default_rng(0))
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(0.25 / 50), rel=0.1)


def test_a_seed_says_which_interval() -> None:
    rows = some(30, seed=2)
    first, again, other = (interval(rows, metrics.accuracy, np.random.default_rng(s)) for s in (1, 1, 2))
    assert first == again != other


def test_a_difference_has_the_same_records_drawn_on_both_sides() -> None:
    ours = some(60, seed=3)
    worse = ours.copy()
    worse[:, 0] = 0
    low, high = difference_interval(ours, worse, metrics.accuracy, np.random.default_rng(4))
    assert (low, high) == interval(ours, metrics.accuracy, np.random.default_rng(4))
    assert difference_interval(ours, ours, metrics.accuracy, np.random.default_rng(4)) == (0.0, 0.0)


@pytest.mark.parametrize(("figure", "row", "want"), [
    (metrics.accuracy, (3, 4), 0.75),
    (metrics.accuracy, (0, 0), 0.0),
    (metrics.f1, (2, 3, 4), 4 / 7),
    (metrics.f1, (0, 0, 0), 0.0),
    (metrics.perplexity, (8 * math.log(2), 4, 16), 4.0),
    (metrics.perplexity, (5000, 1, 1), math.inf),
    (metrics.bits_per_char, (8 * math.log(2), 4, 16), 0.5),
])  # fmt: skip
def test_figures_of_one_sum_and_of_many(figure: Any, row: tuple[float, ...], want: float) -> None:
    assert figure(np.array(row, float)) == pytest.approx(want)
    many = figure(np.array([[row, (1,) * len(row)]] * 3, float))
    assert many.shape == (3, 2)
    assert many[:, 0] == pytest.approx([want] * 3)


# --- The test of two models --------------------------------------------------------------------------------


def exact(ours: NDArray[Any], theirs: NDArray[Any], figure: Any) -> float:
    """The share of all swaps that make a difference as large as the one there is."""
    def difference(swaps: tuple[bool, ...]) -> float:
        sides = [(b, a) if swap else (a, b) for swap, a, b in zip(swaps, ours, theirs, strict=True)]
        return abs(float(figure(sum(a for a, _ in sides)) - figure(sum(b for _, b in sides))))

    all_swaps = list(itertools.product((False, True), repeat=len(ours)))
    observed = difference((False,) * len(ours))
    return sum(difference(swaps) >= observed - 1e-12 for swaps in all_swaps) / len(all_swaps)


@pytest.mark.parametrize("figure", [metrics.accuracy, metrics.f1, metrics.perplexity])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_p_values_are_those_of_all_swaps(figure: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    ours, theirs = rng.integers(1, 5, (2, 9, 3)).astype(np.float64)
    ours[0] = theirs[0]
    rounds = 40_000
    want = exact(ours, theirs, figure)
    error = math.sqrt(want * (1 - want) / rounds)
    found = p_value(ours, theirs, figure, np.random.default_rng(seed), rounds=rounds)
    assert found == pytest.approx(want, abs=5 * error + 1e-4)


def test_the_smallest_p_value_there_can_be() -> None:
    ours, theirs = counts([(1, 1)] * 60), counts([(0, 1)] * 60)
    assert p_value(ours, theirs, metrics.accuracy, np.random.default_rng(0)) == 1 / 10_001
    assert p_value(theirs, ours, metrics.accuracy, np.random.default_rng(0)) == 1 / 10_001


def test_equal_models_differ_by_chance_alone() -> None:
    ours, other = some(100, seed=1), some(100, seed=2)
    assert p_value(ours, ours, metrics.accuracy, np.random.default_rng(0)) == 1.0
    assert p_value(ours, ours[::-1], metrics.accuracy, np.random.default_rng(0)) == 1.0, "no difference"
    assert p_value(ours, other, metrics.accuracy, np.random.default_rng(0)) > 0.05


def test_rounds_are_the_same_however_many_are_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, other = some(64, seed=1, right=0.8), some(64, seed=2)
    want = p_value(ours, other, metrics.accuracy, np.random.default_rng(0), rounds=1000)
    monkeypatch.setattr("rnntool.evaluation.significance.SWAPS_AT_ONCE", 64 * 7)
    found = p_value(ours, other, metrics.accuracy, np.random.default_rng(0), rounds=1000)
    assert found == pytest.approx(want, abs=0.02)
    assert (found * 1001) % 1 == pytest.approx(0, abs=1e-6), "as many rounds as were asked for"
