"""Linear chains: the best path, the K best, marginals and the sum over all paths; no text and no torch.

Emissions (T, B, L), lengths (B,), start (L,), transitions (L, L) as [from, to] and end (L,) are natural
logarithms; -inf is forbidden. Steps past a row's length count for nothing, and the one path of a row of
length 0 is empty, with score 0. Rows are taken longest first: those that reach step t are the first
`active[t]`, so padding costs no time.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rnntool.data.arrays import (
    Floats,
    Ints,
    finite,
    log_softmax,
    top,
)


def viterbi(
    emissions: Floats, lengths: Ints, start: Floats, transitions: Floats, end: Floats
) -> tuple[Ints, npt.NDArray[np.float64]]:
    """The best path of each row (T, B), 0 past its length, and its score (B,), -inf where none is allowed.

    Keeps the forward scores, (T, B, L) as the emissions, and looks for the best predecessor on the way back,
    of the chosen label only.
    """
    paths = np.zeros(emissions.shape[:2], dtype=np.intp)
    order, active = _longest_first(lengths)
    steps, size = len(active) - 1, len(start)
    history = np.empty((steps, size, len(order)), dtype=emissions.dtype)  # (T, L, B) of the best path so far
    for t in range(steps):
        n = active[t]
        if t == 0:
            best = start[:, None]  # (L, 1)
        else:
            ways = history[t - 1, :, None, :n] + transitions[:, :, None]  # (from, to, n)
            best = ways.max(axis=0)
        best = best + emissions[t, order[:n]].T  # (L, n)
        history[t, :, :n] = best - finite(best.max(axis=0))  # stays near 0: a long row would cost digits

    label = np.empty(0, dtype=np.intp)  # (n,) at step t + 1
    for t in range(steps - 1, -1, -1):
        n = active[t]
        onward = np.repeat(end[:, None], n, axis=1)  # (L, n)
        onward[:, : len(label)] = transitions[:, label]
        label = (history[t, :, :n] + onward).argmax(axis=0)
        paths[t, order[:n]] = label
    return paths, _path_scores(paths, emissions, lengths, start, transitions, end)


def marginals(emissions: Floats, lengths: Ints, start: Floats, transitions: Floats, end: Floats) -> Floats:
    """Log-probability of each label at each token (T, B, L), by forward-backward; -inf past the length.

    What is 700 nats less likely than the best may count as impossible.
    """
    log_probs = np.full_like(emissions, -np.inf)
    order, active = _longest_first(lengths)
    onward = np.exp(np.asarray(transitions, dtype=np.float64))  # (from, to)
    alpha: Floats = np.empty((0, len(start)))
    for t, n in enumerate(active[:-1]):
        alpha = (_through(alpha[:n], onward) if t else start) + emissions[t, order[:n]]  # (n, L)
        alpha -= finite(alpha.max(axis=-1, keepdims=True))
        log_probs[t, order[:n]] = alpha

    beta: Floats = np.empty((0, len(start)))  # (n, L) of what follows step t
    for t in range(len(active) - 2, -1, -1):
        rows = order[: active[t]]
        if len(beta):
            beta = _through(beta + emissions[t + 1, rows[: len(beta)]], onward.T)
            beta -= finite(beta.max(axis=-1, keepdims=True))
        beta = np.concatenate([beta, np.broadcast_to(end, (len(rows) - len(beta), len(end)))])
        log_probs[t, rows] = log_softmax(log_probs[t, rows] + beta)
    return log_probs


def log_partition(
    emissions: Floats, lengths: Ints, start: Floats, transitions: Floats, end: Floats
) -> npt.NDArray[np.float64]:
    """Log of the sum over all paths of each row (B,); a path's score minus this is its log-probability."""
    totals = np.zeros(len(lengths))
    order, active = _longest_first(lengths)
    onward = np.exp(np.asarray(transitions, dtype=np.float64))
    alpha: Floats = np.empty((0, len(start)))
    for t, n in enumerate(active[:-1]):
        alpha = (_through(alpha[:n], onward) if t else start) + emissions[t, order[:n]]  # (n, L)
        ending = slice(active[t + 1], n)
        totals[order[ending]] = _through(alpha[ending] + end, np.ones((len(end), 1)))[:, 0]
    return totals


