"""What a training says about itself at its start: the data, the network, and how long it will take."""

from __future__ import annotations

import sys
from collections.abc import Callable

from rnntool.data.progress import Log, Stage, duration
from rnntool.data.streams import input_names
from rnntool.errors import setting
from rnntool.models.network import count_parameters
from rnntool.tasks.base import task_class
from rnntool.training.job import Job
from rnntool.training.loop import Step, Trainer
from rnntool.training.training_data import TrainingData

MEASURED_S = 3.0  # of training before its duration is forecast
MEASURED_STEPS = 4


def describe_data(data: TrainingData, job: Job) -> str:
    """Say how many records there are, and where the development data comes from."""
    settings = job.settings
    if job.dev:
        source = f": {input_names(job.dev)}"
    elif not data.dev:
        source = f", so nothing will say how good the model is; give some with {setting('dev')}"
    else:
        how = "the end of" if task_class(job.task).is_running_text(settings) else "drawn at random from"
        share = setting("dev_fraction", f"{settings.dev_fraction:g}")
        source = f": {how} the training data ({share}; name your own with {setting('dev', 'FILE')})"
    return f"{data}{source}"


def describe_network(trainer: Trainer) -> str:
    """Say what will be trained, and for how many steps."""
    encoder, parameters = trainer.network.config.encoder, count_parameters(trainer.network)
    precision = str(trainer.precision).removeprefix("torch.")
    most = "at most " if trainer.settings.time_limit else ""
    steps = len(trainer.batches)
    epochs = (f"{most}{trainer.epochs:,} epoch{'s' if trainer.epochs > 1 else ''} of "
              f"{steps:,} step{'s' if steps > 1 else ''}")
    return f"{encoder.architecture}, {parameters:,} parameters, {precision} on {trainer.device}; {epochs}"


class Forecast:
    """Passes steps and stages on to `watch`; after a few steps, says how long the training will take."""

    def __init__(self, trainer: Trainer, watch: Callable[[Step | Stage], None], say: Log) -> None:
        self.trainer = trainer
        self.watch = watch
        self.say = say
        self._first: tuple[int, float] | None = None  # step and time from which the speed is measured
        self._done = False

    def __call__(self, step: Step | Stage) -> None:
        """Take the next step or stage."""
        if isinstance(step, Stage):
            self.watch(step)
            return
        progress = step.progress
        if self._first is None:
            self._first = progress.step, progress.elapsed_s  # the first step is slower than the others
        steps, elapsed_s = progress.step - self._first[0], progress.elapsed_s - self._first[1]
        if not self._done and steps >= MEASURED_STEPS and elapsed_s >= MEASURED_S:
            self._done = True
            self.say(self._forecast(progress.step, progress.elapsed_s, elapsed_s / steps, step.left_s))
        self.watch(step)

    def _forecast(self, step: int, elapsed_s: float, step_s: float, left_s: float) -> str:
        trainer, limit_s = self.trainer, self.trainer.settings.time_limit
        all_s = elapsed_s + (trainer.total_steps - step) * step_s
        text = f"expected duration: {duration(elapsed_s + left_s)}"
        if limit_s and all_s > limit_s:
            passes = (step + (limit_s - elapsed_s) / step_s) / len(trainer.batches)
            text += (f", enough for {passes:.1f} of {trainer.epochs:,} epochs; all of them need about "
                     f"{duration(all_s)}")
        memory = _memory_bytes()
        return text + (f"; memory so far: {memory / 1e6:,.0f} MB" if memory else "")


def _memory_bytes() -> int:
    """Return the most memory that this process has used; 0 where the system doesn't say."""
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
