"""The training loop: steps, evaluations, the best weights, checkpoints, and the time limit.

Knows neither files nor the encoding of the data.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rnntool.data.arrays import Arrays
from rnntool.data.progress import Stage
from rnntool.errors import RnntoolError, UsageError, setting
from rnntool.inference.torch_engine import TorchEngine, to_tensors
from rnntool.models.layers import RecurrentLayer
from rnntool.models.network import Network, count_parameters
from rnntool.tasks.base import AnyTask, Engine
from rnntool.tasks.specs.settings import Settings
from rnntool.training.batching import Batches
from rnntool.training.checkpoint import Checkpoint, Progress
from rnntool.training.dev_loss import mean_loss
from rnntool.training.optimizers import (
    PLATEAU_FACTOR,
    Frozen,
    MovingAverage,
    clip_gradient,
    learning_rate_factor,
    make_optimizer,
    set_weights,
    weights_of,
)
from rnntool.training.time_budget import EVALUATION_SHARE, MEASURING_SHARE, TimeBudget
from rnntool.training.watched_engine import WatchedEngine

CHECKPOINT_EVERY_S = 60.0
_SMALLEST_SAMPLE = 1 / 256  # of the development data, to measure the speed of evaluations


class Interrupted(RnntoolError):
    """A signal stopped the training."""

    has_model = False  # whether the best weights so far were written as a model

    def __init__(self, signal: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal


@dataclass(frozen=True, kw_only=True)
class Step:
    """What is reported after each training step."""

    progress: Progress
    total_steps: int
    share: float  # of the whole training that is done, from 0 to 1
    loss: float  # nats
    tokens_per_s: float
    left_s: float  # estimated time to the end
    timed: bool = False  # whether the training has a time limit, so that `share` grows with the time
    evaluation: dict[str, Any] | None = None  # the entry of metrics.jsonl, if this step ended with one
    training: str = ""  # which of several trainings this is: `fold 2 of 5`


def pick_precision(settings: Settings, device: torch.device) -> torch.dtype:
    """Pick float32 or bfloat16; `auto` takes bfloat16 on hardware that multiplies in it.

    `UsageError` if bfloat16 was requested and torch can't compute the cell in it on this processor.
    """
    if settings.precision == "auto":
        if device.type == "cuda":
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            capabilities = torch.cpu.get_capabilities() if device.type == "cpu" else {}
            fast = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
        return torch.bfloat16 if fast else torch.float32
    if settings.precision == "bf16" and device.type == "cpu":
        _check_bf16(settings)
    return torch.bfloat16 if settings.precision == "bf16" else torch.float32


def _check_bf16(settings: Settings) -> None:
    """Raise `UsageError` if a layer can't run in bfloat16, such as an LSTM on processors without AVX-512."""
    try:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            layer = RecurrentLayer(settings.cell, 8, 8, bidirectional=False)
            layer(torch.zeros(1, 1, 8), torch.ones(1, dtype=torch.int32))
    except RuntimeError:
        raise UsageError(
            f"torch can't compute {setting('cell', settings.cell)} in bfloat16 on this processor",
            setting="precision", advice=f"leave out {setting('precision', 'bf16')}") from None


