"""Optimizers, learning rates over time, and the moving average of weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from rnntool.config import Settings

PLATEAU_FACTOR = 0.5
ONE_CYCLE_RISE = 0.3  # share of training in which the rate of one-cycle rises (Smith 2018)
ONE_CYCLE_START = 1 / 25


def make_optimizer(network: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """AdamW or SGD. Biases and embeddings don't decay: most rows of an embedding get no gradient a step."""
    embeddings = {id(m.weight) for m in network.modules() if isinstance(m, nn.Embedding)}
    decayed: list[Tensor] = []
    kept: list[Tensor] = []
    for parameter in network.parameters():  # tied weights come once
        if parameter.requires_grad:
            (kept if parameter.dim() < 2 or id(parameter) in embeddings else decayed).append(parameter)
    decays = ((decayed, settings.weight_decay), (kept, 0.0))
    groups = [{"params": parameters, "weight_decay": decay} for parameters, decay in decays if parameters]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.lr, betas=(0.9, 0.99), fused=True)
    return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum)


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
    if progress < settings.warmup:
        return progress / settings.warmup
    return SCHEDULES[settings.schedule]((progress - settings.warmup) / (1 - settings.warmup))


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
