"""Everything that a training reads: records, pretrained vectors and other models."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, compress
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from rnntool.data.corpus import Texts
from rnntool.data.formats import FORMATS, format_named_by
from rnntool.data.inputs import check_formats
from rnntool.data.label_checks import odd_labels
from rnntool.data.progress import Log, Stage, silent
from rnntool.data.records import Transduction
from rnntool.data.streams import input_names
from rnntool.data.vector_file import read_vectors
from rnntool.errors import DataError, UsageError, setting
from rnntool.models.network import Network
from rnntool.tasks.base import AnyTask, task_class
from rnntool.tasks.specs.settings import Settings, tokenizer_kind
from rnntool.training.character_lm import copy_context
from rnntool.training.job import Job
from rnntool.training.pretrained_model import PretrainedModel
from rnntool.training.pretrained_vectors import copy_vectors
from rnntool.training.transfer import Transfer, transfer_to_decoder, transfer_weights

# settings that only some formats use, with their defaults
FORMAT_SETTINGS = {"word_column": None, "text_column": None, "label_column": None, "unit": "line",
                   "source_columns": None, "target_column": None}


@dataclass(kw_only=True)
class TrainingData:
    """The data and models of a job."""

    records: Sequence[Any]  # those of the training files, before any are held out
    train: Sequence[Any]
    dev: Sequence[Any]
    raw: Sequence[Any] = ()  # records whose targets are ignored
    words: list[str] = dataclasses.field(default_factory=list)  # of the pretrained vectors
    vectors: NDArray[np.float32] | None = None  # (N, D)
    base: PretrainedModel | None = None  # the model that the training starts from
    target_base: PretrainedModel | None = None  # the language model that the decoder starts from
    character_lm: PretrainedModel | None = None  # whose states are part of the word vectors
    segmenter: PretrainedModel | None = None  # that becomes part of the tagger

    @classmethod
    def read(cls, job: Job, *, log: Log, warn: Log = silent, watch: Callable[[Stage], None]) -> Self:
        """Read everything; `log` and `warn` receive guessed formats and what is odd about the data.

        `UsageError` for a setting that has no effect on the formats of the files.
        """
        settings, places, kind = job.settings, job.places, task_class(job.task)
        records, dev, formats = _records(job, kind, log, warn, watch)
        train, dev = (records, dev) if job.dev else split(kind, records, settings)
        if not train:
            raise DataError(place=input_names(job.train), expected=kind.spec.learns_from, found="none",
                            advice="give files that have some")
        _check_dev(dev, settings)
        raw = []
        if "raw" in places:  # its format may differ from that of the training files
            is_table = format_named_by(places["raw"]) in ("tsv", "csv")
            reading = job.reading if is_table else job.reading.replace(delimiter=None, no_header=False)
            inputs = kind.inputs([places["raw"]], settings, targets=False, format=None, reading=reading,
                                 log=log, warn=warn)
            raw, formats = list(inputs), {*formats, *inputs.formats}
        chosen = [name for name, default in FORMAT_SETTINGS.items()
                  if getattr(settings, name, default) != default] + job.reading.table_settings()
        check_formats(formats, chosen, needs_labels=kind.spec.needs_labels)
        base = target_base = character_lm = segmenter = None
        units = getattr(settings, "tokenizer", "word")  # taggers have no setting for it
        if settings.init:
            base = PretrainedModel.read(settings.init, places["init"], used_as="init",
                                        tokenizer=tokenizer_kind(units))
            if difference := base.split_difference(settings):
                warn(difference)
        if init_target := getattr(settings, "init_target", None):
            target_base = PretrainedModel.read(
                init_target, places["init_target"], used_as="init_target", task="lm",
                tokenizer=tokenizer_kind(getattr(settings, "target_tokenizer", None) or units))
        if features := getattr(settings, "features", None):
            character_lm = PretrainedModel.read(features, places["features"], used_as="features",
                                                tokenizer="char")
        if "segmenter" in places:
            name = getattr(settings, "segmenter", "")
            segmenter = PretrainedModel.read(name, places["segmenter"], used_as="segmenter", task="segment",
                                             tokenizer="char")
        words: list[str] = []
        vectors = None
        if settings.vectors:
            words, vectors = read_vectors(places["vectors"], limit=settings.vectors_limit)
        return cls(records=records, train=train, dev=dev, raw=raw, words=words, vectors=vectors, base=base,
                   target_base=target_base, character_lm=character_lm, segmenter=segmenter)

    def folds(self, kind: type[AnyTask], settings: Settings, count: int) -> list[Fold]:
        """Divide the training records into `count` folds; each record is held out in one of them.

        Records that the network reads together are in the same fold. `DataError` if there are too few.
        """
        units = _Units(kind, self.records, settings)
        if len(units) < count:
            raise DataError(place="training data", expected=f"at least {count} records, one for each fold",
                            found=len(units), advice=f"lower {setting('folds')}, or give more data")
        numbers = _fold_numbers(kind, units, settings, count)
        folds = []
        for number in range(count):
            rest = units.select(numbers != number)
            train, dev = split(kind, rest, settings)
            _check_dev(dev, settings)
            folds.append(Fold(dataclasses.replace(self, records=rest, train=train, dev=dev),
                              units.select(numbers == number), units.indexes(numbers == number)))
        return folds

    def fingerprints(self) -> dict[str, str]:
        """Return a digest of the content of each source, by the names of `Job.sources`."""
        vectors = [] if self.vectors is None else [*map(str.encode, self.words), self.vectors]
        models = {"init": self.base, "init_target": self.target_base, "features": self.character_lm,
                  "segmenter": self.segmenter}
        return {
            "train": _fingerprint(self.train), "dev": _fingerprint(self.dev), "raw": _fingerprint(self.raw),
            "vectors": _digest(vectors),
            "target": _fingerprint(self.train), "dev_target": _fingerprint(self.dev),
            **{name: _digest([model.digest()] if model else []) for name, model in models.items()},
        }

    def learn(self, kind: type[AnyTask], settings: Settings, *, watch: Callable[[Stage], None]) -> AnyTask:
        """Return a task with the vocabularies and labels of this data."""
        if isinstance(self.train, Texts) and self.train.large:
            watch(Stage("learning the vocabulary", None, len(self.train), "records"))
        return kind.learn(
            self.train, settings, vectors=self.words, raw=self.raw,
            base=self.base.tokenizer if self.base else None,
            characters=self.character_lm.tokenizer if self.character_lm else None,
            target_base=self.target_base.tokenizer if self.target_base else None)

    def initialize(self, network: Network, task: AnyTask, *, log: Log, warn: Log) -> dict[str, Transfer]:
        """Initialize a network with vectors and weights of other models.

        Returns what the models of `init` and `init_target` contributed, by the name of the setting.
        """
        if self.character_lm:
            copy_context(self.character_lm, network)
        if self.vectors is not None:
            count = copy_vectors(network, task.tokenizer, self.words, self.vectors)
            report = log if count else warn  # no match is probably a mistake, such as another language
            report(f"{count:,} of {task.tokenizer.size:,} embeddings start from one of {len(self.words):,} "
                   f"pretrained vectors of size {self.vector_size}")
        transfers = {}
        if self.base:
            transfers["init"] = transfer_weights(self.base, network, task.row_names())
        if self.target_base:
            transfers["init_target"] = transfer_to_decoder(
                self.target_base, network, task.row_names().targets)
        return transfers

    @property
    def vector_size(self) -> int:
        """Size of a pretrained vector; 0 if there are none."""
        return 0 if self.vectors is None else self.vectors.shape[1]

    def __str__(self) -> str:
        text = (f"{len(self.train):,} training record{'s' if len(self.train) != 1 else ''}, "
                f"{len(self.dev):,} for development")
        return text + (f", {len(self.raw):,} of raw text" if self.raw else "")


def _records(
    job: Job, kind: type[AnyTask], log: Log, warn: Log, watch: Callable[[Stage], None]
) -> tuple[Sequence[Any], Sequence[Any], set[str]]:
    """Read the records of the files for training and of those for development; also return the formats."""
    formats: set[str] = set()

    def read(paths: list[str], parallel: str) -> Sequence[Any]:
        settings = job.settings
        if hasattr(settings, "target"):
            settings = settings.replace(target=job.places.get(parallel))
        inputs = kind.inputs(paths, settings, targets=True, format=job.format, reading=job.reading, log=log,
                             warn=warn)
        records = kind.collect(inputs, watch=watch)
        formats.update(inputs.formats)
        return records

    records = read(job.train, "target")
    if kind.spec.reads == "texts" and kind.learns_labels(job.settings):
        _warn_of_odd_labels(records, job, formats, warn)
    if not job.dev:
        return records, [], formats
    dev = read(job.dev, "dev_target")
    if not dev:
        raise DataError(place=input_names(job.dev), expected="records for development", found="none",
                        advice=f"leave {setting('dev')} out to keep a share of the training records")
    return records, dev, formats


def split(
    kind: type[AnyTask], records: Sequence[Any], settings: Settings
) -> tuple[Sequence[Any], Sequence[Any]]:
    """Hold out a share of the records for development: the last ones of a running text, or random ones.

    A record with a label or tag that no other record has is kept for training. Records that the network reads
    together are held out together.
    """
    if len(records) < 2 or not settings.dev_fraction:
        return records, records[:0]
    if kind.is_running_text(settings):
        count = _dev_size(len(records), settings)
        return records[:-count], records[-count:]
    units = _Units(kind, records, settings)
    held = _draw(len(units), settings)
    _keep_rare_labels(kind, units.__getitem__, held, settings)
    return units.select(~held), units.select(held)


class Fold(NamedTuple):
    """A part of the training records, and the data without it."""

    data: TrainingData
    held_out: Sequence[Any]  # the part
    indexes: NDArray[np.int64]  # of its records among all


def _fold_numbers(kind: type[AnyTask], units: _Units, settings: Settings, folds: int) -> NDArray[np.int64]:
    """Return the number of the fold of each unit (N,), from 0 on.

    Folds of a running text are parts of it. Otherwise units are drawn at random, those with the same labels
    from as many folds as possible.
    """
    count = len(units)
    if kind.is_running_text(settings):
        return np.arange(count) * folds // count
    order = list(range(count))
    random.Random(settings.seed).shuffle(order)
    order.sort(key=lambda i: sorted(_labels_of(kind, units[i], settings)))
    numbers = np.empty(count, np.int64)
    numbers[order] = np.arange(count) % folds
    return numbers


class _Units:
    """The smallest parts of the training records that can be held out: groups, or single records."""

    def __init__(self, kind: type[AnyTask], records: Sequence[Any], settings: Settings) -> None:
        self._kind = kind
        self._records = records
        self._groups = kind.inseparable_groups(records, settings)

    def __len__(self) -> int:
        return len(self._records if self._groups is None else self._groups)

    def __getitem__(self, i: int) -> Sequence[Any]:
        """Return the records of a unit."""
        return [self._records[j] for j in ((i,) if self._groups is None else self._groups[i])]

    def indexes(self, mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the indexes of the records of the units where `mask` (N,) is True."""
        if self._groups is None:
            return np.flatnonzero(mask)
        return np.fromiter(chain(*compress(self._groups, mask)), np.int64)

    def select(self, mask: NDArray[np.bool_]) -> Sequence[Any]:
        """Return the records of the units where `mask` (N,) is True."""
        if isinstance(self._records, Texts):
            return self._records.pick(self.indexes(mask))
        if self._groups is None:
            return list(compress(self._records, mask))
        chosen = map(self.__getitem__, np.flatnonzero(mask).tolist())
        return list(chain.from_iterable(map(self._kind.isolated, chosen)))


