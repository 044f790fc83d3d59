"""The LSTM (Hochreiter and Schmidhuber 1997) with forget gates (Gers et al. 2000).

i, f, o = sigmoid(W x + U h + b), g = tanh(W_g x + U_g h + b_g), c' = f * c + i * g, h' = o * tanh(c').
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from rnntool.models.cells.kernel import Operator, TorchKernel

if TYPE_CHECKING:
    from rnntool.models.export.builder import Graph


def _step(g: Graph, from_input: str, from_state: str, state: list[str], mask: str = "") -> list[str]:
    i, o, f, new = g.add_many("Split", g.add("Add", from_input, from_state), outputs=4, axis=1)
    kept = g.add("Mul", g.add("Sigmoid", f), state[1])
    c = g.masked(g.add("Add", kept, g.add("Mul", g.add("Sigmoid", i), g.add("Tanh", new))), mask)
    return [g.add("Mul", g.add("Sigmoid", o), g.add("Tanh", c)), c]  # h is 0 where c is 0


LSTM = TorchKernel(
    layer=nn.LSTM, operator=Operator("LSTM", (0, 3, 1, 2)),  # torch i f g o → ONNX i o f c
    step=_step)
