"""An encoder as ONNX nodes: its input, and its layers one after the other."""

from __future__ import annotations

from functools import singledispatch

from torch import nn

from rnntool.models.adaptive_embedding import AdaptiveEmbedding
from rnntool.models.cells import CELLS
from rnntool.models.cells.kernel import TorchKernel
from rnntool.models.encoder import (
    CharacterCNN,
    CharacterContext,
    CharacterLSTM,
    Encoder,
    Input,
    TokenInput,
    WordInput,
)
from rnntool.models.export.builder import Graph
from rnntool.models.export.layers import add_layer, add_layer_of_words, add_recurrent_layer, look_up_words
from rnntool.models.layers import RecurrentLayer


def add_encoder(g: Graph, encoder: Encoder, states: list[dict[str, int]]) -> tuple[str, list[list[str]]]:
    """Add an encoder; return its states (T, B, D), and the final state of each layer.

    `states` are the names and sizes of each layer's state inputs; empty if the layer has none.
    """
    layers = list(encoder.layers)
    x, lengths, done = add_input(encoder.input, g, layers[0])
    final_states: list[list[str]] = [[] for _ in range(done)]
    for i, layer in enumerate(layers[done:], done):
        state = [g.input(name, "float32", [1, "batch", size]) for name, size in states[i].items()]
        x, final_state = add_layer(layer, g, x, lengths, f"layer.{i}", state)
        final_states.append(final_state)
    return x, final_states


@singledispatch
def add_input(source: Input, g: Graph, first_layer: nn.Module) -> tuple[str, str, int]:
    """Add the input of an encoder; return (T, B, ·), the lengths, and how many layers are included.

    An input of words may include the first layer, because most of its work is the same for each word type.
    """
    raise TypeError(f"{type(source).__name__} has no exporter")


@add_input.register
def _(source: TokenInput, g: Graph, first_layer: nn.Module) -> tuple[str, str, int]:
    tokens = g.input("tokens", "int64", ["time", "batch"])
    x = _embed(g, source.embedding, tokens, "embedding")
    return x, g.input("lengths", "int32", ["batch"]), 0


@add_input.register
def _(source: WordInput, g: Graph, first_layer: nn.Module) -> tuple[str, str, int]:
    lengths = g.input("lengths", "int32", ["batch"])
    types = _word_types(g, source)
    context = _context(g, source.context) if source.context is not None else []
    if isinstance(first_layer, RecurrentLayer):
        kernel = CELLS[first_layer.forward_cell.name].kernel()
        if isinstance(kernel, TorchKernel):
            return add_layer_of_words(
                first_layer, kernel, g, types, source.type_size, context, lengths, "layer.0"), lengths, 1
    x = look_up_words(g, types, source.type_size, 1)[0]
    return g.add("Concat", x, *context, axis=2) if context else x, lengths, 0


def _embed(g: Graph, embedding: nn.Embedding | AdaptiveEmbedding, tokens: str, name: str) -> str:
    """Add the vectors (T, B, D) of `tokens` (T, B)."""
    if isinstance(embedding, nn.Embedding):
        return g.add("Gather", g.weight(embedding.weight, name), tokens)
    x = ""
    for cluster, (start, end) in enumerate(embedding.spans):
        ids = g.clipped(g.add("Sub", tokens, g.constant(start)), end - start)
        rows = g.add("Gather", g.weight(embedding.table(cluster), f"{name}.{cluster}"), ids)
        if cluster:
            is_here = g.add("Unsqueeze", g.add("GreaterOrEqual", tokens, g.constant(start)), g.constant([2]))
            full = g.linear(rows, embedding.projection(cluster), f"{name}.{cluster}.projection")
            x = g.add("Where", is_here, full, x)
        else:
            x = rows
    return x


