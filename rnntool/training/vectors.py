"""Pretrained word vectors: a word and its numbers on each line, as GloVe and word2vec write them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rnntool.errors import DataError, UsageError
from rnntool.models.encoder import WordInput
from rnntool.models.network import Network
from rnntool.streams import chomp, open_lines
from rnntool.tokenize import Tokenizer


def read_vectors(path: str, *, limit: int) -> tuple[list[str], NDArray[np.float32]]:
    """Up to `limit` words from the top of the file and their vectors (N, D). A word's first vector counts."""
    words: dict[str, None] = {}
    rows: list[NDArray[np.float32]] = []
    size = 0
    with open_lines(path) as lines:
        for line in lines:
            word, *numbers = chomp(line).rstrip(" ").split(" ")
            if lines.number == 1 and len(numbers) == 1 and word.isdigit():
                continue  # word2vec's header: how many words, how many numbers
            size = size or len(numbers)
            if len(numbers) != size or not numbers:
                raise DataError(
                    f"{lines.place()}: want a word and {size or 'some'} numbers, found {len(numbers)}; "
                    "give --vectors a GloVe or word2vec text file")
            if word in words:
                continue
            try:
                rows.append(np.array(numbers, np.float32))
            except ValueError:
                raise DataError(f"{lines.place()}: want numbers behind the word, found something else; "
                                "give --vectors a GloVe or word2vec text file") from None
            words[word] = None
            if len(words) == limit:
                break
    if not words:
        raise DataError(f"{path}: want word vectors, found an empty file")
    return list(words), np.stack(rows)


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
