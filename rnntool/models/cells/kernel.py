"""The kernels of cells: torch's own layers, or modules of this package for cells that torch lacks.

Each kernel also knows its ONNX nodes. `Graph` is imported for type checking only, so that training and torch
inference don't load onnx.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn

if TYPE_CHECKING:
    from rnntool.models.export.builder import Graph

State = tuple[Tensor, ...]  # (h,) or (h, c), each (1, B, H)
RECURRENT_MATRIX = "weight_hh_l0"  # the parameter's name, in each kernel that has one


@dataclass(frozen=True)
class Operator:
    """ONNX's operator for a cell: its name, the indices of torch's gates in ONNX's order, its attributes."""

    name: str
    gates: tuple[int, ...]
    attributes: dict[str, Any] = field(default_factory=dict)


class Step(Protocol):
    """Adds one time step of a cell to a graph."""

    def __call__(
        self, g: Graph, from_input: str, from_state: str, state: list[str], mask: str = ""
    ) -> list[str]:
        """Return the new state (B, H), one value for each of the cell's states.

        `from_input` and `from_state` (B, G*H) are the contributions of the input and of the old state to the
        gates, in ONNX's order. If a `mask` (B, 1) is given, its zeros mark padding, where the state becomes
        0.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class TorchKernel:
    """A cell that both torch and ONNX have: torch's layer, ONNX's operator, and one step as ONNX nodes.

    Layers over tokens use the operator. Layers over words use the step, because the product with a word's
    vector is computed once for each word type. With `separate_recurrent_bias` the recurrent bias can't be
    added to the input's bias beforehand, because a gate scales it.
    """

    layer: Callable[[int, int], nn.RNNBase]
    operator: Operator
    step: Step
    separate_recurrent_bias: bool = False

    def __call__(self, input_size: int, hidden: int) -> nn.RNNBase:
        """Make the torch layer."""
        return self.layer(input_size, hidden)


class CustomKernel(nn.Module, ABC):
    """A cell that torch lacks. Its parameters are named and laid out as in torch's layers."""

    def __init__(self, input_size: int, hidden: int) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, x: Tensor, state: State) -> State:
        """Return the state after each step, each part (T, B, H) in float32, given `x` (T, B, I)."""

    @abstractmethod
    def add_to_graph(
        self, g: Graph, x: str, real: str, state: list[str], name: str, *, reverse: bool
    ) -> tuple[str, list[str]]:
        """Add a whole layer to a graph; return h after each step (T, B, H), and the last state.

        `x` is (T, B, I), `real` (T, B, 1) bool is false at padding, where the state has to stay as it is, and
        `state` has a value (B, H) for each of the cell's states. With `reverse` the last step comes first.
        """
