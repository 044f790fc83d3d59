"""What a training writes: the task that it learned, in a checkpoint, and in the end the model folder."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from rnntool import __version__, model_folder
from rnntool.errors import ModelError, RnntoolError, UsageError
from rnntool.inference.onnx_engine import OnnxEngine
from rnntool.inference.torch_engine import TorchEngine
from rnntool.models.config import ObjectiveConfig
from rnntool.models.export import network_graph
from rnntool.models.network import Network, count_parameters
from rnntool.tasks.base import AnyTask
from rnntool.tasks.lm import LMTask
from rnntool.tasks.specs.settings import Settings
from rnntool.training import transfer
from rnntool.training.model_card import model_card
from rnntool.training.optimizers import weights_of


def check_place(out: Path, *, force: bool) -> None:
    """Refuse, before anything is read, a folder that can't be written or holds something else."""
    if str(out) == "-":
        raise UsageError("-o -: a model is several files, which standard output can't take; give -o a folder")
    try:
        there = next(place for place in (out, *out.parents) if place.exists())
        held = there == out and there.is_dir() and any(out.iterdir())
    except OSError as error:
        raise RnntoolError(
            f"{out}: can't be read ({error.strerror}); choose another folder with -o") from None
    if there == out and not out.is_dir():
        raise UsageError(f"{out}: is a file; give -o a folder")
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise RnntoolError(f"{out}: can't be written to; choose another folder with -o")
    if not held:
        return
    ours = (out / model_folder.CONFIG).exists() or (out / model_folder.RESUME).exists()
    if not ours:
        raise UsageError(f"{out}: holds other files and no model; choose another folder with -o")
    if not force:
        raise UsageError(f"{out}: exists already; --resume goes on with a training that was stopped, --force "
                         "replaces it")


def save_task(task: AnyTask, folder: Path) -> None:
    """Write the task alone."""
    folder.mkdir(parents=True)
    task.save(folder)
    model_folder.write_json(folder / "data.json", task.config())


def load_task(kind: type[AnyTask], folder: Path, settings: Settings) -> AnyTask:
    """The task that `save_task` wrote; `ModelError` where it is damaged."""
    try:
        data = json.loads((folder / "data.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: the checkpoint is damaged ({error}); start anew with --force") from None
    return kind.load(folder, data, settings)


def write_model(
    task: AnyTask, network: Network, dev: Sequence[Any], out: Path, *,
    history: list[dict[str, Any]], carried: transfer.Transfer | None = None, threads: int = 0,
) -> dict[str, Any]:
    """Write the whole model folder and remove its checkpoint. Returns the written graph's dev report.

    Where `dev` tells that probabilities are too high or too low, the head's scores are put right first.
    """
    settings = task.settings
    network.set_objective(ObjectiveConfig())  # drops what only training needs
    calibration = task.calibrate(TorchEngine(network, torch.device("cpu")), dev) if dev else None
    if calibration:
        network.head.divide(*calibration.temperatures)
    with model_folder.staged(out, replace=True) as stage:
        network_graph.write_graphs(network, stage, int8=settings.int8)
        report = task.report(OnnxEngine(stage / model_folder.GRAPH, threads=threads), dev) if dev else {}
        report |= calibration.report() if calibration else {}
        task.save(stage)
        weights = {name: t.float().contiguous() for name, t in weights_of(network, frozen=True).items()}
        (stage / model_folder.WEIGHTS).write_bytes(save(weights))
        content = {
            "format": model_folder.FORMAT,
            "version": __version__,
            "task": task.name,
            "data": task.config(),
            "network": network.config.to_json(),
            "parameters": count_parameters(network),
            "graph": "int8" if settings.int8 else "float32",
            "settings": settings.to_json(),
            "init": carried.to_json() if carried else None,
            "report": report,
        }
        lines = (json.dumps(entry) + "\n" for entry in history)
        (stage / model_folder.METRICS).write_text("".join(lines), "utf-8")
        label = task.labels.names[0] if isinstance(task, LMTask) and task.labels else None
        (stage / model_folder.CARD).write_text(model_card(out.resolve().name, content, label=label), "utf-8")
        model_folder.write_json(stage / model_folder.CONFIG, content)
    model_folder.remove(out / model_folder.RESUME)
    return report