def _word_types(g: Graph, source: WordInput) -> str:
    """Add (U, D), a vector for each word type of the batch."""
    tokens = g.input("type_tokens", "int64", ["types"])
    parts = [g.add("Gather", g.weight(source.embedding.weight, "embedding"), tokens)]
    if source.characters is not None:
        chars = g.input("type_chars", "int64", ["types", "characters"])
        lengths = g.input("type_char_lengths", "int32", ["types"])
        parts.append(add_characters(source.characters, g, chars, lengths))
    if source.affixes is not None:
        affixes = g.input("type_affixes", "int64", ["types", "affixes"])
        # The sum runs over the first axis so that a vector has the same bits alone and in a batch.
        affixes = g.add("Transpose", affixes, perm=[1, 0])
        rows = g.add("Gather", g.weight(source.affixes.weight, "affixes"), affixes)  # (K, U, A)
        parts.append(g.add("ReduceSum", rows, g.constant([0]), keepdims=0))
    if source.vectors is not None:
        vectors = g.input("type_vectors", "int64", ["types"])
        parts.append(g.add("Gather", g.weight(source.vectors.weight, "vectors"), vectors))
    return g.add("Concat", *parts, axis=1)


def _context(g: Graph, context: CharacterContext) -> list[str]:
    """Add the states (T, B, H) of each direction of a character language model at the words."""
    chars = g.input("chars", "int64", ["chars", "batch"])
    lengths = g.input("char_lengths", "int32", ["batch"])
    x = _embed(g, context.forward_encoder.input.embedding, chars, "context.embedding")
    parts = []
    directions = (("forward", context.forward_encoder, "word_ends"),
                  ("backward", context.backward_encoder, "word_starts"))
    for direction, encoder, places in directions:
        if encoder is None:
            continue
        states = x
        for i, layer in enumerate(encoder.layers):
            assert isinstance(layer, RecurrentLayer)
            states, _ = add_recurrent_layer(
                layer, g, states, lengths, f"context.{direction}.{i}", [], reverse=direction == "backward")
        steps = g.input(places, "int64", ["time", "batch"])
        parts.append(g.at_steps(states, steps, encoder.output_size))
    return parts


@singledispatch
def add_characters(network: nn.Module, g: Graph, chars: str, lengths: str) -> str:
    """Add a network over the characters (U, C) of words with `lengths` (U,); return (U, output_size)."""
    raise TypeError(f"{type(network).__name__} has no exporter")


@add_characters.register
def _(network: CharacterCNN, g: Graph, chars: str, lengths: str) -> str:
    mask = g.cast(g.time_mask(chars, 1, lengths), "float32")  # (C, U)
    mask = g.add("Unsqueeze", g.add("Transpose", mask, perm=[1, 0]), g.constant([1]))  # (U, 1, C)
    embedded = g.add("Gather", g.weight(network.embedding.weight, "char_embedding"), chars)  # (U, C, E)
    embedded = g.add("Mul", g.add("Transpose", embedded, perm=[0, 2, 1]), mask)  # (U, E, C)
    convolution = network.convolution
    assert convolution.bias is not None
    y = g.add(
        "Conv", embedded, g.weight(convolution.weight, "char_convolution.weight"),
        g.weight(convolution.bias, "char_convolution.bias"), kernel_shape=[network.WIDTH],
        pads=[network.WIDTH // 2] * 2)
    y = g.add("Mul", g.add("Relu", y), mask)
    return g.add("ReduceMax", y, axes=[2], keepdims=0)


@add_characters.register
def _(network: CharacterLSTM, g: Graph, chars: str, lengths: str) -> str:
    embedded = g.add("Gather", g.weight(network.embedding.weight, "char_embedding"), chars)  # (U, C, E)
    x = g.add("Transpose", embedded, perm=[1, 0, 2])
    _, (last, _) = add_recurrent_layer(network.layer, g, x, lengths, "characters", [])  # (directions, U, H)
    return g.add("Reshape", g.add("Transpose", last, perm=[1, 0, 2]), g.constant([0, -1]))
