"""A training that is a part of another one: the model of a fold, or the segmenter of a tagger.

Its model is kept in a folder of its own until the whole training has ended, so it is never trained twice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from rnntool import model_folder
from rnntool.data.progress import Stage
from rnntool.training.job import Job
from rnntool.training.loop import Interrupted, Step
from rnntool.training.session import Session
from rnntool.training.training_data import TrainingData

# trains a model in a folder, or resumes its training; the number is when its share of the time began
Fit = Callable[[Job, TrainingData, Path, Session, float], object]


def train_part(
    job: Job, data: TrainingData, place: Path, session: Session, fit: Fit, start: float, *, name: str
) -> None:
    """Train the model of a part in the folder `place`, unless that was done before.

    Messages begin with `name`. After a signal, raises `Interrupted`.
    """
    def log(message: str) -> None:
        session.log(f"{name}: {message}")

    def watch(step: Step | Stage) -> None:
        session.watch(step if isinstance(step, Stage) else dataclasses.replace(step, training=name))

    if signal := session.stopping():
        raise Interrupted(signal, f"stopped before {name}; saved")
    with model_folder.locked(place, warn=log):
        if is_trained(place):
            return
        try:
            fit(job, data, place, dataclasses.replace(session, watch=watch, log=log, warn=log), start)
        except Interrupted as stop:
            raise Interrupted(stop.exit_code - 128, f"{name}: {stop}") from None


def is_trained(place: Path) -> bool:
    """Return whether a folder has the final model of a part."""
    has_model = (model_folder.complete(place) / model_folder.CONFIG).exists()
    return has_model and not model_folder.has_checkpoint(place)
