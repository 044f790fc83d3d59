"""Choose the format of a command's output, and write reports."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from rnntool.commands.options import Messages
from rnntool.data.formats import RECORD_FORMATS, format_named_by
from rnntool.data.json_text import to_json
from rnntool.data.streams import open_output
from rnntool.errors import UsageError, setting


def output_format(
    to: str | None, as_jsonl: bool, output: str | None, formats: Collection[str], messages: Messages
) -> str | None:
    """Return the format that `to`, `as_jsonl` or the extension of the output names, if any."""
    if as_jsonl and to not in (None, "jsonl"):
        raise UsageError(f"{setting('as_jsonl')} contradicts {setting('to', to)}", advice="leave one out")
    if to is not None and to not in formats:
        raise UsageError(setting="to", expected=f"one of {', '.join(formats)}", found=repr(to))
    return "jsonl" if as_jsonl else to or _by_extension(output, formats, messages)


def writes_json(output: str | None, messages: Messages) -> bool:
    """Return whether the extension of the output names JSON."""
    return _by_extension(output, ("jsonl",), messages) is not None


def _by_extension(output: str | None, formats: Collection[str], messages: Messages) -> str | None:
    format = format_named_by(output) if output else None
    if format not in formats:
        if format:
            messages.warn(f"{output}: not written as {format}, which this command can't write")
        return None
    messages.log(f"{output}: written as {format}")
    return format


def record_format(path: str | None, setting: str) -> str:
    """Return the format of records that the extension of a file names; "" if there is no file.

    `UsageError` about the setting that names the file.
    """
    format = format_named_by(path) if path else None
    if path and format not in RECORD_FORMATS:
        raise UsageError(setting=setting, expected="a file name that ends in .csv, .tsv or .jsonl",
                         found=repr(path))
    return format or ""


def show(report: Any, as_json: bool, text: str, *, indent: int | None = 2) -> None:
    """Write a report to standard output: as JSON, or as `text` for people. All output is UTF-8."""
    with open_output(None) as out:
        out.write(to_json(report, indent=indent) + "\n" if as_json else text)
