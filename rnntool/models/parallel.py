"""Parts of a network that don't wait for each other, run side by side, forward and back.

On a processor a small product is made hardly faster by several threads, as they wait for each other at its end.
Two chains of such products, each on threads of its own, wait once. Knows no network.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

Part = tuple[Callable[..., Tensor], tuple[Tensor, ...]]  # a function, and the tensors that it is called with


def side_by_side(*parts: Part) -> list[Tensor]:
    """What each part gives, as if they had been called in turn; where it pays, each has a thread of its own.

    A gradient reaches the tensors of a part, and nothing else that its function reads. That must draw no
    random number: who would come first is not known. What comes out has a gradient, but that has none.
    """
    there = {tensor.device.type for _, tensors in parts for tensor in tensors}
    threads = torch.get_num_threads()
    if there != {"cpu"} or threads < len(parts) or not torch.is_grad_enabled():
        return [function(*tensors) for function, tensors in parts]
    workers = _workers(len(parts), threads // len(parts))
    functions = [(function, len(tensors)) for function, tensors in parts]
    made: tuple[Tensor, ...] = _SideBySide.apply(  # type: ignore[no-untyped-call]
        workers, functions, *(tensor for _, tensors in parts for tensor in tensors))
    return list(made)


@cache
def _workers(count: int, threads: int) -> ThreadPoolExecutor:
    """As many workers, each with so many of torch's threads."""
    return ThreadPoolExecutor(count, "part", torch.set_num_threads, (threads,))


class _SideBySide(Function):
    """A worker keeps the graph of its part, and goes back through that graph alone."""

    @staticmethod
    def forward(
        ctx: Any, workers: ThreadPoolExecutor, functions: list[tuple[Callable[..., Tensor], int]],
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        lower, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

        def run(function: Callable[..., Tensor], inputs: list[Tensor]) -> Tensor:
            with torch.enable_grad(), torch.autocast("cpu", dtype, enabled=lower):  # a thread has its own modes
                return function(*inputs)

        own = [tensor.detach().requires_grad_(needed)
               for tensor, needed in zip(tensors, ctx.needs_input_grad[2:], strict=True)]
        ctx.inputs, first = [], 0
        for _, count in functions:
            ctx.inputs.append(own[first : first + count])
            first += count
        ctx.workers = workers
        ctx.outputs = list(workers.map(run, [function for function, _ in functions], ctx.inputs))
        return tuple(output.detach() for output in ctx.outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        def run(output: Tensor, inputs: list[Tensor], grad: Tensor) -> list[Tensor | None]:
            wanted = [tensor for tensor in inputs if tensor.requires_grad]
            found = iter(torch.autograd.grad(output, wanted, grad) if wanted else ())
            return [next(found) if tensor.requires_grad else None for tensor in inputs]

        found = ctx.workers.map(run, ctx.outputs, ctx.inputs, grads)
        return (None, None, *(grad for part in found for grad in part))