def _dev_size(count: int, settings: Settings) -> int:
    """Return how many of `count` to hold out: at least one, and not all."""
    return min(max(1, round(count * settings.dev_fraction)), count - 1)


def _draw(count: int, settings: Settings) -> NDArray[np.bool_]:
    """Draw a random mask (`count`,) of what is held out."""
    held = np.zeros(count, bool)
    held[random.Random(settings.seed).sample(range(count), _dev_size(count, settings))] = True
    return held


def _keep_rare_labels(
    kind: type[AnyTask], group: Callable[[int], Sequence[Any]], held: NDArray[np.bool_], settings: Settings
) -> None:
    """Remove groups from the mask `held` if they have a label that no training record has."""
    trained: set[Any] = set()
    for i in np.flatnonzero(~held).tolist():
        trained |= _labels_of(kind, group(i), settings)
    for i in np.flatnonzero(held).tolist():
        labels = _labels_of(kind, group(i), settings)
        held[i] = labels <= trained
        trained |= labels


def _labels_of(kind: type[AnyTask], records: Iterable[Any], settings: Settings) -> set[tuple[int, str]]:
    """Return all labels of the records; see `Task.labels_of`."""
    return {label for record in records for label in kind.labels_of(record, settings)}


def _warn_of_odd_labels(records: Sequence[Any], job: Job, formats: Collection[str], warn: Log) -> None:
    """Warn if the labels of texts look as if they were read from the wrong column."""
    odd = odd_labels(record.labels for record in records)
    if odd is None:
        return
    column = getattr(job.settings, "label_column", None) or "label"
    has_columns = any("label_column" in FORMATS[format].settings for format in formats)
    advice = (f"if they are not in {column!r}, choose their column with {setting('label_column')}"
              if has_columns else "check them")
    warn(f"{input_names(job.train)}: {odd}; {advice}")


