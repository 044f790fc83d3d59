"""Back-off n-gram models: the tables of ARPA files, and how they are looked up. Knows ids, but no text.

The tables form a trie. A 1-gram has the number of its token; a longer n-gram is found by the number of the
n-gram before its last token, and that token. An n-gram's number is its place among those of its length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]  # of tokens or of n-grams; -1 is none
Numbers = NDArray[np.float32]
NONE = -1


@dataclass(frozen=True, kw_only=True)
class BackoffModel:
    """An n-gram model. All probabilities are natural logarithms.

    If an n-gram is not in the tables, its probability is that of the n-gram without its first token, times
    the back-off weight of the tokens before the last (Katz, 1987).
    """

    keys: list[NDArray[np.uint64]]  # from 2-grams on, rising: number before the last token * V + last token
    log_probs: list[Numbers]  # from 1-grams on
    backoffs: list[Numbers]  # from 1-grams on, without the longest n-grams

    @property
    def order(self) -> int:
        """The length of the longest n-grams."""
        return len(self.log_probs)

    @property
    def vocabulary(self) -> int:
        """The number of tokens."""
        return len(self.log_probs[0])

    @property
    def parameters(self) -> int:
        """The number of probabilities and back-off weights."""
        return sum(map(len, [*self.log_probs, *self.backoffs]))

    def to_tensors(self) -> dict[str, NDArray[Any]]:
        """Return all tables by name, for a file."""
        tables: list[NDArray[Any]] = [*self.keys, *self.log_probs, *self.backoffs]
        return dict(zip(self.names(self.order), tables, strict=True))

    @staticmethod
    def names(order: int) -> list[str]:
        """Return the names of the tables of a model of this order, in the order of `from_tables`."""
        return [f"{name}.{length}" for name, lengths in (
            ("keys", range(2, order + 1)), ("log_probs", range(1, order + 1)), ("backoffs", range(1, order)),
        ) for length in lengths]

    @classmethod
    def from_tables(cls, tables: Sequence[NDArray[Any]]) -> Self:
        """Make a model from the tables in the order of `names`."""
        order = (len(tables) + 2) // 3
        return cls(keys=list(tables[: order - 1]), log_probs=list(tables[order - 1 : 2 * order - 1]),
                   backoffs=list(tables[2 * order - 1 :]))

    def fits(self) -> bool:
        """Whether the tables have the right types and sizes, and name only n-grams that exist."""
        sizes = list(map(len, self.log_probs))
        return (
            all(keys.dtype == np.uint64 and keys.ndim == 1 for keys in self.keys)
            and all(table.dtype == np.float32 and table.ndim == 1 for table in self.log_probs + self.backoffs)
            and list(map(len, self.keys)) == sizes[1:] and list(map(len, self.backoffs)) == sizes[:-1]
            and all(bool((keys[1:] > keys[:-1]).all()) for keys in self.keys)
            and all(not len(keys) or int(keys[-1]) < size * sizes[0]
                    for keys, size in zip(self.keys, sizes, strict=False))
            and not any(len(table) and np.isnan(table).any() for table in self.log_probs + self.backoffs))

    def find(self, length: int, before: Ids, tokens: Ids) -> Ids:
        """Return the numbers of n-grams of a `length` of at least 2, given those `before` the last tokens."""
        table = self.keys[length - 2]
        numbers = np.full(before.shape, NONE, np.int64)
        possible = (before >= 0) & (tokens >= 0)
        wanted = before[possible].astype(np.uint64) * np.uint64(self.vocabulary)
        wanted += tokens[possible].astype(np.uint64)
        by_key = np.argsort(wanted)  # a search in rising order is several times faster
        places = np.empty_like(by_key)
        places[by_key] = np.searchsorted(table, wanted[by_key])
        exists = places < len(table)
        exists[exists] = table[places[exists]] == wanted[exists]
        numbers[possible] = np.where(exists, places, NONE)
        return numbers

    def contexts(self, tokens: Ids) -> list[Ids]:
        """Return the numbers (T, …) of the n-grams that end at each of `tokens` (T, …), for each length.

        The lengths are 1 to the order minus 1. Nothing comes before the first token.
        """
        numbers = [tokens]
        for length in range(2, self.order):
            before = np.concatenate([np.full_like(tokens[:1], NONE), numbers[-1][:-1]])
            numbers.append(self.find(length, before, tokens))
        return numbers[: self.order - 1]

    def score(self, contexts: Sequence[Ids], tokens: Ids) -> Numbers:
        """Return the log-probabilities of `tokens` (T, …) after their contexts (T, …), see `contexts`.

        If a token is also the next one to be read, the next contexts already have the n-grams that it ends.
        """
        scores = self.log_probs[0][tokens]
        # the n-grams that end with these tokens are in the next contexts
        is_read = np.zeros(tokens.shape, np.bool_)
        if contexts:
            is_read[:-1] = contexts[0][1:] == tokens[:-1]
        for length, before in enumerate(contexts, 2):
            numbers, missing = np.full(tokens.shape, NONE, np.int64), before >= 0
            if length < self.order:
                numbers[:-1] = np.where(is_read[:-1], contexts[length - 1][1:], NONE)
                missing &= ~is_read
            numbers[missing] = self.find(length, before[missing], tokens[missing])
            scores[before >= 0] += self.backoffs[length - 2][before[before >= 0]]
            scores[numbers >= 0] = self.log_probs[length - 1][numbers[numbers >= 0]]
        return scores

    def distributions(self, contexts: Sequence[Ids], *, count: int) -> Numbers:
        """Return the log-probabilities (N, V) of all tokens after `count` contexts (N,), see `contexts`."""
        scores = np.tile(self.log_probs[0], (count, 1))
        for length, before in enumerate(contexts, 2):
            rows = np.flatnonzero(before >= 0)
            scores[rows] += self.backoffs[length - 2][before[rows]][:, None]
            size, table = np.uint64(self.vocabulary), self.keys[length - 2]
            first_keys = before[rows].astype(np.uint64) * size
            starts, ends = (np.searchsorted(table, keys) for keys in (first_keys, first_keys + size))
            counts = ends - starts
            # the numbers of all n-grams that continue a context, one context after the other
            offsets = np.repeat(ends - np.cumsum(counts), counts)
            numbers = np.arange(counts.sum()) + offsets
            scores[np.repeat(rows, counts), table[numbers] % size] = self.log_probs[length - 1][numbers]
        return scores