def nbest(
    emissions: Floats, lengths: Ints, start: Floats, transitions: Floats, end: Floats, *, k: int
) -> list[list[tuple[list[int], float]]]:
    """The `k` best paths of each row and their log-probabilities, best first; fewer where fewer are allowed.

    Exact: list Viterbi (Seshadri and Sundberg, 1994) keeps the `k` best ways to each label at each step.
    """
    size = len(start)
    order, active = _longest_first(lengths)
    steps = len(active) - 1
    came = np.empty((steps, len(order), size * k), dtype=np.int32)  # the way at t - 1 before each way at t
    best = np.zeros((len(order), k), dtype=np.intp)  # the ways a row ends with: label * k + rank
    scores = np.full((len(order), k), -np.inf)
    scores[:, 0] = 0.0
    step_scores = np.repeat(np.asarray(transitions, dtype=np.float64).T, k, axis=1)  # (to, from * k)
    ways: Floats = np.empty((0, size * k))
    for t, n in enumerate(active[:-1]):
        if t == 0:
            ways = np.full((n, size, k), -np.inf)  # one way to each label yet
            ways[:, :, 0] = start
        else:
            came_from, ways = top(ways[:n, None, :] + step_scores, k)  # (n, to, from * k) -> (n, to, k)
            came[t, :n] = came_from.reshape(n, size * k)
        ways = (ways + emissions[t, order[:n], :, None]).reshape(n, size * k)
        ending = slice(active[t + 1], n)
        best[ending], scores[ending] = top(ways[ending] + np.repeat(end, k), k)

    paths = np.zeros((steps, len(order), k), dtype=np.intp)
    for t in range(steps - 1, -1, -1):
        n, on = active[t], active[t + 1]
        if on:
            best[:on] = np.take_along_axis(came[t + 1, :on], best[:on], axis=1)
        paths[t, :n] = best[:n] // k

    log_z = log_partition(emissions, lengths, start, transitions, end)
    found: list[list[tuple[list[int], float]]] = [[] for _ in order]
    for place, row in enumerate(order):
        for rank in np.flatnonzero(scores[place] > -np.inf):
            path = paths[: lengths[row], place, rank].tolist()
            found[row].append((path, float(scores[place, rank] - log_z[row])))
    return found


def _longest_first(lengths: Ints) -> tuple[Ints, list[int]]:
    """The rows by falling length (B,), and for t = 0 … max(lengths) how many of them are longer than t."""
    order = np.argsort(lengths, kind="stable")[::-1]
    steps = int(lengths.max(initial=0))
    active = len(lengths) - np.searchsorted(np.sort(lengths), np.arange(steps + 1), side="right")
    return order, active.tolist()


def _path_scores(
    paths: Ints, emissions: Floats, lengths: Ints, start: Floats, transitions: Floats, end: Floats
) -> npt.NDArray[np.float64]:
    steps, rows = np.arange(len(paths))[:, None], np.arange(len(lengths))
    taken = np.take_along_axis(emissions, paths[:, :, None], axis=2)[:, :, 0].astype(np.float64)  # (T, B)
    taken[1:] += transitions[paths[:-1], paths[1:]]
    taken[:1] += start[paths[:1]]
    scores: npt.NDArray[np.float64] = np.where(steps < lengths, taken, 0.0).sum(axis=0)
    if len(paths):
        scores += np.where(lengths > 0, end[paths[np.maximum(lengths, 1) - 1, rows]], 0.0)
    return scores


def _through(scores: Floats, weights: Floats) -> Floats:
    """log(exp(scores) @ weights): (n, L), (L, M) -> (n, M)."""
    peak = finite(scores.max(axis=-1, keepdims=True))
    with np.errstate(divide="ignore"):
        return np.log(np.exp(scores - peak) @ weights) + peak
