"""A whole training, from files to a model folder: reads, learns vocabularies, trains, exports, reports."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import random
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import nn

from rnntool import __version__, config, modeldir
from rnntool.config import ClassifySettings, LMSettings, Settings, TagSettings, WordSettings, cores
from rnntool.console import Stage
from rnntool.engines.onnx import OnnxEngine
from rnntool.engines.torch import TorchEngine, pick_device
from rnntool.errors import DataError, ModelError, RnntoolError, UsageError
from rnntool.formats import split_columns
from rnntool.models import export
from rnntool.models.encoder import WordInput
from rnntool.models.heads import ClassifierHead, TaggerHead
from rnntool.models.network import Network, count_parameters
from rnntool.store import Block, Rows, Texts, keep
from rnntool.tasks import TASKS, ClassifyTask, LMTask, TagTask, Task
from rnntool.tasks.reading import Say, read_all, read_each
from rnntool.tokenize import Tokenizer
from rnntool.training import transfer
from rnntool.training.batching import Batches, Shuffled, Streamed, mixed
from rnntool.training.card import model_card
from rnntool.training.design import balance, build, design
from rnntool.training.loop import Step, Trainer
from rnntool.training.optim import Frozen, weights_of
from rnntool.training.vectors import read_vectors

JOB, TASK = "job.json", "task"
# settings that only some formats read, and what they are where nobody chose
READ_BY = {"text_column": (None, ("tsv", "csv", "jsonl")),
           "label_column": (None, ("tsv", "csv", "jsonl", "fasttext")), "unit": ("line", ("text",))}
FILES, MODELS = ("raw", "vectors"), ("init", "features")  # settings that name what is read, too


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is trained from which files. A resumed training goes on with the job that it began with.

    Settings name files and models as the user did, and are published with the model; where these are, which
    a training has to know that goes on from another folder, is in `places`, by the setting.
    """

    task: str
    train: list[str]
    dev: list[str]
    settings: Settings
    format: str | None = None
    encoding_errors: str = "strict"
    places: dict[str, str] = dataclasses.field(default_factory=dict)

    def begin(self) -> Job:
        """The job with absolute paths; `ModelError` where there is no model of a name."""
        named = {name: getattr(self.settings, name, None) for name in (*FILES, *MODELS)}
        places = {name: _absolute(value) if name in FILES else str(modeldir.find(value).resolve())
                  for name, value in named.items() if value}
        return dataclasses.replace(self, train=list(map(_absolute, self.train)),
                                   dev=list(map(_absolute, self.dev)), places=places)

    def sources(self) -> dict[str, list[str]]:
        """All that is read, by what it is for."""
        return {"train": self.train, "dev": self.dev or self.train,
                **{name: [place] for name, place in self.places.items()}}

    def save(self, path: Path, fingerprints: Mapping[str, str]) -> None:
        """Write as JSON, with what the content of its sources was."""
        modeldir.write_json(path, {**dataclasses.asdict(self), "fingerprints": fingerprints})

    @classmethod
    def load(cls, path: Path) -> tuple[Job, dict[str, str]]:
        """The job that `save` wrote, and the fingerprints of its sources.

        `DataError` or `ModelError` where one of these is gone.
        """
        try:
            data = json.loads(path.read_text("utf-8"))
            fingerprints = data.pop("fingerprints")
            settings = config.from_json(data["task"], data.pop("settings"))
            job = cls(**data, settings=settings)
        except FileNotFoundError:
            raise ModelError(
                f"{path.parent.parent}: no training to resume; leave --resume out to start one") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{path}: is damaged ({error}); start anew with --force") from None
        for name, places in job.sources().items():
            for place in places:
                if place != "-" and not Path(place).exists():
                    raise (ModelError if name in MODELS else DataError)(
                        f"{place}: this training began with it and it is gone; put it back, or start anew "
                        "with --force")
        return job, fingerprints


