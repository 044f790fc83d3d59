"""From a torch network to the ONNX graph that runs, written node by node.

torch's own exporter freezes the time axis of recurrent layers; ONNX's operators with `sequence_lens` take
ragged batches as they are. Each function below mirrors the module of the same name and knows how the two
differ in layout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from rnntool.models.adaptive_embedding import BandedEmbedding
from rnntool.models.cells.cell import (
    CELLS,
    Cell,
    MinGRU,
    Mogrifier,
)
from rnntool.models.encoder import (
    Bag,
    CharacterCNN,
    CharacterContext,
    CharacterLSTM,
    Encoder,
    Layer,
    TokenInput,
    Window,
    WordInput,
)
from rnntool.models.export import quantization as int8_graph
from rnntool.models.export.builder import (
    BOOL,
    FLOAT,
    INT32,
    INT64,
    Graph,
)
from rnntool.models.heads import (
    BandedLMHead,
    ClassifierHead,
    LMHead,
    TaggerHead,
)
from rnntool.models.network import Network, state_sizes


@dataclass(frozen=True)
class Operator:
    """ONNX's operator for a cell: its name, where torch's gates stand in its order, and its attributes."""

    name: str
    gates: tuple[int, ...]
    attributes: dict[str, Any] = field(default_factory=dict)


OPERATORS: dict[str, Operator] = {
    "elman": Operator("RNN", (0,), {"activations": ["Tanh"]}),
    "elman-relu": Operator("RNN", (0,), {"activations": ["Relu"]}),
    "gru": Operator("GRU", (1, 0, 2), {"linear_before_reset": 1}),  # torch r z n → ONNX z r h
    "lstm": Operator("LSTM", (0, 3, 1, 2)),  # torch i f g o → ONNX i o f c
}


def build_graph(network: Network) -> onnx.ModelProto:
    """The graph of a whole network, in float32."""
    g = Graph()
    encoder, head = network.encoder, network.head
    states = state_sizes(encoder, "state") if network.stateful else None
    encoded, ends = _encoder(g, encoder, states)
    if isinstance(head, LMHead):
        _lm_head(g, head, encoded)
    elif isinstance(head, BandedLMHead):
        _banded_lm_head(g, head, encoded)
    elif isinstance(head, ClassifierHead):
        _classifier_head(g, head, encoded)
    else:
        _tagger_head(g, head, encoded)
    if states:
        for sizes, values in zip(state_sizes(encoder, "next"), ends, strict=True):
            for (name, size), value in zip(sizes.items(), values, strict=True):
                g.output(value, name, FLOAT, [1, "batch", size])
    return g.model()


def write(network: Network, path: Path, *, int8: bool = False) -> None:
    """Write the graph of `network` to `path`; with `int8`, dynamically quantised, matrices are in 8 bits."""
    model = build_graph(network)
    if int8:
        int8_graph.write(model, path)
    else:
        onnx.save(model, path)


def _encoder(
    g: Graph, encoder: Encoder, states: list[dict[str, int]] | None
) -> tuple[str, list[list[str]]]:
    """States (T, B, D), and each layer's end states."""
    layers = list(encoder.layers)
    ends: list[list[str]] = []
    if isinstance(encoder.input, TokenInput):
        tokens = g.input("tokens", INT64, ["time", "batch"])
        x = _embed(g, encoder.input.embedding, tokens, "embedding")
        lengths = g.input("lengths", INT32, ["batch"])
    else:
        lengths = g.input("lengths", INT32, ["batch"])
        types = _word_types(g, encoder.input)
        first, context = layers[0], encoder.input.context
        around = _context(g, context) if context is not None else []
        if isinstance(first, Layer) and first.ahead.name in STEPS:
            x = _layer_of_words(g, first, types, encoder.input.type_size, around, lengths, "layer.0")
            ends.append([])
        else:
            x = _of_words(g, types, encoder.input.type_size, 1)[0]
            if around:
                x = g.add("Concat", x, *around, axis=2)
    for i, layer in enumerate(layers[len(ends) :], len(ends)):
        state = None
        if states:
            state = [g.input(name, FLOAT, [1, "batch", size]) for name, size in states[i].items()]
        end: list[str] = []
        if isinstance(layer, Layer):
            x, end = _layer(g, layer, x, lengths, f"layer.{i}", state)
        elif isinstance(layer, Window):
            x, end = _window(g, layer, x, lengths, f"layer.{i}", state)
        else:
            assert isinstance(layer, Bag)
            x = _bag(g, layer, x, lengths, f"layer.{i}")
        ends.append(end)
    return x, ends


