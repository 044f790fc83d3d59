"""Text generation: prompts to ids, sampled ids back to text, and where a text stops.

`rnntool.inference.decoding` chooses the tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnntool.data.arrays import Arrays, by_length, pad
from rnntool.errors import DataError, UsageError, setting
from rnntool.inference.decoding import beam_search, sample_tokens
from rnntool.inference.options import BATCH_SIZE, GenerateOptions
from rnntool.inference.pipeline import windows
from rnntool.models.sampling import Scores
from rnntool.tasks.base import Engine, Ready, next_name
from rnntool.tasks.lm import LMTask
from rnntool.tokenize import BOS, EOS, PAD, UNK, StreamDecoder

NEVER_GENERATED = (PAD, BOS, UNK)

Watch = Callable[[str], None]  # receives pieces of text
Prompt = tuple[str, list[int]]  # a prompt and its ids


@dataclass(frozen=True, kw_only=True)
class Generated:
    """A generated text: its number in the run, its prompt, and the text that follows the prompt.

    `log_probs` are those of its tokens, in nats, and of EOS if `finished`. Beam search gives a single one,
    that of the whole text.
    """

    index: int
    prompt: str
    text: str
    tokens: list[str]
    log_probs: list[float]
    finished: bool  # EOS was generated


def generate(
    task: LMTask, engine: Engine, prompts: Iterable[str], options: GenerateOptions, *, ready: Ready,
    watch: Watch | None = None,
) -> Iterator[Generated]:
    """Continue prompts; see `rnntool.inference.model.Model.generate`."""
    if watch and (options.beam or (options.batch_size or 1) > 1):
        name = "beam" if options.beam else "batch_size"
        raise UsageError("texts can only be watched while they are sampled one after the other", setting=name,
                         advice=f"leave out {setting(name)}")
    model = EngineModel(engine, start_token=task.first_token(options.label), budget=task.budget)
    encoded = ((prompt, _encode(task, prompt, options)) for prompt in prompts)
    if options.beam:
        return _search(task, model, encoded, options)
    return _sample(task, model, encoded, options, ready=ready, watch=watch)


def _encode(task: LMTask, prompt: str, options: GenerateOptions) -> list[int]:
    """Return the ids of a prompt. DataError if a part of it is unknown to the model."""
    unknown = [] if options.allow_unknown else task.tokenizer.unknown(prompt)
    if unknown:
        surface, start = unknown[0]
        raise DataError(f"the model does not know {surface!r} (character {start + 1})",
                        place=f"prompt {prompt!r}", advice=f"leave it out or set {setting('allow_unknown')}")
    return task.tokenizer.encode(prompt)


def _sample(
    task: LMTask, model: EngineModel, prompts: Iterable[Prompt], options: GenerateOptions, *, ready: Ready,
    watch: Watch | None,
) -> Iterator[Generated]:
    """Draw `n` samples for each prompt, many in parallel."""
    samples_left = 0  # of the last prompt that was read

    def repeated() -> Iterator[Prompt]:
        nonlocal samples_left
        for prompt in prompts:
            samples_left = options.n
            while samples_left:
                samples_left -= 1
                yield prompt

    batch_size = 1 if watch else options.batch_size or BATCH_SIZE
    first_index = 0
    for batch in windows(repeated(), max_items=batch_size, ready=lambda: samples_left > 0 or ready()):
        yield from _sample_batch(task, model, batch, options, first_index=first_index, watch=watch)
        first_index += len(batch)


def _sample_batch(
    task: LMTask, model: EngineModel, batch: list[Prompt], options: GenerateOptions, *, first_index: int,
    watch: Watch | None,
) -> Iterator[Generated]:
    """Draw one sample for each prompt of a batch; the first has the number `first_index`."""
    texts = [_Continuation(task, *prompt, options.stop, watch) for prompt in batch]
    log_probs: list[list[float]] = [[] for _ in batch]
    sampled = sample_tokens(
        model, [ids for _, ids in batch], options, eos=EOS, banned=NEVER_GENERATED, first_index=first_index,
        stop=lambda row, token: texts[row].add(token))
    for row, token, log_prob, last in sampled:
        log_probs[row].append(log_prob)
        if last:
            texts[row].end(finished=token == EOS)
        texts[row].show()
    for row, text in enumerate(texts):
        result = text.result(first_index + row, log_probs[row])
        kept = len(result.tokens) + result.finished  # the rest belongs to tokens after `stop`
        yield replace(result, log_probs=log_probs[row][:kept])


def _search(
    task: LMTask, model: EngineModel, prompts: Iterable[Prompt], options: GenerateOptions
) -> Iterator[Generated]:
    """Find the `n` best texts after each prompt by beam search, one prompt after the other."""
    for i, prompt in enumerate(prompts):
        hypotheses = beam_search(model, prompt[1], options, eos=EOS, banned=NEVER_GENERATED)[: options.n]
        for index, hypothesis in enumerate(hypotheses, i * options.n):
            text = _Continuation(task, *prompt, options.stop)
            for token in hypothesis.ids:
                text.add(token)
            text.end(finished=hypothesis.finished)
            yield text.result(index, [hypothesis.log_prob])


class _Continuation:
    """The text after a prompt, which grows token by token and is cut before the first `stop`.

    `watch` receives the prompt, and then text as soon as it can no longer be part of `stop`.
    """

    def __init__(
        self, task: LMTask, prompt: str, prompt_ids: list[int], stop: str | None, watch: Watch | None = None
    ) -> None:
        self._task = task
        self._prompt = prompt
        self._decoder: StreamDecoder = task.tokenizer.stream_decoder(prompt_ids)
        self._stop = stop
        self._watch = watch
        self._ids: list[int] = []
        self._parts: list[str] = []  # the text that each token completes
        self._pending = ""  # text that was not passed on yet
        self._finished = False
        self._ended = False
        if watch:
            watch(prompt)

    def add(self, token: int) -> bool:
        """Append a token; return whether the text now contains `stop`."""
        part = self._decoder.push(token)
        self._ids.append(token)
        self._parts.append(part)
        self._pending += part
        return self._stop is not None and self._stop in self._pending

    def end(self, *, finished: bool) -> None:
        """Complete the text; `finished` says whether the model ended it with EOS."""
        rest = self._decoder.flush()
        self._parts.append(rest)
        self._pending += rest
        self._ended, self._finished = True, finished

    def show(self) -> None:
        """Pass on the text that can't be part of `stop`."""
        certain = len(self._pending)
        if self._stop:
            place = self._pending.find(self._stop)
            if place >= 0:
                certain = place
            elif not self._ended:
                certain = max(0, certain - (len(self._stop) - 1))
        if self._watch:
            self._watch(self._pending[:certain])
        self._pending = self._pending[certain:]

    def result(self, index: int, log_probs: list[float]) -> Generated:
        """Return the text before `stop`, with the tokens that begin in it."""
        text, kept = "".join(self._parts), len(self._ids)
        place = text.find(self._stop) if self._stop else -1
        if place >= 0:
            starts = accumulate(map(len, self._parts), initial=0)
            text = text[:place]
            kept = sum(start < place for start, _ in zip(starts, self._ids, strict=False))
        return Generated(
            index=index, prompt=self._prompt, text=text, log_probs=log_probs,
            tokens=list(map(self._task.tokenizer.piece, self._ids[:kept])),
            finished=self._finished and kept == len(self._ids))


