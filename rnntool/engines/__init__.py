"""What runs a network: named NumPy arrays in, named NumPy arrays out, whichever engine it is."""

import ctypes
import sys


def _keep_freed_memory() -> None:
    """Set M_TRIM_THRESHOLD and M_MMAP_THRESHOLD, -1 and -3 in malloc.h, as high as they go.

    Each batch, and each step of a training or of a text that is written, frees what the next one needs again.
    Memory that glibc gave back to the kernel would come anew, every page of it to be cleared.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # not in musl
        libc.mallopt(-1, 2**31 - 1)
        libc.mallopt(-3, 2**25)


if sys.platform == "linux":
    _keep_freed_memory()