def _embed(g: Graph, embedding: nn.Embedding | BandedEmbedding, tokens: str, name: str) -> str:
    """(T, B, D) of `tokens` (T, B)."""
    if isinstance(embedding, nn.Embedding):
        return g.add("Gather", g.weight(embedding.weight, name), tokens)
    x = ""
    for band, (start, end) in enumerate(embedding.spans):
        ids = g.clipped(g.add("Sub", tokens, g.constant(start)), end - start)
        rows = g.add("Gather", g.weight(embedding.table(band), f"{name}.{band}"), ids)
        if band:
            here = g.add("Unsqueeze", g.add("GreaterOrEqual", tokens, g.constant(start)), g.constant([2]))
            full = g.linear(rows, embedding.projection(band), f"{name}.{band}.projection")
            x = g.add("Where", here, full, x)
        else:
            x = rows
    return x


def _word_types(g: Graph, module: WordInput) -> str:
    """(U, D): a vector for each word type of the batch."""
    tokens = g.input("type_tokens", INT64, ["types"])
    parts = [g.add("Gather", g.weight(module.embedding.weight, "embedding"), tokens)]
    if module.characters is not None:
        chars = g.input("type_chars", INT64, ["types", "characters"])
        lengths = g.input("type_char_lengths", INT32, ["types"])
        if isinstance(module.characters, CharacterCNN):
            parts.append(_character_cnn(g, module.characters, chars, lengths))
        else:
            parts.append(_character_lstm(g, module.characters, chars, lengths))
    if module.affixes is not None:
        affixes = g.input("type_affixes", INT64, ["types", "affixes"])
        # Summed over the first axis a type is the same to the last bit, alone and among others.
        affixes = g.add("Transpose", affixes, perm=[1, 0])
        rows = g.add("Gather", g.weight(module.affixes.weight, "affixes"), affixes)  # (K, U, A)
        parts.append(g.add("ReduceSum", rows, g.constant([0]), keepdims=0))
    if module.vectors is not None:
        vectors = g.input("type_vectors", INT64, ["types"])
        parts.append(g.add("Gather", g.weight(module.vectors.weight, "vectors"), vectors))
    return g.add("Concat", *parts, axis=1)


def _of_words(g: Graph, types: str, size: int, parts: int) -> list[str]:
    """The parts (T, B, D) of the words' vectors, looked up among the batch's types or those handed in.

    Whoever reads a stream asks for `word_vectors` (U, parts * D) of new word types, keeps them, and hands
    them in as `known_vectors` (K, parts * D) from then on; who does not leaves that out: it has no rows.
    """
    words = g.input("words", INT64, ["time", "batch"])
    g.output(types, "word_vectors", FLOAT, ["types", parts * size])
    known = g.optional("known_vectors", np.zeros((0, parts * size), np.float32), "known")
    count = g.add("Squeeze", g.add("Shape", known, start=0, end=1), g.constant([0]))
    given = g.add("Greater", count, g.constant(0))
    found = []
    for part in range(parts):
        rows = [g.add("Reshape", table, g.constant([-1, size])) for table in (known, types)]  # a part each
        row = g.add("Add", g.add("Mul", words, g.constant(parts)), g.constant(part))
        yes, no = (("Gather", table, row) for table in rows)
        found.append(g.either(given, yes, no, ["time", "batch", size]))
    return found


