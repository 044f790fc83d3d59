"""Language modeling: the probability of a text, token by token.

The network reads BOS w1 … wn and predicts w1 … wn EOS: BOS is never scored, EOS always is. In the `stream`
context the recurrent state is carried from record to record; in the `line` context each record starts from a
state of zeros.

In a model conditioned on labels, a text starts with the token of its label instead of BOS. These tokens come
after the vocabulary: the embedding has a row for each, but the softmax has none, so they take no probability
from the text.
"""

from __future__ import annotations

import hashlib
import heapq
import math
import re
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from rnntool import __version__, tokenize
from rnntool.data.arrays import IGNORE, Arrays, by_length, pad
from rnntool.data.corpus import Texts
from rnntool.data.formats import OnUnlabeled, UnlabeledError, labeled, read_texts, reject
from rnntool.data.formats.text import is_wrapped
from rnntool.data.labels import Labels
from rnntool.data.progress import Log, Stage
from rnntool.data.reading import USUAL_LAYOUT, Layout
from rnntool.data.records import Text
from rnntool.data.rows import BLOCK_BYTES, Block, Rows, Values
from rnntool.data.streams import Lines
from rnntool.data.token_cache import cached_rows
from rnntool.errors import DataError, UsageError, setting
from rnntool.evaluation import metrics
from rnntool.models.backoff import BackoffModel
from rnntool.models.config import EncoderConfig, LMHeadConfig, NetworkConfig, ObjectiveConfig
from rnntool.models.kneser_ney import estimate
from rnntool.tasks.base import (
    AnyTask,
    Baseline,
    Criterion,
    Engine,
    Evaluation,
    LogProbs,
    Mistake,
    Task,
    excerpt,
    listed,
    next_name,
)
from rnntool.tasks.network_config import encoder_config, from_settings
from rnntool.tasks.specs.lm import ADAPTIVE_FROM, SPEC, LMSettings
from rnntool.tokenize import BOS, EOS, PAD, UNK, Tokenizer, WordTokenizer

LOGITS_BUDGET = 1 << 23  # numbers in the logits of one batch: 32 MiB
FEW, LONG = 100, 2000  # texts, and characters of each: a sample of fewer and longer ones takes a part of each
SCORE_COLUMNS = 16  # columns in which a stream of development data is scored during training
SCORE_STEPS = 1000  # minimum length of such a column
MAX_BASELINE = 10_000_000  # tokens of the training data up to which the n-gram baseline needs about 1 GB
BASELINE_SPEED, BASELINE_SHARE = 500_000, 0.05  # tokens in a second, and share of the time limit
CUTOFFS = (8_000, 40_000)  # first tokens of the clusters of rarer tokens in an adaptive softmax
SEPARATORS = {"line": 1, "paragraph": 2, "document": 0}  # by unit: characters between records, counted as EOS
MAX_LISTED = 20  # labels that a message lists
WRAPPED_SAMPLE = 5000  # lines that show whether a text is wrapped
MAX_EXCERPT = 20  # characters of a text in a message
BITS_PER_CHAR = Criterion("bits_per_char", higher_is_better=False, metric=metrics.bits_per_char)


class Unit(NamedTuple):
    """A token or a word: its text, its span in the record's text, and its surprisal in bits."""

    text: str
    start: int
    end: int
    surprisal_bits: float


