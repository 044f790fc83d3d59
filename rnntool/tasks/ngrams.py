"""A linear classifier of n-grams, whose scores are added to those of a classifier's network.

It learns more than a network from a few hundred texts, and the two make different mistakes (Mesnil et al.
2014). Knows words and label scores, but neither networks nor engines.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rnntool.data import model_file
from rnntool.data.threads import call_after_fork

FILE = "ngrams.safetensors"
CHARACTER_SIZES = (2, 3, 4, 5)  # of n-grams of characters within a word
MAX_FEATURES = 200_000
MAX_WEIGHTS = 1 << 22  # features times labels; the features of fewest texts are left out
MAX_NGRAMS = 20_000_000  # of all training texts together; further texts are left out
MAX_TYPES = 1 << 15  # word types that are remembered, to limit memory over an endless stream
INVERSE_PENALTY = 20.0  # C of scikit-learn: weight of the loss against half the squared weights
STEPS = 50  # of the optimizer, at most
WORK = 2e9  # products of a feature and a weight that a training takes, unless `STEPS` end it before
TEXTS_OF_EQUALS = 5000  # from how many texts a network and n-grams learn equally well, about
_WORD_SEED, _CHARACTER_SEED = 1, 2  # a word and an equal part of another word have different hashes
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio (Fibonacci hashing, Knuth 1973)
_BLOCKS = 2  # words and pairs of words, and n-grams of characters


class NGrams:
    """Scores labels from the words, the pairs of neighboring words, and the n-grams of characters of a text.

    Features are weighted by inverse document frequency; those that no training text has do not count. The
    two blocks of features, of words and of characters, are each divided by their length. Safe to use from
    several threads.
    """

    def __init__(
        self, features: NDArray[np.uint32], weights: NDArray[np.int8], scale: NDArray[np.float32],
        idf: NDArray[np.float32], bias: NDArray[np.float32], texts: int,
    ) -> None:
        """`features` (F,) are rising hashes with their `idf` (F,) and their `weights` (F, L).

        The weights are multiplied by `scale` (L,); `bias` is (L,). `texts` is the number of training texts.
        """
        self._features = features
        self._weights = weights
        self._scale = scale
        self._idf = idf
        self._bias = bias
        self._texts = texts
        self.factor = 1.0  # by which the fitted scores were multiplied
        # what a feature adds to a text: its label scores, and its square, which makes up the length
        self._rows = np.zeros((len(idf) + 1, len(scale) + 1), np.float32)  # the last row is for no feature
        self._rows[:-1, -1] = idf**2
        self._weigh_rows()
        self._lock = threading.Lock()
        self._forget_types()
        call_after_fork(self._forked)

    @classmethod
    def fit(
        cls, texts: Sequence[Sequence[str]], targets: NDArray[np.float32], *, multi_label: bool,
        label_weights: NDArray[np.float32] | None = None,
    ) -> Self:
        """Fit a logistic regression to texts, as words, and their `targets` (N, L), which are 0 or 1.

        `multi_label` fits each label on its own. `label_weights` (L,) are weights of the loss.
        """
        labels = targets.shape[1]
        features, x, idf = _weighted_features(texts, limit=min(MAX_FEATURES, MAX_WEIGHTS // labels))
        if label_weights is None or not len(label_weights):
            label_weights = np.ones(labels, np.float32)
        weights, bias = regression(
            x, targets[: x.shape[0]], label_weights, multi_label=multi_label,
            inverse_penalty=INVERSE_PENALTY, steps=STEPS, work=WORK)
        scale = (np.maximum(np.abs(weights).max(axis=0), 1e-9) / 127).astype(np.float32)
        return cls(features, np.rint(weights / scale).astype(np.int8), scale, idf, bias, len(texts))

    def save(self, folder: Path) -> None:
        """Write the weights."""
        from safetensors.numpy import save

        tensors: dict[str, NDArray[Any]] = {
            "features": self._features, "weights": self._weights, "scale": self._scale, "idf": self._idf,
            "bias": self._bias, "texts": np.array([self._texts])}
        (folder / FILE).write_bytes(save(tensors))

    @classmethod
    def load(cls, folder: Path, *, labels: int) -> Self:
        """Read what `save` wrote; `ModelError` if it is damaged or has another number of labels."""
        path = folder / FILE
        features, weights, scale, idf, bias, texts = model_file.read_tensors(
            path, ("features", "weights", "scale", "idf", "bias", "texts"))
        count = features.shape[:1]
        shapes = (features.shape, weights.shape, scale.shape, idf.shape, bias.shape, texts.shape)
        if shapes != (count, (*count, labels), (labels,), count, (labels,), (1,)):
            raise model_file.damaged(path, f"doesn't fit {labels} labels")
        return cls(features, weights, scale, idf, bias, int(texts[0]))

    @property
    def expected_weight(self) -> float:
        """The weight of the scores beside those of a network with the same spread, as far as can be known.

        The fewer the texts, the better are the n-grams compared with the network.
        """
        return float(np.clip((TEXTS_OF_EQUALS / self._texts) ** 0.5, 0.5, 3.0))

    def multiply(self, factor: float) -> None:
        """Multiply all scores by a factor."""
        self.factor *= factor
        self._scale, self._bias = self._scale * np.float32(factor), self._bias * np.float32(factor)
        self._weigh_rows()
        self._forget_types()

    def _weigh_rows(self) -> None:
        self._rows[:-1, :-1] = self._weights * (self._scale * self._idf[:, None])

    def scores(self, texts: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        """Return the scores (B, L) of labels for texts, as words."""
        lengths = np.fromiter(map(len, texts), np.intp, len(texts))
        text_of = np.repeat(np.arange(len(texts)), lengths)  # (N,), of each word
        with self._lock:
            if len(self._types) > MAX_TYPES:
                self._forget_types()
            rows = np.fromiter((self._types.get(word) or self._add(word) for text in texts for word in text),
                               np.intp, len(text_of))
            hashes, table = self._hashes, self._table
        sums = np.zeros((_BLOCKS, len(texts), self._rows.shape[1]), np.float32)
        for block in range(_BLOCKS):
            _add_segments(sums[block], table[rows, block], text_of)
        kept = np.flatnonzero(hashes[rows])
        hashes, text_of = hashes[rows[kept]], text_of[kept]
        within = np.flatnonzero(text_of[1:] == text_of[:-1])
        pairs = self._find(_pair_hash(hashes[within], hashes[within + 1]))
        _add_segments(sums[0], self._rows[pairs], text_of[within])
        scores = sums[..., :-1] / np.sqrt(np.maximum(sums[..., -1:], 1e-12))
        total: NDArray[np.float32] = scores[0] + scores[1] + self._bias
        return total

    def _forked(self) -> None:
        self._lock = threading.Lock()  # a thread that doesn't exist in this process may hold the old one
        self._forget_types()

    def _forget_types(self) -> None:
        self._types: dict[str, int] = {"": 0}
        self._hashes = np.zeros(1024, np.uint64)
        self._table = np.zeros((1024, _BLOCKS, self._rows.shape[1]), np.float32)

    def _add(self, word: str) -> int:
        """Add a word type to the table and return its row; rows that were returned before do not change."""
        if not word:
            return 0
        row = len(self._types)
        if row == len(self._hashes):
            self._hashes = np.concatenate([self._hashes, np.zeros_like(self._hashes)])
            self._table = np.concatenate([self._table, np.zeros_like(self._table)])
        word_hash, character_hashes = _hashes(word)
        if word_hash:
            self._table[row, 0] = self._rows[self._find(np.array([word_hash], np.uint64))[0]]
        self._table[row, 1] = self._rows[self._find(character_hashes)].sum(axis=0)
        self._hashes[row] = word_hash
        self._types[word] = row
        return row

    def _find(self, hashes: NDArray[np.uint64]) -> NDArray[np.intp]:
        """Return the row of each feature; the last row for one that no training text has."""
        at = np.searchsorted(self._features, hashes.astype(np.uint32))
        at_feature = np.minimum(at, len(self._features) - 1)
        return np.where(self._features[at_feature] == hashes, at_feature, len(self._features))


def _hashes(word: str) -> tuple[int, NDArray[np.uint64]]:
    """Return the hash of a word, and those of its n-grams of characters.

    The first is 0 for a single letter or mark in ASCII, which says too little to be a feature.
    """
    lower = word.lower()
    padded = f" {lower} "
    ngrams = [padded[i : i + size] for size in CHARACTER_SIZES if size < len(padded)
              for i in range(len(padded) - size + 1)]
    if len(padded) <= CHARACTER_SIZES[-1]:
        ngrams.append(padded)
    counts = len(lower) > 1 or not lower.isascii()
    return (_crc(lower, _WORD_SEED) or 1 if counts else 0,
            np.array([_crc(ngram, _CHARACTER_SEED) for ngram in ngrams], np.uint64))


def _crc(text: str, seed: int) -> int:
    return zlib.crc32(text.encode("utf-8", "surrogatepass"), seed)


def _pair_hash(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return a hash of 32 bits for each pair of words, given their hashes."""
    return ((first * _GOLDEN) ^ second) * _GOLDEN >> np.uint64(32)  # wraps around


