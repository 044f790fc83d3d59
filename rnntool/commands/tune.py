"""`rnntool tune TASK`: find good settings for a training."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from rnntool.commands import console
from rnntool.commands.groups import Row, command
from rnntool.commands.options import AsJson, Compute, Given, Messages, format_option
from rnntool.commands.train import complete_preset, make_job, next_command, training_session
from rnntool.data.reading import TableReading
from rnntool.errors import RnntoolError, UsageError, contradiction, setting
from rnntool.tasks import TASKS
from rnntool.tasks.specs.resolve import read_file
from rnntool.tasks.specs.search import read_space, split_texts
from rnntool.tasks.specs.spec import TaskSpec

TRIALS = 20
SHOWN = 10  # trials in the table


def tune(
    spec: TaskSpec,
    *,
    files: Annotated[list[str] | None, typer.Argument(
        metavar="TRAIN…", help="Files to train on; `-` is standard input. Not needed with --resume.",
        show_default=False)] = None,
    output: Annotated[Path | None, typer.Option(
        "-o", "--output", metavar="DIR", help="Folder for the best model, and for the study in DIR/tune.",
        show_default=False)] = None,
    search: Annotated[list[str] | None, typer.Option(
        "--search", metavar="NAME=VALUES", show_default=False,
        help="Setting to search and its values: NAME=A,B,C, or NAME=LOW:HIGH, or NAME=LOW:HIGH:log for a "
             "logarithmic scale. 0.5x is half of the value that it has otherwise. Can be given several times "
             "and replaces the default search.")] = None,
    trials: Annotated[int | None, typer.Option(
        "--trials", metavar="N", min=1, show_default=str(TRIALS), help="Trainings to try.")] = None,
    dev: Annotated[list[str] | None, typer.Option(
        "--dev", metavar="FILE", show_default=False,
        help="File of development data, by which the trials are judged. Can be given several times. Without "
             "it, --dev-fraction of the training data is held out.")] = None,
    format: Annotated[str | None, format_option("any that training reads")] = None,
    preset: Annotated[str | None, typer.Option(
        "--preset", metavar="NAME", show_default=False, autocompletion=complete_preset,
        help="Set of settings to start from; other options override it.")] = None,
    config_file: Annotated[Path | None, typer.Option(
        "--config", metavar="FILE.toml", show_default=False,
        help="TOML file of settings that all trials share; options override it.")] = None,
    resume: Annotated[bool, typer.Option(
        "--resume",
        help="Continue the study in DIR. --trials N and --max-time TIME are new totals.")] = False,
    force: Annotated[bool, typer.Option(
        "--force", help="Replace an existing model and study in DIR.")] = False,
    as_json: AsJson = False,
    given: Given,
    reading: TableReading,
    compute: Compute,
    messages: Messages,
) -> None:
    """Find good settings: train with many and keep the best model.

    --max-time limits the whole study. Settings that are given are the same in all trials.
    """
    if importlib.util.find_spec("optuna") is None:
        raise RnntoolError("`rnntool tune` needs Optuna, which is not installed",
                           advice="install it with `pip install optuna`")
    if output is None:
        raise UsageError(setting="output", expected="a folder for the best model", found="none",
                         advice="give -o DIR")
    from rnntool.training.job import Job
    from rnntool.training.tuning import Plan

    job: Job | None = None
    plan, extension = None, {}
    if resume:
        extension = {"trials": trials} if trials else {}
        extension |= {name: given.values[name] for name in given.typed if name == "max_time"}
        optional = {"search": search, "preset": preset, "config_file": config_file, "dev": dev,
                    "format": format, "force": force}
        ignored = [*(files or []), *map(setting, [
            *(name for name in given.typed if name != "max_time"),
            *(name for name, value in optional.items() if value), *reading.chosen()])]
        if ignored:
            raise UsageError("the study continues with the files and settings that it started with",
                             setting="resume", advice=f"leave out {', '.join(ignored)}")
    else:
        job = make_job(spec, files or [], given.values, dev=dev or [], format=format, preset=preset,
                       config_file=config_file, predictions=None, reading=reading)
        if job.settings.folds:
            raise UsageError("trials are judged by development data, not by folds", setting="folds",
                             advice="leave it out")
        chosen = {**given.values, **(read_file(spec.settings, config_file) if config_file else {})}
        texts = _search(spec, search or [], chosen)
        plan = Plan(search=texts, trials=trials or TRIALS, max_time=job.settings.max_time)
        fixed = {"auto_size": False} if hasattr(job.settings, "auto_size") else {}  # trials choose sizes
        job = dataclasses.replace(job, settings=job.settings.replace(max_time=None, **fixed))
        read_space(texts, job.settings)  # reports mistakes before the data is read
    report = _run(spec, job, plan, output, force=force, extension=extension, compute=compute,
                  messages=messages)
    _show(report, spec, output, as_json=as_json, messages=messages)


def rows() -> tuple[Row, ...]:
    """Return the subcommands of `rnntool tune`, one for each task."""
    return tuple(Row(name, _summary(spec), functools.partial(_command, spec)) for name, spec in TASKS.items())


def _summary(spec: TaskSpec) -> str:
    return f"Find good settings for {spec.title}."


def _command(spec: TaskSpec) -> Any:
    default = ", ".join(f"{name.replace('_', '-')}={values}" for name, values in spec.search.items())
    example = spec.examples[0].replace("rnntool train", "rnntool tune")
    return command(
        functools.partial(tune, spec), spec.name, given=spec.settings, presets=spec.preset_uses,
        help=f"{_summary(spec)}\n\nTrains with many settings, stops trainings that fall behind, and keeps "
             f"the best model. Unless --search is given, it searches {default}.",
        lines=(f"{example} --max-time 1h",
               f"{example} --search hidden=100,200,400 --search lr=0.0005:0.01:log"))


def _search(spec: TaskSpec, search: list[str], chosen: Mapping[str, Any]) -> dict[str, str]:
    """Return the values to search by setting; a `chosen` setting is fixed."""
    texts = split_texts(search)
    for name in texts:
        if name in chosen:
            raise contradiction("search", name, reason="which fixes the setting")
    texts = texts or {name: values for name, values in spec.search.items() if name not in chosen}
    if not texts:
        raise UsageError(setting="search", expected="a setting to search",
                         found="none, because all that are searched by default have a value")
    return texts


def _run(
    spec: TaskSpec, job: Any, plan: Any, output: Path, *, force: bool, extension: Mapping[str, Any],
    compute: Compute, messages: Messages,
) -> dict[str, Any]:
    """Run the study, and return its report."""
    with training_session(compute, messages) as (session, handler):
        from rnntool import model_folder
        from rnntool.training import tuning
        from rnntool.training.loop import Interrupted

        try:
            return tuning.tune(job, plan, output, session, task=spec.name, force=force, extension=extension)
        except Interrupted as error:
            number = error.exit_code - 128
            if not handler.started:
                raise
            if (output / model_folder.CONFIG).exists():
                messages.warn(f"the best model so far is in {output}; try: {next_command(spec, output)}")
            saved = tuning.load_job(output, spec.name)[0]
            resume = saved.command_to_resume(output, command="tune")
            raise Interrupted(number, f"{error}; continue with: {resume}") from None


def _show(
    report: Mapping[str, Any], spec: TaskSpec, output: Path, *, as_json: bool, messages: Messages
) -> None:
    """Print the report: as JSON, or as a table of the best trials and what to do next."""
    from rnntool.commands.outputs import show
    from rnntool.model_folder import TUNE
    from rnntool.training.advice import shown_figure
    from rnntool.training.tuning import SETTINGS

    if as_json:
        show(report, as_json, "")
    elif not messages.quiet:
        trials, best = report["trials"], report["best"]
        names = [name for name in trials[0] if name not in ("trial", "state", "value", "seconds")]
        table = [("trial", report["figure"], "time", *names)]
        table += [(str(trial["trial"]), shown_figure(trial["value"]), f"{trial['seconds'] or 0:.0f}s",
                   *(_shown(trial.get(name)) for name in names))
                  for trial in trials if trial["state"] == "complete"][:SHOWN]
        console.write(console.table(table, right=tuple(range(3))))
        count = len(trials)
        console.message(f"best of {count} trials: trial {best['trial']}, {report['figure']} "
                        f"{shown_figure(best['value'])} on the development data that chose it, so expect "
                        "less on new data")
        console.message(f"its settings: rnntool train {spec.name} … --config {output / TUNE / SETTINGS}")
        console.message(f"its model is in {output}; try: {next_command(spec, output)}")


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
