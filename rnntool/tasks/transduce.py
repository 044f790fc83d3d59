"""Sequence to sequence: a source becomes a target of another length, such as a word its pronunciation."""

from __future__ import annotations

import copy
import math
import random
import re
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rnntool import tokenize
from rnntool.data.arrays import IGNORE, Arrays, Floats, pad
from rnntool.data.escaping import read_escaped, write_escaped
from rnntool.data.formats import OnUnlabeled, Size, read_parallel, read_sequences, reject
from rnntool.data.inputs import Inputs, parallel_inputs
from rnntool.data.progress import Log, Stage, silent
from rnntool.data.reading import USUAL_LAYOUT, USUAL_READING, Layout, TableReading
from rnntool.data.records import Transduction
from rnntool.data.streams import Lines
from rnntool.errors import DataError, ModelError, contradiction
from rnntool.evaluation import sequences
from rnntool.evaluation.significance import Counts
from rnntool.models.config import DecoderHeadConfig, EncoderConfig, NetworkConfig, ObjectiveConfig
from rnntool.models.sampling import SamplingOptions
from rnntool.models.search import Decoder, Hypothesis, Step, beam_search, sample_sequences
from rnntool.tasks.base import (
    Criterion,
    Engine,
    Evaluation,
    LogProbs,
    Mistake,
    RowNames,
    Task,
    listed,
    next_name,
)
from rnntool.tasks.hallucination import hallucinated
from rnntool.tasks.network_config import encoder_config, from_settings
from rnntool.tasks.specs.settings import tokenizer_kind
from rnntool.tasks.specs.transduce import SPEC, TransduceSettings
from rnntool.tokenize import BOS, EOS, PAD, SPECIALS, UNK, Tokenizer

# When a model runs, sources are padded to a multiple of this, so that answers don't depend on the batch.
PADDED_TO = 4
LARGEST_LENGTH = 10_000.0  # tokens of a target, or tokens of a target per token of its source
FEW_STEPS = 5  # that a target may have beyond the longest ones of the training data
SUBWORDS = ("unigram", "bpe")  # units of running text, which is hardly ever matched exactly
TARGET = "target."  # before the names of the files of the target's vocabulary
_FEATURE = re.compile(r"[^\s;|]+")


@dataclass(frozen=True, kw_only=True)
class Search:
    """How targets are found: by beam search, which is greedy with a beam of 1, or by sampling."""

    beam: int = 5
    n_best: int = 1
    length_penalty: float = 1.0
    length_limit: int | None = None  # tokens; by default, it depends on the length of the source
    sampling: SamplingOptions | None = None
    seed: int = 0


@dataclass(slots=True)
class TransduceExample:
    """The tokens of a source with EOS at its end, and those of its target if it has one."""

    source: NDArray[np.int32]
    target: NDArray[np.int32] | None = None


@dataclass(slots=True)
class Transduced:
    """A target that a model wrote.

    `alignment` has a row for each of its tokens, and for its end unless it is truncated, with the weight of
    each source token; the last one is the source's end. None if the model has no attention.
    """

    text: str
    log_prob: float  # nats
    score: float  # the log-probability, normalized by the length
    tokens: list[str]
    truncated: bool  # whether it reached the length limit before its end
    alignment: Floats | None


@dataclass(slots=True)
class ScoredTarget(LogProbs):
    """The log-probability of a target, given its source."""

    log_probs: list[float]
    unknown: int


