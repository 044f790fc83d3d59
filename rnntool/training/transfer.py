"""Transfer: initialize the encoder or the decoder of a new network with weights of a model that fit.

1. The parameters of a module are transferred all or none; their shapes have to be the same.
2. Embeddings are an exception: each row is transferred to the row of the same token or character.
3. The input weights of a recurrent layer are another exception: they are transferred for each input
   (embedding, characters, vectors, …) that both networks have and that means the same in both.
4. An input means the same if it was transferred itself, or if it doesn't learn and is equal in both models.
5. Input weights that aren't transferred start at zero, so that the layer first computes what it did before.
6. A decoder gets the embedding, the layers and the softmax of a language model.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from rnntool.errors import ModelError, setting
from rnntool.models.adaptive_embedding import AdaptiveEmbedding
from rnntool.models.cells import CELLS
from rnntool.models.encoder import WordInput
from rnntool.models.heads.decoder import DecoderHead
from rnntool.models.heads.language_model import LMHead, SoftmaxHead
from rnntool.models.network import Network
from rnntool.tasks.base import RowNames
from rnntool.tokenize import SPECIALS, UNK
from rnntool.training.pretrained_model import PretrainedModel

EMBEDDING = "input.embedding"
CHARACTERS = "input.characters.embedding"
INPUTS = ("embedding", "characters", "affixes", "vectors", "context")  # in the order of concatenation
FIXED = ("vectors", "context")  # inputs that don't learn
INPUT_WEIGHT = "weight_ih_l0"  # (G * H, I), of one direction of a recurrent layer
# a cell with such weights, which also depend on the input, is transferred as a whole
OTHER_INPUT_WEIGHTS = {name for cell in CELLS.values() for name in cell.other_input_weights}

Masks = dict[str, Tensor]  # by parameter: True where its numbers were transferred; broadcasts to its shape


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """Which parts of a new encoder or decoder were transferred from `model`, and which stayed random."""

    model: str
    transferred: list[str]
    left_out: list[str]
    masks: Masks

    def to_json(self) -> dict[str, Any]:
        """Return all but the masks, for config.json."""
        return {"model": self.model, "parts": self.transferred, "left": self.left_out}

    def __str__(self) -> str:
        return (f"transferred from {self.model}: {', '.join(self.transferred)}; "
                f"not transferred: {', '.join(self.left_out) or 'nothing'}")


@dataclass(frozen=True, kw_only=True)
class Table:
    """What each row of an embedding stands for: a token or character, or the number of a special row."""

    rows: Sequence[str | int]
    unit: str  # the name of the strings in reports


@dataclass(frozen=True, kw_only=True)
class Part:
    """The parameters of one module of an encoder, by their names within the module."""

    parameters: dict[str, Tensor] = field(default_factory=dict)
    table: Table | None = None  # of an embedding
    inputs: dict[str, int] = field(default_factory=dict)  # of a layer: the widths of its inputs, in order


def transfer_weights(model: PretrainedModel, network: Network, names: RowNames) -> Transfer:
    """Transfer the weights of a model that fit into `network`, whose embeddings have rows for `names`.

    `ModelError` if nothing fits.
    """
    source, source_names = model.network(), model.task.row_names()
    parts, source_parts = _parts(network, names), _parts(source, source_names)
    source_parts |= _token_tables(source, source_names, like=network)
    same = _same_fixed_inputs(network, source, names, source_names)
    transfer = _transfer(model, network, parts, source_parts, {name for name in FIXED if name not in same})
    both = _input_widths(network).keys() & _input_widths(source).keys()
    left_out = [f"the weights of layers.0 for input.{name}, which differs" for name in FIXED
                if name in both and name not in same]
    return replace(transfer, left_out=[*transfer.left_out, *left_out])


def transfer_to_decoder(model: PretrainedModel, network: Network, entries: Sequence[str]) -> Transfer:
    """Transfer the weights of a language model that fit into the decoder of `network`.

    The decoder's tokens are `entries`. `ModelError` if nothing fits.
    """
    decoder, source = network.head, model.network()
    assert isinstance(decoder, DecoderHead)
    assert isinstance(source.head, LMHead)
    config, names = decoder.config, model.task.row_names()
    table = Table(rows=[*range(len(SPECIALS)), *entries], unit="entries")
    parts = {EMBEDDING: Part(parameters={"weight": decoder.embedding.weight}, table=table)}
    feed = {"feed": config.output_size} if config.input_feeding else {}
    for name, parameters in _modules(network, "head").items():
        if name.startswith("layers."):
            inputs = {"forward_cell": config.hidden}
            if name.startswith("layers.0."):
                inputs = {"embedding": config.embed, **feed}
            parts[name] = Part(parameters=parameters, inputs=inputs)
    parts["combine"] = Part(parameters={"weight": decoder.combine.weight})
    output: dict[str, Tensor] = {"bias": decoder.output.bias}
    if not config.tied:
        output["weight"] = decoder.output.weight
    parts["output"] = Part(parameters=output, table=table)
    source_parts = _parts(source, names) | _token_tables(source, names, like=network)
    projection = source.head.projection
    source_parts["combine"] = Part(parameters={
        "weight": torch.eye(source.head.size) if projection is None else projection.weight})
    fits = not config.tied or config.embed == source.encoder.input.embedding.embedding_dim
    if isinstance(source.head, SoftmaxHead) and fits:  # a bias alone would mean little
        source_parts["output"] = Part(
            parameters={"weight": source.head.weight, "bias": source.head.output.bias},
            table=replace(table, rows=[*range(len(SPECIALS)), *names.tokens][: source.head.outputs]))
    return _transfer(model, network, parts, source_parts, set(), prefix="decoder.")


def _transfer(
    model: PretrainedModel, network: Network, parts: Mapping[str, Part], source_parts: Mapping[str, Part],
    changed: set[str], *, prefix: str = "",
) -> Transfer:
    """Copy what fits of each part, inputs before layers; `changed` are inputs that mean something else.

    `prefix` is added to the names in the report. `ModelError` if nothing fits.
    """
    parameter_names: dict[Tensor, str] = {
        parameter: name for name, parameter in network.named_parameters()}
    transferred: list[str] = []
    left_out: list[str] = []
    masks: Masks = {}
    with torch.no_grad():
        for name, part in parts.items():  # inputs before layers
            source_part = source_parts.get(name, Part())
            if part.table:
                part_masks, detail = _copy_rows(part, part.table, source_part)
            else:
                part_masks, detail = _copy_part(part, source_part, changed)
            (transferred if part_masks else left_out).append(prefix + name + detail)
            if not part_masks and name.startswith("input."):
                changed.add(name.split(".")[1])
            masks |= {parameter_names[part.parameters[key]]: mask for key, mask in part_masks.items()}
    if not transferred:
        raise ModelError(
            "none of its weights fit this network", place=model.folder,
            advice=f"choose the {setting('cell')}, {setting('hidden')} and {setting('embed')} that it was "
                   "trained with")
    return Transfer(model=model.name, transferred=transferred, left_out=left_out, masks=masks)


def _parts(network: Network, names: RowNames) -> dict[str, Part]:
    """Group the parameters of an encoder by module, leaving out the inputs that don't learn.

    The layers of a backward language model get the names that they would have in a bidirectional encoder.
    """
    tables = _tables(network, names)
    return {name: Part(parameters=parameters, table=tables.get(name), inputs=_layer_inputs(network, name))
            for name, parameters in _modules(network, "encoder", "backward_encoder").items()
            if not name.startswith(tuple(f"input.{name}" for name in FIXED))}


def _modules(network: Network, *sides: str) -> dict[str, dict[str, Tensor]]:
    """Return the parameters of each module of some parts of a network, by their names within the module."""
    modules: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, parameter in network.named_parameters():
        path, _, key = name.rpartition(".")
        side, _, module = path.removesuffix(".kernel").partition(".")
        if side == "backward_encoder":
            module = module.replace(".forward_cell", ".backward_cell")
        if side in sides:
            modules[module][key] = parameter
    return modules


def _tables(network: Network, names: RowNames) -> dict[str, Table]:
    """Return what the rows of each embedding stand for; an adaptive one has a table for each cluster."""
    tokens = [*range(len(SPECIALS)), *names.tokens]
    tables = {
        EMBEDDING: Table(rows=tokens, unit="entries"),
        CHARACTERS: Table(rows=[*range(UNK + 1), *names.characters], unit="characters"),
    }
    embedding = network.encoder.input.embedding
    if isinstance(embedding, AdaptiveEmbedding):
        tables |= {f"{EMBEDDING}.tables.{i}": Table(rows=tokens[start:end], unit="entries")
                   for i, (start, end) in enumerate(embedding.spans)}
    return tables


def _token_tables(source: Network, names: RowNames, *, like: Network) -> dict[str, Part]:
    """Return the token embeddings of `source` in the form of the embeddings of another network.

    A token may be in another cluster there. Therefore each cluster of an adaptive embedding gets vectors of
    all tokens, approximated through the projection of the source; the first cluster has no projection.
    """
    embedding, target = source.encoder.input.embedding, like.encoder.input.embedding
    full = embedding.full_vectors() if isinstance(embedding, AdaptiveEmbedding) else embedding.weight
    table = _tables(source, names)[EMBEDDING]
    if not isinstance(target, AdaptiveEmbedding):
        return {EMBEDDING: Part(parameters={"weight": full}, table=table)}
    tables = [f"{EMBEDDING}.tables.{i}" for i in range(len(target.spans))]
    vectors: list[Tensor] = []
    if target.embedding_dim == embedding.embedding_dim:
        vectors.append(full)
        if isinstance(embedding, AdaptiveEmbedding):
            projections = (embedding.projection(i).weight for i in range(1, len(embedding.spans)))
            vectors += [full @ torch.linalg.pinv(projection).T for projection in projections]
    parts = [Part(parameters={"weight": weight}, table=table) for weight in vectors]
    return {name: part or Part() for name, part in zip_longest(tables, parts[: len(tables)])}


def _layer_inputs(network: Network, part: str) -> dict[str, int]:
    """Return the width of each input that a part of a layer reads, in order; nothing for other parts."""
    kind, *rest = part.split(".")
    if kind != "layers":
        return {}
    index, direction, *_ = rest
    if index == "0":
        return _input_widths(network)
    config = network.encoder.config
    if network.backward_encoder is not None:  # a language model: a direction doesn't read the other one
        return {direction: config.hidden}
    bidirectional = config.bidirectional and config.kind == "rnn"
    directions = ("forward_cell", "backward_cell") if bidirectional else ("forward_cell",)
    return dict.fromkeys(directions, config.hidden)


def _input_widths(network: Network) -> dict[str, int]:
    """Return the width of each input of the first layer, in order."""
    source = network.encoder.input
    modules = {name: getattr(source, name, None) for name in INPUTS}
    return {name: module.embedding_dim if hasattr(module, "embedding_dim") else module.output_size
            for name, module in modules.items() if module is not None}


def _same_fixed_inputs(
    network: Network, source: Network, names: RowNames, source_names: RowNames
) -> set[str]:
    """Return the inputs that don't learn and are equal in both networks."""
    same: set[str] = set()
    new, old = network.encoder.input, source.encoder.input
    if not isinstance(new, WordInput) or not isinstance(old, WordInput):
        return same
    if new.vectors is not None and old.vectors is not None:
        rows, source_rows = _shared_rows(["", *names.vectors], ["", *source_names.vectors])
        if len(rows) > 1 and torch.equal(new.vectors.weight[rows], old.vectors.weight[source_rows]):
            same.add("vectors")
    if new.context is not None and old.context is not None and names.context == source_names.context:
        weights, source_weights = new.context.state_dict(), old.context.state_dict()
        if weights.keys() == source_weights.keys() and all(
                torch.equal(weight, source_weights[name]) for name, weight in weights.items()):
            same.add("context")
    return same


