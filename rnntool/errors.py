"""The errors that a user can cause. Each is one sentence with its exit code; anything else is a bug."""

from __future__ import annotations


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
