"""The table of recurrent cells, with one row each. Imports only the standard library, for the settings.

To add a cell, add a row here, and a kernel with its ONNX nodes in a module of this package.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True, kw_only=True)
class CellType:
    """The properties of a cell that can be known without torch.

    `state_names` are the names of the tensors (1, B, H) that form the state. `keep_gate` is the gate that
    decides how much of the old state a step keeps: its index among the gates in the kernel's matrices, and
    its initial bias. `has_recurrent_matrix` says whether there are recurrent weights for weight dropout.
    `other_input_weights` are parameters besides `weight_ih_l0` whose shape depends on the input size.
    """

    description: str  # for the model card: "An LSTM network"
    source: str  # the paper
    implementation: str  # of the kernel, as `module:name` in this package
    state_names: tuple[str, ...] = ("h",)
    keep_gate: tuple[int, float] | None = None
    has_recurrent_matrix: bool = True
    other_input_weights: tuple[str, ...] = ()

    def kernel(self) -> Any:
        """Import the cell's `TorchKernel`, or its subclass of `CustomKernel`, and torch with it."""
        module, _, name = self.implementation.partition(":")
        return getattr(import_module(f"{__name__}.{module}"), name)


CELLS: dict[str, CellType] = {
    "elman": CellType(
        description="An Elman network", source="Elman (1990)", implementation="torch_kernels:ELMAN_TANH"),
    "elman-relu": CellType(
        description="An Elman network with ReLU", source="Le, Jaitly and Hinton (2015)",
        implementation="torch_kernels:ELMAN_RELU"),
    "gru": CellType(
        description="A GRU network", source="Cho et al. (2014)", implementation="torch_kernels:GRU",
        keep_gate=(1, 1.0)),
    "lstm": CellType(
        description="An LSTM network", source="Hochreiter and Schmidhuber (1997), Gers et al. (2000)",
        implementation="torch_kernels:LSTM", state_names=("h", "c"), keep_gate=(1, 1.0)),
    "mogrifier": CellType(
        description="A Mogrifier LSTM network", source="Melis, Kočiský and Blunsom (2020)",
        implementation="mogrifier:Mogrifier", state_names=("h", "c"), keep_gate=(1, 1.0),
        other_input_weights=("mogrify_x", "mogrify_h")),
    "mingru": CellType(  # an open gate lets new content in, so a negative bias keeps the old state
        description="A minGRU network", source="Feng et al. (2024)", implementation="mingru:MinGRU",
        keep_gate=(0, -1.0), has_recurrent_matrix=False),
}
CELL_NAMES = tuple(CELLS)