def train(
    job: Job | None,
    out: Path,
    *,
    task: str,
    device: str = "auto",
    threads: int = 0,
    force: bool = False,
    watch: Callable[[Step | Stage], None],
    stopping: Callable[[], int | None],
    say: Say,
    tell: Say | None = None,
) -> dict[str, Any]:
    """Train `job` into the folder `out`, or where `job` is None resume the one begun there.

    `tell` takes what everybody should hear, `say` what was guessed and chosen (and all, where there is no
    `tell`). Returns the dev report. Raises `Interrupted` when `stopping` gave a signal; the state is then
    saved, and resuming leads to the same weights as an uninterrupted run.
    """
    resume = out / modeldir.RESUME
    before = None  # what the content was, of a training that is resumed
    if job is None:
        job, before = Job.load(resume / JOB)
        if job.task != task:
            raise UsageError(f"{out}: its training is of the task {job.task}; give rnntool train {job.task}")
    else:
        _check_place(out, force=force)
        job = job.begin()
    torch.set_num_threads(threads or cores())
    torch.set_flush_denormal(True)  # a state that fades to denormals would cost a hundredfold
    settings, kind = job.settings, TASKS[job.task]
    formats: set[str] = set()
    train_records, dev_records = _read(job, kind, formats, say, watch)
    _check_dev(dev_records, settings)
    raw_records = _read_raw(settings, job, formats, say)
    _check_formats(formats, settings)
    base = reader = None
    if settings.init:  # a network of words has no choice of tokens
        base = transfer.Base(settings.init, job.places["init"], getattr(settings, "tokenizer", "word"))
    if isinstance(settings, TagSettings) and settings.features:
        reader = transfer.Base(settings.features, job.places["features"], "char", option="--features")
    vectors: tuple[list[str], Any] = ([], None)
    if settings.vectors:
        vectors = read_vectors(job.places["vectors"], limit=settings.vectors_limit)
    found = {
        "train": _fingerprint(train_records), "dev": _fingerprint(dev_records),
        "raw": _fingerprint(raw_records),
        "vectors": _digest([*map(str.encode, vectors[0]), vectors[1]] if settings.vectors else []),
        "init": _digest([base.content()] if base else []),
        "features": _digest([reader.content()] if reader else []),
    }
    if before is not None:
        _check_content(job, before, found)
    if before is None:
        if isinstance(train_records, Texts) and train_records.large:
            watch(Stage("learning the vocabulary", None, len(train_records), "records"))
        learner = kind.learn(
            train_records, settings, vectors=vectors[0] if job.task != "lm" else [], raw=raw_records,
            base=base.tokenizer if base else None, characters=reader.tokenizer if reader else None)
    else:
        learner = _load_task(kind, resume / TASK, settings)
    _tokenizer(learner).threads = threads
    if isinstance(learner, LMTask):
        learner.check(dev_records)  # before the training, and not when it is first evaluated
    say(f"{len(train_records):,} training records, {len(dev_records):,} for development"
        + (f", {len(raw_records):,} of raw text" if raw_records else ""))
    if isinstance(learner, TagTask) and before is None:
        _tell_schemes(learner, tell or say)

    network = build(design(learner, settings, vector_size=vectors[1].shape[1] if settings.vectors else 0,
                           context=reader.context() if reader else None), settings)
    if reader:
        assert isinstance(network.encoder.input, WordInput) and network.encoder.input.context is not None
        reader.place_context(network.encoder.input.context)
    if settings.vectors:
        say(_place_vectors(network, learner, *vectors))
    carried, frozen = None, None
    if base:
        carried = base.carry_over(network, _rows(learner))
        if before is None:
            (tell or say)(str(carried))
        if settings.freeze or settings.unfreeze_every:
            frozen = Frozen(network, carried.kept, settings)
    examples = _examples(learner, train_records, watch=watch, tell=tell or say)
    if isinstance(dev_records, Texts):
        dev_records = Texts.collect(dev_records, watch=watch)  # so that the file with all of them can go
    del train_records
    mixture = examples
    if isinstance(settings, WordSettings) and settings.raw:
        assert isinstance(learner, ClassifyTask | TagTask)
        if not (raw := learner.unlabelled(raw_records)):
            raise DataError(f"{job.places['raw']}: want raw text, found no word; give --raw a file that has "
                            "some")
        mixture = mixed(examples, raw)
    batches = _batches(learner, mixture, settings)
    trainer = Trainer(
        learner, network, batches, dev_records, settings,
        device=pick_device(device), folder=resume, watch=watch, stopping=stopping, frozen=frozen,
    )
    _check_unfreezing(settings, trainer.epochs)
    if isinstance(settings, WordSettings) and settings.class_weights == "balanced":
        assert isinstance(network.head, ClassifierHead | TaggerHead)
        balance(network.head, learner, examples)
    say(f"{count_parameters(network):,} parameters, {len(trainer.batches)} steps an epoch, "
        f"{str(trainer.precision).removeprefix('torch.')} on {trainer.device}")
    if before is None:  # from here on there is something to resume, and an older checkpoint is gone
        modeldir.remove(resume)
        with modeldir.staged(resume) as stage:
            _save_task(learner, stage / TASK)
            job.save(stage / JOB, found)
    else:
        trainer.resume()
    progress = trainer.run()
    return write_model(
        learner, network.cpu(), dev_records, out, history=progress.history, carried=carried, threads=threads)


