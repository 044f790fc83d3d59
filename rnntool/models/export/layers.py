"""The layers of an encoder as ONNX nodes.

torch's own exporter fixes the number of time steps of recurrent layers. ONNX's operators accept ragged
batches through `sequence_lens`.
"""

from __future__ import annotations

from functools import partial, singledispatch

import numpy as np
from numpy.typing import NDArray
from torch import nn

from rnntool.models.cells import CELLS
from rnntool.models.cells.cell import Cell
from rnntool.models.cells.kernel import CustomKernel, TorchKernel
from rnntool.models.export.builder import Graph
from rnntool.models.layers import Bag, RecurrentLayer, Window

Floats = NDArray[np.float32]


@singledispatch
def add_layer(
    layer: nn.Module, g: Graph, x: str, lengths: str, name: str, state: list[str]
) -> tuple[str, list[str]]:
    """Add a layer that reads `x` (T, B, I); return its states (T, B, D) and its final state.

    `name` is the prefix of its weights' names. `state` is the state to start from, each value (1, B, size);
    if it is empty, the layer starts from zeros.
    """
    raise TypeError(f"{type(layer).__name__} has no exporter")


@add_layer.register
def add_recurrent_layer(
    layer: RecurrentLayer, g: Graph, x: str, lengths: str, name: str, state: list[str], *,
    reverse: bool = False,
) -> tuple[str, list[str]]:
    """Add a recurrent layer; each part of its final state is (directions, B, H).

    With `reverse`, a layer with one direction reads from right to left.
    """
    cells = layer.cells()
    kernel = CELLS[cells[0].name].kernel()
    if not isinstance(kernel, TorchKernel):
        return _add_custom_kernels(g, cells, x, lengths, name, state, reverse=reverse)
    direction = "bidirectional" if len(cells) > 1 else "reverse" if reverse else "forward"
    w, r, b = (np.stack(arrays) for arrays in zip(*(_weights(cell, kernel) for cell in cells), strict=True))
    attributes = dict(kernel.operator.attributes)
    if "activations" in attributes:
        attributes["activations"] = attributes["activations"] * len(cells)
    inputs = [x, g.weight(w, f"{name}.w"), g.weight(r, f"{name}.r"), g.weight(b, f"{name}.b"), lengths]
    y, *final_state = g.add_many(
        kernel.operator.name, *inputs, *state, outputs=1 + len(CELLS[cells[0].name].state_names),
        hidden_size=cells[0].hidden, direction=direction, **attributes)
    y = g.add("Reshape", g.add("Transpose", y, perm=[0, 2, 1, 3]), g.constant([0, 0, -1]))  # (T, dirs, B, H)
    return y, final_state


def _add_custom_kernels(
    g: Graph, cells: list[Cell], x: str, lengths: str, name: str, state: list[str], *, reverse: bool
) -> tuple[str, list[str]]:
    """Add a scan for each direction, for cells without an ONNX operator.

    A step at padding leaves the state unchanged. So the final state is the one after each row's own last
    token, and a scan in reverse reaches that token with zeros.
    """
    real = g.add("Unsqueeze", g.time_mask(x, 0, lengths), g.constant([2]))  # (T, B, 1) bool
    ys, final_states = [], []
    for cell, reads_backward in zip(cells, (True,) if reverse else (False, True), strict=False):
        assert isinstance(cell.kernel, CustomKernel)
        start = state or [g.zeros(x, 1, cell.hidden)] * len(CELLS[cell.name].state_names)
        start = [g.add("Squeeze", part, g.constant([0])) for part in start]  # (B, H)
        direction = "backward" if reads_backward else "forward"
        y, final_state = cell.kernel.add_to_graph(
            g, x, real, start, f"{name}.{direction}", reverse=reads_backward)
        ys.append(y)
        final_states.append([g.add("Unsqueeze", part, g.constant([0])) for part in final_state])
    return g.add("Concat", *ys, axis=2) if len(ys) > 1 else ys[0], final_states[0]


def look_up_words(g: Graph, types: str, size: int, parts: int) -> list[str]:
    """Look up words in `types` (U, parts * size) or in known vectors; return the parts (T, B, size).

    A caller that reads a stream requests `word_vectors` for new word types, keeps them, and passes them as
    `known_vectors` (K, parts * size) from then on. Other callers leave that input out; then it has no rows.
    """
    words = g.input("words", "int64", ["time", "batch"])
    g.output(types, "word_vectors", "float32", ["types", parts * size])
    known = g.optional_input("known_vectors", np.zeros((0, parts * size), np.float32), "known")
    count = g.add("Squeeze", g.add("Shape", known, start=0, end=1), g.constant([0]))
    is_given = g.add("Greater", count, g.constant(0))
    vectors = []
    for part in range(parts):
        rows = [g.add("Reshape", table, g.constant([-1, size])) for table in (known, types)]
        row = g.add("Add", g.add("Mul", words, g.constant(parts)), g.constant(part))
        yes, no = (("Gather", table, row) for table in rows)
        vectors.append(g.select(is_given, yes, no, ["time", "batch", size]))
    return vectors


