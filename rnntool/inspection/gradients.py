"""The vanishing gradient: how much of a gradient is left k steps back, measured with exact Jacobians.

The gradient that reaches step t-k is the Jacobian of the last state h_t with respect to the input x_(t-k)
(Pascanu et al. 2013). The derivative by an earlier state would miss a part: a cell may have two states (an
LSTM has h and c), and only the gradient of the input contains the paths through both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rnntool.data.arrays import Arrays
from rnntool.data.progress import Counter
from rnntool.inference.torch_engine import to_tensors
from rnntool.models.layers import RecurrentLayer
from rnntool.models.network import Network
from rnntool.tasks.base import AnyTask

VANISHED = 0.01  # a gradient counts as vanished if less than this share of it is left

States = Callable[[Tensor], Tensor]  # (T, B, I) to (T, B, D), with independent rows B


def jacobian_norms(states: States, x: Tensor) -> NDArray[np.float64]:
    """Return the Frobenius norm of dh_t / dx_(t-k) for k = 0 … T-1, (T,), of one text `x` (T, 1, I).

    One backward pass gives all D rows of each Jacobian: the text is copied D times, and from copy i element i
    of the last state is differentiated.
    """
    with torch.no_grad():
        size = states(x[:1]).shape[-1]
    copies = x.detach().expand(-1, size, -1).contiguous().requires_grad_()  # (T, D, I)
    last = states(copies)[-1]  # (D, D)
    (jacobian,) = torch.autograd.grad(last.diagonal().sum(), copies)  # (T, D, I)
    norms: NDArray[np.float64] = jacobian.flatten(1).double().norm(dim=1).flip(0).numpy()
    return norms


def remaining_shares(norms: Iterable[NDArray[np.float64]]) -> list[float]:
    """Return the share of the gradient at k = 0 that is left at each k: the geometric mean over texts.

    Texts may differ in length. The mean at each k is over the texts that are long enough.
    """
    with np.errstate(divide="ignore"):  # log(0) is -inf, and exp(-inf) is 0 again
        curves = [np.log(row / row[0]) for row in norms if row[0] > 0]
    longest = max(map(len, curves), default=0)
    return [float(np.exp(np.mean([curve[k] for curve in curves if len(curve) > k]))) for k in range(longest)]


def vanishing_step(shares: Sequence[float]) -> int | None:
    """Return the first k at which less than 1 % of the gradient is left; None if more is left at every k."""
    return next((k for k, share in enumerate(shares) if share < VANISHED), None)


def cell_gradients(
    cell: str, *, size: int, steps: int, texts: int, seed: int, done: Counter | None = None
) -> list[float]:
    """Return `remaining_shares` of a newly initialized layer of `size` units that reads normal noise.

    `done` counts the texts.
    """
    norms = []
    with torch.random.fork_rng(devices=[]):
        for text in range(texts):
            torch.manual_seed((seed << 32) + text)
            layer = RecurrentLayer(cell, size, size, bidirectional=False)
            norms.append(jacobian_norms(_stacked([layer]), torch.randn(steps + 1, 1, size)))
            if done:
                done.add()
    return remaining_shares(norms)


def network_gradients(
    network: Network, batches: Iterable[Arrays], *, steps: int, done: Counter | None = None
) -> list[float]:
    """Return `remaining_shares` of an encoder, from the input of its first layer to its last layer's states.

    Each batch is one text; the network reads at most its first `steps` + 1 tokens. In a bidirectional layer
    the states of both directions at the last step count. `done` counts the texts.
    """
    encoder = network.encoder.eval()
    states, device = _stacked(encoder.layers), torch.device("cpu")
    norms = []
    for arrays in batches:
        norms.append(jacobian_norms(states, encoder.input(to_tensors(arrays, device))[: steps + 1]))
        if done:
            done.add()
    return remaining_shares(norms)


def text_batches(task: AnyTask, records: Iterable[Any], *, steps: int, count: int) -> Iterator[Arrays]:
    """Yield the first `count` texts of at least 2 time steps, each as a batch of its own.

    If the task carries the state from record to record, the texts are pieces of the stream, `steps` + 1 long.
    """
    examples: Iterator[Any] = map(task.example, records)
    if task.carries_state:
        examples = _pieces(examples, steps + 1)
    for example in islice((example for example in examples if task.length(example) > 1), count):
        yield task.collate([example])


def _pieces(examples: Iterable[NDArray[Any]], size: int) -> Iterator[NDArray[Any]]:
    """Cut a stream of examples (n,) into pieces of one size; only the last piece may be shorter."""
    rest: NDArray[Any] = np.zeros(0, np.int32)
    for example in examples:
        rest = np.concatenate([rest, example])
        while len(rest) >= size:
            yield rest[:size]
            rest = rest[size:]
    yield rest


def _stacked(layers: Iterable[nn.Module]) -> States:
    """Return the function from the input of stacked layers to the states of the last layer."""

    def states(x: Tensor) -> Tensor:
        lengths = torch.full((x.shape[1],), len(x), dtype=torch.int32)
        for layer in layers:
            x, _ = layer(x, lengths)
        return x

    return states
