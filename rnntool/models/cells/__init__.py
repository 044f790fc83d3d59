"""The table of recurrent cells, one row each. Needs the standard library alone, so settings can list them.

A new cell is a row here, and a file beside this one with its kernel and its ONNX nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True, kw_only=True)
class CellType:
    """What is known of a cell before torch is loaded.

    `states` names the tensors (1, B, H) that its state is made of. `keep_gate` is the gate that decides how
    much of the old state a step keeps: its place among the gates of the kernel's matrices, and the bias that
    it starts with. `has_recurrent_matrix` says whether weight dropout has recurrent weights to drop.
    `other_input_weights` are parameters besides `weight_ih_l0` whose shape depends on the input's size.
    """

    words: str  # for the model card: "An LSTM network"
    source: str  # the paper
    code: str  # where the kernel is: a module of this package and a name in it
    states: tuple[str, ...] = ("h",)
    keep_gate: tuple[int, float] | None = None
    has_recurrent_matrix: bool = True
    other_input_weights: tuple[str, ...] = ()

    def kernel(self) -> Any:
        """Import the cell's `TorchKernel`, or its subclass of `OwnKernel`, and torch with it."""
        module, _, name = self.code.partition(":")
        return getattr(import_module(f"{__name__}.{module}"), name)


CELLS: dict[str, CellType] = {
    "elman": CellType(words="An Elman network", source="Elman (1990)", code="elman:TANH"),
    "elman-relu": CellType(
        words="An Elman network with ReLU", source="Le, Jaitly and Hinton (2015)", code="elman:RELU"),
    "gru": CellType(words="A GRU network", source="Cho et al. (2014)", code="gru:GRU", keep_gate=(1, 1.0)),
    "lstm": CellType(
        words="An LSTM network", source="Hochreiter and Schmidhuber (1997), Gers et al. (2000)",
        code="lstm:LSTM", states=("h", "c"), keep_gate=(1, 1.0)),
    "mogrifier": CellType(
        words="A Mogrifier LSTM network", source="Melis, Kočiský and Blunsom (2020)",
        code="mogrifier:Mogrifier", states=("h", "c"), keep_gate=(1, 1.0),
        other_input_weights=("mogrify_x", "mogrify_h")),
    "mingru": CellType(  # its gate lets new content in, so a negative bias keeps the old
        words="A minGRU network", source="Feng et al. (2024)", code="mingru:MinGRU", keep_gate=(0, -1.0),
        has_recurrent_matrix=False),
}
