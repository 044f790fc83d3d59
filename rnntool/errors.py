"""The errors that a user can cause. Each is one sentence with its exit code; anything else is a bug."""

from __future__ import annotations

from collections.abc import Iterable


class RnntoolError(Exception):
    """Something failed that the user can mend. The message is one sentence: place, want, found, remedy."""

    exit_code = 1


class UsageError(RnntoolError):
    """Options that contradict each other or a value out of range."""

    exit_code = 2


class DataError(RnntoolError):
    """Input that can't be read as what it is said to be; the message starts with its `file:line`, if any."""

    exit_code = 3


class ModelError(RnntoolError):
    """A model folder that is missing, damaged, foreign, or of another task."""

    exit_code = 4


def likely(name: str, names: Iterable[str], *, otherwise: str | None = None) -> str:
    """What a name that is none was to be; where nothing is like it, all that there are, or `otherwise`."""
    from difflib import get_close_matches

    names = sorted(names)
    near = get_close_matches(name, names, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return otherwise or f"known are {', '.join(names)}"
