"""Initialize a network with pretrained word vectors."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rnntool.errors import UsageError, setting
from rnntool.models.encoder import WordInput
from rnntool.models.network import Network
from rnntool.tokenize import Tokenizer


def copy_vectors(
    network: Network, tokenizer: Tokenizer, words: list[str], vectors: NDArray[np.float32]
) -> int:
    """Initialize embeddings from the pretrained `vectors` (N, D) of `words`, and count those initialized.

    A tagger or classifier of words uses the vectors twice. A fixed table holds all of them, including those
    of words outside the vocabulary. They also initialize the first dimensions of the embeddings, which learn.
    `UsageError` if the embeddings of a language model differ in size from the vectors.
    """
    table = torch.from_numpy(vectors)
    size = table.shape[1]
    source = network.encoder.input
    embedding = source.embedding
    assert isinstance(embedding, nn.Embedding)  # no adaptive softmax with vectors, see `tasks.lm`
    with torch.no_grad():
        if isinstance(source, WordInput):
            assert source.vectors is not None
            source.vectors.weight.zero_()
            source.vectors.weight[1:] = table
        elif size != embedding.embedding_dim:
            raise UsageError(
                f"the file has {size} numbers per word", setting="vectors",
                advice=f"choose {setting('embed', size)}")
        rows = {word: row for row, word in enumerate(words)}
        tokens = enumerate(map(tokenizer.piece, range(tokenizer.size)))
        matches = ((token, rows.get(piece, rows.get(piece.lower()))) for token, piece in tokens)
        pairs = [(token, row) for token, row in matches if row is not None]
        if pairs:
            token_ids, vector_rows = (torch.tensor(side) for side in zip(*pairs, strict=True))
            width = min(size, embedding.embedding_dim)
            embedding.weight[token_ids, :width] = table[vector_rows, :width]
    return len(pairs)
