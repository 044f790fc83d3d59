"""Sampling tokens: the distribution is the one that the options define, in any batch."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from rnntool.data.arrays import log_softmax, softmax
from rnntool.errors import UsageError
from rnntool.inference.options import GenerateOptions
from rnntool.models.sampling import DRAWS, Scores, sample

Array = npt.NDArray[Any]


def draw(
    logits: Array, uniforms: Array, options: GenerateOptions, *, banned: Sequence[int] = (), **more: Any
) -> tuple[Array, Array]:
    """Sample with `uniforms` (B, DRAWS), or (B,) to use one number for all draws of a row."""
    if uniforms.ndim == 1:
        uniforms = np.repeat(uniforms[:, None], DRAWS, axis=1)
    with np.errstate(invalid="ignore"):
        scores = Scores(np.array(logits), softmax(np.array(logits)))
    scores.ban(banned)
    return sample(scores, uniforms, options, **more)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("top_k", -1),
        ("top_p", 0),
        ("top_p", 1.1),
        ("min_p", -0.1),
        ("min_p", 2),
        ("typical", 0),
        ("typical", 1.5),
        ("repetition_penalty", 0),
        ("repetition_penalty", math.nan),
        ("repetition_penalty", 1e-40),
        ("temperature", 1e39),
    ],
)
def test_options_out_of_range(name: str, value: float) -> None:
    message = rf"^{name}: expected a .*number .*, found {re.escape(str(value))}(\.0)?$"
    with pytest.raises(UsageError, match=message):
        GenerateOptions(**{name: value})  # type: ignore[arg-type]


LOGITS = np.log(np.array([[0.05, 0.4, 0.1, 0.15, 0.3]], dtype=np.float32))  # ranks: 1, 4, 3, 2, 0


@pytest.mark.parametrize(
    ("options", "target"),
    [
        (GenerateOptions(), [0.05, 0.4, 0.1, 0.15, 0.3]),
        (GenerateOptions(temperature=0), [0, 1, 0, 0, 0]),
        (GenerateOptions(temperature=1e-30), [0, 1, 0, 0, 0]),
        (GenerateOptions(temperature=0.5), np.square([0.05, 0.4, 0.1, 0.15, 0.3]) / 0.285),
        (GenerateOptions(top_k=2), [0, 4 / 7, 0, 0, 3 / 7]),
        (GenerateOptions(top_k=1), [0, 1, 0, 0, 0]),
        (GenerateOptions(top_k=9), [0.05, 0.4, 0.1, 0.15, 0.3]),
        (GenerateOptions(top_p=0.6), [0, 4 / 7, 0, 0, 3 / 7]),
        (GenerateOptions(top_p=1e-9), [0, 1, 0, 0, 0]),
        (GenerateOptions(top_k=3, top_p=0.8), [0, 4 / 7, 0, 0, 3 / 7]),  # 0.7 of the 0.85 that top_k leaves
        (GenerateOptions(min_p=0.3), [0, 0.4 / 0.85, 0, 0.15 / 0.85, 0.3 / 0.85]),
        (GenerateOptions(min_p=1), [0, 1, 0, 0, 0]),
        (GenerateOptions(top_p=0.9, min_p=0.5), [0, 4 / 7, 0, 0, 3 / 7]),
        (GenerateOptions(top_k=4, min_p=0.3), [0, 0.4 / 0.85, 0, 0.15 / 0.85, 0.3 / 0.85]),
    ],
)
def test_sampling_draws_from_the_distribution_it_should(
    options: GenerateOptions, target: Sequence[float]
) -> None:
    n = 20_000
    ids, log_probs = draw(np.repeat(LOGITS, n, axis=0), uniform_numbers(n), options)
    np.testing.assert_allclose(np.bincount(ids, minlength=5) / n, target, atol=5 * math.sqrt(0.25 / n))
    assert set(ids.tolist()) == set(np.flatnonzero(target).tolist())
    np.testing.assert_allclose(log_probs, LOGITS[0][ids], atol=1e-6)  # the model's own, without truncation


def uniform_numbers(n: int, seed: int = 0) -> Array:
    """Return (n, DRAWS) numbers; the first column is a grid, so shares are exact without truncation."""
    uniforms = np.random.default_rng(seed).random((n, DRAWS))
    uniforms[:, 0] = (np.arange(n) + 0.5) / n
    return uniforms


def expected(probs: Array, options: GenerateOptions, uniforms: Array) -> Array:
    """Return the token of each row: the first draw that the truncation keeps, or that of the last number.

    Rejection sampling is used for a single cut that sorts the vocabulary; otherwise the last number draws.
    """
    before = truncate(probs, replace(options, top_p=1, min_p=0, typical=1))
    left = truncate(probs, options)
    drawn = np.searchsorted(np.cumsum(left), uniforms[:, -1])
    if (options.top_p < 1) != (options.typical < 1) and options.min_p == 0:
        tried = np.searchsorted(np.cumsum(before), uniforms[:, :-1])  # (n, tries)
        kept = left[np.minimum(tried, len(left) - 1)] > 0
        first = tried[np.arange(len(tried)), kept.argmax(axis=1)]
        drawn = np.where(kept.any(axis=1), first, drawn)
    return drawn


def truncate(probs: Array, options: GenerateOptions) -> Array:
    """Truncate a distribution (V,) as the authors of each method define it, one token at a time."""
    with np.errstate(divide="ignore"):
        warped = np.exp(np.log(probs) / options.temperature)
    warped /= warped.sum()

    def keep(order: Sequence[int], share: float) -> Array:
        kept = np.zeros_like(warped)
        for i in order:
            if kept.sum() >= share * warped.sum():
                break
            kept[i] = warped[i]
        return kept

    falling = np.argsort(-warped, kind="stable").tolist()
    if options.top_k:
        warped[falling[options.top_k :]] = 0
    warped = keep(falling, options.top_p)
    warped[warped < options.min_p * warped.max()] = 0
    warped /= warped.sum()
    if options.typical < 1:
        surprisal = -np.log(np.where(warped > 0, warped, 1e-300))
        odd = np.abs(surprisal - (warped * surprisal).sum())
        warped = keep(np.argsort(odd, kind="stable").tolist(), options.typical)
    return warped / warped.sum()


def random_truncations(rng: np.random.Generator) -> GenerateOptions:
    """Combine truncations at random."""
    drawn = {
        "temperature": rng.uniform(0.3, 2),
        "top_k": int(rng.integers(1, 9)),
        "top_p": rng.uniform(0.1, 1),
        "min_p": rng.uniform(0, 0.5),
        "typical": rng.uniform(0.1, 1),
    }
    return GenerateOptions(**{name: value for name, value in drawn.items() if rng.random() < 0.5})


@pytest.mark.parametrize("seed", range(40))
def test_combined_truncations_are_exact(seed: int) -> None:
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.full(int(rng.integers(2, 12)), 0.7))
    options, n = random_truncations(rng), 4000
    uniforms = uniform_numbers(n, seed)
    ids, _ = draw(np.log(np.repeat(probs[None], n, axis=0)), uniforms, options)
    target = truncate(probs, options)
    np.testing.assert_allclose(np.bincount(ids, minlength=len(probs)) / n, target,
                               atol=5 * math.sqrt(0.25 / n))
    assert (target[ids] > 0).all()
    if options.top_p < 1 or options.typical < 1:
        assert (ids != expected(probs, options, uniforms)).sum() <= 1  # rounding


@pytest.mark.parametrize("values", [
    {}, {"temperature": 0.6}, {"top_k": 40}, {"top_k": 700}, {"top_p": 0.8}, {"min_p": 0.05},
    {"typical": 0.7}, {"top_p": 0.02}, {"typical": 0.02}, {"top_k": 300, "top_p": 0.9, "typical": 0.8}])
@pytest.mark.parametrize("size", [513, 2048, 3001])
def test_large_vocabularies_are_exact(size: int, values: dict[str, Any]) -> None:
    options = GenerateOptions(**values)
    rng = np.random.default_rng(size)
    probs = rng.dirichlet(np.full(size, 0.3))
    uniforms = np.repeat(uniform_numbers(1000), 2, axis=0)[:1000]
    uniforms[:, 0] = uniforms[:, -1] = (np.arange(1000) + 0.5) / 1000
    ids, _ = draw(np.log(np.repeat(probs[None] + 1e-30, 1000, axis=0)), uniforms, options)
    target = truncate(probs + 1e-30, options)
    assert (target[ids] > 0).all()
    assert (ids != expected(probs + 1e-30, options, uniforms)).sum() <= 1  # rounding


def test_typical_sampling_excludes_tokens_that_are_too_likely() -> None:
    probs = np.array([[0.4, *[0.6 / 40] * 40]])  # 2.9 nats of entropy: 0.9 nats are further off than 4.2
    logits = np.repeat(np.log(probs), 400, axis=0)
    ids, _ = draw(logits, uniform_numbers(400), GenerateOptions(typical=0.4))
    assert set(ids.tolist()) == set(range(1, 28)), "of equal ones, lower ids stay"
    assert 0 in draw(logits, uniform_numbers(400), GenerateOptions(typical=0.7))[0]


def test_banned_ids_are_never_drawn_and_carry_no_probability() -> None:
    grid = np.linspace(0, 1, 1000, endpoint=False)
    ids, log_probs = draw(np.repeat(LOGITS, 1000, axis=0), grid, GenerateOptions(), banned=[0, 1])
    assert set(ids.tolist()) == {2, 3, 4}
    np.testing.assert_allclose(np.exp(log_probs), np.array([0, 0, 0.1, 0.15, 0.3])[ids] / 0.55, rtol=1e-5)


def marked(rows: Sequence[Sequence[int]], size: int) -> npt.NDArray[np.bool_]:
    """Return (B, size), True at the ids of each row."""
    marks = np.zeros((len(rows), size), np.bool_)
    for mark, ids in zip(marks, rows, strict=True):
        mark[list(ids)] = True
    return marks


def test_equal_tokens_are_cut_to_top_k() -> None:
    ids, _ = draw(np.zeros((100, 8)), np.linspace(0, 1, 100, endpoint=False), GenerateOptions(top_k=3))
    assert set(ids.tolist()) == {0, 1, 2}


def test_repetition_penalty() -> None:
    logits = np.array([[2.0, 1.5, -1.0, -1.2]])
    greedy = GenerateOptions(temperature=0, repetition_penalty=2.0)
    assert draw(logits, np.zeros(1), greedy, seen=marked([[]], 4))[0] == [0]
    ids, log_probs = draw(logits, np.zeros(1), greedy, seen=marked([[0, 0]], 4))  # 2.0 / 2, once
    assert ids == [1] and log_probs[0] == pytest.approx(log_softmax(logits)[0, 1])
    assert draw(logits, np.zeros(1), greedy, seen=marked([[2]], 4), banned=[0, 1])[0] == [3]  # -1.0 * 2


@pytest.mark.parametrize("uniform", [0.0, np.nextafter(1.0, 0.0)])
def test_the_lowest_and_the_highest_random_numbers(uniform: float) -> None:
    logits = np.array([[-np.inf, 0.0, -200.0, 0.0, -np.inf]], dtype=np.float32)
    for options in (
        GenerateOptions(),
        GenerateOptions(top_k=5),
        GenerateOptions(top_k=4),
        GenerateOptions(top_p=0.99),
        GenerateOptions(min_p=0.1),
    ):
        assert draw(logits, np.array([uniform]), options)[0] == [1 if uniform == 0 else 3]


@pytest.mark.parametrize("row", [[-np.inf, -np.inf], [0.0, np.nan], [0.0, np.inf]])
def test_a_row_without_possible_tokens_raises(row: list[float]) -> None:
    for options in (GenerateOptions(), GenerateOptions(temperature=0), GenerateOptions(top_k=1)):
        with pytest.raises(ValueError, match="no token can be drawn"):
            draw(np.array([[0.0, 0.0], row]), np.zeros(2), options)
    with pytest.raises(ValueError, match="no token can be drawn"):
        draw(np.zeros((1, 2)), np.zeros(1), GenerateOptions(), banned=[0, 1])


@pytest.mark.parametrize("size", [3, 257, 20_011])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "options",
    [
        GenerateOptions(),
        GenerateOptions(temperature=0.7, top_k=40),
        GenerateOptions(top_p=0.8, min_p=0.01, repetition_penalty=1.3),
        GenerateOptions(typical=0.8),
    ],
)
def test_a_row_is_the_same_to_the_bit_in_any_batch(size: int, dtype: type, options: GenerateOptions) -> None:
    rng = np.random.default_rng(size)
    logits: Array = (rng.normal(size=(9, size)) * 3).astype(dtype)
    uniforms = rng.random((9, DRAWS))
    seen = marked(rng.integers(0, size, (9, 4)).tolist(), size)
    ids, log_probs = draw(logits, uniforms, options, banned=[1], seen=seen)
    for rows in ([0], [8, 3], [5, 4, 7, 2, 1]):
        other_ids, other_log_probs = draw(
            logits[rows], uniforms[rows], options, banned=[1], seen=seen[rows]
        )
        assert other_ids.tolist() == ids[rows].tolist()
        assert other_log_probs.tobytes() == log_probs[rows].tobytes()


def test_a_token_whose_probability_is_too_small_for_float32_has_its_log_probability() -> None:
    logits = np.array([[0.0, -300.0, -301.0]], dtype=np.float32)
    hot = GenerateOptions(temperature=1e6)
    ids, log_probs = draw(np.repeat(logits, 50, axis=0), uniform_numbers(50), hot)
    assert set(ids.tolist()) == {0, 1, 2}
    np.testing.assert_allclose(log_probs, logits[0, ids], atol=1e-5)


@pytest.mark.parametrize("taken", ["banned", "forbidden", "penalized"])
def test_a_row_that_loses_nearly_all_changes_no_other(taken: str) -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(2, 2000)).astype(np.float32)
    logits[1] = -150.0
    logits[1, 7] = 0.0  # all that float32 has of this row's probability
    probs = softmax(logits) * np.float32(1.0001)  # another engine's, which need not be the same
    scores = Scores(logits, probs)
    more = {"banned": {}, "forbidden": {"forbidden": [[1], [7]]},
            "penalized": {"seen": marked([[], [7]], 2000)}}[taken]
    options = GenerateOptions(repetition_penalty=100.0 if taken == "penalized" else 1.0)
    scores.logits[1, 7] = -2.0 if taken == "penalized" else 0.0

    if taken == "banned":
        scores.ban([7])

    def alone(row: int) -> dict[str, Any]:
        return {name: values[row : row + 1] for name, values in more.items()}

    for seed in range(50):
        uniforms = uniform_numbers(2, seed)
        ids, log_probs = sample(Scores(*map(np.array, scores)), uniforms, options, **more)
        for row in range(2):
            one = Scores(*(np.array(values[row : row + 1]) for values in scores))
            other_ids, other = sample(one, uniforms[row : row + 1], options, **alone(row))
            assert other_ids[0] == ids[row] and other[0] == log_probs[row]
        assert ids[1] != 7
