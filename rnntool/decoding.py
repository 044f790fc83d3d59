"""Viterbi, sampling, beam search. Sees log-probabilities and states; knows no text and no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from rnntool.errors import UsageError

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]
State = TypeVar("State")

BLOCK = 128  # random numbers drawn at once for a sample
CACHED = 1 << 13  # probabilities looked at together: the processor's caches hold them
_COLDEST = 1e-20  # a smaller temperature would be 0 in float32 arithmetic; this one is argmax already


def log_softmax(logits: Floats) -> Floats:
    """Log-probabilities over the last axis. A row of -inf only, which has no distribution, stays -inf."""
    shifted = logits - _finite(logits.max(axis=-1, keepdims=True))
    total = np.exp(shifted).sum(axis=-1, keepdims=True)
    total[total == 0] = 1
    log_probs: Floats = shifted - np.log(total)
    return log_probs


def softmax(logits: Floats) -> Floats:
    """Probabilities over the last axis. A row of -inf only gives zeros."""
    return np.exp(log_softmax(logits))


# --- Linear chains ----------------------------------------------------------------------------------------
# Emissions (T, B, L), lengths (B,), start (L,), transitions (L, L) as [from, to] and end (L,) are natural
# logarithms; -inf is forbidden. Steps past a row's length count for nothing, and the one path of a row of
# length 0 is empty, with score 0. Rows are taken longest first: those that reach step t are the first
# `active[t]`, so padding costs no time.


def viterbi(
    emissions: Floats, lengths: Ints, start: Floats, transitions: Floats, end: Floats
) -> tuple[Ints, npt.NDArray[np.float64]]:
    """The best path of each row (T, B), 0 past its length, and its score (B,), -inf where none is allowed.

    Keeps the forward scores, (T, B, L) as the emissions, and looks for the best predecessor on the way back,
    of the chosen label only.
    """
    paths = np.zeros(emissions.shape[:2], dtype=np.intp)
    order, active = _longest_first(lengths)
    steps, size = len(active) - 1, len(start)
    history = np.empty((steps, size, len(order)), dtype=emissions.dtype)  # (T, L, B) of the best path so far
    for t in range(steps):
        n = active[t]
        if t == 0:
            best = start[:, None]  # (L, 1)
        else:
            ways = history[t - 1, :, None, :n] + transitions[:, :, None]  # (from, to, n)
            best = ways.max(axis=0)
        best = best + emissions[t, order[:n]].T  # (L, n)
        history[t, :, :n] = best - _finite(best.max(axis=0))  # stays near 0: a long row would cost digits

    label = np.empty(0, dtype=np.intp)  # (n,) at step t + 1
    for t in range(steps - 1, -1, -1):
        n = active[t]
        onward = np.repeat(end[:, None], n, axis=1)  # (L, n)
        onward[:, : len(label)] = transitions[:, label]
        label = (history[t, :, :n] + onward).argmax(axis=0)
        paths[t, order[:n]] = label
    return paths, _path_scores(paths, emissions, lengths, start, transitions, end)


def marginals(emissions: Floats, lengths: Ints, start: Floats, transitions: Floats, end: Floats) -> Floats:
    """Log-probability of each label at each token (T, B, L), by forward-backward; -inf past the length.

    What is 700 nats less likely than the best may count as impossible.
    """
    log_probs = np.full_like(emissions, -np.inf)
    order, active = _longest_first(lengths)
    onward = np.exp(np.asarray(transitions, dtype=np.float64))  # (from, to)
    alpha: Floats = np.empty((0, len(start)))
    for t, n in enumerate(active[:-1]):
        alpha = (_through(alpha[:n], onward) if t else start) + emissions[t, order[:n]]  # (n, L)
        alpha -= _finite(alpha.max(axis=-1, keepdims=True))
        log_probs[t, order[:n]] = alpha

    beta: Floats = np.empty((0, len(start)))  # (n, L) of what follows step t
    for t in range(len(active) - 2, -1, -1):
        rows = order[: active[t]]
        if len(beta):
            beta = _through(beta + emissions[t + 1, rows[: len(beta)]], onward.T)
            beta -= _finite(beta.max(axis=-1, keepdims=True))
        beta = np.concatenate([beta, np.broadcast_to(end, (len(rows) - len(beta), len(end)))])
        log_probs[t, rows] = log_softmax(log_probs[t, rows] + beta)
    return log_probs


def log_partition(
    emissions: Floats, lengths: Ints, start: Floats, transitions: Floats, end: Floats
) -> npt.NDArray[np.float64]:
    """Log of the sum over all paths of each row (B,); a path's score minus this is its log-probability."""
    totals = np.zeros(len(lengths))
    order, active = _longest_first(lengths)
    onward = np.exp(np.asarray(transitions, dtype=np.float64))
    alpha: Floats = np.empty((0, len(start)))
    for t, n in enumerate(active[:-1]):
        alpha = (_through(alpha[:n], onward) if t else start) + emissions[t, order[:n]]  # (n, L)
        ending = slice(active[t + 1], n)
        totals[order[ending]] = _through(alpha[ending] + end, np.ones((len(end), 1)))[:, 0]
    return totals


