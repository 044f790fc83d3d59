"""Adaptive embeddings: rarer tokens have shorter vectors (Baevski and Auli 2019).

Token ids have to be ordered by frequency, the most frequent first. Knows nothing of the network around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from rnntool.models.export.builder import Graph

DIV_VALUE = 4  # each cluster's vectors are this many times shorter than those of the previous one


class AdaptiveEmbedding(nn.Module):
    """A low-rank substitute for `nn.Embedding`: tokens are embedded in clusters by frequency.

    The vectors of the first cluster have full size; those of later clusters are shorter and are projected to
    full size. Cluster i > 0 begins with token `cutoffs[i - 1]`.
    """

    def __init__(self, vocabulary: int, size: int, cutoffs: Sequence[int]) -> None:
        super().__init__()
        self.num_embeddings = vocabulary
        self.embedding_dim = size
        self.cutoffs = tuple(cutoffs)
        self.spans = list(zip((0, *cutoffs), (*cutoffs, vocabulary), strict=True))
        widths = [max(1, size // DIV_VALUE**i) for i in range(len(self.spans))]
        self.tables = nn.ModuleList(
            nn.Embedding(end - start, width)
            for (start, end), width in zip(self.spans, widths, strict=True))
        self.projections = nn.ModuleList(nn.Linear(width, size, bias=False) for width in widths[1:])
        for cluster, width in enumerate(widths):
            nn.init.uniform_(self.table(cluster), -0.1, 0.1)
            if cluster:  # a projected vector gets about the norm of the short one
                nn.init.normal_(self.projection(cluster).weight, std=width**-0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the vectors (..., size) of `tokens` (...)."""
        flat = tokens.flatten()
        vectors = self.table(0).new_zeros(len(flat), self.embedding_dim)
        for cluster, (start, end) in enumerate(self.spans):
            rows = indices_within(flat, start, end)
            rows_vectors = functional.embedding(flat[rows] - start, self.table(cluster))
            if cluster:
                rows_vectors = self.projection(cluster)(rows_vectors)
            vectors = vectors.index_copy(0, rows, rows_vectors.to(vectors.dtype))
        return vectors.view(*tokens.shape, self.embedding_dim)

    def add_to(self, g: Graph, tokens: str, name: str) -> str:
        """Add the vectors (T, B, size) of `tokens` (T, B) to a graph."""
        x = ""
        for cluster, (start, end) in enumerate(self.spans):
            ids = g.clipped(g.add("Sub", tokens, g.constant(start)), end - start)
            rows = g.add("Gather", g.weight(self.table(cluster), f"{name}.{cluster}"), ids)
            if cluster:
                is_here = g.add("GreaterOrEqual", tokens, g.constant(start))
                is_here = g.add("Unsqueeze", is_here, g.constant([2]))
                full = g.linear(rows, self.projection(cluster), f"{name}.{cluster}.projection")
                x = g.add("Where", is_here, full, x)
            else:
                x = rows
        return x

    def table(self, cluster: int) -> Tensor:
        """Return the short vectors (n, width) of a cluster."""
        return cast(nn.Embedding, self.tables[cluster]).weight

    def projection(self, cluster: int) -> nn.Linear:
        """Return the projection of a cluster's vectors to full size; the first cluster has none."""
        return cast(nn.Linear, self.projections[cluster - 1])

    def project_down(self, states: Tensor, cluster: int) -> Tensor:
        """Project `states` (N, size) to (N, width of the cluster).

        The results times the short vectors equal the full states times the full vectors.
        """
        return functional.linear(states, self.projection(cluster).weight.T)

    def full_vectors(self) -> Tensor:
        """Return all vectors at full size, (vocabulary, size)."""
        rest = range(1, len(self.spans))
        return torch.cat(
            [self.table(0), *(self.projection(cluster)(self.table(cluster)) for cluster in rest)])


def indices_within(ids: Tensor, start: int, end: int) -> Tensor:
    """Return the indices (n,) of `ids` (N,) from `start` to before `end`."""
    return ((ids >= start) & (ids < end)).nonzero().squeeze(1)