def write_model(
    task: Task[Any, Any, Any], network: Network, dev: Sequence[Any], out: Path, *,
    history: list[dict[str, Any]], carried: transfer.Carried | None = None, threads: int = 0,
) -> dict[str, Any]:
    """Write the whole model folder and remove its checkpoint. Returns the written graph's dev report.

    Where `dev` tells that probabilities are too high or too low, the head's scores are put right first.
    """
    settings = task.settings
    network.learn_neighbours(0)  # it has served
    calibration = task.calibrate(TorchEngine(network, torch.device("cpu")), dev) if dev else None
    if calibration and isinstance(network.head, ClassifierHead | TaggerHead):
        network.head.divide(*calibration.temperatures)
    with modeldir.staged(out, replace=True) as stage:
        export.write(network, stage / modeldir.GRAPH, int8=settings.int8)
        report = task.report(OnnxEngine(stage / modeldir.GRAPH, threads=threads), dev) if dev else {}
        report |= calibration.report() if calibration else {}
        task.save(stage)
        weights = {name: t.float().contiguous() for name, t in weights_of(network, frozen=True).items()}
        (stage / modeldir.WEIGHTS).write_bytes(save(weights))
        content = {
            "format": modeldir.FORMAT,
            "version": __version__,
            "task": task.name,
            "data": task.config(),
            "network": network.config.to_json(),
            "parameters": count_parameters(network),
            "graph": "int8" if settings.int8 else "float32",
            "settings": settings.to_json(),
            "init": carried.to_json() if carried else None,
            "report": report,
        }
        lines = (json.dumps(entry) + "\n" for entry in history)
        (stage / modeldir.METRICS).write_text("".join(lines), "utf-8")
        label = task.labels.names[0] if isinstance(task, LMTask) and task.labels else None
        (stage / modeldir.CARD).write_text(model_card(out.name, content, label=label), "utf-8")
        modeldir.write_json(stage / modeldir.CONFIG, content)
    modeldir.remove(out / modeldir.RESUME)
    return report


def _check_place(out: Path, *, force: bool) -> None:
    """Refuse, before anything is read, a folder that can't be written or holds something else."""
    try:
        there = next(place for place in (out, *out.parents) if place.exists())
        held = there == out and there.is_dir() and any(out.iterdir())
    except OSError as error:
        raise RnntoolError(
            f"{out}: can't be read ({error.strerror}); choose another folder with -o") from None
    if there == out and not out.is_dir():
        raise UsageError(f"{out}: is a file; give -o a folder")
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise RnntoolError(f"{out}: can't be written to; choose another folder with -o")
    if not held:
        return
    ours = (out / modeldir.CONFIG).exists() or (out / modeldir.RESUME).exists()
    if not ours:
        raise UsageError(f"{out}: holds other files and no model; choose another folder with -o")
    if not force:
        raise UsageError(f"{out}: exists already; --resume goes on with a training that was stopped, --force "
                         "replaces it")


