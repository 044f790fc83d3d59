"""The training loop, one for all tasks: steps, evaluations, the best weights, and stopping in time.

Knows arrays and losses; which task it trains and where its files lie is not its business.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rnntool.data.arrays import Arrays
from rnntool.errors import RnntoolError, UsageError
from rnntool.inference.torch_engine import TorchEngine, to_tensors
from rnntool.models.encoder import Layer
from rnntool.models.network import Network
from rnntool.tasks.base import AnyTask
from rnntool.tasks.specs.settings import Settings
from rnntool.training.batching import Batches
from rnntool.training.checkpoint import Checkpoint, Progress
from rnntool.training.optimizers import (
    PLATEAU_FACTOR,
    Frozen,
    MovingAverage,
    clip,
    make_optimizer,
    rate,
    set_weights,
    weights_of,
)

SAVE_EVERY_S = 60.0  # also saved when stopped
_EVALUATION_SHARE = 1.1  # time kept back for the evaluation at the end of --max-time, and a little more


class Interrupted(RnntoolError):
    """Training was stopped by a signal and saved its state."""

    def __init__(self, signal: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a step tells whoever watches."""

    progress: Progress
    steps: int  # of the whole training
    loss: float
    tokens_per_s: float
    left_s: float
    evaluation: dict[str, Any] | None = None  # the entry of metrics.jsonl, after an evaluation


def pick_precision(settings: Settings, device: torch.device) -> torch.dtype:
    """bfloat16 where it is asked for, or where the processor multiplies in it; float32 otherwise."""
    if settings.precision == "auto":
        if device.type == "cuda":
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            found = torch.cpu.get_capabilities() if device.type == "cpu" else {}
            fast = bool(found.get("avx512_bf16") or found.get("amx_bf16") or found.get("bf16"))
        return torch.bfloat16 if fast else torch.float32
    if settings.precision == "bf16" and device.type == "cpu":
        _check_bf16(settings)
    return torch.bfloat16 if settings.precision == "bf16" else torch.float32


def _check_bf16(settings: Settings) -> None:
    """`UsageError` where torch has no layers in bfloat16 for this processor, as for LSTMs without AVX-512."""
    try:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            layer, ended = Layer(settings.cell, 8, 8, bidirectional=False), torch.ones(1, dtype=torch.int32)
            layer(torch.zeros(1, 1, 8), ended)
    except RuntimeError:
        raise UsageError(f"--precision bf16: expected a processor on which torch has --cell {settings.cell} in "
                         "bfloat16, found one on which it hasn't; leave it out") from None