class EngineModel:
    """A `LanguageModel` that runs on an engine. Its states are named arrays (1, B, H)."""

    def __init__(self, engine: Engine, *, start_token: int = BOS, budget: int) -> None:
        """Read `start_token` before each prompt, and at most `budget` padded tokens at once."""
        self._engine = engine
        self._start_token = start_token
        self._budget = budget

    def start(self, prompts: Sequence[Sequence[int]]) -> tuple[Scores, Arrays]:
        """Read prompts of any lengths: the scores of the next token (B, V), and the states.

        Prompts that occur several times are read once.
        """
        unique: dict[tuple[int, ...], int] = {}
        indices = [unique.setdefault(tuple(prompt), len(unique)) for prompt in prompts]
        rows = [np.array([self._start_token, *prompt], np.int32) for prompt in unique]
        order: list[int] = []
        scores_of_batches: list[Scores] = []
        states_of_batches: list[Arrays] = []
        for batch in by_length(list(map(len, rows)), self._budget):
            tokens, lengths = pad([rows[i] for i in batch], PAD)
            state = self._engine.initial_state(len(batch))
            # A batch exceeds the budget only if it is a single prompt, which is then read in pieces.
            for first in range(0, len(tokens), self._budget):
                piece = tokens[first : first + self._budget]
                steps = np.minimum(lengths - first, len(piece))
                scores, state = self._read(piece, steps, state)
            order += batch
            scores_of_batches.append(Scores(*(values[steps - 1, np.arange(len(batch))] for values in scores)))
            states_of_batches.append(state)
        places = np.argsort(order)[indices]  # the row of each prompt
        logits, probs = (np.concatenate(values)[places] for values in zip(*scores_of_batches, strict=True))
        state = {name: np.concatenate([state[name] for state in states_of_batches], axis=1)
                 for name in states_of_batches[0]}
        return Scores(logits, probs), self.select(state, places)

    def advance(self, tokens: NDArray[Any], state: Arrays) -> tuple[Scores, Arrays]:
        """Read one token per row (B,): the scores of the next one (B, V), and the new states."""
        scores, state = self._read(tokens[None].astype(np.int64), np.ones(len(tokens), np.int32), state)
        return Scores(scores.logits[0], scores.probs[0]), state

    def select(self, state: Arrays, rows: NDArray[Any]) -> Arrays:
        """Return the states of some rows."""
        return {name: np.ascontiguousarray(values[:, rows]) for name, values in state.items()}

    def _read(
        self, tokens: NDArray[np.int64], lengths: NDArray[np.int32], state: Arrays
    ) -> tuple[Scores, Arrays]:
        """Return the scores (T, B, V) of the token after each of `tokens` (T, B), and the new states."""
        inputs: Arrays = {"tokens": tokens, "lengths": lengths, "targets": np.zeros_like(tokens)}
        outputs = self._engine.run(inputs | state, ["logits", "probs", *map(next_name, state)])
        return Scores(outputs["logits"], outputs["probs"]), {name: outputs[next_name(name)] for name in state}
