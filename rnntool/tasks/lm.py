"""Language modelling: the probability of a text, token by token, and new text from it.

Each record is read as BOS w1 … wn and predicted as w1 … wn EOS: BOS is never scored, EOS always is. In the
`stream` context the state is carried from record to record, in the `line` context each record starts from
zero.
"""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from rnntool import metrics, tokenize
from rnntool.config import LMSettings
from rnntool.errors import DataError
from rnntool.formats import Text, read_texts
from rnntool.streams import Lines
from rnntool.tasks.base import IGNORE, Arrays, Criterion, Engine, Mistake, Task, by_length, excerpt, pad
from rnntool.tokenize import BOS, EOS, PAD, UNK, Tokenizer

LOGITS_BUDGET = 1 << 23  # numbers in one batch's logits: 32 MiB
SCORE_COLUMNS = 16  # of a stream, where a training only wants to know whether it got better
SCORE_STEPS = 1000  # the least length of such a column
# characters that stand between records, and EOS for them
SEPARATORS = {"line": 1, "paragraph": 2, "document": 0}


class Unit(NamedTuple):
    """A token or a word: its text, its span in the record's text, and its surprisal in bits."""

    text: str
    start: int
    end: int
    surprisal_bits: float


@dataclass(slots=True)
class Scored:
    """A text's log-probabilities in nats: one for each token of the text, and the last one for EOS."""

    tokens: list[tokenize.Token]
    log_probs: list[float]
    unknown: int

    @property
    def total_nats(self) -> float:
        """Log-probability of the whole record."""
        return float(sum(self.log_probs))

    def units(self, text: str) -> list[Unit]:
        """Each token of `text` with its surprisal, and the end of the record, `</s>`."""
        spans = [(t.start, t.end) for t in self.tokens]
        return self._units(text, spans, [[i] for i in range(len(spans))])

    def words(self, text: str) -> list[Unit]:
        """Each word of `text` (what stands between white space), and the end of the record.

        A word's surprisal is the sum of those tokens' that begin in it or in the space before it.
        """
        spans = [match.span() for match in re.finditer(r"\S+", text)]
        groups: list[list[int]] = [[] for _ in spans]
        word = 0
        for i, token in enumerate(self.tokens):
            while word + 1 < len(spans) and token.start >= spans[word][1]:
                word += 1
            if groups:
                groups[word].append(i)
        return self._units(text, spans, groups)

    def _units(self, text: str, spans: list[tuple[int, int]], groups: list[list[int]]) -> list[Unit]:
        units = [
            Unit(text[start:end], start, end, -sum(self.log_probs[i] for i in group) / math.log(2))
            for (start, end), group in zip(spans, groups, strict=True)
        ]
        return [*units, Unit("</s>", len(text), len(text), -self.log_probs[-1] / math.log(2))]


