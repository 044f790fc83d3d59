"""Checkpoints: everything that a training needs to continue as if it had not been interrupted.

A checkpoint is a file of tensors and a JSON file with its name. The JSON file is replaced last, so the folder
always contains a complete checkpoint. Random states are not saved, because the random numbers of training
step n depend only on the seed and n.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rnntool.data.atomic_files import replacement
from rnntool.errors import ModelError, RnntoolError, setting
from rnntool.model_folder import STATE, write_json
from rnntool.models.cells.kernel import State
from rnntool.training.optimizers import MovingAverage, set_weights


@dataclass
class Progress:
    """The progress of a training. The field names are the keys of state.json."""

    step: int = 0  # training steps so far
    epoch: int = 0
    batch: int = 0  # training steps so far in this epoch
    elapsed_s: float = 0.0
    tokens: int = 0  # so far, in all epochs
    best: float | None = None  # best dev score
    stale_evaluations: int = 0  # since the best one
    plateau_factor: float = 1.0  # of the learning rate, from the plateau schedule
    loss_sum: float = 0.0  # nats, over the steps since the last evaluation
    loss_steps: int = 0
    evaluation_s: float = 0.0  # duration of the last evaluation
    evaluations_s: float = 0.0  # duration of all evaluations
    preparation_s: float = 0.0  # before the first step, such as reading the data
    dev_share: float = 1.0  # of the development data that evaluations use
    dev_score_s: float = 0.0  # estimated time to score all development data; 0 if it wasn't measured
    dev_report_s: float = 0.0  # estimated time to calibrate and evaluate a model on all development data
    replaces_model: bool = False  # whether an older model stays in the folder until the training ends
    history: list[dict[str, Any]] = field(default_factory=list)  # an entry for each evaluation


@dataclass
class Checkpoint:
    """The state of a training."""

    progress: Progress
    network: nn.Module
    optimizer: torch.optim.Optimizer
    average: MovingAverage | None
    best_weights: dict[str, Tensor] | None = None
    stream_states: list[State] | None = None  # by layer, after the last window of a stream

    def save(self, folder: Path, *, final_name: Path | None = None) -> None:
        """Replace the checkpoint in `folder`; `RnntoolError` if it can't be written.

        The checkpoint is synced to the disk. Messages call the folder `final_name`.
        """
        path = folder / f"step-{self.progress.step}.safetensors"
        try:
            with replacement(path) as part:
                save_file({name: t.detach().contiguous().cpu() for name, t in self._tensors().items()}, part)
            write_json(folder / STATE, {"tensors": path.name, **dataclasses.asdict(self.progress)})
        except (OSError, SafetensorError) as error:
            raise RnntoolError(
                f"the checkpoint can't be written ({error})", place=final_name or folder,
                advice="free some disk space or fix the permissions, then continue with "
                       f"{setting('resume')}") from None
        for old in folder.glob("step-*.safetensors"):
            if old != path:
                old.unlink()

    def _tensors(self) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {
            f"weights/{name}": tensor for name, tensor in self.network.named_parameters()}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{key}": t for key, t in values.items() if t is not None}
        averages = self.average.weights if self.average else {}
        tensors |= {f"average/{name}": tensor for name, tensor in averages.items()}
        tensors |= {f"best/{name}": tensor for name, tensor in (self.best_weights or {}).items()}
        for layer, state in enumerate(self.stream_states or []):
            tensors |= {f"stream/{layer}/{part}": tensor for part, tensor in enumerate(state)}
        return tensors

    def load(self, folder: Path) -> None:
        """Restore the checkpoint in `folder`; `ModelError` if it is damaged."""
        try:
            state = json.loads((folder / STATE).read_text("utf-8"))
            tensors = load_file(folder / state.pop("tensors"))
            self.progress = Progress(**state)
            self._restore(tensors)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise ModelError(
                f"the checkpoint is damaged ({error})", place=folder,
                advice=f"start again with {setting('force')}") from None

    def _restore(self, tensors: Mapping[str, Tensor]) -> None:
        def group(prefix: str) -> dict[str, Tensor]:
            return {name[len(prefix):]: t for name, t in tensors.items() if name.startswith(prefix)}

        set_weights(self.network, group("weights/"))
        optimizer_state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in group("optimizer/").items():
            index, key = name.split("/")
            optimizer_state.setdefault(int(index), {})[key] = tensor
        param_groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": optimizer_state, "param_groups": param_groups})
        if self.average:
            averages = group("average/")
            for name, weight in self.average.weights.items():
                weight.copy_(averages[name])
        self.best_weights = group("best/") or None
        layers: dict[int, dict[int, Tensor]] = {}
        for name, tensor in group("stream/").items():
            layer, part = map(int, name.split("/"))
            layers.setdefault(layer, {})[part] = tensor
        self.stream_states = [
            tuple(layers[i][k] for k in sorted(layers[i])) for i in sorted(layers)] or None
