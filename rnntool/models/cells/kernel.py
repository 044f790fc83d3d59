"""The kernel of a cell that torch lacks, and what the kernels of all cells have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from rnntool.models.export.builder import Graph

State = tuple[Tensor, ...]  # (h,) or (h, c), each (1, B, H)
RECURRENT_MATRIX = "weight_hh_l0"  # the parameter's name, in each kernel that has one


class CustomKernel(nn.Module, ABC):
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