class LMTask(Task[Text, NDArray[np.int32], Scored]):
    """Predicts the next token."""

    name = "lm"
    criterion = Criterion("perplexity", higher_is_better=False)

    def __init__(self, tokenizer: Tokenizer, *, settings: LMSettings) -> None:
        self.tokenizer = tokenizer
        self.settings = settings
        self.budget = max(64, min(8192, LOGITS_BUDGET // tokenizer.size))  # padded tokens in a batch

    @classmethod
    def read(cls, lines: Lines, format: str, settings: Any, *, targets: bool) -> Iterator[Text]:
        return read_texts(lines, format=format, unit=settings.unit, text_column=settings.text_column)

    @classmethod
    def learn(cls, records: Sequence[Text], settings: Any, **extras: Any) -> Self:
        """Vocabulary of training texts."""
        assert isinstance(settings, LMSettings)
        if not any(record.text for record in records):
            raise DataError("training data: want text, found none")
        tokenizer = tokenize.train(
            settings.tokenizer, (record.text for record in records), vocab_size=settings.vocab_size,
            lower=settings.lower, min_count=settings.min_count,
        )
        return cls(tokenizer, settings=settings)

    def config(self) -> dict[str, Any]:
        return {"tokenizer": self.tokenizer.config()}

    def save(self, folder: Path) -> None:
        self.tokenizer.save(folder)

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any], settings: Any) -> Self:
        return cls(tokenize.load(folder, config["tokenizer"]), settings=settings)

    def sizes(self) -> dict[str, int]:
        return {"vocabulary": self.tokenizer.size, "outputs": self.tokenizer.size}

    def example(self, record: Text, *, targets: bool = False) -> NDArray[np.int32]:
        return np.array(self.tokenizer.encode(record.text), np.int32)

    def length(self, example: NDArray[np.int32]) -> int:
        return len(example) + 1

    def collate(self, examples: Sequence[NDArray[np.int32]]) -> Arrays:
        tokens, lengths = pad([np.concatenate([[BOS], ids]) for ids in examples], PAD)
        targets, _ = pad([np.concatenate([ids, [EOS]]) for ids in examples], IGNORE)
        return {"tokens": tokens, "lengths": lengths, "targets": targets}

    def windows(self, examples: Sequence[NDArray[np.int32]], *, columns: int, steps: int) -> Iterator[Arrays]:
        """All records as one stream, cut into `columns` side by side and read `steps` at a time.

        Every token is predicted once: the last column is filled up with padding that isn't scored.
        """
        if not examples:
            return
        tokens = np.concatenate([np.concatenate([[BOS], ids]) for ids in examples])  # (N,)
        targets = np.concatenate([np.concatenate([ids, [EOS]]) for ids in examples])
        height = -(-len(tokens) // columns)
        missing = height * columns - len(tokens)
        tokens = np.append(tokens, np.full(missing, PAD)).reshape(columns, height).T  # (N / columns, columns)
        targets = np.append(targets, np.full(missing, IGNORE)).reshape(columns, height).T
        for start in range(0, height, steps):
            window = slice(start, start + steps)
            yield {
                "tokens": np.ascontiguousarray(tokens[window]),
                "targets": np.ascontiguousarray(targets[window]),
                "lengths": np.full(columns, min(steps, height - start), np.int32),
            }

    def run(self, engine: Engine, arrays: Arrays) -> Arrays:
        """`log_probs` (T, B) of a batch whose rows start from zero states, or from those in `arrays`.

        A long batch is read in pieces, the state carried, so that only the budget's logits exist at once.
        The states after the last step come back as `state.*`.
        """
        tokens, targets, lengths = (arrays[name] for name in ("tokens", "targets", "lengths"))
        state = {name: arrays.get(name, zeros) for name, zeros in engine.initial_state(len(lengths)).items()}
        steps = max(1, self.budget // len(lengths))
        pieces = []
        for start in range(0, len(tokens), steps):
            piece = {
                "tokens": tokens[start : start + steps],
                "targets": targets[start : start + steps],
                # A row that has ended reads on in its padding, which is never scored.
                "lengths": np.clip(lengths - start, 1, min(steps, len(tokens) - start)).astype(np.int32),
            }
            outputs = engine.run(piece | state, ["log_probs", *map(next_name, state)])
            state = {name: outputs[next_name(name)] for name in state}
            pieces.append(outputs["log_probs"])
        return {"log_probs": np.concatenate(pieces), **state}

    def score_stream(self, engine: Engine, records: Iterable[Text]) -> Iterator[tuple[Text, Scored]]:
        """Texts that follow each other with their log-probabilities, the state carried along."""
        state: Arrays = {}
        for record in records:
            outputs = self.run(engine, self.encode([record]) | state)
            state = {name: values for name, values in outputs.items() if name.startswith("state.")}
            yield record, self.decode([record], outputs)[0]

    def decode(self, records: Sequence[Text], outputs: Arrays) -> list[Scored]:
        """Log-probabilities of each text of a batch."""
        log_probs = outputs["log_probs"].T  # (B, T)
        results = []
        for record, row in zip(records, log_probs, strict=True):
            tokens = self.tokenizer.tokens(record.text)
            unknown = len(self.tokenizer.unknown(record.text))
            results.append(Scored(tokens, row[: len(tokens) + 1].tolist(), unknown))
        return results

    def report(self, engine: Engine, records: Iterable[Text]) -> dict[str, Any]:
        """Perplexity, bits per character and per byte, tokens scored and out of vocabulary."""
        kept = list(records)
        examples = [self.example(record) for record in kept]
        nll, tokens = self._nll(engine, examples, columns=1)
        separators = SEPARATORS[self.settings.unit] * len(kept)
        texts = [record.text for record in kept]
        characters = sum(map(len, texts)) + separators
        size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts) + separators
        oov = sum(len(self.tokenizer.unknown(text)) for text, ids in zip(texts, examples, strict=True)
                  if UNK in ids)
        report = metrics.lm_report(nll_nats=nll, tokens=tokens, characters=characters, bytes=size, oov=oov)
        return {"records": len(kept)} | report

    def mistakes(self, engine: Engine, records: Sequence[Text], k: int) -> list[Mistake]:
        """The `k` most surprising tokens: `gold` is the token, `prob` its probability."""
        def tokens() -> Iterator[tuple[float, Text, tokenize.Token]]:
            for record in records:
                result = self.decode([record], self.run(engine, self.encode([record])))[0]
                for token, log_prob in zip(result.tokens, result.log_probs, strict=False):
                    yield log_prob, record, token

        return [
            Mistake(prob=math.exp(log_prob), gold=record.text[token.start : token.end], predicted="",
                    context=excerpt(record.text, token.start, token.end))
            for log_prob, record, token in heapq.nsmallest(k, tokens(), key=lambda found: found[0])
        ]

    def score(self, engine: Engine, records: Sequence[Text]) -> float:
        """Perplexity alone; a stream is read in columns, which is faster and costs a little context."""
        examples = [self.example(record) for record in records]
        nll, tokens = self._nll(engine, examples, columns=SCORE_COLUMNS)
        return math.exp(min(700.0, nll / max(1, tokens)))

    def _nll(
        self, engine: Engine, examples: Sequence[NDArray[np.int32]], *, columns: int
    ) -> tuple[float, int]:
        """Nats of all the records, and how many tokens were scored; a stream is read in `columns`."""
        if self.settings.context == "stream":
            tokens = sum(map(self.length, examples))
            columns = max(1, min(columns, tokens // SCORE_STEPS))  # each starts from an empty state
            batches: Iterable[Arrays] = self.windows(examples, columns=columns, steps=tokens)
        else:
            indices = by_length([self.length(example) for example in examples], self.budget)
            batches = (self.collate([examples[i] for i in batch]) for batch in indices)
        nll, tokens = 0.0, 0
        for arrays in batches:
            nll -= float(self.run(engine, arrays)["log_probs"].sum(dtype=np.float64))
            tokens += int((arrays["targets"] != IGNORE).sum())
        return nll, tokens


class EngineStep:
    """A language model as `rnntool.decoding` wants it: reads tokens, gives logits, passes its state on."""

    def __init__(self, engine: Engine, *, budget: int) -> None:
        self.engine = engine
        self.budget = budget  # padded tokens read at once

    def start(self, prompts: Sequence[Sequence[int]]) -> tuple[NDArray[Any], Arrays]:
        """Read prompts (B of them, of any lengths): logits (B, V) of what follows, and the states."""
        rows = [np.array(prompt, np.int32) for prompt in prompts]
        parts = []
        for batch in by_length([len(row) for row in rows], self.budget):
            tokens, lengths = pad([rows[i] for i in batch], PAD)
            state = self.engine.initial_state(len(batch))
            # Only a row alone can be beyond the budget; it is read in pieces, for its logits are many.
            for start in range(0, len(tokens), self.budget):
                piece = tokens[start : start + self.budget]
                ends = np.minimum(lengths - start, len(piece))
                logits, state = self._read(piece, ends, state)
            parts.append((batch, logits[ends - 1, np.arange(len(batch))], state))
        order = np.argsort(np.concatenate([batch for batch, _, _ in parts]))
        state = {name: np.concatenate([state[name] for _, _, state in parts], axis=1) for name in parts[0][2]}
        return np.concatenate([logits for _, logits, _ in parts])[order], self.select(state, order)

    def advance(self, tokens: NDArray[Any], state: Arrays) -> tuple[NDArray[Any], Arrays]:
        """Read one token a row."""
        logits, state = self._read(tokens[None].astype(np.int64), np.ones(len(tokens), np.int32), state)
        return logits[0], state

    def select(self, state: Arrays, rows: NDArray[Any]) -> Arrays:
        """The states of some rows."""
        return {name: np.ascontiguousarray(values[:, rows]) for name, values in state.items()}

    def _read(
        self, tokens: NDArray[np.int64], lengths: NDArray[np.int32], state: Arrays
    ) -> tuple[Any, Arrays]:
        arrays: Arrays = {"tokens": tokens, "lengths": lengths, "targets": np.zeros_like(tokens)}
        outputs = self.engine.run(arrays | state, ["logits", *map(next_name, state)])
        return outputs["logits"], {name: outputs[next_name(name)] for name in state}


def next_name(state: str) -> str:
    """The output that holds what the input `state` becomes: `state.0.h` → `next.0.h`."""
    return "next" + state.removeprefix("state")