@dataclass(slots=True)
class ScoredText(LogProbs):
    """A text's log-probabilities in nats.

    `log_ends` has an entry for each token that begins with white space and for EOS: the log-probability that
    any such token or EOS comes here, so that the previous word is complete. The other entries are 0. It is
    None for a model whose tokens are words.
    """

    tokens: list[tokenize.Token]
    log_probs: list[float]  # of each token and of EOS
    unknown: int  # number of unknown tokens
    log_ends: list[float] | None = None

    def units(self, text: str) -> list[Unit]:
        """Return each token of `text` with its surprisal, and the end of the text, `</s>`."""
        spans = [(t.start, t.end) for t in self.tokens]
        return self._units(text, spans, [[i] for i in range(len(self.log_probs))])

    def words(self, text: str) -> list[Unit]:
        """Return each word of `text`, between white space, with its surprisal, and the end of the text.

        The tokens of a word begin in it or in the white space before it. Only the next token, which begins
        with white space or is EOS, shows that the word is complete and not the beginning of a longer one. So
        the probability that any such token follows is a factor of the word's probability, and the next word's
        probability is divided by it (Oh and Schuler, 2024; Pimentel and Meister, 2024):

            p(word | before) = p(tokens) * p(a word ends here | tokens) / p(a word ends here | before)

        The first word is not divided, because no word ends before it. The surprisals of all words and of the
        end sum to the surprisal of the text. After each word, the probabilities of all possible words and of
        the end sum to one. White space at the end of the text counts as part of the end.
        """
        spans = [match.span() for match in re.finditer(r"\S+", text)]
        if not spans:
            return [Unit("</s>", len(text), len(text), -self.total_nats / math.log(2))]
        groups: list[list[int]] = [[] for _ in (*spans, "the end")]
        word = 0
        for i, token in enumerate(self.tokens):
            if token.start < token.end:  # all bytes of a character but the first are empty; they follow it
                while word < len(spans) and token.start >= spans[word][1]:
                    word += 1
            groups[word].append(i)
        groups[-1].append(len(self.tokens))
        units = self._units(text, spans, groups)
        if self.log_ends is None:
            return units
        next_tokens = [group[0] if group else None for group in groups[1:]]
        for k, next_token in enumerate(next_tokens):
            bits = -self.log_ends[next_token] / math.log(2) if next_token is not None else 0.0
            units[k] = units[k]._replace(surprisal_bits=units[k].surprisal_bits + bits)
            units[k + 1] = units[k + 1]._replace(surprisal_bits=units[k + 1].surprisal_bits - bits)
        return units

    def nats_from(self, text: str, start: int) -> float:
        """Return the log-probability of the words of `text` from character `start` on, given those before."""
        words = self.words(text)[:-1]
        return -math.log(2) * sum(word.surprisal_bits for word in words if word.start >= start)

    def _units(self, text: str, spans: list[tuple[int, int]], groups: list[list[int]]) -> list[Unit]:
        """Return the text of each span and the end, with the surprisal of its group of tokens."""
        bits = [-sum(self.log_probs[i] for i in group) / math.log(2) for group in groups]
        units = [(text[start:end], start, end) for start, end in spans]
        end_unit = ("</s>", len(text), len(text))
        return [Unit(*unit, value) for unit, value in zip([*units, end_unit], bits, strict=True)]


