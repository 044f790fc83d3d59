"""Choose the size of a language model by measuring how fast networks of several sizes train on this machine.

In a given time, a small network that sees its text often learns more than a large one that sees it once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import torch

from rnntool.data.progress import Log, Stage, duration
from rnntool.errors import setting
from rnntool.inference.torch_engine import to_tensors
from rnntool.models.network import Network
from rnntool.tasks.base import AnyTask
from rnntool.tasks.specs.settings import Settings
from rnntool.training.batching import Batches
from rnntool.training.loop import pick_precision
from rnntool.training.optimizers import make_optimizer

WIDTHS = (64, 96, 128, 192, 256, 320, 400, 512, 640)
FIRST_WIDTH = 256  # to be measured
# Training steps per unit of width after which a network has learned most of what it can. In the same time,
# networks that are half or twice as wide do about as well.
STEPS_PER_UNIT = {"sgd": 24, "adamw": 12}
ENOUGH_PASSES, MOST_PASSES = 30, 60
STEPS_SHARE = 0.8  # of the time, at least, is for steps
MEASURED_STEPS, MEASURED_S = 20, 0.5
CHARACTER_EMBEDDING = 128  # there are few characters, and larger vectors would not help
# The best dropout on streams of the Penn Treebank and of tiny Shakespeare: none up to three passes over the
# text, and 0.1 more for each time that the passes double.
PASSES_WITHOUT_DROPOUT, DROPOUT_PER_DOUBLING, MOST_DROPOUT = 3, 0.1, 0.5


@dataclass(frozen=True)
class Speed:
    """The seconds that a training step takes with a network of some width."""

    width: int
    step_s: float


def choose_size(
    task: AnyTask, batches: Batches, tokens: int, *, left_s: float, device: torch.device,
    build: Callable[[Settings], Network], watch: Callable[[Stage], None], say: Log,
) -> Settings:
    """Return the settings of a task with the sizes, dropout and epochs for a training of `left_s` seconds.

    It is the widest network that has time for its `STEPS_PER_UNIT` or for `ENOUGH_PASSES`, but no wider than
    what a text of so many `tokens` can fill. `build` makes a network.
    """
    settings: Settings = task.settings
    steps_s = STEPS_SHARE * left_s
    widths = [width for width in WIDTHS if width <= widest(tokens)] or [WIDTHS[0]]
    by_character = task.tokenizer.kind in ("char", "byte")

    def sized(width: int) -> Settings:
        embed = min(width, CHARACTER_EMBEDDING) if by_character else width
        return settings.replace(hidden=width, embed=embed)

    def speed(width: int) -> Speed:
        watch(Stage("measuring the speed", None, width, "units"))
        return Speed(width, _step_s(build(sized(width)), batches, sized(width), device))

    def needed_s(speed: Speed) -> float:
        steps = STEPS_PER_UNIT[settings.optimizer] * speed.width
        return speed.step_s * min(steps, ENOUGH_PASSES * len(batches))

    index = max(i for i, width in enumerate(widths) if width <= max(FIRST_WIDTH, widths[0]))
    chosen, wider = speed(widths[index]), None
    if needed_s(chosen) <= steps_s:
        while index + 1 < len(widths):
            index += 1
            wider = speed(widths[index])
            if needed_s(wider) > steps_s:
                break
            chosen, wider = wider, None
    else:
        while index and needed_s(chosen) > steps_s:
            index -= 1
            chosen, wider = speed(widths[index]), chosen
    passes = steps_s / chosen.step_s / len(batches)
    dropout = suitable_dropout(passes)
    most = max(MOST_PASSES, settings.epochs_for(len(batches)))
    # More epochs than estimated, in case the machine gets faster; the time limit stops the training.
    epochs = settings.epochs or min(most, math.ceil(passes / STEPS_SHARE))
    advice = ""
    if wider:
        minutes = math.ceil(needed_s(wider) / STEPS_SHARE / 60)
        advice = f"; {setting('max_time', f'{minutes}m')} is enough for {wider.width}"
    say(f"chosen for {duration(left_s)}: {chosen.width} units a layer, dropout {dropout:g}, and about "
        f"{min(passes, epochs):.1f} epochs{advice}")
    return sized(chosen.width).replace(dropout=dropout, dropout_between=dropout, epochs=epochs)


def widest(tokens: int) -> float:
    """Return the most units a layer that a text of so many tokens can make use of, by experience."""
    return 64.0 * math.cbrt(tokens / 1000)


def suitable_dropout(passes: float) -> float:
    """Return the dropout for so many passes over a text: the more often it is seen, the more is needed."""
    doublings = math.log2(max(passes, PASSES_WITHOUT_DROPOUT) / PASSES_WITHOUT_DROPOUT)
    return round(min(MOST_DROPOUT, DROPOUT_PER_DOUBLING * doublings), 2)


def _step_s(network: Network, batches: Batches, settings: Settings, device: torch.device) -> float:
    """Measure a training step: the mean of some, without the first one, which is slower."""
    network.to(device).train()
    optimizer, precision = make_optimizer(network, settings), pick_precision(settings, device)
    durations: list[float] = []
    for arrays in islice(batches.epoch(0), MEASURED_STEPS + 1):
        start = time.monotonic()
        with torch.autocast(device.type, precision, enabled=precision != torch.float32):
            loss, _ = network.loss(to_tensors(arrays, device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
        durations.append(time.monotonic() - start)
        if sum(durations[1:]) > MEASURED_S:
            break
    measured = durations[1:] or durations
    return sum(measured) / len(measured)
