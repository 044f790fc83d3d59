"""All that a training reads: records, vectors and other models.

Settings that are of no use for what was read are errors.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, compress
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rnntool.data.corpus import Texts
from rnntool.data.inputs import check_formats
from rnntool.data.progress import Log, Stage
from rnntool.data.records import Sentence
from rnntool.data.streams import input_names
from rnntool.data.vector_file import read_vectors
from rnntool.errors import DataError, UsageError, setting
from rnntool.models.network import Network
from rnntool.tasks.base import AnyTask, task_class
from rnntool.tasks.document_context import passages
from rnntool.tasks.lm import LMTask
from rnntool.tasks.specs.lm import LMSettings
from rnntool.tasks.specs.settings import Settings
from rnntool.tasks.specs.tag import TagSettings
from rnntool.training.character_lm import place_context
from rnntool.training.job import Job
from rnntool.training.pretrained_model import PretrainedModel
from rnntool.training.pretrained_vectors import place_vectors
from rnntool.training.transfer import Transfer, transfer_weights

WANTED = {"lm": "text", "classify": "labelled texts", "tag": "tagged sentences"}
# settings that only some formats read, as they are where nobody chose
USUAL = {"text_column": None, "label_column": None, "unit": "line"}


@dataclass(kw_only=True)
class Sources:
    """What `job` names, read."""

    train: Sequence[Any]
    dev: Sequence[Any]
    raw: Sequence[Any]  # records to learn from without targets
    words: list[str]  # that have one of the pretrained `vectors` (N, D), in their order
    vectors: NDArray[np.float32] | None
    base: PretrainedModel | None  # the model of --init
    reader: PretrainedModel | None  # the language model of --features

    @classmethod
    def read(cls, job: Job, *, log: Log, watch: Callable[[Stage], None]) -> Self:
        """Read all; `say` takes what was guessed."""
        settings, places = job.settings, job.places
        train, dev, formats = _records(job, log, watch)
        if not train:
            raise DataError(place=input_names(job.train), expected=WANTED[job.task], found="none",
                            advice="give files that have some")
        _check_dev(dev, settings)
        raw = []
        if "raw" in places:  # in whatever format the file is
            inputs = task_class(job.task).inputs([places["raw"]], settings, targets=False, format=None,
                                            errors=job.encoding_errors, log=log)
            raw, formats = list(inputs), {*formats, *inputs.formats}
        chosen = [name for name, usual in USUAL.items() if getattr(settings, name, usual) != usual]
        check_formats(formats, chosen, needs_labels=task_class(job.task).spec.needs_labels)
        base = reader = None
        if settings.init:  # a network of words has no choice of tokens
            base = PretrainedModel.read(settings.init, places["init"], used_as="init",
                                        tokenizer=getattr(settings, "tokenizer", "word"))
        if isinstance(settings, TagSettings) and settings.features:
            reader = PretrainedModel.read(settings.features, places["features"], used_as="features",
                                          tokenizer="char")
        words: list[str] = []
        vectors = None
        if settings.vectors:
            words, vectors = read_vectors(places["vectors"], limit=settings.vectors_limit)
        return cls(train=train, dev=dev, raw=raw, words=words, vectors=vectors, base=base, reader=reader)

    def fingerprints(self) -> dict[str, str]:
        """A digest of the content of each source, by the names that `Job.sources` has."""
        vectors = [] if self.vectors is None else [*map(str.encode, self.words), self.vectors]
        models = {"init": self.base, "features": self.reader}
        return {
            "train": _fingerprint(self.train), "dev": _fingerprint(self.dev), "raw": _fingerprint(self.raw),
            "vectors": _digest(vectors),
            **{name: _digest([model.digest()] if model else []) for name, model in models.items()},
        }

    def learn(
        self, kind: type[AnyTask], settings: Settings, *, watch: Callable[[Stage], None]
    ) -> AnyTask:
        """A task with the vocabularies and labels of these sources."""
        if isinstance(self.train, Texts) and self.train.large:
            watch(Stage("learning the vocabulary", None, len(self.train), "records"))
        # a language model has no place for vectors of words that training hasn't seen
        return kind.learn(
            self.train, settings, vectors=self.words if kind is not LMTask else [], raw=self.raw,
            base=self.base.tokenizer if self.base else None,
            characters=self.reader.tokenizer if self.reader else None)

    def place(self, network: Network, task: AnyTask, *, log: Log, warn: Log) -> Transfer | None:
        """Put vectors and other models into a new network; tells what of --init was carried over."""
        if self.reader:
            place_context(self.reader, network)
        if self.vectors is not None:
            known = place_vectors(network, task.tokenizer, self.words, self.vectors)
            aloud = log if known else warn  # vectors of another language, say, are no error, and no help
            aloud(f"{known:,} of {task.tokenizer.size:,} embeddings start from one of {len(self.words):,} "
                  f"pretrained vectors of {self.vector_size}")
        return transfer_weights(self.base, network, task.row_names()) if self.base else None

    @property
    def vector_size(self) -> int:
        """How many numbers a pretrained vector has; 0 where there are none."""
        return 0 if self.vectors is None else self.vectors.shape[1]

    def __str__(self) -> str:
        """How many records there are."""
        return (f"{len(self.train):,} training records, {len(self.dev):,} for development"
                + (f", {len(self.raw):,} of raw text" if self.raw else ""))


def _records(
    job: Job, log: Log, watch: Callable[[Stage], None]
) -> tuple[Sequence[Any], Sequence[Any], set[str]]:
    """Training and dev records, and the formats of their files."""
    kind = task_class(job.task)
    formats: set[str] = set()

    def read(paths: list[str]) -> Sequence[Any]:
        inputs = kind.inputs(paths, job.settings, targets=True, format=job.format,
                             errors=job.encoding_errors, log=log)
        records = Texts.collect(inputs, watch=watch) if kind is LMTask else list(inputs)
        formats.update(inputs.formats)
        return records

    records = read(job.train)
    if job.dev:
        dev = read(job.dev)
        if not dev:
            raise DataError(
                place=input_names(job.dev), expected="records for development", found="none",
                advice=f"leave {setting('dev')} out to keep a share of the training records")
        return records, dev, formats
    # records with labels are no running text, and often sorted by them
    ordered = isinstance(job.settings, LMSettings) and not job.settings.label_column
    return *split(records, job.settings, ordered=ordered), formats


def split(
    records: Sequence[Any], settings: Settings, *, ordered: bool
) -> tuple[Sequence[Any], Sequence[Any]]:
    """Keep a share of the records for development: the last ones where order matters, else random ones.

    A record with a label or tag that no other one has is learned from. Sentences that are read together stay
    together.
    """
    if len(records) < 2 or not settings.dev_fraction:
        return records, records[:0]
    if ordered:
        count = _share(len(records), settings)
        return records[:-count], records[-count:]
    if isinstance(records, Texts):
        held = _drawn(len(records), settings)
        _give_back(lambda i: records[i : i + 1], held)
        return records.pick(np.flatnonzero(~held)), records.pick(np.flatnonzero(held))
    together = [[record] for record in records]
    if isinstance(settings, TagSettings) and settings.passage:
        together = _apart(records, settings.passage)
    held = _drawn(len(together), settings)
    _give_back(together.__getitem__, held)
    return list(chain(*compress(together, ~held))), list(chain(*compress(together, held)))


def _share(count: int, settings: Settings) -> int:
    """How many of so many are kept for development: at least one, and not all."""
    return min(max(1, round(count * settings.dev_fraction)), count - 1)


def _drawn(count: int, settings: Settings) -> NDArray[np.bool_]:
    """Which of so many are kept for development, at random."""
    held = np.zeros(count, bool)
    held[random.Random(settings.seed).sample(range(count), _share(count, settings))] = True
    return held


def _apart(sentences: Sequence[Sentence], words: int) -> list[list[Sentence]]:
    """Passages, each a document of its own from here on: those beside it may be gone."""
    together = ((object(), passage) for passage in passages(sentences, words))
    return [[sentence if sentence.document is None else replace(sentence, document=own)
             for sentence in passage] for own, passage in together]


def _give_back(group: Callable[[int], Sequence[Any]], held: NDArray[np.bool_]) -> None:
    """Hold no group of records apart whose labels or tags aren't all in those that are learned from."""
    seen: set[Any] = set()
    for i in np.flatnonzero(~held).tolist():
        seen |= _labels(group(i))
    for i in np.flatnonzero(held).tolist():
        labels = _labels(group(i))
        held[i] = labels <= seen
        seen |= labels


