"""The number of processor threads to use, and what a forked process has to replace."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from weakref import WeakMethod

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


def call_after_fork(method: Callable[[], None]) -> None:
    """Call a bound method in each process that is forked from this one, as long as its object exists.

    Only the thread that forks continues in the new process. Locks that other threads held stay locked there.
    """
    if sys.platform != "win32":
        reference = WeakMethod(method)

        def call() -> None:
            if (bound := reference()) is not None:
                bound()

        os.register_at_fork(after_in_child=call)
