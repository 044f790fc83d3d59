"""Dependency trees: the scores of heads, and the tree with the best heads. Knows no network and no files.

`heads` has the head of each word, counted from 1; the head of a root is 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rnntool.data.arrays import Floats, softmax

LONGEST = 1024  # words of a sentence that is parsed whole; the scores need memory for all pairs of words
_NEAREST = 1e-4  # the largest bonus of a nearer head, so that the nearest of equal heads wins


def head_scores(vectors: Floats) -> Floats:
    """Return the score (N, N + 1) of each head of each word, given `vectors` (N, 2 k + 2).

    They hold a vector of the word as a dependent (k,), one of the word as a head (k,), a score of the word as
    a head, and the word's score as the root. The score of a head is the product of both vectors plus that of
    the head: a biaffine function (Dozat and Manning, 2017) whose matrix is part of the vectors. Column 0 is
    the root; a word is never its own head.
    """
    size = vectors.shape[1] // 2 - 1
    dependents, heads, of_head, of_root = np.split(vectors, (size, 2 * size, 2 * size + 1), axis=1)
    scores = np.concatenate([of_root, dependents @ heads.T + of_head.T], axis=1)
    scores[np.arange(len(scores)), np.arange(1, len(scores) + 1)] = -np.inf
    return scores


def best_tree(scores: Floats) -> list[int]:
    """Return the heads of the tree with the highest sum of scores (N, N + 1) and with one root.

    `scores[i, h]` is the score of head h (0 for the root) of word i + 1, which is finite unless h is the word
    itself. If heads have equal scores, the nearest wins. Finds a maximum spanning arborescence (Chu and
    Liu, 1965; Edmonds, 1967).
    """
    size = len(scores)
    weights = np.full((size + 1, size + 1), -np.inf)  # (dependent, head), with the root as word 0
    distances = np.abs(np.subtract.outer(np.arange(1, size + 1), np.arange(size + 1)))
    weights[1:] = scores - distances * (_NEAREST / (size + 1))
    heads: list[int] = _arborescence(weights)[1:].tolist()
    if heads.count(0) > 1:
        # let a root cost more than the heads of all words can gain, so that the best tree has only one
        lowest = np.where(np.isfinite(weights[1:]), weights[1:], np.inf).min(axis=1)
        weights[1:, 0] -= 1 + (weights[1:].max(axis=1) - lowest).sum()
        heads = _arborescence(weights)[1:].tolist()
    return heads


def best_heads(vectors: Floats) -> list[int]:
    """Return the best tree for `vectors`; see `head_scores`.

    A sentence of more than `LONGEST` words is parsed in parts, whose roots depend on the root of the first.
    """
    heads: list[int] = []
    for start in range(0, len(vectors), LONGEST):
        tree = best_tree(head_scores(vectors[start : start + LONGEST]))
        root = heads.index(0) + 1 if heads else 0
        heads += [head + start if head else root for head in tree]
    return heads


def head_probs(vectors: Floats, heads: Sequence[int]) -> list[float]:
    """Return the probability of each head, independent of the others, given `vectors`; see `best_heads`."""
    probs: list[float] = []
    for start in range(0, len(vectors), LONGEST):
        part = softmax(head_scores(vectors[start : start + LONGEST]))
        inside = [head - start if head > start else 0 for head in heads[start : start + LONGEST]]
        probs += part[np.arange(len(part)), inside].tolist()
    return probs


def _arborescence(weights: Floats) -> NDArray[np.intp]:
    """Return the head of each node in the maximum spanning arborescence from node 0; the head of node 0 is 0.

    Contracts cycles of best heads into new nodes until none is left, then opens them in reverse order.
    """
    contracted = []
    while (cycle := _cycle(heads := _best_heads(weights))).any():
        inside, outside = np.flatnonzero(cycle), np.flatnonzero(~cycle)
        of_inside, of_outside = weights[inside], weights[outside]
        gains = of_inside[:, outside] - weights[inside, heads[inside]][:, None]
        leaving = of_outside[:, inside]
        entered, left = gains.argmax(axis=0), leaving.argmax(axis=1)
        smaller = np.full((len(outside) + 1,) * 2, -np.inf)  # the cycle is the last node
        smaller[:-1, :-1] = of_outside[:, outside]
        smaller[-1, :-1] = gains.max(axis=0)
        smaller[:-1, -1] = leaving.max(axis=1)
        contracted.append((outside, inside[entered], inside[left], heads))
        weights = smaller
    for outside, entered, left, best in reversed(contracted):
        size, of_cycle = len(outside), heads[-1]
        opened = best.copy()  # heads inside the cycle
        from_cycle = heads[:-1] == size
        opened[outside] = np.where(from_cycle, left, outside[np.where(from_cycle, 0, heads[:-1])])
        opened[entered[of_cycle]] = outside[of_cycle]
        heads = opened
    return heads


def _best_heads(weights: Floats) -> NDArray[np.intp]:
    heads: NDArray[np.intp] = weights.argmax(axis=1)
    heads[0] = 0
    return heads


def _cycle(heads: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Mark the nodes of a cycle; none if all nodes lead to node 0."""
    head_of: list[int] = heads.tolist()  # single elements of lists are read much faster
    cycle = np.zeros(len(head_of), bool)
    visited_from = [-1] * len(head_of)
    visited_from[0] = 0
    for start in range(1, len(head_of)):
        node = start
        while visited_from[node] < 0:
            visited_from[node] = start
            node = head_of[node]
        if visited_from[node] == start:
            while not cycle[node]:
                cycle[node] = True
                node = head_of[node]
            break
    return cycle
