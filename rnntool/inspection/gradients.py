"""How much of a gradient is left k steps back: the vanishing gradient, measured by exact Jacobians.

The gradient that reaches step t-k is that of the last state h_t by the input x_(t-k). By the input and not
by a state, because a cell may have two ways into the past (h and c of an LSTM), and the gradient of the input
comes by both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rnntool.data.arrays import Arrays
from rnntool.inference.torch_engine import to_tensors
from rnntool.models.encoder import Layer
from rnntool.models.network import Network

States = Callable[[Tensor], Tensor]  # (T, B, I) to (T, B, D), each row of the batch for itself


def jacobian_norms(states: States, x: Tensor) -> NDArray[np.float64]:
    """The Frobenius norm of dh_t / dx_(t-k) for k = 0 … T-1, (T,), of one text `x` (T, 1, I).

    The D gradients of the last state are had in one pass: of D equal rows, row i is asked for number i.
    """
    with torch.no_grad():
        size = states(x[:1]).shape[-1]
    rows = x.detach().expand(-1, size, -1).contiguous().requires_grad_()  # (T, D, I)
    last = states(rows)[-1]  # (D, D)
    (jacobian,) = torch.autograd.grad(last.diagonal().sum(), rows)  # (T, D, I)
    norms: NDArray[np.float64] = jacobian.flatten(1).double().norm(dim=1).flip(0).numpy()
    return norms


def shrinking(norms: Iterable[NDArray[np.float64]]) -> list[float]:
    """What is left after k steps of a gradient that is 1 at k = 0: the geometric mean over texts.

    Texts may differ in length; those that are too short for a k don't count there.
    """
    with np.errstate(divide="ignore"):  # of a gradient that is gone nothing is left: exp(-inf)
        curves = [np.log(row / row[0]) for row in norms if row[0] > 0]
    longest = max(map(len, curves), default=0)
    return [float(np.exp(np.mean([curve[k] for curve in curves if len(curve) > k]))) for k in range(longest)]


def of_cell(name: str, *, size: int, steps: int, texts: int, seed: int) -> list[float]:
    """`shrinking` of a layer of `size` units as training begins with it, over normal noise of that size."""
    norms = []
    with torch.random.fork_rng(devices=[]):
        for text in range(texts):
            torch.manual_seed((seed << 32) + text)
            layer = Layer(name, size, size, bidirectional=False)
            norms.append(jacobian_norms(_through([layer]), torch.randn(steps + 1, 1, size)))
    return shrinking(norms)


def of_network(network: Network, texts: Iterable[Arrays]) -> list[float]:
    """`shrinking` of a whole encoder, from its last layer to what it reads, over texts that are a batch each.

    Of a layer of two directions, both are asked, at the last word.
    """
    encoder = network.encoder.eval()
    states = _through(encoder.layers)
    return shrinking(
        jacobian_norms(states, encoder.input(to_tensors(arrays, torch.device("cpu")))) for arrays in texts)


def _through(layers: Iterable[nn.Module]) -> States:
    """The last layer's states."""

    def states(x: Tensor) -> Tensor:
        lengths = torch.full((x.shape[1],), len(x), dtype=torch.int32)
        for layer in layers:
            x, _ = layer(x, lengths)
        return x

    return states
