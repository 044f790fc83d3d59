"""Search for output sequences, compared with an enumeration of all sequences of tiny models."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rnntool.data.arrays import Arrays, log_softmax
from rnntool.inference.options import GenerateOptions
from rnntool.models.search import Hypothesis, Step, beam_search, sample_sequences

Array = NDArray[Any]
START, END = 0, 1


class Tiny:
    """Records with a table each: the next token depends on the record, the last two tokens, and their number.

    The state holds the last two tokens and the number. The decoder checks that each row has the state and the
    source of its own record.
    """

    def __init__(self, size: int, records: int, *, seed: int = 0, attends: bool = False) -> None:
        rng = np.random.default_rng(seed)
        self.tables = rng.normal(size=(records, size, size, size)) * 2
        self.tables[..., START] = -np.inf
        self.attends = attends
        self.rows: list[int] = []

    def inputs(self, records: Sequence[int]) -> tuple[Arrays, Arrays]:
        """Return the initial state and the source of some records."""
        state = {"past": np.zeros((2, len(records), 1), np.int64), "count": np.zeros(len(records), np.int64)}
        return state, {"record": np.array(records), "memory": np.array(records)[None, :, None]}

    def log_probs(self, record: int, past: Sequence[int]) -> Array:
        """Return the log-probabilities of the token after `past`, which begins with the start."""
        logits = self.tables[record, [START, *past][-2], past[-1]] / (1 + 0.1 * len(past))
        return log_softmax(logits)

    def __call__(self, tokens: Array, state: Arrays, source: Arrays) -> Step:
        """Read a token in each row."""
        self.rows.append(len(tokens))
        assert (source["record"] == source["memory"][0, :, 0]).all()
        past = np.stack([state["past"][1, :, 0], tokens])  # (2, R)
        count = state["count"] + 1
        rows = [log_softmax(self.tables[record, a, b] / (1 + 0.1 * n)) for record, a, b, n in
                zip(source["record"], *past, count, strict=True)]
        attention = np.stack([source["record"], tokens, count], 1) if self.attends else None
        return Step(np.stack(rows), {"past": past[:, :, None], "count": count}, attention)


def search(
    model: Tiny, records: Sequence[int], lengths: Sequence[int], **more: Any
) -> list[list[Hypothesis]]:
    state, source = model.inputs(records)
    return beam_search(model, state, source, start=START, end=END, max_lengths=np.array(lengths), **more)


def exhaustive(model: Tiny, record: int, longest: int, penalty: float) -> list[Hypothesis]:
    """Score every sequence of a record; the best come first."""
    found = []
    size = model.tables.shape[-1]
    for length in range(longest + 1):
        for tokens in itertools.product(range(2, size), repeat=length):
            steps = [*tokens, END] if length < longest else list(tokens)
            past, total = [START], 0.0
            for token in steps:
                total += float(model.log_probs(record, past)[token])
                past.append(token)
            score = total / len(steps)**penalty
            found.append(Hypothesis(list(tokens), total, score, None, length == longest))
    return sorted(found, key=lambda hypothesis: -hypothesis.score)


def greedy(model: Tiny, record: int, longest: int) -> list[int]:
    past = [START]
    while len(past) <= longest:
        token = int(model.log_probs(record, past).argmax())
        if token == END:
            break
        past.append(token)
    return past[1:]


def same(one: Sequence[Hypothesis], other: Sequence[Hypothesis]) -> None:
    assert [h.tokens for h in one] == [h.tokens for h in other]
    assert [h.truncated for h in one] == [h.truncated for h in other]
    for name in ("log_prob", "score"):
        assert [getattr(h, name) for h in one] == pytest.approx([getattr(h, name) for h in other], abs=1e-9)


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(5))
def test_a_wide_beam_equals_exhaustive_search(seed: int, penalty: float) -> None:
    model = Tiny(5, 3, seed=seed)
    lengths = [4, 1, 3]
    results = search(model, [0, 1, 2], lengths, beam=200, n_best=7, length_penalty=penalty)
    for record, (found, longest) in enumerate(zip(results, lengths, strict=True)):
        same(found, exhaustive(model, record, longest, penalty)[:7])


@pytest.mark.parametrize("seed", range(5))
def test_a_beam_of_one_is_greedy(seed: int) -> None:
    model = Tiny(8, 20, seed=seed)
    results = search(model, range(20), [9] * 20)
    for record, (best,) in enumerate(results):
        assert best.tokens == greedy(model, record, 9)
        assert best.truncated == (len(best.tokens) == 9)


@pytest.mark.parametrize("beam", [1, 2, 5])
def test_a_result_does_not_depend_on_the_batch(beam: int) -> None:
    model = Tiny(7, 12, attends=True)
    lengths = [1 + i % 8 for i in range(12)]
    together = search(model, range(12), lengths, beam=beam, n_best=min(3, beam))
    for record in range(12):
        (alone,) = search(model, [record], [lengths[record]], beam=beam, n_best=min(3, beam))
        for one, other in zip(together[record], alone, strict=True):
            assert one[:3] == other[:3]
            assert np.array_equal(one.alignment, other.alignment)


def test_alignments_belong_to_their_tokens() -> None:
    model = Tiny(6, 9, attends=True)
    for record, found in enumerate(search(model, range(9), [6] * 9, beam=4, n_best=4)):
        for hypothesis in found:
            assert hypothesis.alignment is not None
            before = [START, *hypothesis.tokens]  # each token is read at the step after it
            before = before[:-1] if hypothesis.truncated else before
            assert hypothesis.alignment.tolist() == [[record, b, i + 1] for i, b in enumerate(before)]


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), beam=st.integers(1, 6), longest=st.integers(1, 6),
       penalty=st.sampled_from([0.0, 0.5, 1.0]))
def test_hypotheses_are_consistent(seed: int, beam: int, longest: int, penalty: float) -> None:
    model = Tiny(6, 2, seed=seed)
    for record, found in enumerate(search(model, [0, 1], [longest] * 2, beam=beam, n_best=beam,
                                          length_penalty=penalty)):
        assert 1 <= len(found) <= beam
        assert len({tuple(h.tokens) for h in found}) == len(found)
        assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
        for h in found:
            assert START not in h.tokens and END not in h.tokens
            assert h.truncated == (len(h.tokens) == longest)
            steps = h.tokens if h.truncated else [*h.tokens, END]
            total = sum(model.log_probs(record, [START, *steps[:i]])[token] for i, token in enumerate(steps))
            assert h.log_prob == pytest.approx(total, abs=1e-9)
            assert h.score == pytest.approx(total / len(steps)**penalty, abs=1e-9)


def test_the_search_goes_on_while_a_longer_hypothesis_can_win() -> None:
    """The end comes at once with probability 0.6; the best score is that of a longer hypothesis."""
    model = Tiny(3, 1)
    model.tables[:] = -np.inf
    model.tables[0, START, START] = 1.1 * np.log([1e-99, 0.6, 0.4])  # which the model divides by 1.1
    model.tables[0, START, 2, 2] = model.tables[0, 2, 2, 1] = 0  # then 2 2 with certainty
    ((first, second),) = search(model, [0], [6], beam=2, n_best=2)
    assert first.tokens == [2, 2] and first.score == pytest.approx(np.log(0.4) / 3)
    assert second.tokens == [] and second.score == pytest.approx(np.log(0.6))
    ((first, second),) = search(model, [0], [6], beam=2, n_best=2, length_penalty=0)
    assert first.tokens == [] and second.tokens == [2, 2]


def test_records_and_hypotheses_leave_the_batch_when_they_cannot_win() -> None:
    model = Tiny(6, 2)
    model.tables[0, START, START, END] = 50
    search(model, [0, 1], [6, 6], beam=3, length_penalty=0)
    assert model.rows[0] == 2 and model.rows[1] <= 3


def test_ties_are_broken_by_the_lower_token() -> None:
    model = Tiny(6, 1)
    model.tables[:] = 0
    model.tables[..., START] = -np.inf
    ((*found,),) = search(model, [0], [2], beam=4, n_best=4, length_penalty=0)
    assert [h.tokens for h in found] == [[], [2], [2, 2], [2, 3]]


def test_banned_tokens_never_occur_and_an_impossible_step_is_an_error() -> None:
    model = Tiny(6, 4)
    for found in search(model, range(4), [5] * 4, beam=6, n_best=6, banned=[3, 4]):
        assert all({3, 4}.isdisjoint(h.tokens) for h in found)
    with pytest.raises(ValueError, match="no token can follow"):
        search(model, [0], [5], banned=[1, 2, 3, 4, 5])


def test_no_records() -> None:
    assert search(Tiny(4, 1), [], []) == []
    state, source = Tiny(4, 1).inputs([])
    assert sample_sequences(Tiny(4, 1), state, source, start=START, end=END, max_lengths=np.zeros(0, int),
                            options=GenerateOptions(), keys=[]) == []


# --- Sampling ----------------------------------------------------------------------------------------------


def samples(
    model: Tiny, records: Sequence[int], lengths: Sequence[int], *, keys: Sequence[int] | None = None,
    **more: Any,
) -> list[list[Hypothesis]]:
    state, source = model.inputs(records)
    return sample_sequences(model, state, source, start=START, end=END, max_lengths=np.array(lengths),
                            keys=records if keys is None else keys, **more)


def test_samples_have_the_distribution_of_the_model() -> None:
    model = Tiny(4, 1, seed=3)
    (drawn,) = samples(model, [0], [2], options=GenerateOptions(), n=4000)
    counts = Counter(tuple(h.tokens) for h in drawn)
    for h in exhaustive(model, 0, 2, 1.0):
        p = float(np.exp(h.log_prob))
        assert counts[tuple(h.tokens)] / 4000 == pytest.approx(p, abs=5 * np.sqrt(p * (1 - p) / 4000) + 1e-3)


def test_samples_do_not_depend_on_the_batch() -> None:
    model = Tiny(6, 8, seed=1, attends=True)
    lengths = [2 + i for i in range(8)]
    together = samples(model, range(8), lengths, options=GenerateOptions(temperature=1.5), n=3, seed=5)
    for record in range(8):
        (alone,) = samples(model, [record], [lengths[record]], options=GenerateOptions(temperature=1.5), n=3,
                           seed=5)
        for one, other in zip(together[record], alone, strict=True):
            assert one[:3] == other[:3] and np.array_equal(one.alignment, other.alignment)
    assert any(len({tuple(h.tokens) for h in of_record}) == 3 for of_record in together)
    other_seed = samples(model, range(8), lengths, options=GenerateOptions(temperature=1.5), n=3, seed=6)
    assert together[7] != other_seed[7]


def test_a_temperature_of_zero_is_greedy() -> None:
    model = Tiny(6, 5)
    drawn = samples(model, range(5), [7] * 5, options=GenerateOptions(temperature=0))
    for (one,), (best,) in zip(drawn, search(model, range(5), [7] * 5), strict=True):
        same([one], [best])


def test_samples_of_the_same_key_are_the_same() -> None:
    model = Tiny(6, 2)
    one, other = samples(model, [0, 0], [6, 6], keys=[9, 9], options=GenerateOptions(), n=4)
    assert one == other
