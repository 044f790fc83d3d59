"""How the next token is drawn from logits: temperature, cuts, penalty. Knows one step and no text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rnntool.errors import UsageError
from rnntool.numerics import Floats, Ints

CACHED = 1 << 17  # probabilities looked at together: the processor's caches hold them
RUN = 128  # probabilities that are added up before it is known which of them is drawn
GROUPS = 512  # of probabilities, of which the largest one is looked at
_COLDEST = 1e-20  # a smaller temperature would be 0 in float32 arithmetic; this one is argmax already


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
            "temperature": (0 <= self.temperature < math.inf, "a number of at least 0"),
            "top_k": (self.top_k >= 0, "a whole number of at least 0"),
            "top_p": (0 < self.top_p <= 1, "a share above 0 and up to 1"),
            "min_p": (0 <= self.min_p <= 1, "a fraction from 0 to 1"),
            "typical": (0 < self.typical <= 1, "a share above 0 and up to 1"),
            "repetition_penalty": (0 < self.repetition_penalty < math.inf, "a number above 0"),
        }
        for name, (good, want) in ranges.items():
            if not good:
                raise UsageError(f"--{name.replace('_', '-')}: want {want}, found {getattr(self, name)}")


def sample(
    logits: Floats,
    uniforms: Floats,
    sampling: Sampling,
    *,
    banned: Sequence[int] = (),
    forbidden: Sequence[Sequence[int]] | None = None,
    seen: npt.NDArray[np.bool_] | None = None,
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Draw one token a row from logits (B, V): ids (B,) and their log-probabilities (B,).

    Row i is drawn by its own uniform number in [0, 1), through the inverse of the cumulative distribution,
    and comes out the same to the bit whatever rows stand beside it. `banned` ids are never drawn, nor are a
    row's own `forbidden` ones; `seen` (B, V) marks the tokens of each row that the repetition penalty speaks
    of. The log-probabilities are the model's own: of the softmax of the logits without the banned ids, before
    what is forbidden, penalty, temperature and cuts. ValueError where a row has nothing to draw.
    """
    scores = np.array(logits, order="C")  # (B, V)
    scores[:, list(banned)] = -np.inf
    warped = scores
    if sampling.repetition_penalty != 1 and seen is not None:
        warped = np.array(scores)
        again = np.nonzero(seen)
        some = scores[again]
        factor = sampling.repetition_penalty
        warped[again] = np.where(some > 0, some / factor, some * factor)
    if forbidden is not None:
        warped = np.array(warped)
        for row, ids in zip(warped, forbidden, strict=True):
            row[ids] = -np.inf
    if warped is not scores:
        warped = warped - _peak(warped)
    scores -= _peak(scores)
    mass = np.exp(scores)
    log_totals = np.log(mass.sum(axis=-1), dtype=np.float64)

    if sampling.temperature == 0:
        drawn = warped.argmax(axis=-1)
    else:
        if warped is not scores or sampling.temperature != 1:
            with np.errstate(over="ignore"):
                mass = np.exp(warped / max(sampling.temperature, _COLDEST))
        rows = max(1, CACHED // mass.shape[1])
        starts = range(0, len(mass), rows)
        parts = [_draw(mass[i : i + rows], uniforms[i : i + rows], sampling) for i in starts]
        drawn = np.concatenate(parts)
    return drawn, scores[np.arange(len(drawn)), drawn] - log_totals


def _peak(scores: Floats) -> Floats:
    """The largest of each row (B, 1); `ValueError` where it is none that can be drawn."""
    peak: Floats = scores.max(axis=-1, keepdims=True)
    if not np.isfinite(peak).all():
        raise ValueError("no token can be drawn: the logits of a row are all -inf, or hold nan or inf")
    return peak


def _draw(mass: Floats, uniforms: Floats, sampling: Sampling) -> npt.NDArray[np.intp]:
    """The ids (B,) that `uniforms` (B,) point at, among what the cuts leave of probabilities (B, V).

    The probabilities need not sum to one. They are laid side by side in the order of their ids.
    """
    # A product takes a twentieth of the time of `np.where`, which branches at each entry.
    if 0 < sampling.top_k < mass.shape[1]:
        mass = mass * _top(mass, sampling.top_k)
    if sampling.top_p < 1:
        mass = mass * _nucleus(mass, sampling.top_p)
    if sampling.min_p > 0:
        mass = mass * (mass >= sampling.min_p * mass.max(axis=-1, keepdims=True))
    if sampling.typical < 1:
        mass = mass * _nearest(_oddity(mass), mass, sampling.typical)
    return _reached(mass, uniforms)


def _reached(mass: Floats, shares: Floats | float) -> npt.NDArray[np.intp]:
    """The entries (B,) by which `shares` (B,) of each row's mass (B, V) are held, added up from the left.

    Of many entries not all are added up one after the other: first the run of them is found, then the entry.
    """
    rows, size = mass.shape
    if size <= 4 * RUN:
        ends = np.cumsum(mass, axis=-1, dtype=np.float64)
        return _first(ends, shares * ends[:, -1])
    whole = size // RUN * RUN
    runs = mass[:, :whole].reshape(rows, -1, RUN).sum(axis=-1)  # (B, V / RUN), fast as cumulative sums aren't
    runs = np.concatenate([runs, mass[:, whole:].sum(axis=-1, keepdims=True)], axis=-1)
    ends = np.cumsum(runs, axis=-1, dtype=np.float64)
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


def _top(mass: Floats, count: int) -> npt.NDArray[np.bool_]:
    """The `count` largest of each row (B, V); of equal ones the lower ids."""
    size = mass.shape[1]
    if size // GROUPS < 4 or count > GROUPS:
        return _largest(mass, np.partition(mass, size - count, axis=-1)[:, size - count], count)
    # The largest of each of many groups: `count` of them are among all that are not below the last of these.
    deep = size // GROUPS * GROUPS
    peaks = mass[:, :deep].reshape(len(mass), -1, GROUPS).max(axis=1)
    rest = mass[:, deep:]
    np.maximum(peaks[:, : rest.shape[1]], rest, out=peaks[:, : rest.shape[1]])
    bounds = np.partition(peaks, GROUPS - count, axis=-1)[:, GROUPS - count, None]
    least = [np.partition(row[row >= bound], -count)[-count] for row, bound in zip(mass, bounds, strict=True)]
    return _largest(mass, np.array(least), count)


def _nucleus(mass: Floats, share: float) -> npt.NDArray[np.bool_]:
    """The fewest of the largest of each row (B, V) that hold `share` of its mass."""
    falling = np.sort(mass, axis=-1)[:, ::-1]
    places = _reached(falling, share)
    return _largest(mass, falling[np.arange(len(mass)), places], places + 1)


def _largest(mass: Floats, least: Floats, counts: Ints | int) -> npt.NDArray[np.bool_]:
    """The `counts` (B,) largest of each row (B, V), the last of which is `least` (B,).

    Of equal ones the lower ids stay.
    """
    keep: npt.NDArray[np.bool_] = mass >= least[:, None]
    over = np.array([np.count_nonzero(row) for row in keep]) - counts  # (B,), ties that have to go
    for row in np.flatnonzero(over):
        tied = np.flatnonzero(mass[row] == least[row])
        keep[row, tied[-over[row] :]] = False
    return keep


def _nearest(keys: Floats, mass: Floats, share: float) -> npt.NDArray[np.bool_]:
    """The fewest of smallest key (B, V) that hold `share` of a row's mass; of equals the lower ids."""
    order = np.argsort(keys, axis=-1)  # much faster than a stable sort
    rows = np.arange(len(keys))
    places = _reached(np.take_along_axis(mass, order, axis=-1), share)
    last = keys[rows, order[rows, places]][:, None]
    keep, tied = keys < last, keys == last
    if np.count_nonzero(tied) > len(tied):
        wanted = share * mass.sum(axis=-1, keepdims=True, dtype=np.float64)
        below = np.where(keep, mass, 0).sum(axis=-1, keepdims=True, dtype=np.float64)
        before = np.cumsum(np.where(tied, mass, 0), axis=-1, dtype=np.float64) - mass
        tied &= below + before < wanted
    keep |= tied
    return keep


def _oddity(mass: Floats) -> Floats:
    """How far each entry's surprisal (B, V) is from the entropy of its row, in nats; inf without mass."""
    totals = mass.sum(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        surprisals = np.log(totals) - np.log(mass)  # (B, V)
        entropy = np.nansum(mass * surprisals, axis=-1, keepdims=True) / totals  # nan without mass
    oddity: Floats = np.abs(surprisals - entropy)
    return oddity
