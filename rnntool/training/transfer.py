"""Starting from another model: what of its encoder fits is carried over, and what was and was not is told.

Tensors that only make sense together, those of a recurrent layer's direction, go together or not at all.
Embeddings go row by row, to the entry or character that the row stands for. A layer may read more than it did
in the other model, say characters: the weights of what is new to it are zero at first, so it begins as what
it was. Knows no files but a model's.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rnntool import modeldir, tokenize
from rnntool.errors import ModelError, UsageError
from rnntool.models.encoder import CharacterContext, EncoderConfig, WordInput
from rnntool.models.network import Network, NetworkConfig
from rnntool.models.weights import load_network
from rnntool.tokenize import SPECIALS, UNK, Tokenizer

EMBEDDING = "input.embedding"
CHARACTERS = "input.characters.embedding"
GIVEN = ("input.vectors", "input.context")  # come from --vectors, a row being another word, and --features
READS = "weight_ih_l0"  # of a direction: what reads the layer's input, (G * H, I)

Part = dict[str, nn.Parameter]  # by their names within the part
Came = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Carried:
    """Which parts of the encoder of `model` were carried over, and which of the new one start afresh.

    `kept` says of each parameter that was carried over which of its numbers were: bool, of a shape that
    broadcasts to the parameter's.
    """

    model: str
    parts: list[str]
    left: list[str]
    kept: dict[str, Tensor]

    def to_json(self) -> dict[str, Any]:
        """As JSON types, the numbers left out."""
        return {"model": self.model, "parts": self.parts, "left": self.left}

    def __str__(self) -> str:
        """As a sentence."""
        return (f"carried over from {self.model}: {', '.join(self.parts)}; "
                f"not carried over: {', '.join(self.left) or 'nothing'}")


class Base:
    """The model that a training starts from: its vocabulary before the network is made, its weights then."""

    def __init__(self, model: str, folder: str, kind: str, *, option: str = "--init") -> None:
        """The `model` that lies in `folder`; `kind` is what the new network's tokens are.

        `UsageError` where the model's are something else.
        """
        self.model = model
        self.folder = Path(folder)
        self.config = modeldir.read_config(self.folder)
        data = self.config["data"]
        self.tokenizer: Tokenizer = tokenize.load(self.folder, data["tokenizer"])
        self.characters: str = (data.get("features") or {}).get("characters", "")
        if self.tokenizer.kind != kind:
            raise UsageError(f"{option} {model}: want a model of --tokenizer {kind}, found one of "
                             f"{self.tokenizer.kind}; give one that reads what is read here")

    def context(self) -> tuple[EncoderConfig, bool]:
        """The encoder that it reads characters by, and whether it does so backward, too.

        `UsageError` where it is no recurrent language model.
        """
        config = NetworkConfig.from_json(self.config["network"])
        if config.head.kind != "lm" or config.encoder.kind != "rnn":
            raise UsageError(f"--features {self.model}: want a recurrent language model of characters, found "
                             f"--encoder {config.encoder.kind} of the task {config.head.kind}; train one by "
                             "rnntool train lm --tokenizer char")
        return config.encoder, config.head.direction == "both"

    def content(self) -> bytes:
        """A digest of its weights and its vocabulary."""
        files = [self.folder / name for name in (modeldir.WEIGHTS, "vocab.txt", "tokenizer.model")]
        return hashlib.blake2b(b"".join(file.read_bytes() for file in files if file.exists())).digest()

    def place_context(self, context: CharacterContext) -> None:
        """Put the weights of a language model where a tagger reads characters by it."""
        source = load_network(self.folder, self.config)
        context.ahead.load_state_dict(source.encoder.state_dict())
        if context.back is not None and source.back is not None:
            context.back.load_state_dict(source.back.state_dict())

    def carry_over(self, network: Network, tokenizer: Tokenizer, *, characters: str = "") -> Carried:
        """Put what fits into `network`, whose entries and characters are those given.

        Raises `ModelError` where nothing fits.
        """
        source = load_network(self.folder, self.config)
        rows = {  # what the rows of both sides stand for, and how many rows come first that stand for nothing
            EMBEDDING: (_pieces(tokenizer), _pieces(self.tokenizer), len(SPECIALS), "entries"),
            CHARACTERS: (characters, self.characters, UNK + 1, "characters"),
        }
        theirs = _parts(source)
        names = {parameter: name for name, parameter in network.named_parameters()}
        carried: list[str] = []
        left: list[str] = []
        kept: dict[str, Tensor] = {}
        with torch.no_grad():
            for name, part in _parts(network).items():
                if name in rows:
                    came, told = _carry_rows(part, theirs.get(name, {}), *rows[name])
                else:
                    sides = _reads(network, name), _reads(source, name)
                    came, told = _carry(part, theirs.get(name, {}), *sides)
                (carried if came else left).append(name + told)
                kept |= {names[part[key]]: which for key, which in came.items()}
        if not carried:
            raise ModelError(f"{self.folder}: nothing of its encoder fits this network; give the same "
                             "--cell, --hidden and --embed as it was trained with")
        return Carried(model=self.model, parts=carried, left=left, kept=kept)


def _parts(network: Network) -> dict[str, Part]:
    """The encoder's parameters by name, those together that belong to one module.

    The layers of a backward language model go by the names that they would have in a bidirectional encoder.
    """
    parts: dict[str, Part] = defaultdict(dict)
    for name, parameter in network.named_parameters():
        place, _, key = name.rpartition(".")
        side, _, part = place.removesuffix(".kernel").partition(".")
        if side == "back":
            part = part.replace(".ahead", ".back")
        if side in ("encoder", "back") and not part.startswith(GIVEN):
            parts[part][key] = parameter
    return parts


def _reads(network: Network, part: str) -> dict[str, int]:
    """What a direction of a layer reads, side by side, and how wide each is; nothing for other parts."""
    where, *rest = part.split(".")
    if where != "layers":
        return {}
    index, side, *_ = rest
    encoder, source = network.encoder, network.encoder.input
    if index != "0":
        sides = [side] if network.back is not None else ["ahead", "back"][: 1 + encoder.config.bidirectional]
        return dict.fromkeys(sides, encoder.config.hidden)
    blocks = {"embedding": source.embedding.embedding_dim}
    if isinstance(source, WordInput):
        blocks |= {name: getattr(module, "output_size", 0) or module.embedding_dim
                   for name in ("characters", "affixes", "vectors", "context")
                   if (module := getattr(source, name)) is not None}
    return blocks


def _pieces(tokenizer: Tokenizer) -> list[str]:
    return [tokenizer.piece(i) for i in range(len(SPECIALS), tokenizer.size)]


def _carry_rows(
    part: Part, source: Part, mine: Sequence[str], theirs: Sequence[str], first: int, unit: str,
) -> tuple[Came, str]:
    """Copy the rows of what both sides have, and the `first` ones with them; which, and this in words."""
    ((key, table),) = part.items()
    if key not in source or source[key].shape[1] != table.shape[1]:
        return {}, ""
    places = {entry: i for i, entry in enumerate(theirs, first)}
    shared = [(i, places[entry]) for i, entry in enumerate(mine, first) if entry in places]
    if not shared:
        return {}, ""
    to, of = (torch.tensor([*range(first), *side]) for side in zip(*shared, strict=True))
    table[to] = source[key][of]
    which = torch.zeros(len(table), 1, dtype=torch.bool)
    which[to] = True
    return {key: which}, f" ({len(shared)} of {len(mine)} {unit})"


def _carry(part: Part, source: Part, mine: dict[str, int], theirs: dict[str, int]) -> tuple[Came, str]:
    """Copy a part whole; of what it reads, `mine`, at least `theirs`. Which numbers, and this in words."""
    wider = READS in part and theirs.items() < mine.items()
    for key, parameter in part.items():
        if key not in source or (source[key].shape != parameter.shape and not (wider and key == READS)):
            return {}, ""
    came = {key: torch.ones(1, dtype=torch.bool) for key in part}
    if not wider:
        for key, parameter in part.items():
            parameter.copy_(source[key])
        return came, ""
    came[READS] = torch.cat([torch.full((1, size), name in theirs) for name, size in mine.items()], dim=1)
    for key, parameter in part.items():
        parameter.zero_()
        parameter.masked_scatter_(came[key], source[key])
    return came, f" ({sum(theirs.values())} of {sum(mine.values())} inputs)"
