"""Checkpoints: all that a training needs to go on as if it had never stopped.

One file of tensors and one of JSON, which names it; the JSON is replaced last, so there is always one whole
checkpoint. No random state is kept, because the noise of step n depends on the seed and n alone.
"""

from __future__ import annotations

import dataclasses
import json
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rnntool.errors import ModelError, RnntoolError
from rnntool.model_folder import write_json
from rnntool.models.cells.cell import State
from rnntool.training.optimizers import MovingAverage, set_weights

STATE = "state.json"


@dataclass
class Progress:
    """Where a training stands. `step` counts all steps, `batch` those of this epoch."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    elapsed_s: float = 0.0
    tokens: int = 0  # seen so far, repeats included
    best: float | None = None
    best_step: int = 0
    stale: int = 0  # evaluations since the best
    plateau: float = 1.0  # what the plateau schedule has made of the rate
    loss_sum: float = 0.0  # of the steps since the last evaluation
    loss_steps: int = 0
    evaluation_s: float = 0.0  # how long the last evaluation took
    history: list[dict[str, Any]] = field(default_factory=list)  # one entry an evaluation


@dataclass
class Checkpoint:
    """What is saved: progress, the network, its optimizer, and what hangs on them."""

    progress: Progress
    network: nn.Module
    optimizer: torch.optim.Optimizer
    average: MovingAverage | None
    best_weights: dict[str, Tensor] | None = None
    stream: list[State] | None = None  # state that the next window goes on from

    def save(self, folder: Path) -> None:
        """Write to `folder`, replacing the checkpoint there; `RnntoolError` where there is no room."""
        tensors: dict[str, Tensor] = {
            f"weights/{name}": tensor for name, tensor in self.network.named_parameters()}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{key}": t for key, t in values.items() if t is not None}
        if self.average:
            tensors |= {f"average/{name}": tensor for name, tensor in self.average.weights.items()}
        if self.best_weights:
            tensors |= {f"best/{name}": tensor for name, tensor in self.best_weights.items()}
        for layer, state in enumerate(self.stream or []):
            tensors |= {f"stream/{layer}/{part}": tensor for part, tensor in enumerate(state)}
        path = folder / f"step-{self.progress.step}.safetensors"
        neighbour = path.with_suffix(".writing")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            save_file({name: t.detach().contiguous().cpu() for name, t in tensors.items()}, neighbour)
            neighbour.replace(path)
            write_json(folder / STATE, {"tensors": path.name, **dataclasses.asdict(self.progress)})
        except (OSError, SafetensorError) as error:
            with suppress(OSError):
                neighbour.unlink()
            raise RnntoolError(
                f"{folder}: writing failed ({error}); make room and go on with --resume") from None
        for old in folder.glob("step-*.safetensors"):
            if old != path:
                old.unlink()

    def load(self, folder: Path) -> None:
        """Go back to the checkpoint in `folder`; `ModelError` where it is damaged."""
        try:
            state = json.loads((folder / STATE).read_text("utf-8"))
            tensors = load_file(folder / state.pop("tensors"))
            self.progress = Progress(**state)
            self._restore(tensors)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise ModelError(
                f"{folder}: the checkpoint is damaged ({error}); start anew with --force") from None

    def _restore(self, tensors: dict[str, Tensor]) -> None:
        def part(prefix: str) -> dict[str, Tensor]:
            return {name[len(prefix):]: t for name, t in tensors.items() if name.startswith(prefix)}

        set_weights(self.network, part("weights/"))
        states: dict[int, dict[str, Any]] = {}
        for name, tensor in part("optimizer/").items():
            index, key = name.split("/")
            states.setdefault(int(index), {})[key] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": states, "param_groups": groups})
        if self.average:
            averages = part("average/")
            for name, weight in self.average.weights.items():
                weight.copy_(averages[name])
        self.best_weights = part("best/") or None
        layers: dict[int, dict[int, Tensor]] = {}
        for name, tensor in part("stream/").items():
            layer, place = map(int, name.split("/"))
            layers.setdefault(layer, {})[place] = tensor
        self.stream = [tuple(layers[i][k] for k in sorted(layers[i])) for i in sorted(layers)] or None
