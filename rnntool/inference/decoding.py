"""Autoregressive decoding: sampling token by token, and beam search. Knows no text and no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from rnntool.data.arrays import Floats, Ints, log_softmax, top_k
from rnntool.errors import UsageError, setting
from rnntool.inference.options import GenerateOptions
from rnntool.models.sampling import DRAWS, Scores, random_generator, sample

State = TypeVar("State")

BLOCK = 128  # steps for which random numbers are drawn at once


class LanguageModel(Protocol[State]):
    """A language model that reads one token at a time. Its states are opaque to decoding."""

    def start(self, prompts: Sequence[Sequence[int]]) -> tuple[Scores, State]:
        """Read prompts of any lengths: the scores of the next token (B, V), and the state."""
        ...

    def advance(self, tokens: Ints, state: State) -> tuple[Scores, State]:
        """Read one token per row (B,): the scores of the next one (B, V), and the new state."""
        ...

    def select(self, state: State, rows: Ints) -> State:
        """Return the state of these rows in this order; a row may be repeated or left out."""
        ...


class SampledToken(NamedTuple):
    """One token drawn for one row; `last` marks the end of the row. EOS is drawn like any other token."""

    row: int
    token: int
    log_prob: float  # nats
    last: bool


class Hypothesis(NamedTuple):
    """A continuation: its ids without prompt and EOS, and its log-probability, with EOS if `finished`."""

    ids: list[int]
    log_prob: float  # nats
    finished: bool


class _Ngrams:
    """The n-grams of a text that grows token by token."""

    def __init__(self, n: int, tokens: Sequence[int]) -> None:
        self._context: tuple[int, ...] = ()  # the last n - 1 tokens, or fewer at the start
        self._size = n - 1
        self._next: dict[tuple[int, ...], list[int]] = {}
        for token in tokens:
            self.add(token)

    def add(self, token: int) -> None:
        """Append a token to the text."""
        if len(self._context) == self._size:
            self._next.setdefault(self._context, []).append(token)
        self._context = (*self._context, token)[-self._size :] if self._size else ()

    def repetitions(self) -> list[int]:
        """List the tokens that would repeat an n-gram of the text."""
        return self._next.get(self._context, [])


def sample_tokens(
    model: LanguageModel[State], prompts: Sequence[Sequence[int]], options: GenerateOptions, *, eos: int,
    banned: Sequence[int] = (), first_index: int = 0, stop: Callable[[int, int], bool] | None = None,
) -> Iterator[SampledToken]:
    """Continue each prompt by sampling; yield tokens as they are drawn, step by step and row by row.

    `banned` ids are never drawn, and `eos` not before `min_tokens` tokens; log-probabilities leave them out.
    Row r is sample number `first_index` + r: its random numbers depend only on the seed (by default 0) and on
    that number. A row ends with EOS, after `max_tokens` tokens, or when `stop(row, token)` returns True for a
    drawn token; then it leaves the batch. UsageError if `no_repeat_ngram` leaves no token.
    """
    if not prompts:
        return
    rows = list(range(len(prompts)))  # open rows, which have not ended
    generators = [random_generator(options.seed or 0, first_index + row) for row in rows]
    length = options.no_repeat_ngram
    ngrams = [_Ngrams(length, prompt) for prompt in prompts] if length else None
    scores, state = model.start(prompts)
    seen = _marked(prompts, scores.logits.shape[1]) if options.repetition_penalty != 1 else None
    uniforms = np.empty((len(rows), 0, DRAWS))
    for n in range(1, options.max_tokens + 1):
        if not uniforms.shape[1]:
            steps = min(BLOCK, options.max_tokens + 1 - n)
            uniforms = np.stack([generators[row].random((steps, DRAWS)) for row in rows])
        try:
            scores.ban([*banned, eos] if n <= options.min_tokens else banned)
            tokens, log_probs = sample(
                scores, uniforms[:, 0], options, seen=seen,
                forbidden=[ngrams[row].repetitions() for row in rows] if ngrams else None)
        except ValueError as error:
            raise _no_token_error(error, options) from None
        if seen is not None:
            seen[np.arange(len(rows)), tokens] = True
        uniforms = uniforms[:, 1:]
        places = []  # of the rows that continue, in the batch
        for place, (row, token, log_prob) in enumerate(
                zip(rows, tokens.tolist(), log_probs.tolist(), strict=True)):
            last = token == eos
            if not last:
                if ngrams:
                    ngrams[row].add(token)
                stopped = stop is not None and stop(row, token)
                last = stopped or n == options.max_tokens
            if not last:
                places.append(place)
            yield SampledToken(row, token, log_prob, last)
        if not places:
            return
        if len(places) < len(rows):
            rows, tokens, uniforms = [rows[place] for place in places], tokens[places], uniforms[places]
            seen = None if seen is None else seen[places]
            state = model.select(state, np.array(places))
        scores, state = model.advance(tokens, state)


def beam_search(
    model: LanguageModel[State], prompt: Sequence[int], options: GenerateOptions, *, eos: int,
    banned: Sequence[int] = (),
) -> list[Hypothesis]:
    """Search the most likely continuations of a prompt; return them ranked by log-probability, best first.

    The beam has the width `beam`, or `n` if that is larger, which is also the largest number of results.
    Hypotheses of `max_tokens` tokens are cut there, unfinished. The search is exact if the beam is as wide as
    the search space. UsageError if `no_repeat_ngram` leaves no token; ValueError if the model leaves none.
    """
    width = max(options.beam, options.n)
    rank = attrgetter("log_prob")
    scores, state = model.start([prompt])
    open_ids: list[list[int]] = [[]]  # of the H hypotheses that have not ended
    open_log_probs: Floats = np.zeros(1)  # (H,)
    ended: list[Hypothesis] = []
    for n in range(1, options.max_tokens + 1):
        logits = np.array(scores.logits, dtype=np.float64)
        logits[:, [*banned, eos] if n <= options.min_tokens else [*banned]] = -np.inf
        log_probs = open_log_probs[:, None] + log_softmax(logits)  # (H, V)
        for ids, log_prob in zip(open_ids, log_probs[:, eos].tolist(), strict=True):
            if log_prob > -math.inf:
                ended.append(Hypothesis(ids, log_prob, True))
        ended = sorted(ended, key=rank, reverse=True)[:width]
        log_probs[:, eos] = -np.inf
        if options.no_repeat_ngram:
            for row, ids in zip(log_probs, open_ids, strict=True):
                row[_Ngrams(options.no_repeat_ngram, [*prompt, *ids]).repetitions()] = -np.inf

        places, open_log_probs = top_k(log_probs.ravel(), width)
        possible = open_log_probs > -np.inf
        places, open_log_probs = places[possible], open_log_probs[possible]
        parents, tokens = np.divmod(places, log_probs.shape[1])
        open_ids = [[*open_ids[parent], token]
                    for parent, token in zip(parents.tolist(), tokens.tolist(), strict=True)]
        if n == options.max_tokens:
            cut = zip(open_ids, open_log_probs.tolist(), strict=True)
            ended += [Hypothesis(ids, log_prob, False) for ids, log_prob in cut]
        elif not open_ids or (len(ended) == width and ended[-1].log_prob >= open_log_probs[0]):
            break  # log-probabilities only fall, so no open hypothesis can rank higher
        else:
            scores, state = model.advance(tokens, model.select(state, parents))
    if not ended:
        raise _no_token_error(ValueError("no token can follow: the logits are all -inf"), options)
    return sorted(ended, key=rank, reverse=True)[:width]


def _marked(rows: Sequence[Sequence[int]], size: int) -> npt.NDArray[np.bool_]:
    """Mark the ids of each row among `size` ids (B, size)."""
    marked = np.zeros((len(rows), size), np.bool_)
    for mark, ids in zip(marked, rows, strict=True):
        mark[np.asarray(ids, np.intp)] = True
    return marked


def _no_token_error(error: ValueError, options: GenerateOptions) -> Exception:
    """Return the error for a step without tokens; a user can act only if repetitions are excluded."""
    if not options.no_repeat_ngram:
        return error
    length = options.no_repeat_ngram
    repeated = "1 token" if length == 1 else f"{length} tokens in a row"
    return UsageError(f"every next token would repeat {repeated}", setting="no_repeat_ngram",
                      advice=f"choose a larger number, or lower {setting('min_tokens')}")