def nbest(
    emissions: Floats, lengths: Ints, start: Floats, transitions: Floats, end: Floats, *, k: int
) -> list[list[tuple[list[int], float]]]:
    """The `k` best paths of each row and their log-probabilities, best first; fewer where fewer are allowed.

    Exact: list Viterbi (Seshadri and Sundberg, 1994) keeps the `k` best ways to each label at each step.
    """
    size = len(start)
    order, active = _longest_first(lengths)
    steps = len(active) - 1
    came = np.empty((steps, len(order), size * k), dtype=np.int32)  # the way at t - 1 before each way at t
    best = np.zeros((len(order), k), dtype=np.intp)  # the ways a row ends with: label * k + rank
    scores = np.full((len(order), k), -np.inf)
    scores[:, 0] = 0.0
    step_scores = np.repeat(np.asarray(transitions, dtype=np.float64).T, k, axis=1)  # (to, from * k)
    ways: Floats = np.empty((0, size * k))
    for t, n in enumerate(active[:-1]):
        if t == 0:
            ways = np.full((n, size, k), -np.inf)  # one way to each label yet
            ways[:, :, 0] = start
        else:
            came_from, ways = _top(ways[:n, None, :] + step_scores, k)  # (n, to, from * k) -> (n, to, k)
            came[t, :n] = came_from.reshape(n, size * k)
        ways = (ways + emissions[t, order[:n], :, None]).reshape(n, size * k)
        ending = slice(active[t + 1], n)
        best[ending], scores[ending] = _top(ways[ending] + np.repeat(end, k), k)

    paths = np.zeros((steps, len(order), k), dtype=np.intp)
    for t in range(steps - 1, -1, -1):
        n, on = active[t], active[t + 1]
        if on:
            best[:on] = np.take_along_axis(came[t + 1, :on], best[:on], axis=1)
        paths[t, :n] = best[:n] // k

    log_z = log_partition(emissions, lengths, start, transitions, end)
    found: list[list[tuple[list[int], float]]] = [[] for _ in order]
    for place, row in enumerate(order):
        for rank in np.flatnonzero(scores[place] > -np.inf):
            path = paths[: lengths[row], place, rank].tolist()
            found[row].append((path, float(scores[place, rank] - log_z[row])))
    return found


def _longest_first(lengths: Ints) -> tuple[Ints, list[int]]:
    """The rows by falling length (B,), and for t = 0 … max(lengths) how many of them are longer than t."""
    order = np.argsort(lengths, kind="stable")[::-1]
    steps = int(lengths.max(initial=0))
    active = len(lengths) - np.searchsorted(np.sort(lengths), np.arange(steps + 1), side="right")
    return order, active.tolist()


