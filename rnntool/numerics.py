"""Arithmetic with log-probabilities, where -inf is a number and makes no nan: softmax, the K largest."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]


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
