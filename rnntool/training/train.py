"""A whole training, from files to a model folder: reads, learns vocabularies, trains, exports, reports."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from rnntool import __version__, model_folder
from rnntool.data.corpus import Texts
from rnntool.data.formats import split_columns
from rnntool.data.progress import Log, Stage
from rnntool.data.rows import Block, Rows
from rnntool.data.threads import thread_count
from rnntool.data.token_cache import cached_rows
from rnntool.errors import DataError, UsageError
from rnntool.inference.torch_engine import pick_device
from rnntool.models.network import Network, count_parameters
from rnntool.tasks.base import AnyTask, task_class
from rnntool.tasks.classify import ClassifyTask
from rnntool.tasks.lm import LMTask
from rnntool.tasks.specs.classify import ClassifySettings
from rnntool.tasks.specs.lm import LMSettings
from rnntool.tasks.specs.settings import Settings, WordSettings
from rnntool.tasks.tag import TagTask
from rnntool.training.batching import (
    PADDED_BUDGET,
    Batches,
    Shuffled,
    Streamed,
    mix,
)
from rnntool.training.character_lm import context_config
from rnntool.training.job import Job
from rnntool.training.loop import Step, Trainer
from rnntool.training.network_design import balanced_weights, build, design
from rnntool.training.optimizers import Frozen
from rnntool.training.training_data import Sources
from rnntool.training.transfer import Transfer
from rnntool.training.write_model import (
    check_place,
    load_task,
    save_task,
    write_model,
)

TASK = "task"


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
    log: Log,
    warn: Log | None = None,
) -> dict[str, Any]:
    """Train `job` into the folder `out`, or where `job` is None resume the one begun there.

    `tell` takes what everybody should hear, `say` what was guessed and chosen (and all, where there is no
    `tell`). Returns the dev report. Raises `Interrupted` when `stopping` gave a signal; the state is then
    saved, and resuming leads to the same weights as an uninterrupted run.
    """
    warn = warn or log
    resume = out / model_folder.RESUME
    before = None  # what the content was, of a training that is resumed
    if job is None:
        job, before = Job.load(resume / model_folder.JOB)
        if job.task != task:
            raise UsageError(f"{out}: its training is of the task {job.task}; give rnntool train {job.task}")
    else:
        check_place(out, force=force)
        job = job.begin()
    torch.set_num_threads(thread_count(threads))
    settings, kind = job.settings, task_class(job.task)
    sources = Sources.read(job, log=log, watch=watch)
    log(str(sources))
    found = sources.fingerprints()
    if before is None:
        learner = sources.learn(kind, settings, watch=watch)
        _tell_learned(learner, sources.dev, warn)
    else:
        job.check(before, found)
        learner = load_task(kind, resume / TASK, settings)
    learner.tokenizer.threads = threads
    if isinstance(learner, LMTask):
        learner.check(sources.dev)  # before the training, and not when it is first evaluated

    network = build(design(learner, settings, vector_size=sources.vector_size,
                           context=context_config(sources.reader) if sources.reader else None), settings)
    carried = sources.place(network, learner, log=log, warn=warn)
    if carried and before is None:
        warn(str(carried))
    examples = _examples(learner, sources.train, watch=watch, warn=warn)
    _tell_long(examples, settings, warn)
    batches = _batches(learner, _mixture(learner, examples, sources.raw, job), settings)
    dev = sources.dev
    if isinstance(dev, Texts):
        dev = Texts.collect(dev, watch=watch)  # so that the file with all of them can go
    del sources
    trainer = Trainer(
        learner, network, batches, dev, settings, device=pick_device(device), folder=resume, watch=watch,
        stopping=stopping, frozen=_frozen(network, carried, settings),
    )
    _check_unfreezing(settings, trainer.epochs)
    if isinstance(settings, WordSettings) and settings.class_weights == "balanced":
        network.set_objective(
            network.objective.replace(label_weights=balanced_weights(learner, examples)))
    log(f"{count_parameters(network):,} parameters, {len(trainer.batches)} steps an epoch, "
        f"{str(trainer.precision).removeprefix('torch.')} on {trainer.device}")
    if before is None:  # from here on there is something to resume, and an older checkpoint is gone
        model_folder.remove(resume)
        with _whole_or_gone(resume):
            with model_folder.staged(resume) as stage:
                save_task(learner, stage / TASK)
                job.save(stage / model_folder.JOB, found)
            trainer.state.save(resume)
    else:
        trainer.resume()
    progress = trainer.run()
    return write_model(
        learner, network.cpu(), dev, out, history=progress.history, carried=carried, threads=threads)


@contextmanager
def _whole_or_gone(resume: Path) -> Iterator[None]:
    """Leave nothing of a folder to resume from where it can't be finished."""
    made = not resume.parent.exists()
    try:
        yield
    except BaseException:
        model_folder.remove(resume)
        if made:
            with suppress(OSError):
                resume.parent.rmdir()
        raise


