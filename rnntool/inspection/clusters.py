"""Hierarchical clustering of words by vectors (Elman 1990), and the tree as text. Knows no model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def merges(vectors: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """SciPy's linkage (N-1, 4) of vectors (N, D): average linkage of Euclidean distances."""
    from scipy.cluster.hierarchy import linkage

    found: NDArray[np.float64] = linkage(vectors, method="average", metric="euclidean")
    return found


def tree(names: Sequence[str], linkage: NDArray[np.float64]) -> list[str]:
    """A line for each name, in the order of the leaves, behind what joins it to the others."""
    lines = [[f"─ {name}"] for name in names]
    for first, second in linkage[:, :2].astype(int).tolist():
        (top, *rest), (middle, *below) = lines[first], lines[second]
        lines.append([f"┬{top}", *(f"│{line}" for line in rest),
                      f"└{middle}", *(f" {line}" for line in below)])
    return lines[-1]