def _read(
    job: Job, kind: type[Task[Any, Any, Any]], formats: set[str], say: Say, watch: Callable[[Stage], None]
) -> tuple[Sequence[Any], Sequence[Any]]:
    """Training and dev records; their files' formats are added to `formats`."""
    def read(paths: list[str]) -> Sequence[Any]:
        records = read_each(kind, paths, format=job.format, settings=job.settings,
                            errors=job.encoding_errors, say=say, formats=formats)
        return Texts.collect(records, watch=watch) if kind is LMTask else list(records)

    records = read(job.train)
    if job.dev:
        dev = read(job.dev)
        if not dev:
            raise DataError(f"{', '.join(job.dev)}: want records for development, found none; leave --dev "
                            "out to keep a share of the training records")
        return records, dev
    # records with labels are no running text, and often sorted by them
    ordered = isinstance(job.settings, LMSettings) and not job.settings.label_column
    return split(records, job.settings, ordered=ordered)


def _read_raw(settings: Settings, job: Job, formats: set[str], say: Say) -> list[Any]:
    """Records to learn from without targets, in whatever format their file is."""
    if "raw" not in job.places:
        return []
    return read_all(TASKS[job.task], [job.places["raw"]], format=None, settings=settings,
                    errors=job.encoding_errors, say=say, targets=False, formats=formats)


def split(
    records: Sequence[Any], settings: Settings, *, ordered: bool
) -> tuple[Sequence[Any], Sequence[Any]]:
    """Keep a share of the records for development: the last ones where order matters, else random ones."""
    if len(records) < 2 or not settings.dev_fraction:
        return records, records[:0]
    count = min(max(1, round(len(records) * settings.dev_fraction)), len(records) - 1)
    if ordered:
        return records[:-count], records[-count:]
    held = np.zeros(len(records), bool)
    held[random.Random(settings.seed).sample(range(len(records)), count)] = True
    if isinstance(records, Texts):
        return records.pick(np.flatnonzero(~held)), records.pick(np.flatnonzero(held))
    return list(compress(records, ~held)), list(compress(records, held))


def _check_dev(dev: Sequence[Any], settings: Settings) -> None:
    """Refuse settings that watch the dev score where there is none."""
    watching = "--schedule plateau" if settings.schedule == "plateau" else "--patience"
    if not dev and (settings.patience or settings.schedule == "plateau"):
        raise UsageError(f"{watching}: want records for development to watch, found none; give --dev, or a "
                         "--dev-fraction of several records")


def _check_formats(formats: set[str], settings: Settings) -> None:
    """Refuse settings that say how to read formats that no file is in."""
    for name, (usual, reading) in READ_BY.items():
        if getattr(settings, name, usual) != usual and not formats.intersection(reading):
            raise UsageError(f"{config.flag(name)}: goes with files in {' or '.join(reading)}, found "
                             f"{' and '.join(sorted(formats))}; leave it out, or see --from")


def _check_unfreezing(settings: Settings, epochs: int) -> None:
    """Refuse an unfreezing that the training would end before."""
    begins = settings.unfreeze_every * (settings.layers + 1)
    if begins >= epochs:
        raise UsageError(f"--unfreeze-every {settings.unfreeze_every}: the input "
                         f"is free after {begins} epochs, found {epochs}; give --epochs {begins + 1} or more")


def _check_content(job: Job, before: Mapping[str, str], found: Mapping[str, str]) -> None:
    """`DataError` where something that is learned from has changed; it names what."""
    changed = [place for name, places in job.sources().items() if found[name] != before[name]
               for place in places]
    if changed:
        raise DataError(f"{', '.join(dict.fromkeys(changed))}: the data has changed since this training "
                        "began; start anew with --force")


def _fingerprint(records: Sequence[Any]) -> str:
    """A digest of the content of records."""
    if isinstance(records, Texts):
        return records.digest().hex()
    names = ("text", "labels", "words", "tags", "more")
    return _digest(repr([getattr(record, name, None) for name in names]).encode("utf-8", "surrogatepass")
                   for record in records)


