"""Intervals compared with a loop over resampled records, and p-values with all possible swaps."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rnntool.evaluation import metrics, sequences, significance
from rnntool.evaluation.significance import difference_interval, interval, p_value
from rnntool.tasks.base import Criterion


def counts(rows: list[tuple[float, ...]]) -> NDArray[np.float64]:
    return np.array(rows, np.float64)


def sentences(n: int, seed: int, accuracy: float = 0.7) -> NDArray[np.float64]:
    """(correct, total) of sentences with up to 12 words, each correct with that probability."""
    rng = np.random.default_rng(seed)
    words = np.random.default_rng(0).integers(0, 13, n)  # the same for every seed
    return np.stack([rng.binomial(words, accuracy), words], axis=1).astype(np.float64)


# --- Intervals ---------------------------------------------------------------------------------------------


def test_an_interval_equals_that_of_a_loop() -> None:
    rows = sentences(40, seed=1)
    rng = np.random.default_rng(5)
    figures = []
    for _ in range(200):
        drawn = [rows[i] for i in rng.integers(40, size=40)]
        figures.append(sum(correct for correct, _ in drawn) / sum(words for _, words in drawn))
    result = interval(rows, metrics.accuracy, np.random.default_rng(5), resamples=200)
    assert result == pytest.approx(tuple(np.quantile(figures, [0.025, 0.975])), abs=1e-12)


def test_an_interval_has_the_theoretical_width() -> None:
    rows = counts([(float(i < 800), 1.0) for i in range(1000)])
    low, high = interval(rows, metrics.accuracy, np.random.default_rng(0), resamples=5000)
    half = 1.96 * math.sqrt(0.8 * 0.2 / 1000)
    assert (low, high) == pytest.approx((0.8 - half, 0.8 + half), abs=0.002)


def test_records_are_resampled_and_not_words() -> None:
    # all words of a sentence are correct, or none: the interval is as wide as that of 50 words
    rows = counts([(20.0 * (i % 2), 20.0) for i in range(50)])
    low, high = interval(rows, metrics.accuracy, np.random.default_rng(0))
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(0.25 / 50), rel=0.1)


def test_an_interval_depends_on_the_seed_alone() -> None:
    rows = sentences(30, seed=2)
    first, again, other = (interval(rows, metrics.accuracy, np.random.default_rng(s)) for s in (1, 1, 2))
    assert first == again != other


def test_a_difference_resamples_the_same_records_on_both_sides() -> None:
    model = sentences(60, seed=3)
    worse = model.copy()
    worse[:, 0] = 0
    low, high = difference_interval(model, worse, metrics.accuracy, np.random.default_rng(4))
    assert (low, high) == interval(model, metrics.accuracy, np.random.default_rng(4))
    assert difference_interval(model, model, metrics.accuracy, np.random.default_rng(4)) == (0.0, 0.0)


@pytest.mark.parametrize(("metric", "row", "expected"), [
    (metrics.accuracy, (3, 4), 0.75),
    (metrics.accuracy, (0, 0), 0.0),
    (metrics.f1, (2, 3, 4), 4 / 7),
    (metrics.f1, (0, 0, 0), 0.0),
    (metrics.perplexity, (8 * math.log(2), 4, 16), 4.0),
    (metrics.perplexity, (5000, 1, 1), math.inf),
    (metrics.bits_per_char, (8 * math.log(2), 4, 16), 0.5),
])  # fmt: skip
def test_metrics_of_one_sum_and_of_many(metric: Any, row: tuple[float, ...], expected: float) -> None:
    assert metric(np.array(row, float)) == pytest.approx(expected)
    many = metric(np.array([[row, (1,) * len(row)]] * 3, float))
    assert many.shape == (3, 2)
    assert many[:, 0] == pytest.approx([expected] * 3)


# --- The test of two models --------------------------------------------------------------------------------


def exact(model: NDArray[Any], baseline: NDArray[Any], metric: Any) -> float:
    """The share of all swaps with a difference as large as the observed one."""
    def difference(swaps: tuple[bool, ...]) -> float:
        sides = [(b, a) if swap else (a, b) for swap, a, b in zip(swaps, model, baseline, strict=True)]
        return abs(float(metric(sum(a for a, _ in sides)) - metric(sum(b for _, b in sides))))

    all_swaps = list(itertools.product((False, True), repeat=len(model)))
    observed = difference((False,) * len(model))
    return sum(difference(swaps) >= observed - 1e-12 for swaps in all_swaps) / len(all_swaps)


@pytest.mark.parametrize("metric", [metrics.accuracy, metrics.f1, metrics.perplexity])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_p_values_against_all_swaps(metric: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    model, baseline = rng.integers(1, 5, (2, 9, 3)).astype(np.float64)
    model[0] = baseline[0]
    rounds = 40_000
    expected = exact(model, baseline, metric)
    error = math.sqrt(expected * (1 - expected) / rounds)
    result = p_value(model, baseline, metric, np.random.default_rng(seed), rounds=rounds)
    assert result == pytest.approx(expected, abs=5 * error + 1e-4)


def test_the_smallest_possible_p_value() -> None:
    model, baseline = counts([(1, 1)] * 60), counts([(0, 1)] * 60)
    assert p_value(model, baseline, metrics.accuracy, np.random.default_rng(0)) == 1 / 10_001
    assert p_value(baseline, model, metrics.accuracy, np.random.default_rng(0)) == 1 / 10_001


def test_equal_models_differ_by_chance_alone() -> None:
    model, other = sentences(100, seed=1), sentences(100, seed=2)
    assert p_value(model, model, metrics.accuracy, np.random.default_rng(0)) == 1.0
    assert p_value(model, model[::-1], metrics.accuracy, np.random.default_rng(0)) == 1.0, "no difference"
    assert p_value(model, other, metrics.accuracy, np.random.default_rng(0)) > 0.05


def test_the_number_of_rounds_does_not_depend_on_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    model, other = sentences(64, seed=1, accuracy=0.8), sentences(64, seed=2)
    expected = p_value(model, other, metrics.accuracy, np.random.default_rng(0), rounds=1000)
    monkeypatch.setattr("rnntool.evaluation.significance.SWAPS_AT_ONCE", 64 * 7)
    result = p_value(model, other, metrics.accuracy, np.random.default_rng(0), rounds=1000)
    assert result == pytest.approx(expected, abs=0.02)
    assert (result * 1001) % 1 == pytest.approx(0, abs=1e-6), "as many rounds as requested"


def test_a_perfect_score_has_an_interval_with_a_width() -> None:
    # Wilson (1927) for 10 of 10 and 0 of 10; values of R's prop.test(10, 10, correct=FALSE)
    assert significance.wilson_interval(1.0, 10) == pytest.approx((0.7224672, 1.0))
    assert significance.wilson_interval(0.0, 10) == pytest.approx((0.0, 0.2775328))
    assert significance.wilson_interval(0.7, 10) == pytest.approx((0.3967781, 0.8922087))
    exact = Criterion("exact_match", higher_is_better=True, metric=sequences.exact_match)
    assert exact.interval(np.array([[0.0, 1.0]] * 10)) == pytest.approx([0.0, 0.2775328])
    accuracy = Criterion("accuracy", higher_is_better=True, metric=metrics.accuracy)
    assert accuracy.interval(counts([(1, 1)] * 10)) == pytest.approx([0.7224672, 1.0])
    assert accuracy.interval(counts([(0, 1)] * 10)) == pytest.approx([0.0, 0.2775328])
    assert accuracy.interval(counts([(7, 7)] * 10)) == pytest.approx([0.7224672, 1.0]), "by sentences"
    f1 = Criterion("f1", higher_is_better=True, metric=metrics.f1)
    assert f1.interval(counts([(1, 1, 1)] * 10)) == pytest.approx([0.7224672, 1.0])
    low, high = accuracy.interval(counts([(1, 1)] * 9 + [(0, 1)])) or (0, 0)
    assert low < 0.9 < high
