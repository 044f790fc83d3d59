"""Drawing the next token from a model's scores: temperature, truncation, penalties. Knows no text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rnntool.data.arrays import Floats, Ints
from rnntool.inference.options import GenerateOptions

DRAWS = 6  # uniform random numbers reserved for each token; see `_draw`
CACHED = 1 << 20  # probabilities processed together: so many fit in the processor's last-level cache
RUN = 128  # probabilities summed at once before the search goes on inside the run
_SMALLEST_TEMPERATURE = 1e-20  # smaller ones overflow in float32; at this one sampling is argmax already
_SMALLEST_PROBABILITY = 1e-30  # float32 represents it with full precision


class Scores(NamedTuple):
    """A model's scores of the next token, one row for each text."""

    logits: Floats  # (B, V)
    probs: Floats  # (B, V), softmax of the logits; a row may lack a constant factor after `ban`

    @classmethod
    def of(cls, logits: Floats) -> Scores:
        """Compute the probabilities of `logits` (B, V). ValueError if a row allows no token."""
        return cls(logits, _softmax(logits))

    def ban(self, ids: Sequence[int]) -> None:
        """Exclude some ids in place. ValueError if no id of a row is left."""
        self.logits[:, ids], self.probs[:, ids] = -np.inf, 0
        _restore_precision(self.probs, self.logits)

    def replace_logits(self, rows: Ints, ids: Ints, values: Floats) -> Scores:
        """Copy with other logits `values` (N,) at `rows` (N,) and `ids` (N,)."""
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
    scores: Scores,
    uniforms: Floats,
    options: GenerateOptions,
    *,
    forbidden: Sequence[Sequence[int]] | None = None,
    seen: npt.NDArray[np.bool_] | None = None,
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Draw a token for each row of scores (B, V) with its random numbers `uniforms` (B, DRAWS) in [0, 1).

    Of the `options` those of sampling apply, in this order: `repetition_penalty` (Keskar et al., 2019) for
    the tokens that `seen` (B, V) marks, `temperature`, `top_k`, `top_p` (Holtzman et al., 2020), `min_p`,
    `typical` (Meister et al., 2023). `forbidden` lists ids that a row must not get. A row's token does not
    depend on the other rows.

    Returns the tokens (B,) and the log-probabilities (B,) that the model itself gives them, in nats: from
    `scores` as they are, before any option applies. ValueError if a row has no token to draw.
    """
    size = scores.logits.shape[1]
    count = max(1, CACHED // size)
    if len(scores.logits) > count:
        parts = [slice(start, start + count) for start in range(0, len(scores.logits), count)]
        drawn = [sample(Scores(scores.logits[part], scores.probs[part]), uniforms[part], options,
                        forbidden=forbidden and forbidden[part],
                        seen=None if seen is None else seen[part]) for part in parts]
        return np.concatenate([ids for ids, _ in drawn]), np.concatenate([logs for _, logs in drawn])
    adapted = scores
    if options.repetition_penalty != 1 and seen is not None:
        rows, ids = np.divmod(np.flatnonzero(seen), size)  # much faster than `nonzero`
        logits, penalty = adapted.logits[rows, ids], options.repetition_penalty
        adapted = adapted.replace_logits(rows, ids, np.where(logits > 0, logits / penalty, logits * penalty))
    pairs = [(row, id) for row, ids_of_row in enumerate(forbidden or ()) for id in ids_of_row]
    if pairs:
        rows, ids = np.array(pairs, np.intp).T
        adapted = adapted.replace_logits(rows, ids, np.full(len(pairs), -np.inf, adapted.logits.dtype))
    tokens = _pick(adapted, uniforms, options)
    return tokens, scores.log_probs(tokens)


def _restore_precision(probs: Floats, logits: Floats) -> None:
    """Recompute, in place, rows of probabilities that lost nearly all their mass, from logits (B, V).

    ValueError if a row has no token left.
    """
    totals = _sums(probs)
    lost = ~((totals > _SMALLEST_PROBABILITY) & (totals < np.inf))  # true for nan as well
    if lost.any():
        probs[lost] = _softmax(logits[lost])


def _softmax(logits: Floats) -> Floats:
    probs = np.exp(logits - _peak(logits))
    normalized: Floats = probs / _sums(probs)[:, None]
    return normalized


def _pick(scores: Scores, uniforms: Floats, options: GenerateOptions) -> npt.NDArray[np.intp]:
    """Draw the ids (B,) after applying temperature and truncation."""
    logits, probs = scores
    if options.temperature == 0:
        greedy: npt.NDArray[np.intp] = logits.argmax(axis=-1)
        return greedy
    top = None
    if 0 < options.top_k < logits.shape[1]:
        top = _top_ids(logits, options.top_k)  # (B, K)
        logits = np.take_along_axis(logits, top, axis=-1)
    if options.temperature != 1 or top is not None:
        logits = logits - _peak(logits)
        with np.errstate(over="ignore"):
            logits /= max(options.temperature, _SMALLEST_TEMPERATURE)
        probs = np.exp(logits)
    drawn = _draw(probs, logits, uniforms, options)
    return drawn if top is None else top[np.arange(len(top)), drawn]


def _peak(logits: Floats) -> Floats:
    """Return the largest logit of each row (B, 1). ValueError if a row allows no draw."""
    peak: Floats = logits.max(axis=-1, keepdims=True)
    if not np.isfinite(peak).all():
        raise ValueError("no token can be drawn: the logits of a row are all -inf, or contain nan or inf")
    return peak


def _runs(mass: Floats, length: int) -> Floats:
    """Sum each run of `length` entries of a row (B, N): (B, R). The last run may be shorter.

    `einsum` takes a third of the time of `ndarray.sum`, and sums short runs the same way in any batch.
    """
    whole = mass.shape[1] // length * length
    runs: Floats = np.einsum("brn->br", mass[:, :whole].reshape(len(mass), -1, length))
    if whole < mass.shape[1]:
        runs = np.concatenate([runs, mass[:, whole:].sum(axis=-1, keepdims=True)], axis=-1)
    return runs


def _sums(mass: Floats) -> Floats:
    """Sum each row (B, N)."""
    sums: Floats = _runs(mass, 8 * RUN).sum(axis=-1)
    return sums


def _draw(mass: Floats, logs: Floats, uniforms: Floats, options: GenerateOptions) -> npt.NDArray[np.intp]:
    """Draw ids (B,) from the probabilities `mass` (B, V), truncated by all options but top-k.

    The rows of `mass` need not sum to one; `logs` (B, V) are their logarithms up to a constant per row.

    Where top-p or typical sampling is the only truncation, this is rejection sampling: draw from the whole
    distribution and accept what the truncation keeps. Accepting takes one sum, which is much cheaper than the
    sort that truncates. A row whose first DRAWS - 1 draws were all rejected is sorted, and its last number
    draws from what is left, so the result is exact.
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
    """Tell for each row whether a truncation to the mass `share` (B,) keeps its id (B,).

    A truncation takes entries by falling key (B, V), equal ones by rising id, until they hold the share of
    the mass (B, V). So it keeps an entry if those before it hold less.
    """
    rows = np.arange(len(ids))
    own_keys = keys[rows, ids]
    before = _sums(mass * (keys >= own_keys[:, None])) - mass[rows, ids]
    kept: npt.NDArray[np.bool_] = before < share
    for row in np.flatnonzero(~kept):
        later = np.flatnonzero(keys[row, ids[row] + 1 :] == own_keys[row]) + ids[row] + 1
        kept[row] = before[row] - mass[row, later].sum() < share[row]
    return kept