class TransduceTask(Task[Transduction, TransduceExample, TransduceSettings]):
    """Turns sources into targets. The values of further columns, the features, are tokens of the source."""

    spec = SPEC
    budget = 2048
    long_record_advice = "split it"

    def __init__(
        self, tokenizer: Tokenizer, target: Tokenizer, features: Sequence[str], *, length_ratio: float,
        longest_excess: float, settings: TransduceSettings,
    ) -> None:
        """`length_ratio` is the number of target tokens per source token in the training data.

        `longest_excess` is the largest number of tokens that a target has beyond that.
        """
        self.tokenizer = tokenizer
        self.target = target
        self.features = list(features)
        self._feature_ids = {name: tokenizer.size + i for i, name in enumerate(self.features)}
        self.length_ratio = length_ratio
        self.longest_excess = longest_excess
        self.settings = settings
        self.search = Search()
        self.scoring = False  # whether `run` scores given targets instead of finding some
        self.ignored: str | None = None  # regular expression of what `evaluate` removes from symbols
        key = "bleu" if target.kind in SUBWORDS else "exact_match"
        self.criterion = Criterion(key, higher_is_better=True, metric=sequences.METRICS[key])

    # --- Records, and what is learned from them ------------------------------------------------------------

    @classmethod
    def read(
        cls, lines: Lines, format: str, settings: TransduceSettings, *, targets: bool,
        on_unlabeled: OnUnlabeled = reject, layout: Layout = USUAL_LAYOUT, variants: bool = True,
    ) -> Iterator[Transduction]:
        """Read records; with `targets` and `variants`, those with the same source become one."""
        return read_sequences(
            lines, format=format, source_columns=settings.source_columns,
            target_column=settings.target_column, need_targets=targets, on_unlabeled=on_unlabeled,
            variants=targets and variants, longest=settings.max_length if targets else None,
            sizes=_sizes(settings), layout=layout)

    @classmethod
    def inputs(
        cls, paths: Sequence[str], settings: TransduceSettings, *, targets: bool, format: str | None,
        reading: TableReading = USUAL_READING, text_column: str | None = None, log: Log, warn: Log = silent,
        chosen: Collection[str] = (),
    ) -> Inputs:
        """Return the records of several files, or of a file whose targets are in another one.

        These have a record for each line, even if several have the same source.
        """
        if not (targets and settings.target):
            return super().inputs(paths, settings, targets=targets, format=format, reading=reading,
                                  text_column=text_column, log=log, warn=warn, chosen=chosen)
        if format not in (None, "text"):
            raise contradiction("format", "target")

        def read(sources: Lines, others: Lines) -> Iterator[Transduction]:
            return read_parallel(
                sources, others, on_unlabeled=inputs.skip if settings.skip_unlabelled else reject,
                longest=settings.max_length, sizes=_sizes(settings))

        inputs = parallel_inputs(paths, settings.target, read, reading=reading, log=log, warn=warn)
        return inputs

    @classmethod
    def header(cls, settings: TransduceSettings, text_column: str | None) -> Collection[str]:
        """Return the names of the columns of the source as in training; none for numbers."""
        names = {name.strip() for name in (settings.source_columns or "source").split(",")}
        return () if any(map(str.isdigit, names)) else names

    def evaluation_settings(self, reading: Mapping[str, Any], model: str) -> TransduceSettings:
        others = dict.fromkeys(("source", "target", "dev_target"))  # the files of the training
        return super().evaluation_settings({**others, **reading}, model)

    @classmethod
    def labels_of(cls, record: Transduction, settings: TransduceSettings) -> Collection[tuple[int, str]]:
        return ()

    @classmethod
    def learn(
        cls, records: Sequence[Transduction], settings: TransduceSettings, *,
        raw: Sequence[Transduction] = (), vectors: Sequence[str] = (), base: Tokenizer | None = None,
        characters: Tokenizer | None = None, target_base: Tokenizer | None = None,
    ) -> Self:
        """Learn the vocabularies of both sides, and how long targets are."""
        if not records:
            raise DataError(place="training data", expected=SPEC.learns_from, found="none",
                            advice="give files that have some")
        sources = [record.source for record in records]
        targets = [target for record in records for target in record.targets]

        def train(units: str, texts: Sequence[str], **more: Any) -> Tokenizer:
            return tokenize.train(
                tokenizer_kind(units), texts, vocab_size=settings.vocab_size,
                min_count=settings.min_count, **more)

        if settings.shared_vocabulary:
            tokenizer = target = train(settings.tokenizer, [*sources, *targets], lower=settings.lower,
                                       base=base)
        else:
            tokenizer = train(settings.tokenizer, sources, lower=settings.lower, base=base)
            target = train(settings.target_tokenizer or settings.tokenizer, targets, base=target_base)
        features = Counter(feature for record in records for feature in _features(record))
        task = cls(tokenizer, target, sorted(features), length_ratio=1.0, longest_excess=0.0,
                   settings=settings)
        lengths = np.array([
            (len(example.source), len(example.target)) for record in records
            for example in task.examples(record) if example.target is not None], float).reshape(-1, 2)
        if len(lengths):
            task.length_ratio = lengths[:, 1].sum() / lengths[:, 0].sum()
            task.longest_excess = max(0.0, (lengths[:, 1] - task.length_ratio * lengths[:, 0]).max())
        return task

    def learned(self) -> str:
        sides = [f"{tokenizer.size:,} ({self._units(tokenizer)})"
                 for tokenizer in dict.fromkeys((self.tokenizer, self.target))]
        features = f"; {listed(self.features, 'features')}" if self.features else ""
        return f"a vocabulary of {' and one of '.join(sides)}{features}"

    @staticmethod
    def _units(tokenizer: Tokenizer) -> str:
        return "space" if tokenizer.kind == "word" else tokenizer.kind

    # --- In a model folder ---------------------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        target = None if self.target is self.tokenizer else self.target.config()
        return {"tokenizer": self.tokenizer.config(), "target": target, "features": len(self.features),
                "length_ratio": self.length_ratio, "longest_excess": self.longest_excess}

    def save(self, folder: Path) -> None:
        self.tokenizer.save(folder)
        if self.target is not self.tokenizer:
            self.target.save(folder, TARGET)
        if self.features:
            write_escaped(folder / "features.txt", self.features)

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any], settings: TransduceSettings) -> Self:
        tokenizer = tokenize.load(folder, config["tokenizer"])
        target = tokenizer
        if config["target"] is not None:
            target = tokenize.load(folder, config["target"], TARGET)
        features = read_escaped(folder / "features.txt") if config["features"] else []
        lengths = {name: float(config[name]) for name in ("length_ratio", "longest_excess")}
        for name, length in lengths.items():  # they bound the time that a target takes
            if not 0 <= length < LARGEST_LENGTH:
                raise ValueError(f"{name} is {length}")
        return cls(tokenizer, target, features, settings=settings, **lengths)

    # --- The network ---------------------------------------------------------------------------------------

    def sizes(self) -> dict[str, int]:
        return {"vocabulary": self.tokenizer.size + len(self.features), "outputs": self.target.size}

    def network_config(
        self, *, vector_size: int = 0, context: tuple[EncoderConfig, bool] | None = None
    ) -> NetworkConfig:
        settings, sizes = self.settings, self.sizes()
        return NetworkConfig(
            encoder=encoder_config(settings, sizes, bidirectional=settings.bidirectional),
            head=from_settings(DecoderHeadConfig, settings, outputs=sizes["outputs"],
                               shared=settings.shared_vocabulary))

    def objective(self, examples: Sequence[TransduceExample]) -> ObjectiveConfig:
        return from_settings(ObjectiveConfig, self.settings)

    def row_names(self) -> RowNames:
        return RowNames(tokens=[*self.tokenizer.entries, *self.features], targets=self.target.entries)

    # --- Arrays --------------------------------------------------------------------------------------------

    def example(self, record: Transduction, *, targets: bool = False) -> TransduceExample:
        """Encode a record with its first target; see `examples` for the others."""
        features = [self._feature_ids.get(feature, UNK) for feature in _features(record)]
        source = np.array([*features, *self.tokenizer.encode(record.source), EOS], np.int32)
        target = None
        if targets or self.scoring:
            target = np.array([*self.target.encode(record.targets[0]), EOS], np.int32)
        return TransduceExample(source, target)

    def examples(self, record: Transduction) -> Iterator[TransduceExample]:
        """Encode a record with each of its targets."""
        for target in record.targets:
            yield self.example(replace(record, targets=(target,)), targets=True)

    def training_examples(
        self, records: Sequence[Transduction], *, watch: Callable[[Stage], None], log: Log
    ) -> Sequence[TransduceExample]:
        return [example for record in records for example in self.examples(record)]

    def invented_examples(self, records: Sequence[Transduction]) -> Sequence[TransduceExample]:
        """Make up the training pairs that are missing from the number in `hallucinate`."""
        pairs = [replace(record, targets=(target,)) for record in records for target in record.targets]
        missing = max(0, self.settings.hallucinate - len(pairs))
        made_up = hallucinated(pairs, missing, random.Random(self.settings.seed))
        return [self.example(pair, targets=True) for pair in made_up]

    def length(self, example: TransduceExample) -> int:
        return len(example.source) + (0 if example.target is None else len(example.target))

    def padding_key(self, example: TransduceExample) -> int:
        """Sort by the source, which costs more time for each token, and then by the target."""
        return (len(example.source) << 32) + (0 if example.target is None else len(example.target))

    def batched(self, examples: Sequence[TransduceExample], budget: int) -> Iterator[list[int]]:
        """Group examples whose sources are padded to the same length.

        The order of the sums in the attention depends on the padded length. With this, it depends on the
        record alone, and so does its result to the last bit.
        """
        sizes = [_padded_size(len(example.source)) for example in examples]
        batch: list[int] = []
        for i in sorted(range(len(examples)), key=sizes.__getitem__):
            if batch and (sizes[i] != sizes[batch[0]] or (len(batch) + 1) * sizes[i] > budget):
                yield batch
                batch = []
            batch.append(i)
        if batch:
            yield batch

    def collate(self, examples: Sequence[TransduceExample]) -> Arrays:
        """Make `tokens` (T, B) and `lengths`, and the decoder's `previous` and `targets` (U, B).

        In training, sources are padded only to the longest in the batch. Otherwise they are padded to a
        multiple of `PADDED_TO`; `batched` says why.
        """
        tokens, lengths = pad([example.source for example in examples], PAD)
        targets = [example.target for example in examples if example.target is not None]
        if self.scoring or not targets:
            missing = _padded_size(len(tokens)) - len(tokens)
            tokens = np.pad(tokens, ((0, missing), (0, 0)), constant_values=PAD)
        arrays: Arrays = {"tokens": tokens, "lengths": lengths}
        if targets:
            arrays["targets"], _ = pad(targets, IGNORE)
            start = np.full((1, len(targets)), BOS)
            arrays["previous"] = np.concatenate([start, arrays["targets"][:-1].clip(min=PAD)])
        return arrays

    def spans(self, record: Transduction) -> tuple[str, list[tuple[int, int]]]:
        return record.source, [(token.start, token.end) for token in self.tokenizer.tokens(record.source)]

    # --- Running the network -------------------------------------------------------------------------------

    def searching(self, search: Search) -> Self:
        """Return a copy of the task whose `run` searches targets in this way."""
        task = copy.copy(self)
        task.search = search
        return task

    def for_scoring(self) -> Self:
        """Return a copy of the task that scores the given targets of records; see `target_log_probs`."""
        task = copy.copy(self)
        task.scoring = True
        return task

    def run(self, engine: Engine, arrays: Arrays) -> Arrays:
        """Return the `hypotheses` (B,), a list for each source; in scoring, the `log_probs` of targets."""
        encoded = engine.run({name: arrays[name] for name in ("tokens", "lengths")})
        state = {"state" + name.removeprefix("start"): values for name, values in encoded.items()
                 if name.startswith("start.")}
        lengths = arrays["lengths"]
        # the rows of all arrays of a search are on axis 1, or they are vectors
        source: Arrays = {name: encoded[name][None] for name in ("keys", "values") if name in encoded}
        source["lengths"] = lengths
        decoder = _decoder(engine)
        if self.scoring:
            return {"log_probs": _target_log_probs(decoder, state, source, arrays),
                    "targets": arrays["targets"]}
        search = self.search
        limits = np.ceil(self.length_ratio * lengths + self.longest_excess) + FEW_STEPS
        if search.length_limit is not None:
            limits[:] = search.length_limit
        common: dict[str, Any] = {
            "start": BOS, "end": EOS, "length_penalty": search.length_penalty, "banned": (PAD, UNK, BOS),
            "max_lengths": limits.astype(np.int64)}
        try:
            if search.sampling is None:
                best = beam_search(
                    decoder, state, source, beam=search.beam, n_best=search.n_best, **common)
            else:  # the same source gets the same sample, wherever it is
                keys = [zlib.crc32(row[:length].tobytes())
                        for row, length in zip(arrays["tokens"].T, lengths.tolist(), strict=True)]
                best = sample_sequences(decoder, state, source, options=search.sampling, n=search.n_best,
                                        seed=search.seed, keys=keys, **common)
        except ValueError as error:
            raise ModelError(f"the model is damaged ({error})", advice="copy or train it again") from None
        hypotheses = np.empty(len(best), object)
        hypotheses[:] = best
        return {"hypotheses": hypotheses, "lengths": lengths}

    @property
    def has_attention(self) -> bool:
        """Whether the decoder looks at the tokens of the source, so that results have alignments."""
        return self.settings.attention != "none"

    def source_pieces(self, record: Transduction) -> list[str]:
        """Return the tokens that the network reads, for people to read."""
        ids = self.example(record).source.tolist()
        names = self.row_names().tokens
        return [SPECIALS[id] if id < len(SPECIALS) else names[id - len(SPECIALS)] for id in ids]

    def has_unknown(self, record: Transduction) -> bool:
        """Whether a record has a token that the network has never seen."""
        return bool(record.source.strip()) and UNK in self.example(record).source

    # --- Results -------------------------------------------------------------------------------------------

    def decode(self, records: Sequence[Transduction], outputs: Arrays) -> list[list[Transduced]]:
        """Return the targets that were found for each record, the best one first; one empty one if blank."""
        return [[self._transduced(hypothesis, int(length)) for hypothesis in hypotheses]
                if record.source.strip() else [Transduced("", 0.0, 0.0, [], False, None)]
                for record, hypotheses, length in zip(
                    records, outputs["hypotheses"], outputs["lengths"], strict=True)]

    def _transduced(self, hypothesis: Hypothesis, source_length: int) -> Transduced:
        alignment = hypothesis.alignment
        return Transduced(
            self.target.decode(hypothesis.tokens), hypothesis.log_prob, hypothesis.score,
            [self.target.piece(token) for token in hypothesis.tokens], hypothesis.truncated,
            None if alignment is None else alignment[:, :source_length])

    def decode_scores(self, records: Sequence[Transduction], outputs: Arrays) -> list[ScoredTarget]:
        """Return the log-probabilities of each target, when scoring."""
        log_probs, targets = outputs["log_probs"].T, outputs["targets"].T  # (B, U)
        return [ScoredTarget(row[target != IGNORE].tolist(), int((target == UNK).sum()))
                for row, target in zip(log_probs, targets, strict=True)]

    # --- How good a network is -----------------------------------------------------------------------------

    def configure_evaluation(self, options: Mapping[str, Any], model: str) -> None:
        search = dict(options)
        self.ignored = search.pop("ignore", None)
        self.search = replace(self.search, **search)

    def score(self, engine: Engine, records: Sequence[Transduction]) -> dict[str, float]:
        """Compute the criterion by greedy search, and the symbol error rate."""
        outputs = self._outputs(engine, records, replace(self.search, beam=1, n_best=1))
        counts = self._counts(records, outputs, text=self.criterion.key == "bleu")[0].sum(axis=0)
        keys = dict.fromkeys((self.criterion.key, "symbol_error_rate"))
        return {key: float(sequences.METRICS[key](counts)) for key in keys}

    def selection_score(self, scores: Mapping[str, float]) -> float:
        """Return BLEU, or exact matches minus the symbol error rate, which also tells few matches apart."""
        if self.criterion.key == "bleu":
            return scores["bleu"]
        return scores["exact_match"] - scores["symbol_error_rate"]

    def evaluate(
        self, engine: Engine, records: Sequence[Transduction], *, mistakes: int = 0
    ) -> Evaluation:
        """Report exact matches, error rates, BLEU and chrF.

        A mistake is an output that equals no target; `prob` is that of the output.
        """
        outputs = self._outputs(engine, records, replace(self.search, n_best=1))
        counts, signatures = self._counts(records, outputs, text=True)
        sums = counts.sum(axis=0)
        report: dict[str, Any] = {"records": len(records)}
        report |= {key: float(metric(sums)) for key, metric in sequences.METRICS.items()}
        form = sequences.form_of([target for record in records for target in record.targets])
        report |= {"bleu_text": ", ".join(form)} if form else {}
        report |= {"truncated": sum(output.truncated for output in outputs), "beam": self.search.beam,
                   "length_penalty": self.search.length_penalty}
        report |= {"ignore": self.ignored} if self.ignored else {}
        report |= {f"{key}_signature": signature for key, signature in signatures.items()}
        wrong = [
            Mistake(prob=math.exp(output.log_prob), gold=record.targets[0], predicted=output.text,
                    context=" ".join([record.source, *record.extra]), place=record.place, record=i)
            for i, (record, output) in enumerate(zip(records, outputs, strict=True)) if not counts[i, 0]]
        wrong.sort(key=lambda mistake: -mistake["prob"])
        return Evaluation(report=report, counts=counts, mistakes=wrong[:mistakes])

    def predictions(self, engine: Engine, records: Sequence[Transduction]) -> list[dict[str, Any]]:
        outputs = self._outputs(engine, records, replace(self.search, n_best=1))
        return [{"gold": record.targets[0] if len(record.targets) == 1 else list(record.targets),
                 "target": output.text, "log_prob": round(output.log_prob, 6),
                 "score": round(output.score, 6), "truncated": output.truncated}
                for record, output in zip(records, outputs, strict=True)]

    def _outputs(
        self, engine: Engine, records: Sequence[Transduction], search: Search
    ) -> list[Transduced]:
        """Return the best target that is found for each record."""
        task, examples = self.searching(search), list(map(self.example, records))
        outputs: dict[int, Transduced] = {}
        for batch in self.batched(examples, self.budget):
            arrays = task.run(engine, self.collate([examples[i] for i in batch]))
            decoded = self.decode([records[i] for i in batch], arrays)
            outputs |= {i: best for i, (best, *_) in zip(batch, decoded, strict=True)}
        return [outputs[i] for i in range(len(records))]

    def _counts(
        self, records: Sequence[Transduction], outputs: Sequence[Transduced], *, text: bool
    ) -> tuple[Counts, dict[str, str]]:
        """Return the counts (N, K) of each record, and signatures; without `text` those of errors only."""
        texts = [self._judged(output.text) for output in outputs]
        targets = [[*map(self._judged, record.targets)] for record in records]
        counts = sequences.error_counts(
            list(map(self._symbols, texts)), [list(map(self._symbols, of_record)) for of_record in targets])
        if not text:
            return counts, {}
        spaced = self.target.kind == "word" or "tokenized" in sequences.form_of(
            [target for of_record in targets for target in of_record])
        of_texts = sequences.text_counts(texts, targets, tokenize="none" if spaced else "13a")
        return np.hstack([counts, of_texts.counts]), of_texts.signatures

    def _judged(self, text: str) -> str:
        """Return a target without what is ignored."""
        if not self.ignored:
            return text
        if self.target.kind != "word":
            return re.sub(self.ignored, "", text)
        return " ".join(filter(None, (re.sub(self.ignored, "", symbol) for symbol in text.split())))

    def _symbols(self, text: str) -> Sequence[str]:
        """Split a target into what the symbol error rate counts."""
        return text.split() if self.target.kind == "word" else text


