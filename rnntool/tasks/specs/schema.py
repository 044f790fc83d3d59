"""Settings by task name; for the commands alone, until these use the specs."""

from __future__ import annotations

from typing import Any

from rnntool.tasks import TASKS
from rnntool.tasks.specs import resolve as resolving
from rnntool.tasks.specs.settings import CELL_NAMES, MAX_SEED, Settings, WordSettings

__all__ = ["CELL_NAMES", "MOST_SEED", "SETTINGS", "Settings", "WordSettings", "flag", "resolve", "variable"]

MOST_SEED = MAX_SEED
SETTINGS = {name: spec.settings for name, spec in TASKS.items()}
PRESETS = {name: spec.presets for name, spec in TASKS.items()}
variable = resolving.variable


def flag(name: str) -> str:
    """The command-line spelling of a setting."""
    return "--" + name.replace("_", "-")


def resolve(task: str, given: Any, *, preset_name: str | None = None, **others: Any) -> Settings:
    """Settings of a task."""
    return resolving.resolve(TASKS[task], given, preset=preset_name, **others)


def idle_variables() -> Any:
    """Variables of no setting."""
    return resolving.unused_variables(SETTINGS.values())
