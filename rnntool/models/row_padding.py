"""Row counts of products, rounded up, so that few shapes occur.

oneDNN, which multiplies bfloat16 matrices on a processor, compiles a program for each new shape, and that
takes longer than the product itself. The number of words, word types or characters in a batch is hardly ever
the same twice, so such products get rows of zeros up to the next multiple of `MULTIPLE`, and their results
are cut off.
"""

from __future__ import annotations

MULTIPLE = 64


def rows_to_add(count: int) -> int:
    """Return how many rows bring `count` up to a multiple."""
    return -count % MULTIPLE
