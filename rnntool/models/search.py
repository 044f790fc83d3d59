"""Beam search, greedy search and sampling of output sequences. Knows no text, no torch and no ONNX.

A decoder is a function that reads one token in each of R rows. Several rows may belong to one of N records.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnntool.data.arrays import Arrays, Floats, Ints
from rnntool.models.sampling import DRAWS, SamplingOptions, Scores, random_generator, sample, top_ids

BLOCK = 32  # steps for which random numbers are drawn at once


class Step(NamedTuple):
    """What a decoder computes for R rows in one step."""

    log_probs: Floats  # (R, V) of the next token, in nats; the search may change them
    state: Arrays  # the new state
    attention: Floats | None = None  # (R, T) weight of each source position


# (tokens (R,), state, source) -> Step. A state changes with each token, a source does not. Their arrays have
# R rows on axis 1, or on axis 0 if they are vectors.
Decoder = Callable[[NDArray[np.int64], Arrays, Arrays], Step]


class Hypothesis(NamedTuple):
    """An output sequence."""

    tokens: list[int]  # without start and end
    log_prob: float  # nats; includes the end unless the sequence is truncated
    score: float  # the log-probability divided by a power of the length
    alignment: Floats | None  # (U, T) attention at each token, and at the end unless it is truncated
    truncated: bool  # whether it reached the largest length before its end


_NODE = np.dtype([  # the last step of a sequence
    ("score", np.float64), ("log_prob", np.float64), ("length", np.int32), ("parent", np.int32),
    ("token", np.int32), ("truncated", np.bool_)])


class _Steps:
    """All steps of a search; a sequence is found by walking back from its last step."""

    def __init__(self) -> None:
        self.attention: list[Floats | None] = []  # (R, T) of the rows of each step
        self._parents: list[Ints] = []  # the row of a step from which each row of the next step comes
        self._tokens: list[Ints] = []  # the token that each row of the next step begins with

    def add(self, parents: Ints, tokens: Ints) -> None:
        """Record how the rows of the next step begin."""
        self._parents.append(parents)
        self._tokens.append(tokens)

    def hypotheses(self, nodes: NDArray[Any]) -> list[Hypothesis]:
        """Return the sequences that end in these nodes (M,)."""
        lengths, rows = nodes["length"], nodes["parent"].copy()
        longest = int(lengths.max(initial=0))
        tokens = np.zeros((len(nodes), longest), np.int64)
        attention = self.attention[0] if self.attention else None
        alignments = None if attention is None else np.zeros(
            (len(nodes), longest, attention.shape[1]), attention.dtype)
        for step in range(longest, 0, -1):
            last, inside = np.flatnonzero(lengths == step), np.flatnonzero(lengths > step)
            tokens[last, step - 1] = nodes["token"][last]
            if len(inside):
                tokens[inside, step - 1] = self._tokens[step - 1][rows[inside]]
                rows[inside] = self._parents[step - 1][rows[inside]]
            weights = self.attention[step - 1]
            if alignments is not None and weights is not None:
                present = np.concatenate([last, inside])
                alignments[present, step - 1] = weights[rows[present]]
        sizes = (lengths - ~nodes["truncated"]).tolist()  # the end is no token of a hypothesis
        columns = (nodes[name].tolist() for name in ("log_prob", "score", "truncated"))
        return [
            Hypothesis(row[:size], log_prob, score, None if alignments is None else alignments[i, :length],
                       truncated)
            for i, (row, size, length, log_prob, score, truncated) in enumerate(
                zip(tokens.tolist(), sizes, lengths.tolist(), *columns, strict=True))]


def beam_search(
    decoder: Decoder, state: Arrays, source: Arrays, *, start: int, end: int, max_lengths: Ints,
    beam: int = 1, n_best: int = 1, length_penalty: float = 1.0, banned: Sequence[int] = (),
) -> list[list[Hypothesis]]:
    """Search the best output sequences of N records; return up to `n_best` for each, the best one first.

    `state` and `source` have a row for each record. Each step keeps the `beam` (at least `n_best`) most
    probable continuations of the unfinished hypotheses of a record. A beam of 1 is greedy search, and one as
    wide as the search space is exact. All hypotheses are ranked by their score: the log-probability divided
    by `length ** length_penalty`, where the length counts the end. Among equal ones, shorter ones win. A
    hypothesis is truncated at the largest length of its record (N,), which must be at least 1. `banned`
    tokens never occur.

    A record leaves the batch when no unfinished hypothesis can become one of its best. Its result doesn't
    depend on the other records. ValueError if no token can follow.
    """
    width = max(beam, n_best)
    limits = np.asarray(max_lengths, np.float64) ** length_penalty  # (N,)
    best = np.zeros((len(max_lengths), n_best), _NODE)
    best["score"] = -np.inf
    steps = _Steps()
    records = np.arange(len(max_lengths))  # (R,) the record of each row, ascending
    totals = np.zeros(len(records))  # (R,) log-probability of the row's tokens
    tokens = np.full(len(records), start, np.int64)
    of_rows = source
    for n in count(1) if len(records) else ():
        log_probs, state, attention = decoder(tokens, state, of_rows)
        steps.attention.append(attention)
        values, parents, tokens, firsts = _continuations(log_probs, totals, records, width, banned)  # (M, W)
        open_records = records[firsts]  # (M,)

        possible = values > -np.inf
        ends = possible & (tokens == end)
        cut = possible & ~ends & (n >= max_lengths[open_records])[:, None]
        if (complete := ends | cut).any():
            nodes = np.zeros(values.shape, _NODE)
            nodes["score"] = np.where(complete, values / n**length_penalty, -np.inf)
            nodes["log_prob"], nodes["length"], nodes["parent"] = values, n, parents
            nodes["token"], nodes["truncated"] = tokens, cut
            best[open_records] = _best(np.concatenate([best[open_records], nodes], axis=1), n_best)

        # log-probabilities only fall, so this is the highest score that a hypothesis can reach
        reachable = values / limits[open_records][:, None]
        alive = possible & ~complete & (reachable > best["score"][open_records, -1:])
        places, _ = alive.nonzero()
        if not len(places):
            break
        totals, parents, tokens, before = values[alive], parents[alive], tokens[alive], records
        records = open_records[places]
        steps.add(parents, tokens)
        state = _rows(state, parents)
        if not np.array_equal(records, before):
            of_rows = _rows(source, records)

    found = best["score"] > -np.inf
    if not found[:, 0].all():
        raise ValueError("no token can follow: the log-probabilities of a row are all -inf")
    hypotheses = iter(steps.hypotheses(best[found]))
    return [[next(hypotheses) for _ in range(number)] for number in found.sum(axis=1).tolist()]


def sample_sequences(
    decoder: Decoder, state: Arrays, source: Arrays, *, start: int, end: int, max_lengths: Ints,
    options: SamplingOptions, n: int = 1, seed: int = 0, keys: Sequence[int], length_penalty: float = 1.0,
    banned: Sequence[int] = (),
) -> list[list[Hypothesis]]:
    """Draw `n` output sequences for each of N records, token by token, by the sampling `options`.

    `state` and `source` have a row for each record. A sample depends on the seed, its number, and the key of
    its record among `keys` (N,) alone, and not on the other records. The log-probabilities are those of the
    model, without the options. See `beam_search` for the other parameters. ValueError if no token can follow.
    """
    rows = np.repeat(np.arange(len(max_lengths)), n)  # (R,) the record of each row
    samples = np.arange(len(rows))  # (R,) the sample of each row
    generators = [random_generator(seed, key, i) for key in keys for i in range(n)]
    state, source = _rows(state, rows), _rows(source, rows)
    limits = np.asarray(max_lengths)[rows]
    nodes = np.zeros(len(rows), _NODE)
    steps = _Steps()
    totals = np.zeros(len(rows))
    tokens = np.full(len(rows), start, np.int64)
    uniforms = np.empty((len(rows), 0, DRAWS))
    for length in count(1) if len(rows) else ():
        if not uniforms.shape[1]:
            uniforms = np.stack([generators[i].random((BLOCK, DRAWS)) for i in samples.tolist()])
        logits, state, attention = decoder(tokens, state, source)
        steps.attention.append(attention)
        scores = Scores(logits, np.exp(logits))
        scores.ban(banned)
        tokens, log_probs = sample(scores, uniforms[:, 0], options)
        totals, uniforms = totals + log_probs, uniforms[:, 1:]

        ends = tokens == end
        cut = ~ends & (length >= limits)
        complete = np.flatnonzero(ends | cut)
        columns = (totals / length**length_penalty, totals, np.full(len(rows), length),
                   np.arange(len(tokens)), tokens, cut)
        for name, values in zip(_NODE.names or (), columns, strict=True):
            nodes[name][samples[complete]] = values[complete]
        alive = np.flatnonzero(~(ends | cut))
        if not len(alive):
            break
        steps.add(alive, tokens[alive])
        if len(complete):
            samples, totals, tokens = samples[alive], totals[alive], tokens[alive]
            uniforms, limits = uniforms[alive], limits[alive]
            state, source = _rows(state, alive), _rows(source, alive)
    hypotheses = steps.hypotheses(nodes)
    return [hypotheses[i : i + n] for i in range(0, len(hypotheses), n)]


def _continuations(
    log_probs: Floats, totals: Floats, records: Ints, width: int, banned: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.int64], Ints]:
    """Return the `width` most probable continuations of each of M records, the best first.

    Returns their log-probabilities (M, W), -inf where there are fewer, their rows (M, W) and tokens (M, W),
    and the first row of each record (M,). Among equal ones, earlier rows and then lower tokens come first.
    """
    log_probs[:, banned] = -np.inf
    choices = min(width, log_probs.shape[1])
    ids = top_ids(log_probs, choices)  # (R, C) in ascending order
    # a float32 may be a little above 0, but a longer hypothesis must never be more probable
    of_choices = totals[:, None] + np.minimum(np.take_along_axis(log_probs, ids, axis=1), 0)
    firsts = np.flatnonzero(np.diff(records, prepend=-1))  # (M,)
    sizes = np.diff(firsts, append=len(records))  # (M,) rows of each record
    grid = np.full((len(firsts), int(sizes.max()), choices), -np.inf)
    grid[np.arange(grid.shape[1]) < sizes[:, None]] = of_choices
    grid = grid.reshape(len(firsts), -1)
    order = np.argsort(-grid, axis=1, kind="stable")[:, :width]
    values = np.take_along_axis(grid, order, axis=1)
    slots, chosen = np.divmod(order, choices)
    rows = np.where(values > -np.inf, firsts[:, None] + slots, 0)
    return values, rows, ids[rows, chosen], firsts


def _best(nodes: NDArray[Any], count: int) -> NDArray[Any]:
    """Return the nodes (M, `count`) with the highest scores, the best first; earlier ones if equal."""
    order = np.argsort(-nodes["score"], axis=1, kind="stable")[:, :count]
    return np.take_along_axis(nodes, order, axis=1)


def _rows(arrays: Arrays, rows: Ints) -> Arrays:
    """Return these rows of each array, on axis 1, or on axis 0 of a vector."""
    return {name: values.take(rows, axis=min(1, values.ndim - 1)) for name, values in arrays.items()}
