"""Process-wide settings of memory and threads, made by commands and never by an import."""

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


def prepare_torch() -> None:
    """Set what torch reads when it is imported; a command that trains calls this first."""
    # torch's OpenMP threads wait for each other by spinning. If another program takes a core, they spin in
    # vain and training slows down tenfold. A shorter spin costs nothing on an idle machine.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    # The kernel clears every page that it hands out, so let torch ask for large ones.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
