"""How the next token is drawn from logits: temperature, cuts, penalty. Knows one step and no text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rnntool.data.arrays import Floats, Ints
from rnntool.errors import UsageError

DRAWS = 6  # uniform numbers that a token is drawn by
CACHED = 1 << 20  # probabilities looked at together: the processor's last cache holds them
RUN = 128  # probabilities that are added up before it is known which of them is drawn
_COLDEST = 1e-20  # a smaller temperature would be 0 in float32 arithmetic; this one is argmax already
_HOTTEST = 1_000_000  # all tokens that can come are as likely long before
_LEAST = 1e-30  # a probability that float32 has all the digits of


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is drawn; the cuts come in this order. UsageError for values out of range."""

    temperature: float = 1.0
    """Divides the logits; 0 takes the likeliest token."""
    top_k: int = 0
    """Keep this many of the likeliest tokens; 0 keeps all."""
    top_p: float = 1.0
    """Of those keep the fewest likeliest that hold this share of the probability (Holtzman et al., 2020)."""
    min_p: float = 0.0
    """Of those keep the ones at least this fraction as likely as the likeliest."""
    typical: float = 1.0
    """Of those keep the fewest that hold this share of the probability, those first whose surprisal is
    nearest to what is expected, the entropy (Meister et al., 2023)."""
    repetition_penalty: float = 1.0
    """Before all this, divide the positive and multiply the negative logits of tokens seen already by this
    (Keskar et al., 2019)."""

    def __post_init__(self) -> None:
        """Check every value."""
        ranges = {
            "temperature": (0 <= self.temperature <= _HOTTEST, f"a number from 0 to {_HOTTEST:,}"),
            "top_k": (self.top_k >= 0, "a whole number of at least 0"),
            "top_p": (0 < self.top_p <= 1, "a share above 0 and up to 1"),
            "min_p": (0 <= self.min_p <= 1, "a fraction from 0 to 1"),
            "typical": (0 < self.typical <= 1, "a share above 0 and up to 1"),
            "repetition_penalty": (0.01 <= self.repetition_penalty <= 100, "a number from 0.01 to 100"),
        }
        for name, (good, want) in ranges.items():
            if not good:
                raise UsageError(f"--{name.replace('_', '-')}: expected {want}, found {getattr(self, name)}")

    @property
    def draws_again(self) -> bool:
        """Whether one cut takes tokens in an order, and no other has to be made before it: see `_draw`."""
        return (self.top_p < 1) + (self.typical < 1) == 1 and self.min_p == 0


class Scores(NamedTuple):
    """What a model says of the next token of each row."""

    logits: Floats  # (B, V)
    probs: Floats  # (B, V), their softmax, but for a factor of the row where tokens were taken away

    @classmethod
    def of(cls, logits: Floats) -> Scores:
        """With the softmax of `logits` (B, V). ValueError where nothing of a row can be drawn."""
        return cls(logits, _softmax(logits))

    def ban(self, ids: Sequence[int]) -> None:
        """Let some ids never come, in place. ValueError where a row has nothing left."""
        self.logits[:, ids], self.probs[:, ids] = -np.inf, 0
        _repair(self.probs, self.logits)

    def changed(self, rows: Ints, ids: Ints, values: Floats) -> Scores:
        """The same where logits of some rows (N,) and ids (N,) are `values` (N,)."""
        logits, probs = np.array(self.logits), np.array(self.probs)
        with np.errstate(over="ignore"):
            probs[rows, ids] = np.exp(values - self._norms()[rows])
        logits[rows, ids] = values
        _repair(probs, logits)
        return Scores(logits, probs)

    def log_probs(self, ids: Ints) -> npt.NDArray[np.float64]:
        """Log-probabilities of one token a row (B,), in nats, however small they are."""
        rows = np.arange(len(ids))
        found = self.probs[rows, ids]
        log_probs = np.log(np.maximum(found, _LEAST), dtype=np.float64)
        small = np.flatnonzero(found <= _LEAST)
        if len(small):
            some = Scores(self.logits[small], self.probs[small])
            log_probs[small] = self.logits[small, ids[small]] - some._norms()
        return log_probs - np.log(_sums(self.probs), dtype=np.float64)

    def _norms(self) -> Floats:
        """What is taken off the logits of a row (B,) before their exponentials are the probabilities."""
        norms: Floats = self.logits.max(axis=-1) - np.log(self.probs.max(axis=-1))
        return norms


