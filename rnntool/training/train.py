"""A whole training, from files to a model folder: read data, learn vocabularies, train, export, report."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from rnntool import model_folder
from rnntool.data.corpus import Texts
from rnntool.data.progress import Log, Stage, duration
from rnntool.data.rows import Rows
from rnntool.data.threads import thread_count
from rnntool.errors import DataError, RnntoolError, UsageError, setting
from rnntool.inference.torch_engine import pick_device
from rnntool.models.config import NetworkConfig
from rnntool.models.network import Network
from rnntool.tasks.base import AnyTask, task_class
from rnntool.tasks.specs.settings import Settings
from rnntool.training.batching import PADDED_BUDGET, Batches, Shuffled, Streamed, example_lengths, mix
from rnntool.training.character_lm import context_config
from rnntool.training.checkpoint import Progress
from rnntool.training.job import Job
from rnntool.training.loop import Interrupted, Step, Trainer
from rnntool.training.optimizers import Frozen
from rnntool.training.overview import Forecast, describe_data, describe_network
from rnntool.training.samples import Samples
from rnntool.training.training_data import TrainingData
from rnntool.training.transfer import Transfer
from rnntool.training.write_model import check_contents, check_place, load_task, save_task, write_model

STOPPING_S = 5.0  # longest time to calibrate and evaluate the model of a stopped training
TASK = "task"  # folder beside the checkpoint


def train(
    job: Job | None,
    out: Path,
    *,
    task: str,
    device: str = "auto",
    threads: int = 0,
    force: bool = False,
    finish: bool = False,
    extension: Mapping[str, Any] | None = None,
    watch: Callable[[Step | Stage], None],
    stopping: Callable[[], int | None],
    log: Log,
    warn: Log | None = None,
) -> dict[str, Any]:
    """Train `job` and write the model to the folder `out`; without a job, resume the training in `out`.

    `watch` receives every step, `log` details such as guessed formats, and `warn` what every user should see,
    such as how much data there is; by default, `log` receives that as well. Returns the report on the
    development data. If `stopping` returns a signal, the state is saved, the best weights so far are written
    as a model beside it, and `Interrupted` is raised; a resumed training then ends with the same weights as
    an uninterrupted one. With `finish`, a resumed training ends at once. `extension` has new values for its
    settings `epochs` and `max_time`.
    """
    check_place(out)
    warn = warn or log
    with model_folder.locked(out, warn=warn):
        return _train(job, out, task=task, device=device, threads=threads, force=force, finish=finish,
                      extension=extension or {}, watch=watch, stopping=stopping, log=log, warn=warn)


def _train(
    job: Job | None, out: Path, *, task: str, device: str, threads: int, force: bool, finish: bool,
    extension: Mapping[str, Any], watch: Callable[[Step | Stage], None], stopping: Callable[[], int | None],
    log: Log, warn: Log,
) -> dict[str, Any]:
    """Train in a folder that is locked."""
    start = time.monotonic()
    resume = out / model_folder.RESUME
    fingerprints_before = None  # of the data, if a training is resumed
    if job is None:
        job, fingerprints_before = _load_job(out, task)
        job = dataclasses.replace(job, settings=job.settings.replace(**extension))
        if "-" in job.pipes():
            warn(f"reading the {job.pipes()['-']} from standard input again")
    else:
        check_contents(out, force=force)
        job = job.located()
    torch.set_num_threads(thread_count(threads))
    settings, kind = job.settings, task_class(job.task)
    data = TrainingData.read(job, log=log, warn=warn, watch=watch)
    fingerprints = data.fingerprints()
    if fingerprints_before is None:
        learned = data.learn(kind, settings, watch=watch)
        doubts = kind.doubts(data.train, settings)
        for notice in (*doubts, *learned.notices(), *_unseen_labels(learned, data.dev)):
            warn(notice)
    else:
        job.check_unchanged(fingerprints_before, fingerprints)
        learned = load_task(kind, resume / TASK, settings)
    learned.tokenizer.threads = threads
    learned.check(data.dev)  # now rather than at the first evaluation
    config = learned.network_config(
        vector_size=data.vector_size,
        context=context_config(data.character_lm) if data.character_lm else None)
    examples = learned.training_examples(data.train, watch=watch, log=warn)
    _warn_of_long_records(learned, examples, warn)
    baseline = learned.baseline(examples, data.dev) if data.dev else None
    network = build_network(config, learned, examples)
    transfer = data.initialize(network, learned, log=log, warn=warn)
    if transfer and fingerprints_before is None:
        warn(str(transfer))
    batches = _batches(learned, _with_raw(learned, examples, data.raw, job))
    data_line, dev = describe_data(data, job), data.dev
    if isinstance(dev, Texts):
        dev = Texts.collect(dev, watch=watch)  # a copy, so that the file with all texts can be deleted
    del data

    trainer = Trainer(
        learned, network, batches, dev, settings, device=pick_device(device), folder=resume, watch=watch,
        stopping=stopping, frozen=_frozen(network, transfer, settings))
    _check_unfreezing(settings, trainer.epochs)
    for line in (data_line, learned.learned(), describe_network(trainer)):
        warn(line)
    trainer.watch = Forecast(trainer, watch, warn)
    if every_s := getattr(settings, "sample_every", None):
        trainer.watch = Samples(trainer, trainer.watch, warn, every_s=every_s)
    if fingerprints_before is None:
        trainer.measure_evaluations()
        trainer.state.progress.preparation_s = time.monotonic() - start
        trainer.state.progress.replaces_model = (out / model_folder.CONFIG).exists()
        _write_first_checkpoint(trainer, learned, job, fingerprints)
    else:
        trainer.resume()
        if extension:
            _check_extension(extension, trainer.state.progress)
            job.save(resume / model_folder.JOB, fingerprints)

    def write(dev: Sequence[Any], *, keep_checkpoint: bool = False) -> dict[str, Any]:
        return write_model(learned, network.cpu(), dev, out, history=trainer.state.progress.history,
                           training_data=job.published(), baseline=baseline, transfer=transfer,
                           threads=threads, keep_checkpoint=keep_checkpoint, watch=watch)

    try:
        trainer.finish() if finish else trainer.run()
    except Interrupted as stop:
        stop.has_model = _write_stopped_model(trainer, write, warn)
        raise
    records, share = trainer.report_records()
    if share < 1:
        warn(f"to end in time, the report is about {share:.1%} of the development data; `rnntool evaluate` "
             "takes all of it")
    return write(records)


def _write_stopped_model(trainer: Trainer, write: Callable[..., object], warn: Log) -> bool:
    """Write the model of a stopped training beside its checkpoint; return whether that was possible."""
    progress = trainer.state.progress
    if progress.replaces_model or not progress.step:
        return False
    try:
        trainer.use_best_weights()
        write(trainer.records_within(STOPPING_S)[0], keep_checkpoint=True)
    except RnntoolError as error:
        warn(f"the model so far can't be written: {error}")
        return False
    return True


def _check_extension(extension: Mapping[str, Any], progress: Progress) -> None:
    """Raise `UsageError` if a resumed training has no time or epochs left."""
    passed = {"max_time": (progress.elapsed_s, duration(progress.elapsed_s)),
              "epochs": (progress.epoch, str(progress.epoch))}
    for name, total in extension.items():
        done, text = passed[name]
        if total <= done:
            raise UsageError(
                setting=name, expected=f"more than the {text} that the training has already had",
                found=duration(total) if name == "max_time" else total,
                advice=f"{setting('finish')} ends the training")


def _load_job(out: Path, task: str) -> tuple[Job, dict[str, str]]:
    """Load the job of the training in `out`, of this task, and the fingerprints of its data."""
    job, fingerprints = Job.load(out / model_folder.RESUME / model_folder.JOB)
    if job.task != task:
        raise UsageError(f"its training is of the task {job.task}", place=out,
                         advice=f"continue it with `rnntool train {job.task}`")
    return job, fingerprints


def build_network(config: NetworkConfig, task: AnyTask, examples: Sequence[Any]) -> Network:
    """Return a new network, with initial weights that depend on the seed, and its training objective."""
    torch.manual_seed(task.settings.seed)
    network = Network(config)
    network.set_objective(task.objective(examples))
    return network


def _write_first_checkpoint(
    trainer: Trainer, learned: AnyTask, job: Job, fingerprints: Mapping[str, str]
) -> None:
    """Make a training resumable, in place of an older one; if that fails, leave nothing behind."""
    resume = trainer.folder
    with model_folder.staged(resume.parent, resume.name) as stage:
        save_task(learned, stage / TASK)
        job.save(stage / model_folder.JOB, fingerprints)
        trainer.state.save(stage, final_name=resume)


def _unseen_labels(task: AnyTask, dev: Sequence[Any]) -> Iterator[str]:
    """Describe labels that occur only in the development data."""
    unseen = task.unseen_labels(dev)
    if unseen:
        names = ", ".join(map(repr, islice(unseen, 3))) + (", …" if len(unseen) > 3 else "")
        yield (f"development data: {sum(unseen.values()):,} labels are not in the training data and count as "
               f"mistakes: {names}")


def _warn_of_long_records(task: AnyTask, examples: Sequence[Any], warn: Log) -> None:
    """Warn if a record is so long that a training step may run out of memory."""
    if task.long_record_advice and not task.carries_state:
        longest = int(example_lengths(task, examples).max(initial=0))
        if longest > PADDED_BUDGET:
            warn(f"the longest record has {longest:,} tokens, and a training step needs memory for all of "
                 f"them; if there is too little, {task.long_record_advice}")


def _with_raw(task: AnyTask, examples: Sequence[Any], records: Sequence[Any], job: Job) -> Sequence[Any]:
    """Mix the examples with examples of raw text, if the job has any."""
    if "raw" not in job.places:
        return examples
    raw = task.unlabeled_examples(records)
    if not raw:
        raise DataError(place=job.places["raw"], expected="raw text", found="no words",
                        advice="give a file that has some")
    return mix(examples, raw)


def _batches(task: AnyTask, examples: Sequence[Any]) -> Batches:
    settings = task.settings
    if task.carries_state:
        assert isinstance(examples, Rows)
        return Streamed(task.windows, examples.values, columns=settings.batch_size, time_steps=settings.bptt)
    size = settings.batch_size
    if not isinstance(examples, Rows):  # the setting counts records, and an example may have several
        size = max(1, round(size * len(examples) / sum(map(task.record_count, examples))))
    # the consistency loss compares two predictions for each text
    copies = 2 if getattr(settings, "consistency", 0) else 1
    return Shuffled(task, examples, batch_size=size, seed=settings.seed, copies=copies)


def _frozen(network: Network, transfer: Transfer | None, settings: Settings) -> Frozen | None:
    """Return which transferred weights are frozen; None if there are none."""
    if transfer is None or not (settings.freeze or settings.unfreeze_every):
        return None
    return Frozen(network, transfer.masks, settings)


def _check_unfreezing(settings: Settings, epochs: int) -> None:
    """Raise `UsageError` if gradual unfreezing would not reach the input before the training ends."""
    needed = settings.unfreeze_every * (settings.layers + 1)
    if needed >= epochs:
        raise UsageError(
            f"{setting('unfreeze_every', settings.unfreeze_every)} frees the input after {needed} epochs, "
            f"but there are only {epochs}", advice=f"give {setting('epochs', needed + 1)} or more")
