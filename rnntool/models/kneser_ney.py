"""Modified Kneser-Ney smoothing, interpolated (Chen and Goodman, 1999). Knows ids, but no text.

The definitions are those of KenLM's `lmplz` (Heafield et al., 2013). The adjusted count a(x) of an n-gram x
is the number of different tokens that occur before it, |{v : vx occurs}|. For n-grams of the highest order,
and for those that begin with BOS, it is the number of occurrences. With u = (the tokens before w),

    p(w | u) = (a(uw) - D(a(uw))) / sum_x a(ux) + g(u) p(w | u without its first token)

where D(0) = 0, D(1) = D1, D(2) = D2 and D(c) = D3 for c > 2, and g(u) makes the probabilities sum to
one. 1-grams are interpolated with the uniform distribution over the tokens that can be predicted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnntool.models.backoff import BackoffModel

FALLBACK = (0.5, 1.0, 1.5)  # discounts of an order whose counts don't determine them, as in KenLM
DISCOUNTED = 3  # this count and all larger ones have the same discount


def estimate(
    tokens: NDArray[np.int32], *, order: int, vocabulary: int, start: int, never: tuple[int, ...],
    watch: Callable[[int], None] = lambda length: None,
) -> BackoffModel:
    """Estimate a model from a text of `tokens` (N,), which are ids below `vocabulary`.

    No n-gram reaches back beyond the token `start`; `start` and the tokens in `never` are never predicted.
    Before the n-grams of each length are counted, `watch` receives the length. If the text doesn't begin with
    `start`, one more token, different from all others, is assumed before it.
    """
    watch(1)
    starts = tokens == start
    never = (start, *never)
    keys: list[NDArray[np.uint64]] = []
    log_probs: list[NDArray[np.float32]] = []
    backoffs: list[NDArray[np.float32]] = []
    numbers, counts = tokens, np.bincount(tokens, minlength=vocabulary)  # of the n-grams of each length
    contexts, sizes = np.zeros(vocabulary, np.int32), 1  # of each n-gram: the number without its last token
    shorter = np.full(vocabulary, 1 / (vocabulary - len(never)), np.float32)  # p(w | a shorter context)
    first, last = start, start + 1  # numbers of the n-grams that begin with `start`
    for length in range(1, order + 1):
        adjusted, longer = counts, None
        if length < order:
            watch(length + 1)
            longer = _lengthened(numbers, tokens, starts, vocabulary)
            adjusted = np.bincount(longer.suffixes, minlength=len(counts))
            if len(tokens) >= length and not starts[0] and numbers[length - 1] >= 0:
                adjusted[numbers[length - 1]] += 1  # the token that is assumed before the text
            adjusted[first:last] = counts[first:last]
        if length == 1:
            adjusted[list(never)] = 0
        probs, weights = _interpolate(adjusted, contexts, sizes, shorter)
        if length == 1:
            probs[list(never)] = 0
        else:
            backoffs.append(weights)
        with np.errstate(divide="ignore"):
            log_probs.append(np.log(probs))
        if longer is not None:
            keys.append(longer.keys)
            contexts, sizes = (longer.keys // np.uint64(vocabulary)).astype(np.int32), len(probs)
            shorter = probs[longer.suffixes]
            numbers, counts = longer.numbers, longer.counts
            first, last = np.searchsorted(contexts, (first, last)).tolist()
    return BackoffModel(keys=keys, log_probs=log_probs, backoffs=backoffs)


class _Ngrams(NamedTuple):
    """All n-grams of one length."""

    keys: NDArray[np.uint64]  # see `BackoffModel`
    counts: NDArray[np.int64]  # their occurrences
    suffixes: NDArray[np.int32]  # the numbers of the n-grams without their first token
    numbers: NDArray[np.int32]  # (N,) of the n-gram that ends at each token, -1 if there is none


def _lengthened(
    numbers: NDArray[np.int32], tokens: NDArray[np.int32], starts: NDArray[np.bool_], vocabulary: int
) -> _Ngrams:
    """Add a token to the n-grams with these `numbers`, at each place (N,) in the text of `tokens`."""
    ends = np.flatnonzero((numbers[:-1] >= 0) & ~starts[1:]).astype(np.int32)
    keys = numbers[ends].astype(np.uint64)
    keys *= np.uint64(vocabulary)
    ends += 1
    keys += tokens[ends].astype(np.uint64)
    by_key = np.argsort(keys)
    keys, ends = keys[by_key], ends[by_key]
    del by_key  # free memory: this array and the others are as long as the text
    is_new = np.ones(len(keys), np.bool_)
    np.not_equal(keys[1:], keys[:-1], out=is_new[1:])
    suffixes = numbers[ends[is_new]]
    longer_numbers = np.full(len(tokens), -1, np.int32)
    longer_numbers[ends] = np.cumsum(is_new, dtype=np.int32) - 1
    counts = np.diff(np.append(np.flatnonzero(is_new), len(keys)))
    return _Ngrams(keys[is_new], counts, suffixes, longer_numbers)


def discounts(counts: NDArray[np.integer]) -> tuple[float, ...]:
    """Return the discounts D1, D2 and D3 of n-grams with these adjusted counts (Chen and Goodman, 1999).

    `FALLBACK` if the number of n-grams with a count of 1, 2 or 3 is 0, or a discount is out of range.
    """
    n = np.bincount(np.minimum(counts, DISCOUNTED + 2), minlength=DISCOUNTED + 3)
    if not n[1 : DISCOUNTED + 1].all():
        return FALLBACK
    y = n[1] / (n[1] + 2 * n[2])
    values = tuple(float(k - (k + 1) * y * n[k + 1] / n[k]) for k in range(1, DISCOUNTED + 1))
    return values if all(0 < value <= k for k, value in enumerate(values, 1)) else FALLBACK


def _interpolate(
    adjusted: NDArray[np.integer], contexts: NDArray[np.int32], size: int, shorter: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the probability of each n-gram, and the log of the back-off weight of each context (size,).

    `contexts` are the numbers of the n-grams without their last tokens, and `shorter` the probabilities of
    those without their first tokens. A context that nothing follows has a weight of 1.
    """
    discount = np.array([0, *discounts(adjusted)])[np.minimum(adjusted, DISCOUNTED)]
    totals = np.bincount(contexts, adjusted, minlength=size)
    weights = np.ones(size)
    np.divide(np.bincount(contexts, discount, minlength=size), totals, out=weights, where=totals > 0)
    probs = (adjusted - discount) / np.maximum(totals, 1)[contexts] + weights[contexts] * shorter
    return probs.astype(np.float32), np.log(weights).astype(np.float32)
