"""Token after token: sampling and beam search. Sees logits and states; knows no text and no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from rnntool.data.arrays import (
    Floats,
    Ints,
    log_softmax,
    top_k,
)
from rnntool.errors import UsageError
from rnntool.inference.sampling import (
    DRAWS,
    Sampling,
    Scores,
    sample,
)

State = TypeVar("State")

BLOCK = 128  # steps that a sample draws random numbers for at once


class Step(Protocol[State]):
    """A language model that reads one token at a time. Only the model knows what a state is."""

    def start(self, prompts: Sequence[Sequence[int]]) -> tuple[Scores, State]:
        """Read prompts of any lengths, BOS included: scores of the next token, and the state."""
        ...

    def advance(self, tokens: Ints, state: State) -> tuple[Scores, State]:
        """Read one token (B,) a row: scores of the next one, and the new state."""
        ...

    def select(self, state: State, rows: Ints) -> State:
        """The state of these rows in this order; a row may come more than once or not at all."""
        ...


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What every continuation keeps to. UsageError for lengths that contradict each other."""

    bos: int
    """What a prompt is read behind."""
    eos: int
    max_tokens: int
    """A continuation ends with this token at the latest."""
    min_tokens: int = 0
    """EOS can't come before so many tokens."""
    banned: Sequence[int] = ()
    """Ids that never come."""
    no_repeat_ngram: int = 0
    """No run of so many tokens comes twice in a prompt and what follows it; 0 allows all."""

    def __post_init__(self) -> None:
        """Check the lengths."""
        least, most, n = self.min_tokens, self.max_tokens, self.no_repeat_ngram
        if n < 0:
            raise UsageError(f"--no-repeat-ngram: expected a whole number of at least 0, found {n}")
        if most < 1:
            raise UsageError(f"--max-tokens: expected a whole number of at least 1, found {most}")
        if not 0 <= least <= most:
            raise UsageError(f"--min-tokens: expected 0 to {most} (--max-tokens), found {least}")

    def banned_at(self, n: int) -> list[int]:
        """What can't be the n-th token (from 1) of any continuation."""
        return [*self.banned, self.eos] if n <= self.min_tokens else [*self.banned]

    def stuck(self, error: ValueError) -> Exception:
        """What to raise where no token is left: the user's doing if runs of tokens may not come twice."""
        if not self.no_repeat_ngram:
            return error
        return UsageError(f"--no-repeat-ngram: expected a text without a second run of {self.no_repeat_ngram} "
                          "tokens, found that every token would make one; take a larger number, or lower "
                          "--min-tokens")


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
    rules: Rules,
    *,
    seed: int,
    first_index: int = 0,
    sampling: Sampling | None = None,
    stop: Callable[[int, list[int]], bool] | None = None,
) -> Iterator[Event]:
    """Continue each prompt (without BOS) by sampling; yield each token as it is drawn, row after row.

    Row r is sample `first_index` + r: its random numbers depend on `seed` and that number alone. It ends
    where the `rules` have it end, or where `stop(row, ids)` says so of the tokens drawn up to now. A row that
    ended leaves the batch. UsageError where every token would repeat a run.
    """
    sampling = sampling or Sampling()
    numbers = [_uniforms(seed, first_index + row) for row in range(len(prompts))]
    drawn: list[list[int]] = [[] for _ in prompts]
    ngrams = [_Ngrams(rules.no_repeat_ngram, prompt) for prompt in prompts] if rules.no_repeat_ngram else None
    rows = list(range(len(prompts)))  # those that go on
    if not rows:
        return
    scores, state = step.start([[rules.bos, *prompt] for prompt in prompts])
    seen = _marked(prompts, scores.logits.shape[1]) if sampling.repetition_penalty != 1 else None
    block = np.empty((len(rows), 0, DRAWS))  # random numbers of the next steps: a few at once cost less
    for n in range(1, rules.max_tokens + 1):
        if not block.shape[1]:
            steps = min(BLOCK, rules.max_tokens + 1 - n)
            block = np.stack([numbers[row].random((steps, DRAWS)) for row in rows])
        try:
            tokens, log_probs = sample(
                scores,
                block[:, 0],
                sampling,
                banned=rules.banned_at(n),
                forbidden=[ngrams[row].repeats() for row in rows] if ngrams else None,
                seen=seen,
            )
        except ValueError as error:
            raise rules.stuck(error) from None
        if seen is not None:
            seen[np.arange(len(rows)), tokens] = True
        block = block[:, 1:]
        going = []
        draws = zip(rows, tokens.tolist(), log_probs.tolist(), strict=True)
        for place, (row, token, log_prob) in enumerate(draws):
            last = token == rules.eos
            if not last:
                drawn[row].append(token)
                if ngrams:
                    ngrams[row].add(token)
                last = n == rules.max_tokens or (stop is not None and stop(row, drawn[row]))
            if not last:
                going.append(place)
            yield Event(row, token, log_prob, last)
        if not going:
            return
        if len(going) < len(rows):
            rows, tokens, block = [rows[place] for place in going], tokens[going], block[going]
            seen = None if seen is None else seen[going]
            state = step.select(state, np.array(going))
        scores, state = step.advance(tokens, state)


