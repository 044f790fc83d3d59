"""Language modelling: the probability of a text, token by token, and new text from it.

Each record is read as BOS w1 … wn and predicted as w1 … wn EOS: BOS is never scored, EOS always is. In the
`stream` context the state is carried from record to record, in the `line` context each record starts from
zero.

Text given a label begins with a token of its label in place of BOS. These tokens come behind the vocabulary:
the embedding has a row for each, the softmax has none, so they take no probability from the text.
"""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from rnntool import tokenize
from rnntool.data.arrays import IGNORE, Arrays, by_length, pad
from rnntool.data.formats import read_texts
from rnntool.data.labels import Labels
from rnntool.data.records import Text
from rnntool.data.rows import BLOCK_BYTES, Block, Rows, Values
from rnntool.data.streams import Lines
from rnntool.errors import DataError, UsageError
from rnntool.evaluation import metrics
from rnntool.tasks.base import (
    AnyTask,
    Criterion,
    Engine,
    Evaluation,
    Mistake,
    Task,
    excerpt,
)
from rnntool.tasks.specs.lm import SPEC, LMSettings
from rnntool.tokenize import (
    BOS,
    EOS,
    PAD,
    UNK,
    Tokenizer,
    WordTokenizer,
)

LOGITS_BUDGET = 1 << 23  # numbers in one batch's logits: 32 MiB
SCORE_COLUMNS = 16  # of a stream, where a training only wants to know whether it got better
SCORE_STEPS = 1000  # the least length of such a column
# characters that stand between records, and EOS for them
SEPARATORS = {"line": 1, "paragraph": 2, "document": 0}
SHOWN = 20  # labels that a message lists
BITS_PER_CHAR = Criterion("bits_per_char", higher_is_better=False, figure=metrics.bits_per_char)


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
    log_ends: list[float] | None = None
    """Where a token begins with white space, and for EOS: the log-probability that any such token or EOS
    stands there, so that the word before it is over. 0 elsewhere. None where each token is a word anyway."""

    @property
    def total_nats(self) -> float:
        """Log-probability of the whole record."""
        return float(sum(self.log_probs))

    @property
    def perplexity(self) -> float:
        """Perplexity of a token, EOS included."""
        return metrics.perplexity_of(-self.total_nats / len(self.log_probs))

    def units(self, text: str) -> list[Unit]:
        """Each token of `text` with its surprisal, and the end of the record, `</s>`."""
        spans = [(t.start, t.end) for t in self.tokens]
        return self._units(text, spans, [[i] for i in range(len(self.log_probs))])

    def words(self, text: str) -> list[Unit]:
        """Each word of `text` (what stands between white space), and the end of the record.

        The tokens of a word are those that begin in it or in the space before it. That the word is over, and
        not the beginning of a longer one, only the token behind it tells, by the space that it begins with.
        So the probability of such a token (or EOS) counts for the word, and the next one's is divided by it
        (Oh and Schuler, 2024; Pimentel and Meister, 2024):

            p(word | before) = p(tokens) * p(a word ends here | tokens) / p(a word ends here | before)

        The first word's is not divided: nothing has to end before it. So the surprisals of all words and of
        the end sum to the record's, and at each place behind a word the probabilities of all words that can
        follow, and of the end, sum to one. White space without a word is the end's.
        """
        spans = [match.span() for match in re.finditer(r"\S+", text)]
        if not spans:
            return [Unit("</s>", len(text), len(text), -self.total_nats / math.log(2))]
        groups: list[list[int]] = [[] for _ in (*spans, "the end")]
        word = 0
        for i, token in enumerate(self.tokens):
            if token.start < token.end:  # but the later bytes of a character, which go with the first one
                while word < len(spans) and token.start >= spans[word][1]:
                    word += 1
            groups[word].append(i)
        groups[-1].append(len(self.tokens))
        units = self._units(text, spans, groups)
        if self.log_ends is None:
            return units
        # the token behind each word
        behind = [group[0] if group else None for group in groups[1:]]
        for k, place in enumerate(behind):
            bits = -self.log_ends[place] / math.log(2) if place is not None else 0.0
            units[k] = units[k]._replace(surprisal_bits=units[k].surprisal_bits + bits)
            units[k + 1] = units[k + 1]._replace(surprisal_bits=units[k + 1].surprisal_bits - bits)
        return units

    def nats_behind(self, text: str, start: int) -> float:
        """Log-probability of the words of `text` that begin at `start` or later, given what stands before."""
        words = self.words(text)[:-1]
        return -math.log(2) * sum(word.surprisal_bits for word in words if word.start >= start)

    def _units(self, text: str, spans: list[tuple[int, int]], groups: list[list[int]]) -> list[Unit]:
        """What stands at `spans`, and the end behind it, each with the log-probabilities of its group."""
        bits = [-sum(self.log_probs[i] for i in group) / math.log(2) for group in groups]
        places = [(text[start:end], start, end) for start, end in spans]
        end = ("</s>", len(text), len(text))
        return [Unit(*place, value) for place, value in zip([*places, end], bits, strict=True)]


