"""`rnntool train TASK`: train a model."""

from __future__ import annotations

import functools
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rnntool.commands import console
from rnntool.commands.exit_codes import stop_signals
from rnntool.commands.groups import Row, command
from rnntool.commands.options import AsJson, Compute, Given, Messages, format_option
from rnntool.data.reading import TableReading
from rnntool.errors import UsageError, contradiction, no_effect_without, setting
from rnntool.tasks import TASKS
from rnntool.tasks.specs.resolve import resolve, unused_variables
from rnntool.tasks.specs.spec import TaskSpec
from rnntool.tasks.specs.tag import UD_SPEC

if TYPE_CHECKING:
    from rnntool.tasks.specs.settings import Settings
    from rnntool.training.job import Job
    from rnntool.training.session import Session


SPECS: Mapping[str, TaskSpec] = {**TASKS, "ud": UD_SPEC}  # by command
EXTENDING = ("epochs", "max_time")  # settings that a resumed training can have new values for


def complete_preset(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the presets of the task that is being completed, for the shell."""
    uses = SPECS[str(context.command.name)].preset_uses
    return [(name, use) for name, use in uses.items() if name.startswith(incomplete)]


def train(
    spec: TaskSpec,
    *,
    files: Annotated[list[str] | None, typer.Argument(
        metavar="TRAIN…", help="Files to train on; `-` is standard input. Not needed with --resume.",
        show_default=False)] = None,
    output: Annotated[Path | None, typer.Option(
        "-o", "--output", metavar="DIR", help="Folder for the model.", show_default=False)] = None,
    dev: Annotated[list[str] | None, typer.Option(
        "--dev", metavar="FILE", show_default=False,
        help="File of development data, by which the best weights are chosen. Can be given several times. "
             "Without it, --dev-fraction of the training data is held out.")] = None,
    predictions: Annotated[str | None, typer.Option(
        "--predictions", metavar="FILE", show_default=False,
        help="With --folds: write each training record, with the right answer and that of the model of the "
             "other folds, to FILE (.csv, .tsv or .jsonl).")] = None,
    format: Annotated[str | None, format_option()] = None,
    preset: Annotated[str | None, typer.Option(
        "--preset", metavar="NAME", show_default=False, autocompletion=complete_preset,
        help="Set of settings to start from; other options override it.")] = None,
    config_file: Annotated[Path | None, typer.Option(
        "--config", metavar="FILE.toml", show_default=False,
        help="TOML file of settings; options override it.")] = None,
    resume: Annotated[bool, typer.Option(
        "--resume", help="Continue the stopped training in DIR. --max-time TIME or --epochs N extends it to "
                         "a new total; the learning rate continues as if the training had had it from the "
                         "start.")] = False,
    finish: Annotated[bool, typer.Option(
        "--finish", help="With --resume: end the training in DIR now, and make the best weights so far its "
                         "model.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing model in DIR.")] = False,
    as_json: AsJson = False,
    given: Given,
    reading: TableReading,
    compute: Compute,
    messages: Messages,
) -> None:
    """Train a model for a task and print its scores on the development data."""
    if output is None:
        raise UsageError(setting="output", expected="a folder for the model", found="none",
                         advice="give -o DIR")
    files, dev = files or [], dev or []
    job, extension = None, {}
    if resume:
        extension = {name: given.values[name] for name in given.typed if name in EXTENDING}
        if finish and extension:
            raise contradiction("finish", next(iter(extension)))
        optional = {"preset": preset, "config_file": config_file, "dev": dev, "format": format,
                    "predictions": predictions, "force": force}
        others = [*(name for name, value in optional.items() if value), *reading.chosen()]
        typed = [name for name in given.typed if name not in EXTENDING]
        ignored = [*files, *map(setting, [*typed, *others])]
        if ignored:
            raise UsageError("the training continues with the files and settings that it started with",
                             setting="resume", advice=f"leave out {', '.join(ignored)}")
    elif finish:
        raise no_effect_without("finish", "resume")
    else:
        for warning in unused_variables(spec.settings for spec in TASKS.values()):
            messages.warn(warning)
        values = dict(given.values)
        if spec is UD_SPEC and not values.get("column"):
            from rnntool.commands.treebank_columns import annotated_columns

            values["column"] = annotated_columns(files, format, reading, messages)
        job = make_job(spec, files, values, dev=dev, format=format, preset=preset,
                       config_file=config_file, predictions=predictions, reading=reading)
    report = _run(spec, job, output, force=force, finish=finish, extension=extension, compute=compute,
                  messages=messages)
    _show(report, spec, output, as_json=as_json, messages=messages)


def rows() -> tuple[Row, ...]:
    """Return the subcommands of `rnntool train`: one for each task, and one for treebanks."""
    return tuple(Row(name, spec.summary, functools.partial(_command, name)) for name, spec in SPECS.items())


def _command(name: str) -> Any:
    spec = SPECS[name]
    return command(functools.partial(train, spec), name, given=spec.settings, help=spec.summary,
                   lines=spec.examples, presets=spec.preset_uses)


# --- The job -----------------------------------------------------------------------------------------------


def make_job(
    spec: TaskSpec, files: list[str], given: Mapping[str, Any], *, dev: list[str], format: str | None,
    preset: str | None, config_file: Path | None, predictions: str | None, reading: TableReading,
) -> Job:
    """Return the training job, with settings from all sources; `UsageError` if they don't fit together."""
    from rnntool.commands.outputs import record_format
    from rnntool.training.job import FILES, Job

    record_format(predictions, "predictions")
    settings = resolve(spec, given, preset=preset, file=config_file, inherit=_inherited, dev=dev)
    if source := getattr(settings, "source", None):
        if files:
            raise UsageError(f"names the training file, and so does {files[0]}", setting="source",
                             advice="leave one out")
        files = [source]
    if not files:
        raise UsageError(expected="training files", found="none",
                         advice="name them, or give - for standard input")
    others = [getattr(settings, name, None) for name in FILES]
    if [*files, *dev, *others].count("-") > 1:
        raise UsageError("standard input can be read only once", advice="give - only once")
    if predictions and not settings.folds:
        raise no_effect_without("predictions", "folds", value="5")
    return Job(task=spec.name, train=files, dev=dev, settings=settings, format=format, reading=reading,
               predictions=predictions)


def _inherited(settings: Settings) -> dict[str, Any]:
    """Return the defaults that the initial models set: tokenizers and the sizes of layers."""
    from rnntool.inference import model as models

    inherited: dict[str, Any] = {}
    for name in ("init_target", "init"):
        if model := getattr(settings, name, None):
            inherited |= settings.inherited(name, models.read(model).task.settings)
    return inherited


# --- The training ------------------------------------------------------------------------------------------


class Signals:
    """Remember SIGINT, SIGTERM or SIGHUP, so that training stops after the current step.

    A second signal exits at once. Before the first checkpoint, the first signal exits at once as well.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.started = False

    def stopping(self) -> int | None:
        """Return the signal that was received, if any. Called after each step, once a checkpoint exists."""
        self.started = True
        return self.received

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        console.leave_closed_terminal()
        if not self.started:
            from rnntool.training.loop import Interrupted

            raise Interrupted(number, "stopped before the first step, so nothing is saved")
        if self.received is not None:
            sys.exit(128 + number)
        self.received = number


@contextmanager
def signals() -> Iterator[Signals]:
    """Install the handlers of `Signals` for the duration of the block."""
    handler = Signals()
    before = {number: signal.signal(number, handler.handle) for number in (signal.SIGINT, *stop_signals())}
    try:
        yield handler
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


@contextmanager
def training_session(compute: Compute, messages: Messages) -> Iterator[tuple[Session, Signals]]:
    """Prepare torch, show the progress of trainings, and catch the signals that stop them."""
    from rnntool.commands import allocator

    allocator.prepare_torch()
    from rnntool.inference import torch_engine
    from rnntool.training.session import Session

    torch_engine.flush_denormals()
    with signals() as handler, console.training_progress(quiet=messages.quiet) as watch:
        yield Session(device=compute.device, threads=compute.threads, watch=watch, stopping=handler.stopping,
                      log=messages.log, warn=messages.warn), handler


def _run(
    spec: TaskSpec, job: Job | None, output: Path, *, force: bool, finish: bool,
    extension: Mapping[str, Any], compute: Compute, messages: Messages,
) -> Mapping[str, Any]:
    """Train, and return the report on the development data. Without a job, resume the one in `output`."""
    with training_session(compute, messages) as (session, handler):
        from rnntool import model_folder
        from rnntool.training import train as training
        from rnntool.training.job import Job
        from rnntool.training.loop import Interrupted

        try:
            return training.train(
                job, output, task=spec.name, force=force, finish=finish, extension=extension, **vars(session))
        except Interrupted as error:
            number = error.exit_code - 128
            if not handler.started:
                if job is not None:
                    raise
                raise Interrupted(number, "stopped; the checkpoint is as it was before") from None
            saved = job.located() if job else Job.load(model_folder.job_file(output))[0]
            resume = saved.command_to_resume(output)
            if error.has_model:
                messages.warn(f"the best weights so far are a model in {output}; try: "
                              f"{next_command(spec, output)}")
            if model_folder.has_checkpoint(output):  # or else not all folds are trained
                messages.warn(f"end the training with: {saved.command_to_resume(output, finish=True)}")
            raise Interrupted(number, f"{error}; continue with: {resume}") from None


# --- The report --------------------------------------------------------------------------------------------


def _show(
    report: Mapping[str, Any], spec: TaskSpec, output: Path, *, as_json: bool, messages: Messages
) -> None:
    """Print the report: as JSON, or as a table and a command to try next."""
    from rnntool import model_folder
    from rnntool.commands.outputs import show
    from rnntool.evaluation.metrics import numbers
    from rnntool.inspection.training_report import read_history
    from rnntool.training.advice import cross_validated, next_step, result

    if as_json:
        show(report, as_json, "")
    elif not messages.quiet:
        shown = [(name, f"{value:.4f}" if isinstance(value, float) else f"{value:,}")
                 for name, value in numbers(report).items() if name.split()[-1] in spec.metrics]
        console.write(console.table(shown, right=(1,)))
        config, history = model_folder.read_config(output), read_history(output)
        if figures := report.get("cross_validation"):
            console.message(f"cross-validation: {cross_validated(figures)}")
        console.message(result(config))
        console.message(next_step(config, history))
        console.message(f"model written to {output}; try: {next_command(spec, output)}")


def next_command(spec: TaskSpec, output: Path) -> str:
    """Return a command that runs the new model."""
    from rnntool import model_folder
    from rnntool.tasks.base import task_class

    config = model_folder.read_config(output)
    labels = task_class(spec.name).label_names(output, config.settings)
    return spec.command_lines(str(output), label=labels[0] if labels else None)[0]
