"""The minGRU: a GRU whose gate and candidate read the input alone (Feng et al. 2024, section 3.1)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rnntool.models.cells.kernel import CustomKernel, State
from rnntool.models.export.builder import Graph


def linear_recurrence(a: Tensor, b: Tensor, h: Tensor, *, chunks: int, reverse: bool = False) -> Tensor:
    """Return all h_t = a_t * h_(t-1) + b_t, (T, B, H) like `a` and `b`, starting from `h` (1, B, H).

    With `reverse`, the recurrence starts at the last step. With one chunk it is a loop over time. With more
    chunks, they advance in parallel, twice: first from zero, to find how each chunk maps its start to its
    end, then from the true last state of the chunk before. That takes 2 T / chunks + chunks sequential
    operations instead of T. There are no divisions and no logarithms, so `a` may be anything from 0 to 1.
    """
    steps, length = len(a), -(-len(a) // chunks)
    order = slice(None, None, -1 if reverse else 1)
    if chunks > 1:
        pad = (0, 0, 0, 0, 0, chunks * length - steps)
        a, b = functional.pad(a, pad, value=1.0), functional.pad(b, pad)  # steps that change nothing
    a_steps, b_steps = (part.unflatten(0, (chunks, length)).unbind(1)[order] for part in (a, b))  # (C, B, H)
    if chunks > 1:
        product, end = a_steps[0], b_steps[0]
        for a_t, b_t in zip(a_steps[1:], b_steps[1:], strict=True):
            product, end = a_t * product, torch.addcmul(b_t, a_t, end)
        starts = [h[0]]
        for p, e in zip(product.unbind()[order][:-1], end.unbind()[order][:-1], strict=True):
            starts.append(torch.addcmul(e, p, starts[-1]))
        h = torch.stack(starts[order])  # (C, B, H)
    y = torch.empty_like(a)
    y_steps = y.unflatten(0, (chunks, length)).unbind(1)[order]
    for a_t, b_t, y_t in zip(a_steps, b_steps, y_steps, strict=True):
        h = torch.addcmul(b_t, a_t, h, out=y_t)
    return y[:steps]


class _LinearRecurrence(torch.autograd.Function):
    """`linear_recurrence`, whose gradient is the same recurrence in reverse. Differentiable once."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, h: Tensor) -> Tensor:
        # One step at a time keeps a processor busy; a GPU would wait for each step to be launched.
        ctx.chunks = 1 if a.device.type == "cpu" else max(1, math.isqrt(len(a)))
        y = linear_recurrence(a, b, h, chunks=ctx.chunks)
        ctx.save_for_backward(a, y, h)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a, y, h = ctx.saved_tensors
        shifted = torch.cat([a[1:], torch.zeros_like(h)])
        b_grad = linear_recurrence(shifted, grad, torch.zeros_like(h), chunks=ctx.chunks, reverse=True)
        return b_grad * torch.cat([h, y[:-1]]), b_grad, a[:1] * b_grad[:1]


differentiable_recurrence: Callable[..., Tensor] = _LinearRecurrence.apply


class MinGRU(CustomKernel):
    """h_t = (1 - z_t) * h_(t-1) + z_t * v_t with z = sigmoid(W_z x + b_z) and v = W_v x + b_v.

    This is a linear recurrence, whose coefficients can all be computed before the first step.
    """

    def __init__(self, input_size: int, hidden: int) -> None:
        super().__init__(input_size, hidden)
        self.weight_ih_l0 = nn.Parameter(torch.empty(2 * hidden, input_size))  # z v
        self.bias_ih_l0 = nn.Parameter(torch.empty(2 * hidden))

    def forward(self, x: Tensor, state: State) -> State:
        """Return h after each step, (T, B, H) in float32."""
        z, v = functional.linear(x, self.weight_ih_l0, self.bias_ih_l0).float().chunk(2, dim=-1)
        z = z.sigmoid()
        return (differentiable_recurrence(1 - z, z * v, state[0].float()),)

    def add_to(
        self, g: Graph, x: str, real: str, state: list[str], name: str, *, reverse: bool
    ) -> tuple[str, list[str]]:
        """Add all products, then a scan with only two operations per step."""
        both = g.add("MatMul", x, g.weight(self.weight_ih_l0.T, f"{name}.w"))
        both = g.add("Add", both, g.weight(self.bias_ih_l0, f"{name}.b"))
        z, v = g.add_many("Split", both, outputs=2, axis=2)
        z = g.add("Mul", g.add("Sigmoid", z), g.cast(real, "float32"))  # 0 at padding: the state stays
        a, b = g.add("Sub", g.constant(1.0, "float32"), z), g.add("Mul", z, v)

        def step(body: Graph, states: list[str], rows: list[str]) -> list[str]:
            return [body.add("Add", body.add("Mul", rows[0], states[0]), rows[1])]

        hidden = len(self.bias_ih_l0) // 2
        return g.scan(step, state, [(a, "float32"), (b, "float32")], hidden, reverse=reverse)
