"""The three tasks by name, and what they share. A task knows records, arrays and metrics, and no engine."""

from __future__ import annotations

from rnntool.tasks.base import AnyTask, Task
from rnntool.tasks.classify import ClassifyTask
from rnntool.tasks.lm import LMTask
from rnntool.tasks.tag import TagTask

__all__ = ["AnyTask", "ClassifyTask", "LMTask", "TagTask", "Task"]