def _shared_rows(rows: Sequence[str | int], source_rows: Sequence[str | int]) -> tuple[Tensor, Tensor]:
    """Match the rows that stand for the same thing in two tables; return their indices (N,) in each."""
    source_index = {row: i for i, row in enumerate(source_rows)}
    pairs = [(i, source_index[row]) for i, row in enumerate(rows) if row in source_index]
    both = torch.tensor(pairs, dtype=torch.int64).view(-1, 2)
    return both[:, 0], both[:, 1]


def _copy_rows(part: Part, table: Table, source: Part) -> tuple[Masks, str]:
    """Copy the rows of an embedding or softmax that both models have.

    Returns their masks and a note about the number.
    """
    if source.table is None or any(
            key not in source.parameters or source.parameters[key].shape[1:] != weight.shape[1:]
            for key, weight in part.parameters.items()):
        return {}, ""
    rows, source_rows = _shared_rows(table.rows, source.table.rows)
    count = sum(isinstance(table.rows[i], str) for i in rows.tolist())
    if not count:
        return {}, ""
    masks: Masks = {}
    for key, weight in part.parameters.items():
        weight[rows] = source.parameters[key][source_rows]
        masks[key] = torch.zeros(len(weight), *[1] * (weight.dim() - 1), dtype=torch.bool)
        masks[key][rows] = True
    named = sum(isinstance(row, str) for row in table.rows)
    return masks, f" ({count} of {named} {table.unit})"


