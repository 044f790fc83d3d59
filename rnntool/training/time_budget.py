"""How a training with a time limit divides its time: steps, evaluations, and at the end writing and report.

Knows durations, but neither networks nor records.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from rnntool.training.checkpoint import Progress

EVALUATION_SHARE = 0.02  # of all time: longest evaluation during the training
EVALUATIONS_SHARE = 0.2  # of the time so far: longest time for all evaluations
REPORT_SHARE = 0.15  # of all time: longest time to calibrate the model and to evaluate it at the end
MEASURING_SHARE = 0.0025  # of all time: enough to measure the speed of evaluations
_MARGIN = 1.1  # what is about to happen may take a little longer than it did before
_EXPORT_S, _EXPORTED_PARAMETERS_PER_S = 1.0, 1e7


@dataclass(frozen=True)
class TimeBudget:
    """The time of a training: `limit_s` seconds, or infinite, for a network of so many `parameters`."""

    limit_s: float
    parameters: int

    @property
    def limited(self) -> bool:
        """Whether there is a time limit."""
        return math.isfinite(self.limit_s)

    def total_s(self, progress: Progress) -> float:
        """Return the time from the first step to the end; at least half of the limit, if reading was slow."""
        return max(self.limit_s - progress.preparation_s, self.limit_s / 2)

    def report_s(self, progress: Progress) -> float:
        """Return the longest time to calibrate the model and to evaluate it at the end."""
        return REPORT_SHARE * self.total_s(progress)

    def steps_s(self, progress: Progress) -> float:
        """Return when steps must end, so that the last evaluation, report and writing still fit."""
        step_s = (progress.elapsed_s - progress.evaluations_s) / max(1, progress.step)
        report_s = min(progress.dev_report_s, self.report_s(progress))
        export_s = _EXPORT_S + self.parameters / _EXPORTED_PARAMETERS_PER_S
        total_s = self.total_s(progress)
        return max(total_s / 2, total_s - step_s - export_s - _MARGIN * (progress.evaluation_s + report_s))

    def may_evaluate(self, progress: Progress) -> bool:
        """Return whether another evaluation leaves most of the time to the steps."""
        evaluations_s = progress.evaluations_s + progress.evaluation_s
        return not self.limited or evaluations_s <= EVALUATIONS_SHARE * progress.elapsed_s
