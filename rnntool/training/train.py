"""A whole training, from files to a model folder: read data, learn vocabularies, train, export, report."""

from __future__ import annotations

import copy
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
from rnntool.models.cells.cell import Cell
from rnntool.models.config import NetworkConfig
from rnntool.models.network import Network
from rnntool.tasks.base import AnyTask, task_class
from rnntool.tasks.specs.settings import Settings
from rnntool.tasks.specs.tag import TRAINED
from rnntool.training.batching import PADDED_BUDGET, Batches, Shuffled, Streamed, example_lengths, mix
from rnntool.training.character_lm import context_config
from rnntool.training.checkpoint import Progress
from rnntool.training.cross_validation import cross_validate, trained_folds
from rnntool.training.job import Job
from rnntool.training.loop import Interrupted, Step, Trainer
from rnntool.training.network_size import choose_size
from rnntool.training.optimizers import Frozen
from rnntool.training.overview import Forecast, describe_data, describe_network
from rnntool.training.samples import Samples
from rnntool.training.segmenter import TIME_SHARE, train_segmenter
from rnntool.training.session import Session
from rnntool.training.training_data import TrainingData
from rnntool.training.transfer import Transfer
from rnntool.training.write_folder import check_contents, check_place, write_backoff_model
from rnntool.training.write_model import load_task, save_task, write_model

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
    session = Session(device=device, threads=threads, watch=watch, stopping=stopping, log=log,
                      warn=warn or log)
    with model_folder.locked(out, warn=session.warn):
        return _train(job, out, session, task=task, force=force, finish=finish, extension=extension or {})


def _train(
    job: Job | None, out: Path, session: Session, *, task: str, force: bool, finish: bool,
    extension: Mapping[str, Any],
) -> dict[str, Any]:
    """Train in a folder that is locked."""
    start, resume = time.monotonic(), job is None
    fingerprints_before: Mapping[str, str] = {}
    if job is None:
        job, fingerprints_before = _load_job(out, task)
        _check_resumable(job, out, finish=finish, extension=extension)
        job = dataclasses.replace(job, settings=job.settings.replace(**extension))
        if "-" in job.pipes():
            session.warn(f"reading the {job.pipes()['-']} from standard input again")
    else:
        check_contents(out, force=force)
        job = job.located()
    torch.set_num_threads(thread_count(session.threads))
    data = TrainingData.read(job, log=session.log, warn=session.warn, watch=session.watch)
    fingerprints = data.fingerprints()
    if resume:
        job.check_unchanged(fingerprints_before, fingerprints)
    more: dict[str, Any] = {}

    def fit_part(job: Job, data: TrainingData, out: Path, session: Session, start: float) -> None:
        fit(job, data, out, session, fingerprints, start=start, resume=model_folder.has_checkpoint(out),
            stopped_model=False)

    segmenter = data.segmenter.folder if data.segmenter else None
    if getattr(job.settings, "segmenter", None) == TRAINED:
        segmenter = train_segmenter(job, data, out, session, fit=fit_part, fingerprints=fingerprints,
                                    resume=resume, start=start)
        start -= TIME_SHARE * (job.settings.time_limit or 0.0) if resume else 0.0
    if job.settings.folds:
        limit_s = job.settings.time_limit or 0.0
        start -= limit_s * trained_folds(out) if resume else 0.0
        more["cross_validation"] = cross_validate(
            job, data, out, session, fit=fit_part, fingerprints=fingerprints, start=start,
            resume=resume and model_folder.has_folds(out))
        start += limit_s * job.settings.folds
    return fit(job, data, out, session, fingerprints, start=start, finish=finish, extension=extension,
               resume=resume and model_folder.has_checkpoint(out), segmenter=segmenter, more=more)


