"""Decoding against enumeration of everything: all paths of a chain, all continuations of a Markov model."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from rnntool.decoding import (
    Event,
    Sampling,
    beam_search,
    generate,
    log_partition,
    log_softmax,
    marginals,
    nbest,
    sample,
    softmax,
    viterbi,
)
from rnntool.errors import UsageError

Array = npt.NDArray[Any]
BOS, EOS = 2, 3
BANNED = (0, 1, BOS)


# --- softmax ---------------------------------------------------------------------------------------------


def test_softmax_is_stable() -> None:
    logits = np.array([[1e4, 1e4 - 1, -np.inf], [-1e4, -1e4 - 1, -np.inf]])
    np.testing.assert_allclose(softmax(logits), [[1 / (1 + math.exp(-1)), 1 / (1 + math.e), 0]] * 2)
    np.testing.assert_allclose(np.exp(log_softmax(logits)), softmax(logits))
    assert log_softmax(np.zeros((2, 3, 4), np.float32)).dtype == np.float32
    assert (softmax(np.full((1, 2), -np.inf)) == 0).all() and (
        log_softmax(np.full(2, -np.inf)) == -np.inf
    ).all()


# --- linear chains ---------------------------------------------------------------------------------------


def chain(seed: int, steps: int, batch: int, size: int, *, forbid: float = 0.0) -> tuple[Array, ...]:
    """Random emissions, lengths (0 and `steps` among them), start, transitions, end."""
    rng = np.random.default_rng(seed)
    parts = [rng.normal(size=shape).astype(np.float32) for shape in (size, (size, size), size)]
    for part in parts:
        part[rng.random(part.shape) < forbid] = -np.inf
    lengths = rng.integers(0, steps + 1, batch)
    lengths[:2] = [0, steps][:batch]
    return rng.normal(size=(steps, batch, size)).astype(np.float32), lengths, *parts


def all_paths(
    row: int,
    emissions: Array,
    lengths: Array,
    start: Array,
    transitions: Array,
    end: Array,
) -> list[tuple[tuple[int, ...], float]]:
    """Every path of a row with its score, best first."""
    n = int(lengths[row])
    scored = []
    for path in itertools.product(range(len(start)), repeat=n):
        score = sum(float(emissions[t, row, label]) for t, label in enumerate(path))
        score += sum(float(transitions[a, b]) for a, b in itertools.pairwise(path))
        score += float(start[path[0]] + end[path[-1]]) if n else 0.0
        scored.append((path, score))
    return sorted(scored, key=lambda pair: -pair[1])


CASES = [(seed, size, forbid) for seed in range(4) for size in (1, 2, 4) for forbid in (0.0, 0.4)]


@pytest.mark.parametrize(("seed", "size", "forbid"), CASES)
def test_chains_against_all_paths(seed: int, size: int, forbid: float) -> None:
    case = chain(seed, 5, 6, size, forbid=forbid)
    lengths = case[1]
    paths, scores = viterbi(*case)
    log_probs, totals, lists = marginals(*case), log_partition(*case), nbest(*case, k=4)
    assert paths.shape == (5, 6) and log_probs.shape == (5, 6, size) and log_probs.dtype == np.float32
    for row, n in enumerate(lengths):
        ranked = [pair for pair in all_paths(row, *case) if pair[1] > -math.inf]
        assert (paths[n:, row] == 0).all() and (log_probs[n:, row] == -np.inf).all()
        if not ranked:
            assert scores[row] == totals[row] == -np.inf and lists[row] == []
            continue
        assert scores[row] == pytest.approx(ranked[0][1], abs=1e-5)
        assert tuple(paths[:n, row]) == ranked[0][0]
        total = np.logaddexp.reduce([score for _, score in ranked])
        assert totals[row] == pytest.approx(total, abs=1e-5)
        assert [tuple(path) for path, _ in lists[row]] == [path for path, _ in ranked[:4]]
        np.testing.assert_allclose([p for _, p in lists[row]], [s - total for _, s in ranked[:4]], atol=1e-5)
        for t in range(n):
            for label in range(size):
                share = sum(math.exp(score - total) for path, score in ranked if path[t] == label)
                assert math.exp(log_probs[t, row, label]) == pytest.approx(share, abs=1e-5)


def test_nbest_lists_every_path_once() -> None:
    case = chain(0, 3, 2, 3)
    lists = nbest(*case, k=50)
    assert lists[0] == [([], 0.0)]
    assert len({tuple(path) for path, _ in lists[1]}) == len(lists[1]) == 27
    assert math.fsum(math.exp(p) for _, p in lists[1]) == pytest.approx(1.0)


def test_rows_do_not_see_each_other_or_padding() -> None:
    emissions, lengths, *rest = chain(1, 40, 7, 5)
    paths, scores = viterbi(emissions, lengths, *rest)
    log_probs = marginals(emissions, lengths, *rest)
    for row, n in enumerate(lengths):
        alone = emissions[:n, [row]], lengths[[row]], *rest
        np.testing.assert_array_equal(viterbi(*alone)[0][:, 0], paths[:n, row])
        assert viterbi(*alone)[1][0] == pytest.approx(scores[row])
        np.testing.assert_allclose(marginals(*alone)[:, 0], log_probs[:n, row], atol=1e-6)


def test_a_very_long_row() -> None:
    case = chain(2, 5_000, 2, 3)
    paths, scores = viterbi(*case)
    [(path, log_prob)] = nbest(*case, k=1)[1]
    assert paths[:, 1].tolist() == path
    assert scores[1] - log_partition(*case)[1] == pytest.approx(log_prob)
    np.testing.assert_allclose(np.exp(marginals(*case)[:, 1]).sum(axis=-1), 1, rtol=1e-5)


def test_chains_of_nothing() -> None:
    for steps, batch in ((0, 2), (3, 0), (3, 2)):
        case = (
            np.zeros((steps, batch, 2), np.float32),
            np.zeros(batch, np.int64),
            np.zeros(2),
            np.eye(2),
            np.zeros(2),
        )
        assert viterbi(*case)[0].shape == (steps, batch) and viterbi(*case)[1].tolist() == [0.0] * batch
        assert marginals(*case).shape == (steps, batch, 2)
        assert nbest(*case, k=2) == [[([], 0.0)]] * batch


# --- sampling --------------------------------------------------------------------------------------------


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
    ],
)
def test_settings_out_of_range(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')}: want .* found {value}"):
        Sampling(**{name: value})  # type: ignore[arg-type]


LOGITS = np.log(np.array([[0.05, 0.4, 0.1, 0.15, 0.3]], dtype=np.float32))  # ranks: 1, 4, 3, 2, 0


@pytest.mark.parametrize(
    ("sampling", "want"),
    [
        (Sampling(), [0.05, 0.4, 0.1, 0.15, 0.3]),
        (Sampling(temperature=0), [0, 1, 0, 0, 0]),
        (Sampling(temperature=1e-30), [0, 1, 0, 0, 0]),
        (Sampling(temperature=0.5), np.square([0.05, 0.4, 0.1, 0.15, 0.3]) / 0.285),
        (Sampling(top_k=2), [0, 4 / 7, 0, 0, 3 / 7]),
        (Sampling(top_k=1), [0, 1, 0, 0, 0]),
        (Sampling(top_k=9), [0.05, 0.4, 0.1, 0.15, 0.3]),
        (Sampling(top_p=0.6), [0, 4 / 7, 0, 0, 3 / 7]),
        (Sampling(top_p=1e-9), [0, 1, 0, 0, 0]),
        (Sampling(top_k=3, top_p=0.8), [0, 4 / 7, 0, 0, 3 / 7]),  # 0.7 of the 0.85 that top_k leaves
        (Sampling(min_p=0.3), [0, 0.4 / 0.85, 0, 0.15 / 0.85, 0.3 / 0.85]),
        (Sampling(min_p=1), [0, 1, 0, 0, 0]),
        (Sampling(top_p=0.9, min_p=0.5), [0, 4 / 7, 0, 0, 3 / 7]),
        (Sampling(top_k=4, min_p=0.3), [0, 0.4 / 0.85, 0, 0.15 / 0.85, 0.3 / 0.85]),
    ],
)
def test_sampling_draws_from_the_distribution_it_should(sampling: Sampling, want: Sequence[float]) -> None:
    n = 4000
    grid = (np.arange(n) + 0.5) / n  # the inverse of the distribution function on a grid gives exact shares
    ids, log_probs = sample(np.repeat(LOGITS, n, axis=0), grid, sampling)
    np.testing.assert_allclose(np.bincount(ids, minlength=5) / n, want, atol=2 / n)
    np.testing.assert_allclose(log_probs, LOGITS[0][ids], atol=1e-6)  # the model's own, whatever the cuts


def cut(probs: Array, sampling: Sampling) -> Array:
    """What is drawn from, of one distribution (V,): each cut as its authors say it, one token at a time."""
    with np.errstate(divide="ignore"):
        warped = np.exp(np.log(probs) / sampling.temperature)
    warped /= warped.sum()

    def keep(order: Sequence[int], share: float) -> Array:
        kept = np.zeros_like(warped)
        for i in order:
            if kept.sum() >= share * warped.sum():
                break
            kept[i] = warped[i]
        return kept

    falling = np.argsort(-warped, kind="stable").tolist()
    if sampling.top_k:
        warped[falling[sampling.top_k :]] = 0
    warped = keep(falling, sampling.top_p)
    warped[warped < sampling.min_p * warped.max()] = 0
    warped /= warped.sum()
    if sampling.typical < 1:
        surprisal = -np.log(np.where(warped > 0, warped, 1e-300))
        odd = np.abs(surprisal - (warped * surprisal).sum())
        warped = keep(np.argsort(odd, kind="stable").tolist(), sampling.typical)
    return warped / warped.sum()


def settings(rng: np.random.Generator) -> Sampling:
    """Some cuts, others left out."""
    drawn = {
        "temperature": rng.uniform(0.3, 2),
        "top_k": int(rng.integers(1, 9)),
        "top_p": rng.uniform(0.1, 1),
        "min_p": rng.uniform(0, 0.5),
        "typical": rng.uniform(0.1, 1),
    }
    return Sampling(**{name: value for name, value in drawn.items() if rng.random() < 0.5})


@pytest.mark.parametrize("seed", range(40))
def test_every_mixture_of_cuts_is_exact(seed: int) -> None:
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.full(int(rng.integers(2, 12)), 0.7))
    sampling, n = settings(rng), 2000
    grid = (np.arange(n) + 0.5) / n
    ids, _ = sample(np.log(np.repeat(probs[None], n, axis=0)), grid, sampling)
    want = cut(probs, sampling)
    np.testing.assert_allclose(np.bincount(ids, minlength=len(probs)) / n, want, atol=len(probs) / n)


def test_typical_sampling_leaves_out_what_is_too_likely() -> None:
    probs = np.array([[0.5, *[0.5 / 40] * 40]])  # the entropy is 2.5 nats, far from the first one's 0.7
    grid = np.linspace(0, 1, 200, endpoint=False)
    logits = np.repeat(np.log(probs), 200, axis=0)
    ids, _ = sample(logits, grid, Sampling(typical=0.4))
    assert set(ids.tolist()) == set(range(1, 33)), "of equal ones the lower ids stay"
    assert 0 in sample(logits, grid, Sampling(typical=0.6))[0]


def test_banned_ids_are_never_drawn_and_carry_no_probability() -> None:
    grid = np.linspace(0, 1, 1000, endpoint=False)
    ids, log_probs = sample(np.repeat(LOGITS, 1000, axis=0), grid, Sampling(), banned=[0, 1])
    assert set(ids.tolist()) == {2, 3, 4}
    np.testing.assert_allclose(np.exp(log_probs), np.array([0, 0, 0.1, 0.15, 0.3])[ids] / 0.55, rtol=1e-5)


def marked(rows: Sequence[Sequence[int]], size: int) -> npt.NDArray[np.bool_]:
    """(B, size): which ids each row has."""
    marks = np.zeros((len(rows), size), np.bool_)
    for mark, ids in zip(marks, rows, strict=True):
        mark[list(ids)] = True
    return marks


def test_the_callers_logits_stay_as_they_are() -> None:
    logits = LOGITS.copy()
    hot = Sampling(temperature=0.5, repetition_penalty=2)
    sample(logits, np.array([0.5]), hot, banned=[1], seen=marked([[4]], 5), forbidden=[[2]])
    np.testing.assert_array_equal(logits, LOGITS)


def test_equal_tokens_are_cut_to_top_k() -> None:
    ids, _ = sample(np.zeros((100, 8)), np.linspace(0, 1, 100, endpoint=False), Sampling(top_k=3))
    assert set(ids.tolist()) == {0, 1, 2}


def test_repetition_penalty() -> None:
    logits = np.array([[2.0, 1.5, -1.0, -1.2]])
    greedy = Sampling(temperature=0, repetition_penalty=2.0)
    assert sample(logits, np.zeros(1), greedy, seen=marked([[]], 4))[0] == [0]
    ids, log_probs = sample(logits, np.zeros(1), greedy, seen=marked([[0, 0]], 4))  # 2.0 / 2, once
    assert ids == [1] and log_probs[0] == pytest.approx(log_softmax(logits)[0, 1])
    assert sample(logits, np.zeros(1), greedy, seen=marked([[2]], 4), banned=[0, 1])[0] == [3]  # -1.0 * 2


@pytest.mark.parametrize("uniform", [0.0, np.nextafter(1.0, 0.0)])
def test_the_ends_of_the_distribution(uniform: float) -> None:
    logits = np.array([[-np.inf, 0.0, -200.0, 0.0, -np.inf]], dtype=np.float32)
    for sampling in (
        Sampling(),
        Sampling(top_k=5),
        Sampling(top_k=4),
        Sampling(top_p=0.99),
        Sampling(min_p=0.1),
    ):
        assert sample(logits, np.array([uniform]), sampling)[0] == [1 if uniform == 0 else 3]


@pytest.mark.parametrize("row", [[-np.inf, -np.inf], [0.0, np.nan], [0.0, np.inf]])
def test_nothing_to_draw_raises(row: list[float]) -> None:
    for sampling in (Sampling(), Sampling(temperature=0), Sampling(top_k=1)):
        with pytest.raises(ValueError, match="no token can be drawn"):
            sample(np.array([[0.0, 0.0], row]), np.zeros(2), sampling)
    with pytest.raises(ValueError, match="no token can be drawn"):
        sample(np.zeros((1, 2)), np.zeros(1), Sampling(), banned=[0, 1])


@pytest.mark.parametrize("size", [3, 257, 20_011])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=0.7, top_k=40),
        Sampling(top_p=0.8, min_p=0.01, repetition_penalty=1.3),
        Sampling(typical=0.8),
    ],
)
def test_a_row_is_the_same_to_the_bit_in_any_batch(size: int, dtype: type, sampling: Sampling) -> None:
    rng = np.random.default_rng(size)
    logits: Array = (rng.normal(size=(9, size)) * 3).astype(dtype)
    uniforms = rng.random(9)
    seen = marked(rng.integers(0, size, (9, 4)).tolist(), size)
    ids, log_probs = sample(logits, uniforms, sampling, banned=[1], seen=seen)
    for rows in ([0], [8, 3], [5, 4, 7, 2, 1]):
        some, their_log_probs = sample(
            logits[rows], uniforms[rows], sampling, banned=[1], seen=seen[rows]
        )
        assert some.tolist() == ids[rows].tolist()
        assert their_log_probs.tobytes() == log_probs[rows].tobytes()


# --- search ----------------------------------------------------------------------------------------------


class Markov:
    """A language model whose next token depends on the last two. Its state is the row's whole past."""

    def __init__(self, size: int, seed: int = 0, *, eos: float = 0.0) -> None:
        self.table = np.random.default_rng(seed).normal(size=(size, size, size)) * 1.5
        self.table[..., EOS] += eos
        self.batches: list[int] = []

    def start(self, prompts: Sequence[Sequence[int]]) -> tuple[Array, list[list[int]]]:
        """Read the prompts."""
        return self._logits([list(prompt) for prompt in prompts])

    def advance(self, tokens: Array, state: list[list[int]]) -> tuple[Array, list[list[int]]]:
        """Read a token a row."""
        return self._logits([[*past, int(token)] for past, token in zip(state, tokens, strict=True)])

    def select(self, state: list[list[int]], rows: Array) -> list[list[int]]:
        """Keep these rows."""
        return [state[int(row)] for row in rows]

    def _logits(self, pasts: list[list[int]]) -> tuple[Array, list[list[int]]]:
        assert all(past[0] == BOS and EOS not in past for past in pasts)
        self.batches.append(len(pasts))
        return np.stack([self.table[[0, *past][-2], past[-1]] for past in pasts]), pasts


