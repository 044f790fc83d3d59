"""The torch engine, which evaluates during training and runs models on a GPU."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rnntool.data.arrays import Arrays
from rnntool.errors import UsageError, setting
from rnntool.models.network import Network


def to_tensors(arrays: Arrays, device: torch.device) -> dict[str, Tensor]:
    """Move NumPy arrays to a device as tensors."""
    return {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}


def pick_device(name: str) -> torch.device:
    """Return a device by name, or the best one for `auto`; `UsageError` if it is not available."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, is_available in available.items() if is_available)
    if not available.get(name):
        raise UsageError(f"torch finds no {name} device on this machine", setting="device",
                         advice=f"leave out {setting('device')}")
    return torch.device(name)


def flush_denormals() -> None:
    """Round denormal numbers to zero in the whole process; they can make training a hundred times slower."""
    torch.set_flush_denormal(True)


class TorchEngine:
    """Runs a network in evaluation mode and float32. A `rnntool.tasks.base.Engine`."""

    word_vectors = 0  # none: their table would have to be moved to the device with each batch

    def __init__(self, network: Network, device: torch.device, *, part: str | None = None) -> None:
        """Run the whole network, or a part that runs on its own."""
        self.network = network.to(device)
        self.device = device
        self._part = part

    def run(self, arrays: Arrays, outputs: list[str] | None = None) -> Arrays:
        """Return the named outputs of a batch, by default all."""
        training = self.network.training
        self.network.eval()
        with torch.inference_mode():
            tensors = to_tensors(arrays, self.device)
            values = self.network.part(self._part, tensors) if self._part else self.network(tensors, outputs)
        self.network.train(training)
        names = values if outputs is None else [name for name in outputs if name in values]
        return {name: values[name].detach().cpu().numpy() for name in names}

    def part(self, name: str) -> TorchEngine:
        """Return the engine of a part that runs on its own."""
        return TorchEngine(self.network, self.device, part=name)

    def initial_state(self, batch: int) -> Arrays:
        """Return zero states (1, B, H) by the network's names."""
        return {name: np.zeros((1, batch, size), np.float32)
                for layer in self.network.state_sizes() for name, size in layer.items()}
