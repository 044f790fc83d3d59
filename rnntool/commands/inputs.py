"""What the filters read: records as a task reads them, lines as they are."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rnntool.commands.common import Common
from rnntool.data.formats import read_texts
from rnntool.tasks.base import AnyTask
from rnntool.tasks.inputs import Inputs
from rnntool.tasks.specs.settings import Settings


def task_records(
    task: AnyTask, files: Sequence[str], settings: Settings, *, chosen: Collection[str] = (),
    format: str | None, common: Common,
) -> Inputs:
    """The records of files as `settings` of a task have them read, whether or not they have targets.

    `chosen` are those of the settings that are the user's and not the model's.
    """
    return Inputs.of_task(type(task), files, settings, targets=False, chosen=chosen, format=format,
                          errors=common.encoding_errors, log=common.log, warn=common.warn)


def plain_lines(files: Sequence[str], common: Common) -> Inputs:
    """A text for each line of files, whatever is in them."""
    return Inputs(files, "lm", lambda lines, form: read_texts(lines, format=form), format="text",
                  errors=common.encoding_errors, log=common.log, warn=common.warn)
