"""Learning: one loop for all tasks, its batches, optimizers and checkpoints."""

import ctypes
import os
import sys

# torch's OpenMP threads wait for each other by spinning. When another program takes a core they spin for
# nothing, and a training slows tenfold; a shorter spin costs nothing on an idle machine. Read when torch is
# imported.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def _keep_freed_memory() -> None:
    """Have glibc keep what is freed: each step needs it again, and the kernel clears every page anew."""
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # not in musl
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(mmap_threshold, 2**25)  # the most there is


if sys.platform == "linux":
    _keep_freed_memory()
