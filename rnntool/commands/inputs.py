"""Read the input of a command: the records of a task, or plain lines."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rnntool.commands.options import Messages, Reading
from rnntool.data.formats import read_texts
from rnntool.data.inputs import Inputs
from rnntool.tasks.base import AnyTask
from rnntool.tasks.specs.settings import Settings


def task_records(
    task: AnyTask, files: Sequence[str], settings: Settings, *, chosen: Collection[str] = (),
    format: str | None, reading: Reading, messages: Messages,
) -> Inputs:
    """Return the records of files, read with these `settings` of a task. Targets are optional.

    `chosen` names the settings that the user gave, as opposed to those of the model.
    """
    return type(task).inputs(files, settings, targets=False, chosen=chosen, format=format,
                             errors=reading.encoding_errors, log=messages.log, warn=messages.warn)


def plain_lines(files: Sequence[str], reading: Reading, messages: Messages) -> Inputs:
    """Return a text for each line of files, whatever their format."""
    return Inputs(files, "texts", lambda lines, format: read_texts(lines, format=format), format="text",
                  errors=reading.encoding_errors, log=messages.log, warn=messages.warn)
