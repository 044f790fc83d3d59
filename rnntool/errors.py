"""Errors that a user can cause and mend. Anything else that is raised is a bug.

An error holds its parts: where it happened, which setting is wrong, what was expected, what was found, and
what to do. The library names settings in its own terms (`max_tokens`). The command line renders the same
error with the name that the user gave: `--max-tokens`, a variable, or a key of a TOML file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

SettingName = Callable[[str, str | None], str]  # from a setting and its value, if one is meant, to its name

_MARKED = re.compile("\ue000([a-z_0-9]+)(?:\ue001([^\ue002]*))?\ue002")


def setting(name: str, value: object = None) -> str:
    """Refer to a setting inside the text of an error, or to a setting with a value: `tokenizer=char`."""
    return f"\ue000{name}\ue002" if value is None else f"\ue000{name}\ue001{value}\ue002"


def python_name(name: str, value: str | None = None) -> str:
    """Name a setting as Python code does."""
    return name if value is None else f"{name}={value}"


def with_names(text: str, name: SettingName = python_name) -> str:
    """Replace each reference that `setting` made by what `name` calls the setting."""
    return _MARKED.sub(lambda reference: name(reference[1], reference[2]), text)


class RnntoolError(Exception):
    """Something failed that the user can mend; `str()` is one sentence.

    Give either `problem` in words, or what was `expected` and what was `found`. `place` is a file, a
    `file:line` or a folder, `setting` the name of a setting or parameter. `advice` says what to do.
    """

    exit_code = 1

    def __init__(
        self, problem: str = "", *, place: object = None, setting: str | None = None,
        expected: str | None = None, found: object = None, advice: str | None = None,
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.place = None if place is None else str(place)
        self.setting = setting
        self.expected = expected
        self.found = None if found is None else str(found)
        self.advice = advice

    def describe(self, name: SettingName = python_name) -> str:
        """Render the error as one sentence, in which `name` says what settings are called."""
        subject = [self.place, name(self.setting, None) if self.setting else None]
        parts = [with_names(self.problem, name)] if self.problem else []
        if self.expected is not None:
            parts.append(f"expected {with_names(self.expected, name)}")
        if self.found is not None:
            parts.append(f"found {with_names(self.found, name)}")
        sentence = ": ".join([*filter(None, subject), ", ".join(parts)])
        return f"{sentence}; {with_names(self.advice, name)}" if self.advice else sentence

    def __str__(self) -> str:
        return self.describe()


class UsageError(RnntoolError):
    """Options that contradict each other, or a value that is out of range."""

    exit_code = 2


class DataError(RnntoolError):
    """Input that can't be read as the format it is said to be in."""

    exit_code = 3


class ModelError(RnntoolError):
    """A model folder that is missing, damaged, foreign, or made for another task."""

    exit_code = 4


def suggestion(name: str, names: Iterable[str], *, otherwise: str | None = None) -> str:
    """Suggest the closest valid name for a misspelt one; without a close one list all, or say `otherwise`."""
    from difflib import get_close_matches

    names = sorted(names)
    close = get_close_matches(name, names, n=1)
    if close:
        return f"did you mean {close[0]}?"
    return otherwise or f"choose one of {', '.join(names)}"
