"""What every task does: records to arrays, arrays to results, and a report of how good the results are.

The same code serves training, evaluation and inference, so they cannot disagree. A task knows the
configuration of its network, and neither torch nor an engine.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, Self, TypedDict, TypeVar

from rnntool.data.arrays import Arrays
from rnntool.data.inputs import Inputs
from rnntool.data.progress import Log, Stage, silent
from rnntool.data.streams import Lines
from rnntool.errors import UsageError, setting
from rnntool.evaluation.calibration import Calibration
from rnntool.evaluation.significance import Counts, Metric
from rnntool.models.config import EncoderConfig, NetworkConfig, ObjectiveConfig
from rnntool.tasks import TASKS
from rnntool.tasks.specs.settings import Settings
from rnntool.tasks.specs.spec import TaskSpec
from rnntool.tokenize import Tokenizer

Ready = Callable[[], bool]  # whether another record can be had without waiting

Record = TypeVar("Record")
Example = TypeVar("Example")
Result = TypeVar("Result")
Chosen = TypeVar("Chosen", bound=Settings)


def always() -> bool:
    """Say that every record can be had without waiting."""
    return True


class Engine(Protocol):
    """What runs a network: named arrays in, named arrays out.

    `word_vectors` is the size of the word vectors that the engine can return and take back, or 0.
    """

    word_vectors: int

    def run(self, arrays: Arrays, outputs: list[str] | None = None) -> Arrays:
        """Compute the named outputs of a batch."""
        ...

    def initial_state(self, batch: int) -> Arrays:
        """Return recurrent states of zeros."""
        ...


@dataclass(frozen=True)
class Criterion:
    """The metric that decides which of two models is better: its key in a report, and how it is computed."""

    key: str
    higher_is_better: bool
    metric: Metric

    def better(self, new: float, old: float | None) -> bool:
        """Return whether `new` beats `old`; any number beats None."""
        if old is None:
            return new == new
        return new > old if self.higher_is_better else new < old


class Mistake(TypedDict):
    """A wrong answer: what was right, what was predicted, the model's probability of that, and where."""

    prob: float
    gold: str
    predicted: str
    context: str


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How good a network's answers to records with targets are."""

    report: dict[str, Any]  # JSON types
    counts: Counts  # (N, K), a row for each record in order; the criterion's metric takes their sum
    mistakes: list[Mistake]  # as many as were asked for, the most confident ones first
    gold: Counter[str] = field(default_factory=Counter)  # how often the records have each label
    trained_labels: Sequence[str] = ()  # labels that the training data had


@dataclass(frozen=True, kw_only=True)
class RowNames:
    """What the rows of a network's embeddings stand for, after the special rows at the top."""

    tokens: Sequence[str]
    characters: str = ""  # that words are spelled with
    vectors: Sequence[str] = ()  # words that have a pretrained vector
    context: Mapping[str, Any] | None = None  # the characters of a language model that is read beside words


def excerpt(text: str, start: int, end: int, *, width: int = 30) -> str:
    """Return a stretch of a text in brackets, with `width` characters around it, on one line."""
    before, after = text[max(0, start - width) : start], text[end : end + width]
    return " ".join(f"{before}[{text[start:end]}]{after}".split())


