"""Starting from another model: what of its encoder fits is carried over, and what was and was not is told."""

from __future__ import annotations

import torch

from rnntool import modeldir, tokenize
from rnntool.errors import ModelError
from rnntool.models.network import Network
from rnntool.models.weights import load_weights
from rnntool.tokenize import Tokenizer

EMBEDDING = "encoder.input.embedding.weight"
VECTORS = "encoder.input.vectors.weight"  # come from --vectors; a row is another word in each model


def carry_over(model: str, network: Network, tokenizer: Tokenizer) -> str:
    """Put what fits of `model`'s encoder into `network`; a sentence that says what was and what wasn't."""
    folder = modeldir.find(model)
    config = modeldir.read_config(folder)
    source = load_weights(folder)
    theirs = tokenize.load(folder, config["data"]["tokenizer"])
    carried, left = [], []
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if not name.startswith("encoder.") or name == VECTORS:
                continue
            tensor = source.get(name)
            if name == EMBEDDING and tensor is not None and tensor.shape[1] == parameter.shape[1]:
                rows = {theirs.piece(i): i for i in range(theirs.size)}
                pieces = map(tokenizer.piece, range(tokenizer.size))
                pairs = [(i, rows[piece]) for i, piece in enumerate(pieces) if piece in rows]
                mine, other = (torch.tensor(side) for side in zip(*pairs, strict=True))
                parameter[mine] = tensor[other]
                carried.append(f"embeddings of {len(pairs)} of {tokenizer.size} entries")
            elif tensor is not None and tensor.shape == parameter.shape:
                parameter.copy_(tensor)
                carried.append(name.removeprefix("encoder."))
            else:
                left.append(name.removeprefix("encoder."))
    if not carried:
        raise ModelError(f"{folder}: nothing of its encoder fits this network; give the same --cell, "
                         "--hidden and --embed as it was trained with")
    return (f"carried over from {folder}: {', '.join(carried)}; "
            f"not carried over: {', '.join(left) or 'nothing'}")