def _features(record: Transduction) -> list[str]:
    """Return the values of the further columns of a source, split into parts."""
    return [feature for value in record.extra for feature in _FEATURE.findall(value)]


def _sizes(settings: TransduceSettings) -> tuple[Size, Size]:
    """Return the functions that count the symbols of a source and of a target."""
    def size(units: str) -> Size:
        return (lambda text: len(text.split())) if units == "space" else len

    return size(settings.tokenizer), size(settings.target_tokenizer or settings.tokenizer)


def _padded_size(length: int) -> int:
    return -(-length // PADDED_TO) * PADDED_TO


def _decoder(engine: Engine) -> Decoder:
    """Return the function that computes a step of the decoder."""
    step = engine.part("decoder")

    def decode(tokens: NDArray[np.int64], state: Arrays, source: Arrays) -> Step:
        memory = {name: values[0] for name, values in source.items() if name != "lengths"}
        outputs = step.run({"previous": tokens, "lengths": source["lengths"], **memory, **state})
        after = {name: outputs[next_name(name)] for name in state}
        return Step(outputs["log_probs"], after, outputs.get("attention"))

    return decode


def _target_log_probs(
    decoder: Decoder, state: Arrays, source: Arrays, arrays: Arrays
) -> NDArray[np.float32]:
    """Return the log-probability of each of the `targets` (U, B), 0 at padding, given those before it."""
    targets = arrays["targets"]
    log_probs = np.zeros(targets.shape, np.float32)
    rows = np.arange(targets.shape[1])
    for step, (previous, wanted) in enumerate(zip(arrays["previous"], targets, strict=True)):
        scores, state, _ = decoder(previous, state, source)
        log_probs[step] = scores[rows, wanted] * (wanted != IGNORE)
    return log_probs
