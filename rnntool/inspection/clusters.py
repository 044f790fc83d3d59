"""Hierarchical clustering of words by their vectors (Elman 1990), and its tree as text. Knows no model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def average_linkage(vectors: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Cluster vectors (N, D) by the mean Euclidean distance of clusters; return SciPy's linkage (N-1, 4)."""
    from scipy.cluster.hierarchy import linkage

    merges: NDArray[np.float64] = linkage(vectors, method="average", metric="euclidean")
    return merges


def text_tree(names: Sequence[str], linkage: NDArray[np.float64]) -> list[str]:
    """Draw the tree as text: one line per name, each after the branches that join it to the others."""
    clusters = [[f"─ {name}"] for name in names]  # lines of each cluster, numbered as in `linkage`
    for first, second in linkage[:, :2].astype(int).tolist():
        (top, *above), (middle, *below) = clusters[first], clusters[second]
        clusters.append([f"┬{top}", *(f"│{line}" for line in above),
                         f"└{middle}", *(f" {line}" for line in below)])
    return clusters[-1]
