"""A study: trainings with different settings, chosen by Optuna from those before, to find the best ones.

The study is a journal in the folder `TUNE` of the model folder. The best model so far is in the model folder.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, Trial, TrialState

from rnntool import model_folder
from rnntool.data.formats import record_lines
from rnntool.data.progress import Stage, duration
from rnntool.data.streams import open_output
from rnntool.data.threads import thread_count
from rnntool.errors import ModelError, RnntoolError, UsageError, setting
from rnntool.inference import model as models
from rnntool.model_folder import TUNE
from rnntool.models.config import WITHOUT_NETWORK
from rnntool.tasks import TASKS
from rnntool.tasks.base import task_class
from rnntool.tasks.specs.resolve import effective
from rnntool.tasks.specs.search import Choices, Space, read_space
from rnntool.training.advice import evaluation_scores, main_figure, shown_figure
from rnntool.training.job import Job
from rnntool.training.loop import Interrupted, Step
from rnntool.training.model_card import model_card, toml_value
from rnntool.training.session import Session
from rnntool.training.train import fit
from rnntool.training.training_data import TrainingData
from rnntool.training.write_folder import check_contents, check_place

STUDY = "tune"  # its name in the journal
JOURNAL, SETTINGS, TABLE = "study.jsonl", "settings.toml", "trials.tsv"  # in TUNE
TICKS = 10  # of a training, at which trials are compared
STARTUP_TRIALS = 4  # which are not stopped early
WARMUP_TICKS = 2  # in which no trial is stopped
RANDOM_TRIALS = 6  # before the sampler learns from results
MOST_FAILURES = 3  # before the first success
SMALLEST_SHARE = 0.3  # of the time of a usual trial, for which another one is begun
STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "stopped early", TrialState.FAIL: "failed"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What a study tries. `search` has the values of each setting as text; see `read_space`."""

    search: Mapping[str, str]
    trials: int
    max_time: float | None


class _StoppedEarly(Exception):
    """A trial is worse than most others were at the same point."""


