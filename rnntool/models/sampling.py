"""Drawing the next token from a model's scores: temperature, truncation, penalties. Knows no text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from rnntool.data.arrays import Floats, Ints

DRAWS = 6  # uniform random numbers reserved for each token; see `_draw`
BLOCK = 128  # probabilities whose sum is searched first, before the search inside the block
_SMALLEST_TEMPERATURE = 1e-20  # sampling is argmax here; smaller values overflow in float32
_SMALLEST_PROBABILITY = 1e-30  # float32 represents it with full precision


class SamplingOptions(Protocol):
    """How tokens are drawn; see `sample`."""

    @property
    def temperature(self) -> float:
        """Divides the logits; 0 takes the most likely token."""

    @property
    def top_k(self) -> int:
        """Number of tokens to draw from, or 0."""

    @property
    def top_p(self) -> float:
        """Probability mass of the tokens to draw from."""

    @property
    def min_p(self) -> float:
        """Smallest probability, as a share of the largest one."""

    @property
    def typical(self) -> float:
        """Probability mass of the typical tokens to draw from."""

    @property
    def repetition_penalty(self) -> float:
        """Divides the logits of tokens that a text already contains."""


class Scores(NamedTuple):
    """A model's scores of the next token, one row for each text."""

    logits: Floats  # (B, V)
    probs: Floats  # (B, V), softmax of the logits; a row may lack a constant factor after `ban`

    def ban(self, ids: Sequence[int]) -> None:
        """Exclude ids in place. ValueError if no id of a row is left."""
        self.logits[:, ids], self.probs[:, ids] = -np.inf, 0
        _restore_precision(self.probs, self.logits)

    def replace_logits(self, rows: Ints, ids: Ints, values: Floats) -> Scores:
        """Return a copy with new logits `values` (N,) at `rows` (N,) and `ids` (N,)."""
        logits, probs = np.array(self.logits), np.array(self.probs)
        with np.errstate(over="ignore"):
            probs[rows, ids] = np.exp(values - self._log_normalizers()[rows])
        logits[rows, ids] = values
        _restore_precision(probs, logits)
        return Scores(logits, probs)

    def log_probs(self, ids: Ints) -> npt.NDArray[np.float64]:
        """Return the log-probability of one token per row (B,), in nats, however small it is."""
        rows = np.arange(len(ids))
        probs = self.probs[rows, ids]
        log_probs = np.log(np.maximum(probs, _SMALLEST_PROBABILITY), dtype=np.float64)
        tiny = np.flatnonzero(probs <= _SMALLEST_PROBABILITY)
        if len(tiny):
            scores = Scores(self.logits[tiny], self.probs[tiny])
            log_probs[tiny] = self.logits[tiny, ids[tiny]] - scores._log_normalizers()
        return log_probs - np.log(_sums(self.probs), dtype=np.float64)

    def _log_normalizers(self) -> Floats:
        """Return for each row (B,) the difference between its logits and the logs of its probabilities."""
        normalizers: Floats = self.logits.max(axis=-1) - np.log(self.probs.max(axis=-1))
        return normalizers


