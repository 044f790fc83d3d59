"""Parts of a network that don't wait for each other, run side by side, forward and back.

Several threads make a small product hardly faster on a processor, as they wait for each other at its end. Two
chains of such products, each on threads of its own, wait once. Knows no network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

Result = TypeVar("Result")
Part = tuple[Callable[..., Tensor], tuple[Tensor, ...]]  # a function, and the tensors that it is called with


def side_by_side(*parts: Part) -> tuple[Tensor, ...]:
    """What each part gives, as if they had been called in turn; on a processor each has its share of threads.

    A gradient reaches the tensors of a part, and nothing else that its function reads. That must draw no
    random number: who would come first is not known. What comes out has a gradient, but that has none.
    """
    devices = {tensor.device.type for _, tensors in parts for tensor in tensors}
    if devices != {"cpu"} or torch.get_num_threads() < len(parts) or not torch.is_grad_enabled():
        return tuple(function(*tensors) for function, tensors in parts)
    functions = [(function, len(tensors)) for function, tensors in parts]
    outputs: tuple[Tensor, ...] = _SideBySide.apply(  # type: ignore[no-untyped-call]
        functions, *(tensor for _, tensors in parts for tensor in tensors))
    return outputs


class _SideBySide(Function):
    """Each part has a graph of its own, which its thread makes and goes back through."""

    @staticmethod
    def forward(
        ctx: Any, functions: list[tuple[Callable[..., Tensor], int]], *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        lower, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

        def run(function: Callable[..., Tensor], inputs: list[Tensor]) -> Tensor:
            with torch.enable_grad(), torch.autocast("cpu", dtype, enabled=lower):  # of each thread its own
                return function(*inputs)

        rest = iter([tensor.detach().requires_grad_(needed)
                     for tensor, needed in zip(tensors, ctx.needs_input_grad[1:], strict=True)])
        ctx.inputs = [[next(rest) for _ in range(count)] for _, count in functions]
        ctx.outputs = _at_once([partial(run, function, inputs) for (function, _), inputs
                                in zip(functions, ctx.inputs, strict=True)])
        return tuple(output.detach() for output in ctx.outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        def run(output: Tensor, inputs: list[Tensor], grad: Tensor) -> list[Tensor | None]:
            wanted = [tensor for tensor in inputs if tensor.requires_grad]
            found = iter(torch.autograd.grad(output, wanted, grad) if wanted else ())
            return [next(found) if tensor.requires_grad else None for tensor in inputs]

        parts = _at_once([partial(run, *part) for part in zip(ctx.outputs, ctx.inputs, grads, strict=True)])
        return (None, *(grad for part in parts for grad in part))


def _at_once(calls: Sequence[Callable[[], Result]]) -> list[Result]:
    """The results of calls, the first of which this thread makes, the others one worker each."""
    threads = torch.get_num_threads()
    share = threads // len(calls)
    others = [_workers(len(calls) - 1, share).submit(call) for call in calls[1:]]
    torch.set_num_threads(share)  # this thread's alone
    try:
        first = calls[0]()
    finally:
        torch.set_num_threads(threads)
    return [first, *(other.result() for other in others)]


@cache
def _workers(count: int, threads: int) -> ThreadPoolExecutor:
    """So many workers, each with so many of torch's threads."""
    return ThreadPoolExecutor(count, "part", torch.set_num_threads, (threads,))
