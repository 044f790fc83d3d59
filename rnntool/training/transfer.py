"""Starting from another model: what of its encoder fits is carried over, and what was and was not is told.

Tensors that only make sense together, those of a recurrent layer's direction, go together or not at all.
Embeddings go row by row, to the entry or character that the row stands for. Knows no files but a model's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rnntool import modeldir, tokenize
from rnntool.errors import ModelError
from rnntool.models.network import Network
from rnntool.models.weights import load_weights
from rnntool.tokenize import SPECIALS, UNK, Tokenizer

EMBEDDING = "encoder.input.embedding"
CHARACTERS = "encoder.input.characters.embedding"
VECTORS = "encoder.input.vectors"  # come from --vectors; a row is another word in each model


@dataclass(frozen=True, kw_only=True)
class Carried:
    """Which parts of the encoder of `model` were carried over, and which of the new one start afresh.

    `rows` says of each parameter that was carried over which of its rows were: (rows,) bool.
    """

    model: str
    parts: list[str]
    left: list[str]
    rows: dict[str, Tensor]

    def to_json(self) -> dict[str, Any]:
        """As JSON types, the rows left out."""
        return {"model": self.model, "parts": self.parts, "left": self.left}

    def __str__(self) -> str:
        """As a sentence."""
        return (f"carried over from {self.model}: {', '.join(self.parts)}; "
                f"not carried over: {', '.join(self.left) or 'nothing'}")


def carry_over(model: str, network: Network, tokenizer: Tokenizer, *, characters: str = "") -> Carried:
    """Put what fits of `model`'s encoder into `network`, whose entries and characters are those given.

    Raises `ModelError` where nothing fits.
    """
    folder = modeldir.find(model)
    data = modeldir.read_config(folder)["data"]
    source = load_weights(folder)
    theirs = tokenize.load(folder, data["tokenizer"])
    rows = {  # what the rows of both sides stand for, and how many rows come first that stand for nothing
        EMBEDDING: (_pieces(tokenizer), _pieces(theirs), len(SPECIALS), "entries"),
        CHARACTERS: (characters, (data.get("features") or {}).get("characters", ""), UNK + 1, "characters"),
    }
    carried: list[str] = []
    left: list[str] = []
    came: dict[str, Tensor] = {}
    with torch.no_grad():
        for part, parameters in _parts(network).items():
            name = part.removeprefix("encoder.")
            if part in rows:
                mine, other, first, unit = rows[part]
                shared = _carry_rows(parameters, source, mine, other, first)
                (carried if shared else left).append(
                    f"{name} ({len(shared)} of {len(mine)} {unit})" if shared else name)
                for key, parameter in parameters.items() if shared else ():
                    came[key] = torch.zeros(len(parameter), dtype=torch.bool)
                    came[key][[*range(first), *shared]] = True
            elif all(key in source and source[key].shape == p.shape for key, p in parameters.items()):
                for key, parameter in parameters.items():
                    parameter.copy_(source[key])
                    came[key] = torch.ones(len(parameter), dtype=torch.bool)
                carried.append(name)
            else:
                left.append(name)
    if not carried:
        raise ModelError(f"{folder}: nothing of its encoder fits this network; give the same --cell, "
                         "--hidden and --embed as it was trained with")
    return Carried(model=model, parts=carried, left=left, rows=came)


def _parts(network: Network) -> dict[str, dict[str, Tensor]]:
    """The encoder's parameters by name, those together that belong to one module."""
    parts: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, parameter in network.named_parameters():
        part = name.rpartition(".")[0].removesuffix(".kernel")
        if name.startswith("encoder.") and part != VECTORS:
            parts[part][name] = parameter
    return parts


def _pieces(tokenizer: Tokenizer) -> list[str]:
    return [tokenizer.piece(i) for i in range(len(SPECIALS), tokenizer.size)]


def _carry_rows(
    parameters: dict[str, Tensor], source: dict[str, Tensor], mine: Sequence[str], theirs: Sequence[str],
    first: int,
) -> list[int]:
    """Copy the rows of what both sides have, and the `first` ones with them; which rows both sides have."""
    ((name, table),) = parameters.items()
    if name not in source or source[name].shape[1] != table.shape[1]:
        return []
    places = {entry: i for i, entry in enumerate(theirs, first)}
    shared = [(i, places[entry]) for i, entry in enumerate(mine, first) if entry in places]
    if shared:
        to, of = (torch.tensor([*range(first), *side]) for side in zip(*shared, strict=True))
        table[to] = source[name][of]
    return [i for i, _ in shared]