def sample(
    scores: Scores, uniforms: Floats, options: SamplingOptions, *,
    forbidden: Sequence[Sequence[int]] | None = None, seen: npt.NDArray[np.bool_] | None = None,
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Draw a token for each row of scores (B, V) with its random numbers `uniforms` (B, DRAWS) in [0, 1).

    The sampling options apply in this order: `repetition_penalty` (Keskar et al., 2019) for the tokens that
    `seen` (B, V) marks, `temperature`, `top_k`, `top_p` (Holtzman et al., 2020), `min_p`, `typical` (Meister
    et al., 2023). `forbidden` lists the ids that each row must not get. A row's token does not depend on the
    other rows.

    Returns the tokens (B,) and the log-probabilities (B,) that the model itself gives them, in nats: from
    `scores` as they are, before any option applies. ValueError if a row has no token to draw.
    """
    adapted = scores
    if options.repetition_penalty != 1 and seen is not None:
        rows, ids = np.divmod(np.flatnonzero(seen), seen.shape[1])  # much faster than `nonzero`
        logits, penalty = adapted.logits[rows, ids], options.repetition_penalty
        adapted = adapted.replace_logits(rows, ids, np.where(logits > 0, logits / penalty, logits * penalty))
    pairs = [(row, id) for row, ids_of_row in enumerate(forbidden or ()) for id in ids_of_row]
    if pairs:
        rows, ids = np.array(pairs, np.intp).T
        adapted = adapted.replace_logits(rows, ids, np.full(len(pairs), -np.inf, adapted.logits.dtype))
    tokens = _pick(adapted, uniforms, options)
    return tokens, scores.log_probs(tokens)


def random_generator(seed: int, *numbers: int) -> np.random.Generator:
    """Return the generator of one sample, which depends on the seed and up to four numbers alone.

    It is Philox with a key (Salmon et al., 2011): the seed and the first number. The others are its counter.
    """
    first, *others = (number % 2**64 for number in numbers)
    key, counter = np.array([seed % 2**64, first], np.uint64), np.zeros(4, np.uint64)
    counter[4 - len(others) :] = others  # the generator itself counts from the other end
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def _restore_precision(probs: Floats, logits: Floats) -> None:
    """Recompute from the logits (B, V), in place, the rows of probabilities that lost nearly all their mass.

    ValueError if a row has no token left.
    """
    totals = _sums(probs)
    lost = ~((totals > _SMALLEST_PROBABILITY) & (totals < np.inf))  # true for nan as well
    if lost.any():
        exact = np.exp(logits[lost] - _peak(logits[lost]))
        probs[lost] = exact / _sums(exact)[:, None]


def _pick(scores: Scores, uniforms: Floats, options: SamplingOptions) -> npt.NDArray[np.intp]:
    """Draw the ids (B,) after applying temperature and truncation."""
    logits, probs = scores
    if options.temperature == 0:
        greedy: npt.NDArray[np.intp] = logits.argmax(axis=-1)
        return greedy
    top = None
    if 0 < options.top_k < logits.shape[1]:
        top = top_ids(logits, options.top_k)  # (B, K)
        logits = np.take_along_axis(logits, top, axis=-1)
    if options.temperature != 1 or top is not None:
        logits = logits - _peak(logits)
        with np.errstate(over="ignore"):
            logits /= max(options.temperature, _SMALLEST_TEMPERATURE)
        probs = np.exp(logits)
    drawn = _draw(probs, logits, uniforms, options)
    return drawn if top is None else top[np.arange(len(top)), drawn]


def _peak(logits: Floats) -> Floats:
    """Return the largest logit of each row (B, 1). ValueError if a row has no finite maximum."""
    peak: Floats = logits.max(axis=-1, keepdims=True)
    if not np.isfinite(peak).all():
        raise ValueError("no token can be drawn: the logits of a row are all -inf, or contain nan or inf")
    return peak


def _block_sums(mass: Floats, length: int) -> Floats:
    """Sum each block of `length` entries of a row (B, N): (B, K). The last block may be shorter.

    `einsum` takes a third of the time of `ndarray.sum`, and sums short blocks the same way in any batch.
    """
    whole = mass.shape[1] // length * length
    sums: Floats = np.einsum("brn->br", mass[:, :whole].reshape(len(mass), -1, length))
    if whole < mass.shape[1]:
        sums = np.concatenate([sums, mass[:, whole:].sum(axis=-1, keepdims=True)], axis=-1)
    return sums


def _sums(mass: Floats) -> Floats:
    """Sum each row (B, N)."""
    sums: Floats = _block_sums(mass, 8 * BLOCK).sum(axis=-1)
    return sums


def _draw(mass: Floats, logs: Floats, uniforms: Floats, options: SamplingOptions) -> npt.NDArray[np.intp]:
    """Draw ids (B,) from the probabilities `mass` (B, V), truncated by all options but top-k.

    The rows of `mass` need not sum to one; `logs` (B, V) are their logarithms up to a constant per row.

    If top-p or typical sampling is the only truncation, this is rejection sampling: draw from the whole
    distribution and accept an id that the truncation keeps. That test takes one sum, which is much cheaper
    than the sort of a truncation. If the first DRAWS - 1 draws of a row are all rejected, the row is
    truncated and drawn from with its last random number, so the result is exact.
    """
    drawn = np.empty(len(mass), np.intp)
    open_rows = np.arange(len(mass))
    if (options.top_p < 1) + (options.typical < 1) == 1 and options.min_p == 0:
        typical = options.typical < 1
        totals = _sums(mass)
        share = totals * (options.typical if typical else options.top_p)
        keys = _typicality(mass, logs, totals) if typical else mass
        for number in range(DRAWS - 1):
            ids = _inverse_cdf(mass, uniforms[open_rows, number])
            drawn[open_rows] = ids
            rejected = ~_is_kept(keys, mass, ids, share)
            if not rejected.any():
                return drawn
            open_rows, mass, share = open_rows[rejected], mass[rejected], share[rejected]
            keys = keys[rejected] if typical else mass
        logs = logs[open_rows]
    drawn[open_rows] = _inverse_cdf(_truncated(mass, logs, options), uniforms[open_rows, -1])
    return drawn


def _is_kept(keys: Floats, mass: Floats, ids: Ints, share: Floats) -> npt.NDArray[np.bool_]:
    """Return for each row whether a truncation to the mass `share` (B,) keeps its id (B,).

    A truncation takes entries by descending key (B, V), and by ascending id among equal keys, until their
    mass reaches the share. So it keeps an entry if the mass of the entries before it is smaller.
    """
    rows = np.arange(len(ids))
    own_keys = keys[rows, ids]
    before = _sums(mass * (keys >= own_keys[:, None])) - mass[rows, ids]
    kept: npt.NDArray[np.bool_] = before < share
    for row in np.flatnonzero(~kept):
        later = np.flatnonzero(keys[row, ids[row] + 1 :] == own_keys[row]) + ids[row] + 1
        kept[row] = before[row] - mass[row, later].sum() < share[row]
    return kept


def _truncated(mass: Floats, logs: Floats, options: SamplingOptions) -> Floats:
    """Copy probabilities (B, V) with 0 for what top-p, min-p and typical sampling exclude."""
    # A product takes a twentieth of the time of `np.where`, which branches at each entry.
    if options.top_p < 1:
        mass = mass * _nucleus(mass, options.top_p)
    if options.min_p > 0:
        mass = mass * (mass >= options.min_p * mass.max(axis=-1, keepdims=True))
    if options.typical < 1:
        mass = mass * _largest_keys(_typicality(mass, logs, _sums(mass)), mass, options.typical)
    return mass


def _inverse_cdf(mass: Floats, shares: Floats | float) -> npt.NDArray[np.intp]:
    """Find the entries (B,) at which the cumulative mass of each row (B, V) reaches `shares` (B,) of it.

    Only short rows are summed entry by entry. In longer rows the block of the entry is searched first.
    """
    rows, size = mass.shape
    if size <= 4 * BLOCK:
        cumulative = np.cumsum(mass, axis=-1, dtype=np.float64)
        return _first_reaching(cumulative, shares * cumulative[:, -1])
    cumulative = np.cumsum(_block_sums(mass, BLOCK), axis=-1, dtype=np.float64)
    targets = shares * cumulative[:, -1]
    block = _first_reaching(cumulative, targets)
    targets -= np.where(block > 0, cumulative[np.arange(rows), block - 1], 0)
    ids = block[:, None] * BLOCK + np.arange(BLOCK)
    inside = np.where(ids < size, np.take_along_axis(mass, np.minimum(ids, size - 1), axis=-1), 0)
    return block * BLOCK + _first_reaching(np.cumsum(inside, axis=-1, dtype=np.float64), targets)


def _first_reaching(
    cumulative: npt.NDArray[np.float64], targets: npt.NDArray[np.float64]
) -> npt.NDArray[np.intp]:
    """Find where ascending rows (B, N) first reach `targets` (B,), at an entry with mass of its own.

    Rounding may put a target beyond the end of its row; then it is the last entry with mass.
    """
    below = np.nextafter(np.minimum(targets, cumulative[:, -1]), 0)
    places: npt.NDArray[np.intp] = (cumulative > below[:, None]).argmax(axis=-1)
    return places


def top_ids(logits: Floats, count: int) -> npt.NDArray[np.intp]:
    """Return the ids (B, `count`) of the largest logits of each row (B, V), in ascending order.

    Among equal logits, lower ids come first.
    """
    size = logits.shape[1]
    keep = _largest(logits, np.partition(logits, size - count, axis=-1)[:, size - count], count)
    ids: npt.NDArray[np.intp] = np.flatnonzero(keep).reshape(-1, count) % size
    return ids


def _nucleus(mass: Floats, share: float) -> npt.NDArray[np.bool_]:
    """Mark the smallest set of the largest entries of each row (B, V) with `share` of its mass."""
    descending = np.sort(mass, axis=-1)[:, ::-1]
    places = _inverse_cdf(descending, share)
    return _largest(mass, descending[np.arange(len(mass)), places], places + 1)


def _largest(values: Floats, smallest: Floats, counts: Ints | int) -> npt.NDArray[np.bool_]:
    """Mark the `counts` (B,) largest values of each row (B, V); `smallest` (B,) is the last of them.

    Among equal values, lower ids come first.
    """
    keep: npt.NDArray[np.bool_] = values >= smallest[:, None]
    if np.count_nonzero(keep) == np.broadcast_to(counts, len(keep)).sum():
        return keep
    surplus = np.array([np.count_nonzero(row) for row in keep]) - counts  # (B,) ties to exclude
    for row in np.flatnonzero(surplus):
        tied = np.flatnonzero(values[row] == smallest[row])
        keep[row, tied[-surplus[row] :]] = False
    return keep


def _largest_keys(keys: Floats, mass: Floats, share: float) -> npt.NDArray[np.bool_]:
    """Mark the fewest entries with the largest keys (B, V) that have `share` of a row's mass (B, V).

    Among equal keys, lower ids come first.
    """
    order = np.argsort(-keys, axis=-1)  # much faster than a stable sort
    rows = np.arange(len(keys))
    places = _inverse_cdf(np.take_along_axis(mass, order, axis=-1), share)
    last = keys[rows, order[rows, places]][:, None]
    keep, tied = keys > last, keys == last
    if np.count_nonzero(tied) > len(tied):
        total = share * mass.sum(axis=-1, keepdims=True, dtype=np.float64)
        above = np.where(keep, mass, 0).sum(axis=-1, keepdims=True, dtype=np.float64)
        before = np.cumsum(np.where(tied, mass, 0), axis=-1, dtype=np.float64) - mass
        tied &= above + before < total
    keep |= tied
    return keep


def _typicality(mass: Floats, logs: Floats, totals: Floats) -> Floats:
    """Return the negated distance of each entry's surprisal from its row's entropy (B, V), in nats.

    Larger is more typical. `totals` (B,) are the sums of the rows.
    """
    with np.errstate(invalid="ignore"):
        mean = _sums(mass * logs) / totals
    if not np.isfinite(mean).all():  # entries without mass may have a log of -inf
        logs = np.where(mass > 0, logs, 0)
        mean = _sums(mass * logs) / totals
    typicality: Floats = logs - mean[:, None]
    np.abs(typicality, out=typicality)
    return np.negative(typicality, out=typicality)
