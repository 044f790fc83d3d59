"""A linear classifier of words in a window, whose scores are added to the emissions of a tagger's network.

It learns more than a network from a few hundred sentences, and the two make different mistakes. Knows words
and tag scores, but neither networks nor engines.
"""

from __future__ import annotations

import functools
import threading
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rnntool.data import model_file
from rnntool.data.arrays import IGNORE
from rnntool.data.threads import call_after_fork
from rnntool.tasks.ngrams import regression
from rnntool.tasks.word_features import shape

FILE = "window.safetensors"
OFFSETS = (-2, -1, 0, 1, 2)  # of the words that say something about a tag
MOST_WORDS = 100_000  # of training data; with more of them, the network needs no help
MOST_LABELS = 64  # of a column; one with more of them gets no scores
MAX_TYPES = 1 << 15  # word types that are remembered, to limit memory over an endless stream
INVERSE_PENALTY = 5.0  # C of scikit-learn: weight of the loss against half the squared weights
STEPS = 100  # of the optimizer, at most
WORK = 2e10  # products of a feature and a weight that a training takes, unless `STEPS` end it before
WORDS_OF_EQUALS = 15_000  # from how many words a network and a linear classifier learn equally well, about
_AFFIXES = (1, 2, 3, 4)
_EDGE = 0  # row of what lies outside of a sentence


