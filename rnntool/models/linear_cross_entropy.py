"""The loss of a linear layer and a softmax over a large vocabulary, as one function that keeps no logits.

What waits for the backward pass are the gradients themselves, which are as large as the layer and its inputs.
Logits exist for some rows at a time, and become their own gradient where they lie (as in Liger Kernel, Hsu et
al. 2024). Knows nothing of tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from rnntool.models.row_padding import padding

LOGITS_BUDGET = 1 << 23  # logits that exist at once: 16 MiB in bfloat16, small enough for a cache
LEAST_ROWS = 512  # but those of so many rows: each time the whole weight is read, and its gradient
_LEAST = torch.finfo(torch.float32).tiny  # a lower probability counts as this one: 87 nats


def linear_cross_entropy(
    inputs: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, *, ignore: int = -100
) -> Tensor:
    """Mean cross-entropy, in nats, of `targets` (N,) under softmax(`inputs` @ `weight`.T + `bias`).

    `inputs` (N, D), `weight` (V, D), `bias` (V,). Rows whose target is `ignore` don't count and cost nothing;
    there have to be others. Under autocast the products are in its type, as the linear layer's would be;
    what is summed over pieces is float32. It has a gradient, but that has none.
    """
    real = (targets != ignore).nonzero().squeeze(1)
    if len(real) < len(targets):
        inputs, targets = inputs.index_select(0, real), targets[real]
    device = inputs.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
    loss: Tensor = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        inputs, weight, bias, targets, dtype)
    return loss


class _LinearCrossEntropy(Function):
    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, dtype: torch.dtype
    ) -> Tensor:
        """The loss; its gradients wait in `ctx`.

        The bias is one more column of the weight, for an input of 1: two passes over the logits less.
        """
        count = len(inputs)
        x = torch.cat([inputs.to(dtype), inputs.new_ones(count, 1, dtype=dtype)], 1)  # (N, D + 1)
        x = functional.pad(x, (0, 0, 0, padding(count)))  # rows of zeros, whose gradient is nothing
        w = torch.cat([weight.to(dtype), bias.to(dtype)[:, None]], 1)  # (V, D + 1)
        nats = torch.zeros((), device=x.device)
        to_x = torch.empty_like(x, dtype=torch.float32)
        to_w = torch.zeros(())  # (V, D + 1)
        rows = max(LEAST_ROWS, LOGITS_BUDGET // len(w))
        for start in range(0, count, rows):
            piece = slice(start, start + rows)
            probs = x[piece] @ w.T
            torch.softmax(probs, -1, out=probs)  # (rows, V)
            wanted = targets[piece]
            gold = torch.arange(len(wanted), device=x.device), wanted
            nats -= probs[gold].float().clamp(min=_LEAST).log().sum()
            # The gradient of logits is the probabilities, less 1 at the target: less the others' sum there,
            # which has more digits in bfloat16 than what a probability near 1 lacks.
            probs[gold] = 0
            probs[gold] = -probs[: len(wanted)].sum(1)
            to_x[piece] = probs @ w
            share = probs.T @ x[piece]
            to_w = to_w.float().add_(share) if start else share
        ctx.save_for_backward(to_x[:count], to_w)
        ctx.dtype = inputs.dtype
        return nats / count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients, each divided by the number of rows and times that of the loss."""
        to_x, to_w = ctx.saved_tensors
        scale = upstream / len(to_x)
        to_inputs, to_weight, to_bias = to_x[:, :-1] * scale, to_w[:, :-1].float(), to_w[:, -1].float()
        return to_inputs.to(ctx.dtype), to_weight.mul(scale), to_bias * scale, None, None
