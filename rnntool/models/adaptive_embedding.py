"""Vectors of a large vocabulary in bands: rarer tokens have shorter ones (Baevski and Auli 2019).

Ids have to go by frequency, the most frequent first. Knows no network around it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

SHRINK = 4  # vectors of a band are so many times shorter than those of the band before


class BandedEmbedding(nn.Module):
    """An embedding whose first band has vectors of full size; those of the others are projected to it.

    Band i > 0 begins with token `cutoffs[i - 1]`. In place of an `nn.Embedding` of `vocabulary` rows it is
    one of low rank.
    """

    def __init__(self, vocabulary: int, size: int, cutoffs: Sequence[int]) -> None:
        super().__init__()
        self.num_embeddings = vocabulary
        self.embedding_dim = size
        self.cutoffs = tuple(cutoffs)
        self.spans = list(zip((0, *cutoffs), (*cutoffs, vocabulary), strict=True))
        widths = [max(1, size // SHRINK**i) for i in range(len(self.spans))]
        self.tables = nn.ModuleList(
            nn.Embedding(end - start, width)
            for (start, end), width in zip(self.spans, widths, strict=True))
        self.projections = nn.ModuleList(nn.Linear(width, size, bias=False) for width in widths[1:])
        for band, width in enumerate(widths):
            nn.init.uniform_(self.table(band), -0.1, 0.1)
            if band:  # what comes out is as large as what goes in
                nn.init.normal_(self.projection(band).weight, std=width**-0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., size) of `tokens` (...)."""
        flat = tokens.flatten()
        vectors = self.table(0).new_zeros(len(flat), self.embedding_dim)
        for band, (start, end) in enumerate(self.spans):
            rows = within(flat, start, end)
            found = functional.embedding(flat[rows] - start, self.table(band))
            if band:
                found = self.projection(band)(found)
            vectors = vectors.index_copy(0, rows, found.to(vectors.dtype))
        return vectors.view(*tokens.shape, self.embedding_dim)

    def table(self, band: int) -> Tensor:
        """The vectors (n, width) of a band."""
        table = self.tables[band]
        assert isinstance(table, nn.Embedding)
        return table.weight

    def projection(self, band: int) -> nn.Linear:
        """What a band's vectors are projected by; the first band has none."""
        projection = self.projections[band - 1]
        assert isinstance(projection, nn.Linear)
        return projection

    def shorten(self, states: Tensor, band: int) -> Tensor:
        """(N, width of the band): `states` (N, size) such that products with its table's rows are those with
        the full vectors."""
        return functional.linear(states, self.projection(band).weight.T)

    def full(self) -> Tensor:
        """(vocabulary, size): the vectors as they are after projection."""
        rest = range(1, len(self.spans))
        return torch.cat([self.table(0), *(self.projection(band)(self.table(band)) for band in rest)])


def within(ids: Tensor, start: int, end: int) -> Tensor:
    """The places (n,) of those of `ids` (N,) that are from `start` to before `end`."""
    return ((ids >= start) & (ids < end)).nonzero().squeeze(1)
