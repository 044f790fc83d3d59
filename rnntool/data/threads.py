"""The number of processor threads to use."""

from __future__ import annotations

import os

from rnntool.errors import UsageError


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows lack it
        return os.cpu_count() or 1


def thread_count(threads: int) -> int:
    """Return `threads`, but no more than there are cores; 0 stands for all cores."""
    if threads < 0:
        raise UsageError(setting="threads", expected="a whole number of at least 0", found=threads)
    return min(threads or cores(), cores())