def _layer_of_words(
    g: Graph, layer: Layer, types: str, size: int, context: list[str], lengths: str, name: str
) -> str:
    """States (T, B, D) of a recurrent layer over words, whose vectors (U, size) are those of `types`.

    What the gates get of a word's type is computed once a type, as the type's vector is, and kept in its
    place. What they get of its `context` (T, B, ·) is added, and a step is the recurrence and no more.
    """
    cells = [layer.ahead] + ([layer.back] if layer.back is not None else [])
    weights = [_cell_weights(cell, OPERATORS[cell.name]) for cell in cells]
    hidden, gates = layer.ahead.hidden, len(weights[0][0])
    # The reset gate of a GRU scales the recurrent bias, so that one is added in each step.
    apart = layer.ahead.name == "gru"
    b = [biases.reshape(2, gates)[: 1 if apart else 2].sum(axis=0) for _, _, biases in weights]
    of_types = np.concatenate([w[:, :size] for w, _, _ in weights]).T  # (size, directions * G*H)
    types = g.add("MatMul", types, g.weight(of_types, f"{name}.w"))
    types = g.add("Add", types, g.weight(np.concatenate(b), f"{name}.b"))
    x = _of_words(g, types, gates, len(cells))
    if context:
        around = g.add("Concat", *context, axis=2)
        for i, (w, _, _) in enumerate(weights):
            of_context = g.add("MatMul", around, g.weight(w[:, size:].T, f"{name}.{i}.context"))
            x[i] = g.add("Add", x[i], of_context)
    real = g.add("Unsqueeze", g.add("Cast", g.time_mask(x[0], 0, lengths), to=FLOAT), g.constant([2]))
    zeros = g.add("Squeeze", g.zeros(x[0], 1, hidden), g.constant([0]))
    ys = []
    for i, (cell, (_, r, biases)) in enumerate(zip(cells, weights, strict=True)):
        step = partial(_step_of_words, cell=cell.name, r=g.weight(r.T, f"{name}.{i}.r"),
                       b=g.weight(biases[gates:], f"{name}.{i}.b") if apart else "")
        # Backwards, padding is read first, and must leave no trace.
        sequences = [(x[i], FLOAT), (real, FLOAT)] if i else [(x[i], FLOAT)]
        states = [zeros] * len(CELLS[cell.name].states)
        ys.append(g.scan(step, states, sequences, hidden, backwards=i == 1)[0])
    return g.add("Concat", *ys, axis=2)


def _step_of_words(g: Graph, state: list[str], rows: list[str], *, cell: str, r: str, b: str) -> list[str]:
    """`rows` are what the gates get of the words, and a mask where padding could leave a trace."""
    of_h = g.add("MatMul", state[0], r)
    return STEPS[cell](g, rows[0], g.add("Add", of_h, b) if b else of_h, state, *rows[1:])


def _elman_step(
    g: Graph, of_x: str, of_h: str, state: list[str], mask: str = "", *, activation: str
) -> list[str]:
    return [_masked(g, g.add(activation, g.add("Add", of_x, of_h)), mask)]


def _gru_step(g: Graph, of_x: str, of_h: str, state: list[str], mask: str = "") -> list[str]:
    xs, hs = (g.add_many("Split", side, outputs=3, axis=1) for side in (of_x, of_h))
    z, r = (g.add("Sigmoid", g.add("Add", x, h)) for x, h in zip(xs[:2], hs[:2], strict=True))
    new = g.add("Tanh", g.add("Add", xs[2], g.add("Mul", r, hs[2])))
    return [_masked(g, g.add("Add", new, g.add("Mul", z, g.add("Sub", state[0], new))), mask)]


def _lstm_step(g: Graph, of_x: str, of_h: str, state: list[str], mask: str = "") -> list[str]:
    i, o, f, new = g.add_many("Split", g.add("Add", of_x, of_h), outputs=4, axis=1)
    kept = g.add("Mul", g.add("Sigmoid", f), state[1])
    c = _masked(g, g.add("Add", kept, g.add("Mul", g.add("Sigmoid", i), g.add("Tanh", new))), mask)
    return [g.add("Mul", g.add("Sigmoid", o), g.add("Tanh", c)), c]  # where c is 0, h is


def _masked(g: Graph, x: str, mask: str) -> str:
    return g.add("Mul", x, mask) if mask else x


# One step of a cell, as torch's kernel takes it: from what its gates get of the input and of the state, both
# (B, G*H) in ONNX's order of gates, the state, and a mask (B, 1) of real steps if there is one, to the new
# state. Other cells take their operator.
STEPS: dict[str, Callable[..., list[str]]] = {
    "elman": partial(_elman_step, activation="Tanh"),
    "elman-relu": partial(_elman_step, activation="Relu"),
    "gru": _gru_step,
    "lstm": _lstm_step,
}


