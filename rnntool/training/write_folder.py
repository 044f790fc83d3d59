"""Write a model folder and the report in it, whatever the model is made of. Knows nothing about torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from rnntool import __version__, model_folder
from rnntool.data.json_text import to_json
from rnntool.data.progress import Stage, Watch
from rnntool.errors import RnntoolError, UsageError, setting
from rnntool.evaluation.metrics import mixed_perplexity
from rnntool.inference.backoff_engine import BackoffEngine
from rnntool.model_folder import ModelConfig
from rnntool.models.backoff import BackoffModel
from rnntool.models.config import NetworkConfig
from rnntool.tasks.base import AnyTask, Baseline, Engine
from rnntool.training.model_card import model_card
from rnntool.training.watched_engine import WatchedEngine


class Published(Protocol):
    """What was transferred from another model."""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        ...


def check_place(out: Path) -> None:
    """Raise an error if no model can be written to `out`, whatever it contains."""
    if str(out) == "-":
        raise UsageError(setting="output", expected="a folder", found="standard output")
    try:
        nearest = next(place for place in (out, *out.parents) if place.exists())
    except OSError as error:
        raise RnntoolError(f"can't be read ({error.strerror})", place=out, advice="choose another folder"
                           ) from None
    if nearest == out and not out.is_dir():
        raise UsageError(place=out, expected="a folder", found="a file", advice="choose another name")
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise RnntoolError("can't be written to", place=out, advice="choose another folder")


def check_contents(out: Path, *, force: bool) -> None:
    """Raise an error if a new training would replace anything in the folder, which must be locked."""
    contents = {path.name for path in out.iterdir()} - {model_folder.LOCK}
    resumable = model_folder.is_resumable(out)
    if not resumable:
        contents.discard(model_folder.RESUME)  # it has no complete checkpoint
    if not contents:
        return
    if model_folder.CONFIG not in contents and not resumable:
        raise UsageError("contains other files but no model", place=out, advice="choose another folder")
    if not force:
        resume = f"{setting('resume')} continues a training that was stopped, and " if resumable else ""
        raise UsageError("exists already", place=out,
                         advice=f"{resume}{setting('force')} replaces the model")


def write_folder(
    task: AnyTask, config: NetworkConfig, dev: Sequence[Any], out: Path, *,
    write: Callable[[Path], Engine], parameters: int, graph: str, history: Sequence[Mapping[str, Any]] = (),
    training_data: Mapping[str, Any], baselines: Mapping[str, Baseline | None] = MappingProxyType({}),
    transfers: Mapping[str, Published] = MappingProxyType({}), keep_checkpoint: bool = False,
    more: Mapping[str, Any] | None = None, watch: Watch, refit: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Write the model folder, and return the report on the development data.

    `write` writes the graphs and weights into a folder, and returns their engine. The report is about that
    engine; `more` is added to it. The checkpoint is removed unless `keep_checkpoint` is true, as after a
    stopped training. `refit` is called after the report, see `Task.refit`.
    """
    with model_folder.new_model(out, keep_checkpoint=keep_checkpoint) as stage:
        engine = WatchedEngine(write(stage), "evaluating the model", watch)
        report = _report(task, engine, dev, baselines) | dict(more or {})
        refit()
        task.save(stage)
        model = ModelConfig(
            version=__version__, task=task.spec.name, data=task.config(), network=config,
            parameters=parameters, graph=graph, settings=task.settings, training_data=training_data,
            report=report, sha256=model_folder.digests(stage),
            **{name: transfer.to_json() for name, transfer in transfers.items()})
        if history:
            lines = (to_json(entry) + "\n" for entry in history)
            (stage / model_folder.METRICS).write_text("".join(lines), "utf-8")
        card = model_card(out.resolve().name, model, labels=task.label_names(stage, task.settings))
        (stage / model_folder.CARD).write_text(card, "utf-8")
        model_folder.write_json(stage / model_folder.CONFIG, model.to_json())
    return report


def write_backoff_model(
    task: AnyTask, model: BackoffModel, dev: Sequence[Any], out: Path, *, training_data: Mapping[str, Any],
    baselines: Mapping[str, Baseline | None] = MappingProxyType({}), more: Mapping[str, Any] | None = None,
    watch: Watch,
) -> dict[str, Any]:
    """Write the folder of an n-gram model, and return the report on the development data."""
    from safetensors.numpy import save_file

    def write(stage: Path) -> Engine:
        watch(Stage("writing the model", None, model.parameters, "parameters"))
        path = stage / model_folder.WEIGHTS
        path.touch()
        mode = path.stat().st_mode  # `save_file` makes the file private; `save` would need twice the memory
        save_file(model.to_tensors(), path)
        path.chmod(mode)
        return BackoffEngine(model, stream=task.carries_state)

    return write_folder(
        task, task.network_config(), dev, out, write=write, parameters=model.parameters, graph="none",
        training_data=training_data, baselines=baselines, more=more, watch=watch)


def _report(
    task: AnyTask, engine: Engine, dev: Sequence[Any], baselines: Mapping[str, Baseline | None]
) -> dict[str, Any]:
    """Report on the development data, with the interval of the main figure and the figures of baselines."""
    if not dev:
        return {}
    evaluation, key = task.evaluate(engine, dev), task.criterion.key
    report = evaluation.report | {"interval_of": key, "interval": task.criterion.interval(evaluation.counts)}
    for name, simple in baselines.items():
        if simple:
            report[name] = {"method": simple.method, key: simple.score}
            if simple.log_probs is not None and len(simple.log_probs) == len(evaluation.log_probs):
                report["perplexity_mixed"] = mixed_perplexity(evaluation.log_probs, simple.log_probs)
    return report
