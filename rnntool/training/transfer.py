"""Starting from another model: what of its encoder fits is carried over, and what was and was not is told.

Tensors that only make sense together, those of a recurrent layer's direction, go together or not at all.
Embeddings go row by row, to the entry or character that the row stands for. The weights of the first layer
go as far as what they weigh is what it was: it was carried over too, or was given and is the same, as the
vectors of one file are and the states of one language model. The others are zero at first, as are those of
what a layer didn't read in the other model, say characters, so it begins as what it was. Knows no files but a
model's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from rnntool.errors import ModelError
from rnntool.models.adaptive_embedding import BandedEmbedding
from rnntool.models.encoder import WordInput
from rnntool.models.network import Network
from rnntool.tasks.base import AnyTask
from rnntool.tasks.classify import ClassifyTask
from rnntool.tasks.tag import TagTask
from rnntool.tasks.word_features import words_with_vectors
from rnntool.tokenize import SPECIALS, UNK
from rnntool.training.pretrained_model import Origin

EMBEDDING = "input.embedding"
CHARACTERS = "input.characters.embedding"
GIVEN = ("vectors", "context")  # inputs that come from --vectors, a row being another word, and --features
READS = "weight_ih_l0"  # of a direction: what reads the layer's input, (G * H, I)

MIXES = "mogrify_x"  # of a direction whose other weights read the input as well
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


@dataclass(frozen=True, kw_only=True)
class RowNames:
    """What the rows of a network's tables stand for: those behind the ones that stand for nothing."""

    entries: Sequence[str]  # of the vocabulary
    characters: str  # that words are spelled with
    vectors: Sequence[str]  # words that have one that was given
    context: Mapping[str, Any] | None  # the characters of the language model that is read beside words

    @classmethod
    def of(cls, task: AnyTask) -> Self:
        """Those of a task's network."""
        features = task.features if isinstance(task, ClassifyTask | TagTask) else None
        context = task.context if isinstance(task, TagTask) else None
        return cls(
            entries=task.tokenizer.entries, characters=features.characters if features else "",
            vectors=features.vectors if features else (), context=context.config() if context else None)

    @classmethod
    def of_origin(cls, origin: Origin) -> Self:
        """Those of a model that was read."""
        data = origin.config["data"]
        features = data.get("features") or {"characters": "", "vectors": 0}
        return cls(
            entries=origin.tokenizer.entries, characters=features["characters"],
            vectors=words_with_vectors(origin.folder, features["vectors"]), context=data.get("context"))


@dataclass(frozen=True, kw_only=True)
class Table:
    """What the rows of an embedding stand for here and in the other model, from the row `first` on."""

    mine: Sequence[str]
    theirs: Sequence[str]
    first: int
    unit: str


def carry_over(origin: Origin, network: Network, mine: RowNames) -> Carried:
    """Put what fits of a model into `network`, whose rows are `mine`. `ModelError` where nothing fits."""
    source, rows = origin.network(), RowNames.of_origin(origin)
    theirs, tables = _parts(source), _tables(network, mine, rows)
    before = source.encoder.input.embedding
    if isinstance(before, BandedEmbedding):
        theirs[EMBEDDING] = {"weight": nn.Parameter(before.full())}
    size = network.encoder.input.embedding.embedding_dim
    for band in range(len(_spans(network))):
        theirs[f"{EMBEDDING}.tables.{band}"] = _shortened(before, size, band)
    names = {parameter: name for name, parameter in network.named_parameters()}
    alike = _given_alike(network, source, mine, rows)
    other = {name for name in GIVEN if name not in alike}  # inputs that are not what they were
    carried: list[str] = []
    left: list[str] = []
    kept: dict[str, Tensor] = {}
    with torch.no_grad():
        for name, part in _parts(network).items():  # inputs before layers
            if name in tables:
                came, told = _carry_rows(part, theirs.get(name, {}), tables[name])
            else:
                sides = _reads(network, name), _reads(source, name)
                came, told = _carry(part, theirs.get(name, {}), *sides, other)
            (carried if came else left).append(name + told)
            if not came and name.startswith("input."):
                other.add(name.split(".")[1])
            kept |= {names[part[key]]: which for key, which in came.items()}
    if not carried:
        raise ModelError(f"{origin.folder}: nothing of its encoder fits this network; give the same "
                         "--cell, --hidden and --embed as it was trained with")
    both = _reads(network, "layers.0.ahead").keys() & _reads(source, "layers.0.ahead").keys()
    left += [f"what layers.0 reads of input.{name}, which is another" for name in GIVEN
             if name in both and name not in alike]
    return Carried(model=origin.name, parts=carried, left=left, kept=kept)


def _spans(network: Network) -> list[tuple[int, int]]:
    """Where the bands of the embedding begin and end; none where it is one table."""
    embedding = network.encoder.input.embedding
    return embedding.spans if isinstance(embedding, BandedEmbedding) else []


