"""Arithmetic with log-probabilities, where -inf is a number and makes no nan: softmax, the K largest."""

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
    """Log-probabilities over the last axis. A row of -inf only, which has no distribution, stays -inf."""
    shifted = logits - finite(logits.max(axis=-1, keepdims=True))
    total = np.exp(shifted).sum(axis=-1, keepdims=True)
    total[total == 0] = 1
    log_probs: Floats = shifted - np.log(total)
    return log_probs


def softmax(logits: Floats) -> Floats:
    """Probabilities over the last axis. A row of -inf only gives zeros."""
    return np.exp(log_softmax(logits))


def finite(peak: Floats) -> Floats:
    """What to subtract from a row with this maximum: -inf - -inf would be nan."""
    return np.where(np.isneginf(peak), np.zeros_like(peak), peak)


def top(scores: Floats, k: int) -> tuple[Ints, Floats]:
    """The `k` largest along the last axis, or all if fewer, largest first: places and values (…, k)."""
    places = np.argpartition(-scores, min(k, scores.shape[-1]) - 1, axis=-1)[..., :k]
    values = np.take_along_axis(scores, places, axis=-1)
    falling = np.argsort(-values, axis=-1, kind="stable")
    return np.take_along_axis(places, falling, axis=-1), np.take_along_axis(values, falling, axis=-1)


def pad(rows: Sequence[NDArray[Any]], value: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Rows of ids side by side, (T, B) int64 filled up with `value`, and their lengths (B,) int32; T >= 1."""
    lengths = np.fromiter(map(len, rows), np.int32, len(rows))
    steps = max(1, int(lengths.max(initial=0)))
    padded = np.full((len(rows), steps), value, np.int64)  # (B, T)
    padded[np.arange(steps) < lengths[:, None]] = np.concatenate(rows) if len(rows) else []
    return np.ascontiguousarray(padded.T), lengths


def by_length(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices of records in batches of like length: at most `budget` padded positions, or a single record."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    batch: list[int] = []
    for i in order:
        if batch and (len(batch) + 1) * max(1, lengths[i]) > budget:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