def continuations(
    model: Markov,
    prompt: Sequence[int],
    min_tokens: int,
    max_tokens: int,
    log_prob: float = 0.0,
    *,
    n: int = 1,
) -> Iterator[tuple[tuple[int, ...], bool, float]]:
    """Every continuation of up to `max_tokens` tokens: ids, whether EOS ended it, log-probability."""
    past = [0, BOS, *prompt]
    logits = model.table[past[-2], past[-1]].copy()
    logits[list(BANNED)] = -np.inf
    if n <= min_tokens:
        logits[EOS] = -np.inf
    log_probs = log_softmax(logits)
    if n > min_tokens:
        yield (), True, log_prob + log_probs[EOS]
    for token in range(EOS + 1, len(logits)):
        total = log_prob + log_probs[token]
        if n == max_tokens:
            yield (token,), False, total
        else:
            after = continuations(model, [*prompt, token], min_tokens, max_tokens, total, n=n + 1)
            yield from (((token, *ids), ended, score) for ids, ended, score in after)


@pytest.mark.parametrize("length_penalty", [0.0, 0.7, 2.0])
@pytest.mark.parametrize(("seed", "min_tokens", "eos"), [(0, 0, 0.0), (1, 2, 0.0), (2, 0, 3.0), (3, 4, 1.0)])
def test_wide_beam_is_exhaustive_search(
    seed: int, min_tokens: int, eos: float, length_penalty: float
) -> None:
    model = Markov(7, seed, eos=eos)
    everything = sorted(
        continuations(model, [5], min_tokens, 4), key=lambda h: -h[2] / (len(h[0]) + h[1]) ** length_penalty
    )
    found = beam_search(
        model,
        [5],
        beam=500,
        bos=BOS,
        eos=EOS,
        banned=BANNED,
        min_tokens=min_tokens,
        max_tokens=4,
        length_penalty=length_penalty,
    )
    assert [(tuple(h.ids), h.finished) for h in found] == [h[:2] for h in everything]
    np.testing.assert_allclose([h.log_prob for h in found], [h[2] for h in everything])
    # the beam that is as wide as one step of the whole search finds the best ones, stopping early or not
    some = beam_search(
        model,
        [5],
        beam=81,
        bos=BOS,
        eos=EOS,
        banned=BANNED,
        min_tokens=min_tokens,
        max_tokens=4,
        length_penalty=length_penalty,
    )
    assert some == found[:81]