class Trainer:
    """Trains a network on batches and keeps the weights that do best on `dev` records.

    `folder` takes the checkpoints. `watch` is told of each step; `stopping` gives the number of a signal that
    arrived, or None. What is `frozen` learns later or not at all.
    """

    def __init__(
        self,
        task: AnyTask,
        network: Network,
        batches: Batches,
        dev: Sequence[Any],
        settings: Settings,
        *,
        device: torch.device,
        folder: Path,
        watch: Callable[[Step], None],
        stopping: Callable[[], int | None],
        frozen: Frozen | None = None,
    ) -> None:
        self.task = task
        self.network = network.to(device)
        self.batches = batches
        self.dev = dev
        self.settings = settings
        self.device = device
        self.folder = folder
        self.watch = watch
        self.stopping = stopping
        self.frozen = frozen
        self.precision = pick_precision(settings, device)
        self.epochs = settings.epochs_for(len(batches))
        self.steps = self.epochs * len(batches)
        self.state = Checkpoint(
            Progress(), self.network, make_optimizer(self.network, settings, frozen),
            MovingAverage(self.network, settings.ema) if settings.ema else None,
        )
        shares = range(1, settings.evaluations + 1)
        self.evaluate_at = {round(k * len(batches) / settings.evaluations) for k in shares}

    def resume(self) -> None:
        """Go on from the checkpoint in the folder."""
        self.state.load(self.folder)
        self.state.stream = self._to_device(self.state.stream)

    def run(self) -> Progress:
        """Train to the end; the network then holds the best weights.

        Raises `Interrupted` after a signal, when there is a checkpoint to go on from.
        """
        progress = self.state.progress
        self._leave_if_asked()
        started = time.monotonic() - progress.elapsed_s
        saved_at = time.monotonic()
        self.network.train()
        for arrays in self._remaining():
            began = time.monotonic()
            loss = self._step(arrays)
            progress.elapsed_s = time.monotonic() - started
            tokens = int(arrays["lengths"].sum())
            progress.tokens += tokens
            speed = tokens / max(1e-9, time.monotonic() - began)
            entry = None
            if progress.batch in self.evaluate_at or self._ended():
                entry = self._evaluate()
                progress.elapsed_s = time.monotonic() - started  # there may be none left for another step
            self.watch(Step(progress=progress, steps=self.steps, loss=loss, tokens_per_s=speed,
                            left_s=self._left_s(), evaluation=entry))
            if progress.batch == len(self.batches):
                progress.epoch, progress.batch, self.state.stream = progress.epoch + 1, 0, None
            if self._done():
                break
            if time.monotonic() - saved_at > SAVE_EVERY_S:
                self.state.save(self.folder)
                saved_at = time.monotonic()
            self._leave_if_asked(save=True)
        self._check_weights()
        self.state.save(self.folder)  # the model is yet to be written
        self._leave_if_asked()
        if self.state.best_weights:
            set_weights(self.network, self.state.best_weights)
        elif self.state.average:
            self.state.average.swap(self.network)
        return progress

    def _leave_if_asked(self, *, save: bool = False) -> None:
        """Raise `Interrupted` where a signal came."""
        signal = self.stopping()
        if signal is None:
            return
        if save:
            self.state.save(self.folder)
        raise Interrupted(signal, f"stopped after step {self.state.progress.step} of {self.steps}; saved")

    def _done(self) -> bool:
        """Whether no step is left, no time, or no patience."""
        patience = self.settings.patience
        return self._ended() or bool(patience and self.state.progress.stale >= patience)

    def _remaining(self) -> Iterator[Arrays]:
        progress = self.state.progress
        while progress.epoch < self.epochs and not self._done():
            yield from self.batches.epoch(progress.epoch, start=progress.batch)

    def _step(self, arrays: Arrays) -> float:
        """One step of learning; its loss in nats."""
        progress, settings, optimizer = self.state.progress, self.settings, self.state.optimizer
        # Dropout depends on the seed and the step alone, so nothing random has to be kept in a checkpoint.
        torch.manual_seed((settings.seed << 32) + progress.step)
        lr = self._rate()
        for group in optimizer.param_groups:
            group["lr"] = lr * group["share"]
        with self.frozen.hold(progress.epoch) if self.frozen else nullcontext():
            with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
                loss, ends = self.network.loss(to_tensors(arrays, self.device), self.state.stream)
            value = loss.item()
            if value != value or value in (float("inf"), float("-inf")):
                raise RnntoolError(
                    f"the loss became {value} at step {progress.step + 1}; lower --lr or --clip")
            optimizer.zero_grad()
            loss.backward()
        if settings.clip:
            clip(self.network, settings.clip)
        optimizer.step()
        if self.batches.carries_state:
            self.state.stream = [tuple(part.detach() for part in state) for state in ends]
        progress.step += 1
        progress.batch += 1
        progress.loss_sum += value
        progress.loss_steps += 1
        if self.state.average:
            self.state.average.update(self.network, progress.step)
        return value

    def _rate(self) -> float:
        """The learning rate of the next step: what the schedule has in the middle of it."""
        return self.settings.lr * rate(self.settings, self._share(0.5)) * self.state.progress.plateau

    def _share(self, ahead: float = 0.0) -> float:
        """How much of the training is done `ahead` steps from now: by steps or by time, the larger one."""
        progress = self.state.progress
        share = (progress.step + ahead) / self.steps
        return max(share, progress.elapsed_s / self._time_s()) if self.settings.max_time else share

    def _time_s(self) -> float:
        """Seconds of --max-time that are for steps, at least one."""
        assert self.settings.max_time is not None
        return max(1.0, self.settings.max_time - _EVALUATION_SHARE * self.state.progress.evaluation_s)

    def _ended(self) -> bool:
        return self._share() >= 1.0

    def _left_s(self) -> float:
        progress = self.state.progress
        left = progress.elapsed_s * (self.steps - progress.step) / max(1, progress.step)
        if self.settings.max_time:
            left = min(left, self.settings.max_time - progress.elapsed_s)
        return max(0.0, left)

    def _evaluate(self) -> dict[str, Any]:
        """Score the dev records, keep the weights if they are the best, and note the figures."""
        self._check_weights()
        progress, settings = self.state.progress, self.settings
        began = time.monotonic()
        entry: dict[str, Any] = {
            "epoch": round(progress.epoch + progress.batch / len(self.batches), 3),
            "step": progress.step,
            "loss": progress.loss_sum / max(1, progress.loss_steps),
            "lr": self._rate(),
        }
        if self.dev:
            criterion = self.task.criterion
            if self.state.average:
                self.state.average.swap(self.network)
            scores = self.task.score(TorchEngine(self.network, self.device), self.dev)
            entry |= scores
            score = next(iter(scores.values()))
            if criterion.better(score, progress.best):
                progress.best, progress.best_step, progress.stale = score, progress.step, 0
                self.state.best_weights = weights_of(self.network)
            else:
                progress.stale += 1
                if settings.schedule == "plateau":
                    progress.plateau *= PLATEAU_FACTOR
            if self.state.average:
                self.state.average.swap(self.network)
        progress.evaluation_s = time.monotonic() - began
        entry |= {"seconds": round(progress.elapsed_s + progress.evaluation_s, 3), "tokens": progress.tokens}
        progress.loss_sum, progress.loss_steps = 0.0, 0
        progress.history.append(entry)
        return entry

    def _check_weights(self) -> None:
        """Refuse weights that the last step has spoiled, as its own loss can't tell."""
        if not all(bool(weights.isfinite().all()) for weights in self.network.parameters()):
            raise RnntoolError(
                f"the weights became infinite at step {self.state.progress.step}; lower --lr or --clip")

    def _to_device(self, stream: list[tuple[Tensor, ...]] | None) -> list[tuple[Tensor, ...]] | None:
        return stream and [tuple(part.to(self.device) for part in state) for state in stream]
