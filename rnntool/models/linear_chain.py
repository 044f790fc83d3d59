"""Decoding of linear-chain CRFs in NumPy: Viterbi, n-best lists, marginals and the partition function.

Emissions (T, B, L), lengths (B,), start (L,), transitions (L, L) as [from, to] and end (L,) are natural
logarithms; -inf in the last three forbids a label or a transition. Steps past the length of a sequence are
ignored, and the only path of an empty sequence is the empty path with score 0. Sequences are sorted by
descending length. Step t concerns only the first `active[t]` of them, called n below, so padding costs no
time.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rnntool.data.arrays import Floats, Ints, finite_maximum, log_softmax, top_k


def viterbi(emissions: Floats, lengths: Ints, start: Floats, transitions: Floats, end: Floats) -> Ints:
    """Return the best path of each sequence (T, B), 0 past its length.

    This keeps the forward scores (T, L, B) instead of back-pointers, so that the backward pass computes the
    predecessors of the chosen labels only.
    """
    paths = np.zeros(emissions.shape[:2], dtype=np.intp)
    order, active = _longest_first(lengths)
    steps, size = len(active) - 1, len(start)
    forward = np.empty((steps, size, len(order)), dtype=emissions.dtype)  # best score of a path to each label
    for t in range(steps):
        n = active[t]
        if t == 0:
            best = start[:, None]  # (L, 1)
        else:
            candidates = forward[t - 1, :, None, :n] + transitions[:, :, None]  # (from, to, n)
            best = candidates.max(axis=0)
        best = best + emissions[t, order[:n]].T  # (L, n)
        forward[t, :, :n] = best - finite_maximum(best.max(axis=0))  # near 0: large sums would lose digits

    labels = np.empty(0, dtype=np.intp)  # (n,) at step t + 1
    for t in range(steps - 1, -1, -1):
        n = active[t]
        onward = np.repeat(end[:, None], n, axis=1)  # (L, n)
        onward[:, : len(labels)] = transitions[:, labels]
        labels = (forward[t, :, :n] + onward).argmax(axis=0)
        paths[t, order[:n]] = labels
    return paths


def marginals(emissions: Floats, lengths: Ints, start: Floats, transitions: Floats, end: Floats) -> Floats:
    """Return the log-probability of each label at each token (T, B, L) by the forward-backward algorithm.

    It is -inf past the length, and may be -inf for a label that is 700 nats less likely than the best one.
    """
    log_probs = np.full_like(emissions, -np.inf)
    order, active = _longest_first(lengths)
    weights = np.exp(np.asarray(transitions, dtype=np.float64))  # (from, to)
    alpha: Floats = np.empty((0, len(start)))  # (n, L)
    for t, n in enumerate(active[:-1]):
        alpha = (_log_matmul(alpha[:n], weights) if t else start) + emissions[t, order[:n]]
        alpha -= finite_maximum(alpha.max(axis=-1, keepdims=True))
        log_probs[t, order[:n]] = alpha

    beta: Floats = np.empty((0, len(start)))  # (n, L), scores of the labels after step t
    for t in range(len(active) - 2, -1, -1):
        rows = order[: active[t]]
        if len(beta):
            beta = _log_matmul(beta + emissions[t + 1, rows[: len(beta)]], weights.T)
            beta -= finite_maximum(beta.max(axis=-1, keepdims=True))
        beta = np.concatenate([beta, np.broadcast_to(end, (len(rows) - len(beta), len(end)))])
        log_probs[t, rows] = log_softmax(log_probs[t, rows] + beta)
    return log_probs


def log_partition(
    emissions: Floats, lengths: Ints, start: Floats, transitions: Floats, end: Floats
) -> npt.NDArray[np.float64]:
    """Return the log of the partition function (B,): a path's score minus this is its log-probability."""
    totals = np.zeros(len(lengths))
    order, active = _longest_first(lengths)
    weights = np.exp(np.asarray(transitions, dtype=np.float64))
    alpha: Floats = np.empty((0, len(start)))  # (n, L)
    for t, n in enumerate(active[:-1]):
        alpha = (_log_matmul(alpha[:n], weights) if t else start) + emissions[t, order[:n]]
        last = slice(active[t + 1], n)  # the sequences whose last token this is
        totals[order[last]] = _log_matmul(alpha[last] + end, np.ones((len(end), 1)))[:, 0]
    return totals


def nbest(
    emissions: Floats, lengths: Ints, start: Floats, transitions: Floats, end: Floats, *, k: int
) -> list[list[tuple[list[int], float]]]:
    """Return the `k` best paths of each sequence with their log-probabilities, best first.

    The list is shorter if fewer paths are allowed. Exact: list Viterbi (Seshadri and Sundberg, 1994) keeps
    the `k` best partial paths to each label at each step. A partial path has the index label * k + rank.
    """
    size = len(start)
    order, active = _longest_first(lengths)
    steps = len(active) - 1
    back_pointers = np.empty((steps, len(order), size * k), dtype=np.int32)  # to partial paths at t - 1
    best = np.zeros((len(order), k), dtype=np.intp)  # the partial paths that are chosen at step t
    scores = np.full((len(order), k), -np.inf)
    scores[:, 0] = 0.0
    step_scores = np.repeat(np.asarray(transitions, dtype=np.float64).T, k, axis=1)  # (to, from * k)
    partial: Floats = np.empty((0, size * k))  # (n, L * k) scores of partial paths
    for t, n in enumerate(active[:-1]):
        if t == 0:
            partial = np.full((n, size, k), -np.inf)
            partial[:, :, 0] = start  # only one path to each label
        else:
            predecessors, partial = top_k(partial[:n, None, :] + step_scores, k)  # (n, to, k)
            back_pointers[t, :n] = predecessors.reshape(n, size * k)
        partial = (partial + emissions[t, order[:n], :, None]).reshape(n, size * k)
        last = slice(active[t + 1], n)  # the sequences whose last token this is
        best[last], scores[last] = top_k(partial[last] + np.repeat(end, k), k)

    paths = np.zeros((steps, len(order), k), dtype=np.intp)
    for t in range(steps - 1, -1, -1):
        n, longer = active[t], active[t + 1]
        if longer:
            best[:longer] = np.take_along_axis(back_pointers[t + 1, :longer], best[:longer], axis=1)
        paths[t, :n] = best[:n] // k

    log_z = log_partition(emissions, lengths, start, transitions, end)
    lists: list[list[tuple[list[int], float]]] = [[] for _ in order]
    for place, row in enumerate(order):
        for rank in np.flatnonzero(scores[place] > -np.inf):
            path = paths[: lengths[row], place, rank].tolist()
            lists[row].append((path, float(scores[place, rank] - log_z[row])))
    return lists


def _longest_first(lengths: Ints) -> tuple[Ints, list[int]]:
    """Return the order by descending length (B,), and for t = 0 … T how many sequences are longer than t."""
    order = np.argsort(lengths, kind="stable")[::-1]
    steps = int(lengths.max(initial=0))
    active = len(lengths) - np.searchsorted(np.sort(lengths), np.arange(steps + 1), side="right")
    return order, active.tolist()


def _log_matmul(log_a: Floats, b: Floats) -> Floats:
    """Return log(exp(log_a) @ b): (n, L), (L, M) -> (n, M)."""
    peak = finite_maximum(log_a.max(axis=-1, keepdims=True))
    with np.errstate(divide="ignore"):
        return np.log(np.exp(log_a - peak) @ b) + peak
