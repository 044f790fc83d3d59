"""NumPy helpers: softmax and top-k over log-probabilities that may be -inf, padding, batches by length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]  # a batch: arrays by name
Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]
IGNORE = -1  # target of a padded position


def log_softmax(logits: Floats) -> Floats:
    """Return log-probabilities over the last axis. A row that is all -inf stays -inf."""
    shifted = logits - finite_maximum(logits.max(axis=-1, keepdims=True))
    total = np.exp(shifted).sum(axis=-1, keepdims=True)
    total[total == 0] = 1
    log_probs: Floats = shifted - np.log(total)
    return log_probs


def softmax(logits: Floats) -> Floats:
    """Return probabilities over the last axis. A row that is all -inf becomes zeros."""
    return np.exp(log_softmax(logits))


def finite_maximum(maximum: Floats) -> Floats:
    """Replace a maximum of -inf by 0, so that subtracting it from its row gives -inf and not nan."""
    return np.where(np.isneginf(maximum), np.zeros_like(maximum), maximum)


def top_k(scores: Floats, k: int) -> tuple[Ints, Floats]:
    """Return the indices and values of the `k` largest scores along the last axis, largest first, (..., k).

    If the axis is shorter than `k`, all of it is returned.
    """
    indices = np.argpartition(-scores, min(k, scores.shape[-1]) - 1, axis=-1)[..., :k]
    values = np.take_along_axis(scores, indices, axis=-1)
    order = np.argsort(-values, axis=-1, kind="stable")
    return np.take_along_axis(indices, order, axis=-1), np.take_along_axis(values, order, axis=-1)


def pad(rows: Sequence[NDArray[Any]], value: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Stack rows of ids into (T, B) int64, filled up with `value`, T >= 1; also return their lengths (B,)."""
    lengths = np.fromiter(map(len, rows), np.int32, len(rows))
    steps = max(1, int(lengths.max(initial=0)))
    padded = np.full((len(rows), steps), value, np.int64)  # (B, T)
    padded[np.arange(steps) < lengths[:, None]] = np.concatenate(rows) if len(rows) else []
    return np.ascontiguousarray(padded.T), lengths


def by_length(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Group records of similar length into batches, and yield the indices of each batch.

    A padded batch has at most `budget` positions, unless it is a single record.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    batch: list[int] = []
    for i in order:
        if batch and (len(batch) + 1) * max(1, lengths[i]) > budget:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
