"""The interface of a task: it turns records into arrays, arrays into results, and evaluates the results.

Training, evaluation and inference use the same code, so they cannot disagree. A task describes its network by
a configuration; it knows neither torch nor ONNX Runtime.
"""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, Self, TypedDict, TypeVar

import numpy as np
from numpy.typing import NDArray

from rnntool.data.arrays import Arrays, by_length
from rnntool.data.formats import OnUnlabeled, reject
from rnntool.data.inputs import Inputs
from rnntool.data.progress import Log, Stage, silent
from rnntool.data.reading import USUAL_LAYOUT, USUAL_READING, Layout, TableReading
from rnntool.data.streams import Lines
from rnntool.errors import UsageError, setting
from rnntool.evaluation import metrics, sequences, significance
from rnntool.evaluation.calibration import Calibration
from rnntool.evaluation.metrics import perplexity_of
from rnntool.evaluation.significance import Counts, Metric
from rnntool.models.backoff import BackoffModel
from rnntool.models.config import EncoderConfig, NetworkConfig, ObjectiveConfig
from rnntool.tasks import TASKS
from rnntool.tasks.specs.settings import Settings
from rnntool.tasks.specs.spec import TaskSpec
from rnntool.tokenize import Tokenizer

Ready = Callable[[], bool]  # whether the next record can be read without waiting

MOST_RESAMPLED = 20_000  # records or runs of records in the bootstrap
SHARES = (metrics.accuracy, metrics.f1, sequences.exact_match)
INTERVAL_SEED = 0  # of the bootstrap, so that the same data gives the same report
Record = TypeVar("Record")
Example = TypeVar("Example")
TaskSettings = TypeVar("TaskSettings", bound=Settings)


def always() -> bool:
    """Return True: the next record can be read without waiting, as from a file."""
    return True


class Engine(Protocol):
    """Runs a network: named arrays in, named arrays out.

    Recurrent states are inputs such as `state.0.h` and outputs such as `next.0.h`; see `next_name`.
    `word_vectors` is the size of the word vectors that the engine can return and accept as input, or 0.
    """

    word_vectors: int

    def run(self, arrays: Arrays, outputs: list[str] | None = None) -> Arrays:
        """Compute the named outputs of a batch."""
        ...

    def initial_state(self, batch: int) -> Arrays:
        """Return recurrent states of zeros, by the names of the inputs."""
        ...

    def part(self, name: str) -> Engine:
        """Return the engine of a part of the network that runs on its own, such as a decoder's step."""
        ...


def next_name(state: str) -> str:
    """Return the output that holds the new value of the input `state`: `next.0.h` for `state.0.h`."""
    return "next" + state.removeprefix("state")


