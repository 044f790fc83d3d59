"""What computes a cell: torch's own layer where there is one, a module of ours where there is not.

Either comes with its ONNX nodes. The `Graph` that those are added to is only named here, so training and
torch inference don't load onnx.
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
RECURRENT_MATRIX = "weight_hh_l0"  # its name in each kernel that has one


@dataclass(frozen=True)
class Operator:
    """ONNX's operator for a cell: its name, where torch's gates stand in its order, and its attributes."""

    name: str
    gates: tuple[int, ...]
    attributes: dict[str, Any] = field(default_factory=dict)


class Step(Protocol):
    """Adds one time step of a cell to a graph."""

    def __call__(
        self, g: Graph, from_input: str, from_state: str, state: list[str], mask: str = ""
    ) -> list[str]:
        """Return the new state (B, H), one value for each of the cell's states.

        `from_input` and `from_state` (B, G*H) are what the gates, in ONNX's order, get of each. Where `mask`
        (B, 1) is given, its zeros stand for padding and the state there has to become zero.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class TorchKernel:
    """A cell that both torch and ONNX have: torch's layer, ONNX's operator, and one step as ONNX nodes.

    The operator serves layers over tokens. The step serves layers over words, where the product with a word's
    vector is computed once for each word type. `recurrent_bias_apart` says that a gate scales the recurrent
    bias, so that it can't be added to the other one beforehand.
    """

    layer: Callable[[int, int], nn.RNNBase]
    operator: Operator
    step: Step
    recurrent_bias_apart: bool = False

    def __call__(self, input_size: int, hidden: int) -> nn.RNNBase:
        """Make the torch layer."""
        return self.layer(input_size, hidden)


class OwnKernel(nn.Module, ABC):
    """A cell that torch lacks. Its parameters are named and laid out as in torch's layers."""

    def __init__(self, input_size: int, hidden: int) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, x: Tensor, state: State) -> State:
        """Return the state after each step, each part (T, B, H) in float32, given `x` (T, B, I)."""

    @abstractmethod
    def add_to(
        self, g: Graph, x: str, real: str, state: list[str], name: str, *, reverse: bool
    ) -> tuple[str, list[str]]:
        """Add a whole layer to a graph; return h after each step (T, B, H), and the last state.

        `x` is (T, B, I), `real` (T, B, 1) bool is false at padding, where the state has to stay as it is, and
        `state` has a value (B, H) for each of the cell's states. With `reverse` the last step comes first.
        """