def tune(
    job: Job | None, plan: Plan | None, out: Path, session: Session, *, task: str, force: bool = False,
    extension: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Run a study and write the best model to `out`; without a job, continue the study there.

    The development data judges the trials. `extension` has new values for `trials` and `max_time`, which
    count what was done before. Returns a report of all trials.
    """
    if job and job.settings.encoder in WITHOUT_NETWORK:
        raise UsageError(setting="encoder", expected="a network, which has settings to search",
                         found=job.settings.encoder, advice=f"leave {setting('encoder')} out")
    check_place(out)
    with model_folder.locked(out, warn=session.warn):
        before: Mapping[str, str] = {}
        if job is None:
            job, before = load_job(out, task)
        else:
            _check_folder(out, force=force)
            job = job.located()
        torch.set_num_threads(thread_count(session.threads))
        data = TrainingData.read(job, log=session.log, warn=session.warn, watch=session.watch)
        if not data.dev:
            raise UsageError(
                "the trials are judged by development data, but there is none", place=job.train[0],
                advice=f"give {setting('dev')}, or a {setting('dev_fraction')} above 0 and several records")
        fingerprints = data.fingerprints()
        if before:
            job.check_unchanged(before, fingerprints)
        study = _Study(job, plan, data, out, session, fingerprints, extension or {})
        study.run()
        return study.report()


def _check_folder(out: Path, *, force: bool) -> None:
    """Raise `UsageError` if a new study would replace anything without `force`."""
    if (out / TUNE / model_folder.JOB).exists() and not force:
        raise UsageError("exists already", place=out, advice=f"{setting('resume')} continues the study, and "
                                                             f"{setting('force')} replaces it")
    model_folder.remove(out / TUNE)
    check_contents(out, force=force)


def load_job(out: Path, task: str) -> tuple[Job, dict[str, str]]:
    """Load the job of the study in `out`, of this task, and the fingerprints of its data."""
    path = out / TUNE / model_folder.JOB
    if not path.exists():
        raise ModelError("there is no study to resume", place=out,
                         advice=f"leave {setting('resume')} out to start one")
    job, fingerprints = Job.read(path)
    if job.task != task:
        raise UsageError(f"its study is of the task {job.task}", place=out,
                         advice=f"continue it with `rnntool tune {job.task}`")
    return job, fingerprints


class _Study:
    """A study, in a folder that is locked."""

    def __init__(
        self, job: Job, plan: Plan | None, data: TrainingData, out: Path, session: Session,
        fingerprints: Mapping[str, str], extension: Mapping[str, Any],
    ) -> None:
        self.job, self.data, self.out, self.session = job, data, out, session
        self.folder = out / TUNE
        self.fingerprints = fingerprints
        self.spec = TASKS[job.task]
        if plan is not None:
            with model_folder.staged(out, TUNE) as stage:
                job.save(stage / model_folder.JOB, fingerprints)
                study = self._open(_storage(stage / JOURNAL))
                study.set_user_attr("plan", dataclasses.asdict(plan))
        self.storage = _storage(self.folder / JOURNAL)
        self.study = self._open(self.storage)
        self.plan = dataclasses.replace(Plan(**self.study.user_attrs["plan"]), **extension)
        if extension:
            self.study.set_user_attr("plan", dataclasses.asdict(self.plan))
        self.space: Space = read_space(self.plan.search, job.settings)
        if not self.study.get_trials(deepcopy=False):  # the first trial has the settings without a search
            usual = {name: getattr(job.settings, name) for name in self.space}
            self.study.enqueue_trial({name: value for name, value in usual.items()
                                      if _contains(self.space[name], value)})

    def _open(self, storage: JournalStorage) -> optuna.Study:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", module="optuna")
        return optuna.create_study(
            storage=storage, study_name=STUDY, load_if_exists=True,
            direction="maximize" if self.spec.higher_is_better else "minimize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=WARMUP_TICKS))

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states)

    def run(self) -> None:
        """Run trials until their number or the time is reached."""
        self._settle()
        while (number := len(self._trials(*STATES))) < self.plan.trials:
            running = self._trials(TrialState.RUNNING)  # it was interrupted
            seconds = self._seconds_left()
            if seconds is not None and seconds <= 0:
                break
            if stopped := self.session.stopping():
                raise Interrupted(stopped, f"stopped before trial {number + 1} of {self.plan.trials}; saved")
            # with a seed for each trial, an interrupted study goes on like any other
            self.study.sampler = optuna.samplers.TPESampler(
                seed=self.job.settings.seed + 1000 * number, n_startup_trials=RANDOM_TRIALS)
            self._try(self._trial(running[0].number) if running else self.study.ask(), seconds)
        if not self._trials(TrialState.COMPLETE):
            raise RnntoolError("no trial was completed", place=self.out,
                               advice=f"give more time with {setting('max_time')} and {setting('resume')}")

    def _trial(self, number: int) -> Trial:
        """Return a trial that was begun by an earlier process."""
        study = self.storage.get_study_id_from_name(STUDY)
        return Trial(self.study, self.storage.get_trial_id_from_study_id_trial_number(study, number))

    def _seconds_left(self) -> float | None:
        """Return the time that a trial may have: None if it needs no limit, 0 if too little is left."""
        if self.plan.max_time is None:
            return None
        spent = [trial.user_attrs.get("seconds", 0.0) for trial in self._trials(*STATES)]
        complete = [trial.user_attrs.get("seconds", 0.0) for trial in self._trials(TrialState.COMPLETE)]
        left = self.plan.max_time - sum(spent)
        if complete and left > 2 * max(complete):
            return None
        return left if left > (SMALLEST_SHARE * max(complete) if complete else 0) else 0.0

    def _try(self, trial: Trial, seconds: float | None) -> None:
        """Train with the settings of a trial, and tell the study the result."""
        start, place = time.monotonic(), self.folder / f"trial-{trial.number}"
        name = f"trial {trial.number + 1} of {self.plan.trials}"
        chosen = {setting: _suggest(trial, setting, values) for setting, values in self.space.items()}
        watch = _Watch(self, trial)

        def log(message: str) -> None:
            self.session.log(f"{name}: {message}")

        value, state, result = None, TrialState.COMPLETE, ""
        try:
            settings = self.job.settings.replace(**chosen, max_time=seconds and max(1.0, seconds))
            with model_folder.locked(place, warn=log):
                done = (place / model_folder.CONFIG).exists() and not model_folder.has_checkpoint(place)
                if not done:
                    fit(dataclasses.replace(self.job, settings=settings), self.data, place,
                        dataclasses.replace(self.session, watch=watch, log=log, warn=log), self.fingerprints,
                        start=start, resume=model_folder.has_checkpoint(place), stopped_model=False)
            value, figure, shown = _best_evaluation(place, higher=self.spec.higher_is_better)
            trial.set_user_attr("figure", {"name": figure, "value": shown})
            result = f"{figure} {shown_figure(shown)}"
        except _StoppedEarly as stop:
            state, result = TrialState.PRUNED, str(stop)
        except Interrupted as stop:
            raise Interrupted(stop.exit_code - 128, f"{name}: {stop}") from None
        except RnntoolError as error:
            state, result = TrialState.FAIL, f"failed ({error})"
            complete, failed = (len(self._trials(each)) for each in (TrialState.COMPLETE, state))
            if not complete and failed + 1 >= MOST_FAILURES:
                raise
        trial.set_user_attr("seconds", round(time.monotonic() - start, 3))
        self.study.tell(trial, value, state)
        self._settle()
        best = self._trials(TrialState.COMPLETE) and self.study.best_trial
        compared = f"; best {shown_figure(_figure(best))} (trial {best.number + 1})" if best else ""
        elapsed = duration(time.monotonic() - start)
        self.session.warn(f"{name}: {result}{compared}; {elapsed}: {_listed(chosen)}")

    def _settle(self) -> None:
        """Install the model of the best trial if it is new, and remove what finished trials have left."""
        complete = self._trials(TrialState.COMPLETE)
        best = self.study.best_trial if complete else None
        if best and (place := self.folder / f"trial-{best.number}").exists():
            self._install(place)
            self._write_settings(best)
        self._write_table()
        running = {f"trial-{trial.number}" for trial in self._trials(TrialState.RUNNING)}
        for place in self.folder.glob("trial-*"):
            if place.name not in running:
                model_folder.remove(place)

    def _install(self, place: Path) -> None:
        """Copy the model of a trial to the model folder."""
        source = model_folder.complete(place)
        config = model_folder.read_config(source)
        with model_folder.new_model(self.out) as stage:
            for path in source.iterdir():
                if path.is_file() and path.name != model_folder.LOCK:
                    shutil.copyfile(path, stage / path.name)
            labels = task_class(config.task).label_names(stage, config.settings)
            card = model_card(self.out.resolve().name, config, labels=labels)
            (stage / model_folder.CARD).write_text(card, "utf-8")

    def _write_settings(self, best: FrozenTrial) -> None:
        """Write the settings of the best trial that differ from the defaults, as `train` reads them."""
        settings = self._settings_of(best)
        with open_output(self.folder / SETTINGS) as out:
            out.writelines(f"{name} = {toml_value(value)}\n" for name, value in settings.items())

    def _settings_of(self, trial: FrozenTrial) -> dict[str, Any]:
        settings = self.job.settings.replace(**trial.params)
        defaults = type(settings)().to_json()
        other_defaults = self.spec.recipe(settings, ())  # which `train` would take in their place
        changed = {name: value for name, value in settings.to_json().items()
                   if value != defaults[name] or name in other_defaults}
        return {name: changed[name] for name in effective(settings, changed, dev=self.job.dev)}

    def _write_table(self) -> None:
        if rows := self.rows():
            with open_output(self.folder / TABLE) as out:
                out.writelines(record_lines([(row, "") for row in rows], "tsv"))

    def rows(self) -> list[dict[str, Any]]:
        """Return the finished trials with their settings, the best ones first."""
        trials = self._trials(*STATES)
        sign = -1 if self.spec.higher_is_better else 1
        order = {state: i for i, state in enumerate(STATES)}
        trials.sort(key=lambda trial: (order[trial.state], sign * (trial.value or 0.0), trial.number))
        return [{"trial": trial.number + 1, "state": STATES[trial.state], "value": _figure(trial),
                 "seconds": trial.user_attrs.get("seconds"), **trial.params} for trial in trials]

    def report(self) -> dict[str, Any]:
        """Return the best trial and all others as JSON types."""
        best = self.study.best_trial
        return {"task": self.job.task, "figure": best.user_attrs["figure"]["name"], "best": {
            "trial": best.number + 1, "value": _figure(best), "settings": self._settings_of(best)},
            "trials": self.rows()}


class _Watch:
    """Passes the progress of a trial on, and stops the trial if it is worse than most others were."""

    def __init__(self, study: _Study, trial: Trial) -> None:
        self._study = study
        self._trial = trial
        frozen = study.study.get_trials(deepcopy=False)[trial.number]
        self._tick = max(frozen.intermediate_values, default=0)

    def __call__(self, step: Step | Stage) -> None:
        if isinstance(step, Stage):
            self._study.session.watch(step)
            return
        self._study.session.watch(dataclasses.replace(step, evaluation=None))  # a trial has one line
        best, tick = step.progress.best, int(TICKS * step.share)
        if step.evaluation is None or best is None or not self._tick < tick < TICKS:
            return
        for each in range(self._tick + 1, tick + 1):
            self._trial.report(best, each)
        self._tick = tick
        if self._trial.should_prune():
            figure, value = main_figure(step.evaluation)
            raise _StoppedEarly(f"stopped early, {figure} {shown_figure(value)} after {step.share:.0%}")


def _suggest(trial: Trial, name: str, values: Any) -> Any:
    """Return the value of a setting in a trial."""
    if isinstance(values, Choices):
        return trial.suggest_categorical(name, values.values)
    if values.whole:
        return trial.suggest_int(name, int(values.low), int(values.high), log=values.log)
    return trial.suggest_float(name, values.low, values.high, log=values.log)


def _contains(values: Any, value: Any) -> bool:
    if isinstance(values, Choices):
        return value in values.values
    return value is not None and bool(values.low <= value <= values.high)


def _best_evaluation(folder: Path, *, higher: bool) -> tuple[float, str, float | None]:
    """Return the number that chose the weights of a model, and the name and value of its main figure.

    `RnntoolError` if no evaluation gave a finite number.
    """
    task = models.read(folder).task
    lines = (folder / model_folder.METRICS).read_text("utf-8").split("\n")
    entries = [json.loads(line) for line in lines if line]
    scores = [(task.selection_score(evaluation_scores(entry)), *main_figure(entry)) for entry in entries
              if main_figure(entry)[1] is not None]
    if not scores:
        raise RnntoolError("no evaluation gave a finite number")
    return (max if higher else min)(scores, key=lambda score: score[0])


def _figure(trial: FrozenTrial) -> float | None:
    """Return the main figure of a trial, which other figures may have helped to choose."""
    figure: float | None = trial.user_attrs.get("figure", {}).get("value")
    return figure


def _listed(settings: Mapping[str, Any]) -> str:
    """List settings with their values in one line."""
    return ", ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
                     for name, value in settings.items())


def _storage(journal: Path) -> JournalStorage:
    """Open the journal of a study, after removing what a killed process left there: a lock, a part of a line.

    The model folder has a lock of its own.
    """
    journal.with_name(f"{JOURNAL}.lock").unlink(missing_ok=True)
    if journal.exists() and not (content := journal.read_bytes()).endswith(b"\n"):
        journal.write_bytes(content[: content.rfind(b"\n") + 1])
    return JournalStorage(JournalFileBackend(str(journal), JournalFileOpenLock(str(journal))))