def test_beam_of_one_is_never_worse_than_greedy() -> None:
    for seed in range(5):
        model = Markov(8, seed, eos=2.0)
        lengths: Any = {"min_tokens": 2, "max_tokens": 30}
        [best] = beam_search(model, [], beam=1, bos=BOS, eos=EOS, banned=BANNED, **lengths)
        greedy = generate(
            model, [[]], seed=0, bos=BOS, eos=EOS, banned=BANNED, sampling=Sampling(temperature=0), **lengths
        )
        assert len(best.ids) >= 2 and best.log_prob >= sum(event.log_prob for event in greedy) - 1e-9


def test_beam_search_stops_when_nothing_better_can_come() -> None:
    model = Markov(8, 5, eos=4.0)
    found = beam_search(model, [], beam=3, bos=BOS, eos=EOS, banned=BANNED, max_tokens=1000)
    assert len(found) == 3 and all(h.finished for h in found) and len(model.batches) < 20


def test_beam_search_with_no_way_on_raises() -> None:
    model = Markov(5)
    model.table[:] = -np.inf
    with pytest.raises(ValueError, match="no token can follow"):
        beam_search(model, [], beam=2, bos=BOS, eos=EOS, max_tokens=3)
    dead_end = Markov(6)
    dead_end.table[:, 4, :] = -np.inf  # after 4 nothing, not even EOS
    found = beam_search(dead_end, [], beam=9, bos=BOS, eos=EOS, banned=BANNED, max_tokens=3)
    assert found and all(math.isfinite(h.log_prob) and 4 not in h.ids[:-1] for h in found)


