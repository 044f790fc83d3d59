"""Recurrent cells: one layer, one direction, behind one contract, `y, state = cell(x, state)`.

torch's own kernels (oneDNN, cuDNN) do the work. A cell knows nothing of padding, dropout or the layers around
it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

State = tuple[Tensor, ...]  # (h,) or (h, c), each (1, B, H)


@dataclass(frozen=True)
class CellKind:
    """How to make a cell's kernel, and the names of the tensors that its state is made of."""

    kernel: Callable[[int, int], nn.RNNBase]
    states: tuple[str, ...]


CELLS: dict[str, CellKind] = {
    "elman": CellKind(partial(nn.RNN, nonlinearity="tanh"), ("h",)),  # Elman (1990)
    "elman-relu": CellKind(partial(nn.RNN, nonlinearity="relu"), ("h",)),  # Le, Jaitly and Hinton (2015)
    "gru": CellKind(nn.GRU, ("h",)),  # Cho et al. (2014)
    "lstm": CellKind(nn.LSTM, ("h", "c")),  # Hochreiter and Schmidhuber (1997), Gers et al. (2000)
}


class Cell(nn.Module):
    """One recurrent layer that reads in one direction.

    An unknown `name` raises `ValueError` with the choices.
    """

    def __init__(self, name: str, input_size: int, hidden: int) -> None:
        super().__init__()
        if name not in CELLS:
            raise ValueError(f"unknown cell {name!r}; choose from {', '.join(CELLS)}")
        self.name = name
        self.hidden = hidden
        self.kernel = CELLS[name].kernel(input_size, hidden)
        self._initialise()

    def _initialise(self) -> None:
        """Orthogonal recurrence, Glorot input, zero bias; a forget gate starts open (Gers et al. 2000)."""
        for name, weight in self.kernel.named_parameters():
            if "bias" in name:
                nn.init.zeros_(weight)
                continue
            for gate in weight.split(self.hidden):
                (nn.init.orthogonal_ if "hh" in name else nn.init.xavier_uniform_)(gate)
        if self.name == "lstm":
            with torch.no_grad():
                self.kernel.get_parameter("bias_ih_l0")[self.hidden : 2 * self.hidden] = 1.0

    def initial_state(self, x: Tensor) -> State:
        """Zeros for a batch like `x` (T, B, I)."""
        return tuple(x.new_zeros(1, x.shape[1], self.hidden) for _ in CELLS[self.name].states)

    def forward(
        self, x: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """States (T, B, H) of `x` (T, B, I), and the state after the last step.

        With `lengths` (B,) the returned state is that after each row's own last step; without, after step T.
        Positions behind a row's length hold nothing of use.
        """
        state = self.initial_state(x) if state is None else state
        kernel_state = state if len(state) > 1 else state[0]
        if lengths is None or bool((lengths == len(x)).all()):
            y, kernel_state = self.kernel(x, kernel_state)
        else:
            packed = pack_padded_sequence(x, lengths.cpu(), enforce_sorted=False)
            y, kernel_state = self.kernel(packed, kernel_state)
            y, _ = pad_packed_sequence(y, total_length=len(x))
        return y, kernel_state if isinstance(kernel_state, tuple) else (kernel_state,)