def _check_dev(dev: Sequence[Any], settings: Settings) -> None:
    """Raise `UsageError` for a setting that depends on development data if there is none."""
    needs_dev = {"schedule": settings.schedule == "plateau", "patience": settings.patience > 0,
                 "evaluations": settings.evaluations > 1}
    for name in (name for name, needs in needs_dev.items() if needs and not dev):
        raise UsageError(
            setting=name, expected="records for development", found="none",
            advice=f"give {setting('dev')}, or a {setting('dev_fraction')} above 0 and several records")


def _fingerprint(records: Sequence[Any]) -> str:
    """Return a digest of the content of records."""
    if isinstance(records, Texts):
        return records.digest().hex()
    is_pairs = bool(records) and isinstance(records[0], Transduction)
    names = ("source", "targets", "extra") if is_pairs else ("text", "labels", "words", "tags", "more_tags")
    documents = [getattr(record, "document", None) for record in records]
    starts_document = (one != other for one, other in zip(documents, [None, *documents], strict=False))
    contents = ([starts, *(getattr(record, name, None) for name in names)]
                for starts, record in zip(starts_document, records, strict=True))
    return _digest(repr(content).encode("utf-8", "surrogatepass") for content in contents)


def _digest(parts: Iterable[Any]) -> str:
    """Return a digest of bytes and arrays."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
        digest.update(b"\0")
    return digest.hexdigest()