def _path_scores(
    paths: Ints, emissions: Floats, lengths: Ints, start: Floats, transitions: Floats, end: Floats
) -> npt.NDArray[np.float64]:
    steps, rows = np.arange(len(paths))[:, None], np.arange(len(lengths))
    taken = np.take_along_axis(emissions, paths[:, :, None], axis=2)[:, :, 0].astype(np.float64)  # (T, B)
    taken[1:] += transitions[paths[:-1], paths[1:]]
    taken[:1] += start[paths[:1]]
    scores: npt.NDArray[np.float64] = np.where(steps < lengths, taken, 0.0).sum(axis=0)
    if len(paths):
        scores += np.where(lengths > 0, end[paths[np.maximum(lengths, 1) - 1, rows]], 0.0)
    return scores


def _finite(peak: Floats) -> Floats:
    """What to subtract from a row with this maximum: -inf - -inf would be nan."""
    return np.where(np.isneginf(peak), np.zeros_like(peak), peak)


def _through(scores: Floats, weights: Floats) -> Floats:
    """log(exp(scores) @ weights): (n, L), (L, M) -> (n, M)."""
    peak = _finite(scores.max(axis=-1, keepdims=True))
    with np.errstate(divide="ignore"):
        return np.log(np.exp(scores - peak) @ weights) + peak


def _top(scores: Floats, k: int) -> tuple[Ints, Floats]:
    """The `k` largest along the last axis, or all if fewer, largest first: places and values (…, k)."""
    places = np.argpartition(-scores, min(k, scores.shape[-1]) - 1, axis=-1)[..., :k]
    values = np.take_along_axis(scores, places, axis=-1)
    falling = np.argsort(-values, axis=-1, kind="stable")
    return np.take_along_axis(places, falling, axis=-1), np.take_along_axis(values, falling, axis=-1)


# --- Sampling ---------------------------------------------------------------------------------------------


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
    ids = None
    size = mass.shape[1]
    if 0 < sampling.top_k < size:
        least = np.partition(mass, size - sampling.top_k, axis=-1)[:, size - sampling.top_k, None]
        keep = _largest(mass, least, np.array([[sampling.top_k]]))
        ids = np.nonzero(keep)[1].reshape(len(mass), sampling.top_k)
        mass = mass[keep].reshape(ids.shape)
    if sampling.top_p < 1:
        mass = np.where(_nucleus(mass, sampling.top_p), mass, 0)
    if sampling.min_p > 0:
        mass = np.where(mass >= sampling.min_p * mass.max(axis=-1, keepdims=True), mass, 0)
    if sampling.typical < 1:
        mass = np.where(_nearest(_oddity(mass), mass, sampling.typical), mass, 0)
    cumulative = np.cumsum(mass, axis=-1, dtype=np.float64)
    totals = cumulative[:, -1]
    # rounding up must not lead past the end
    aims = np.minimum(uniforms * totals, np.nextafter(totals, 0))
    places: npt.NDArray[np.intp] = (cumulative > aims[:, None]).argmax(axis=-1)
    if ids is not None:
        places = ids[np.arange(len(ids)), places]
    return places


def _largest(mass: Floats, least: Floats, counts: Ints) -> npt.NDArray[np.bool_]:
    """The `counts` (B, 1) largest of each row (B, V), the last of which is `least` (B, 1).

    Of equal ones the lower ids stay.
    """
    keep, tied = mass > least, mass == least
    room = counts - np.count_nonzero(keep, axis=-1)[:, None]
    if (np.count_nonzero(tied, axis=-1)[:, None] > room).any():
        tied &= np.cumsum(tied, axis=-1) <= room
    keep |= tied
    return keep


