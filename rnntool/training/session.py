"""What all trainings of a command share: the hardware, and who hears of their progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rnntool.data.progress import Log, Stage
from rnntool.training.loop import Step


@dataclass(frozen=True, kw_only=True)
class Session:
    """`watch` receives steps and stages, `log` details, and `warn` what every user should see.

    `stopping` returns the signal that the command received, if any.
    """

    device: str = "auto"
    threads: int = 0
    watch: Callable[[Step | Stage], None]
    stopping: Callable[[], int | None]
    log: Log
    warn: Log