class Trainer:
    """Trains a network on batches and keeps the weights that score best on the `dev` records.

    Checkpoints are written to `folder`. `watch` receives each step. `stopping` returns the number of a signal
    that was received, or None.
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
        watch: Callable[[Step | Stage], None],
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
        self.total_steps = self.epochs * len(batches)
        self.state = Checkpoint(
            Progress(), self.network, make_optimizer(self.network, settings, frozen),
            MovingAverage(self.network, settings.ema) if settings.ema else None,
        )
        self.budget = TimeBudget(settings.time_limit or math.inf, count_parameters(network))
        self.dev_sample: Sequence[Any] | None = None  # what evaluations use; drawn before the first one
        evaluations = range(1, settings.evaluations + 1)
        self.evaluate_at = {round(k * len(batches) / settings.evaluations) for k in evaluations}

    def resume(self) -> None:
        """Continue from the checkpoint in the folder."""
        self.state.load(self.folder)
        if self.state.stream_states is not None:
            self.state.stream_states = [
                tuple(tensor.to(self.device) for tensor in state) for state in self.state.stream_states]

    def run(self) -> Progress:
        """Train to the end; the network then has the best weights.

        After a signal, writes a checkpoint and raises `Interrupted`; see `use_best_weights`.
        """
        progress = self.state.progress
        self._stop_if_signaled()
        start = time.monotonic() - progress.elapsed_s
        saved_at = time.monotonic()
        self.network.train()
        for arrays in self._remaining_batches():
            step_start = time.monotonic()
            loss = self._step(arrays)
            progress.elapsed_s = time.monotonic() - start
            tokens = int(arrays["lengths"].sum())
            progress.tokens += tokens
            tokens_per_s = tokens / max(1e-9, time.monotonic() - step_start)
            evaluation = None
            due = progress.batch in self.evaluate_at and self.budget.may_evaluate(progress)
            over = self._budget_spent()
            if due or over:
                evaluation = self._evaluate()
                progress.elapsed_s = time.monotonic() - start  # now the time may be over
            self.watch(Step(progress=progress, total_steps=self.total_steps, share=self._share_shown(),
                            loss=loss, tokens_per_s=tokens_per_s, left_s=self._left_s(),
                            timed=self.budget.limited, evaluation=evaluation))
            if progress.batch == len(self.batches):
                progress.epoch, progress.batch, self.state.stream_states = progress.epoch + 1, 0, None
            if over or self._finished():
                break
            if time.monotonic() - saved_at > CHECKPOINT_EVERY_S:
                self.state.save(self.folder)
                saved_at = time.monotonic()
            self._stop_if_signaled(save=True)
        self._check_weights()
        self.state.save(self.folder)  # because writing the model may be interrupted
        self._stop_if_signaled()
        self.use_best_weights()
        return progress

    def finish(self) -> Progress:
        """End the training where it is: evaluate the last weights, and give the network the best ones."""
        if self.state.progress.loss_steps:
            self._evaluate()
        self._check_weights()
        self.use_best_weights()
        return self.state.progress

    def use_best_weights(self) -> None:
        """Give the network the best weights so far; the last ones if there was no evaluation."""
        if self.state.best_weights:
            set_weights(self.network, self.state.best_weights)
        elif self.state.average:
            self.state.average.swap(self.network)

    def _stop_if_signaled(self, *, save: bool = False) -> None:
        """Raise `Interrupted` if a signal was received; with `save`, write a checkpoint first."""
        signal = self.stopping()
        if signal is None:
            return
        if save:
            self.state.save(self.folder)
        step = self.state.progress.step
        raise Interrupted(signal, f"stopped after step {step} of {self.total_steps}; saved")

    def _finished(self) -> bool:
        """Return whether the training is over: no steps or time left, or no more improvement."""
        patience = self.settings.patience
        return self._budget_spent() or bool(patience and self.state.progress.stale_evaluations >= patience)

    def _remaining_batches(self) -> Iterator[Arrays]:
        progress = self.state.progress
        while progress.epoch < self.epochs and not self._finished():
            yield from self.batches.epoch(progress.epoch, start=progress.batch)

    def _step(self, arrays: Arrays) -> float:
        """Make one training step and return its loss in nats."""
        progress, settings, optimizer = self.state.progress, self.settings, self.state.optimizer
        # dropout depends only on the seed and the step, so a checkpoint needs no random state
        torch.manual_seed((settings.seed << 32) + progress.step)
        lr = self._learning_rate()
        for group in optimizer.param_groups:
            group["lr"] = lr * group["lr_share"]
        self.network.head.progress = min(1.0, self._share_done())
        with self.frozen.without_gradient(progress.epoch) if self.frozen else nullcontext():
            with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
                loss, final_states = self.network.loss(
                    to_tensors(arrays, self.device), self.state.stream_states)
            loss_nats = loss.item()
            if not math.isfinite(loss_nats):
                raise self._diverged(f"the loss became {loss_nats} at step {progress.step + 1}")
            optimizer.zero_grad()
            loss.backward()
        if settings.clip:
            clip_gradient(self.network, settings.clip)
        optimizer.step()
        if self.batches.carries_state:
            self.state.stream_states = [tuple(part.detach() for part in state) for state in final_states]
        progress.step += 1
        progress.batch += 1
        progress.loss_sum += loss_nats
        progress.loss_steps += 1
        if self.state.average:
            self.state.average.update(self.network, progress.step)
        return loss_nats

    def _learning_rate(self) -> float:
        """Return the learning rate of the next step, which is that of the schedule in its middle."""
        factor = learning_rate_factor(self.settings, self._share_done(steps_ahead=0.5))
        return self.settings.lr * factor * self.state.progress.plateau_factor

    def _share_done(self, steps_ahead: float = 0.0) -> float:
        """Return the completed share of the training, in steps or in time, whichever is larger."""
        progress = self.state.progress
        share = (progress.step + steps_ahead) / self.total_steps
        return max(share, progress.elapsed_s / self.budget.steps_s(progress))

    def _budget_spent(self) -> bool:
        """Return whether all steps are done or the time is over."""
        return self._share_done() >= 1.0

    def _left_s(self) -> float:
        progress = self.state.progress
        left_s = progress.elapsed_s * (self.total_steps - progress.step) / max(1, progress.step)
        return max(0.0, min(left_s, self.budget.total_s(progress) - progress.elapsed_s))

    def _share_shown(self) -> float:
        """Return the share of the steps or of all time, whichever is larger; time includes the writing."""
        progress = self.state.progress
        time_share = progress.elapsed_s / self.budget.total_s(progress)
        return min(1.0, max(progress.step / self.total_steps, time_share))

    # --- Evaluations -------------------------------------------------------------------------------------

    def measure_evaluations(self) -> None:
        """Under a time limit, measure evaluations, and choose the share of the dev records that they use."""
        progress = self.state.progress
        if not self.dev or not self.budget.limited:
            return
        total_s = self.budget.total_s(progress)
        engine = self._engine("measuring the speed")
        enough_s = MEASURING_SHARE * total_s
        progress.dev_score_s = self._duration(lambda records: self._scores(engine, records), enough_s)
        progress.dev_report_s = self._report_duration(enough_s) + progress.dev_score_s
        progress.dev_share = min(1.0, EVALUATION_SHARE * total_s / progress.dev_score_s)
        progress.evaluation_s = progress.dev_score_s * progress.dev_share

    def report_records(self) -> tuple[Sequence[Any], float]:
        """Return the records for the final report, and their share: as many as there is time for."""
        if not self.dev or not self.budget.limited:
            return self.dev, 1.0
        return self.records_within(self.budget.report_s(self.state.progress))

    def records_within(self, seconds: float) -> tuple[Sequence[Any], float]:
        """Draw dev records that take this long to calibrate and to evaluate; also return their share."""
        if not self.dev:
            return self.dev, 1.0
        full_s = self.state.progress.dev_report_s or 2 * self._report_duration(seconds / 20)
        return self.task.sample(self.dev, min(1.0, seconds / full_s))

    def _report_duration(self, enough_s: float) -> float:
        engine = self._engine("measuring the speed")
        return self._duration(lambda records: self.task.evaluate(engine, records), enough_s)

    def _duration(self, work: Callable[[Sequence[Any]], object], enough_s: float) -> float:
        """Estimate how long work with all dev records takes, from a sample that takes long enough."""
        share = _SMALLEST_SAMPLE
        work(self.task.sample(self.dev, share)[0])  # the first call is slower
        while True:
            records, exact_share = self.task.sample(self.dev, share)
            start = time.monotonic()
            work(records)
            seconds = time.monotonic() - start
            if exact_share >= 1 or seconds >= enough_s:
                return max(1e-9, seconds / exact_share)
            share = min(1.0, 2 * share)

    def _engine(self, name: str) -> WatchedEngine:
        return WatchedEngine(TorchEngine(self.network, self.device), name, self.watch)

    def _evaluate(self) -> dict[str, Any]:
        """Score the dev records, keep the weights if they are the best, and record the results."""
        self._check_weights()
        progress = self.state.progress
        start = time.monotonic()
        entry: dict[str, Any] = {
            "epoch": round(progress.epoch + progress.batch / len(self.batches), 3),
            "step": progress.step,
            "loss": progress.loss_sum / max(1, progress.loss_steps),
            "lr": self._learning_rate(),
        }
        if self.dev:
            entry |= self._score_dev()
        progress.evaluation_s = time.monotonic() - start
        progress.evaluations_s += progress.evaluation_s
        if progress.dev_score_s:  # other programs may make the machine slower or faster
            score_s = progress.evaluation_s / progress.dev_share
            progress.dev_report_s *= score_s / progress.dev_score_s
            progress.dev_score_s = score_s
        entry |= {"seconds": round(progress.elapsed_s + progress.evaluation_s, 3), "tokens": progress.tokens}
        progress.loss_sum, progress.loss_steps = 0.0, 0
        progress.history.append(entry)
        return entry

    def _score_dev(self) -> dict[str, float]:
        """Score the dev records, with the averaged weights if there are any.

        The weights are kept if they are better than all before, or as good: among equals, those that learned
        longer are the better choice.
        """
        progress, average = self.state.progress, self.state.average
        if average:
            average.swap(self.network)
        if self.dev_sample is None:
            self.dev_sample, _ = self.task.sample(self.dev, progress.dev_share)
        scores = self._scores(self._engine("evaluating"), self.dev_sample)
        score = self.task.selection_score(scores)
        criterion, best = self.task.criterion, progress.best
        is_better = criterion.is_better(score, best)
        if is_better or (best is not None and criterion.is_as_good(score, best, len(self.dev_sample))):
            self.state.best_weights = weights_of(self.network)
        if is_better:
            progress.best, progress.stale_evaluations = score, 0
        else:
            progress.stale_evaluations += 1
            if self.settings.schedule == "plateau":
                progress.plateau_factor *= PLATEAU_FACTOR
        if average:
            average.swap(self.network)
        return scores

    def _scores(self, engine: Engine, records: Sequence[Any]) -> dict[str, float]:
        """Compute the metrics of the task, and the loss if none of them follows from it."""
        scores = self.task.score(engine, records)
        if not self.task.scores_loss:
            scores["dev_loss"] = mean_loss(self.network, self.task, records, self.device)
        return scores

    def _check_weights(self) -> None:
        """Raise `RnntoolError` if weights are not finite; the loss of the last step doesn't show that."""
        if not all(bool(weights.isfinite().all()) for weights in self.network.parameters()):
            raise self._diverged(f"the weights became infinite at step {self.state.progress.step}")

    def _diverged(self, problem: str) -> RnntoolError:
        """Make the error for a diverged training; the advice depends on whether gradients are clipped."""
        clipping = setting("clip") if self.settings.clip else f"clip gradients with {setting('clip', 1)}"
        return RnntoolError(problem, advice=f"lower {setting('lr')} or {clipping}")