def _tables(network: Network, mine: RowNames, theirs: RowNames) -> dict[str, Table]:
    """What the rows of each table of embeddings stand for, by the part's name."""
    first = len(SPECIALS)
    tables = {
        EMBEDDING: Table(mine=mine.entries, theirs=theirs.entries, first=first, unit="entries"),
        CHARACTERS: Table(mine=mine.characters, theirs=theirs.characters, first=UNK + 1, unit="characters"),
    }
    for band, (start, end) in enumerate(_spans(network)):
        tables[f"{EMBEDDING}.tables.{band}"] = Table(
            mine=mine.entries[max(0, start - first) : end - first], theirs=theirs.entries,
            first=0 if band else first, unit="entries")
    return tables


def _given_alike(network: Network, source: Network, mine: RowNames, theirs: RowNames) -> set[str]:
    """Which of the inputs that are given, and not learned, mean the same in both networks."""
    alike: set[str] = set()
    ours, others = network.encoder.input, source.encoder.input
    if not isinstance(ours, WordInput) or not isinstance(others, WordInput):
        return alike
    if ours.vectors is not None and others.vectors is not None:
        places = {word: row for row, word in enumerate(theirs.vectors, 1)}
        shared = [(row, places[word]) for row, word in enumerate(mine.vectors, 1) if word in places]
        if shared:
            here, there = (torch.tensor(side) for side in zip(*shared, strict=True))
            if torch.equal(ours.vectors.weight[here], others.vectors.weight[there]):
                alike.add("vectors")
    if ours.context is not None and others.context is not None and mine.context == theirs.context:
        a, b = ours.context.state_dict(), others.context.state_dict()
        if a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a):
            alike.add("context")
    return alike


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
        if side in ("encoder", "back") and not part.startswith(tuple(f"input.{name}" for name in GIVEN)):
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
        two = encoder.config.bidirectional and encoder.config.kind == "rnn"
        sides = [side] if network.back is not None else ["ahead", "back"][: 1 + two]
        return dict.fromkeys(sides, encoder.config.hidden)
    blocks = {"embedding": source.embedding.embedding_dim}
    if isinstance(source, WordInput):
        blocks |= {name: getattr(module, "output_size", 0) or module.embedding_dim
                   for name in ("characters", "affixes", "vectors", "context")
                   if (module := getattr(source, name)) is not None}
    return blocks


def _shortened(embedding: nn.Embedding | BandedEmbedding, size: int, band: int) -> Part:
    """The vectors of all entries in a band, as near as its projection gets to what they are in theirs.

    So an entry is carried over into whichever band it is now in. The first band's are whole, and those of
    special entries come first. There are none where the other model has no such band, or another `size`.
    """
    if embedding.embedding_dim != size:
        return {}
    if not isinstance(embedding, BandedEmbedding):
        return {} if band else {"weight": nn.Parameter(embedding.weight)}
    if band >= len(embedding.spans):
        return {}
    vectors = embedding.full()
    if band:
        vectors = vectors[len(SPECIALS) :] @ torch.linalg.pinv(embedding.projection(band).weight).T
    return {"weight": nn.Parameter(vectors)}


def _carry_rows(part: Part, source: Part, table: Table) -> tuple[Came, str]:
    """Copy the rows of what both sides have, and the first ones with them; which, and this in words."""
    ((key, weight),) = part.items()
    if key not in source or source[key].shape[1] != weight.shape[1]:
        return {}, ""
    places = {entry: i for i, entry in enumerate(table.theirs, table.first)}
    shared = [(i, places[entry]) for i, entry in enumerate(table.mine, table.first) if entry in places]
    if not shared:
        return {}, ""
    to, of = (torch.tensor([*range(table.first), *side]) for side in zip(*shared, strict=True))
    weight[to] = source[key][of]
    which = torch.zeros(len(weight), 1, dtype=torch.bool)
    which[to] = True
    return {key: which}, f" ({len(shared)} of {len(table.mine)} {table.unit})"


def _carry(
    part: Part, source: Part, mine: dict[str, int], theirs: dict[str, int], other: Set[str]
) -> tuple[Came, str]:
    """Copy a part, of what reads inputs as far as both read them, `other` ones apart.

    `mine` and `theirs` are these inputs and how wide they are. Which numbers came, and this in words.
    """
    shared = {name for name, size in mine.items() if theirs.get(name) == size} - other
    whole = shared == mine.keys() == theirs.keys()
    partly = shared and READS in part and MIXES not in part
    if not (whole or partly) or any(
            key not in source or (source[key].shape != parameter.shape and (whole or key != READS))
            for key, parameter in part.items()):
        return {}, ""
    came = {key: torch.ones(1, dtype=torch.bool) for key in part}
    for key, parameter in part.items():
        if whole or key != READS:
            parameter.copy_(source[key])
            continue
        came[key] = _columns(mine, shared)
        parameter.zero_()
        parameter[:, came[key][0]] = source[key][:, _columns(theirs, shared)[0]]
    if shared == mine.keys():
        return came, ""
    return came, f" ({sum(mine[name] for name in shared)} of {sum(mine.values())} inputs)"


def _columns(widths: dict[str, int], chosen: Set[str]) -> Tensor:
    """(1, I) bool: which columns are of the chosen inputs."""
    return torch.cat([torch.full((1, size), name in chosen) for name, size in widths.items()], dim=1)
