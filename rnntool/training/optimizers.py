"""Optimizers, learning rates over time and by layer, weights that wait, and the moving average of weights."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from rnntool.models.network import Network
from rnntool.tasks.specs.settings import Settings

PLATEAU_FACTOR = 0.5
ONE_CYCLE_RISE = 0.3  # share of training in which the rate of one-cycle rises (Smith 2018)
ONE_CYCLE_START = 1 / 25


def depth(network: Network, name: str) -> int:
    """How far below the output a parameter is: 0 in the head, 1 in the top layer, and most in the input."""
    if not name.startswith(("encoder.", "back.")):
        return 0
    _, part, index, *_ = name.split(".")
    layers = len(network.encoder.layers)
    return layers - int(index) if part == "layers" else layers + 1


def make_optimizer(
    network: Network, settings: Settings, frozen: Frozen | None = None
) -> torch.optim.Optimizer:
    """AdamW or SGD. Biases and embeddings don't decay: most rows of an embedding get no gradient a step.
    Neither does what is partly frozen.

    A group of parameters has its share of the learning rate as `share`.
    """
    still = {m.weight for m in network.modules() if isinstance(m, nn.Embedding)}
    still |= {parameter for parameter, which, _ in frozen.until if not which.all()} if frozen else set()
    members: defaultdict[tuple[int, bool], list[Tensor]] = defaultdict(list)
    for name, parameter in _learned(network):  # tied weights come once
        kept = parameter.dim() < 2 or parameter in still
        down = depth(network, name) if settings.lr_decay_by_layer != 1 else 0
        members[down, kept].append(parameter)
    groups = [{"params": parameters, "weight_decay": 0.0 if kept else settings.weight_decay,
               "share": settings.lr_decay_by_layer ** -down}
              for (down, kept), parameters in sorted(members.items(), key=lambda group: group[0])]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.lr, betas=(0.9, 0.99), fused=True)
    return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum)


def clip(network: nn.Module, norm: float) -> None:
    """Scale the gradient to a norm where it is larger; most often it isn't, and then nothing is written."""
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    found = nn.utils.get_total_norm(gradients)
    if found > norm:
        nn.utils.clip_grads_with_norm_(network.parameters(), norm, found)


SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
    "plateau": lambda progress: 1.0,  # lowered by the loop when the dev score stays
    "one-cycle": lambda progress: (
        ONE_CYCLE_START + (1 - ONE_CYCLE_START) * progress / ONE_CYCLE_RISE
        if progress < ONE_CYCLE_RISE
        else 0.5 * (1 + math.cos(math.pi * (progress - ONE_CYCLE_RISE) / (1 - ONE_CYCLE_RISE)))
    ),
}


def rate(settings: Settings, progress: float) -> float:
    """Learning rate at a progress of 0 to 1, in units of the highest rate."""
    progress = min(1.0, progress)
    if settings.schedule == "one-cycle":  # which has a rise of its own
        return SCHEDULES["one-cycle"](progress)
    if progress < settings.warmup:
        return progress / settings.warmup
    return SCHEDULES[settings.schedule]((progress - settings.warmup) / (1 - settings.warmup))


class Frozen:
    """Weights that stay as they were carried over: for the whole training, or until it is their layer's turn.

    `kept` says of a parameter which of its numbers that holds for, by a bool that broadcasts to its shape;
    the others learn.
    """

    def __init__(self, network: Network, kept: Mapping[str, Tensor], settings: Settings) -> None:
        self.until: list[tuple[nn.Parameter, Tensor, float]] = []  # and the epoch in which they are free
        for name, parameter in network.named_parameters():
            if name in kept:
                until = math.inf if settings.freeze else settings.unfreeze_every * depth(network, name)
                self.until.append((parameter, kept[name], until))

    @contextmanager
    def hold(self, epoch: int) -> Iterator[None]:
        """Let no gradient of a step, which is computed inside, reach what isn't free in this epoch (from 0).

        A parameter without gradient is passed over by optimizers. Of one that is partly frozen that part has
        one of zero, which moves nothing as long as it doesn't decay.
        """
        held = [(parameter, which) for parameter, which, until in self.until if epoch < until]
        whole = [parameter for parameter, which in held if which.all()]
        for parameter in whole:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in whole:
                parameter.requires_grad_(True)
        for parameter, which in held:
            if parameter.grad is not None:
                parameter.grad.masked_fill_(which.to(parameter.device), 0)


class MovingAverage:
    """Exponential moving average of weights; early on it forgets faster, to leave the start behind."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = weights_of(network)

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take the weights after step `step` (from 1) in."""
        keep = min(self.decay, step / (10 + step))
        for name, parameter in _learned(network):
            self.weights[name].lerp_(parameter, 1 - keep)

    @torch.no_grad()
    def swap(self, network: nn.Module) -> None:
        """Exchange the network's weights and the averaged ones."""
        for name, parameter in _learned(network):
            learned = parameter.clone()
            parameter.copy_(self.weights[name])
            self.weights[name].copy_(learned)


def weights_of(network: nn.Module, *, frozen: bool = False) -> dict[str, Tensor]:
    """A copy of the learned weights by name, tied ones once; with `frozen` of those that stay too."""
    parameters = network.named_parameters() if frozen else _learned(network)
    return {name: parameter.detach().clone() for name, parameter in parameters}


@torch.no_grad()
def set_weights(network: nn.Module, weights: dict[str, Tensor]) -> None:
    """Put weights by name into the network; those that are not learned may be missing."""
    for name, parameter in network.named_parameters():
        if parameter.requires_grad or name in weights:
            parameter.copy_(weights[name])


def _learned(network: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad)