def test_samples_follow_the_model() -> None:
    n, model = 6000, Markov(6, 4)
    events = list(generate(model, [[4]] * n, seed=1, bos=BOS, eos=EOS, banned=BANNED, max_tokens=3))
    drawn, log_probs = collect(events, n)
    want = {(*ids, EOS) if ended else ids: p for ids, ended, p in continuations(model, [4], 0, 3)}
    counts = Counter(drawn)
    assert set(counts) <= set(want) and math.fsum(map(math.exp, want.values())) == pytest.approx(1)
    for ids, log_prob in want.items():
        share = math.exp(log_prob)
        assert counts[ids] / n == pytest.approx(share, abs=5 * math.sqrt(share / n) + 1e-3)
    for ids, log_prob in zip(drawn, log_probs, strict=True):
        assert log_prob == pytest.approx(want[ids])


@pytest.mark.parametrize(
    ("sampling", "no_repeat_ngram"),
    [(Sampling(), 1), (Sampling(top_p=0.8), 2), (Sampling(temperature=0.8, typical=0.7), 0)],
)
def test_samples_follow_the_model_through_cuts(sampling: Sampling, no_repeat_ngram: int) -> None:
    n, model = 4000, Markov(6, 4)
    options: dict[str, Any] = {"bos": BOS, "eos": EOS, "banned": BANNED, "max_tokens": 3}
    events = generate(
        model, [[4]] * n, seed=1, sampling=sampling, no_repeat_ngram=no_repeat_ngram, **options
    )
    counts = Counter(collect(list(events), n)[0])
    want: dict[tuple[int, ...], float] = {}

    def enumerate_all(ids: tuple[int, ...], share: float) -> None:
        if share == 0:
            return
        if len(ids) == 4 or ids[-1:] == (EOS,):
            want[ids[1:]] = share
            return
        past = [0, BOS, *ids]
        probs = softmax(np.where(np.isin(range(6), BANNED), -np.inf, model.table[past[-2], past[-1]]))
        for token in (4, 5):
            if no_repeat_ngram and repeats([*ids, token], no_repeat_ngram):
                probs[token] = 0
        for token, p in enumerate(cut(probs / probs.sum(), sampling)):
            enumerate_all((*ids, token), share * p)

    enumerate_all((4,), 1.0)
    assert math.fsum(want.values()) == pytest.approx(1)
    assert set(counts) <= set(want)
    for ids, share in want.items():
        assert counts[ids] / n == pytest.approx(share, abs=5 * math.sqrt(share / n) + 1e-3)


