"""Write the results of a training: the task, beside the checkpoints, and finally the model folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors.torch import save

from rnntool import __version__, model_folder
from rnntool.data.json_text import to_json
from rnntool.data.progress import Stage
from rnntool.errors import ModelError, RnntoolError, UsageError, setting
from rnntool.inference.onnx_engine import OnnxEngine
from rnntool.inference.torch_engine import TorchEngine
from rnntool.model_folder import ModelConfig
from rnntool.models.config import ObjectiveConfig
from rnntool.models.export.network_graph import write_graphs
from rnntool.models.network import Network, count_parameters
from rnntool.tasks.base import AnyTask, Baseline, Engine
from rnntool.tasks.specs.settings import Settings
from rnntool.training.model_card import model_card
from rnntool.training.optimizers import weights_of
from rnntool.training.transfer import Transfer
from rnntool.training.watched_engine import WatchedEngine


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


def save_task(task: AnyTask, folder: Path) -> None:
    """Write only the task."""
    folder.mkdir(parents=True)
    task.save(folder)
    model_folder.write_json(folder / "data.json", task.config())


def load_task(kind: type[AnyTask], folder: Path, settings: Settings) -> AnyTask:
    """Read the task that `save_task` wrote; `ModelError` if it is damaged."""
    try:
        return kind.load(folder, json.loads((folder / "data.json").read_text("utf-8")), settings)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"the checkpoint is damaged ({error})", place=folder,
                         advice=f"start again with {setting('force')}") from None


def write_model(
    task: AnyTask, network: Network, dev: Sequence[Any], out: Path, *,
    history: list[dict[str, Any]], training_data: Mapping[str, Any], baseline: Baseline | None = None,
    transfers: Mapping[str, Transfer] = MappingProxyType({}), threads: int = 0, keep_checkpoint: bool = False,
    segmenter: Path | None = None, more: Mapping[str, Any] | None = None, watch: Callable[[Stage], None],
    refit: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Write the model folder, and return the report on the development data.

    The checkpoint is removed unless `keep_checkpoint` is true, as after a stopped training. The network is
    calibrated on the development data first. The report is about the exported graph; `more` is added to it.
    The model in the folder `segmenter` becomes part of it. `refit` is called after the report, see
    `Task.refit`.
    """
    settings = task.settings
    network.set_objective(ObjectiveConfig())  # drop what is only needed for training
    calibration = linear = None
    if dev:
        linear = task.linear_baseline(dev)
        engine = WatchedEngine(TorchEngine(network, torch.device("cpu")), "calibrating", watch)
        task.weigh(engine, dev)
        calibration = task.calibrate(engine, dev)
    if calibration:
        network.head.apply_temperatures(*calibration.temperatures)
        task.apply_temperatures(*calibration.temperatures)
    with model_folder.new_model(out, keep_checkpoint=keep_checkpoint) as stage:
        watch(Stage("writing the model", None, count_parameters(network), "parameters"))
        write_graphs(network, stage, int8=settings.int8)
        onnx = OnnxEngine(stage / model_folder.GRAPH, threads=threads)
        report = _report(task, WatchedEngine(onnx, "evaluating the model", watch), dev, baseline, linear)
        report |= (calibration.report() if calibration else {}) | dict(more or {})
        refit()
        task.save(stage)
        if segmenter:
            model_folder.copy_files(segmenter, stage / model_folder.SEGMENTER)
        weights = {name: t.float().contiguous() for name, t in weights_of(network, frozen=True).items()}
        (stage / model_folder.WEIGHTS).write_bytes(save(weights))
        config = ModelConfig(
            version=__version__, task=task.spec.name, data=task.config(), network=network.config,
            parameters=count_parameters(network), graph="int8" if settings.int8 else "float32",
            settings=settings, training_data=training_data, report=report,
            sha256=model_folder.digests(stage),
            **{name: transfer.to_json() for name, transfer in transfers.items()})
        lines = (to_json(entry) + "\n" for entry in history)
        (stage / model_folder.METRICS).write_text("".join(lines), "utf-8")
        card = model_card(out.resolve().name, config, labels=task.label_names(stage, settings))
        (stage / model_folder.CARD).write_text(card, "utf-8")
        model_folder.write_json(stage / model_folder.CONFIG, config.to_json())
    return report


def _report(
    task: AnyTask, engine: Engine, dev: Sequence[Any], baseline: Baseline | None, linear: Baseline | None
) -> dict[str, Any]:
    """Report on the development data, with the interval of the main figure and the figures of baselines."""
    if not dev:
        return {}
    evaluation, key = task.evaluate(engine, dev), task.criterion.key
    report = evaluation.report | {"interval_of": key, "interval": task.criterion.interval(evaluation.counts)}
    return report | {name: {"method": simple.method, key: simple.score}
                     for name, simple in (("baseline", baseline), ("linear", linear)) if simple}
