"""Optimizers, learning-rate schedules, frozen parameters, and the moving average of weights."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rnntool.models.network import Network
from rnntool.tasks.specs.settings import Settings

PLATEAU_FACTOR = 0.5  # of the learning rate, after an evaluation without an improvement
ONE_CYCLE_RISE = 0.3  # share of the training in which the one-cycle schedule rises (Smith 2018)
ONE_CYCLE_START = 1 / 25  # factor of the highest learning rate


def depth_below_output(network: Network, name: str) -> int:
    """Count the layers from the output down to a parameter: 0 in the head, 1 in the top layer."""
    layers = len(network.encoder.layers)
    match name.split("."):
        case [_, "layers", index, *_]:  # of either direction's encoder
            return layers - int(index)
        case [_, "input", *_]:
            return layers + 1
    return 0


OPTIMIZERS: dict[str, Callable[[list[Any], Settings], torch.optim.Optimizer]] = {
    "adamw": lambda groups, settings: torch.optim.AdamW(
        groups, lr=settings.lr, betas=(0.9, 0.99), fused=True),
    "sgd": lambda groups, settings: torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum),
}


def make_optimizer(
    network: Network, settings: Settings, frozen: Frozen | None = None
) -> torch.optim.Optimizer:
    """Make an optimizer; each parameter group has an `lr_share`, its factor of the learning rate.

    Weight decay applies only to matrices. Embeddings are exempt because most of their rows get no gradient in
    a step, and partly frozen parameters because weight decay would change the frozen part.
    """
    no_decay = {m.weight for m in network.modules() if isinstance(m, nn.Embedding)}
    if frozen:
        no_decay |= {parameter for parameter, mask, _ in frozen.schedule if not mask.all()}
    members: defaultdict[tuple[int, bool], list[Tensor]] = defaultdict(list)
    for name, parameter in _trainable(network):  # tied weights come once
        depth = depth_below_output(network, name) if settings.lr_decay_by_layer != 1 else 0
        members[depth, parameter.dim() < 2 or parameter in no_decay].append(parameter)
    groups = [{"params": parameters, "weight_decay": 0.0 if exempt else settings.weight_decay,
               "lr_share": settings.lr_decay_by_layer ** -depth}
              for (depth, exempt), parameters in sorted(members.items(), key=lambda group: group[0])]
    return OPTIMIZERS[settings.optimizer](groups, settings)


def clip_gradient(network: nn.Module, max_norm: float) -> None:
    """Scale the gradient of all parameters down to `max_norm` if its norm is larger.

    `torch.nn.utils.clip_grad_norm_` multiplies by 1 even if the norm is smaller, which takes time.
    """
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    if norm > max_norm:
        nn.utils.clip_grads_with_norm_(network.parameters(), max_norm, norm)


SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
    "plateau": lambda progress: 1.0,  # the trainer applies PLATEAU_FACTOR
    "one-cycle": lambda progress: (
        ONE_CYCLE_START + (1 - ONE_CYCLE_START) * progress / ONE_CYCLE_RISE
        if progress < ONE_CYCLE_RISE
        else 0.5 * (1 + math.cos(math.pi * (progress - ONE_CYCLE_RISE) / (1 - ONE_CYCLE_RISE)))
    ),
}


def learning_rate_factor(settings: Settings, progress: float) -> float:
    """Return the factor of the highest learning rate, from 0 to 1, at a `progress` from 0 to 1."""
    progress = min(1.0, progress)
    if settings.schedule == "one-cycle":  # it has its own warm-up
        return SCHEDULES["one-cycle"](progress)
    if progress < settings.warmup:
        return progress / settings.warmup
    return SCHEDULES[settings.schedule]((progress - settings.warmup) / (1 - settings.warmup))


class Frozen:
    """Parameters that are frozen, for the whole training or until gradual unfreezing reaches their layer.

    `masks` has a bool tensor for some parameters, by name, that broadcasts to the parameter's shape: True
    elements are frozen, the others learn. Gradual unfreezing (Howard and Ruder 2018) unfreezes the top layer
    first, then another layer every `settings.unfreeze_every` epochs.
    """

    def __init__(self, network: Network, masks: Mapping[str, Tensor], settings: Settings) -> None:
        self.schedule: list[tuple[nn.Parameter, Tensor, float]] = []  # with its first epoch that isn't frozen
        for name, parameter in network.named_parameters():
            if name in masks:
                depth = depth_below_output(network, name)
                epoch = math.inf if settings.freeze else settings.unfreeze_every * depth
                self.schedule.append((parameter, masks[name], epoch))

    @contextmanager
    def without_gradient(self, epoch: int) -> Iterator[None]:
        """Compute gradients in this context to leave out what is frozen in `epoch` (from 0).

        Optimizers skip a parameter without a gradient. If only a part of a parameter is frozen, that part
        gets a gradient of 0, which changes nothing because the parameter has no weight decay.
        """
        frozen = [(parameter, mask) for parameter, mask, end in self.schedule if epoch < end]
        whole = [parameter for parameter, mask in frozen if mask.all()]
        for parameter in whole:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in whole:
                parameter.requires_grad_(True)
        for parameter, mask in frozen:
            if parameter.grad is not None:
                parameter.grad.masked_fill_(mask.to(parameter.device), 0)


class MovingAverage:
    """Exponential moving average of the trainable weights.

    The decay starts low and rises to `decay`, so that the random initial weights soon lose their influence.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = weights_of(network)

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Include the weights after training step `step` (from 1) in the average."""
        decay = min(self.decay, step / (10 + step))
        for name, parameter in _trainable(network):
            self.weights[name].lerp_(parameter, 1 - decay)

    @torch.no_grad()
    def swap(self, network: nn.Module) -> None:
        """Exchange the network's weights and the averages."""
        for name, parameter in _trainable(network):
            current = parameter.clone()
            parameter.copy_(self.weights[name])
            self.weights[name].copy_(current)


def weights_of(network: nn.Module, *, frozen: bool = False) -> dict[str, Tensor]:
    """Copy the trainable weights by name, tied ones once; with `frozen`, copy the others as well."""
    parameters = network.named_parameters() if frozen else _trainable(network)
    return {name: parameter.detach().clone() for name, parameter in parameters}


@torch.no_grad()
def set_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy weights into the network by name; only weights that aren't trainable may be missing."""
    for name, parameter in network.named_parameters():
        if parameter.requires_grad or name in weights:
            parameter.copy_(weights[name])


def _trainable(network: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad)
