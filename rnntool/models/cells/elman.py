"""The Elman network: h = f(W x + U h + b), where f is tanh (Elman 1990) or ReLU (Le et al. 2015)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from torch import nn

from rnntool.models.cells.kernel import Operator, TorchKernel

if TYPE_CHECKING:
    from rnntool.models.export.builder import Graph


def _step(
    g: Graph, from_input: str, from_state: str, state: list[str], mask: str = "", *, activation: str
) -> list[str]:
    return [g.masked(g.add(activation, g.add("Add", from_input, from_state)), mask)]


TANH = TorchKernel(
    layer=partial(nn.RNN, nonlinearity="tanh"), operator=Operator("RNN", (0,), {"activations": ["Tanh"]}),
    step=partial(_step, activation="Tanh"))
RELU = TorchKernel(
    layer=partial(nn.RNN, nonlinearity="relu"), operator=Operator("RNN", (0,), {"activations": ["Relu"]}),
    step=partial(_step, activation="Relu"))