def _add_segments(sums: NDArray[np.float32], values: NDArray[np.float32], segments: NDArray[np.intp]) -> None:
    """Add `values` (N, D) to the rows of `sums` that the rising numbers in `segments` (N,) name."""
    if len(segments):
        starts = np.flatnonzero(np.diff(segments, prepend=-1))
        sums[segments[starts]] += np.add.reduceat(values, starts, axis=0)


def _weighted_features(
    texts: Sequence[Sequence[str]], *, limit: int
) -> tuple[NDArray[np.uint32], Any, NDArray[np.float32]]:
    """Return the features (F,) of texts, a sparse matrix (N, F) of their weights, and their idf (F,).

    The matrix has fewer texts if these have more than `MAX_NGRAMS`.
    """
    from scipy import sparse

    blocks = _hashed(texts)
    features, texts_with = np.unique(
        np.concatenate([np.unique(np.concatenate(rows)) for rows in zip(*blocks, strict=True)]),
        return_counts=True)
    if len(features) > limit:
        # the features of fewest texts are left out
        kept = np.sort(np.argsort(-texts_with, kind="stable")[:limit])
        features, texts_with = features[kept], texts_with[kept]
    idf = (np.log((1 + len(blocks[0])) / (1 + texts_with)) + 1).astype(np.float32)
    weighted = []
    for rows in blocks:
        row_of = np.repeat(np.arange(len(rows)), list(map(len, rows)))
        hashes = np.concatenate(rows)
        column_of = np.minimum(np.searchsorted(features, hashes), len(features) - 1)
        is_kept = features[column_of] == hashes
        place = row_of[is_kept], column_of[is_kept]
        counts = sparse.csr_matrix(
            (np.ones(len(place[0]), np.float32), place), shape=(len(rows), len(features)))
        lengths = np.sqrt(np.maximum(counts @ idf**2, 1e-12))
        weighted.append(sparse.diags(1 / lengths) @ counts @ sparse.diags(idf))
    return features.astype(np.uint32), sum(weighted).tocsr().astype(np.float32), idf