class Task(ABC, Generic[Record, Example, Result, Chosen]):
    """Encodes and decodes the records of one task.

    An example is what a network reads as one row: a record as numbers or words, cheap to keep and to batch.
    `learn` makes a task from training records; `save` and `load` keep it in a model folder.
    """

    spec: ClassVar[TaskSpec]
    small_batches: ClassVar[bool] = True  # whether batches run fastest in parallel, each on one thread
    long_record_advice: ClassVar[str] = ""  # what to do if a record is too long for the memory of one step
    criterion: Criterion
    settings: Chosen
    tokenizer: Tokenizer
    budget: int = 8192  # padded tokens in a batch, at most: their states and outputs have to fit in memory

    # --- Records, and what is learned from them ------------------------------------------------------------

    @classmethod
    @abstractmethod
    def read(cls, lines: Lines, format: str, settings: Chosen, *, targets: bool) -> Iterator[Record]:
        """Read the records of a file; with `targets`, a record without any is an error."""

    @classmethod
    def inputs(
        cls, paths: Sequence[str], settings: Chosen, *, targets: bool, format: str | None, errors: str,
        log: Log, warn: Log = silent, chosen: Collection[str] = (),
    ) -> Inputs:
        """Return the records of files as `read` yields them; see `Inputs` for the other parameters."""
        return Inputs(
            paths, cls.spec.reads, lambda lines, name: cls.read(lines, name, settings, targets=targets),
            format=format, errors=errors, log=log, warn=warn, chosen=chosen,
            needs_labels=cls.spec.needs_labels)

    @classmethod
    def collect(cls, records: Iterable[Record], *, watch: Callable[[Stage], None]) -> Sequence[Record]:
        """Read all training records; `watch` hears how far a long reading has come."""
        return list(records)

    @classmethod
    def in_order(cls, settings: Chosen) -> bool:
        """Return whether records are a running text, of which the last ones are held out."""
        return False

    @classmethod
    def inseparable(cls, records: Sequence[Record], settings: Chosen) -> Sequence[Sequence[Record]] | None:
        """Group records that are held out together or not at all; None if each stands alone."""
        return None

    @classmethod
    @abstractmethod
    def labels_of(cls, record: Record) -> Collection[tuple[int, str]]:
        """Return a record's labels or tags, each with the number of its column."""

    @classmethod
    @abstractmethod
    def learn(
        cls, records: Sequence[Record], settings: Chosen, *, raw: Sequence[Record] = (),
        vectors: Sequence[str] = (), base: Tokenizer | None = None, characters: Tokenizer | None = None,
    ) -> Self:
        """Learn vocabularies and labels from training records; `DataError` if there is nothing to learn from.

        `raw` are records whose targets are ignored, `vectors` the words that have a pretrained vector, `base`
        is the tokenizer of the model that the training starts from, and `characters` that of a language model
        that is read beside words. A task ignores what it has no use for.
        """

    def notices(self) -> Iterator[str]:
        """Describe what was learned and a user should know, such as the scheme of span tags."""
        return iter(())

    def check(self, records: Iterable[Record]) -> None:
        """Raise `DataError` for the first record that can't be evaluated."""

    def unseen_labels(self, records: Sequence[Record]) -> dict[str, int]:
        """Count the labels of the records that training data never had."""
        return {}

    # --- In a model folder ---------------------------------------------------------------------------------

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Return what `load` needs besides the files of `save`, as JSON types."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write vocabularies and labels."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, config: Mapping[str, Any], settings: Chosen) -> Self:
        """Read the task that `save` and `config` wrote."""

    @classmethod
    def label_names(cls, folder: Path, settings: Chosen) -> Sequence[str]:
        """Return the labels that a model chooses from or that its text is given, for people to read."""
        return ()

    # --- The network ---------------------------------------------------------------------------------------

    @abstractmethod
    def sizes(self) -> dict[str, int]:
        """Return the sizes that depend on the data: `vocabulary`, `outputs`, and those of word features."""

    @abstractmethod
    def network_config(
        self, *, vector_size: int = 0, context: tuple[EncoderConfig, bool] | None = None
    ) -> NetworkConfig:
        """Return the network that the settings and the data call for.

        `vector_size` is that of pretrained vectors. `context` is the encoder of a character language model
        that is read beside words, and whether it reads in both directions.
        """

    def objective(self, examples: Sequence[Example]) -> ObjectiveConfig:
        """Return what training minimizes besides the plain loss."""
        return ObjectiveConfig()

    def row_names(self) -> RowNames:
        """Say what the rows of the network's embeddings stand for, so that another model's can be matched."""
        return RowNames(tokens=self.tokenizer.entries)

    @property
    def carries_state(self) -> bool:
        """Whether the network carries its state from record to record."""
        return False

    # --- Arrays --------------------------------------------------------------------------------------------

    @abstractmethod
    def example(self, record: Record, *, targets: bool = False) -> Example:
        """Encode a record; with `targets`, what the network should predict comes with it."""

    def groups(self, records: Iterable[Record], ready: Ready = always) -> Iterator[list[Record]]:
        """Group consecutive records that the network reads as one row; by default each is a group by itself.

        A task that looks ahead yields an empty list if `ready` says that it would have to wait.
        """
        return ([record] for record in records)

    def join(self, examples: Sequence[Example]) -> Example:
        """Make one example of those of a group."""
        (example,) = examples
        return example

    def parts(self, example: Example) -> list[Example]:
        """Cut an example that is too long for a training step into pieces."""
        return [example]

    def training_examples(
        self, records: Sequence[Record], *, watch: Callable[[Stage], None], log: Log
    ) -> Sequence[Example]:
        """Encode all training records."""
        examples = (self.join([self.example(record, targets=True) for record in group])
                    for group in self.groups(records))
        return [part for example in examples for part in self.parts(example)]

    def unlabeled(self, records: Iterable[Record]) -> list[Example]:
        """Encode records whose targets are ignored, as far as anything can be learned from them."""
        return []

    def records(self, example: Example) -> int:
        """Return the number of records in an example."""
        return 1

    @abstractmethod
    def length(self, example: Example) -> int:
        """Return the time steps of an example."""

    @abstractmethod
    def collate(self, examples: Sequence[Example]) -> Arrays:
        """Make the arrays of a batch."""

    def batches(self, engine: Engine, batches: Sequence[Sequence[Example]]) -> list[Arrays]:
        """Make the arrays of several batches, for which an engine may compute once what they share."""
        return list(map(self.collate, batches))

    def windows(self, stream: Any, *, columns: int, steps: int, start: int = 0) -> Iterator[Arrays]:
        """Cut a stream of examples into batches; only for a task that carries state."""
        raise NotImplementedError

    def encode(self, records: Sequence[Record], *, targets: bool = False) -> Arrays:
        """Make the arrays of a batch of records."""
        return self.collate([self.example(record, targets=targets) for record in records])

    def run(self, engine: Engine, arrays: Arrays) -> Arrays:
        """Compute the outputs of a batch that `decode` reads."""
        return engine.run(arrays)

    @abstractmethod
    def spans(self, record: Record) -> tuple[str, list[tuple[int, int]]]:
        """Return a record's text, and the (start, end) characters of each token that the network reads."""

    # --- How good a network is -----------------------------------------------------------------------------

    @abstractmethod
    def score(self, engine: Engine, records: Sequence[Record]) -> dict[str, float]:
        """Compute what is watched while training, cheaply; the first value picks the weights."""

    @abstractmethod
    def evaluate(self, engine: Engine, records: Sequence[Record], *, mistakes: int = 0) -> Evaluation:
        """Evaluate a network on records with targets; each is run once."""

    def report(self, engine: Engine, records: Sequence[Record]) -> dict[str, Any]:
        """Return the report of `evaluate` alone."""
        return self.evaluate(engine, records).report

    def for_evaluation(self, columns: Mapping[str, str], model: str) -> Chosen:
        """Return the settings to read gold data with, where `columns` replaces some of the settings.

        `UsageError` for a column that this task doesn't read; `model` is the model's name for the message.
        """
        foreign = [name for name in columns if not hasattr(self.settings, name)]
        if foreign:
            raise UsageError(f"the model {model} ({self.spec.name}) reads no such column", setting=foreign[0],
                             advice="leave it out")
        return self.settings.replace(**columns)

    def describe_gold(self, records: Sequence[Record]) -> tuple[str, bool] | None:
        """Describe how gold data is read, such as the scheme of its spans, and whether that is as usual."""
        return None

    def shared_criterion(self, other: AnyTask, records: Sequence[Record]) -> Criterion:
        """Return the metric that compares this task's network with another one's on these records.

        `UsageError` if their metrics measure different things.
        """
        if other.spec is not self.spec:
            raise UsageError(setting="compare", expected=f"another model of the task {self.spec.name}",
                             found=f"one of {other.spec.name}")
        if other.criterion != self.criterion:
            raise UsageError(
                setting="compare", expected=f"another model that is judged by {self.criterion.key}",
                found=f"one that is judged by {other.criterion.key}", advice="compare models of one kind")
        return self.criterion

    def check_adaptable(self, option: str, model: str) -> None:
        """Raise `UsageError` unless the network can adapt to the text that it is evaluated on."""
        raise UsageError(setting=option, expected="a language model", found=f"{model} ({self.spec.name})",
                         advice=f"leave {setting(option)} out")

    def calibrate(self, engine: Engine, records: Sequence[Record]) -> Calibration | None:
        """Fit the temperatures that the network's scores are divided by; None if the task needs none."""
        return None


AnyTask = Task[Any, Any, Any, Any]


def task_class(name: str) -> type[AnyTask]:
    """Import the task of this name; `KeyError` for an unknown name."""
    module, _, attribute = TASKS[name].implementation.partition(":")
    implementation: type[AnyTask] = getattr(import_module(module), attribute)
    return implementation