def _truncated(mass: Floats, logs: Floats, options: GenerateOptions) -> Floats:
    """Copy probabilities (B, V) with 0 for what top-p, min-p and typical sampling exclude."""
    # A product takes a twentieth of the time of `np.where`, which branches at each entry.
    if options.top_p < 1:
        mass = mass * _nucleus(mass, options.top_p)
    if options.min_p > 0:
        mass = mass * (mass >= options.min_p * mass.max(axis=-1, keepdims=True))
    if options.typical < 1:
        mass = mass * _by_keys(_typicality(mass, logs, _sums(mass)), mass, options.typical)
    return mass


def _inverse_cdf(mass: Floats, shares: Floats | float) -> npt.NDArray[np.intp]:
    """Find the entries (B,) at which the cumulative mass of each row (B, V) reaches `shares` (B,) of it.

    Only short rows are summed entry by entry. In longer ones the run that holds the entry is found first.
    """
    rows, size = mass.shape
    if size <= 4 * RUN:
        cumulative = np.cumsum(mass, axis=-1, dtype=np.float64)
        return _first_reaching(cumulative, shares * cumulative[:, -1])
    cumulative = np.cumsum(_runs(mass, RUN), axis=-1, dtype=np.float64)
    targets = shares * cumulative[:, -1]
    run = _first_reaching(cumulative, targets)
    targets -= np.where(run > 0, cumulative[np.arange(rows), run - 1], 0)
    ids = run[:, None] * RUN + np.arange(RUN)
    inside = np.where(ids < size, np.take_along_axis(mass, np.minimum(ids, size - 1), axis=-1), 0)
    return run * RUN + _first_reaching(np.cumsum(inside, axis=-1, dtype=np.float64), targets)


