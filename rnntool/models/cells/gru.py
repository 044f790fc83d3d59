"""The GRU (Cho et al. 2014), in the variant that cuDNN, torch and ONNX (`linear_before_reset`) share.

r = sigmoid(W_r x + U_r h + b_r), z = sigmoid(W_z x + U_z h + b_z),
n = tanh(W_n x + b_n + r * (U_n h + c_n)), h' = n + z * (h - n), where h' is the new state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from rnntool.models.cells.kernel import Operator, TorchKernel

if TYPE_CHECKING:
    from rnntool.models.export.builder import Graph


def _step(g: Graph, from_input: str, from_state: str, state: list[str], mask: str = "") -> list[str]:
    xs, hs = (g.add_many("Split", side, outputs=3, axis=1) for side in (from_input, from_state))
    z, r = (g.add("Sigmoid", g.add("Add", x, h)) for x, h in zip(xs[:2], hs[:2], strict=True))
    new = g.add("Tanh", g.add("Add", xs[2], g.add("Mul", r, hs[2])))
    return [g.masked(g.add("Add", new, g.add("Mul", z, g.add("Sub", state[0], new))), mask)]


GRU = TorchKernel(
    layer=nn.GRU, operator=Operator("GRU", (1, 0, 2), {"linear_before_reset": 1}),  # torch r z n → ONNX z r h
    step=_step, separate_recurrent_bias=True)