def _digest(parts: Iterable[Any]) -> str:
    """A digest of bytes and arrays."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
        digest.update(b"\0")
    return digest.hexdigest()


def _absolute(path: str) -> str:
    return path if path == "-" else str(Path(path).resolve())


def _examples(
    task: Task[Any, Any, Any], records: Sequence[Any], *, watch: Callable[[Stage], None], tell: Say
) -> Sequence[Any]:
    """What is learned from. The tokens of a large text are kept for trainings to come."""
    if not isinstance(task, LMTask):
        return [part for record in records for part in task.parts(task.example(record, targets=True))]
    assert isinstance(records, Texts)
    if not records.large:
        return task.rows(records)
    return keep(_watched(task.blocks(records), len(records), watch), task.dtype,
                key=_key(task, records), tell=tell)


def _watched(blocks: Iterator[Block], records: int, watch: Callable[[Stage], None]) -> Iterator[Block]:
    rows = tokens = 0
    for block in blocks:
        yield block
        rows, tokens = rows + len(block.lengths), tokens + len(block.values)
        watch(Stage("tokenising", rows / records, tokens, "tokens"))


def _key(task: LMTask, records: Texts) -> str:
    """A digest of all that the tokens of records depend on: text, labels and tokenizer."""
    digest = hashlib.blake2b(records.digest() + __version__.encode(), digest_size=16)
    with tempfile.TemporaryDirectory() as folder:
        _save_task(task, Path(folder) / TASK)
        for path in sorted((Path(folder) / TASK).iterdir()):
            digest.update(f"{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _save_task(task: Task[Any, Any, Any], folder: Path) -> None:
    folder.mkdir(parents=True)
    task.save(folder)
    modeldir.write_json(folder / "data.json", task.config())


def _load_task(kind: type[Task[Any, Any, Any]], folder: Path, settings: Settings) -> Task[Any, Any, Any]:
    try:
        data = json.loads((folder / "data.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: the checkpoint is damaged ({error}); start anew with --force") from None
    return kind.load(folder, data, settings)


def _tell_schemes(task: TagTask, tell: Say) -> None:
    names = split_columns(task.settings.column)
    for name, column in zip(names, task.columns, strict=True):
        if column.scheme:
            place = f" in column {name}" if name else ""
            tell(f"the tags{place} are spans in {column.scheme.upper()}; they are learned as IOBES")


def _batches(task: Task[Any, Any, Any], examples: Sequence[Any], settings: Settings) -> Batches:
    if isinstance(task, LMTask) and isinstance(settings, LMSettings) and settings.context == "stream":
        assert isinstance(examples, Rows)
        return Streamed(task, examples.values, columns=settings.batch_size, steps=settings.bptt)
    copies = 2 if isinstance(settings, ClassifySettings) and settings.consistency else 1
    return Shuffled(task, examples, batch_size=settings.batch_size, seed=settings.seed, copies=copies)


def _tokenizer(task: Task[Any, Any, Any]) -> Tokenizer:
    if isinstance(task, LMTask | ClassifyTask):
        return task.tokenizer
    assert isinstance(task, TagTask)
    return task.features.tokenizer


def _rows(task: Task[Any, Any, Any]) -> transfer.Rows:
    features = task.features if isinstance(task, ClassifyTask | TagTask) else None
    context = task.context if isinstance(task, TagTask) else None
    return transfer.Rows(
        entries=_tokenizer(task).entries, characters=features.characters if features else "",
        vectors=features.vectors if features else (), context=context.config() if context else None)


def _place_vectors(network: Network, task: Task[Any, Any, Any], words: list[str], vectors: Any) -> str:
    """Put pretrained vectors where the network has a place for them: their own table, or the embedding."""
    table = torch.from_numpy(vectors)
    source = network.encoder.input
    with torch.no_grad():
        if isinstance(source, WordInput):
            assert source.vectors is not None
            source.vectors.weight.zero_()
            source.vectors.weight[1:] = table
            return f"{len(words):,} pretrained vectors of {table.shape[1]}"
        embedding = source.embedding
        assert isinstance(embedding, nn.Embedding)  # no bands where there are vectors, see _cutoffs
        if table.shape[1] != embedding.embedding_dim:
            raise UsageError(f"--vectors: the file has {table.shape[1]} numbers a word; give --embed "
                             f"{table.shape[1]}")
        rows = {word: row for row, word in enumerate(words)}
        tokenizer = _tokenizer(task)
        known = [(i, rows[piece]) for i in range(tokenizer.size) if (piece := tokenizer.piece(i)) in rows]
        if known:
            mine, theirs = (torch.tensor(side) for side in zip(*known, strict=True))
            embedding.weight[mine] = table[theirs]
        return f"{len(known):,} of {tokenizer.size:,} embeddings start from pretrained vectors"