def add_layer_of_words(
    layer: RecurrentLayer, kernel: TorchKernel, g: Graph, types: str, size: int, context: list[str],
    lengths: str, name: str,
) -> str:
    """Add a recurrent layer over words with the vectors `types` (U, size); return its states (T, B, D).

    The contribution of a word type to the gates is computed once per type and replaces the type's vector.
    The contribution of the `context` (T, B, ·) is added. Only the recurrence is left for each step.
    """
    cells = layer.cells()
    weights = [_weights(cell, kernel) for cell in cells]
    hidden, gates = layer.forward_cell.hidden, len(weights[0][0])
    apart = kernel.separate_recurrent_bias
    b = [biases.reshape(2, gates)[: 1 if apart else 2].sum(axis=0) for _, _, biases in weights]
    type_weights = np.concatenate([w[:, :size] for w, _, _ in weights]).T  # (size, directions * G*H)
    types = g.add("MatMul", types, g.weight(type_weights, f"{name}.w"))
    types = g.add("Add", types, g.weight(np.concatenate(b), f"{name}.b"))
    x = look_up_words(g, types, gates, len(cells))
    if context:
        all_context = g.add("Concat", *context, axis=2)
        for i, (w, _, _) in enumerate(weights):
            from_context = g.add("MatMul", all_context, g.weight(w[:, size:].T, f"{name}.{i}.context"))
            x[i] = g.add("Add", x[i], from_context)
    real = g.real_steps(x[0], lengths)
    zeros = g.add("Squeeze", g.zeros(x[0], 1, hidden), g.constant([0]))
    ys = []
    for i, (cell, (_, r, biases)) in enumerate(zip(cells, weights, strict=True)):
        step = partial(_step_of_words, kernel=kernel, r=g.weight(r.T, f"{name}.{i}.r"),
                       b=g.weight(biases[gates:], f"{name}.{i}.b") if apart else "")
        # In reverse, padding comes first and must not change the state.
        sequences = [(x[i], "float32"), (real, "float32")] if i else [(x[i], "float32")]
        states = [zeros] * len(CELLS[cell.name].state_names)
        ys.append(g.scan(step, states, sequences, hidden, reverse=i == 1)[0])
    return g.add("Concat", *ys, axis=2)


def _step_of_words(
    g: Graph, state: list[str], rows: list[str], *, kernel: TorchKernel, r: str, b: str
) -> list[str]:
    """Add a step. `rows` are the words' contributions to the gates and, in reverse, a mask."""
    from_state = g.add("MatMul", state[0], r)
    return kernel.step(g, rows[0], g.add("Add", from_state, b) if b else from_state, state, *rows[1:])


def _weights(cell: Cell, kernel: TorchKernel) -> tuple[Floats, Floats, Floats]:
    """Return ONNX's W (G*H, I), R (G*H, H) and B (2*G*H,) of one direction, gates in ONNX's order."""
    parameters = dict(cell.kernel.named_parameters())

    def gates(name: str) -> Floats:
        parts = parameters[name].detach().cpu().split(cell.hidden)
        return np.concatenate([parts[i].numpy() for i in kernel.operator.gates])

    biases = np.concatenate([gates("bias_ih_l0"), gates("bias_hh_l0")])
    return gates("weight_ih_l0"), gates("weight_hh_l0"), biases


@add_layer.register
def _(
    layer: Window, g: Graph, x: str, lengths: str, name: str, state: list[str]
) -> tuple[str, list[str]]:
    width = layer.before + 1 + layer.after
    if width == 1:
        return g.add("Tanh", g.linear(x, layer.linear, name)), []
    size = layer.linear.in_features // width
    parts = [g.add("Mul", x, g.real_steps(x, lengths))]
    if layer.before:
        past = g.zeros(x, layer.before, size)
        if state:
            past = g.add("Reshape", state[0], g.constant([-1, layer.before, size]))
            past = g.add("Transpose", past, perm=[1, 0, 2])
        parts.insert(0, past)
    if layer.after:
        parts.append(g.zeros(x, layer.after, size))
    padded = g.add("Concat", *parts, axis=0)  # (before + T + after, B, I)
    steps = g.add("Shape", x, start=0, end=1)
    views = [g.add("Slice", padded, g.constant([i]), g.add("Add", steps, g.constant([i])), g.constant([0]))
             for i in range(width)]
    y = g.add("Tanh", g.linear(g.add("Concat", *views, axis=2), layer.linear, name))
    if not state:
        return y, []
    rows = g.constant([[i] for i in range(layer.before)])
    last = g.at_steps(padded, g.add("Add", g.cast(lengths, "int64"), rows), size)  # (before, B, I)
    last = g.add("Transpose", last, perm=[1, 0, 2])
    return y, [g.add("Reshape", last, g.constant([1, -1, layer.before * size]))]


@add_layer.register
def _(layer: Bag, g: Graph, x: str, lengths: str, name: str, state: list[str]) -> tuple[str, list[str]]:
    mean = g.mean(x, g.real_steps(x, lengths), lengths)
    y = g.add("Tanh", g.linear(mean, layer.linear, name))  # (B, H)
    shape = g.add("Concat", g.add("Shape", x, start=0, end=2), g.constant([layer.output_size]), axis=0)
    return g.add("Expand", y, shape), []