def _labels(records: Sequence[Any]) -> set[tuple[int, str]]:
    """The labels of records, or their tags, each with the number of its column."""
    columns = ((record.tags or (), *record.more_tags) if isinstance(record, Sentence) else (record.labels,)
               for record in records)
    return {(i, label) for own in columns for i, column in enumerate(own) for label in column}


def _check_dev(dev: Sequence[Any], settings: Settings) -> None:
    """Refuse settings that watch the dev score where there is none."""
    watching = {"--schedule plateau": settings.schedule == "plateau", "--patience": settings.patience > 0,
                "--evaluations": settings.evaluations > 1}
    for name in (name for name, watches in watching.items() if watches and not dev):
        raise UsageError(f"{name}: expected records for development to watch, found none; give --dev, or a "
                         "--dev-fraction of several records")


def _fingerprint(records: Sequence[Any]) -> str:
    """A digest of the content of records."""
    if isinstance(records, Texts):
        return records.digest().hex()
    names = ("text", "labels", "words", "tags", "more_tags")
    documents = [getattr(record, "document", None) for record in records]
    begins = (one != other for one, other in zip(documents, [None, *documents], strict=False))
    contents = ([begin, *(getattr(record, name, None) for name in names)]
                for begin, record in zip(begins, records, strict=True))
    return _digest(repr(content).encode("utf-8", "surrogatepass") for content in contents)


def _digest(parts: Iterable[Any]) -> str:
    """A digest of bytes and arrays."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
        digest.update(b"\0")
    return digest.hexdigest()
