"""The cross-entropy of a linear layer over a large vocabulary, computed without keeping the logits.

The logits are computed a chunk of rows at a time and overwritten by their own gradient (as in Liger Kernel,
Hsu et al. 2024). Only the gradients of the layer and of its inputs are kept for the backward pass. Knows
nothing of tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from rnntool.models.layers import rows_to_add

LOGITS_BUDGET = 1 << 23  # logits in memory at once: 16 MiB in bfloat16, small enough for a cache
MIN_ROWS = 512  # of a chunk, since each chunk reads the whole weight and its gradient
CLASSES_MULTIPLE = 32  # for matrix units
_MIN_PROBABILITY = torch.finfo(torch.float32).tiny  # lower ones are raised to this: 87 nats


def linear_cross_entropy(
    inputs: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, *, ignore: int = -100,
    smoothing: float = 0.0,
) -> Tensor:
    """Return the mean cross-entropy, in nats, of `targets` (N,) under a linear layer and a softmax.

    A share `smoothing` of a target's probability is spread over all classes (Szegedy et al. 2016).

    `inputs` is (N, D), `weight` (V, D), `bias` (V,), and the logits are `inputs` @ `weight`.T + `bias`. Rows
    whose target is `ignore` don't count and cost nothing; at least one row has to count. Under autocast,
    products have its type, as in a linear layer; sums over rows are float32. Differentiable once; second
    derivatives are not supported.
    """
    real = (targets != ignore).nonzero().squeeze(1)
    if len(real) < len(targets):
        inputs, targets = inputs.index_select(0, real), targets[real]
    device = inputs.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
    loss: Tensor = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        inputs, weight, bias, targets, dtype, smoothing)
    return loss


class _LinearCrossEntropy(Function):
    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, dtype: torch.dtype,
        smoothing: float,
    ) -> Tensor:
        """Compute the loss, and save its gradients in `ctx`.

        Rows and classes are padded because products of matrices with odd shapes take up to twice as long. The
        added classes have probability 0, because their bias is -∞.
        """
        count, classes = len(inputs), len(weight)
        spare = -classes % CLASSES_MULTIPLE
        x = functional.pad(inputs.to(dtype), (0, 0, 0, rows_to_add(count)))  # (N', D), N rounded up
        w = functional.pad(weight.to(dtype), (0, 0, 0, spare))  # (V', D), V rounded up
        b = functional.pad(bias.to(dtype), (0, spare), value=-torch.inf)  # (V',)
        nats = torch.zeros((), device=x.device)
        x_grad = torch.empty_like(x, dtype=torch.float32)
        w_grad, b_grad = torch.zeros(()), torch.zeros(())  # (V', D) and (V',)
        rows = max(MIN_ROWS, LOGITS_BUDGET // len(w))
        for start in range(0, count, rows):
            chunk = slice(start, start + rows)
            probs = torch.addmm(b, x[chunk], w.T)
            torch.softmax(probs, -1, out=probs)  # (rows, V)
            chunk_targets = targets[chunk]
            real = len(chunk_targets)
            gold = torch.arange(real, device=x.device), chunk_targets
            log_probs = probs[gold].float().clamp(min=_MIN_PROBABILITY).log()  # (rows,)
            nats -= log_probs.sum()
            if smoothing:  # the mean over all classes differs by the mean of the logits
                states = x[chunk][:real].float()
                gold_logits = (states * w[chunk_targets].float()).sum(1) + b[chunk_targets]
                mean_logits = states @ w[:classes].float().mean(0) + b[:classes].float().mean()
                nats += smoothing * (gold_logits - mean_logits).sum()
                probs[:, :classes] -= smoothing / classes
            # The gradient of the logits is the probabilities minus those of the target. That of the gold
            # class is minus the sum of the others, which is more precise in bfloat16 than p - 1 for p near 1.
            probs[gold] = 0
            probs[gold] = -probs[:real].sum(1)
            probs[real:] = 0
            x_grad[chunk] = probs @ w
            w_chunk, b_chunk = probs.T @ x[chunk], probs.sum(0)
            w_grad = w_grad.float().add_(w_chunk) if start else w_chunk
            b_grad = b_grad.float().add_(b_chunk) if start else b_chunk
        ctx.save_for_backward(x_grad[:count], w_grad[:classes], b_grad[:classes])
        ctx.dtype = inputs.dtype
        return nats / count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the saved gradients by the gradient of the loss, divided by the number of rows."""
        x_grad, w_grad, b_grad = ctx.saved_tensors
        scale = upstream / len(x_grad)
        gradients = (x_grad * scale).to(ctx.dtype), w_grad.float() * scale, b_grad.float() * scale
        return *gradients, None, None, None
