"""The cells that torch and ONNX both have: Elman networks, GRU and LSTM."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rnntool.models.cells.cell import Cell
from rnntool.models.cells.kernel import State
from rnntool.models.export.builder import Graph

Floats = NDArray[np.float32]


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
    """A cell as torch's layer, as ONNX's operator, and as one step in both.

    Layers over tokens use the operator. Layers over words use the step, because the product with a word's
    vector is computed once for each word type. With `separate_recurrent_bias`, the recurrent bias
    can't be added to the input's bias beforehand, because a gate scales it. `torch_step` returns the new
    state, given what the input and the old state contribute to the gates, in torch's order.
    """

    layer: Callable[[int, int], nn.RNNBase]
    operator: str
    gates: tuple[int, ...]  # the indices of torch's gates in ONNX's order
    attributes: Mapping[str, Any] = field(default_factory=dict)  # of the operator
    step: Step
    torch_step: Callable[[Tensor, Tensor, State], State]
    separate_recurrent_bias: bool = False

    def __call__(self, input_size: int, hidden: int) -> nn.RNNBase:
        """Make the torch layer."""
        return self.layer(input_size, hidden)

    def weights(self, cell: Cell) -> tuple[Floats, Floats, Floats]:
        """Return ONNX's W (G*H, I), R (G*H, H) and B (2*G*H,) of one direction, gates in ONNX's order."""
        def gates(name: str) -> Floats:
            parts = cell.kernel.get_parameter(name).detach().cpu().split(cell.hidden)
            return np.concatenate([parts[i].numpy() for i in self.gates])

        biases = np.concatenate([gates("bias_ih_l0"), gates("bias_hh_l0")])
        return gates("weight_ih_l0"), gates("weight_hh_l0"), biases


def _elman(nonlinearity: str, activation: str, function: Callable[[Tensor], Tensor]) -> TorchKernel:
    """h = f(W x + U h + b), where f is tanh (Elman 1990) or ReLU (Le et al. 2015)."""
    def torch_step(from_input: Tensor, from_state: Tensor, state: State) -> State:
        return (function(from_input + from_state),)

    def step(g: Graph, from_input: str, from_state: str, state: list[str], mask: str = "") -> list[str]:
        return [g.masked(g.add(activation, g.add("Add", from_input, from_state)), mask)]

    return TorchKernel(layer=partial(nn.RNN, nonlinearity=nonlinearity), operator="RNN", gates=(0,),
                       attributes={"activations": [activation]}, step=step, torch_step=torch_step)


def _gru_step(g: Graph, from_input: str, from_state: str, state: list[str], mask: str = "") -> list[str]:
    """GRU (Cho et al. 2014), in the variant that cuDNN, torch and ONNX (`linear_before_reset`) share.

    r = sigmoid(W_r x + U_r h + b_r), z = sigmoid(W_z x + U_z h + b_z),
    n = tanh(W_n x + b_n + r * (U_n h + c_n)), h' = n + z * (h - n), where h' is the new state.
    """
    xs, hs = (g.add_many("Split", side, outputs=3, axis=1) for side in (from_input, from_state))
    z, r = (g.add("Sigmoid", g.add("Add", x, h)) for x, h in zip(xs[:2], hs[:2], strict=True))
    new = g.add("Tanh", g.add("Add", xs[2], g.add("Mul", r, hs[2])))
    return [g.masked(g.add("Add", new, g.add("Mul", z, g.add("Sub", state[0], new))), mask)]


def _gru_torch_step(from_input: Tensor, from_state: Tensor, state: State) -> State:
    """See `_gru_step`."""
    (r, z, new), (r_h, z_h, new_h) = from_input.chunk(3, -1), from_state.chunk(3, -1)
    new = (new + (r + r_h).sigmoid() * new_h).tanh()
    return (new + (z + z_h).sigmoid() * (state[0] - new),)


def _lstm_step(g: Graph, from_input: str, from_state: str, state: list[str], mask: str = "") -> list[str]:
    """LSTM (Hochreiter and Schmidhuber 1997) with forget gates (Gers et al. 2000).

    i, f, o = sigmoid(W x + U h + b), g = tanh(W_g x + U_g h + b_g), c' = f * c + i * g, h' = o * tanh(c').
    """
    i, o, f, new = g.add_many("Split", g.add("Add", from_input, from_state), outputs=4, axis=1)
    kept = g.add("Mul", g.add("Sigmoid", f), state[1])
    c = g.masked(g.add("Add", kept, g.add("Mul", g.add("Sigmoid", i), g.add("Tanh", new))), mask)
    return [g.add("Mul", g.add("Sigmoid", o), g.add("Tanh", c)), c]  # h is 0 where c is 0


def _lstm_torch_step(from_input: Tensor, from_state: Tensor, state: State) -> State:
    """See `_lstm_step`."""
    i, f, new, o = (from_input + from_state).chunk(4, -1)
    c = f.sigmoid() * state[1] + i.sigmoid() * new.tanh()
    return o.sigmoid() * c.tanh(), c


ELMAN_TANH = _elman("tanh", "Tanh", torch.tanh)
ELMAN_RELU = _elman("relu", "Relu", torch.relu)
GRU = TorchKernel(  # torch r z n → ONNX z r h
    layer=nn.GRU, operator="GRU", gates=(1, 0, 2), attributes={"linear_before_reset": 1}, step=_gru_step,
    torch_step=_gru_torch_step, separate_recurrent_bias=True)
LSTM = TorchKernel(  # i f g o → i o f c
    layer=nn.LSTM, operator="LSTM", gates=(0, 3, 1, 2), step=_lstm_step, torch_step=_lstm_torch_step)
