"""A recurrent cell: one layer, one direction, behind one contract, `y, state = cell(x, state)`.

The cells that torch provides run on torch's kernels (oneDNN, cuDNN). A cell knows nothing of padding, except
for the step after which a row's last state is taken.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rnntool.models.cells import CELLS
from rnntool.models.cells.kernel import RECURRENT_MATRIX, CustomKernel, State


class Cell(nn.Module):
    """One recurrent layer that reads in one direction.

    `weight_dropout` is the share of the recurrent weights that a training pass drops, the same ones at all
    steps and in all rows (DropConnect, Merity et al. 2018). A cell without a recurrent matrix ignores it. An
    unknown `name` raises `ValueError` with the choices.
    """

    def __init__(self, name: str, input_size: int, hidden: int, *, weight_dropout: float = 0.0) -> None:
        super().__init__()
        if name not in CELLS:
            raise ValueError(f"unknown cell {name!r}; choose from {', '.join(CELLS)}")
        self.name = name
        self.hidden = hidden
        self.cell_type = CELLS[name]
        self.kernel: nn.RNNBase | CustomKernel = self.cell_type.kernel()(input_size, hidden)
        self.weight_dropout = weight_dropout if self.cell_type.has_recurrent_matrix else 0.0
        self._initialize()

    def _initialize(self) -> None:
        """Initialize recurrent weights orthogonally, input weights after Glorot, and biases with zero.

        The keep gate starts mostly open. The gradient then reaches far back from the start of training, and
        long dependencies can be learned (Gers et al. 2000 and Jozefowicz et al. 2015, on the forget gate).
        """
        for name, weight in self.kernel.named_parameters():
            if "bias" in name:
                nn.init.zeros_(weight)
                continue
            for matrix in weight if weight.dim() == 3 else weight.split(self.hidden):
                (nn.init.orthogonal_ if name == RECURRENT_MATRIX else nn.init.xavier_uniform_)(matrix)
        if self.cell_type.keep_gate:
            gate, bias = self.cell_type.keep_gate
            with torch.no_grad():
                self.kernel.get_parameter("bias_ih_l0").view(-1, self.hidden)[gate] = bias

    def initialize_uniformly(self) -> None:
        """Draw all weights and biases between plus and minus 1 / √units, as torch's own layers do.

        SGD with a high rate then learns faster at first. The state forgets sooner.
        """
        for weight in self.kernel.parameters():
            nn.init.uniform_(weight, -self.hidden ** -0.5, self.hidden ** -0.5)

    def initial_state(self, x: Tensor) -> State:
        """Return zeros for a batch like `x` (T, B, I)."""
        return tuple(x.new_zeros(1, x.shape[1], self.hidden) for _ in self.cell_type.state_names)

    def forward(
        self, x: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Return the states (T, B, H) of `x` (T, B, I), and the state after the last step.

        With `lengths` (B,) the returned state is the one after each row's own last step; without them, it is
        the state after step T. Outputs past a row's length are meaningless.
        """
        state = self.initial_state(x) if state is None else state
        if lengths is not None and bool((lengths == len(x)).all()):
            lengths = None
        if isinstance(self.kernel, nn.RNNBase):
            if len(x) == 1 and lengths is None and x.device.type == "cpu" and not self.weight_dropout:
                return self._run_step(x, state)
            return self._run_torch_kernel(x, state, lengths)
        parts = self._run_kernel(x, state)  # each (T, B, H)
        if lengths is None:
            return parts[0], tuple(part[-1:] for part in parts)
        rows = torch.arange(x.shape[1], device=x.device)
        return parts[0], tuple(
            torch.cat([start, part])[lengths, rows][None] for start, part in zip(state, parts, strict=True))

    def _run_torch_kernel(self, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        """Call a torch layer, which takes a state of one part as a tensor, and ragged rows packed."""
        start = state if len(state) > 1 else state[0]
        if lengths is None:
            y, last = self._run_kernel(x, start)
        else:
            packed = pack_padded_sequence(x, lengths.cpu(), enforce_sorted=False)
            y, last = self._run_kernel(packed, start)
            y, _ = pad_packed_sequence(y, total_length=len(x))
        return y, last if isinstance(last, tuple) else (last,)

    def _run_step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Compute a single step. A torch layer would reorder its weights first, which costs more."""
        weight = self.kernel.get_parameter
        from_input = functional.linear(x, weight("weight_ih_l0"), weight("bias_ih_l0"))
        from_state = functional.linear(state[0], weight(RECURRENT_MATRIX), weight("bias_hh_l0"))
        state = self.cell_type.kernel().torch_step(from_input.float(), from_state.float(), state)
        return state[0], state

    def _run_kernel(self, *arguments: Any) -> Any:
        """Run the kernel; in training, drop a share of its recurrent weights."""
        if not self.training or not self.weight_dropout:
            return self.kernel(*arguments)
        weight = drop(self.kernel.get_parameter(RECURRENT_MATRIX), self.weight_dropout)
        return functional_call(self.kernel, {RECURRENT_MATRIX: weight}, arguments)


def drop(x: Tensor, p: float) -> Tensor:
    """Zero a share `p`, rounded to 16 bits, of a tensor's elements; scale the others to keep the mean.

    One 64-bit random number decides for four elements, because drawing takes most of the time.
    """
    low = round(p * 2**16)
    draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device)
    bits = draws.random_(-(2**63), None).view(torch.int16)[: x.numel()].view_as(x)
    return x * (bits >= low - 2**15) * (2**16 / (2**16 - low))
