"""torch: the engine that evaluates during training and runs on a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rnntool.data.arrays import Arrays
from rnntool.errors import UsageError
from rnntool.models.network import Network, state_sizes


def to_tensors(arrays: Arrays, device: torch.device) -> dict[str, Tensor]:
    """NumPy arrays as tensors on `device`."""
    return {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}


def pick_device(name: str) -> torch.device:
    """A device by name, `auto` the best there is; `UsageError` where it isn't there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, found in there.items() if found)
    if not there.get(name):
        raise UsageError(f"--device {name}: torch finds no such device here; leave --device out")
    return torch.device(name)


def flush_denormals() -> None:
    """Round denormal numbers to zero in this whole process: they would slow a training down a hundredfold."""
    torch.set_flush_denormal(True)


class TorchEngine:
    """Runs a network as it is, in evaluation mode and float32."""

    word_vectors = 0  # it keeps none: a table of them would have to be moved to the device with each batch

    def __init__(self, network: Network, device: torch.device) -> None:
        self.network = network.to(device)
        self.device = device

    def run(self, arrays: Arrays, outputs: list[str] | None = None) -> dict[str, NDArray[Any]]:
        """The named outputs (all by default) of a batch."""
        training = self.network.training
        self.network.eval()
        with torch.inference_mode():
            values = self.network(to_tensors(arrays, self.device), outputs)
        self.network.train(training)
        names = values if outputs is None else [name for name in outputs if name in values]
        return {name: values[name].detach().cpu().numpy() for name in names}

    def initial_state(self, batch: int) -> dict[str, NDArray[Any]]:
        """Zero states as the network names them, (1, B, size)."""
        if not self.network.stateful:
            return {}
        return {name: np.zeros((1, batch, size), np.float32)
                for layer in state_sizes(self.network.encoder, "state") for name, size in layer.items()}
