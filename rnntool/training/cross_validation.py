"""K-fold cross-validation: train on all folds but one and evaluate on that one, for each in turn.

The model of each fold is kept until the whole training has ended, so a fold is never trained twice.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rnntool import model_folder
from rnntool.data.formats import format_named_by, merged, record_lines
from rnntool.data.progress import duration
from rnntool.data.records import fields_of
from rnntool.data.streams import open_output
from rnntool.errors import DataError, RnntoolError, setting
from rnntool.evaluation.significance import Counts
from rnntool.inference import model as models
from rnntool.tasks.base import Criterion, task_class
from rnntool.training.advice import shown_figure
from rnntool.training.job import Job
from rnntool.training.loop import Interrupted
from rnntool.training.part import Fit, is_trained, train_part
from rnntool.training.session import Session
from rnntool.training.training_data import TrainingData
from rnntool.training.watched_engine import WatchedEngine


def cross_validate(
    job: Job, data: TrainingData, out: Path, session: Session, *, fit: Fit, fingerprints: Mapping[str, str],
    resume: bool, start: float,
) -> dict[str, Any]:
    """Train and evaluate a model for each fold; return the figures, and write the answers if the job says so.

    With `resume`, folds that were trained before are only evaluated. `start` is when the first fold's part of
    the time began. After a signal, raises `Interrupted`; what was trained stays in the folder `FOLDS` of
    `out`.
    """
    settings, kind = job.settings, task_class(job.task)
    count = settings.folds or 0
    folds = data.folds(kind, settings, count)
    if not resume:
        with model_folder.staged(out, model_folder.FOLDS) as stage:
            job.save(stage / model_folder.JOB, fingerprints)
        model_folder.remove(out / model_folder.RESUME)  # of an older training
    changes: dict[str, Any] = {"folds": None, "max_time": settings.time_limit}
    if hasattr(settings, "segmenter"):  # it is not part of the models of folds
        changes["segmenter"] = None
    of_fold = dataclasses.replace(job, settings=settings.replace(**changes))
    session.warn(f"cross-validation: {len(data.records):,} training records in {count} folds; each fold is "
                 "predicted by a model of the others, then the model is trained on all")
    criterion: Criterion | None = None
    counts: list[Counts] = []  # by fold
    figures: list[float] = []
    answers: dict[int, dict[str, Any]] = {}
    for number, fold in enumerate(folds, 1):
        name = f"fold {number} of {count}"
        begin, place = time.monotonic(), out / model_folder.FOLDS / str(number)
        scheduled = start + (number - 1) * (settings.time_limit or 0.0)
        try:
            train_part(of_fold, fold.data, place, session, fit, scheduled, name=name)
        except RnntoolError as error:
            if number == 1 and not isinstance(error, Interrupted):  # there is nothing worth resuming
                model_folder.remove(out / model_folder.FOLDS)
            raise
        model = models.load(place, device=session.device, threads=session.threads, parallel=False)
        if criterion not in (None, model.task.criterion):
            raise DataError(
                f"fold {number} is judged by {model.task.criterion.key}, but the folds before it by "
                f"{criterion.key}, because rare tags are missing from its training data",
                place="training data", advice=f"give more data, or fewer {setting('folds')}")
        criterion = model.task.criterion
        model.task.check(fold.held_out)
        engine = WatchedEngine(model.engine, f"evaluating {name}", session.watch)
        evaluation = model.task.evaluate(engine, fold.held_out)
        counts.append(evaluation.counts)
        figures.append(float(criterion.metric(counts[-1].sum(axis=0))))
        if job.predictions:
            predicted = model.task.predictions(engine, fold.held_out)
            answers |= zip(fold.indexes.tolist(), ({**fields, "fold": number} for fields in predicted),
                           strict=True)
        session.warn(f"{name}: {criterion.key} {shown_figure(figures[-1])} on "
                     f"{len(counts[-1]):,} records, in {duration(time.monotonic() - begin)}")
    assert criterion is not None
    if job.predictions:
        _write_answers(job.predictions, data.records, [answers[i] for i in range(len(data.records))])
    pooled = np.concatenate(counts)
    with np.errstate(invalid="ignore"):  # an infinite perplexity has no standard deviation
        mean, std = float(np.mean(figures)), float(np.std(figures, ddof=1))
    return {
        "figure": criterion.key, "value": float(criterion.metric(pooled.sum(axis=0))),
        "interval": criterion.interval(pooled), "records": len(pooled), "mean": mean, "std": std,
        "folds": figures,
    }


def trained_folds(out: Path) -> int:
    """Return how many folds of the training in `out` are trained."""
    return sum(map(is_trained, (out / model_folder.FOLDS).glob("*/")))


def _write_answers(path: str, records: Sequence[Any], answers: Sequence[Mapping[str, Any]]) -> None:
    """Write all records with the fields of their answers; the extension of the file chooses the format."""
    rows = [(merged(fields_of(record), fields), record.place)
            for record, fields in zip(records, answers, strict=True)]
    with open_output(path) as out:
        out.writelines(record_lines(rows, format_named_by(path) or "jsonl"))
