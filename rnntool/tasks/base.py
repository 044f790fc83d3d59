"""What every task is: records in, arrays out; arrays in, results out; and a report of how good they are."""

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
from rnntool.data.progress import Log, silent
from rnntool.data.streams import Lines
from rnntool.errors import UsageError
from rnntool.evaluation.calibration import Calibration
from rnntool.evaluation.significance import Counts, Figure
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
    """Records that are all there."""
    return True


class Engine(Protocol):
    """What runs a network, as `rnntool.inference` has it: named arrays in, named arrays out.

    `word_vectors` is the size of the vectors of words that it gives out and takes back; 0 where it does not.
    """

    word_vectors: int

    def run(self, arrays: Arrays, outputs: list[str] | None = None) -> Arrays:
        """The named outputs of a batch."""
        ...

    def initial_state(self, batch: int) -> Arrays:
        """Zero recurrent states."""
        ...


@dataclass(frozen=True)
class Criterion:
    """The figure of a report that tells the better of two models, and how it comes from summed counts."""

    key: str
    higher_is_better: bool
    figure: Figure

    def better(self, new: float, old: float | None) -> bool:
        """Whether `new` beats `old`; anything but NaN beats None."""
        if old is None:
            return new == new
        return new > old if self.higher_is_better else new < old


class Mistake(TypedDict):
    """One wrong answer: what it should have been, what it was, how sure the model was of it, and where."""

    prob: float
    gold: str
    predicted: str
    context: str


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a network's answers to records with targets come to."""

    report: dict[str, Any]  # JSON types
    counts: Counts  # (N, K), a row for each record in order: what the criterion's figure wants the sum of
    mistakes: list[Mistake]  # as many as were asked for, those first that the network is surest of
    gold: Counter[str] = field(default_factory=Counter)  # how often the records have each label
    known: Sequence[str] = ()  # labels that training saw


@dataclass(frozen=True, kw_only=True)
class RowNames:
    """What the rows of a network's embeddings stand for, after the special rows at the top."""

    tokens: Sequence[str]
    characters: str = ""  # that words are spelled with
    vectors: Sequence[str] = ()  # words that have a pretrained vector
    context: Mapping[str, Any] | None = None  # the characters of a language model that is read beside words


def excerpt(text: str, start: int, end: int, *, width: int = 30) -> str:
    """The characters around a place, in one line, the place itself in brackets."""
    before, after = text[max(0, start - width) : start], text[end : end + width]
    return " ".join(f"{before}[{text[start:end]}]{after}".split())


