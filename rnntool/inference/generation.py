"""New text from a language model: prompts become ids, ids text, and a text ends where it is told to stop.

Which token comes next is for `rnntool.inference.decoding` to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnntool.data.arrays import Arrays, by_length, pad
from rnntool.errors import DataError
from rnntool.inference import decoding
from rnntool.inference.pipeline import windows
from rnntool.inference.sampling import Sampling, Scores
from rnntool.tasks.base import Engine, Ready
from rnntool.tasks.lm import LMTask, next_name
from rnntool.tokenize import (
    BOS,
    EOS,
    PAD,
    UNK,
    StreamDecoder,
)

BANNED = (PAD, BOS, UNK)  # never written

Prompt = tuple[str, list[int]]  # a prompt and its ids


@dataclass(frozen=True, kw_only=True)
class Generated:
    """One sample: its number, its prompt, and the text behind it with the log-probabilities of its tokens."""

    index: int
    prompt: str
    text: str
    tokens: list[str]
    log_probs: list[float]  # nats; the last one is EOS's where `finished`
    finished: bool


@dataclass(frozen=True, kw_only=True)
class Writer:
    """Writes texts after prompts; `rnntool.inference.model.Model.generate` says what the settings mean."""

    task: LMTask
    engine: Engine
    rules: decoding.Rules
    seed: int
    sampling: Sampling
    stop: str | None
    allow_unknown: bool
    watch: Callable[[str], None] | None

    def write(
        self, prompts: Iterable[str], *, n: int, beam: int, batch_size: int, ready: Ready
    ) -> Iterator[Generated]:
        """`n` texts for each prompt: samples, `batch_size` side by side, or what beam search finds."""
        step = EngineStep(self.engine, budget=self.task.budget)
        read = ((prompt, self._ids(prompt)) for prompt in prompts)
        if beam:
            for i, prompt in enumerate(read):
                yield from self._search(step, prompt, beam=beam, n=n, first=i * n)
            return
        to_come = 0  # samples of the last prompt that was read

        def wanted() -> Iterator[Prompt]:
            nonlocal to_come
            for prompt in read:
                to_come = n
                while to_come:
                    to_come -= 1
                    yield prompt

        first = 0
        for batch in windows(wanted(), most=batch_size, ready=lambda: to_come > 0 or ready()):
            yield from self._sample(step, batch, first)
            first += len(batch)

    def _ids(self, prompt: str) -> list[int]:
        """A prompt's ids; `DataError` where it has something the model never saw."""
        tokenizer = self.task.tokenizer
        unknown = [] if self.allow_unknown else tokenizer.unknown(prompt)
        if unknown:
            surface, start = unknown[0]
            raise DataError(f"prompt {prompt!r}: the model does not know {surface!r} "
                            f"(character {start + 1}); leave it out or give --allow-unknown")
        return tokenizer.encode(prompt)

    def _sample(self, step: EngineStep, batch: list[Prompt], first: int) -> Iterator[Generated]:
        """One sample for each prompt of a batch, the first of which is number `first` of the run."""
        drawn: list[list[int]] = [[] for _ in batch]
        log_probs: list[list[float]] = [[] for _ in batch]
        finished = [False] * len(batch)
        shows = [_Show(self.watch, prompt, self._decoder(ids), self.stop)
                 for prompt, ids in batch] if self.watch else []
        events = decoding.generate(
            step, [ids for _, ids in batch], self.rules, first_index=first, seed=self.seed,
            sampling=self.sampling, stop=self._stops(batch, self.stop) if self.stop else None)
        for event in events:
            log_probs[event.row].append(event.log_prob)
            if event.token == EOS:
                finished[event.row] = True
            else:
                drawn[event.row].append(event.token)
            if shows:
                shows[event.row].push(event.token, last=event.last)
        for row, (prompt, ids) in enumerate(batch):
            text, kept = self._cut(ids, drawn[row])
            if kept < len(drawn[row]):
                del log_probs[row][kept:]
            yield self._generated(first + row, prompt, text, drawn[row][:kept], log_probs[row], finished[row])

    def _search(
        self, step: EngineStep, prompt: Prompt, *, beam: int, n: int, first: int
    ) -> Iterator[Generated]:
        """The `n` best texts after a prompt; their log-probability is one number for the whole text."""
        prompt_text, ids = prompt
        found = decoding.beam_search(step, ids, self.rules, beam=max(beam, n))
        for i, hypothesis in enumerate(found[:n]):
            text, kept = self._cut(ids, hypothesis.ids)
            yield self._generated(first + i, prompt_text, text, hypothesis.ids[:kept], [hypothesis.log_prob],
                                  hypothesis.finished and kept == len(hypothesis.ids))

    def _generated(
        self, index: int, prompt: str, text: str, ids: list[int], log_probs: list[float], finished: bool
    ) -> Generated:
        return Generated(index=index, prompt=prompt, text=text, log_probs=log_probs, finished=finished,
                         tokens=list(map(self.task.tokenizer.piece, ids)))

    def _cut(self, prompt: list[int], ids: list[int]) -> tuple[str, int]:
        """What `ids` add to the text of the prompt, up to `stop`, and how many of them begin in that."""
        decoder = self._decoder(prompt)
        parts = list(map(decoder.push, ids))
        text = "".join(parts) + decoder.flush()
        end = text.find(self.stop) if self.stop else -1
        if end < 0:
            return text, len(ids)
        starts = accumulate(map(len, parts[:-1]), initial=0)
        return text[:end], sum(start < end for start in starts)

    def _stops(self, batch: list[Prompt], stop: str) -> Callable[[int, list[int]], bool]:
        """Tells whether a row of the batch has `stop` in its text with the last of its ids."""
        decoders = [self._decoder(ids) for _, ids in batch]
        room = len(stop) - 1
        ends = [""] * len(batch)  # what is there of each text and may be the beginning of `stop`

        def stops(row: int, ids: list[int]) -> bool:
            text = ends[row] + decoders[row].push(ids[-1])
            ends[row] = text[-room:] if room else ""
            return stop in text

        return stops

    def _decoder(self, prompt: list[int]) -> StreamDecoder:
        return self.task.tokenizer.stream_decoder(prompt)