def repeats(ids: Sequence[int], n: int) -> bool:
    """Whether an n-gram comes twice."""
    grams = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
    return len(set(grams)) < len(grams)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_no_ngram_comes_twice(n: int) -> None:
    model, prompts = Markov(9, 6, eos=-2.0), [[4, 5, 6][:i] for i in range(4)] * 5
    options: dict[str, Any] = {"bos": BOS, "eos": EOS, "banned": BANNED, "max_tokens": 25}
    events = list(generate(model, prompts, seed=3, no_repeat_ngram=n, **options))
    for prompt, ids in zip(prompts, collect(events, len(prompts))[0], strict=True):
        assert not repeats([*prompt, *ids], n)
    assert any(repeats(ids, n) for ids in collect(list(generate(model, prompts, seed=3, **options)), 20)[0])
    for event in events:  # the model's own, whatever is forbidden
        assert event.log_prob < 0
    found = beam_search(model, [4, 5], beam=500, no_repeat_ngram=n, **options | {"max_tokens": 4})
    everything = continuations(model, [4, 5], 0, 4)
    want = {(ids, ended): p for ids, ended, p in everything if not repeats([4, 5, *ids], n)}
    have = {(tuple(h.ids), h.finished): h.log_prob for h in found}
    assert len(have) == min(500, len(want)) and all(p == pytest.approx(want[key]) for key, p in have.items())
    assert min(have.values()) >= sorted(want.values(), reverse=True)[len(have) - 1] - 1e-9


