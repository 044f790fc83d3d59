"""Recurrent cells: one layer, one direction, behind one contract, `y, state = cell(x, state)`.

torch's own kernels (oneDNN, cuDNN) do the work where it has one; a kernel of our own is for what it lacks. A
cell knows nothing of padding or the layers around it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

State = tuple[Tensor, ...]  # (h,) or (h, c), each (1, B, H)
RECURRENT = "weight_hh_l0"  # what each kernel that has one calls its recurrent matrix


class _Product(torch.autograd.Function):
    """`x @ weight.T` in a loop over time; the gradient of `weight` is one product over all steps, made last.

    Step by step it would be a sum of as many thin products, each as large as the weight, which takes most of
    the time. `steps` gathers what came before, and is the same list for each step of a loop. The `first` step
    is the last one that the gradient comes to, as every later step reads its state.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, steps: list[tuple[Tensor, Tensor]], first: bool
    ) -> Tensor:
        x = x.to(weight.dtype)
        ctx.save_for_backward(x, weight)
        ctx.steps, ctx.first = steps, first
        return x @ weight.T

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        ctx.steps.append((x, grad))
        weight_grad = None
        if ctx.first:
            xs, grads = (torch.cat(side) for side in zip(*ctx.steps, strict=True))  # (T * B, ·)
            weight_grad = grads.T @ xs
            ctx.steps.clear()
        return grad @ weight, weight_grad, None, None


_product: Callable[..., Tensor] = _Product.apply