class LMTask(Task[Text, NDArray[np.int32], Scored, LMSettings]):
    """Predicts the next token, and with `labels` does so given the label of the text.

    An example is the ids of a text behind BOS or its label's.
    """

    spec = SPEC
    name = SPEC.name
    small_batches = False  # large products share all threads
    criterion = Criterion("perplexity", higher_is_better=False, figure=metrics.perplexity)

    def __init__(
        self, tokenizer: Tokenizer, *, settings: LMSettings, labels: Labels | None = None
    ) -> None:
        self.tokenizer = tokenizer
        self.settings = settings
        self.labels = labels
        self.budget = max(64, min(self.budget, LOGITS_BUDGET // tokenizer.size))  # logits are most of a batch
        self.ends_word = np.zeros(tokenizer.size, np.float32)  # (V,) 1 for what ends the word before it
        self.ends_word[[*tokenizer.leading_space_ids, EOS]] = 1
        self.of_words = isinstance(tokenizer, WordTokenizer)

    @classmethod
    def read(cls, lines: Lines, format: str, settings: LMSettings, *, targets: bool) -> Iterator[Text]:
        texts = read_texts(lines, format=format, unit=settings.unit, text_column=settings.text_column,
                           label_column=settings.label_column)
        return map(_labelled, texts) if targets and settings.label_column else texts

    @classmethod
    def learn(
        cls, records: Sequence[Text], settings: LMSettings, *, raw: Sequence[Text] = (),
        vectors: Sequence[str] = (), base: Tokenizer | None = None, characters: Tokenizer | None = None,
    ) -> Self:
        """Vocabulary of training texts, and their labels where text is learned given them."""
        if not any(record.text for record in records):
            raise DataError("training data: expected text, found none; give files that have some")
        labels = Labels.collect(map(_label, records)) if settings.label_column else None
        if labels is not None and len(labels) < 2:
            raise DataError("training data: expected at least 2 different labels, found only "
                            f"{labels.names[0]!r}; see --label-column")
        tokenizer = tokenize.train(
            settings.tokenizer, (record.text for record in records), vocab_size=settings.vocab_size,
            lower=settings.lower, min_count=settings.min_count, split=settings.split,
            base=base,
        )
        return cls(tokenizer, settings=settings, labels=labels)

    def config(self) -> dict[str, Any]:
        return {"tokenizer": self.tokenizer.config()}

    def save(self, folder: Path) -> None:
        self.tokenizer.save(folder)
        if self.labels is not None:
            self.labels.save(folder)

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any], settings: LMSettings) -> Self:
        labels = Labels.load(folder) if settings.label_column else None
        return cls(tokenize.load(folder, config["tokenizer"]), settings=settings, labels=labels)

    def sizes(self) -> dict[str, int]:
        return {"vocabulary": self.tokenizer.size + len(self.labels or ()), "outputs": self.tokenizer.size}

    def begin(self, label: str | None) -> int:
        """The token that a text with this label begins with, BOS where the model learned none.

        `UsageError` for a label that it doesn't know, and for none where it wants one.
        """
        if self.labels is None:
            if label is not None:
                raise UsageError(f"--label: the model learned text without labels, found {label!r}; leave it "
                                 "out")
            return BOS
        if label is None or label not in self.labels:
            found = "none" if label is None else repr(label)
            raise UsageError(f"--label: expected a label that the model learned ({self._known()}), found {found}")
        return self.tokenizer.size + self.labels.id(label)

    def check(self, records: Iterable[Text]) -> None:
        """`DataError` for the first record that has no label, several, or one that training never saw."""
        for record in records if self.labels is not None else ():
            self._begin(record)

    def _begin(self, record: Text) -> int:
        if self.labels is None:
            return BOS
        label = _label(record)
        if label not in self.labels:
            raise DataError(f"{_place(record)}: expected a label that training saw ({self._known()}), found "
                            f"{label!r}; see --label-column")
        return self.begin(label)

    def _known(self) -> str:
        names = self.labels.names if self.labels is not None else ()
        return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")

    def example(self, record: Text, *, targets: bool = False) -> NDArray[np.int32]:
        return np.array([self._begin(record), *self.tokenizer.encode(record.text)], np.int32)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The smallest type of number that holds each token."""
        return np.min_scalar_type(self.sizes()["vocabulary"] - 1)

    def blocks(self, records: Iterable[Text]) -> Iterator[Block]:
        """The examples of all records, many at a time."""
        texts: list[str] = []
        begins: list[int] = []
        size = 0
        for record in records:
            begins.append(self._begin(record))
            texts.append(record.text)
            size += 1 + len(record.text)
            if size > BLOCK_BYTES:
                yield self._block(begins, texts)
                begins, texts, size = [], [], 0
        if texts:
            yield self._block(begins, texts)

    def _block(self, begins: list[int], texts: list[str]) -> Block:
        rows = self.tokenizer.encode_batch(texts)
        lengths = np.fromiter(map(len, rows), np.int64, len(rows)) + 1
        ids = chain.from_iterable(chain.from_iterable(zip(zip(begins), rows, strict=True)))
        return Block(np.fromiter(ids, self.dtype, int(lengths.sum())), lengths)

    def rows(self, records: Iterable[Text]) -> Rows:
        """The examples of all records, in memory."""
        return Rows.of(self.blocks(records), self.dtype)

    @property
    def carries_state(self) -> bool:
        return self.settings.context == "stream"

    def spans(self, record: Text) -> tuple[str, list[tuple[int, int]]]:
        return record.text, [(token.start, token.end) for token in self.tokenizer.tokens(record.text)]

    def length(self, example: NDArray[np.int32]) -> int:
        return len(example)

    def collate(self, examples: Sequence[NDArray[np.int32]]) -> Arrays:
        tokens, lengths = pad(examples, PAD)
        targets, _ = pad([np.append(ids[1:], EOS) for ids in examples], IGNORE)
        return {"tokens": tokens, "lengths": lengths, "targets": targets}

    def windows(self, stream: Values, *, columns: int, steps: int, start: int = 0) -> Iterator[Arrays]:
        """A stream (N,) of examples, cut into `columns` side by side and read `steps` at a time.

        Every token is predicted once: the last columns are filled up with padding that isn't scored. The
        first window is the `start`-th.
        """
        height = -(-len(stream) // columns)
        for first in range(start * steps, height, steps):
            size = min(steps, height - first)
            tokens = np.full((columns, size), PAD, np.int64)
            targets = np.full((columns, size), IGNORE, np.int64)
            for column in range(columns):
                place = column * height + first
                ids = stream[place : place + size + 1]  # the last one is a target only
                here, behind = ids[:size], ids[1:]
                tokens[column, : len(here)] = here
                targets[column, : len(behind)] = np.where(behind == BOS, EOS, behind)
                if len(behind) < len(here):  # the end of the stream
                    targets[column, len(behind)] = EOS
            yield {
                "tokens": np.ascontiguousarray(tokens.T),
                "targets": np.ascontiguousarray(targets.T),
                "lengths": np.full(columns, size, np.int32),
            }

    def run(self, engine: Engine, arrays: Arrays, *, ends: bool = True) -> Arrays:
        """`log_probs` (T, B) of a batch whose rows start from zero states, or from those in `arrays`.

        With `ends`, there are `log_ends` (T, B) too; see `Scored`. A long batch is read in pieces, the state
        carried, so that only the budget's logits exist at once.
        The states after the last step come back as `state.*`.
        """
        tokens, targets, lengths = (arrays[name] for name in ("tokens", "targets", "lengths"))
        state = {name: arrays.get(name, zeros) for name, zeros in engine.initial_state(len(lengths)).items()}
        steps = max(1, self.budget // len(lengths))
        ends = ends and not self.of_words
        pieces: dict[str, list[NDArray[Any]]] = {"log_probs": [], **({"log_ends": []} if ends else {})}
        for start in range(0, len(tokens), steps):
            piece = {
                "tokens": tokens[start : start + steps],
                "targets": targets[start : start + steps],
                # A row that has ended reads on in its padding, which is never scored.
                "lengths": np.clip(lengths - start, 1, min(steps, len(tokens) - start)).astype(np.int32),
            }
            wanted = ["log_probs", *(["logits"] if ends else []), *map(next_name, state)]
            outputs = engine.run(piece | state, wanted)
            state = {name: outputs[next_name(name)] for name in state}
            pieces["log_probs"].append(outputs["log_probs"])
            if ends:
                log_ends = self._log_ends(outputs["logits"], piece["targets"], outputs["log_probs"])
                pieces["log_ends"].append(log_ends)
        return {name: np.concatenate(parts) for name, parts in pieces.items()} | state

    def _log_ends(self, logits: NDArray[Any], targets: NDArray[Any], log_probs: NDArray[Any]) -> NDArray[Any]:
        """(T, B): log-probability of all that can end a word, where the target does; 0 elsewhere."""
        places = np.nonzero((targets >= 0) & (self.ends_word[targets] > 0))
        chosen, found = log_probs[places], logits[places]  # (N,), (N, V)
        found -= (found[np.arange(len(chosen)), targets[places]] - chosen)[:, None]  # the softmax's own total
        log_ends = np.zeros_like(log_probs)
        with np.errstate(divide="ignore"):
            total = np.log(np.exp(found) @ self.ends_word)
        log_ends[places] = np.clip(total, chosen, 0)  # rounding apart, all have as much as the one
        return log_ends

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
        log_ends = outputs["log_ends"].T if "log_ends" in outputs else None
        results = []
        for i, record in enumerate(records):
            tokens = self.tokenizer.tokens(record.text)
            unknown = len(self.tokenizer.unknown(record.text))
            size = len(tokens) + 1
            ends = None if log_ends is None else log_ends[i, :size].tolist()
            results.append(Scored(tokens, log_probs[i, :size].tolist(), unknown, ends))
        return results

    def evaluate(self, engine: Engine, records: Sequence[Text], *, mistakes: int = 0) -> Evaluation:
        """Perplexity, bits per character and per byte, tokens scored and out of vocabulary.

        A mistake is a token, `gold` with its probability; the most surprising ones are given.
        """
        examples = self.rows(records)
        log_probs = self._log_probs(engine, examples, columns=1)
        separator = SEPARATORS[self.settings.unit]
        counts = np.empty((len(examples), 3))
        counts[:, 0] = [-row.sum(dtype=np.float64) for row in log_probs]
        counts[:, 1] = examples.lengths
        counts[:, 2] = [len(record.text) + separator for record in records]
        nll, tokens, characters = counts.sum(axis=0).tolist()
        size = sum(len(record.text.encode("utf-8", "surrogatepass")) + separator for record in records)
        oov = sum(len(self.tokenizer.unknown(record.text))
                  for record, ids in zip(records, examples, strict=True) if UNK in ids)
        report = metrics.lm_report(
            nll_nats=nll, tokens=int(tokens), characters=int(characters), bytes=size, oov=oov)
        return Evaluation(report={"records": len(records)} | report, counts=counts,
                          mistakes=self._surprises(records, log_probs, mistakes) if mistakes else [])

    def score(self, engine: Engine, records: Sequence[Text]) -> dict[str, float]:
        """Perplexity alone; a stream is read in columns, which is faster and costs a little context."""
        examples = self.rows(records)
        log_probs = self._log_probs(engine, examples, columns=SCORE_COLUMNS)
        nll = -sum(float(row.sum(dtype=np.float64)) for row in log_probs)
        return {self.criterion.key: metrics.perplexity_of(nll / max(1, len(examples.values)))}

    def shared_criterion(self, other: AnyTask, records: Sequence[Text]) -> Criterion:
        """Perplexity where both split texts alike, else bits per character if neither leaves anything out."""
        super().shared_criterion(other, records)
        assert isinstance(other, LMTask)
        if self.settings.unit != other.settings.unit:
            raise UsageError(f"--compare: expected another model whose --unit is {self.settings.unit}, found one "
                             f"whose is {other.settings.unit}")
        if other.labels is not None and self.labels is None:
            raise UsageError("--compare: expected a model that reads no labels, found one of text given a label; "
                             "name the other one here and that one with -m")
        ours, theirs = self.tokenizer, other.tokenizer
        if _vocabulary(ours) == _vocabulary(theirs) and all(
                _pieces(ours, record.text) == _pieces(theirs, record.text) for record in records):
            return self.criterion
        lost = sum(any(tokenizer.decode(tokenizer.encode(record.text)) != record.text
                       for tokenizer in (ours, theirs)) for record in records)
        if lost:
            raise UsageError(
                f"--compare: the models' tokenizers differ and change {lost} of {len(records)} records "
                "(unknown words, case, spaces), so neither perplexity nor bits per character are of the same "
                "text; compare models that have one tokenizer, or lossless ones (unigram, bpe, byte)")
        return BITS_PER_CHAR

    def _surprises(self, records: Sequence[Text], log_probs: Sequence[NDArray[Any]], k: int) -> list[Mistake]:
        places = ((log_prob, i, j) for i, row in enumerate(log_probs)
                  for j, log_prob in enumerate(row[:-1].tolist()))  # EOS is no token that can be shown
        found = []
        for log_prob, i, j in heapq.nsmallest(k, places):
            text = records[i].text
            token = self.tokenizer.tokens(text)[j]
            found.append(Mistake(prob=math.exp(log_prob), gold=text[token.start : token.end], predicted="",
                                 context=excerpt(text, token.start, token.end)))
        return found

    def _log_probs(self, engine: Engine, examples: Rows, *, columns: int) -> Rows:
        """Log-probabilities of each example's tokens and of EOS; a stream is read in `columns`."""
        total, bounds = len(examples.values), examples.bounds.tolist()
        found = np.empty(total, np.float32)
        if self.settings.context == "stream":
            columns = max(1, min(columns, total // SCORE_STEPS))  # each starts from an empty state
            height, place, state = -(-total // columns), 0, Arrays()
            for arrays in self.windows(
                    examples.values, columns=columns, steps=max(1, self.budget // columns)):
                outputs = self.run(engine, arrays | state, ends=False)
                state = {name: values for name, values in outputs.items() if name.startswith("state.")}
                for column, row in enumerate(outputs["log_probs"].T):
                    part = found[column * height + place : column * height + place + len(row)]
                    part[:] = row[: len(part)]  # behind the last record is padding
                place += len(arrays["tokens"])
        else:
            for batch in by_length(examples.lengths.tolist(), self.budget):
                outputs = self.run(engine, self.collate([examples[i] for i in batch]), ends=False)
                for i, row in zip(batch, outputs["log_probs"].T, strict=True):
                    found[bounds[i] : bounds[i + 1]] = row[: bounds[i + 1] - bounds[i]]
        return Rows(found, examples.bounds)


def _label(record: Text) -> str:
    """The label that a record's text is read given; `DataError` where it is not one."""
    if len(record.labels) != 1:
        found = f"{len(record.labels)} ({', '.join(record.labels)})" if record.labels else "none"
        raise DataError(f"{_place(record)}: expected one label, found {found}; see --label-column and --from, or "
                        "rnntool score --label")
    return record.labels[0]


def _labelled(record: Text) -> Text:
    """The record; `DataError` where it has no label, or several."""
    _label(record)
    return record


def _place(record: Text) -> str:
    return record.place or f"text {record.text[:SHOWN]!r}"


def _vocabulary(tokenizer: Tokenizer) -> list[str]:
    """All pieces; the ids go by how frequent they were in training, and tell nothing."""
    return sorted(map(tokenizer.piece, range(tokenizer.size)))


def _pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    return list(map(tokenizer.piece, tokenizer.encode(text)))


def next_name(state: str) -> str:
    """The output that holds what the input `state` becomes: `state.0.h` → `next.0.h`."""
    return "next" + state.removeprefix("state")
