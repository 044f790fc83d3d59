"""Linear-chain decoding against an enumeration of all paths."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from rnntool.data.arrays import log_softmax, softmax
from rnntool.models.linear_chain import log_partition, marginals, nbest, viterbi

Array = npt.NDArray[Any]


def test_softmax_is_stable() -> None:
    logits = np.array([[1e4, 1e4 - 1, -np.inf], [-1e4, -1e4 - 1, -np.inf]])
    np.testing.assert_allclose(softmax(logits), [[1 / (1 + math.exp(-1)), 1 / (1 + math.e), 0]] * 2)
    np.testing.assert_allclose(np.exp(log_softmax(logits)), softmax(logits))
    assert log_softmax(np.zeros((2, 3, 4), np.float32)).dtype == np.float32
    assert (softmax(np.full((1, 2), -np.inf)) == 0).all() and (
        log_softmax(np.full(2, -np.inf)) == -np.inf
    ).all()


def chain(seed: int, steps: int, batch: int, size: int, *, forbid: float = 0.0) -> tuple[Array, ...]:
    """Return random emissions, lengths (0 and `steps` among them), start, transitions and end."""
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
    """Return all paths of a sequence with their scores, best first."""
    n = int(lengths[row])
    scored = []
    for path in itertools.product(range(len(start)), repeat=n):
        score = sum(float(emissions[t, row, label]) for t, label in enumerate(path))
        score += sum(float(transitions[a, b]) for a, b in itertools.pairwise(path))
        score += float(start[path[0]] + end[path[-1]]) if n else 0.0
        scored.append((path, score))
    return sorted(scored, key=lambda pair: -pair[1])


def path_scores(
    paths: Array, emissions: Array, lengths: Array, start: Array, transitions: Array, end: Array
) -> list[float]:
    """Return the score of the path (T, B) of each sequence."""
    scores = []
    for row, n in enumerate(lengths):
        path = paths[:n, row].tolist()
        score = math.fsum(emissions[t, row, label] for t, label in enumerate(path))
        score += math.fsum(transitions[a, b] for a, b in itertools.pairwise(path))
        scores.append(float(score + start[path[0]] + end[path[-1]]) if path else 0.0)
    return scores


CASES = [(seed, size, forbid) for seed in range(4) for size in (1, 2, 4) for forbid in (0.0, 0.4)]


@pytest.mark.parametrize(("seed", "size", "forbid"), CASES)
def test_decoding_against_all_paths(seed: int, size: int, forbid: float) -> None:
    case = chain(seed, 5, 6, size, forbid=forbid)
    lengths = case[1]
    paths = viterbi(*case)
    scores = path_scores(paths, *case)
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


def test_sequences_do_not_depend_on_the_batch_or_on_padding() -> None:
    emissions, lengths, *rest = chain(1, 40, 7, 5)
    paths = viterbi(emissions, lengths, *rest)
    scores = path_scores(paths, emissions, lengths, *rest)
    log_probs = marginals(emissions, lengths, *rest)
    for row, n in enumerate(lengths):
        alone = emissions[:n, [row]], lengths[[row]], *rest
        np.testing.assert_array_equal(viterbi(*alone)[:, 0], paths[:n, row])
        assert path_scores(viterbi(*alone), *alone)[0] == pytest.approx(scores[row])
        np.testing.assert_allclose(marginals(*alone)[:, 0], log_probs[:n, row], atol=1e-6)


def test_a_very_long_sequence() -> None:
    case = chain(2, 5_000, 2, 3)
    paths = viterbi(*case)
    scores = path_scores(paths, *case)
    [(path, log_prob)] = nbest(*case, k=1)[1]
    assert paths[:, 1].tolist() == path
    assert scores[1] - log_partition(*case)[1] == pytest.approx(log_prob)
    np.testing.assert_allclose(np.exp(marginals(*case)[:, 1]).sum(axis=-1), 1, rtol=1e-5)


def test_empty_batches_and_empty_sequences() -> None:
    for steps, batch in ((0, 2), (3, 0), (3, 2)):
        case = (
            np.zeros((steps, batch, 2), np.float32),
            np.zeros(batch, np.int64),
            np.zeros(2),
            np.eye(2),
            np.zeros(2),
        )
        paths = viterbi(*case)
        assert paths.shape == (steps, batch) and path_scores(paths, *case) == [0.0] * batch
        assert marginals(*case).shape == (steps, batch, 2)
        assert nbest(*case, k=2) == [[([], 0.0)]] * batch
