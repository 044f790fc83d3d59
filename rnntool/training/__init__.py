"""Learning: one loop for all tasks, its batches, optimizers and checkpoints.

What must be settled before torch is imported stands here.
"""

import ctypes
import os
import sys

# torch's OpenMP threads wait for each other by spinning. When another program takes a core they spin for
# nothing, and a training slows tenfold; a shorter spin costs nothing on an idle machine.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

# Each step frees what the next one needs again, and the kernel clears every page that it gives anew: let
# torch ask for large pages, and glibc keep what is freed.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def _keep_freed_memory() -> None:
    """Set M_TRIM_THRESHOLD and M_MMAP_THRESHOLD, -1 and -3 in malloc.h, as high as they go."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # not in musl
        libc.mallopt(-1, 2**31 - 1)
        libc.mallopt(-3, 2**25)


if sys.platform == "linux":
    _keep_freed_memory()
