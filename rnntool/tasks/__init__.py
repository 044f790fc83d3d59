"""The tasks: one file each that turns records into arrays and arrays into results, and its spec.

Importing this needs neither NumPy nor torch; `rnntool.tasks.base.task_class` loads a task itself.
"""

from __future__ import annotations

# under other names than `SPEC`, and not as modules: `rnntool.tasks.tag` is the task itself
from rnntool.tasks.specs.classify import SPEC as CLASSIFY
from rnntool.tasks.specs.lm import SPEC as LM
from rnntool.tasks.specs.segment import SPEC as SEGMENT
from rnntool.tasks.specs.spec import TaskSpec
from rnntool.tasks.specs.tag import SPEC as TAG
from rnntool.tasks.specs.transduce import SPEC as TRANSDUCE

TASKS: dict[str, TaskSpec] = {spec.name: spec for spec in (LM, CLASSIFY, TAG, TRANSDUCE, SEGMENT)}