@dataclass(frozen=True)
class Criterion:
    """The metric that decides which of two models is better."""

    key: str  # in the report
    higher_is_better: bool
    metric: Metric  # computes it from summed counts
    per_record: bool = False  # a share of the records

    def is_better(self, new: float, old: float | None) -> bool:
        """Return whether `new` beats `old`; any finite number beats None, and NaN beats nothing."""
        if old is None:
            return math.isfinite(new)
        return new > old if self.higher_is_better else new < old

    def is_as_good(self, new: float, best: float, records: int) -> bool:
        """Return whether `new` is no worse than `best`, apart from chance.

        For a share of the records, chance is the standard error of `best` over so many records. It is not
        known for other metrics.
        """
        chance = math.sqrt(best * (1 - best) / records) if self.per_record else 0.0
        return new >= best - chance if self.higher_is_better else new <= best + chance

    def interval(self, counts: Counts) -> list[float] | None:
        """Return the 95% interval of the metric; None for a single record or an infinite metric.

        The same counts always give the same interval.
        """
        value = float(self.metric(counts.sum(axis=0)))
        if len(counts) < 2 or not math.isfinite(value):
            return None
        if self.metric in SHARES and value in (0.0, 1.0):  # so is each resample's
            return list(significance.wilson_interval(value, len(counts)))
        if len(counts) > MOST_RESAMPLED:  # resample runs of adjacent records, which is faster
            size = -(-len(counts) // MOST_RESAMPLED)  # rounded up
            counts = np.add.reduceat(counts, np.arange(0, len(counts), size), axis=0)
        return list(significance.interval(counts, self.metric, np.random.default_rng(INTERVAL_SEED)))


@dataclass(frozen=True)
class Baseline:
    """What a simple method reaches on the same records, to show what the network has learned."""

    method: str  # `the most frequent label`
    score: float  # the task's criterion
    log_probs: NDArray[np.float32] | None = None  # of each token, if it is a language model


class LogProbs:
    """The figures of a text that a model has scored."""

    __slots__ = ()
    log_probs: list[float]  # of each token and of EOS, in nats
    unknown: int  # number of unknown tokens

    @property
    def total_nats(self) -> float:
        """Log-probability of the whole text and EOS."""
        return float(sum(self.log_probs))

    @property
    def perplexity(self) -> float:
        """Perplexity per token, EOS included."""
        return perplexity_of(-self.total_nats / len(self.log_probs))

    def results(self) -> dict[str, Any]:
        """Return the scores of the whole text as fields."""
        return {
            "log_prob": round(self.total_nats, 6), "n_tokens": len(self.log_probs), "unknown": self.unknown,
            "perplexity": round(self.perplexity, 6),
            "surprisal_bits": round(-self.total_nats / math.log(2), 6)}


class Mistake(TypedDict):
    """A wrong answer."""

    prob: float  # of the predicted label
    gold: str
    predicted: str
    context: str  # the text around it
    place: str  # `file:line`
    record: int  # the index of its record


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The result of evaluating a network on records with targets."""

    report: dict[str, Any]  # JSON types
    counts: Counts  # (N, K), a row for each record in order; the criterion is computed from their sum
    mistakes: list[Mistake]  # the most confident ones first, up to the requested number
    gold: Counter[str] = field(default_factory=Counter)  # number of occurrences of each gold label
    trained_labels: Sequence[str] = ()  # labels of the training data
    log_probs: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))  # of each token


@dataclass(frozen=True, kw_only=True)
class RowNames:
    """What the rows of a network's embeddings stand for, after the special rows at the top."""

    tokens: Sequence[str]
    characters: str = ""  # in the order of the rows of the character embedding
    vectors: Sequence[str] = ()  # words that have a pretrained vector
    context: Mapping[str, Any] | None = None  # the vocabulary of the character language model, if any
    targets: Sequence[str] = ()  # tokens of a decoder


def excerpt(text: str, start: int, end: int, *, width: int = 30) -> str:
    """Return characters `start` to `end` in brackets, with `width` characters on each side, on one line."""
    before, after = text[max(0, start - width) : start], text[end : end + width]
    return " ".join(f"{before}[{text[start:end]}]{after}".split())


class Task(ABC, Generic[Record, Example, TaskSettings]):
    """Encodes the records of a task for its network and decodes the network's outputs.

    An example is one row of a batch: usually an encoded record, or several records that are read together.
    `learn` makes a task from training records; `save` and `load` keep it in a model folder. Each subclass
    also has a `decode` method, which returns the results of a batch and has options of its own.
    """

    spec: ClassVar[TaskSpec]
    parallel_batches: ClassVar[bool] = True  # inference is fastest with a thread for each batch
    scores_loss: ClassVar[bool] = False  # whether what `score` returns says the loss, as perplexity does
    long_record_advice: ClassVar[str] = ""  # what to do if a record is too long for a training step
    criterion: Criterion
    settings: TaskSettings
    tokenizer: Tokenizer
    budget: int = 8192  # most padded tokens in a batch: their states and outputs have to fit in memory

    # --- Records, and what is learned from them ------------------------------------------------------------

    @classmethod
    @abstractmethod
    def read(
        cls, lines: Lines, format: str, settings: TaskSettings, *, targets: bool,
        on_unlabeled: OnUnlabeled = reject, layout: Layout = USUAL_LAYOUT,
    ) -> Iterator[Record]:
        """Read the records of a file; with `targets`, a record without targets goes to `on_unlabeled`.

        Without `targets`, texts may be read from another column than that of the settings.
        """

    @classmethod
    def inputs(
        cls, paths: Sequence[str], settings: TaskSettings, *, targets: bool, format: str | None,
        reading: TableReading = USUAL_READING, text_column: str | None = None, log: Log,
        warn: Log = silent, chosen: Collection[str] = (),
    ) -> Inputs:
        """Return the records of several files; see `read`, and `Inputs` for the other parameters.

        The files must have the column `text_column`. Without `targets`, they may lack that of the settings.
        """
        layout = reading.layout(text_column)

        def read(lines: Lines, name: str) -> Iterator[Record]:
            on_unlabeled = inputs.skip if settings.skip_unlabelled else reject
            return cls.read(lines, name, settings, targets=targets, on_unlabeled=on_unlabeled,
                            layout=layout)

        inputs = Inputs(
            paths, cls.spec.reads, read, format=format, reading=reading, log=log, warn=warn,
            supervised=targets and cls.learns_labels(settings), chosen=chosen,
            needs_labels=cls.spec.needs_labels,
            header=() if targets or reading.no_header else cls.header(settings, text_column))
        return inputs

    @classmethod
    def header(cls, settings: TaskSettings, text_column: str | None) -> Collection[str]:
        """Return the names of the columns of labeled text as in training; none for numbers.

        A task without labels of texts has none.
        """
        label_column = getattr(settings, "label_column", None)
        if label_column is None:
            return ()
        names = {text_column or getattr(settings, "text_column", None) or "text", label_column}
        return () if any(map(str.isdigit, names)) else names

    @classmethod
    def learns_labels(cls, settings: TaskSettings) -> bool:
        """Return whether the targets are labels or tags, which only some formats have."""
        return True

    @classmethod
    def collect(cls, records: Iterable[Record], *, watch: Callable[[Stage], None]) -> Sequence[Record]:
        """Read all training records; `watch` receives the progress if that takes long."""
        return list(records)

    @classmethod
    def is_running_text(cls, settings: TaskSettings) -> bool:
        """Return whether records follow each other as a text; then the last ones are held out."""
        return False

    @classmethod
    def inseparable_groups(
        cls, records: Sequence[Record], settings: TaskSettings
    ) -> Sequence[Sequence[int]] | None:
        """Group the indexes of records that have to be held out together; None if each stands alone."""
        return None

    @classmethod
    def isolated(cls, group: Sequence[Record]) -> Sequence[Record]:
        """Return the records of such a group so that nothing reads them together with other records."""
        return group

    @classmethod
    @abstractmethod
    def labels_of(cls, record: Record, settings: TaskSettings) -> Collection[tuple[int, str]]:
        """Return a record's labels or tags that come from a fixed set, each with the number of its column.

        No label may be missing from training, so the only record with a label is not held out.
        """

    @classmethod
    @abstractmethod
    def learn(
        cls, records: Sequence[Record], settings: TaskSettings, *, raw: Sequence[Record] = (),
        vectors: Sequence[str] = (), base: Tokenizer | None = None, characters: Tokenizer | None = None,
        target_base: Tokenizer | None = None,
    ) -> Self:
        """Learn vocabularies and labels from training records; `DataError` if there is nothing to learn from.

        `raw` are records whose targets are ignored. `vectors` are the words that have a pretrained vector.
        `base` is the tokenizer of the model that the training starts from. `characters` is the tokenizer of a
        character language model whose states are part of the word vectors. `target_base` is like `base`, for
        the targets of sequences. A task ignores what it can't use.
        """

    @classmethod
    def doubts(cls, records: Sequence[Record], settings: TaskSettings) -> Iterator[str]:
        """Describe what in the training records may be a mistake."""
        return iter(())

    def notices(self) -> Iterator[str]:
        """Describe what was learned from the data, as far as a user should know it."""
        return iter(())

    def learned(self) -> str:
        """Describe the labels or the vocabulary in one phrase: `3 labels: person, place, time`."""
        return f"a vocabulary of {self.tokenizer.size:,} ({self.tokenizer.kind})"

    def check(self, records: Iterable[Record]) -> None:
        """Raise `DataError` for the first record that can't be evaluated."""

    def unseen_labels(self, records: Sequence[Record]) -> dict[str, int]:
        """Count the labels of the records that don't occur in the training data."""
        return {}

    # --- In a model folder ---------------------------------------------------------------------------------

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Return what `load` needs in addition to the files that `save` writes, as JSON types."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write vocabularies and labels."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, config: Mapping[str, Any], settings: TaskSettings) -> Self:
        """Restore a task from the files of `save` and the result of `config`."""

    @classmethod
    def label_names(cls, folder: Path, settings: TaskSettings) -> Sequence[str]:
        """Return the labels that a model predicts or takes as input, without loading the model."""
        return ()

    # --- The network ---------------------------------------------------------------------------------------

    @abstractmethod
    def sizes(self) -> dict[str, int]:
        """Return the sizes that depend on the data: `vocabulary`, `outputs`, and sizes of word features."""

    @abstractmethod
    def network_config(
        self, *, vector_size: int = 0, context: tuple[EncoderConfig, bool] | None = None
    ) -> NetworkConfig:
        """Return the configuration of the network.

        `vector_size` is the size of the pretrained vectors. `context` is the encoder of a character language
        model, and whether that reads in both directions.
        """

    def objective(self, examples: Sequence[Example]) -> ObjectiveConfig:
        """Return the terms and weights of the training loss."""
        return ObjectiveConfig()

    def row_names(self) -> RowNames:
        """Return what the rows of the network's embeddings stand for, to match them with another model's."""
        return RowNames(tokens=self.tokenizer.entries)

    @property
    def carries_state(self) -> bool:
        """Whether the network carries its state from record to record."""
        return False

    # --- Arrays --------------------------------------------------------------------------------------------

    @abstractmethod
    def example(self, record: Record, *, targets: bool = False) -> Example:
        """Encode a record, with what the network should predict if `targets` is true."""

    def groups(self, records: Iterable[Record], ready: Ready = always) -> Iterator[list[Record]]:
        """Group consecutive records that are read as one row; by default each is a group by itself.

        A task that needs the next record to complete a group yields an empty list before it waits for one,
        so that complete results can be written; `ready` says whether a record can be read without waiting.
        """
        return ([record] for record in records)

    def join(self, examples: Sequence[Example]) -> Example:
        """Join the examples of a group into one."""
        (example,) = examples
        return example

    def parts(self, example: Example) -> list[Example]:
        """Cut an example that is too long for a training step into several."""
        return [example]

    def training_examples(
        self, records: Sequence[Record], *, watch: Callable[[Stage], None], log: Log
    ) -> Sequence[Example]:
        """Encode all training records."""
        examples = (self.join([self.example(record, targets=True) for record in group])
                    for group in self.groups(records))
        return [part for example in examples for part in self.parts(example)]

    def unlabeled_examples(self, records: Iterable[Record]) -> list[Example]:
        """Encode raw records, whose targets are ignored; none if the task can't learn from them."""
        return []

    def invented_examples(self, records: Sequence[Record]) -> Sequence[Example]:
        """Make up further training examples that are like the records; by default none."""
        return []

    def record_count(self, example: Example) -> int:
        """Return the number of records in an example."""
        return 1

    @abstractmethod
    def length(self, example: Example) -> int:
        """Return the time steps of an example."""

    def padding_key(self, example: Example) -> int:
        """Return a number by which examples are sorted into training batches, to avoid padding.

        Examples with the same number have the same length.
        """
        return self.length(example)

    def batched(self, examples: Sequence[Example], budget: int) -> Iterator[list[int]]:
        """Group examples into batches of at most `budget` padded time steps; return their indices."""
        return by_length(list(map(self.length, examples)), budget)

    @abstractmethod
    def collate(self, examples: Sequence[Example]) -> Arrays:
        """Make the arrays of a batch."""

    def batches(self, engine: Engine, batches: Sequence[Sequence[Example]]) -> list[Arrays]:
        """Make the arrays of several batches; the engine may compute what they share only once."""
        return list(map(self.collate, batches))

    def windows(self, stream: Any, *, columns: int, steps: int, start: int = 0) -> Iterator[Arrays]:
        """Cut the concatenated examples into batches; only for a task that can carry its state."""
        raise NotImplementedError

    def encode(self, records: Sequence[Record], *, targets: bool = False) -> Arrays:
        """Make the arrays of a batch of records."""
        return self.collate([self.example(record, targets=targets) for record in records])

    def run(self, engine: Engine, arrays: Arrays) -> Arrays:
        """Compute the outputs of a batch, for `decode`."""
        return engine.run(arrays)

    @abstractmethod
    def spans(self, record: Record) -> tuple[str, list[tuple[int, int]]]:
        """Return a record's text, and the (start, end) characters of each token that the network reads."""

    # --- How good a network is -----------------------------------------------------------------------------

    @abstractmethod
    def score(self, engine: Engine, records: Sequence[Record]) -> dict[str, float]:
        """Compute the metrics to show during training, quickly; the first one is the criterion."""

    def selection_score(self, scores: Mapping[str, float]) -> float:
        """Return the number by which training selects the best weights, in the direction of the criterion."""
        return next(iter(scores.values()))

    @abstractmethod
    def evaluate(self, engine: Engine, records: Sequence[Record], *, mistakes: int = 0) -> Evaluation:
        """Run a network on records with targets and evaluate its results; collect up to `mistakes` errors."""

    def report(self, engine: Engine, records: Sequence[Record]) -> dict[str, Any]:
        """Return only the report of `evaluate`."""
        return self.evaluate(engine, records).report

    def predictions(self, engine: Engine, records: Sequence[Record]) -> list[dict[str, Any]]:
        """Return the network's answer for each record and the right one, as fields with JSON types."""
        raise UsageError(f"the task {self.spec.name} has none", setting="predictions", advice="leave it out")

    def baseline(self, examples: Sequence[Example], records: Sequence[Record]) -> Baseline | None:
        """Score a trivial method on the records, after it has counted the training examples."""
        return None

    def ngram_baseline(
        self, examples: Sequence[Example], records: Sequence[Record]
    ) -> Baseline | None:
        """Score an n-gram model of the examples on the records; None if that costs much."""
        return None

    def count_ngrams(
        self, examples: Sequence[Example], *, watch: Callable[[Stage], None]
    ) -> BackoffModel | None:
        """Return an n-gram model of the examples if the settings ask for one instead of a network."""
        return None

    def linear_baseline(self, records: Sequence[Record]) -> Baseline | None:
        """Evaluate the task's linear classifier without the network; None if the model has none."""
        return None

    def sample(self, records: Sequence[Record], share: float) -> tuple[Sequence[Record], float]:
        """Draw about this share of the records, with the seed of the settings; also return the exact share.

        Records that the network reads together stay together.
        """
        groups = self.inseparable_groups(records, self.settings)
        count = len(records if groups is None else groups)
        drawn = max(1, round(share * count))
        if drawn >= count:
            return records, 1.0
        picked = sorted(random.Random(self.settings.seed).sample(range(count), drawn))
        if groups is None:
            return [records[i] for i in picked], drawn / count
        sample = [record for i in picked for record in self.isolated([records[j] for j in groups[i]])]
        return sample, len(sample) / len(records)

    def stretch(self, records: Sequence[Record], share: float) -> tuple[Sequence[Record], float]:
        """Draw a sample like `sample`, of records that are next to each other."""
        count = min(len(records), max(1, round(share * len(records))))
        start = random.Random(self.settings.seed).randrange(len(records) - count + 1)
        return records[start : start + count], count / len(records)

    def evaluation_settings(self, reading: Mapping[str, Any], model: str) -> TaskSettings:
        """Return the settings for reading gold data, with the settings in `reading` replaced.

        `UsageError` for a column that this task doesn't read; the message contains the name `model`.
        """
        foreign = [name for name in reading if not hasattr(self.settings, name)]
        if foreign:
            raise UsageError(f"the model {model} ({self.spec.name}) does not read it", setting=foreign[0],
                             advice="leave it out")
        return self.settings.replace(**reading)

    def describe_gold(self, records: Sequence[Record]) -> tuple[str, bool] | None:
        """Describe how gold data is read, and whether as in training; None if there is only one way."""
        return None

    def shared_criterion(self, other: AnyTask, records: Sequence[Record]) -> Criterion:
        """Return the metric by which to compare this task's network with another one on these records.

        `UsageError` if no metric measures the same for both.
        """
        if other.spec is not self.spec:
            raise UsageError(setting="compare", expected=f"another model of the task {self.spec.name}",
                             found=f"one of {other.spec.name}")
        if other.criterion != self.criterion:
            raise UsageError(
                setting="compare", expected=f"another model that is judged by {self.criterion.key}",
                found=f"one that is judged by {other.criterion.key}", advice="compare models of one kind")
        return self.criterion

    def check_mixable(self, other: AnyTask, records: Sequence[Record]) -> None:
        """Raise `UsageError` unless the network and another one predict the same tokens of these records."""
        raise UsageError(
            setting="mix", expected="two language models", found=f"one of {self.spec.name}",
            advice=f"leave {setting('mix')} out")

    def check_adaptable(self, requested_by: str, model: str) -> None:
        """Raise `UsageError` unless the network can adapt to the text that it is evaluated on.

        `requested_by` is the setting that asks for it.
        """
        raise UsageError(
            setting=requested_by, expected="a language model", found=f"{model} ({self.spec.name})",
            advice=f"leave {setting(requested_by)} out")

    def configure_evaluation(self, options: Mapping[str, Any], model: str) -> None:
        """Change how `evaluate` searches and compares outputs; `UsageError` unless this task searches them.

        `options` are those of `EvaluateOptions.of_sequences`.
        """
        name = next(iter(options))
        raise UsageError(
            setting=name, expected="a sequence-to-sequence model", found=f"{model} ({self.spec.name})",
            advice=f"leave {setting(name)} out")

    def weigh(self, engine: Engine, records: Sequence[Record]) -> None:
        """Fit the weight of the scores that the task itself adds to those of the network."""

    def calibrate(self, engine: Engine, records: Sequence[Record]) -> Calibration | None:
        """Fit the temperatures by which the network's scores are divided; None if the task has none."""
        return None

    def apply_temperatures(self, *temperatures: float) -> None:
        """Divide the scores that the task itself adds to those of the network."""

    def refit(self, examples: Sequence[Example], records: Sequence[Record]) -> None:
        """Learn once more what needs no network, from training examples and records that were held out.

        A training does this after its report, for which the held-out records must be new.
        """


def listed(names: Sequence[str], what: str, *, most: int = 5) -> str:
    """Count names and list the first ones: `3 labels: person, place, time`."""
    return f"{len(names):,} {what}: {', '.join(names[:most])}{', …' if len(names) > most else ''}"


AnyTask = Task[Any, Any, Any]


def task_class(name: str) -> type[AnyTask]:
    """Import the task of this name; `KeyError` for an unknown name."""
    module, _, attribute = TASKS[name].implementation.partition(":")
    implementation: type[AnyTask] = getattr(import_module(module), attribute)
    return implementation
