"""`rnntool train`: settings from all their sources, signals, progress, and the report at the end."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from rnntool import model_folder
from rnntool.commands import allocator, console
from rnntool.commands.common import Common
from rnntool.commands.outputs import show
from rnntool.data.labels import Labels
from rnntool.errors import UsageError
from rnntool.evaluation.metrics import figures
from rnntool.tasks.specs import schema
from rnntool.tasks.specs.settings import Settings, WordSettings
from rnntool.training.job import Job
from rnntool.training.loop import Interrupted
from rnntool.training.train import train

NEXT = {
    "lm": "rnntool generate -m {out}",
    "classify": "echo 'A line of text.' | rnntool classify -m {out}",
    "tag": "echo 'A line of text.' | rnntool tag -m {out}",
}
SHOWN = ("accuracy", "macro_f1", "precision", "recall", "f1", "f1_conlleval", "perplexity", "bits_per_char",
         "bits_per_byte", "temperature", "ece_uncalibrated", "ece", "tokens", "oov")


class Signals:
    """Notes SIGINT and SIGTERM so that a step can end; a second one leaves at once.

    Before there is anything to go on from, the first one leaves at once.
    """

    def __init__(self) -> None:
        self.arrived: int | None = None
        self.begun = False

    def stopping(self) -> int | None:
        """The signal that arrived, if any; asked when there is a checkpoint, and after each step."""
        self.begun = True
        return self.arrived

    def note(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if not self.begun:
            raise Interrupted(number, "stopped before the first step, nothing is saved")
        if self.arrived is not None:
            sys.exit(128 + number)
        self.arrived = number


@contextmanager
def signals() -> Iterator[Signals]:
    """Signals are noted inside and handled as before outside."""
    noted = Signals()
    before = {number: signal.signal(number, noted.note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(
    task: str,
    files: list[str],
    out: Path,
    given: Mapping[str, Any],
    *,
    typed: Collection[str],
    dev: list[str],
    format: str | None,
    preset: str | None,
    config_file: Path | None,
    resume: bool,
    force: bool,
    as_json: bool,
    common: Common,
) -> None:
    """Train, and print the dev report.

    `typed` are the settings among those `given` that stand on the command line, not in a variable.
    """
    job = None
    if resume:
        others = {"--preset": preset, "--config": config_file, "--dev": dev, "--from": format,
                  "--force": force, "--encoding-errors": common.encoding_errors != "strict"}
        idle = [*files, *map(schema.flag, typed), *(name for name, value in others.items() if value)]
        if idle:
            raise UsageError(f"--resume goes on with the files and settings that the training began with; "
                             f"leave {', '.join(idle)} out")
    else:
        job = _job(task, files, given, dev=dev, format=format, preset=preset, config_file=config_file,
                   common=common)
    allocator.prepare_torch()
    from rnntool.inference import torch_engine
    from rnntool.training.loop import Interrupted

    torch_engine.flush_denormals()
    with signals() as noted, console.training_progress(quiet=common.quiet) as watch:
        try:
            report = train(job, out, task=task, device=common.device, threads=common.threads, force=force,
                           watch=watch, stopping=noted.stopping, log=common.log, warn=common.warn)
        except Interrupted as stopped:
            if not noted.begun:
                raise
            message = f"{stopped}; go on with: rnntool train {task} -o {shlex.quote(str(out))} --resume"
            raise Interrupted(stopped.exit_code - 128, message) from None
    if as_json:
        show(report, as_json, "")
    elif not common.quiet:
        _show(report, task, out)


def _job(
    task: str, files: list[str], given: Mapping[str, Any], *, dev: list[str], format: str | None,
    preset: str | None, config_file: Path | None, common: Common,
) -> Job:
    """What is to be trained; `UsageError` where it can't be."""
    if not files:
        raise UsageError("expected training files, found none; name them, or `-` for standard input")
    for idle in schema.idle_variables():
        common.warn(idle)
    settings = schema.resolve(task, given, preset_name=preset, file=config_file, inherit=_inherited, dev=dev)
    raw = settings.raw if isinstance(settings, WordSettings) else None
    if [*files, *dev, raw].count("-") > 1:
        raise UsageError(
            f"standard input can be read once only; give {'--raw' if raw == '-' else '--dev'} a file")
    return Job(task=task, train=files, dev=dev, settings=settings, format=format,
               encoding_errors=common.encoding_errors)


def _show(report: Mapping[str, Any], task: str, out: Path) -> None:
    """The dev report as a table, and what to try with the model."""
    shown = [(name, f"{value:.4f}" if isinstance(value, float) else f"{value:,}")
             for name, value in figures(report).items() if name.split()[-1] in SHOWN]
    console.write(console.table(shown, right=(1,)))
    following = NEXT[task].format(out=shlex.quote(str(out)))
    if task == "lm" and (out / "labels.txt").exists():
        following += f" --label {shlex.quote(Labels.load(out).names[0])}"
    console.message(f"model written to {out}; try: {following}")


def _inherited(settings: Settings) -> dict[str, Any]:
    """What a model that is started from makes the default: its tokens, and the sizes that its layers have."""
    if settings.init is None:
        return {}
    theirs = model_folder.read_config(model_folder.find(settings.init))["settings"]
    names = ["tokenizer", "split", "lower", "embed", "hidden"]
    if settings.encoder == theirs["encoder"]:
        names.append("window" if settings.encoder == "window" else "cell")
    return {name: theirs[name] for name in names if name in theirs and hasattr(settings, name)}
