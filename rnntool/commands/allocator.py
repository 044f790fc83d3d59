"""Process-wide settings of memory and threads, which only commands apply."""

from __future__ import annotations

import os
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
HIGHEST_TRIM, HIGHEST_MMAP = 2**31 - 1, 2**25  # bytes: the largest int, and the limit of glibc


def keep_freed() -> None:
    """Let glibc keep freed memory, unless the environment sets its limits.

    Each batch and each training step frees memory that the next one needs again. By default large blocks go
    back to the kernel, which has to clear every page before it hands them out again.
    """
    if sys.platform != "linux" or {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & os.environ.keys():
        return
    import ctypes

    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # musl has none
        libc.mallopt(TRIM_THRESHOLD, HIGHEST_TRIM)
        libc.mallopt(MMAP_THRESHOLD, HIGHEST_MMAP)


def prepare_torch() -> None:
    """Set the variables that torch reads when it is imported; a command that trains calls this first."""
    # torch's OpenMP threads spin while they wait for each other. If another program takes a core, they spin
    # in vain, and training is ten times slower. A shorter spin costs nothing on an idle machine.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    # The kernel clears each page that it hands out, so let torch ask for large ones.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