class Task(ABC, Generic[Record, Example, Result, Chosen]):
    """Encodes and decodes the records of one task. The same code serves training, evaluation and inference.

    An example is a record as numbers, cheap to keep and to batch. `learn` makes a task from training records,
    `save` and `load` keep it in a model folder.
    """

    spec: ClassVar[TaskSpec]
    name: ClassVar[str]
    criterion: Criterion
    settings: Chosen
    tokenizer: Tokenizer
    small_batches: ClassVar[bool] = True  # batches run fastest in parallel, each in a thread of its own
    budget: int = 8192  # padded tokens in a batch, at most: what a network makes of them has to fit in memory

    @classmethod
    @abstractmethod
    def read(cls, lines: Lines, format: str, settings: Chosen, *, targets: bool) -> Iterator[Record]:
        """The records of a file; with `targets`, those that have none are errors."""

    @classmethod
    def inputs(
        cls, paths: Sequence[str], settings: Chosen, *, targets: bool, format: str | None, errors: str,
        log: Log, warn: Log = silent, chosen: Collection[str] = (),
    ) -> Inputs:
        """Records of files as `read` yields them; see `Inputs` for the other parameters."""
        return Inputs(
            paths, cls.spec.reads, lambda lines, name: cls.read(lines, name, settings, targets=targets),
            format=format, errors=errors, log=log, warn=warn, chosen=chosen,
            needs_labels=cls.spec.needs_labels)

    @classmethod
    @abstractmethod
    def learn(
        cls, records: Sequence[Record], settings: Chosen, *, raw: Sequence[Record] = (),
        vectors: Sequence[str] = (), base: Tokenizer | None = None, characters: Tokenizer | None = None,
    ) -> Self:
        """Vocabularies and labels from training records; `DataError` where there is nothing to learn from.

        `raw` are records whose targets don't count, `vectors` the words that have a pretrained one, `base` is
        the tokenizer of the model that the training starts from, `characters` that of a language model that
        is read beside words. A task passes over what it has no use for.
        """

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """What `load` needs besides the files of `save`, as JSON types."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write vocabularies and labels."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, config: Mapping[str, Any], settings: Chosen) -> Self:
        """The task that `save` and `config` wrote."""

    @abstractmethod
    def sizes(self) -> dict[str, int]:
        """Sizes that the network takes from the data: `vocabulary`, `outputs`, and those of word features."""

    def row_names(self) -> RowNames:
        """Say what the rows of the network's embeddings stand for, to find the same ones in another model."""
        return RowNames(tokens=self.tokenizer.entries)

    @abstractmethod
    def example(self, record: Record, *, targets: bool = False) -> Example:
        """A record as numbers; with `targets`, what the network should answer comes with it."""

    @property
    def carries_state(self) -> bool:
        """Whether the network carries its state from record to record."""
        return False

    @abstractmethod
    def spans(self, record: Record) -> tuple[str, list[tuple[int, int]]]:
        """Return a record's text, and the (start, end) characters of each token that the network reads."""

    @abstractmethod
    def length(self, example: Example) -> int:
        """Time steps of an example."""

    @abstractmethod
    def collate(self, examples: Sequence[Example]) -> Arrays:
        """The arrays of a batch."""

    @abstractmethod
    def score(self, engine: Engine, records: Sequence[Record]) -> dict[str, float]:
        """What is watched while training, as cheaply as it can be had; the first figure picks the weights."""

    @abstractmethod
    def evaluate(self, engine: Engine, records: Sequence[Record], *, mistakes: int = 0) -> Evaluation:
        """How well a network does on records with targets; each is run once."""

    def report(self, engine: Engine, records: Sequence[Record]) -> dict[str, Any]:
        """The report of `evaluate` alone."""
        return self.evaluate(engine, records).report

    def unseen_labels(self, records: Sequence[Record]) -> dict[str, int]:
        """How often the records have each label that training never saw."""
        return {}

    def shared_criterion(self, other: AnyTask, records: Sequence[Record]) -> Criterion:
        """What to compare this task's network with another's by, on these records.

        `UsageError` where their figures are of different things.
        """
        if other.name != self.name:
            raise UsageError(
                f"--compare: expected another model of the task {self.name}, found one of {other.name}")
        if other.criterion != self.criterion:
            raise UsageError(f"--compare: expected another model that is judged by {self.criterion.key}, found "
                             f"one that is judged by {other.criterion.key}; compare models of one kind")
        return self.criterion

    def calibrate(self, engine: Engine, records: Sequence[Record]) -> Calibration | None:
        """The temperatures that the network's scores want to be divided by, as `records` with targets tell.

        None where probabilities are taken as they are.
        """
        return None

    def passages(self, records: Iterable[Record], ready: Ready = always) -> Iterator[list[Record]]:
        """Records in order, those together that the network reads as one: each by itself, or several.

        A task that has to look ahead gives an empty list where `ready` says that it would have to wait.
        """
        return ([record] for record in records)

    def records(self, example: Example) -> int:
        """How many records an example is made of."""
        return 1

    def join(self, examples: Sequence[Example]) -> Example:
        """One example of those of a passage's records."""
        (example,) = examples
        return example

    def parts(self, example: Example) -> list[Example]:
        """What training learns from an example: itself, or pieces of one that is too long for a step."""
        return [example]

    def forget(self) -> None:
        """Give memory back between windows of a stream; examples made before are void."""

    def prepare(self, engine: Engine) -> None:
        """Compute once what batches of the examples made so far have in common; `collate` refers to it."""

    def run(self, engine: Engine, arrays: Arrays) -> Arrays:
        """The outputs of a batch that `decode` reads."""
        return engine.run(arrays)

    def encode(self, records: Sequence[Record], *, targets: bool = False) -> Arrays:
        """The arrays of a batch of records."""
        return self.collate([self.example(record, targets=targets) for record in records])


AnyTask = Task[Any, Any, Any, Any]


def task_class(name: str) -> type[AnyTask]:
    """Import the task of this name; `KeyError` for an unknown name."""
    module, _, attribute = TASKS[name].implementation.partition(":")
    found: type[AnyTask] = getattr(import_module(module), attribute)
    return found