def _context(g: Graph, module: CharacterContext) -> list[str]:
    """Each direction's states at words, (T, B, H)."""
    chars = g.input("chars", INT64, ["chars", "batch"])
    lengths = g.input("char_lengths", INT32, ["batch"])
    assert isinstance(module.ahead.input, TokenInput)
    x = _embed(g, module.ahead.input.embedding, chars, "context.embedding")
    found = []
    for name, encoder, place in (("ahead", module.ahead, "word_ends"), ("back", module.back, "word_starts")):
        states = x
        for i, layer in enumerate(encoder.layers if encoder is not None else ()):
            assert isinstance(layer, Layer)
            states, _ = _layer(g, layer, states, lengths, f"context.{name}.{i}", None, turned=name == "back")
        if encoder is not None:
            found.append(g.at(states, g.input(place, INT64, ["time", "batch"]), encoder.output_size))
    return found


def _character_cnn(g: Graph, module: CharacterCNN, chars: str, lengths: str) -> str:
    mask = g.add("Cast", g.time_mask(chars, 1, lengths), to=FLOAT)  # (C, U)
    mask = g.add("Unsqueeze", g.add("Transpose", mask, perm=[1, 0]), g.constant([1]))  # (U, 1, C)
    embedded = g.add("Gather", g.weight(module.embedding.weight, "char_embedding"), chars)  # (U, C, E)
    embedded = g.add("Mul", g.add("Transpose", embedded, perm=[0, 2, 1]), mask)  # (U, E, C)
    convolution = module.convolution
    assert convolution.bias is not None
    y = g.add(
        "Conv", embedded, g.weight(convolution.weight, "char_convolution.weight"),
        g.weight(convolution.bias, "char_convolution.bias"), kernel_shape=[module.WIDTH],
        pads=[module.WIDTH // 2] * 2,
    )
    y = g.add("Mul", g.add("Relu", y), mask)
    return g.add("ReduceMax", y, axes=[2], keepdims=0)


def _character_lstm(g: Graph, module: CharacterLSTM, chars: str, lengths: str) -> str:
    embedded = g.add("Gather", g.weight(module.embedding.weight, "char_embedding"), chars)  # (U, C, E)
    x = g.add("Transpose", embedded, perm=[1, 0, 2])
    _, (last, _) = _layer(g, module.layer, x, lengths, "characters", None)  # (directions, U, H)
    return g.add("Reshape", g.add("Transpose", last, perm=[1, 0, 2]), g.constant([0, -1]))


def _layer(
    g: Graph, layer: Layer, x: str, lengths: str, name: str, state: list[str] | None, *, turned: bool = False
) -> tuple[str, list[str]]:
    """States (T, B, D) and end states (directions, B, H) of one recurrent layer.

    With `turned`, its one direction reads from right to left.
    """
    direction = "bidirectional" if layer.back is not None else "reverse" if turned else "forward"
    cells = [layer.ahead] + ([layer.back] if layer.back is not None else [])
    if layer.ahead.name not in OPERATORS:
        return _scanned_layer(g, cells, x, lengths, name, state, turned=turned)
    operator = OPERATORS[layer.ahead.name]
    directions = [_cell_weights(cell, operator) for cell in cells]
    w, r, b = (np.stack(arrays) for arrays in zip(*directions, strict=True))
    attributes = dict(operator.attributes)
    if "activations" in attributes:
        attributes["activations"] = attributes["activations"] * len(cells)
    inputs = [x, g.weight(w, f"{name}.w"), g.weight(r, f"{name}.r"), g.weight(b, f"{name}.b"), lengths]
    y, *ends = g.add_many(
        operator.name, *inputs, *(state or []), outputs=3 if operator.name == "LSTM" else 2,
        hidden_size=layer.ahead.hidden, direction=direction,
        **attributes,
    )
    y = g.add("Reshape", g.add("Transpose", y, perm=[0, 2, 1, 3]), g.constant([0, 0, -1]))  # (T, dirs, B, H)
    return y, ends


def _scanned_layer(
    g: Graph, cells: list[Cell], x: str, lengths: str, name: str, state: list[str] | None, *, turned: bool
) -> tuple[str, list[str]]:
    """As `_layer`, of cells that ONNX has no operator for.

    A step at padding leaves the state as it is. So the state behind the last step is that of each row's own
    end, and a scan from the end on comes to a row's last token with zeros.
    """
    real = g.add("Unsqueeze", g.time_mask(x, 0, lengths), g.constant([2]))  # (T, B, 1) bool
    ys, ends = [], []
    for cell, way in zip(cells, ("back",) if turned else ("ahead", "back"), strict=False):
        start = state or [g.zeros(x, 1, cell.hidden)] * (2 if isinstance(cell.kernel, Mogrifier) else 1)
        start = [g.add("Squeeze", part, g.constant([0])) for part in start]  # (B, H)
        scan = _mogrifier if isinstance(cell.kernel, Mogrifier) else _min_gru
        y, end = scan(g, cell, x, real, start, f"{name}.{way}", way == "back")
        ys.append(y)
        ends.append([g.add("Unsqueeze", part, g.constant([0])) for part in end])
    return g.add("Concat", *ys, axis=2) if len(ys) > 1 else ys[0], ends[0]


def _mogrifier(
    g: Graph, cell: Cell, x: str, real: str, start: list[str], name: str, backwards: bool
) -> tuple[str, list[str]]:
    kernel = cell.kernel
    assert isinstance(kernel, Mogrifier)
    gates = g.weight(torch.cat([kernel.weight_ih_l0, kernel.weight_hh_l0], dim=1).T, f"{name}.gates")
    bias = g.weight(kernel.bias_ih_l0, f"{name}.bias")
    rounds = [g.weight((kernel.mogrify_h if i % 2 else kernel.mogrify_x)[i // 2].T, f"{name}.round.{i}")
              for i in range(kernel.ROUNDS)]
    two = g.constant(2.0, "float32")

    def step(b: Graph, states: list[str], rows: list[str]) -> list[str]:
        h, c = states
        row, mask = rows

        def scaled(value: str, by: str, weight: str) -> str:
            return b.add("Mul", value, b.add("Mul", two, b.add("Sigmoid", b.add("MatMul", by, weight))))

        for i, weight in enumerate(rounds):
            if i % 2:
                h = scaled(h, row, weight)
            else:
                row = scaled(row, h, weight)
        both = b.add("Add", b.add("MatMul", b.add("Concat", row, h, axis=1), gates), bias)
        i_gate, f_gate, new, o_gate = b.add_many("Split", both, outputs=4, axis=1)
        kept = b.add("Mul", b.add("Sigmoid", f_gate), c)
        added = b.add("Mul", b.add("Sigmoid", i_gate), b.add("Tanh", new))
        c = b.add("Add", kept, added)
        h = b.add("Mul", b.add("Sigmoid", o_gate), b.add("Tanh", c))
        return [b.add("Where", mask, *pair) for pair in zip((h, c), states, strict=True)]

    return g.scan(step, start, [(x, FLOAT), (real, BOOL)], cell.hidden, backwards=backwards)


def _min_gru(
    g: Graph, cell: Cell, x: str, real: str, start: list[str], name: str, backwards: bool
) -> tuple[str, list[str]]:
    """All products are outside the loop, which has two operations a step."""
    kernel = cell.kernel
    assert isinstance(kernel, MinGRU)
    both = g.add("MatMul", x, g.weight(kernel.weight_ih_l0.T, f"{name}.w"))
    both = g.add("Add", both, g.weight(kernel.bias_ih_l0, f"{name}.b"))
    z, v = g.add_many("Split", both, outputs=2, axis=2)
    z = g.add("Mul", g.add("Sigmoid", z), g.add("Cast", real, to=FLOAT))  # 0 at padding: the state stays
    a, b = g.add("Sub", g.constant(1.0, "float32"), z), g.add("Mul", z, v)

    def step(body: Graph, states: list[str], rows: list[str]) -> list[str]:
        return [body.add("Add", body.add("Mul", rows[0], states[0]), rows[1])]

    return g.scan(step, start, [(a, FLOAT), (b, FLOAT)], cell.hidden, backwards=backwards)


def _window(
    g: Graph, layer: Window, x: str, lengths: str, name: str, state: list[str] | None
) -> tuple[str, list[str]]:
    """States (T, B, H), and where a state goes in what was read last, (1, B, before * I)."""
    width = layer.before + 1 + layer.after
    if width == 1:
        return g.add("Tanh", g.linear(x, layer.linear, name)), []
    size = layer.linear.in_features // width
    mask = g.add("Unsqueeze", g.add("Cast", g.time_mask(x, 0, lengths), to=FLOAT), g.constant([2]))
    parts = [g.add("Mul", x, mask)]
    if layer.before:
        past = g.zeros(x, layer.before, size)
        if state:
            past = g.add("Reshape", state[0], g.constant([-1, layer.before, size]))
            past = g.add("Transpose", past, perm=[1, 0, 2])
        parts.insert(0, past)
    if layer.after:
        parts.append(g.zeros(x, layer.after, size))
    wide = g.add("Concat", *parts, axis=0)  # (before + T + after, B, I)
    steps = g.add("Shape", x, start=0, end=1)
    views = [g.add("Slice", wide, g.constant([i]), g.add("Add", steps, g.constant([i])), g.constant([0]))
             for i in range(width)]
    y = g.add("Tanh", g.linear(g.add("Concat", *views, axis=2), layer.linear, name))
    if not state:
        return y, []
    rows = g.constant([[i] for i in range(layer.before)])
    last = g.at(wide, g.add("Add", g.add("Cast", lengths, to=INT64), rows), size)  # (before, B, I)
    last = g.add("Transpose", last, perm=[1, 0, 2])
    return y, [g.add("Reshape", last, g.constant([1, -1, layer.before * size]))]


def _bag(g: Graph, layer: Bag, x: str, lengths: str, name: str) -> str:
    """The same state at each step, (T, B, H)."""
    mask = g.add("Unsqueeze", g.add("Cast", g.time_mask(x, 0, lengths), to=FLOAT), g.constant([2]))
    y = g.add("Tanh", g.linear(_mean(g, x, mask, lengths), layer.linear, name))  # (B, H)
    shape = g.add("Concat", g.add("Shape", x, start=0, end=2), g.constant([layer.output_size]), axis=0)
    return g.add("Expand", y, shape)


def _mean(g: Graph, x: str, real: str, lengths: str) -> str:
    """(B, D): the mean of the real steps of `x` (T, B, D); `real` (T, B, 1) is 1.0 there, 0.0 elsewhere."""
    total = g.add("ReduceSum", g.add("Mul", x, real), g.constant([0]), keepdims=0)
    count = g.add("Cast", g.add("Max", lengths, g.constant(1, "int32")), to=FLOAT)
    return g.add("Div", total, g.add("Unsqueeze", count, g.constant([1])))


def _cell_weights(cell: Cell, operator: Operator) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """ONNX's W (G*H, I), R (G*H, H) and B (2*G*H,) of one direction, gates in ONNX's order."""
    kernel = dict(cell.kernel.named_parameters())

    def gates(name: str) -> NDArray[Any]:
        parts = kernel[name].detach().cpu().split(cell.hidden)
        return np.concatenate([parts[i].numpy() for i in operator.gates])

    biases = np.concatenate([gates("bias_ih_l0"), gates("bias_hh_l0")])
    return gates("weight_ih_l0"), gates("weight_hh_l0"), biases


def _lm_head(g: Graph, head: LMHead, states: str) -> None:
    if head.projection is not None:
        states = g.linear(states, head.projection, "projection")
    logits = g.add("MatMul", states, g.weight(head.weight.T, "output.weight"))
    logits = g.add("Add", logits, g.weight(head.output.bias, "output.bias"))
    _give_lm_outputs(g, logits, head.output.out_features)


def _banded_lm_head(g: Graph, head: BandedLMHead, states: str) -> None:
    if head.projection is not None:
        states = g.linear(states, head.projection, "projection")
    (_, frequent), *rest = head.spans

    def log_softmax(band: int) -> str:
        """Log-probabilities (T, B, outputs of the band) in it."""
        x = states
        if band:
            shorten = head.vectors.projection(band).weight
            x = g.add("MatMul", x, g.weight(shorten, f"output.{band}.projection"))
        weight, bias = head.layer(band)
        scores = g.add("MatMul", x, g.weight(weight.T, f"output.{band}.weight"))
        return g.add("LogSoftmax", g.add("Add", scores, g.weight(bias, f"output.{band}.bias")), axis=-1)

    parts = g.add_many("Split", log_softmax(0), g.constant([frequent] + [1] * len(rest)),
                       outputs=1 + len(rest), axis=2)
    parts[1:] = [g.add("Add", part, log_softmax(band)) for band, part in enumerate(parts[1:], 1)]
    _give_lm_outputs(g, g.add("Concat", *parts, axis=2), len(head.bias))


def _give_lm_outputs(g: Graph, logits: str, size: int) -> None:
    """Give out `logits` (T, B, V), their softmax `probs`, and the `log_probs` (T, B) of the targets."""
    targets = g.input("targets", INT64, ["time", "batch"])
    g.output(logits, "logits", FLOAT, ["time", "batch", size])
    probs = g.add("Softmax", logits, axis=-1)
    g.output(probs, "probs", FLOAT, ["time", "batch", size])
    # The normaliser from the likeliest token saves a second softmax, and a maximum, unlike a sum, is the same
    # to the last bit wherever a row begins.
    peak, top = (g.add("ReduceMax", values, axes=[-1]) for values in (logits, probs))  # (T, B, 1)
    log_total = g.add("Sub", peak, g.add("Log", top))
    wanted = g.add("Unsqueeze", g.add("Max", targets, g.constant(0)), g.constant([2]))
    found = g.add("Sub", g.add("GatherElements", logits, wanted, axis=2), log_total)
    found = g.add("Squeeze", found, g.constant([2]))
    real = g.add("Cast", g.add("GreaterOrEqual", targets, g.constant(0)), to=FLOAT)
    g.output(g.add("Mul", found, real), "log_probs", FLOAT, ["time", "batch"])


def _classifier_head(g: Graph, head: ClassifierHead, states: str) -> None:
    mask = g.add("Unsqueeze", g.time_mask(states, 0, "lengths"), g.constant([2]))  # (T, B, 1) bool
    real = g.add("Cast", mask, to=FLOAT)
    nonempty = g.add("Cast", g.add("Greater", "lengths", g.constant(0, "int32")), to=FLOAT)
    nonempty = g.add("Unsqueeze", nonempty, g.constant([1]))  # (B, 1)
    lowest = g.constant(float(np.finfo(np.float32).min), "float32")

    def mean() -> str:
        return _mean(g, states, real, "lengths")

    def top() -> str:
        peak = g.add("ReduceMax", g.add("Where", mask, states, lowest), axes=[0], keepdims=0)
        return g.add("Mul", peak, nonempty)

    def attention() -> str:
        assert head.attention is not None
        scores = g.add("Where", mask, g.linear(states, head.attention, "attention"), lowest)
        weighted = g.add("Mul", states, g.add("Softmax", scores, axis=0))
        return g.add("Mul", g.add("ReduceSum", weighted, g.constant([0]), keepdims=0), nonempty)

    def final() -> str:
        size = head.output.in_features // len(head.pooling)
        step = g.add("Sub", g.add("Max", "lengths", g.constant(1, "int32")), g.constant(1, "int32"))
        step = g.add("Unsqueeze", g.add("Cast", step, to=INT64), g.constant([0]))  # (1, B)
        ends = g.add("Squeeze", g.at(states, step, size), g.constant([0]))
        if size > head.hidden:  # the backward direction ends where the row begins
            first = g.add("Squeeze", g.add("Gather", states, g.constant([0])), g.constant([0]))
            sides = g.constant([head.hidden, size - head.hidden])
            ahead, _ = g.add_many("Split", ends, sides, outputs=2, axis=1)
            _, back = g.add_many("Split", first, sides, outputs=2, axis=1)
            ends = g.add("Concat", ahead, back, axis=1)
        return g.add("Mul", ends, nonempty)

    poolings = {"last": final, "mean": mean, "max": top, "attention": attention}
    pooled = [poolings[name]() for name in head.pooling]
    vector = g.add("Concat", *pooled, axis=1) if len(pooled) > 1 else pooled[0]
    g.output(g.linear(vector, head.output, "output"), "logits", FLOAT, ["batch", head.output.out_features])


def _tagger_head(g: Graph, head: TaggerHead, states: str) -> None:
    tags = head.output.out_features
    g.output(g.linear(states, head.output, "output"), "emissions", FLOAT, ["time", "batch", tags])
    if head.crf is not None:
        for name in ("start", "transitions", "end"):
            scores = getattr(head.crf, name)
            g.output(g.weight(scores, f"crf.{name}"), name, FLOAT, list(scores.shape))