class _Show:
    """Passes a text on as it comes, its prompt first, and holds back what may be the beginning of `stop`."""

    def __init__(
        self, watch: Callable[[str], None], prompt: str, decoder: StreamDecoder, stop: str | None
    ) -> None:
        self.watch = watch
        self.decoder = decoder
        self.stop = stop
        self.held = ""
        watch(prompt)

    def push(self, token: int, *, last: bool) -> None:
        """The text goes on with a token."""
        self.held += "" if token == EOS else self.decoder.push(token)
        if last:
            self.held += self.decoder.flush()
        end = len(self.held)
        if self.stop:
            found = self.held.find(self.stop)
            end = found if found >= 0 else max(0, end - (0 if last else len(self.stop) - 1))
        self.watch(self.held[:end])
        self.held = self.held[end:]


class EngineStep:
    """A language model as decoding needs it: reads tokens, returns scores, carries its state."""

    def __init__(self, engine: Engine, *, budget: int) -> None:
        self.engine = engine
        self.budget = budget  # padded tokens read at once

    def start(self, prompts: Sequence[Sequence[int]]) -> tuple[Scores, Arrays]:
        """Read prompts (B of them, of any lengths): scores (B, V) of what follows, and the states."""
        places: dict[tuple[int, ...], int] = {}  # samples of one prompt read it once
        which = [places.setdefault(tuple(prompt), len(places)) for prompt in prompts]
        rows = [np.array(prompt, np.int32) for prompt in places]
        parts = []
        for batch in by_length([len(row) for row in rows], self.budget):
            tokens, lengths = pad([rows[i] for i in batch], PAD)
            state = self.engine.initial_state(len(batch))
            # Only a row alone can be beyond the budget; it is read in pieces, for its logits are many.
            for start in range(0, len(tokens), self.budget):
                piece = tokens[start : start + self.budget]
                ends = np.minimum(lengths - start, len(piece))
                scores, state = self._read(piece, ends, state)
            last = Scores(*(values[ends - 1, np.arange(len(batch))] for values in scores))
            parts.append((batch, last, state))
        order = np.argsort(np.concatenate([batch for batch, _, _ in parts]))[which]
        state = {name: np.concatenate([state[name] for _, _, state in parts], axis=1) for name in parts[0][2]}
        both = zip(*(scores for _, scores, _ in parts), strict=True)
        return Scores(*(np.concatenate(values)[order] for values in both)), self.select(state, order)

    def advance(self, tokens: NDArray[Any], state: Arrays) -> tuple[Scores, Arrays]:
        """Read one token a row."""
        scores, state = self._read(tokens[None].astype(np.int64), np.ones(len(tokens), np.int32), state)
        return Scores(*(values[0] for values in scores)), state

    def select(self, state: Arrays, rows: NDArray[Any]) -> Arrays:
        """The states of some rows."""
        return {name: np.ascontiguousarray(values[:, rows]) for name, values in state.items()}

    def _read(
        self, tokens: NDArray[np.int64], lengths: NDArray[np.int32], state: Arrays
    ) -> tuple[Scores, Arrays]:
        """Scores (T, B, V) of what follows each of `tokens` (T, B), and the new states."""
        arrays: Arrays = {"tokens": tokens, "lengths": lengths, "targets": np.zeros_like(tokens)}
        outputs = self.engine.run(arrays | state, ["logits", "probs", *map(next_name, state)])
        return Scores(outputs["logits"], outputs["probs"]), {name: outputs[next_name(name)] for name in state}