def test_nothing_but_repetition_is_left() -> None:
    options: dict[str, Any] = {"bos": BOS, "eos": EOS, "banned": BANNED, "max_tokens": 9, "min_tokens": 9}
    with pytest.raises(UsageError, match=r"--no-repeat-ngram: want .* second run of 1 tokens"):
        list(generate(Markov(6), [[]], seed=0, no_repeat_ngram=1, **options))
    with pytest.raises(UsageError, match=r"--no-repeat-ngram: want"):
        beam_search(Markov(6), [], beam=2, no_repeat_ngram=1, **options)
    with pytest.raises(UsageError, match=r"--no-repeat-ngram: want .* found -1"):
        list(generate(Markov(6), [[]], seed=0, no_repeat_ngram=-1, **options))


def collect(events: Sequence[Event], n: int) -> tuple[list[tuple[int, ...]], list[float]]:
    """The tokens of each row, EOS included, and the sum of their log-probabilities."""
    drawn: list[tuple[int, ...]] = [()] * n
    log_probs, ended = [0.0] * n, set()
    for event in events:
        assert event.row not in ended, "a row that ended goes on"
        drawn[event.row] += (event.token,)
        log_probs[event.row] += event.log_prob
        if event.last:
            ended.add(event.row)
    assert ended == set(range(n))
    return drawn, log_probs


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=0.7, top_p=0.9, repetition_penalty=1.2),
        Sampling(top_k=5, typical=0.8),
    ],
)
def test_sample_i_depends_on_seed_and_i_alone(sampling: Sampling) -> None:
    model = Markov(9, 2, eos=0.5)
    prompts = [[4 + i % 5] * (i % 3) for i in range(12)]

    def run(first: int, count: int, seed: int = 7) -> list[tuple[int, ...]]:
        events = generate(
            model,
            prompts[first : first + count],
            seed=seed,
            first_index=first,
            bos=BOS,
            eos=EOS,
            banned=BANNED,
            max_tokens=15,
            sampling=sampling,
        )
        return collect(list(events), count)[0]

    together = run(0, 12)
    assert [run(i, 1)[0] for i in range(12)] == together
    assert run(0, 5) + run(5, 7) == together
    assert run(0, 12, seed=8) != together and run(0, 12, seed=-1) == run(0, 12, seed=2**64 - 1)
    assert len(set(together)) > 6