def _nucleus(mass: Floats, share: float) -> npt.NDArray[np.bool_]:
    """The fewest of the largest of each row (B, V) that hold `share` of its mass."""
    size = mass.shape[1]
    totals = mass.sum(axis=-1, keepdims=True, dtype=np.float64)
    # Sort only what may stay. All the others hold less than (1 - share) / 2, whatever the rounding.
    most = int(np.count_nonzero(mass >= (1 - share) / 2 * totals / size, axis=-1).max())
    falling = np.partition(mass, size - most, axis=-1)[:, size - most :] if most < size else mass.copy()
    falling.sort(axis=-1)
    falling = falling[:, ::-1]
    held = np.cumsum(falling, axis=-1, dtype=np.float64)
    place = _place(held, share * totals)
    return _largest(mass, np.take_along_axis(falling, place, axis=-1), place + 1)


def _nearest(keys: Floats, mass: Floats, share: float) -> npt.NDArray[np.bool_]:
    """The fewest of smallest key (B, V) that hold `share` of a row's mass; of equals the lower ids."""
    wanted = share * mass.sum(axis=-1, keepdims=True, dtype=np.float64)  # (B, 1)
    order = np.argsort(keys, axis=-1)  # much faster than a stable sort
    held = np.cumsum(np.take_along_axis(mass, order, axis=-1), axis=-1, dtype=np.float64)
    last_ids = np.take_along_axis(order, _place(held, wanted), axis=-1)
    last = np.take_along_axis(keys, last_ids, axis=-1)  # (B, 1)
    keep, tied = keys < last, keys == last
    if np.count_nonzero(tied) > len(tied):
        below = np.where(keep, mass, 0).sum(axis=-1, keepdims=True, dtype=np.float64)
        before = np.cumsum(np.where(tied, mass, 0), axis=-1, dtype=np.float64) - mass
        tied &= below + before < wanted
    keep |= tied
    return keep


def _place(held: Floats, wanted: Floats) -> Ints:
    """Where in what is held (B, V), which rises, `wanted` (B, 1) is reached: (B, 1), at the end at last."""
    place: Ints = np.count_nonzero(held[:, :-1] < wanted, axis=-1)[:, None]
    return place