def fit(
    job: Job, data: TrainingData, out: Path, session: Session, fingerprints: Mapping[str, str], *,
    start: float, resume: bool = False, finish: bool = False, extension: Mapping[str, Any] | None = None,
    segmenter: Path | None = None, more: Mapping[str, Any] | None = None, stopped_model: bool = True,
) -> dict[str, Any]:
    """Train a network on the data of a job and write the model; return its report, with `more` in it.

    The model in the folder `segmenter` becomes part of it.

    The training began at `start`, and reading the data is part of its time. See `train` for `finish` and
    `extension`. With `stopped_model`, a stopped training is written as a model as well.
    """
    settings, kind, folder = job.settings, task_class(job.task), out / model_folder.RESUME
    log, warn, watch, threads = session.log, session.warn, session.watch, session.threads
    if resume:
        learned = load_task(kind, folder / TASK, settings)
    else:
        learned = data.learn(kind, settings, watch=watch)
        doubts = kind.doubts(data.train, settings)
        for notice in (*doubts, *learned.notices(), *_unseen_labels(learned, data.dev)):
            warn(notice)
    learned.tokenizer.threads = threads
    learned.check(data.dev)  # now rather than at the first evaluation
    examples = learned.training_examples(data.train, watch=watch, log=warn)
    if ngrams := learned.count_ngrams(examples, watch=watch):
        for line in (describe_data(data, job), learned.learned(),
                     f"{ngrams.order}-gram, {ngrams.parameters:,} parameters"):
            warn(line)
        return write_backoff_model(
            learned, ngrams, data.dev, out, training_data=job.published(), more=more, watch=watch,
            baselines={"baseline": learned.baseline(examples, data.dev) if data.dev else None})
    _warn_of_long_records(learned, examples, warn)
    invented = learned.invented_examples(data.train)
    batches = _batches(learned, _with_raw(
        learned, mix(examples, invented) if invented else examples, data.raw, job))
    if getattr(settings, "auto_size", False) and not resume:
        settings = learned.settings = _choose_size(learned, batches, examples, session, start)
        job = dataclasses.replace(job, settings=settings)
    config = learned.network_config(
        vector_size=data.vector_size,
        context=context_config(data.character_lm) if data.character_lm else None)
    baseline = learned.baseline(examples, data.dev) if data.dev else None
    ngram = learned.ngram_baseline(examples, data.dev) if data.dev else None
    network = build_network(config, learned, examples)
    transfers = data.initialize(network, learned, log=log, warn=warn)
    for transfer in () if resume else transfers.values():
        warn(str(transfer))
    data_line, dev = describe_data(data, job), data.dev
    if isinstance(dev, Texts):
        dev = Texts.collect(dev, watch=watch)  # a copy, so that the file with all texts can be deleted
    del data

    trainer = Trainer(
        learned, network, batches, dev, settings, device=pick_device(session.device), folder=folder,
        watch=watch, stopping=session.stopping, frozen=_frozen(network, transfers.get("init"), settings))
    _check_unfreezing(settings, trainer.epochs)
    for line in (data_line, learned.learned(), describe_network(trainer)):
        warn(line)
    trainer.watch = Forecast(trainer, watch, warn)
    if every_s := getattr(settings, "sample_every", None):
        trainer.watch = Samples(trainer, trainer.watch, warn, every_s=every_s)
    if not resume:
        trainer.measure_evaluations()
        trainer.state.progress.preparation_s = max(0.0, time.monotonic() - start)
        trainer.state.progress.replaces_model = (out / model_folder.CONFIG).exists()
        _write_first_checkpoint(trainer, learned, job, fingerprints)
    else:
        trainer.resume()
        if extension:
            _check_extension(extension, trainer.state.progress)
            job.save(folder / model_folder.JOB, fingerprints)

    held_out = [] if job.dev else dev  # from the training data

    def write(dev: Sequence[Any], *, keep_checkpoint: bool = False) -> dict[str, Any]:
        return write_model(learned, network.cpu(), dev, out, history=trainer.state.progress.history,
                           training_data=job.published(), baseline=baseline, ngram=ngram, transfers=transfers,
                           threads=threads, segmenter=segmenter, more=more,
                           keep_checkpoint=keep_checkpoint, watch=watch,
                           refit=lambda: learned.refit(examples, held_out) if held_out else None)

    try:
        trainer.finish() if finish else trainer.run()
    except Interrupted as stop:
        stop.has_model = stopped_model and _write_stopped_model(trainer, write, warn)
        raise
    records, share = trainer.report_records()
    if share < 1:
        warn(f"to end in time, the report is about {share:.1%} of the development data; `rnntool evaluate` "
             "takes all of it")
    return write(records)


def _choose_size(
    task: AnyTask, batches: Batches, examples: Sequence[Any], session: Session, start: float
) -> Settings:
    """Return the settings with sizes for the time that is left of a training that began at `start`."""
    def build(settings: Settings) -> Network:
        sized = copy.copy(task)
        sized.settings = settings
        return build_network(sized.network_config(), sized, examples)

    lengths = example_lengths(task, examples)
    assert task.settings.time_limit is not None
    return choose_size(
        task, batches, int(lengths.sum()), left_s=task.settings.time_limit - (time.monotonic() - start),
        device=pick_device(session.device), build=build, watch=session.watch, say=session.warn)


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


def _check_resumable(job: Job, out: Path, *, finish: bool, extension: Mapping[str, Any]) -> None:
    """Raise `UsageError` if a segmenter or a cross-validation was to be ended early or extended."""
    continues = f"leave it out to continue with {setting('resume')}"
    if not model_folder.has_checkpoint(out):
        unfinished = "folds are not all" if model_folder.has_folds(out) else "segmenter is not"
        if finish:
            raise UsageError(f"its {unfinished} trained, so there is no model yet", setting="finish",
                             advice=continues)
        if extension and not job.settings.folds:
            raise UsageError("can't be changed before the segmenter is trained",
                             setting=next(iter(extension)), advice=continues)
    if extension and job.settings.folds:
        raise UsageError(f"can't be changed after some of the {setting('folds')} are trained",
                         setting=next(iter(extension)), advice=f"start again with {setting('force')}")


def _load_job(out: Path, task: str) -> tuple[Job, dict[str, str]]:
    """Load the job of the training in `out`, of this task, and the fingerprints of its data."""
    job, fingerprints = Job.load(model_folder.job_file(out))
    if job.task != task:
        raise UsageError(f"its training is of the task {job.task}", place=out,
                         advice=f"continue it with `rnntool train {job.task}`")
    return job, fingerprints


def build_network(config: NetworkConfig, task: AnyTask, examples: Sequence[Any]) -> Network:
    """Return a new network, with initial weights that depend on the seed, and its training objective."""
    torch.manual_seed(task.settings.seed)
    network = Network(config)
    if task.settings.initial_weights == "uniform":
        for module in network.modules():
            if isinstance(module, Cell):
                module.initialize_uniformly()
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
        count = sum(unseen.values())
        what = ("1 label is not in the training data and counts as a mistake" if count == 1 else
                f"{count:,} labels are not in the training data and count as mistakes")
        yield f"development data: {what}: {names}"


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
