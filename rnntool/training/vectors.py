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
) -> str:
    """Put pretrained vectors where the network has a place for them: their own table, or the embedding.

    Returns what was placed, as a sentence.
    """
    table = torch.from_numpy(vectors)
    source = network.encoder.input
    with torch.no_grad():
        if isinstance(source, WordInput):
            assert source.vectors is not None
            source.vectors.weight.zero_()
            source.vectors.weight[1:] = table
            return f"{len(words):,} pretrained vectors of {table.shape[1]}"
        embedding = source.embedding
        assert isinstance(embedding, nn.Embedding)  # no bands where there are vectors, see _cutoffs
        if table.shape[1] != embedding.embedding_dim:
            raise UsageError(f"--vectors: the file has {table.shape[1]} numbers a word; give --embed "
                             f"{table.shape[1]}")
        rows = {word: row for row, word in enumerate(words)}
        known = [(i, rows[piece]) for i in range(tokenizer.size) if (piece := tokenizer.piece(i)) in rows]
        if known:
            mine, theirs = (torch.tensor(side) for side in zip(*known, strict=True))
            embedding.weight[mine] = table[theirs]
        return f"{len(known):,} of {tokenizer.size:,} embeddings start from pretrained vectors"
