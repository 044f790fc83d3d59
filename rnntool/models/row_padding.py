"""Shapes of products that come again.

oneDNN, which multiplies in bfloat16 on a processor, makes a program for each new shape, and that takes longer
than the product itself. What is counted in a batch, words, types or characters, is hardly ever the same
twice; so such products get rows that are not read, up to the next multiple.
"""

from __future__ import annotations

ROWS = 64


def padding(count: int) -> int:
    """How many rows to add to `count` of them."""
    return -count % ROWS
