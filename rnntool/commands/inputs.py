"""The inputs of commands that run a model: records as a task reads them, or plain lines."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rnntool.commands.common import Common
from rnntool.data.formats import read_texts
from rnntool.data.inputs import Inputs
from rnntool.tasks.base import AnyTask
from rnntool.tasks.specs.settings import Settings


def task_records(
    task: AnyTask, files: Sequence[str], settings: Settings, *, chosen: Collection[str] = (),
    format: str | None, common: Common,
) -> Inputs:
    """Read the records of files as `settings` of a task say, whether or not they have targets.

    `chosen` are the settings that the user chose for these files.
    """
    return type(task).inputs(files, settings, targets=False, chosen=chosen, format=format,
                             errors=common.encoding_errors, log=common.log, warn=common.warn)


def plain_lines(files: Sequence[str], common: Common) -> Inputs:
    """Read a text from each line of files, whatever they contain."""
    return Inputs(files, "texts", lambda lines, format: read_texts(lines, format=format), format="text",
                  errors=common.encoding_errors, log=common.log, warn=common.warn)