def _marked(rows: Sequence[Sequence[int]], size: int) -> npt.NDArray[np.bool_]:
    """Which of `size` ids each row has (B, size)."""
    marked = np.zeros((len(rows), size), np.bool_)
    for mark, ids in zip(marked, rows, strict=True):
        mark[np.asarray(ids, np.intp)] = True
    return marked


def beam_search(
    step: Step[State],
    prompt: Sequence[int],
    rules: Rules,
    *,
    beam: int,
) -> list[Hypothesis]:
    """The likeliest continuations of a prompt (without BOS) that `beam` hypotheses at once find, best first.

    At most `beam` come back, ranked by log-probability. Those of `max_tokens` tokens are cut there,
    unfinished. Exact where `beam` is as wide as the whole search. UsageError for a beam of nothing, and where
    every token would repeat a run; ValueError where the model allows no continuation.
    """
    if beam < 1:
        raise UsageError(f"--beam: expected a whole number of at least 1, found {beam}")
    rank = attrgetter("log_prob")
    found, state = step.start([[rules.bos, *prompt]])
    live: list[list[int]] = [[]]  # hypotheses under way
    scores: Floats = np.zeros(1)  # (n,) their log-probabilities
    done: list[Hypothesis] = []
    for n in range(1, rules.max_tokens + 1):
        logits = np.array(found.logits, dtype=np.float64)
        logits[:, rules.banned_at(n)] = -np.inf
        totals = scores[:, None] + log_softmax(logits)  # (n, V)
        ended = [Hypothesis(*pair, True) for pair in zip(live, totals[:, rules.eos].tolist(), strict=True)]
        done = sorted(done + [h for h in ended if h.log_prob > -math.inf], key=rank, reverse=True)[:beam]
        totals[:, rules.eos] = -np.inf
        if rules.no_repeat_ngram:
            for row, ids in zip(totals, live, strict=True):
                row[_Ngrams(rules.no_repeat_ngram, [*prompt, *ids]).repeats()] = -np.inf

        places, scores = top_k(totals.ravel(), beam)
        places, scores = places[scores > -np.inf], scores[scores > -np.inf]
        parents, tokens = np.divmod(places, totals.shape[1])
        steps = zip(parents.tolist(), tokens.tolist(), strict=True)
        live = [[*live[parent], token] for parent, token in steps]
        if n == rules.max_tokens:
            done += [Hypothesis(*pair, False) for pair in zip(live, scores.tolist(), strict=True)]
        elif not live or (len(done) == beam and done[-1].log_prob >= scores[0]):
            break  # a log-probability only falls: none of the live ones can rank higher
        else:
            found, state = step.advance(tokens, step.select(state, parents))
    if not done:
        raise rules.stuck(ValueError("no token can follow: the logits are all -inf"))
    return sorted(done, key=rank, reverse=True)[:beam]


def _uniforms(seed: int, index: int) -> np.random.Generator:
    """The random numbers of one sample: Philox (Salmon et al., 2011) is made to be keyed like this."""
    return np.random.Generator(np.random.Philox(key=np.array([seed % 2**64, index], dtype=np.uint64)))
