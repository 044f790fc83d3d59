"""Write the results of a training: the task, beside the checkpoints, and finally the model folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors.torch import save

from rnntool import model_folder
from rnntool.data.progress import Stage
from rnntool.errors import ModelError, setting
from rnntool.inference.onnx_engine import OnnxEngine
from rnntool.inference.torch_engine import TorchEngine
from rnntool.models.config import ObjectiveConfig
from rnntool.models.export.network_graph import write_graphs
from rnntool.models.network import Network, count_parameters
from rnntool.tasks.base import AnyTask, Baseline, Engine
from rnntool.tasks.specs.settings import Settings
from rnntool.training.optimizers import weights_of
from rnntool.training.transfer import Transfer
from rnntool.training.watched_engine import WatchedEngine
from rnntool.training.write_folder import write_folder


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
    ngram: Baseline | None = None,
    transfers: Mapping[str, Transfer] = MappingProxyType({}), threads: int = 0, keep_checkpoint: bool = False,
    segmenter: Path | None = None, more: Mapping[str, Any] | None = None, watch: Callable[[Stage], None],
    refit: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Write the model folder, and return the report on the development data.

    The checkpoint is removed unless `keep_checkpoint` is true, as after a stopped training. The network is
    calibrated on the development data first. The model in the folder `segmenter` becomes part of it. See
    `write_folder` for the rest.
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

    def write_network(stage: Path) -> Engine:
        watch(Stage("writing the model", None, count_parameters(network), "parameters"))
        write_graphs(network, stage, int8=settings.int8)
        if segmenter:
            model_folder.copy_files(segmenter, stage / model_folder.SEGMENTER)
        weights = {name: t.float().contiguous() for name, t in weights_of(network, frozen=True).items()}
        (stage / model_folder.WEIGHTS).write_bytes(save(weights))
        return OnnxEngine(stage / model_folder.GRAPH, threads=threads)

    return write_folder(
        task, network.config, dev, out, write=write_network, parameters=count_parameters(network),
        graph="int8" if settings.int8 else "float32", history=history, training_data=training_data,
        baselines={"baseline": baseline, "ngram": ngram, "linear": linear}, transfers=transfers,
        more=(calibration.report() if calibration else {}) | dict(more or {}),
        keep_checkpoint=keep_checkpoint, watch=watch, refit=refit)
