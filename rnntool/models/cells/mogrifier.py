"""The Mogrifier LSTM: an LSTM whose input and state gate each other before each step (Melis et al. 2020)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rnntool.models.cells.kernel import CustomKernel, State
from rnntool.models.export.builder import Graph


class _StepProduct(torch.autograd.Function):
    """`x @ weight.T` within a loop over time, with the gradient of `weight` computed once for all steps.

    Autograd would add up a product as large as the weight for each step, which takes most of the time. Here
    all steps of a loop share the list `steps`, which collects their inputs and the gradients of their
    outputs. The backward pass of the `first` step runs last, since all later steps depend on its state; it
    multiplies what was collected. Differentiable once; second derivatives are not supported.
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


_step_product: Callable[..., Tensor] = _StepProduct.apply


class Mogrifier(CustomKernel):
    """Melis et al. (2020), section 2, in five rounds.

    The rounds alternate between x <- 2 sigmoid(Q h) * x and h <- 2 sigmoid(R x) * h, starting with x. Then x
    and h enter an LSTM step. Each round has its own matrix. If all of them are zero, this is an LSTM.
    """

    ROUNDS = 5

    def __init__(self, input_size: int, hidden: int) -> None:
        super().__init__(input_size, hidden)
        self.weight_ih_l0 = nn.Parameter(torch.empty(4 * hidden, input_size))  # gates i f g o, as in torch
        self.weight_hh_l0 = nn.Parameter(torch.empty(4 * hidden, hidden))
        self.bias_ih_l0 = nn.Parameter(torch.empty(4 * hidden))
        self.mogrify_x = nn.Parameter(torch.empty(-(-self.ROUNDS // 2), input_size, hidden))  # Q
        self.mogrify_h = nn.Parameter(torch.empty(self.ROUNDS // 2, hidden, input_size))  # R

    def rounds(self) -> list[Tensor]:
        """Return the matrices in the order of their use: Q R Q R Q."""
        return [(self.mogrify_h if i % 2 else self.mogrify_x)[i // 2] for i in range(self.ROUNDS)]

    def forward(self, x: Tensor, state: State) -> State:
        """Return h and c after each step, (T, B, H) in float32; products use autocast's arithmetic."""
        autocast = torch.is_autocast_enabled(x.device.type)
        dtype = torch.get_autocast_dtype(x.device.type) if autocast else x.dtype
        gates = torch.cat([self.weight_ih_l0, self.weight_hh_l0], dim=1).to(dtype)  # (4H, I + H)
        rounds = [weight.to(dtype) for weight in self.rounds()]
        products: list[list[Any]] = [[] for _ in range(self.ROUNDS + 1)]
        h, c = (part[0].float() for part in state)
        hs, cs = [], []
        with torch.autocast(x.device.type, enabled=False):
            for t, row in enumerate(x.float().unbind()):
                for i, weight in enumerate(rounds):
                    if i % 2:
                        h = h * (2 * _step_product(row, weight, products[i], t == 0).float().sigmoid())
                    else:
                        row = row * (2 * _step_product(h, weight, products[i], t == 0).float().sigmoid())
                both = _step_product(torch.cat([row, h], dim=1), gates, products[-1], t == 0)
                i_gate, f_gate, g, o_gate = (both.float() + self.bias_ih_l0).chunk(4, dim=1)
                c = f_gate.sigmoid() * c + i_gate.sigmoid() * g.tanh()
                h = o_gate.sigmoid() * c.tanh()
                hs.append(h)
                cs.append(c)
        return torch.stack(hs), torch.stack(cs)

    def add_to(
        self, g: Graph, x: str, real: str, state: list[str], name: str, *, reverse: bool
    ) -> tuple[str, list[str]]:
        """Add a scan with the whole step in its body."""
        gates = g.weight(torch.cat([self.weight_ih_l0, self.weight_hh_l0], dim=1).T, f"{name}.gates")
        bias = g.weight(self.bias_ih_l0, f"{name}.bias")
        rounds = [g.weight(weight.T, f"{name}.round.{i}") for i, weight in enumerate(self.rounds())]
        two = g.constant(2.0, "float32")

        def step(b: Graph, states: list[str], rows: list[str]) -> list[str]:
            h, c = states
            row, mask = rows

            def gated(value: str, by: str, weight: str) -> str:
                return b.add("Mul", value, b.add("Mul", two, b.add("Sigmoid", b.add("MatMul", by, weight))))

            for i, weight in enumerate(rounds):
                if i % 2:
                    h = gated(h, row, weight)
                else:
                    row = gated(row, h, weight)
            both = b.add("Add", b.add("MatMul", b.add("Concat", row, h, axis=1), gates), bias)
            i_gate, f_gate, new, o_gate = b.add_many("Split", both, outputs=4, axis=1)
            kept = b.add("Mul", b.add("Sigmoid", f_gate), c)
            added = b.add("Mul", b.add("Sigmoid", i_gate), b.add("Tanh", new))
            c = b.add("Add", kept, added)
            h = b.add("Mul", b.add("Sigmoid", o_gate), b.add("Tanh", c))
            return [b.add("Where", mask, *pair) for pair in zip((h, c), states, strict=True)]

        hidden = self.weight_hh_l0.shape[1]
        return g.scan(step, state, [(x, "float32"), (real, "bool")], hidden, reverse=reverse)
