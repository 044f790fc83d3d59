"""From a path to a task's records: opens, finds the format, reads. For training, evaluation and filters."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rnntool.config import flag
from rnntool.errors import UsageError
from rnntool.formats import guess_format
from rnntool.streams import Lines, open_lines
from rnntool.tasks.base import Task

Say = Callable[[str], None]  # takes a sentence that --verbose shows
TABLES = ("tsv", "csv", "jsonl")
# settings that only some formats read
READ_BY = {"text_column": TABLES, "label_column": TABLES, "unit": ("text",)}


@contextmanager
def opened(path: str, kind: str, *, format: str | None, errors: str, say: Say) -> Iterator[tuple[Lines, str]]:
    """The lines of a file and its format: as given, or guessed for `kind` and said aloud."""
    with open_lines(path, errors=errors) as lines:
        if format is None:
            format = guess_format(path, lines.head(), kind)
            say(f"{lines.name}: read as {format}")
        yield lines, format


def read_each(
    task: type[Task[Any, Any, Any]], paths: Sequence[str], *, format: str | None, settings: Any, errors: str,
    say: Say, targets: bool = True, formats: set[str] | None = None,
) -> Iterator[Any]:
    """The records of some files one by one, with targets or whether or not they have any.

    The formats that the files are in are added to `formats`.
    """
    for path in paths:
        with opened(path, task.name, format=format, errors=errors, say=say) as (lines, found):
            if formats is not None:
                formats.add(found)
            yield from task.read(lines, found, settings, targets=targets)


def read_all(
    task: type[Task[Any, Any, Any]], paths: Sequence[str], *, format: str | None, settings: Any, errors: str,
    say: Say, targets: bool = True, formats: set[str] | None = None,
) -> list[Any]:
    """All records of some files; see `read_each`."""
    return list(read_each(task, paths, format=format, settings=settings, errors=errors, say=say,
                          targets=targets, formats=formats))


def check_formats(formats: Collection[str], chosen: Iterable[str], kind: str, *, where: str = "") -> None:
    """Refuse settings that were chosen and say how to read formats that no file is in.

    Of a language model, `label_column` also says that the labels of fastText lines are to be read.
    """
    for name in chosen:
        reading = READ_BY.get(name)
        if name == "label_column" and kind == "lm":
            reading = (*TABLES, "fasttext")
        if reading and not set(formats).intersection(reading):
            raise UsageError(f"{where}{flag(name)}: goes with files in {' or '.join(reading)}, found "
                             f"{' and '.join(sorted(formats))}; leave it out, or see --from")
