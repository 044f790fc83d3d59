"""Errors that a user can cause and fix. Any other exception is a bug.

An error holds its parts: where it happened, which setting is wrong, what was expected, what was found, and
what to do. The library names settings in its own terms (`max_tokens`). The command line renders the same
error with the name that the user gave: `--max-tokens`, a variable, or a key of a TOML file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

SettingName = Callable[[str, str | None], str]  # (setting, its value or None) -> the name to show

# What libraries and the dynamic linker report if there is no memory. The types of these errors vary.
_OUT_OF_MEMORY = re.compile(
    "bad_alloc|allocate memory|Failed to allocate|failed to map segment from shared object$|out of memory|"
    "could not create a primitive|can't start new thread")
_MARKED = re.compile("\ue000([a-z_0-9]+)(?:\ue001([^\ue002]*))?\ue002")


def setting(name: str, value: object = None) -> str:
    """Return a reference to a setting, with or without a value, for the text of a message."""
    return f"\ue000{name}\ue002" if value is None else f"\ue000{name}\ue001{value}\ue002"


def python_name(name: str, value: str | None = None) -> str:
    """Name a setting as Python code does."""
    return name if value is None else f"{name}={value}"


def with_names(text: str, name: SettingName = python_name) -> str:
    """Replace each reference that `setting` made with the name that `name` returns for it."""
    return _MARKED.sub(lambda reference: name(reference[1], reference[2]), text)


class RnntoolError(Exception):
    """An error that the user can fix; `str()` is one sentence.

    Give either `problem` in words, or what was `expected` and what was `found`. `place` is a file, a
    `file:line` or a folder, `setting` the name of a setting or parameter. `advice` says what to do. It may
    have alternatives. An alternative that names a setting is left out if the user can't choose that setting,
    except if it also names a command, `rnntool …` in backquotes, that has the setting.
    """

    exit_code = 1

    def __init__(
        self, problem: str = "", *, place: object = None, setting: str | None = None,
        expected: str | None = None, found: object = None, advice: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.place = None if place is None else str(place)
        self.setting = setting
        self.expected = expected
        self.found = None if found is None else str(found)
        self.advice = (advice,) if isinstance(advice, str) else tuple(advice or ())

    def describe(
        self, name: SettingName = python_name, has: Callable[[str], bool] = lambda setting: True
    ) -> str:
        """Render the error as one sentence; `name` returns the name to show for a setting.

        `has` says whether the user can choose a setting.
        """
        subject = [self.place, name(self.setting, None) if self.setting else None]
        parts = [with_names(self.problem, name)] if self.problem else []
        if self.expected is not None:
            parts.append(f"expected {with_names(self.expected, name)}")
        if self.found is not None:
            parts.append(f"found {with_names(self.found, name)}")
        sentence = ": ".join([*filter(None, subject), ", ".join(parts)])
        usable = [with_names(advice, name) for advice in self.advice
                  if "`rnntool" in advice or all(has(match[1]) for match in _MARKED.finditer(advice))]
        advice = ", or ".join(filter(None, [", ".join(usable[:-1]), *usable[-1:]])).replace("?, or ", "? Or ")
        return f"{sentence}; {advice}" if advice else sentence

    def __str__(self) -> str:
        return self.describe()


class UsageError(RnntoolError):
    """Settings that contradict each other, or a value that is out of range."""

    exit_code = 2


def contradiction(first: str, second: str, *, reason: str = "") -> UsageError:
    """Return the error for two settings that exclude each other; `reason` is a clause about the second."""
    return UsageError(f"{setting(first)} contradicts {setting(second)}{reason and f', {reason}'}",
                      advice="leave one out")


def no_effect_without(name: str, needed: str, *, value: str | None = None) -> UsageError:
    """Return the error for a setting that has no effect without another one, which may need a value."""
    return UsageError(f"has no effect without {setting(needed)}", setting=name,
                      advice=f"give {setting(needed, value)} as well, or leave it out")


class DataError(RnntoolError):
    """Input that is not in the expected format."""

    exit_code = 3


class ModelError(RnntoolError):
    """A model folder that is missing or damaged, or a model for another task."""

    exit_code = 4


def is_out_of_memory(error: Exception) -> bool:
    """Return whether a library failed because there was not enough memory."""
    return isinstance(error, MemoryError) or bool(_OUT_OF_MEMORY.search(str(error)))


def suggestion(name: str, names: Iterable[str], *, otherwise: str | None = None) -> str:
    """Suggest the closest valid name for a misspelled one. If none is close, use `otherwise` or list all."""
    names = sorted(names)
    if (close := closest(name, names)) is not None:
        return f"did you mean {close}?"
    return otherwise or f"choose one of {', '.join(names)}"


def closest(name: str, names: Iterable[str]) -> str | None:
    """Return the valid name that a misspelled one is closest to, whatever its case; None if none is close."""
    from difflib import get_close_matches

    folded = {valid.casefold(): valid for valid in sorted(names)}
    close = get_close_matches(name.casefold(), folded, n=1)
    return folded[close[0]] if close else None