class Mogrifier(nn.Module):
    """An LSTM whose input and state gate each other before each step (Melis et al. 2020, section 2).

    In five rounds, x <- 2 sigmoid(Q h) * x and h <- 2 sigmoid(R x) * h by turns, x first; then x and h go
    into an LSTM's step. The matrices Q and R of each round are its own. Where they are zero this is an LSTM.
    """

    ROUNDS = 5

    def __init__(self, input_size: int, hidden: int) -> None:
        super().__init__()
        self.weight_ih_l0 = nn.Parameter(torch.empty(4 * hidden, input_size))  # gates i f g o, as torch's
        self.weight_hh_l0 = nn.Parameter(torch.empty(4 * hidden, hidden))
        self.bias_ih_l0 = nn.Parameter(torch.empty(4 * hidden))
        self.mogrify_x = nn.Parameter(torch.empty(-(-self.ROUNDS // 2), input_size, hidden))  # Q
        self.mogrify_h = nn.Parameter(torch.empty(self.ROUNDS // 2, hidden, input_size))  # R

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, Tensor]:
        """h and c after each step, (T, B, H), in float32; products are in autocast's arithmetic."""
        lower = torch.is_autocast_enabled(x.device.type)
        dtype = torch.get_autocast_dtype(x.device.type) if lower else x.dtype
        gates = torch.cat([self.weight_ih_l0, self.weight_hh_l0], dim=1).to(dtype)  # (4H, I + H)
        rounds = [  # Q R Q R Q
            (self.mogrify_h if i % 2 else self.mogrify_x)[i // 2].to(dtype) for i in range(self.ROUNDS)]
        seen: list[list[Any]] = [[] for _ in range(self.ROUNDS + 1)]
        h, c = (part[0].float() for part in state)
        hs, cs = [], []
        with torch.autocast(x.device.type, enabled=False):
            for t, row in enumerate(x.float().unbind()):
                for i, weight in enumerate(rounds):
                    if i % 2:
                        h = h * (2 * _product(row, weight, seen[i], t == 0).float().sigmoid())
                    else:
                        row = row * (2 * _product(h, weight, seen[i], t == 0).float().sigmoid())
                both = _product(torch.cat([row, h], dim=1), gates, seen[-1], t == 0)
                i_gate, f_gate, g, o_gate = (both.float() + self.bias_ih_l0).chunk(4, dim=1)
                c = f_gate.sigmoid() * c + i_gate.sigmoid() * g.tanh()
                h = o_gate.sigmoid() * c.tanh()
                hs.append(h)
                cs.append(c)
        return torch.stack(hs), torch.stack(cs)


def linear_recurrence(a: Tensor, b: Tensor, h: Tensor, *, chunks: int, backwards: bool = False) -> Tensor:
    """All h_t = a_t * h_(t-1) + b_t from `h` (1, B, H) on, (T, B, H) like `a` and `b`; or from the end on.

    In one chunk it is a loop over time. In several, all chunks go through their steps side by side, first
    from zero to learn how each one would end, then from where the one before it does end: 2 T / chunks +
    chunks operations in a row in place of T. Nothing is divided, and no logarithm taken, so that no `a` of 0
    to 1 is too small.
    """
    steps, length = len(a), -(-len(a) // chunks)
    way = slice(None, None, -1 if backwards else 1)
    if chunks > 1:
        more = (0, 0, 0, 0, 0, chunks * length - steps)
        a, b = functional.pad(a, more, value=1.0), functional.pad(b, more)  # steps that change nothing
    a_steps, b_steps = (part.unflatten(0, (chunks, length)).unbind(1)[way] for part in (a, b))  # (C, B, H)
    if chunks > 1:
        product, end = a_steps[0], b_steps[0]
        for a_t, b_t in zip(a_steps[1:], b_steps[1:], strict=True):
            product, end = a_t * product, torch.addcmul(b_t, a_t, end)
        starts = [h[0]]
        for p, e in zip(product.unbind()[way][:-1], end.unbind()[way][:-1], strict=True):
            starts.append(torch.addcmul(e, p, starts[-1]))
        h = torch.stack(starts[way])  # (C, B, H)
    y = torch.empty_like(a)
    for a_t, b_t, y_t in zip(a_steps, b_steps, y.unflatten(0, (chunks, length)).unbind(1)[way], strict=True):
        h = torch.addcmul(b_t, a_t, h, out=y_t)
    return y[:steps]


class _Scan(torch.autograd.Function):
    """`linear_recurrence`, whose gradient is the same recurrence from the end on."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, h: Tensor) -> Tensor:
        # A processor is busy with one step after the other; a GPU waits for each to begin.
        ctx.chunks = 1 if a.device.type == "cpu" else max(1, math.isqrt(len(a)))
        y = linear_recurrence(a, b, h, chunks=ctx.chunks)
        ctx.save_for_backward(a, y, h)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a, y, h = ctx.saved_tensors
        later = torch.cat([a[1:], torch.zeros_like(h)])
        b_grad = linear_recurrence(later, grad, torch.zeros_like(h), chunks=ctx.chunks, backwards=True)
        return b_grad * torch.cat([h, y[:-1]]), b_grad, a[:1] * b_grad[:1]


_scan: Callable[..., Tensor] = _Scan.apply


class MinGRU(nn.Module):
    """A GRU whose gate and candidate read the input alone (Feng et al. 2024, section 3.1).

    h_t = (1 - z_t) * h_(t-1) + z_t * v_t with z = sigmoid(W_z x) and v = W_v x, which is a linear recurrence
    with all its numbers known before the first step.
    """

    def __init__(self, input_size: int, hidden: int) -> None:
        super().__init__()
        self.weight_ih_l0 = nn.Parameter(torch.empty(2 * hidden, input_size))  # z v
        self.bias_ih_l0 = nn.Parameter(torch.empty(2 * hidden))

    def forward(self, x: Tensor, state: State) -> tuple[Tensor]:
        """h after each step, (T, B, H), in float32."""
        z, v = functional.linear(x, self.weight_ih_l0, self.bias_ih_l0).float().chunk(2, dim=-1)
        z = z.sigmoid()
        return (_scan(1 - z, z * v, state[0].float()),)


@dataclass(frozen=True)
class CellKind:
    """How to make a cell's kernel, and the names of the tensors that its state is made of.

    `keep` is the gate that decides what a step keeps of the old state, by its place among the gates, and the
    bias that it starts with.
    """

    kernel: Callable[[int, int], nn.RNNBase | Mogrifier | MinGRU]
    states: tuple[str, ...]
    keep: tuple[int, float] | None = None


CELLS: dict[str, CellKind] = {
    "elman": CellKind(partial(nn.RNN, nonlinearity="tanh"), ("h",)),  # Elman (1990)
    "elman-relu": CellKind(partial(nn.RNN, nonlinearity="relu"), ("h",)),  # Le, Jaitly and Hinton (2015)
    "gru": CellKind(nn.GRU, ("h",), (1, 1.0)),  # Cho et al. (2014)
    # Hochreiter and Schmidhuber (1997), Gers et al. (2000)
    "lstm": CellKind(nn.LSTM, ("h", "c"), (1, 1.0)),
    "mogrifier": CellKind(Mogrifier, ("h", "c"), (1, 1.0)),  # Melis, Kočiský and Blunsom (2020)
    "mingru": CellKind(MinGRU, ("h",), (0, -1.0)),  # Feng et al. (2024); its gate lets new content in
}


class Cell(nn.Module):
    """One recurrent layer that reads in one direction.

    While training, `weight_dropout` is the share of the numbers in the recurrent matrix, where the cell has
    one, that a pass does without, the same ones at all steps and in all rows (DropConnect, Merity et al.
    2018). An unknown `name` raises `ValueError` with the choices.
    """

    def __init__(self, name: str, input_size: int, hidden: int, *, weight_dropout: float = 0.0) -> None:
        super().__init__()
        if name not in CELLS:
            raise ValueError(f"unknown cell {name!r}; choose from {', '.join(CELLS)}")
        self.name = name
        self.hidden = hidden
        self.kernel = CELLS[name].kernel(input_size, hidden)
        self.weight_dropout = weight_dropout if hasattr(self.kernel, RECURRENT) else 0.0
        self._initialise()

    def _initialise(self) -> None:
        """Orthogonal recurrence, Glorot input, zero bias; a gate that can forget starts by keeping.

        So what came first reaches the end of a text, and there is something to learn (Gers et al. 2000 and
        Jozefowicz et al. 2015, of the LSTM's forget gate).
        """
        for name, weight in self.kernel.named_parameters():
            if "bias" in name:
                nn.init.zeros_(weight)
                continue
            for matrix in weight if weight.dim() == 3 else weight.split(self.hidden):
                (nn.init.orthogonal_ if name == RECURRENT else nn.init.xavier_uniform_)(matrix)
        if keep := CELLS[self.name].keep:
            gate, bias = keep
            with torch.no_grad():
                self.kernel.get_parameter("bias_ih_l0").view(-1, self.hidden)[gate] = bias

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
        if lengths is not None and bool((lengths == len(x)).all()):
            lengths = None
        if isinstance(self.kernel, nn.RNNBase):
            return self._run_torch(x, state, lengths)
        parts = self._run(x, state)  # each (T, B, H)
        if lengths is None:
            return parts[0], tuple(part[-1:] for part in parts)
        rows = torch.arange(x.shape[1], device=x.device)
        return parts[0], tuple(
            torch.cat([start, part])[lengths, rows][None] for start, part in zip(state, parts, strict=True))

    def _run_torch(self, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        """What torch's own kernels want: one tensor where the state has one, and ragged rows packed."""
        start = state if len(state) > 1 else state[0]
        if lengths is None:
            y, end = self._run(x, start)
        else:
            packed = pack_padded_sequence(x, lengths.cpu(), enforce_sorted=False)
            y, end = self._run(packed, start)
            y, _ = pad_packed_sequence(y, total_length=len(x))
        return y, end if isinstance(end, tuple) else (end,)

    def _run(self, *arguments: Any) -> Any:
        """The kernel, with a part of its recurrent weights dropped while training."""
        if not self.training or not self.weight_dropout:
            return self.kernel(*arguments)
        weight = drop(self.kernel.get_parameter(RECURRENT), self.weight_dropout)
        return functional_call(self.kernel, {RECURRENT: weight}, arguments)


def drop(x: Tensor, p: float) -> Tensor:
    """Zero a share `p` of a tensor's numbers, to 16 bits, and scale the others so that the mean stays.

    Four numbers are decided by one of the generator, which is what this costs.
    """
    low = round(p * 2**16)
    draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device)
    bits = draws.random_(-(2**63), None).view(torch.int16)[: x.numel()].view_as(x)
    return x * (bits >= low - 2**15) * (2**16 / (2**16 - low))