def _first_reaching(
    cumulative: npt.NDArray[np.float64], targets: npt.NDArray[np.float64]
) -> npt.NDArray[np.intp]:
    """Find where rising rows (B, N) first reach `targets` (B,), at a place with mass of its own.

    Rounding may put a target beyond the end of its row; then the last place with mass is taken.
    """
    below = np.nextafter(np.minimum(targets, cumulative[:, -1]), 0)
    places: npt.NDArray[np.intp] = (cumulative > below[:, None]).argmax(axis=-1)
    return places


def _top_ids(logits: Floats, count: int) -> npt.NDArray[np.intp]:
    """Return the ids (B, `count`) of the largest logits of each row (B, V), in rising order.

    Of equal logits those with lower ids stay.
    """
    size = logits.shape[1]
    keep = _largest(logits, np.partition(logits, size - count, axis=-1)[:, size - count], count)
    ids: npt.NDArray[np.intp] = np.flatnonzero(keep).reshape(-1, count) % size
    return ids


def _nucleus(mass: Floats, share: float) -> npt.NDArray[np.bool_]:
    """Mark the smallest set of largest entries of each row (B, V) that holds `share` of its mass."""
    falling = np.sort(mass, axis=-1)[:, ::-1]
    places = _inverse_cdf(falling, share)
    return _largest(mass, falling[np.arange(len(mass)), places], places + 1)


def _largest(values: Floats, smallest: Floats, counts: Ints | int) -> npt.NDArray[np.bool_]:
    """Mark the `counts` (B,) largest values of each row (B, V); `smallest` (B,) is the last of them.

    Of equal values those with lower ids stay.
    """
    keep: npt.NDArray[np.bool_] = values >= smallest[:, None]
    surplus = np.array([np.count_nonzero(row) for row in keep]) - counts  # (B,) ties that have to go
    for row in np.flatnonzero(surplus):
        tied = np.flatnonzero(values[row] == smallest[row])
        keep[row, tied[-surplus[row] :]] = False
    return keep


def _by_keys(keys: Floats, mass: Floats, share: float) -> npt.NDArray[np.bool_]:
    """Mark the fewest entries of largest key (B, V) that hold `share` of a row's mass (B, V).

    Of equal keys those with lower ids stay.
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
    """Return how close each entry's surprisal is to the entropy of its row (B, V), in nats; 0 is closest.

    The distance is negated, so that larger is more typical. `totals` (B,) are the sums of the rows.
    """
    with np.errstate(invalid="ignore"):
        mean = _sums(mass * logs) / totals
    if not np.isfinite(mean).all():  # entries without mass may have a logarithm of -inf
        logs = np.where(mass > 0, logs, 0)
        mean = _sums(mass * logs) / totals
    typicality: Floats = logs - mean[:, None]
    np.abs(typicality, out=typicality)
    return np.negative(typicality, out=typicality)