class WindowScores:
    """Scores the tags of a word from its form, affixes and shape, and from the two words on either side.

    Features that no training sentence has do not count. Safe to use from several threads.
    """

    def __init__(
        self, features: NDArray[np.uint32], weights: NDArray[np.int8], scale: NDArray[np.float32],
        bias: NDArray[np.float32], words: int,
    ) -> None:
        """`features` (F,) are rising hashes with their `weights` (F, K).

        The weights are multiplied by `scale` (L,), which is above 0 only for the K labels that have some.
        `bias` is (L,). `words` is the number of training words.
        """
        self._features = features
        self._weights = weights
        self._scale = scale
        self._bias = bias
        self._words = words
        self._scored = np.flatnonzero(scale)  # (K,)
        self.factors = np.ones(len(scale), np.float32)  # (L,) by which the fitted scores were multiplied
        self._lock = threading.Lock()
        self._forget_types()
        call_after_fork(self._forked)

    @classmethod
    def fit(
        cls, sentences: Sequence[Sequence[str]], targets: Sequence[NDArray[np.int32]], sizes: Sequence[int],
        *, label_weights: NDArray[np.float32] | None = None,
    ) -> Self:
        """Fit a logistic regression to the words of sentences, for each column of tags on its own.

        `targets` (words,) are the ids of the tags of each column, or `IGNORE`. `sizes` are the numbers of
        tags of each column. `label_weights` (L,) are weights of the loss.
        """
        features, x = _matrix(sentences)
        if label_weights is None or not len(label_weights):
            label_weights = np.ones(sum(sizes), np.float32)
        weights = np.zeros((len(features), sum(sizes)), np.float32)
        bias = np.zeros(sum(sizes), np.float32)
        ends = np.cumsum(sizes)
        for ids, end, size in zip(targets, ends.tolist(), sizes, strict=True):
            has_tag = ids != IGNORE
            if 1 < size <= MOST_LABELS and has_tag.any():
                column = slice(end - size, end)
                weights[:, column], bias[column] = regression(
                    x[has_tag], np.eye(size, dtype=np.float32)[ids[has_tag]], label_weights[column],
                    multi_label=False, inverse_penalty=INVERSE_PENALTY, steps=STEPS, work=WORK)
        is_scored = weights.any(axis=0) | (bias != 0)  # (L,)
        largest = np.maximum(np.abs(weights).max(axis=0, initial=0), 1e-9)
        scale = np.where(is_scored, largest / 127, 0).astype(np.float32)
        rounded = np.rint(weights[:, is_scored] / scale[is_scored]).astype(np.int8)
        counts = rounded.any(axis=1)
        return cls(features[counts], rounded[counts], scale, bias, x.shape[0])

    def save(self, folder: Path) -> None:
        """Write the weights."""
        from safetensors.numpy import save

        tensors: dict[str, NDArray[Any]] = {
            "features": self._features, "weights": self._weights, "scale": self._scale, "bias": self._bias,
            "words": np.array([self._words])}
        (folder / FILE).write_bytes(save(tensors))

    @classmethod
    def load(cls, folder: Path, *, outputs: int) -> Self:
        """Read what `save` wrote; `ModelError` if it is damaged or has another number of outputs."""
        path = folder / FILE
        features, weights, scale, bias, words = model_file.read_tensors(
            path, ("features", "weights", "scale", "bias", "words"))
        count = features.shape[:1]
        scored = np.count_nonzero(scale)
        shapes = (features.shape, weights.shape, scale.shape, bias.shape, words.shape)
        if shapes != (count, (*count, scored), (outputs,), (outputs,), (1,)):
            raise model_file.damaged(path, f"doesn't fit {outputs} outputs")
        return cls(features, weights, scale, bias, int(words[0]))

    @property
    def expected_weight(self) -> float:
        """The weight of the scores beside the emissions of a network, as far as can be known.

        The fewer the words, the better is the linear classifier compared with the network.
        """
        return float(np.clip((WORDS_OF_EQUALS / max(1, self._words)) ** 0.5, 0.5, 2.5))

    def multiply(self, factors: NDArray[np.float32]) -> None:
        """Multiply the scores of each label by a factor of its own (L,)."""
        self.factors = self.factors * factors
        self._scale, self._bias = self._scale * factors, self._bias * factors
        self._forget_types()

    def scores(self, sentences: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        """Return the scores (T, N, L) of the tags of each word; those after the end of a sentence are 0."""
        lengths = np.fromiter(map(len, sentences), np.intp, len(sentences))
        reach = OFFSETS[-1]
        rows = np.full((max(1, int(lengths.max(initial=0))) + 2 * reach, len(sentences)), _EDGE, np.intp)
        with self._lock:
            if len(self._types) > MAX_TYPES:
                self._forget_types()
            for i, words in enumerate(sentences):
                rows[reach : reach + len(words), i] = [self._types.get(word) or self._add(word)
                                                       for word in words]
            table = self._table
        count = len(rows) - 2 * reach
        scored = np.broadcast_to(self._bias[self._scored], (count, len(sentences), len(self._scored))).copy()
        for k, offset in enumerate(OFFSETS):
            scored += table[rows[reach + offset : reach + offset + count], k]
        total = np.zeros((count, len(sentences), len(self._bias)), np.float32)
        total[..., self._scored] = scored
        total[np.arange(count)[:, None] >= lengths] = 0
        return total

    def _forked(self) -> None:
        self._lock = threading.Lock()  # a thread that doesn't exist here may have held it
        self._forget_types()

    def _forget_types(self) -> None:
        """Start a new table: word types, and what each adds to the tags of a word at each offset from it."""
        self._types: dict[str, int] = {}
        self._table = np.zeros((1024, len(OFFSETS), len(self._scored)), np.float32)
        self._table[_EDGE] = self._sums(map(_edge_features, OFFSETS))

    def _add(self, word: str) -> int:
        """Add a word type to the table and return its row; rows that were returned before do not change."""
        row = len(self._types) + 1
        if row == len(self._table):
            self._table = np.concatenate([self._table, np.zeros_like(self._table)])
        self._table[row] = self._sums(_features(word, offset) for offset in OFFSETS)
        self._types[word] = row
        return row

    def _sums(self, features: Iterable[NDArray[np.uint32]]) -> NDArray[np.float32]:
        """Return the summed weights (offsets, K) of the features for each of the `OFFSETS`."""
        scale = self._scale[self._scored]
        sums = np.zeros((len(OFFSETS), len(scale)), np.float32)
        for row, hashes in zip(sums, features, strict=True):
            at = np.minimum(np.searchsorted(self._features, hashes), max(0, len(self._features) - 1))
            rows = at[self._features[at] == hashes] if len(self._features) else at[:0]
            row[:] = self._weights[rows].sum(axis=0, dtype=np.int32) * scale
        return sums


def _features(word: str, offset: int) -> NDArray[np.uint32]:
    """Return hashes of what a word says about the tag of the word from which it has this offset."""
    lower, is_capitalized = word.lower(), word[:1].isupper()
    if offset:
        names = [f"w{lower}", f"s{lower[-3:]}", *(["c"] if is_capitalized else [])]
    else:
        names = [f"w{lower}", f"W{word}", f"#{shape(word)}",
                 *(f"<{word[:size]}" for size in _AFFIXES if size <= len(word)),
                 *(f">{word[-size:]}" for size in _AFFIXES if size <= len(word)),
                 *(["c"] if is_capitalized else []), *(["u"] if word.isupper() else []),
                 *(["-"] if "-" in word else []), *(["d"] if any(map(str.isdigit, word)) else [])]
    return _hashes(offset, names)


def _edge_features(offset: int) -> NDArray[np.uint32]:
    return _hashes(offset, ["edge"] if offset else [])


def _hashes(offset: int, names: Sequence[str]) -> NDArray[np.uint32]:
    return np.array([zlib.crc32(f"{offset}{name}".encode("utf-8", "surrogatepass")) for name in names],
                    np.uint32)


def _matrix(sentences: Sequence[Sequence[str]]) -> tuple[NDArray[np.uint32], Any]:
    """Return the features (F,) of sentences, and a sparse matrix (words, F) with 1 where a word has one."""
    from scipy import sparse

    features_of = functools.cache(_features)
    edges = {offset: _edge_features(offset) for offset in OFFSETS}
    rows = [np.concatenate([
                features_of(words[i + offset], offset) if 0 <= i + offset < len(words) else edges[offset]
                for offset in OFFSETS])
            for words in sentences for i in range(len(words))]
    features, columns = np.unique(np.concatenate(rows), return_inverse=True)
    ends = np.cumsum([0, *map(len, rows)])
    ones = np.ones(len(columns), np.float32)
    return features, sparse.csr_matrix((ones, columns, ends), shape=(len(rows), len(features)))
