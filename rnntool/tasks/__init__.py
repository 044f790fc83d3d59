"""The tasks: one file each that turns records into arrays and arrays into results, and its spec.

Importing this needs neither NumPy nor torch; `rnntool.tasks.base.task_class` loads a task itself.
"""

from __future__ import annotations

from rnntool.tasks.specs import classify, lm, segment, tag, transduce
from rnntool.tasks.specs.spec import TaskSpec

TASKS: dict[str, TaskSpec] = {
    spec.name: spec for spec in (lm.SPEC, classify.SPEC, tag.SPEC, transduce.SPEC, segment.SPEC)}
