"""Memory that a process keeps for itself when it has freed it."""

from __future__ import annotations

import os
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
MOST_TRIM, MOST_MMAP = 2**31 - 1, 2**25  # bytes: an int, and what glibc allows


def keep_freed() -> None:
    """Let glibc keep what is freed, for the whole process; not where its own variables say otherwise.

    Each batch, and each step of a training or of a text that is written, frees what the next one needs again.
    Large pieces go back to the kernel and come anew, every page of them to be cleared.
    """
    if sys.platform != "linux" or {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & os.environ.keys():
        return
    import ctypes

    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # not in musl
        libc.mallopt(TRIM_THRESHOLD, MOST_TRIM)
        libc.mallopt(MMAP_THRESHOLD, MOST_MMAP)