def _copy_part(part: Part, source: Part, changed: Set[str]) -> tuple[Masks, str]:
    """Copy a module without the weights of `changed` inputs; return masks and a note about the inputs."""
    parameters = part.parameters
    shared = {name for name, width in part.inputs.items() if source.inputs.get(name) == width} - changed
    by_input = INPUT_WEIGHT in parameters and not OTHER_INPUT_WEIGHTS & parameters.keys()
    fits = bool(shared) if by_input else shared == part.inputs.keys() == source.inputs.keys()
    if not fits or parameters.keys() != source.parameters.keys() or any(
            weight.shape != source.parameters[key].shape
            for key, weight in parameters.items() if not (by_input and key == INPUT_WEIGHT)):
        return {}, ""
    masks = {key: torch.ones(1, dtype=torch.bool) for key in parameters}
    for key, weight in parameters.items():
        if not (by_input and key == INPUT_WEIGHT):
            weight.copy_(source.parameters[key])
            continue
        columns, source_columns = (_columns(each.inputs, shared) for each in (part, source))
        weight.zero_()
        weight[:, columns] = source.parameters[key][:, source_columns]
        masks[key] = columns[None]
    if shared == part.inputs.keys():
        return masks, ""
    return masks, f" ({sum(part.inputs[name] for name in shared)} of {sum(part.inputs.values())} inputs)"


def _columns(widths: dict[str, int], chosen: Set[str]) -> Tensor:
    """Return the mask (I,) of the columns of the chosen inputs."""
    return torch.cat([torch.full((width,), name in chosen) for name, width in widths.items()])
