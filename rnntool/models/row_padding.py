"""Row counts of matrix products, rounded up so that few different shapes occur.

On a processor, oneDNN multiplies bfloat16 matrices. It compiles a program for each new shape, which takes
longer than the product itself, and batches hardly ever have the same number of words, word types or
characters. So such products get rows of zeros up to a multiple of `MULTIPLE`, and the extra results are cut
off.
"""

from __future__ import annotations

MULTIPLE = 64


def rows_to_add(count: int) -> int:
    """Return how many rows to add to `count` for a multiple of `MULTIPLE`."""
    return -count % MULTIPLE
