"""Read the input of a command: the records of a task, or plain lines."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from rnntool.commands.options import PLAIN_FORMATS, Messages
from rnntool.data.formats import either, guess_format, read_sentences, read_texts
from rnntool.data.inputs import Inputs
from rnntool.data.reading import Reading, TableReading
from rnntool.data.records import Sentence, Text
from rnntool.data.streams import Lines
from rnntool.errors import DataError, UsageError, setting
from rnntool.tasks.base import AnyTask
from rnntool.tasks.specs.settings import Settings


def task_records(
    task: AnyTask, files: Sequence[str], settings: Settings, *, text_column: str | None = None,
    chosen: Collection[str] = (), format: str | None, reading: TableReading, messages: Messages,
) -> Inputs:
    """Return the records of files, read with these `settings` of a task. Targets are optional.

    `text_column` is the column that the user gave; the model's own column is in `settings`. `chosen` names
    the other settings that the user gave.
    """
    chosen = [*chosen, *reading.table_settings(), *(["text_column"] if text_column else [])]
    return type(task).inputs(
        files, settings, targets=False, chosen=chosen, format=format, reading=reading,
        text_column=text_column, log=messages.log, warn=messages.warn)


def raw_text(
    files: Sequence[str], reading: Reading, messages: Messages, *, format: str | None
) -> Inputs:
    """Return the lines of raw text, as texts of sentences without words, for a segmenter."""

    def read(lines: Lines, name: str) -> Iterator[Sentence]:
        if name != "text":
            raise DataError(place=lines.name, expected="raw text to split into sentences", found=name,
                            advice=f"if it is raw text, set {setting('format', 'text')}")
        return read_sentences(lines, format=name, split=no_words)

    chosen = reading.table_settings() if isinstance(reading, TableReading) else ()
    return Inputs(files, "sentences", read, format=format, reading=reading, log=messages.log,
                  warn=messages.warn, chosen=chosen)


def raw_text_or_records(
    task: AnyTask, files: Sequence[str], settings: Settings, **options: Any
) -> Inputs:
    """Return what `raw_text` or `task_records` does: it depends on the format of the first file.

    `DataError` if there are files of both kinds. See `task_records` for the `options`.
    """
    inputs = task_records(task, files, settings, **options)
    read_records = inputs.read

    def read(lines: Lines, name: str) -> Iterator[Sentence]:
        kinds = [format == "text" for format in inputs.formats]
        if kinds[0] != kinds[-1]:
            raise DataError(place=lines.name, expected=f"{inputs.formats[0]}, as in {inputs.paths[0]}",
                            found=name, advice="raw text and other formats can't be mixed")
        return read_sentences(lines, format=name, split=no_words) if kinds[0] else read_records(lines, name)

    inputs.read = read
    return inputs


def no_words(text: str) -> list[tuple[int, int]]:
    """Leave it to a segmenter to split a text."""
    return []


def inspected_records(
    task: AnyTask, files: Sequence[str], *, format: str | None, reading: TableReading, messages: Messages
) -> Inputs:
    """Return the records of files to be inspected. Tags don't matter, so the file needs no tag column."""
    settings = task.settings
    if hasattr(settings, "column"):
        settings = settings.replace(column=None)
    return task_records(task, files, settings, format=format, reading=reading, messages=messages)


def plain_lines(
    files: Sequence[str], reading: Reading, messages: Messages, *, format: str | None
) -> Inputs:
    """Return a text for each line of files, whatever their extensions, or for each JSON object.

    `format` is one of `PLAIN_FORMATS`; None recognizes JSON by its first line.
    """

    def read(lines: Lines, _: str) -> Iterator[Text]:
        is_json = format is None and guess_format("-", lines, "texts").format == "jsonl"
        return read_texts(lines, format="jsonl" if is_json else format or "text")

    if format not in (None, *PLAIN_FORMATS):
        raise UsageError(setting="format", expected=either(PLAIN_FORMATS), found=repr(format))
    return Inputs(files, "texts", read, format="text", reading=reading, log=messages.log,
                  warn=messages.warn)