def _frozen(network: Network, carried: Transfer | None, settings: Settings) -> Frozen | None:
    """What waits of that which was carried over, if anything does."""
    if carried is None or not (settings.freeze or settings.unfreeze_every):
        return None
    return Frozen(network, carried.masks, settings)


def _check_unfreezing(settings: Settings, epochs: int) -> None:
    """Refuse an unfreezing that the training would end before."""
    begins = settings.unfreeze_every * (settings.layers + 1)
    if begins >= epochs:
        raise UsageError(f"--unfreeze-every {settings.unfreeze_every}: the input "
                         f"is free after {begins} epochs, found {epochs}; give --epochs {begins + 1} or more")


def _examples(
    task: AnyTask, records: Sequence[Any], *, watch: Callable[[Stage], None], warn: Log
) -> Sequence[Any]:
    """What is learned from. The tokens of a large text are kept for trainings to come."""
    if not isinstance(task, LMTask):
        examples = (task.join([task.example(record, targets=True) for record in passage])
                    for passage in task.passages(records))
        return [part for example in examples for part in task.parts(example)]
    assert isinstance(records, Texts)
    if not records.large:
        return task.rows(records)
    return cached_rows(_watched(task.blocks(records), len(records), watch), task.dtype,
                       key=_key(task, records), warn=warn)


def _tell_long(examples: Sequence[Any], settings: Settings, warn: Log) -> None:
    """Tell where a step may want more memory than there is."""
    if isinstance(settings, LMSettings) and settings.context == "line" and isinstance(examples, Rows):
        longest = int(examples.lengths.max(initial=0))
        if longest > PADDED_BUDGET:
            warn(f"the longest record has {longest:,} tokens, of which a step learns at once; where there is "
                 "too little memory for that, give --context stream, which reads them a piece at a time")


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
        save_task(task, Path(folder) / TASK)
        for path in sorted((Path(folder) / TASK).iterdir()):
            digest.update(f"{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _tell_learned(task: AnyTask, dev: Sequence[Any], warn: Log) -> None:
    """Tell in which scheme spans are, which labels the development data alone has, and what has no effect."""
    if isinstance(task, TagTask):
        if task.settings.passage and not (task.passage or task.settings.features):
            warn("--passage: has no effect, as no training file has documents; see --from conll and conllu")
        for name, column in zip(split_columns(task.settings.column), task.columns, strict=True):
            place = f" in column {name}" if name else ""
            if column.strays:
                warn(f"the tags{place} are learned as plain ones and not as spans, because of "
                     f"{', '.join(map(repr, column.strays[:3]))}; correct that where it is a slip")
            if column.scheme:
                warn(f"the tags{place} are spans in {column.scheme.upper()}; they are learned as IOBES")
    unseen = task.unseen_labels(dev)
    if unseen:
        some = ", ".join(map(repr, islice(unseen, 3))) + (", …" if len(unseen) > 3 else "")
        warn(f"development data: {sum(unseen.values()):,} labels are none that training saw, and count as "
             f"mistakes: {some}")


def _mixture(
    task: AnyTask, examples: Sequence[Any], records: Sequence[Any], job: Job
) -> Sequence[Any]:
    """Examples with targets, and those of raw text, where there is any."""
    if "raw" not in job.places:
        return examples
    assert isinstance(task, ClassifyTask | TagTask)
    raw = task.unlabelled(records)
    if not raw:
        raise DataError(f"{job.places['raw']}: expected raw text, found no word; give --raw a file that has some")
    return mix(examples, raw)


def _batches(task: AnyTask, examples: Sequence[Any], settings: Settings) -> Batches:
    if isinstance(task, LMTask) and isinstance(settings, LMSettings) and settings.context == "stream":
        assert isinstance(examples, Rows)
        return Streamed(task.windows, examples.values, columns=settings.batch_size, time_steps=settings.bptt)
    copies = 2 if isinstance(settings, ClassifySettings) and settings.consistency else 1
    size = settings.batch_size
    if not isinstance(examples, Rows):  # as many examples as are made of that many records
        size = max(1, round(size * len(examples) / sum(map(task.records, examples))))
    return Shuffled(task, examples, batch_size=size, seed=settings.seed, copies=copies)