def sample(
    scores: Scores,
    uniforms: Floats,
    sampling: Sampling,
    *,
    banned: Sequence[int] = (),
    forbidden: Sequence[Sequence[int]] | None = None,
    seen: npt.NDArray[np.bool_] | None = None,
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Draw one token a row: ids (B,) and their log-probabilities (B,). `scores` lose what is banned.

    Row i is drawn by its own numbers `uniforms` (B, DRAWS) in [0, 1), and comes out the same to the bit
    whatever rows stand beside it. `banned` ids are never drawn, nor are a row's own `forbidden` ones; `seen`
    (B, V) marks the tokens of each row that the repetition penalty speaks of. The log-probabilities are the
    model's own: of the softmax of the logits without the banned ids, before what is forbidden, penalty,
    temperature and cuts. ValueError where a row has nothing to draw.
    """
    size = scores.logits.shape[1]
    count = max(1, CACHED // size)
    if len(scores.logits) > count:
        parts = [slice(start, start + count) for start in range(0, len(scores.logits), count)]
        done = [sample(Scores(scores.logits[part], scores.probs[part]), uniforms[part], sampling,
                       banned=banned, forbidden=forbidden and forbidden[part],
                       seen=None if seen is None else seen[part]) for part in parts]
        return np.concatenate([ids for ids, _ in done]), np.concatenate([logs for _, logs in done])
    scores.ban(banned)
    adapted = scores
    if sampling.repetition_penalty != 1 and seen is not None:
        rows, ids = np.divmod(np.flatnonzero(seen), size)  # much faster than `nonzero`
        logits, factor = adapted.logits[rows, ids], sampling.repetition_penalty
        adapted = adapted.changed(rows, ids, np.where(logits > 0, logits / factor, logits * factor))
    never = [(row, i) for row, some in enumerate(forbidden or ()) for i in some]
    if never:
        rows, ids = np.array(never, np.intp).T
        adapted = adapted.changed(rows, ids, np.full(len(never), -np.inf, adapted.logits.dtype))
    drawn = _pick(adapted, uniforms, sampling)
    return drawn, scores.log_probs(drawn)


def _repair(probs: Floats, logits: Floats) -> None:
    """Have those of a row from its logits (B, V) where what was taken of its probabilities was nearly all.

    ValueError where a row has nothing left.
    """
    totals = _sums(probs)
    bad = ~((totals > _LEAST) & (totals < np.inf))  # nan is bad, too
    if bad.any():
        probs[bad] = _softmax(logits[bad])


def _softmax(logits: Floats) -> Floats:
    probs = np.exp(logits - _peak(logits))
    normal: Floats = probs / _sums(probs)[:, None]
    return normal


def _pick(scores: Scores, uniforms: Floats, sampling: Sampling) -> npt.NDArray[np.intp]:
    """The ids (B,) that are drawn by temperature, top-k and the other cuts."""
    logits, probs = scores
    if sampling.temperature == 0:
        likeliest: npt.NDArray[np.intp] = logits.argmax(axis=-1)
        return likeliest
    top = None
    if 0 < sampling.top_k < logits.shape[1]:
        top = _top(logits, sampling.top_k)  # (B, K)
        logits = np.take_along_axis(logits, top, axis=-1)
    if sampling.temperature != 1 or top is not None:
        logits = logits - _peak(logits)
        with np.errstate(over="ignore"):
            logits /= max(sampling.temperature, _COLDEST)
        probs = np.exp(logits)
    drawn = _draw(probs, logits, uniforms, sampling)
    return drawn if top is None else top[np.arange(len(top)), drawn]


def _peak(logits: Floats) -> Floats:
    """The largest of each row (B, 1); `ValueError` where it is none that can be drawn."""
    peak: Floats = logits.max(axis=-1, keepdims=True)
    if not np.isfinite(peak).all():
        raise ValueError("no token can be drawn: the logits of a row are all -inf, or hold nan or inf")
    return peak


def _runs(mass: Floats, length: int) -> Floats:
    """Sums of each `length` entries of a row (B, N), the last ones of fewer: (B, R).

    `einsum` takes a third of the time that `ndarray.sum` does, and of short runs the same sum in any batch.
    """
    whole = mass.shape[1] // length * length
    runs: Floats = np.einsum("brn->br", mass[:, :whole].reshape(len(mass), -1, length))
    if whole < mass.shape[1]:
        runs = np.concatenate([runs, mass[:, whole:].sum(axis=-1, keepdims=True)], axis=-1)
    return runs


def _sums(mass: Floats) -> Floats:
    """The sum of each row (B, N)."""
    sums: Floats = _runs(mass, 8 * RUN).sum(axis=-1)
    return sums


def _draw(mass: Floats, logs: Floats, uniforms: Floats, sampling: Sampling) -> npt.NDArray[np.intp]:
    """The ids (B,) that `uniforms` (B, DRAWS) point at, among what the cuts leave of probabilities (B, V).

    Top-k has been made. The probabilities need not sum to one, nor do their logarithms `logs` (B, V).
    """
    drawn = np.empty(len(mass), np.intp)
    left = np.arange(len(mass))
    if sampling.draws_again:
        # To draw from all, and again where the cut takes away what was drawn, is to draw from what it leaves;
        # whether it does is told by sums, without sorting. The last number makes an end.
        typical = sampling.typical < 1
        totals = _sums(mass)
        wanted = totals * (sampling.typical if typical else sampling.top_p)
        some, keys = mass, _typicality(mass, logs, totals) if typical else mass
        for i in range(DRAWS - 1):
            drawn[left] = found = _reached(some, uniforms[left, i])
            kept = _needed(keys, some, found, wanted)
            if kept.all():
                return drawn
            left, some, wanted = left[~kept], some[~kept], wanted[~kept]
            keys = keys[~kept] if typical else some
        mass, logs = some, logs[left]
    drawn[left] = _reached(_cut(mass, logs, sampling), uniforms[left, -1])
    return drawn


def _needed(keys: Floats, mass: Floats, ids: Ints, wanted: Floats) -> npt.NDArray[np.bool_]:
    """Whether entries of larger key (B, V) than `ids` (B,) hold less of the mass (B, V) than `wanted` (B,).

    Of equal ones those of lower ids come before.
    """
    rows = np.arange(len(ids))
    mine = keys[rows, ids]
    before = _sums(mass * (keys >= mine[:, None])) - mass[rows, ids]
    needed: npt.NDArray[np.bool_] = before < wanted
    for row in np.flatnonzero(~needed):
        equal = keys[row] == mine[row]
        if np.count_nonzero(equal) > 1:  # is it so without those of higher ids?
            later = np.flatnonzero(equal[ids[row] + 1 :]) + ids[row] + 1
            needed[row] = before[row] - mass[row, later].sum() < wanted[row]
    return needed


def _cut(mass: Floats, logs: Floats, sampling: Sampling) -> Floats:
    """Probabilities (B, V) with 0 in place of those that top-p, min-p and typical sampling take away."""
    # A product takes a twentieth of the time of `np.where`, which branches at each entry.
    if sampling.top_p < 1:
        mass = mass * _nucleus(mass, sampling.top_p)
    if sampling.min_p > 0:
        mass = mass * (mass >= sampling.min_p * mass.max(axis=-1, keepdims=True))
    if sampling.typical < 1:
        mass = mass * _most(_typicality(mass, logs, _sums(mass)), mass, sampling.typical)
    return mass


def _reached(mass: Floats, shares: Floats | float) -> npt.NDArray[np.intp]:
    """The entries (B,) by which `shares` (B,) of each row's mass (B, V) are held, added up from the left.

    Of many entries not all are added up one after the other: first the run of them is found, then the entry.
    """
    rows, size = mass.shape
    if size <= 4 * RUN:
        ends = np.cumsum(mass, axis=-1, dtype=np.float64)
        return _first(ends, shares * ends[:, -1])
    ends = np.cumsum(_runs(mass, RUN), axis=-1, dtype=np.float64)
    aims = shares * ends[:, -1]
    run = _first(ends, aims)
    aims -= np.where(run > 0, ends[np.arange(rows), run - 1], 0)
    ids = run[:, None] * RUN + np.arange(RUN)
    inside = np.where(ids < size, np.take_along_axis(mass, np.minimum(ids, size - 1), axis=-1), 0)
    return run * RUN + _first(np.cumsum(inside, axis=-1, dtype=np.float64), aims)


def _first(ends: npt.NDArray[np.float64], aims: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Where rows (B, N) that rise first reach `aims` (B,) and are above 0; their ends, were aims beyond."""
    below = np.nextafter(np.minimum(aims, ends[:, -1]), 0)
    places: npt.NDArray[np.intp] = (ends > below[:, None]).argmax(axis=-1)
    return places


def _top(logits: Floats, count: int) -> npt.NDArray[np.intp]:
    """The ids (B, `count`) of the largest of each row (B, V), rising; of equal ones the lower ids."""
    size = logits.shape[1]
    keep = _largest(logits, np.partition(logits, size - count, axis=-1)[:, size - count], count)
    ids: npt.NDArray[np.intp] = np.flatnonzero(keep).reshape(-1, count) % size
    return ids


def _nucleus(mass: Floats, share: float) -> npt.NDArray[np.bool_]:
    """The fewest of the largest of each row (B, V) that hold `share` of its mass."""
    falling = np.sort(mass, axis=-1)[:, ::-1]
    places = _reached(falling, share)
    return _largest(mass, falling[np.arange(len(mass)), places], places + 1)


def _largest(values: Floats, least: Floats, counts: Ints | int) -> npt.NDArray[np.bool_]:
    """The `counts` (B,) largest of each row (B, V), the last of which is `least` (B,).

    Of equal ones the lower ids stay.
    """
    keep: npt.NDArray[np.bool_] = values >= least[:, None]
    over = np.array([np.count_nonzero(row) for row in keep]) - counts  # (B,), ties that have to go
    for row in np.flatnonzero(over):
        tied = np.flatnonzero(values[row] == least[row])
        keep[row, tied[-over[row] :]] = False
    return keep


def _most(keys: Floats, mass: Floats, share: float) -> npt.NDArray[np.bool_]:
    """The fewest of largest key (B, V) that hold `share` of a row's mass; of equals the lower ids."""
    order = np.argsort(-keys, axis=-1)  # much faster than a stable sort
    rows = np.arange(len(keys))
    places = _reached(np.take_along_axis(mass, order, axis=-1), share)
    last = keys[rows, order[rows, places]][:, None]
    keep, tied = keys > last, keys == last
    if np.count_nonzero(tied) > len(tied):
        wanted = share * mass.sum(axis=-1, keepdims=True, dtype=np.float64)
        above = np.where(keep, mass, 0).sum(axis=-1, keepdims=True, dtype=np.float64)
        before = np.cumsum(np.where(tied, mass, 0), axis=-1, dtype=np.float64) - mass
        tied &= above + before < wanted
    keep |= tied
    return keep


def _typicality(mass: Floats, logs: Floats, totals: Floats) -> Floats:
    """How near each entry's surprisal (B, V) is to the entropy of its row, in nats, 0 being nearest.

    Which is how near its logarithm is to what that is on average. `totals` (B,) are the rows' sums.
    """
    with np.errstate(invalid="ignore"):
        mean = _sums(mass * logs) / totals
    if not np.isfinite(mean).all():  # where there is no mass they may be -inf
        logs = np.where(mass > 0, logs, 0)
        mean = _sums(mass * logs) / totals
    typicality: Floats = logs - mean[:, None]
    np.abs(typicality, out=typicality)
    return np.negative(typicality, out=typicality)