def _hashed(texts: Sequence[Sequence[str]]) -> tuple[list[NDArray[np.uint64]], list[NDArray[np.uint64]]]:
    """Return the hashes of the two blocks of features of each text, as far as `MAX_NGRAMS` allows."""
    types: dict[str, tuple[int, NDArray[np.uint64]]] = {}
    words_and_pairs, characters, total = [], [], 0
    for words in texts:
        hashed = [types.get(word) or types.setdefault(word, _hashes(word)) for word in words]
        kept = np.array([word_hash for word_hash, _ in hashed if word_hash], np.uint64)
        words_and_pairs.append(np.concatenate([kept, _pair_hash(kept[:-1], kept[1:])]))
        characters.append(np.concatenate([kept[:0], *(ngrams for _, ngrams in hashed)]))
        total += len(words_and_pairs[-1]) + len(characters[-1])
        if total > MAX_NGRAMS:
            break
    return words_and_pairs, characters


def regression(
    x: Any, targets: NDArray[np.float32], label_weights: NDArray[np.float32], *, multi_label: bool,
    inverse_penalty: float, steps: int, work: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the weights (F, L) and the bias (L,) of a penalized logistic regression (by L-BFGS).

    Minimizes `inverse_penalty` times the cross-entropy of `targets` (N, L) under the features `x` (N, F),
    plus half the squared weights. Stops after so many `steps`, or so many products of a feature and a weight.
    """
    from scipy.optimize import minimize
    from scipy.special import log_expit, log_softmax

    columns = np.unique(x.indices)
    used = x[:, columns].tocsr()
    transposed = used.T.tocsr()
    labels = targets.shape[1]
    loss_weights = inverse_penalty * (label_weights if multi_label else (targets @ label_weights)[:, None])

    def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        solution = flat.astype(np.float32).reshape(-1, labels)
        weights, bias = solution[:-1], solution[-1]
        scores = used @ weights + bias
        if multi_label:
            losses = -(targets * log_expit(scores) + (1 - targets) * log_expit(-scores))
            slopes = np.exp(log_expit(scores)) - targets
        else:
            log_probs = log_softmax(scores, axis=1)
            losses, slopes = -targets * log_probs, np.exp(log_probs) - targets
        slopes = loss_weights * slopes
        gradient = np.vstack([transposed @ slopes + weights, slopes.sum(axis=0)])
        loss = float((loss_weights * losses).sum(dtype=np.float64) + (weights**2).sum(dtype=np.float64) / 2)
        return loss, gradient.ravel().astype(np.float64)

    steps = max(10, min(steps, int(work / (2 * used.nnz * labels + 1))))
    start = np.zeros((len(columns) + 1) * labels)
    result = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": steps, "maxcor": 6})
    solution = result.x.astype(np.float32).reshape(-1, labels)
    weights = np.zeros((x.shape[1], labels), np.float32)
    weights[columns] = solution[:-1]
    return weights, solution[-1]
