"""Decoding, compared with an enumeration of all continuations of a Markov model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from test_sampling import truncate

from rnntool.data.arrays import log_softmax, softmax
from rnntool.errors import UsageError
from rnntool.inference.decoding import Hypothesis, SampledToken, beam_search, sample_tokens
from rnntool.inference.options import GenerateOptions
from rnntool.models.sampling import Scores

Array = npt.NDArray[Any]
BOS, EOS = 2, 3
BANNED = (0, 1, BOS)


def sampled(
    model: Markov, prompts: Sequence[Sequence[int]], options: GenerateOptions, **more: Any
) -> Iterator[SampledToken]:
    return sample_tokens(model, prompts, options, eos=EOS, banned=BANNED, **more)


def searched(model: Markov, prompt: Sequence[int], options: GenerateOptions) -> list[Hypothesis]:
    return beam_search(model, prompt, options, eos=EOS, banned=BANNED)


class Markov:
    """A language model whose next token depends on the last two. Its state is all tokens of a row."""

    def __init__(self, size: int, seed: int = 0, *, eos: float = 0.0) -> None:
        self.table = np.random.default_rng(seed).normal(size=(size, size, size)) * 1.5
        self.table[..., EOS] += eos
        self.batches: list[int] = []

    def start(self, prompts: Sequence[Sequence[int]]) -> tuple[Scores, list[list[int]]]:
        """Read the prompts."""
        return self._scores([[BOS, *prompt] for prompt in prompts])

    def advance(self, tokens: Array, state: list[list[int]]) -> tuple[Scores, list[list[int]]]:
        """Read one token per row."""
        return self._scores([[*past, int(token)] for past, token in zip(state, tokens, strict=True)])

    def select(self, state: list[list[int]], rows: Array) -> list[list[int]]:
        """Keep these rows."""
        return [state[int(row)] for row in rows]

    def _scores(self, pasts: list[list[int]]) -> tuple[Scores, list[list[int]]]:
        assert all(past[0] == BOS and EOS not in past for past in pasts)
        self.batches.append(len(pasts))
        logits = np.stack([self.table[[0, *past][-2], past[-1]] for past in pasts])
        with np.errstate(invalid="ignore"):  # if all are -inf
            probs = np.exp(logits - logits.max(axis=-1, keepdims=True))
            return Scores(logits, probs / probs.sum(axis=-1, keepdims=True)), pasts


def continuations(
    model: Markov,
    prompt: Sequence[int],
    min_tokens: int,
    max_tokens: int,
    log_prob: float = 0.0,
    *,
    n: int = 1,
) -> Iterator[tuple[tuple[int, ...], bool, float]]:
    """Enumerate the continuations of up to `max_tokens` tokens: ids, ended by EOS, log-probability."""
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


@pytest.mark.parametrize(("seed", "min_tokens", "eos"), [(0, 0, 0.0), (1, 2, 0.0), (2, 0, 3.0), (3, 4, 1.0)])
def test_wide_beam_is_exhaustive_search(seed: int, min_tokens: int, eos: float) -> None:
    model = Markov(7, seed, eos=eos)
    everything = sorted(continuations(model, [5], min_tokens, 4), key=lambda h: -h[2])
    options = GenerateOptions(min_tokens=min_tokens, max_tokens=4, beam=500)
    hypotheses = searched(model, [5], options)
    assert [(tuple(h.ids), h.finished) for h in hypotheses] == [h[:2] for h in everything]
    np.testing.assert_allclose([h.log_prob for h in hypotheses], [h[2] for h in everything])
    # a beam as wide as one step of the whole search finds the best ones, whether or not it stops early
    assert searched(model, [5], options.replace(beam=81)) == hypotheses[:81]


def test_beam_of_one_is_never_worse_than_greedy() -> None:
    for seed in range(5):
        model = Markov(8, seed, eos=2.0)
        options = GenerateOptions(min_tokens=2, max_tokens=30)
        [best] = searched(model, [], options.replace(beam=1))
        greedy = sampled(model, [[]], options.replace(temperature=0))
        assert len(best.ids) >= 2 and best.log_prob >= sum(event.log_prob for event in greedy) - 1e-9


def test_beam_search_stops_when_nothing_better_can_come() -> None:
    model = Markov(8, 5, eos=4.0)
    hypotheses = searched(model, [], GenerateOptions(max_tokens=1000, beam=3))
    assert len(hypotheses) == 3 and all(h.finished for h in hypotheses) and len(model.batches) < 20


def test_beam_search_raises_at_a_dead_end() -> None:
    model = Markov(5)
    model.table[:] = -np.inf
    with pytest.raises(ValueError, match="no token can follow"):
        searched(model, [], GenerateOptions(max_tokens=3, beam=2))
    dead_end = Markov(6)
    dead_end.table[:, 4, :] = -np.inf  # nothing can follow 4, not even EOS
    hypotheses = searched(dead_end, [], GenerateOptions(max_tokens=3, beam=9))
    assert hypotheses and all(math.isfinite(h.log_prob) and 4 not in h.ids[:-1] for h in hypotheses)


def test_samples_follow_the_model() -> None:
    n, model = 6000, Markov(6, 4)
    events = list(sampled(model, [[4]] * n, GenerateOptions(max_tokens=3, seed=1)))
    drawn, log_probs = collect(events, n)
    expected = {(*ids, EOS) if ended else ids: p for ids, ended, p in continuations(model, [4], 0, 3)}
    counts = Counter(drawn)
    assert set(counts) <= set(expected) and math.fsum(map(math.exp, expected.values())) == pytest.approx(1)
    for ids, log_prob in expected.items():
        share = math.exp(log_prob)
        assert counts[ids] / n == pytest.approx(share, abs=5 * math.sqrt(share / n) + 1e-3)
    for ids, log_prob in zip(drawn, log_probs, strict=True):
        assert log_prob == pytest.approx(expected[ids])


@pytest.mark.parametrize(("truncations", "no_repeat_ngram"), [
    (GenerateOptions(), 1), (GenerateOptions(top_p=0.8), 2),
    (GenerateOptions(temperature=0.8, typical=0.7), 0)])
def test_samples_follow_the_truncated_model(truncations: GenerateOptions, no_repeat_ngram: int) -> None:
    n, model = 4000, Markov(6, 4)
    options = truncations.replace(max_tokens=3, no_repeat_ngram=no_repeat_ngram, seed=1)
    events = sampled(model, [[4]] * n, options)
    counts = Counter(collect(list(events), n)[0])
    expected: dict[tuple[int, ...], float] = {}

    def enumerate_all(ids: tuple[int, ...], share: float) -> None:
        if share == 0:
            return
        if len(ids) == 4 or ids[-1:] == (EOS,):
            expected[ids[1:]] = share
            return
        past = [0, BOS, *ids]
        probs = softmax(np.where(np.isin(range(6), BANNED), -np.inf, model.table[past[-2], past[-1]]))
        for token in (4, 5):
            if no_repeat_ngram and repeats([*ids, token], no_repeat_ngram):
                probs[token] = 0
        for token, p in enumerate(truncate(probs / probs.sum(), truncations)):
            enumerate_all((*ids, token), share * p)

    enumerate_all((4,), 1.0)
    assert math.fsum(expected.values()) == pytest.approx(1)
    assert set(counts) <= set(expected)
    for ids, share in expected.items():
        assert counts[ids] / n == pytest.approx(share, abs=5 * math.sqrt(share / n) + 1e-3)


def repeats(ids: Sequence[int], n: int) -> bool:
    """Return whether an n-gram is repeated."""
    grams = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
    return len(set(grams)) < len(grams)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_no_ngram_is_repeated(n: int) -> None:
    model, prompts = Markov(9, 6, eos=-2.0), [[4, 5, 6][:i] for i in range(4)] * 5
    events = list(sampled(model, prompts, GenerateOptions(max_tokens=25, no_repeat_ngram=n, seed=3)))
    for prompt, ids in zip(prompts, collect(events, len(prompts))[0], strict=True):
        assert not repeats([*prompt, *ids], n)
    free = sampled(model, prompts, GenerateOptions(max_tokens=25, seed=3))
    assert any(repeats(ids, n) for ids in collect(list(free), 20)[0])
    for event in events:  # log-probabilities are the model's, before repetitions are excluded
        assert event.log_prob < 0
    hypotheses = searched(model, [4, 5], GenerateOptions(max_tokens=4, no_repeat_ngram=n, beam=500))
    everything = continuations(model, [4, 5], 0, 4)
    expected = {(ids, ended): p for ids, ended, p in everything if not repeats([4, 5, *ids], n)}
    actual = {(tuple(h.ids), h.finished): h.log_prob for h in hypotheses}
    assert len(actual) == min(500, len(expected))
    assert all(p == pytest.approx(expected[key]) for key, p in actual.items())
    assert min(actual.values()) >= sorted(expected.values(), reverse=True)[len(actual) - 1] - 1e-9


def test_an_error_if_every_token_would_be_a_repetition() -> None:
    each_once = GenerateOptions(max_tokens=9, min_tokens=9, no_repeat_ngram=1)
    message = r"no_repeat_ngram: every next token would repeat 1 token; choose .* lower min_tokens"
    with pytest.raises(UsageError, match=message):
        list(sampled(Markov(6), [[]], each_once))
    with pytest.raises(UsageError, match=message):
        searched(Markov(6), [], each_once.replace(beam=2))


def collect(events: Sequence[SampledToken], n: int) -> tuple[list[tuple[int, ...]], list[float]]:
    """Collect the tokens of each row, EOS included, and the sum of their log-probabilities."""
    drawn: list[tuple[int, ...]] = [()] * n
    log_probs, ended = [0.0] * n, set()
    for event in events:
        assert event.row not in ended, "a row goes on after its end"
        drawn[event.row] += (event.token,)
        log_probs[event.row] += event.log_prob
        if event.last:
            ended.add(event.row)
    assert ended == set(range(n))
    return drawn, log_probs


@pytest.mark.parametrize("options", [
    GenerateOptions(), GenerateOptions(temperature=0.7, top_p=0.9, repetition_penalty=1.2),
    GenerateOptions(top_k=5, typical=0.8)])
def test_sample_i_depends_on_seed_and_i_alone(options: GenerateOptions) -> None:
    model = Markov(9, 2, eos=0.5)
    prompts = [[4 + i % 5] * (i % 3) for i in range(12)]

    def run(first: int, count: int, seed: int = 7) -> list[tuple[int, ...]]:
        events = sampled(model, prompts[first : first + count], options.replace(max_tokens=15, seed=seed),
                         first_index=first)
        return collect(list(events), count)[0]

    together = run(0, 12)
    assert [run(i, 1)[0] for i in range(12)] == together
    assert run(0, 5) + run(5, 7) == together
    assert run(0, 12, seed=8) != together and run(0, 12, seed=3) == run(0, 12, seed=2**64 + 3)
    assert len(set(together)) > 6


def test_rows_that_end_leave_the_batch_and_tokens_come_at_once() -> None:
    model = Markov(6, 3, eos=1.0)
    events = sampled(model, [[]] * 40, GenerateOptions(max_tokens=50, seed=0))
    first = next(events)
    assert first.row == 0 and model.batches == [40]  # the first token comes before the second step
    rest = list(events)
    drawn, _ = collect([first, *rest], 40)
    assert all(ids[-1] == EOS for ids in drawn)
    assert model.batches == [sum(len(ids) > n for ids in drawn) for n in range(max(map(len, drawn)))]


def test_lengths_and_stop() -> None:
    model = Markov(6, 3, eos=2.0)

    def run(*, stop: Any = None, **lengths: int) -> list[tuple[int, ...]]:
        return collect(list(sampled(model, [[]] * 50, GenerateOptions(**lengths), stop=stop)), 50)[0]

    assert all(len(ids) == 3 and EOS not in ids for ids in run(min_tokens=3, max_tokens=3))
    assert {len(ids) for ids in run(min_tokens=2, max_tokens=4)} == {3, 4}
    assert max(map(len, run(max_tokens=4))) <= 4
    calls: list[list[int]] = [[] for _ in range(50)]

    def stop(row: int, token: int) -> bool:
        calls[row].append(token)
        return token == 5

    for row, ids in enumerate(run(max_tokens=20, stop=stop)):
        assert 5 not in ids[:-1] and (ids[-1] in (5, EOS) or len(ids) == 20)
        assert [token for token in ids if token != EOS] == calls[row]
    assert {len(ids) for ids in calls} >= {1, 2}
    assert list(sampled(model, [], GenerateOptions(max_tokens=1, seed=0))) == []


@pytest.mark.parametrize(("lengths", "message"), [
    ({"min_tokens": 0, "max_tokens": 0}, "max_tokens: expected a whole number of at least 1, found 0"),
    ({"min_tokens": -1, "max_tokens": 3}, "min_tokens: expected a whole number of at least 0, found -1"),
    ({"min_tokens": 4, "max_tokens": 3}, "min_tokens: expected at most 3, the value of max_tokens, found 4"),
    ({"max_tokens": 3, "no_repeat_ngram": -1}, "no_repeat_ngram: expected a .* of at least 0, found -1"),
    ({"beam": -1}, "beam: expected a whole number of at least 0, found -1"),
])
def test_impossible_lengths(lengths: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        GenerateOptions(**lengths)