def _oddity(mass: Floats) -> Floats:
    """How far each entry's surprisal (B, V) is from the entropy of its row, in nats; inf without mass."""
    totals = mass.sum(axis=-1, keepdims=True, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        surprisals = np.log(totals) - np.log(mass, dtype=np.float64)  # (B, V)
        entropy = np.where(mass > 0, mass * surprisals, 0).sum(axis=-1, keepdims=True) / totals
    oddity: Floats = np.abs(surprisals - entropy)
    return oddity


# --- Search -----------------------------------------------------------------------------------------------


class Step(Protocol[State]):
    """A language model that reads one token at a time. Only the model knows what a state is."""

    def start(self, prompts: Sequence[Sequence[int]]) -> tuple[Floats, State]:
        """Read prompts of any lengths, BOS included: logits of the next token (B, V), and the state."""
        ...

    def advance(self, tokens: Ints, state: State) -> tuple[Floats, State]:
        """Read one token (B,) a row: logits of the next one (B, V), and the new state."""
        ...

    def select(self, state: State, rows: Ints) -> State:
        """The state of these rows in this order; a row may come more than once or not at all."""
        ...


class Event(NamedTuple):
    """One sampled token of one row. EOS is an event too; `last` says that the row ends with this one."""

    row: int
    token: int
    log_prob: float
    last: bool


class Hypothesis(NamedTuple):
    """A continuation: its ids without prompt and EOS, and its log-probability, with EOS where `finished`."""

    ids: list[int]
    log_prob: float
    finished: bool


class _Ngrams:
    """The n-grams of a text that grows token by token."""

    def __init__(self, n: int, tokens: Sequence[int]) -> None:
        self.context: tuple[int, ...] = ()  # the last n - 1 tokens, fewer at the beginning
        self.before = n - 1
        self.after: dict[tuple[int, ...], list[int]] = {}
        for token in tokens:
            self.add(token)

    def add(self, token: int) -> None:
        """The text goes on with `token`."""
        if len(self.context) == self.before:
            self.after.setdefault(self.context, []).append(token)
        self.context = (*self.context, token)[-self.before :] if self.before else ()

    def repeats(self) -> list[int]:
        """The tokens that would end an n-gram which the text has already."""
        return self.after.get(self.context, [])


def generate(
    step: Step[State],
    prompts: Sequence[Sequence[int]],
    *,
    seed: int,
    bos: int,
    eos: int,
    max_tokens: int,
    min_tokens: int = 0,
    banned: Sequence[int] = (),
    first_index: int = 0,
    sampling: Sampling | None = None,
    no_repeat_ngram: int = 0,
    stop: Callable[[int, list[int]], bool] | None = None,
) -> Iterator[Event]:
    """Continue each prompt (without BOS) by sampling; yield each token as it is drawn, row after row.

    Row r is sample `first_index` + r: its random numbers depend on `seed` and that number alone. It ends with
    EOS, which can't come before `min_tokens` tokens; with its token number `max_tokens`; or where
    `stop(row, ids)` says so of the tokens drawn up to now. A row that ended leaves the batch. With
    `no_repeat_ngram`, no run of that many tokens comes twice in a prompt and what follows it. UsageError for
    lengths that contradict each other, and where every token would repeat a run.
    """
    _check_lengths(min_tokens, max_tokens, no_repeat_ngram)
    sampling = sampling or Sampling()
    numbers = [_uniforms(seed, first_index + row) for row in range(len(prompts))]
    drawn: list[list[int]] = [[] for _ in prompts]
    ngrams = [_Ngrams(no_repeat_ngram, prompt) for prompt in prompts] if no_repeat_ngram else None
    rows = list(range(len(prompts)))  # those that go on
    if not rows:
        return
    logits, state = step.start([[bos, *prompt] for prompt in prompts])
    seen = _marked(prompts, logits.shape[1]) if sampling.repetition_penalty != 1 else None
    block = np.empty((len(rows), 0))  # random numbers of the next steps: a few at once cost less
    for n in range(1, max_tokens + 1):
        if not block.shape[1]:
            block = np.stack([numbers[row].random(min(BLOCK, max_tokens + 1 - n)) for row in rows])
        try:
            tokens, log_probs = sample(
                logits,
                block[:, 0],
                sampling,
                banned=[*banned, eos] if n <= min_tokens else banned,
                forbidden=[ngrams[row].repeats() for row in rows] if ngrams else None,
                seen=seen,
            )
        except ValueError as error:
            raise _stuck(no_repeat_ngram, error) from None
        if seen is not None:
            seen[np.arange(len(rows)), tokens] = True
        block = block[:, 1:]
        going = []
        draws = zip(rows, tokens.tolist(), log_probs.tolist(), strict=True)
        for place, (row, token, log_prob) in enumerate(draws):
            last = token == eos
            if not last:
                drawn[row].append(token)
                if ngrams:
                    ngrams[row].add(token)
                last = n == max_tokens or (stop is not None and stop(row, drawn[row]))
            if not last:
                going.append(place)
            yield Event(row, token, log_prob, last)
        if not going:
            return
        if len(going) < len(rows):
            rows, tokens, block = [rows[place] for place in going], tokens[going], block[going]
            seen = None if seen is None else seen[going]
            state = step.select(state, np.array(going))
        logits, state = step.advance(tokens, state)


def _marked(rows: Sequence[Sequence[int]], size: int) -> npt.NDArray[np.bool_]:
    """Which of `size` ids each row has (B, size)."""
    marked = np.zeros((len(rows), size), np.bool_)
    for mark, ids in zip(marked, rows, strict=True):
        mark[np.asarray(ids, np.intp)] = True
    return marked


def _stuck(no_repeat_ngram: int, error: ValueError) -> Exception:
    """What to raise where no token is left: the user's doing if runs of tokens may not come twice."""
    if not no_repeat_ngram:
        return error
    return UsageError(f"--no-repeat-ngram: want a text without a second run of {no_repeat_ngram} tokens, "
                      "found that every token would make one; take a larger number, or lower --min-tokens")


def beam_search(
    step: Step[State],
    prompt: Sequence[int],
    *,
    beam: int,
    bos: int,
    eos: int,
    max_tokens: int,
    min_tokens: int = 0,
    banned: Sequence[int] = (),
    length_penalty: float = 0.0,
    no_repeat_ngram: int = 0,
) -> list[Hypothesis]:
    """The likeliest continuations of a prompt (without BOS) that `beam` hypotheses at once find, best first.

    At most `beam` come back, ranked by log-probability / tokens ** `length_penalty`, where EOS is a token.
    Those of `max_tokens` tokens are cut there, unfinished. With `no_repeat_ngram`, no run of that many tokens
    comes twice in the prompt and what follows it. Exact where `beam` is as wide as the whole search.
    UsageError for values out of range, and where every token would repeat a run; ValueError where the model
    allows no continuation.
    """
    _check_lengths(min_tokens, max_tokens, no_repeat_ngram)
    if beam < 1:
        raise UsageError(f"--beam: want a whole number of at least 1, found {beam}")
    if not 0 <= length_penalty < math.inf:
        raise UsageError(f"--length-penalty: want a number of at least 0, found {length_penalty}")

    def rank(hypothesis: Hypothesis) -> float:
        return hypothesis.log_prob / math.pow(len(hypothesis.ids) + hypothesis.finished, length_penalty)

    logits, state = step.start([[bos, *prompt]])
    live: list[list[int]] = [[]]  # hypotheses under way
    scores: Floats = np.zeros(1)  # (n,) their log-probabilities
    done: list[Hypothesis] = []
    for n in range(1, max_tokens + 1):
        logits = np.array(logits, dtype=np.float64)
        logits[:, [*banned, eos] if n <= min_tokens else list(banned)] = -np.inf
        totals = scores[:, None] + log_softmax(logits)  # (n, V)
        ended = [Hypothesis(*pair, True) for pair in zip(live, totals[:, eos].tolist(), strict=True)]
        done = sorted(done + [h for h in ended if h.log_prob > -math.inf], key=rank, reverse=True)[:beam]
        totals[:, eos] = -np.inf
        if no_repeat_ngram:
            for row, ids in zip(totals, live, strict=True):
                row[_Ngrams(no_repeat_ngram, [*prompt, *ids]).repeats()] = -np.inf

        places, scores = _top(totals.ravel(), beam)
        places, scores = places[scores > -np.inf], scores[scores > -np.inf]
        parents, tokens = np.divmod(places, totals.shape[1])
        steps = zip(parents.tolist(), tokens.tolist(), strict=True)
        live = [[*live[parent], token] for parent, token in steps]
        if n == max_tokens:
            done += [Hypothesis(*pair, False) for pair in zip(live, scores.tolist(), strict=True)]
        elif not live or (len(done) == beam and rank(done[-1]) >= scores[0] / max_tokens**length_penalty):
            break  # a log-probability only falls: none of the live ones can rank higher than that
        else:
            logits, state = step.advance(tokens, step.select(state, parents))
    if not done:
        raise _stuck(no_repeat_ngram, ValueError("no token can follow: the logits are all -inf"))
    return sorted(done, key=rank, reverse=True)[:beam]


def _check_lengths(min_tokens: int, max_tokens: int, no_repeat_ngram: int) -> None:
    if no_repeat_ngram < 0:
        raise UsageError(f"--no-repeat-ngram: want a whole number of at least 0, found {no_repeat_ngram}")
    if max_tokens < 1:
        raise UsageError(f"--max-tokens: want a whole number of at least 1, found {max_tokens}")
    if not 0 <= min_tokens <= max_tokens:
        raise UsageError(f"--min-tokens: want 0 to {max_tokens} (--max-tokens), found {min_tokens}")


def _uniforms(seed: int, index: int) -> np.random.Generator:
    """The random numbers of one sample: Philox (Salmon et al., 2011) is made to be keyed like this."""
    return np.random.Generator(np.random.Philox(key=np.array([seed % 2**64, index], dtype=np.uint64)))