class LMTask(Task[Text, NDArray[np.int32], LMSettings]):
    """Predicts the next token. With `labels`, the model is conditioned on the label of the text.

    An example is BOS or the token of a label, followed by the token ids of a text.
    """

    spec = SPEC
    criterion = Criterion("perplexity", higher_is_better=False, metric=metrics.perplexity)
    scores_loss = True
    parallel_batches = False  # its large matrix products use all threads themselves
    long_record_advice = f"give {setting('context', 'stream')}, which reads a record piece by piece"

    def __init__(self, tokenizer: Tokenizer, *, settings: LMSettings, labels: Labels | None = None) -> None:
        self.tokenizer = tokenizer
        self.settings = settings
        self.labels = labels
        # the logits are most of a batch
        self.budget = max(64, min(self.budget, LOGITS_BUDGET // tokenizer.size))
        self.ends_word = np.zeros(tokenizer.size, np.float32)  # (V,) 1: the token shows that a word has ended
        self.ends_word[[*tokenizer.leading_space_ids, EOS]] = 1
        self.tokens_are_words = isinstance(tokenizer, WordTokenizer)

    # --- Records, and what is learned from them ------------------------------------------------------------

    @classmethod
    def read(
        cls, lines: Lines, format: str, settings: LMSettings, *, targets: bool,
        on_unlabeled: OnUnlabeled = reject, layout: Layout = USUAL_LAYOUT,
    ) -> Iterator[Text]:
        need_labels = targets and settings.label_column is not None
        texts = read_texts(
            lines, format=format, unit=settings.unit, text_column=settings.text_column if targets else None,
            default_text_column=settings.text_column, label_column=settings.label_column,
            need_labels=need_labels, on_unlabeled=on_unlabeled, layout=layout)
        if not need_labels:
            return texts
        return chain.from_iterable(labeled(on_unlabeled, partial(_with_one_label, text)) for text in texts)

    @classmethod
    def collect(cls, records: Iterable[Text], *, watch: Callable[[Stage], None]) -> Texts:
        return Texts.collect(records, watch=watch)

    @classmethod
    def learns_labels(cls, settings: LMSettings) -> bool:
        return bool(settings.label_column)

    @classmethod
    def is_running_text(cls, settings: LMSettings) -> bool:
        return not settings.label_column  # labeled records are often sorted by label

    @classmethod
    def labels_of(cls, record: Text, settings: LMSettings) -> Collection[tuple[int, str]]:
        return {(0, label) for label in record.labels}

    @classmethod
    def learn(
        cls, records: Sequence[Text], settings: LMSettings, *, raw: Sequence[Text] = (),
        vectors: Sequence[str] = (), base: Tokenizer | None = None, characters: Tokenizer | None = None,
        target_base: Tokenizer | None = None,
    ) -> Self:
        """Learn a vocabulary, and labels if the model is conditioned on them."""
        if not any(record.text for record in records):
            raise DataError(place="training data", expected=SPEC.learns_from, found="none",
                            advice="give files that have some")
        labels = Labels.collect(map(_label, records)) if settings.label_column else None
        if labels is not None and len(labels) < 2:
            raise DataError(place="training data", expected="at least 2 different labels",
                            found=f"only {labels.names[0]!r}", advice=f"check {setting('label_column')}")
        tokenizer = tokenize.train(
            settings.tokenizer, (record.text for record in records), vocab_size=settings.vocab_size,
            lower=settings.lower, min_count=settings.min_count, split=settings.split, base=base)
        return cls(tokenizer, settings=settings, labels=labels)

    @classmethod
    def doubts(cls, records: Sequence[Text], settings: LMSettings) -> Iterator[str]:
        by_line = (settings.unit, settings.context, settings.label_column) == ("line", "line", None)
        if by_line and is_wrapped([record.text for record in islice(records, WRAPPED_SAMPLE)]):
            yield ("the lines look like parts of wrapped paragraphs, but each line is a record that the "
                   f"model reads by itself; for running text give {setting('unit', 'document')} and "
                   f"{setting('context', 'stream')}")

    def learned(self) -> str:
        labels = f"{listed(self.labels.names, 'labels')}; " if self.labels is not None else ""
        return labels + super().learned()

    def check(self, records: Iterable[Text]) -> None:
        """Raise `DataError` for the first record that doesn't have exactly one label of the training data."""
        for record in records if self.labels is not None else ():
            self._first_token(record)

    def first_token(self, label: str | None) -> int:
        """Return the token that starts a text with this label; BOS if the model learned no labels.

        `UsageError` for an unknown label, and for a missing label if the model needs one.
        """
        if self.labels is None:
            if label is not None:
                raise UsageError("the model was trained on text without labels", setting="label",
                                 advice="leave it out")
            return BOS
        if label is None or label not in self.labels:
            raise UsageError(
                setting="label", expected=f"a label that the model learned ({self._listed_labels()})",
                found="none" if label is None else repr(label))
        return self.tokenizer.size + self.labels.id(label)

    def _first_token(self, record: Text) -> int:
        if self.labels is None:
            return BOS
        label = _label(record)
        if label not in self.labels:
            raise DataError(
                place=_place(record), expected=f"a label of the training data ({self._listed_labels()})",
                found=repr(label), advice=f"check {setting('label_column')}")
        return self.first_token(label)

    def _listed_labels(self) -> str:
        names = self.labels.names if self.labels is not None else ()
        return ", ".join(names[:MAX_LISTED]) + (", …" if len(names) > MAX_LISTED else "")

    # --- In a model folder ---------------------------------------------------------------------------------

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

    @classmethod
    def label_names(cls, folder: Path, settings: LMSettings) -> Sequence[str]:
        return Labels.load(folder).names if settings.label_column else ()

    # --- The network ---------------------------------------------------------------------------------------

    def sizes(self) -> dict[str, int]:
        return {"vocabulary": self.tokenizer.size + len(self.labels or ()), "outputs": self.tokenizer.size}

    def network_config(
        self, *, vector_size: int = 0, context: tuple[EncoderConfig, bool] | None = None
    ) -> NetworkConfig:
        settings, sizes = self.settings, self.sizes()
        if settings.encoder == "ngram":  # tables, which have no layers
            return NetworkConfig(
                encoder=EncoderConfig(vocabulary=sizes["vocabulary"], kind="ngram", window=settings.order - 1,
                                      embed=1, hidden=1),
                head=LMHeadConfig(outputs=sizes["outputs"]))
        return NetworkConfig(
            encoder=encoder_config(settings, sizes, bidirectional=False,
                                   cutoffs=cutoffs(settings, sizes["outputs"])),
            head=from_settings(LMHeadConfig, settings, outputs=sizes["outputs"]))

    def objective(self, examples: Sequence[NDArray[np.int32]]) -> ObjectiveConfig:
        return from_settings(ObjectiveConfig, self.settings, activation=self.settings.ar,
                             temporal_activation=self.settings.tar)

    @property
    def carries_state(self) -> bool:
        return self.settings.context == "stream"

    # --- Arrays --------------------------------------------------------------------------------------------

    def example(self, record: Text, *, targets: bool = False) -> NDArray[np.int32]:
        return np.array([self._first_token(record), *self.tokenizer.encode(record.text)], np.int32)

    def training_examples(
        self, records: Sequence[Text], *, watch: Callable[[Stage], None], log: Log
    ) -> Rows:
        """Encode all training texts; the tokens of a large corpus are stored in the user's cache folder."""
        if not isinstance(records, Texts) or not records.large:
            return self.rows(records)

        def blocks() -> Iterator[Block]:
            texts = tokens = 0
            for block in self._blocks(records):
                yield block
                texts, tokens = texts + len(block.lengths), tokens + len(block.values)
                watch(Stage("tokenizing", texts / len(records), tokens, "tokens"))

        return cached_rows(blocks(), self._dtype, key=self._cache_key(records), warn=log)

    def rows(self, records: Iterable[Text]) -> Rows:
        """Encode all records, in memory."""
        return Rows.of(self._blocks(records), self._dtype)

    @property
    def _dtype(self) -> np.dtype[Any]:
        """The smallest integer type that holds all token ids."""
        return np.min_scalar_type(self.sizes()["vocabulary"] - 1)

    def _blocks(self, records: Iterable[Text]) -> Iterator[Block]:
        """Encode records in blocks of many."""
        texts: list[str] = []
        first_tokens: list[int] = []
        size = 0
        for record in records:
            first_tokens.append(self._first_token(record))
            texts.append(record.text)
            size += 1 + len(record.text)
            if size > BLOCK_BYTES:
                yield self._block(first_tokens, texts)
                first_tokens, texts, size = [], [], 0
        if texts:
            yield self._block(first_tokens, texts)

    def _block(self, first_tokens: list[int], texts: list[str]) -> Block:
        rows = self.tokenizer.encode_batch(texts)
        lengths = np.fromiter(map(len, rows), np.int64, len(rows)) + 1
        ids = chain.from_iterable(chain.from_iterable(zip(zip(first_tokens), rows, strict=True)))
        return Block(np.fromiter(ids, self._dtype, int(lengths.sum())), lengths)

    def _cache_key(self, records: Texts) -> str:
        """Return a digest of everything that the token ids of the records depend on."""
        digest = hashlib.blake2b(records.digest() + __version__.encode(), digest_size=16)
        digest.update(repr(self.config()).encode())
        with tempfile.TemporaryDirectory() as folder:
            self.save(Path(folder))
            for path in sorted(Path(folder).iterdir()):
                digest.update(f"{path.name}\0".encode() + path.read_bytes())
        return digest.hexdigest()

    def length(self, example: NDArray[np.int32]) -> int:
        return len(example)

    def collate(self, examples: Sequence[NDArray[np.int32]]) -> Arrays:
        tokens, lengths = pad(examples, PAD)
        targets, _ = pad([np.append(ids[1:], EOS) for ids in examples], IGNORE)
        return {"tokens": tokens, "lengths": lengths, "targets": targets}

    def windows(self, stream: Values, *, columns: int, steps: int, start: int = 0) -> Iterator[Arrays]:
        """Cut a stream of tokens (N,) into `columns` that are read side by side, `steps` tokens at a time.

        Every token is predicted once; the end of the last columns is padding, which isn't scored. The first
        window has the number `start`.
        """
        height = -(-len(stream) // columns)  # rounded up
        for first in range(start * steps, height, steps):
            size = min(steps, height - first)
            tokens = np.full((columns, size), PAD, np.int64)
            targets = np.full((columns, size), IGNORE, np.int64)
            for column in range(columns):
                place = column * height + first
                ids = stream[place : place + size + 1]  # the last one is only a target
                inputs, following = ids[:size], ids[1:]
                tokens[column, : len(inputs)] = inputs
                targets[column, : len(following)] = np.where(following == BOS, EOS, following)
                if len(following) < len(inputs):  # the end of the stream
                    targets[column, len(following)] = EOS
            yield {
                "tokens": np.ascontiguousarray(tokens.T),
                "targets": np.ascontiguousarray(targets.T),
                "lengths": np.full(columns, size, np.int32),
            }

    def run(self, engine: Engine, arrays: Arrays, *, ends: bool = True) -> Arrays:
        """Compute `log_probs` (T, B) of a batch, from the states in `arrays` or from states of zeros.

        With `ends`, also `log_ends` (T, B); see `ScoredText`. To limit the logits in memory, a long batch is
        read in pieces, and the state is carried between them. The states after the last step are returned as
        `state.*`.
        """
        tokens, targets, lengths = (arrays[name] for name in ("tokens", "targets", "lengths"))
        state = {name: arrays.get(name, zeros) for name, zeros in engine.initial_state(len(lengths)).items()}
        steps = max(1, self.budget // len(lengths))
        ends = ends and not self.tokens_are_words
        pieces: dict[str, list[NDArray[Any]]] = {"log_probs": [], **({"log_ends": []} if ends else {})}
        for start in range(0, len(tokens), steps):
            piece = {
                "tokens": tokens[start : start + steps],
                "targets": targets[start : start + steps],
                # Rows that have ended get a length of 1, because 0 isn't allowed; their padding isn't scored.
                "lengths": np.clip(lengths - start, 1, min(steps, len(tokens) - start)).astype(np.int32),
            }
            names = ["log_probs", *(["logits"] if ends else []), *map(next_name, state)]
            outputs = engine.run(piece | state, names)
            state = {name: outputs[next_name(name)] for name in state}
            pieces["log_probs"].append(outputs["log_probs"])
            if ends:
                log_ends = self._log_ends(outputs["logits"], piece["targets"], outputs["log_probs"])
                pieces["log_ends"].append(log_ends)
        return {name: np.concatenate(parts) for name, parts in pieces.items()} | state

    def _log_ends(self, logits: NDArray[Any], targets: NDArray[Any], log_probs: NDArray[Any]) -> NDArray[Any]:
        """Return the log-probability that a word ends (T, B), for targets that end a word; 0 elsewhere."""
        places = np.nonzero((targets >= 0) & (self.ends_word[targets] > 0))
        target_log_probs, rows = log_probs[places], logits[places]  # (N,), (N, V)
        # subtract the normalizer, which is the target's logit minus its log-probability
        rows -= (rows[np.arange(len(rows)), targets[places]] - target_log_probs)[:, None]
        log_ends = np.zeros_like(log_probs)
        with np.errstate(divide="ignore"):
            totals = np.log(np.exp(rows) @ self.ends_word)
        log_ends[places] = np.clip(totals, target_log_probs, 0)  # rounding may exceed these bounds
        return log_ends

    def spans(self, record: Text) -> tuple[str, list[tuple[int, int]]]:
        return record.text, [(token.start, token.end) for token in self.tokenizer.tokens(record.text)]

    # --- Results -------------------------------------------------------------------------------------------

    def decode(self, records: Sequence[Text], outputs: Arrays) -> list[ScoredText]:
        """Return the log-probabilities of each text of a batch."""
        log_probs = outputs["log_probs"].T  # (B, T)
        log_ends = outputs["log_ends"].T if "log_ends" in outputs else None
        results = []
        for i, record in enumerate(records):
            tokens = self.tokenizer.tokens(record.text)
            unknown = len(self.tokenizer.unknown(record.text))
            size = len(tokens) + 1
            ends = None if log_ends is None else log_ends[i, :size].tolist()
            results.append(ScoredText(tokens, log_probs[i, :size].tolist(), unknown, ends))
        return results

    def score_stream(self, engine: Engine, records: Iterable[Text]) -> Iterator[tuple[Text, ScoredText]]:
        """Score texts that follow each other, carrying the state from one to the next."""
        state: Arrays = {}
        for record in records:
            outputs = self.run(engine, self.encode([record]) | state)
            state = {name: values for name, values in outputs.items() if name.startswith("state.")}
            yield record, self.decode([record], outputs)[0]

    # --- How good a network is -----------------------------------------------------------------------------

    def score(self, engine: Engine, records: Sequence[Text]) -> dict[str, float]:
        """Compute only the perplexity; reading a stream in columns is faster but loses some context."""
        examples = self.rows(records)
        log_probs = self._log_probs(engine, examples, columns=SCORE_COLUMNS)
        nll = -sum(float(row.sum(dtype=np.float64)) for row in log_probs)
        return {self.criterion.key: metrics.perplexity_of(nll / max(1, len(examples.values)))}

    def baseline(self, examples: Sequence[NDArray[np.int32]], records: Sequence[Text]) -> Baseline:
        """Predict each token by its frequency in the training data, with one added to each count."""
        assert isinstance(examples, Rows)
        counts, dev_counts = self._token_counts(examples), self._token_counts(self.rows(records))
        log_probs = np.log((counts + 1) / (counts + 1).sum())
        nll_nats = -float(dev_counts @ log_probs) / max(1.0, dev_counts.sum())
        return Baseline("the frequency of each token", metrics.perplexity_of(nll_nats))

    def ngram_baseline(
        self, examples: Sequence[NDArray[np.int32]], records: Sequence[Text]
    ) -> Baseline | None:
        """Score a 5-gram model of the same tokens, if that needs little time and memory."""
        assert isinstance(examples, Rows)
        limit_s, size = self.settings.time_limit, len(examples.values)
        if self.labels is not None or size > MAX_BASELINE or (
                limit_s and size / BASELINE_SPEED > BASELINE_SHARE * limit_s):
            return None
        order = LMSettings.order
        model, dev = self._ngram_model(examples, order), self._running_text(self.rows(records))
        contexts = [numbers[:-1] for numbers in model.contexts(dev.astype(np.int64))]
        scores = model.score(contexts, dev[1:].astype(np.int64))[dev[1:] != BOS]
        perplexity = metrics.perplexity_of(-float(scores.mean(dtype=np.float64)))
        return Baseline(f"{order}-grams, Kneser-Ney", perplexity, scores)

    def count_ngrams(
        self, examples: Sequence[NDArray[np.int32]], *, watch: Callable[[Stage], None]
    ) -> BackoffModel | None:
        if self.settings.encoder != "ngram":
            return None
        assert isinstance(examples, Rows)
        order, size = self.settings.order, len(examples.values)
        return self._ngram_model(examples, order, lambda length: watch(
            Stage("counting n-grams", (length - 1) / order, size * (length - 1), "tokens")))

    def _ngram_model(
        self, examples: Rows, order: int, watch: Callable[[int], None] = lambda length: None
    ) -> BackoffModel:
        return estimate(self._running_text(examples), order=order, vocabulary=self.tokenizer.size, start=BOS,
                        never=(PAD,), watch=watch)

    def _running_text(self, examples: Rows) -> NDArray[np.int32]:
        """Return all examples with their ends (N,).

        In a stream, an end is also what the next record begins with; otherwise each begins with BOS.
        """
        values = np.asarray(examples.values[0 : len(examples.values)], np.int32)
        if not self.carries_state:
            return np.insert(values, examples.bounds[1:], np.int32(EOS))
        return np.append(np.where(values == BOS, np.int32(EOS), values), np.int32(EOS))

    def _token_counts(self, examples: Rows) -> NDArray[np.float64]:
        """Count how often each token has to be predicted (V,)."""
        counts = np.zeros(self.sizes()["vocabulary"])
        for start in range(0, len(examples.values), BLOCK_BYTES):
            counts += np.bincount(examples.values[start : start + BLOCK_BYTES], minlength=len(counts))
        counts[EOS], counts[[BOS, PAD]] = len(examples), 0
        return counts[: self.tokenizer.size]

    def evaluate(self, engine: Engine, records: Sequence[Text], *, mistakes: int = 0) -> Evaluation:
        """Compute perplexity, bits per character and byte, and the numbers of scored and unknown tokens.

        The mistakes are the most surprising tokens: `gold` is the token and `prob` its probability.
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
                          log_probs=log_probs.values[0 : len(log_probs.values)],
                          mistakes=self._surprises(records, log_probs, mistakes) if mistakes else [])

    def predictions(self, engine: Engine, records: Sequence[Text]) -> list[dict[str, Any]]:
        rows = self._log_probs(engine, self.rows(records), columns=1)
        return [ScoredText([], row.tolist(), len(self.tokenizer.unknown(record.text))).results()
                for record, row in zip(records, rows, strict=True)]

    def sample(self, records: Sequence[Text], share: float) -> tuple[Sequence[Text], float]:
        """Draw records, next to each other if the state is carried; of few long texts, their beginnings."""
        if share >= 1:
            return records, 1.0
        if len(records) < FEW and sum(len(record.text) for record in records) >= LONG * len(records):
            return [replace(record, text=_beginning(record.text, share)) for record in records], share
        return self.stretch(records, share) if self.carries_state else super().sample(records, share)

    def evaluation_settings(self, reading: Mapping[str, Any], model: str) -> LMSettings:
        for name in ("label_column", "skip_unlabelled"):
            if self.labels is None and reading.get(name):
                raise UsageError(f"the model {model} was trained on text without labels", setting=name,
                                 advice="leave it out")
        return super().evaluation_settings(reading, model)

    def shared_criterion(self, other: AnyTask, records: Sequence[Text]) -> Criterion:
        """Return perplexity if both tokenize alike, otherwise bits per character if both are lossless."""
        super().shared_criterion(other, records)
        assert isinstance(other, LMTask)
        if self.settings.unit != other.settings.unit:
            raise UsageError(
                setting="compare", expected=f"a model with {setting('unit', self.settings.unit)}",
                found=f"one with {setting('unit', other.settings.unit)}")
        if other.labels is not None and self.labels is None:
            raise UsageError(
                setting="compare", expected="a model that reads no labels",
                found="one that is conditioned on labels", advice=f"swap it with {setting('model')}")
        tokenizers = self.tokenizer, other.tokenizer
        if self._predicts_like(other, records):
            return self.criterion
        changed = sum(any(tokenizer.decode(tokenizer.encode(record.text)) != record.text
                          for tokenizer in tokenizers) for record in records)
        if changed:
            raise UsageError(
                f"the models' tokenizers differ and change {changed} of {len(records)} records (unknown "
                "words, case, spaces), so perplexity and bits per character would measure different texts",
                setting="compare",
                advice="compare models with the same tokenizer, or with lossless ones (unigram, bpe, byte)")
        return BITS_PER_CHAR

    def _predicts_like(self, other: LMTask, records: Sequence[Text]) -> bool:
        """Return whether another model has the same vocabulary and finds the same tokens in the records."""
        return _vocabulary(self.tokenizer) == _vocabulary(other.tokenizer) and all(
            _pieces(self.tokenizer, record.text) == _pieces(other.tokenizer, record.text)
            for record in records)

    def check_mixable(self, other: AnyTask, records: Sequence[Text]) -> None:
        if not isinstance(other, LMTask):
            raise UsageError(setting="mix", expected="another language model",
                             found=f"a model of {other.spec.name}")
        if other.labels is not None and self.labels is None:
            raise UsageError(setting="mix", expected="a model that reads no labels",
                             found="one that is conditioned on labels")
        if not self._predicts_like(other, records):
            raise UsageError(
                setting="mix", expected="a model with the same vocabulary and the same tokens",
                found="one with others", advice="train both on the same text with the same tokenizer")

    def check_adaptable(self, requested_by: str, model: str) -> None:
        """Do nothing: a language model can adapt."""

    def _surprises(self, records: Sequence[Text], log_probs: Sequence[NDArray[Any]], k: int) -> list[Mistake]:
        """Describe the `k` least probable tokens of the records, without EOS."""
        places = ((log_prob, i, j) for i, row in enumerate(log_probs)
                  for j, log_prob in enumerate(row[:-1].tolist()))
        tokens_of = lru_cache(maxsize=1024)(lambda i: self.tokenizer.tokens(records[i].text))
        mistakes = []
        for log_prob, i, j in heapq.nsmallest(k, places):
            text, token = records[i].text, tokens_of(i)[j]
            mistakes.append(Mistake(prob=math.exp(log_prob), gold=text[token.start : token.end], predicted="",
                                    context=excerpt(text, token.start, token.end), place=records[i].place,
                                    record=i))
        return mistakes

    def _log_probs(self, engine: Engine, examples: Rows, *, columns: int) -> Rows:
        """Compute the log-probabilities of the tokens and EOS of each example; read a stream in `columns`."""
        total, bounds = len(examples.values), examples.bounds.tolist()
        log_probs = np.empty(total, np.float32)
        if self.carries_state:
            columns = max(1, min(columns, total // SCORE_STEPS))  # each starts from an empty state
            height, place, state = -(-total // columns), 0, Arrays()
            for arrays in self.windows(
                    examples.values, columns=columns, steps=max(1, self.budget // columns)):
                outputs = self.run(engine, arrays | state, ends=False)
                state = {name: values for name, values in outputs.items() if name.startswith("state.")}
                for column, row in enumerate(outputs["log_probs"].T):
                    part = log_probs[column * height + place : column * height + place + len(row)]
                    part[:] = row[: len(part)]  # without the padding after the last record
                place += len(arrays["tokens"])
        else:
            for batch in by_length(examples.lengths.tolist(), self.budget):
                outputs = self.run(engine, self.collate([examples[i] for i in batch]), ends=False)
                for i, row in zip(batch, outputs["log_probs"].T, strict=True):
                    log_probs[bounds[i] : bounds[i + 1]] = row[: bounds[i + 1] - bounds[i]]
        return Rows(log_probs, examples.bounds)


def cutoffs(settings: LMSettings, outputs: int) -> tuple[int, ...]:
    """Return where the clusters of rarer tokens start in an adaptive softmax; nothing for a full softmax.

    `UsageError` if an adaptive softmax is requested for a vocabulary that is too small for it.
    """
    adaptive = settings.softmax == "adaptive" or (
        settings.softmax == "auto" and outputs > ADAPTIVE_FROM
        and settings.tokenizer != "bpe" and not settings.vectors)  # it excludes these, see `LMSettings`
    starts = tuple(cutoff for cutoff in CUTOFFS if cutoff < outputs) if adaptive else ()
    if settings.softmax == "adaptive" and not starts:
        raise UsageError(
            f"{setting('softmax', 'adaptive')} needs a vocabulary of more than {CUTOFFS[0]:,} entries",
            found=f"{outputs:,}", advice="leave it out")
    return starts


def _label(record: Text) -> str:
    """Return the label of a record; `DataError` unless it has exactly one."""
    if len(record.labels) != 1:
        raise DataError(
            place=_place(record), expected="one label",
            found=f"{len(record.labels)} ({', '.join(record.labels)})" if record.labels else "none",
            advice=(f"check {setting('label_column')} and {setting('format')}", f"give {setting('label')}",
                    "give a file with labels"))
    return record.labels[0]


def _with_one_label(record: Text) -> Text:
    """Return the record; `UnlabeledError` if it has no label, `DataError` if it has several."""
    if not record.labels:
        raise UnlabeledError(_place(record), expected="one label", found="an empty list", advice="add one")
    _label(record)
    return record


def _place(record: Text) -> str:
    return record.place or f"text {record.text[:MAX_EXCERPT]!r}"


def _vocabulary(tokenizer: Tokenizer) -> list[str]:
    """Return all pieces in sorted order, because ids depend on frequencies in the training data."""
    return sorted(map(tokenizer.piece, range(tokenizer.size)))


def _pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    return list(map(tokenizer.piece, tokenizer.encode(text)))


def _beginning(text: str, share: float) -> str:
    """Return about this share of a text, up to the end of a word."""
    end = math.ceil(share * len(text))
    if end < len(text) and not text[end].isspace():
        end = text.rfind(" ", 0, end) + 1 or end
    return text[:end]
