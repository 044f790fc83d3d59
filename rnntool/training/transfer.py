"""Starting from another model: what of its encoder fits is carried over, and what was and was not is told.

Tensors that only make sense together, those of a recurrent layer's direction, go together or not at all.
Embeddings go row by row, to the entry or character that the row stands for. The weights of the first layer
go as far as what they weigh is what it was: it was carried over too, or was given and is the same, as the
vectors of one file are and the states of one language model. The others are zero at first, as are those of
what a layer didn't read in the other model, say characters, so it begins as what it was. Knows no files but a
model's.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from rnntool import modeldir, tokenize
from rnntool.errors import ModelError, UsageError
from rnntool.models.bands import BandedEmbedding
from rnntool.models.encoder import EncoderConfig, WordInput
from rnntool.models.network import Network, NetworkConfig
from rnntool.models.weights import load_network
from rnntool.tasks import ClassifyTask, TagTask, Task
from rnntool.tokenize import SPECIALS, UNK, Tokenizer

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
    def of(cls, task: Task[Any, Any, Any]) -> Self:
        """Those of a task's network."""
        features = task.features if isinstance(task, ClassifyTask | TagTask) else None
        context = task.context if isinstance(task, TagTask) else None
        return cls(
            entries=task.tokenizer.entries, characters=features.characters if features else "",
            vectors=features.vectors if features else (), context=context.config() if context else None)


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
        features = data.get("features") or {"characters": "", "vectors": 0}
        vectors = _words_of_vectors(self.folder) if features["vectors"] else ()
        self.rows = RowNames(entries=self.tokenizer.entries, characters=features["characters"],
                             vectors=vectors, context=data.get("context"))
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
        """A digest of all that is read of it: weights, vocabulary, and what config.json says of both."""
        digest = hashlib.blake2b(json.dumps([self.config["data"], self.config["network"]]).encode())
        for name in (modeldir.WEIGHTS, "vocab.txt", "tokenizer.model", "vectors.txt"):
            if (self.folder / name).exists():
                digest.update((self.folder / name).read_bytes())
        return digest.digest()

    def place_context(self, network: Network) -> None:
        """Put the weights of a language model where a tagger reads characters by it."""
        assert isinstance(network.encoder.input, WordInput)
        context = network.encoder.input.context
        assert context is not None
        source = load_network(self.folder, self.config)
        context.ahead.load_state_dict(source.encoder.state_dict())
        if context.back is not None and source.back is not None:
            context.back.load_state_dict(source.back.state_dict())

    def carry_over(self, network: Network, mine: RowNames) -> Carried:
        """Put what fits into `network`, whose rows are `mine`. Raises `ModelError` where nothing fits."""
        source = load_network(self.folder, self.config)
        theirs = _parts(source)
        # what the rows of both sides stand for, and how many rows come first that stand for nothing
        rows: dict[str, tuple[Sequence[str], Sequence[str], int, str]] = {
            EMBEDDING: (mine.entries, self.rows.entries, len(SPECIALS), "entries"),
            CHARACTERS: (mine.characters, self.rows.characters, UNK + 1, "characters"),
        }
        table, before = network.encoder.input.embedding, source.encoder.input.embedding
        if isinstance(before, BandedEmbedding):
            theirs[EMBEDDING] = {"weight": nn.Parameter(before.full())}
        for band, (start, end) in enumerate(table.spans if isinstance(table, BandedEmbedding) else ()):
            name, first = f"{EMBEDDING}.tables.{band}", 0 if band else len(SPECIALS)
            entries = mine.entries[max(0, start - len(SPECIALS)) : end - len(SPECIALS)]
            rows[name] = (entries, self.rows.entries, first, "entries")
            theirs[name] = _shortened(before, table.embedding_dim, band)
        names = {parameter: name for name, parameter in network.named_parameters()}
        alike = _given_alike(network, source, mine, self.rows)
        other = {name for name in GIVEN if name not in alike}  # inputs that are not what they were
        carried: list[str] = []
        left: list[str] = []
        kept: dict[str, Tensor] = {}
        with torch.no_grad():
            for name, part in _parts(network).items():  # inputs before layers
                if name in rows:
                    came, told = _carry_rows(part, theirs.get(name, {}), *rows[name])
                else:
                    sides = _reads(network, name), _reads(source, name)
                    came, told = _carry(part, theirs.get(name, {}), *sides, other)
                (carried if came else left).append(name + told)
                if not came and name.startswith("input."):
                    other.add(name.split(".")[1])
                kept |= {names[part[key]]: which for key, which in came.items()}
        if not carried:
            raise ModelError(f"{self.folder}: nothing of its encoder fits this network; give the same "
                             "--cell, --hidden and --embed as it was trained with")
        both = _reads(network, "layers.0.ahead").keys() & _reads(source, "layers.0.ahead").keys()
        left += [f"what layers.0 reads of input.{name}, which is another" for name in GIVEN
                 if name in both and name not in alike]
        return Carried(model=self.model, parts=carried, left=left, kept=kept)


def _words_of_vectors(folder: Path) -> list[str]:
    """The words whose vectors a model was given, in their order; `ModelError` where these are damaged."""
    try:
        return (folder / "vectors.txt").read_text("utf-8").split("\n")[:-1]
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{folder / 'vectors.txt'}: is damaged ({error}); copy or train the model again"
                         ) from None


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
