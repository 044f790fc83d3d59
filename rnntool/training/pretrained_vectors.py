"""Pretrained word vectors in a new network."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rnntool.errors import UsageError
from rnntool.models.encoder import WordInput
from rnntool.models.network import Network
from rnntool.tokenize import Tokenizer


def place_vectors(
    network: Network, tokenizer: Tokenizer, words: list[str], vectors: NDArray[np.float32]
) -> int:
    """Start embeddings from pretrained `vectors` (N, D) of `words`; networks of words also keep all of them.

    A network of words has them twice: in a table that stays, for whatever word it may meet, and as the first
    numbers of its embedding, which learns on. Returns how many embeddings have one.
    """
    table = torch.from_numpy(vectors)
    size = table.shape[1]
    source = network.encoder.input
    embedding = source.embedding
    assert isinstance(embedding, nn.Embedding)  # no bands where there are vectors, see `design._cutoffs`
    with torch.no_grad():
        if isinstance(source, WordInput):
            assert source.vectors is not None
            source.vectors.weight.zero_()
            source.vectors.weight[1:] = table
        elif size != embedding.embedding_dim:
            raise UsageError(f"--vectors: the file has {size} numbers a word; give --embed {size}")
        rows = {word: row for row, word in enumerate(words)}
        pieces = enumerate(map(tokenizer.piece, range(tokenizer.size)))
        found = ((i, rows.get(piece, rows.get(piece.lower()))) for i, piece in pieces)
        known = [(i, row) for i, row in found if row is not None]
        if known:
            mine, theirs = (torch.tensor(side) for side in zip(*known, strict=True))
            width = min(size, embedding.embedding_dim)
            embedding.weight[mine, :width] = table[theirs, :width]
    return len(known)