def test_rows_that_end_leave_the_batch_and_tokens_come_at_once() -> None:
    model = Markov(6, 3, eos=1.0)
    events = generate(model, [[]] * 40, seed=0, bos=BOS, eos=EOS, banned=BANNED, max_tokens=50)
    first = next(events)
    assert first.row == 0 and model.batches == [40]  # the first token is out before the second step
    rest = list(events)
    drawn, _ = collect([first, *rest], 40)
    assert all(ids[-1] == EOS for ids in drawn)
    assert model.batches == [sum(len(ids) > n for ids in drawn) for n in range(max(map(len, drawn)))]


def test_lengths_and_stop() -> None:
    model = Markov(6, 3, eos=2.0)

    def run(**options: Any) -> list[tuple[int, ...]]:
        return collect(
            list(generate(model, [[]] * 50, seed=0, bos=BOS, eos=EOS, banned=BANNED, **options)), 50
        )[0]

    assert all(len(ids) == 3 and EOS not in ids for ids in run(min_tokens=3, max_tokens=3))
    assert {len(ids) for ids in run(min_tokens=2, max_tokens=4)} == {3, 4}
    assert max(map(len, run(max_tokens=4))) <= 4
    calls: list[tuple[int, list[int]]] = []

    def stop(row: int, ids: list[int]) -> bool:
        calls.append((row, list(ids)))
        return ids[-1] == 5

    for ids in run(max_tokens=20, stop=stop):
        assert 5 not in ids[:-1] and (ids[-1] in (5, EOS) or len(ids) == 20)
    assert all(EOS not in ids for _, ids in calls) and {len(ids) for _, ids in calls} >= {1, 2}
    assert list(generate(model, [], seed=0, bos=BOS, eos=EOS, max_tokens=1)) == []


@pytest.mark.parametrize("lengths", [(0, 0), (-1, 3), (4, 3)])
def test_impossible_lengths(lengths: tuple[int, int]) -> None:
    least, most = lengths
    with pytest.raises(UsageError, match="-tokens: want"):
        list(generate(Markov(5), [[]], seed=0, bos=BOS, eos=EOS, min_tokens=least, max_tokens=most))
    with pytest.raises(UsageError, match="-tokens: want"):
        beam_search(Markov(5), [], beam=1, bos=BOS, eos=EOS, min_tokens=least, max_tokens=most)


@pytest.mark.parametrize("options", [{"beam": 0}, {"beam": 1, "length_penalty": -1.0}])
def test_impossible_beams(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"--(beam|length-penalty): want"):
        beam_search(Markov(5), [], bos=BOS, eos=EOS, max_tokens=3, **options)
