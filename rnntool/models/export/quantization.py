"""Graphs with weights in 8 bits: smaller and faster. Knows ONNX, and no network.

Where integers are multiplied, what meets a matrix is scaled to 8 bits, too. Were the scale that of a batch, a
text would be rounded by what stands beside it. So no scale depends on a batch: states of recurrent layers are
within -1 and 1 and have one for ever, anything else is scaled row by row. ONNX Runtime's operator for an LSTM
scales by the smallest and the largest number of a batch, so these two are always made the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

OWN = "com.microsoft"  # where ONNX Runtime has operators that ONNX has not
SCALE, ZERO = np.float32(2 / 255), np.uint8(128)  # of numbers within -1 and 1
EDGES = (1.0, -1.0)  # the states of the two units that an LSTM gets
OPEN = 30.0  # a bias that opens a gate whole
FAR = 20.0  # a cell whose state is an edge in float32, whatever a step adds
TINIEST = np.float32(1e-30)  # for rows and columns of zeros
MOVES = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity")  # leave the last axis as it is

Nodes = list[onnx.NodeProto]
Blocks = list[tuple[int, int]]  # parts of an axis, each so many numbers and then so many edges


def quantize(model: onnx.ModelProto) -> None:
    """Put the matrices of a float32 graph into 8 bits, in place; each column gets its own scale."""
    graph = _Weights(model.graph)
    nodes: Nodes = []
    for node in model.graph.node:
        if node.op_type == "LSTM":
            nodes += _lstm(graph, node, nodes)
        elif node.op_type == "MatMul" and node.input[1] in graph.tensors:
            nodes += _product(graph, node, unit=_within_one(graph, node.input[0]))
        elif node.op_type == "Scan":
            nodes.append(_scan(graph, node))
        else:
            nodes.append(node)
    nodes = [new for node in nodes for new in _looked_up(graph, node)]  # when the tables have their edges
    _replace(model.graph.node, nodes)
    used = set(_read(nodes))
    _replace(model.graph.initializer, [weight for weight in model.graph.initializer if weight.name in used])
    model.opset_import.append(helper.make_opsetid(OWN, 1))


class _Weights:
    """The weights of a graph by name, where its values come from, and where they go."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        given = {value.name for value in graph.input}
        self.graph = graph
        self.tensors = {tensor.name: tensor for tensor in graph.initializer if tensor.name not in given}
        self.makers = {name: node for node in graph.node for name in node.output}
        self.readers: dict[str, Nodes] = {}
        for node in graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.wide: dict[str, Blocks] = {}  # the last axes that have edges, by the outputs of their makers

    def __getitem__(self, name: str) -> NDArray[Any]:
        return numpy_helper.to_array(self.tensors[name])

    def put(self, name: str, value: NDArray[Any] | np.generic) -> str:
        """Set a weight, a new one or one that is there."""
        tensor = numpy_helper.from_array(np.array(value, order="C"), name)
        if name in self.tensors:
            self.tensors[name].CopyFrom(tensor)
        else:
            self.graph.initializer.append(tensor)
            self.tensors[name] = self.graph.initializer[-1]
        return name

    def integers(self, *values: int) -> str:
        """A vector of integers."""
        return self.put(f"integers {values}", np.array(values, np.int64))

    def rounded(self, name: str, value: NDArray[Any], *, axis: int) -> list[str]:
        """A weight in 8 bits: its integers, and their scales and zero points along all axes but this one.

        They are without a sign: to multiply signed ones, processors without instructions for it (VNNI) add up
        pairs of products in 16 bits, where a large pair is cut off.
        """
        scales = np.maximum(np.abs(value).max(axis=axis, keepdims=True) / np.float32(127), TINIEST)
        steps = (np.rint(value / scales) + ZERO).astype(np.uint8)
        return self._parts(name, steps, scales.squeeze(axis), np.full(scales.squeeze(axis).shape, ZERO))

    def rounded_table(self, name: str) -> list[str]:
        """A weight in 8 bits that meets no matrix: its integers, with one scale and one zero point."""
        value = self[name]
        low, high = min(value.min(), 0.0), max(value.max(), 0.0)
        scale = np.maximum(np.float32((high - low) / 255), TINIEST)
        zero = np.rint(-low / scale)
        return self._parts(name, (np.rint(value / scale) + zero).clip(0, 255).astype(np.uint8), scale,
                           np.uint8(zero))

    def _parts(self, name: str, *values: NDArray[Any] | np.generic) -> list[str]:
        return [self.put(f"{name}_{part}", value)
                for part, value in zip(("quantized", "scale", "zero_point"), values, strict=True)]

    def source(self, name: str) -> onnx.NodeProto | None:
        """The node that made a value, but for the order of its axes."""
        node = self.makers.get(name)
        while node is not None and node.op_type in MOVES:
            node = self.makers.get(node.input[0])
        return node

    def ends(self, name: str) -> Iterator[onnx.NodeProto]:
        """The nodes that read a value, but for the order of its axes."""
        for node in self.readers.get(name, []):
            if node.op_type in MOVES:
                yield from self.ends(node.output[0])
            else:
                yield node

    def layout(self, name: str) -> Blocks:
        """The blocks of a value's last axis, where it has edges."""
        maker = self.source(name)
        return self.wide.get(maker.output[0], []) if maker is not None else []


def _within_one(graph: _Weights, name: str) -> bool:
    """Whether a value is certain to be within -1 and 1, as the states of most recurrent layers are."""
    node = graph.source(name)
    if node is None:
        return False
    if node.op_type == "Concat":
        return all(_within_one(graph, part) for part in node.input)
    if node.op_type == "Gather":
        return _within_one(graph, node.input[0])
    if node.op_type == "Scan":
        return _squashed(_body(node))
    if node.op_type == "RNN":
        return all(a.strings[0] == b"Tanh" for a in node.attribute if a.name == "activations")
    return node.op_type in ("LSTM", "GRU", "Tanh")


def _squashed(body: onnx.GraphProto) -> bool:
    """Whether the state of a step is within -1 and 1: a tanh, a part of one, or a mean of it and the last."""
    return any(node.op_type == "Tanh" for node in body.node)


def _body(scan: onnx.NodeProto) -> onnx.GraphProto:
    (body,) = (attribute for attribute in scan.attribute if attribute.name == "body")
    graph: onnx.GraphProto = body.g
    return graph


def _scan(graph: _Weights, scan: onnx.NodeProto) -> onnx.NodeProto:
    """A scan, in whose steps matrices are in 8 bits."""
    body = _body(scan)
    (rows,) = (attribute.i for attribute in scan.attribute if attribute.name == "num_scan_inputs")
    states = {value.name for value in body.input[: len(scan.input) - rows]}
    nodes: Nodes = []
    for node in body.node:
        if node.op_type == "MatMul" and node.input[1] in graph.tensors:
            nodes += _product(graph, node, unit=node.input[0] in states and _squashed(body))
        else:
            nodes.append(node)
    _replace(body.node, nodes)
    return scan


def _product(graph: _Weights, product: onnx.NodeProto, *, unit: bool) -> Nodes:
    """A product with a matrix; where `unit` is false, each row is divided by its largest number before."""
    x, name = product.input
    (out,) = product.output
    matrix = _widened(graph[name], graph.layout(x), axis=0)
    steps, scales, zeros = graph.rounded(name, matrix, axis=0)
    scale, zero = graph.put("unit.scale", SCALE), graph.put("unit.zero_point", ZERO)
    before: Nodes = []
    after: Nodes = []
    scaled = out
    if not unit:
        tiniest = graph.put("tiniest", TINIEST)
        peak, scaled = f"{out}.peak", f"{out}.scaled"
        before = [helper.make_node("Abs", [x], [f"{out}.abs"]),
                  helper.make_node("ReduceMax", [f"{out}.abs"], [f"{out}.max"], axes=[-1]),
                  helper.make_node("Max", [f"{out}.max", tiniest], [peak]),
                  helper.make_node("Div", [x, peak], [f"{out}.unit"])]
        after = [helper.make_node("Mul", [scaled, peak], [out])]
        x = f"{out}.unit"
    return [*before,
            helper.make_node("QuantizeLinear", [x, scale, zero], [f"{out}.steps"]),
            helper.make_node("MatMulIntegerToFloat", [f"{out}.steps", steps, scale, scales, zero, zeros],
                             [scaled], domain=OWN),
            *after]


def _looked_up(graph: _Weights, node: onnx.NodeProto) -> Nodes:
    """A node; if it looks up rows of a table, these are in 8 bits."""
    if node.op_type != "Gather" or node.input[0] not in graph.tensors:
        return [node]
    name, rows = node.input
    (out,) = node.output
    steps, scale, zero = graph.rounded_table(name)
    return [helper.make_node("Gather", [steps, rows], [f"{out}.steps"]),
            helper.make_node("DequantizeLinear", [f"{out}.steps", scale, zero], [out])]


def _lstm(graph: _Weights, lstm: onnx.NodeProto, nodes: Nodes) -> Nodes:
    """An LSTM in 8 bits, with two units more in each direction; `nodes` are those before it.

    The two read nothing and are read by nothing, and their states are 1 and -1, which no state exceeds. What
    the layer reads has such columns, too. The results stay what they are.
    """
    (hidden,) = (attribute for attribute in lstm.attribute if attribute.name == "hidden_size")
    own = [(hidden.i, len(EDGES))]
    below = _edges_below(graph, lstm, nodes)
    x, w, r, b, lengths, *states = lstm.input
    directions, size = len(graph[w]), hidden.i + len(EDGES)
    weights, scales = [], []
    for name, blocks in ((w, below), (r, own)):  # (directions, 4H, D) with the gates i, o, f, c
        gates = _widened(graph[name].reshape(directions, 4, hidden.i, -1), own, axis=2)
        matrices = _widened(gates, blocks, axis=3).reshape(directions, 4 * size, -1).transpose(0, 2, 1)
        steps, *scaled = graph.rounded(name, matrices, axis=1)
        weights.append(steps)
        scales += scaled
    biases = graph[b].reshape(directions, 8, hidden.i)  # those of w, and those of r
    edges = np.zeros((directions, 8, len(EDGES)), np.float32)
    edges[:, :3] = OPEN
    edges[:, 3] = OPEN * np.array(EDGES)
    graph.put(b, np.concatenate([biases, edges], axis=2).reshape(directions, -1))
    before, starts = _starts(graph, lstm.name, x, states, directions, hidden.i)
    outputs, after = list(lstm.output), []
    if _takes_edges(graph, outputs[0]):
        graph.wide[outputs[0]] = own * directions
    for place, name in enumerate(lstm.output):
        if name not in graph.readers:
            outputs[place] = ""
        elif name not in graph.wide:
            outputs[place] = f"{name}.wide"
            axis = 2 if place else 3
            after.append(helper.make_node("Slice", [outputs[place], graph.integers(0),
                                                    graph.integers(hidden.i), graph.integers(axis)], [name]))
    node = helper.make_node("DynamicQuantizeLSTM", [x, *weights, b, lengths, *starts, "", *scales], outputs,
                            name=lstm.name, domain=OWN)
    hidden.i = size
    node.attribute.extend(lstm.attribute)
    return [*before, node, *after]


def _takes_edges(graph: _Weights, name: str) -> bool:
    """Whether all that reads a value can have the edges beside it."""
    return all(reader.op_type == "LSTM" or (reader.op_type == "MatMul" and reader.input[1] in graph.tensors)
               for reader in graph.ends(name))


def _starts(
    graph: _Weights, name: str, x: str, states: Sequence[str], directions: int, hidden: int
) -> tuple[Nodes, list[str]]:
    """The state h and c before the first step, of what is given or zeros, with the edges.

    The units are at their edges before they have read anything, so that rows of any age can share a batch.
    """
    nodes: Nodes = []
    starts = []
    if not states:
        batch, shape = f"{name}.batch", f"{name}.shape"
        nodes += [helper.make_node("Shape", [x], [batch], start=1, end=2),
                  helper.make_node("Concat", [graph.integers(directions), batch, graph.integers(1)], [shape],
                                   axis=0)]
    for place, (kind, height) in enumerate((("h", 1.0), ("c", FAR))):
        edges = np.concatenate([np.zeros(hidden), height * np.array(EDGES)]).astype(np.float32)
        start = graph.put(f"edges.{kind}.{hidden}", edges.reshape(1, 1, -1))
        starts.append(f"{name}.{kind}")
        if states:
            padded = f"{starts[-1]}.padded"
            pads = graph.integers(0, 0, 0, 0, 0, len(EDGES))
            nodes += [helper.make_node("Pad", [states[place], pads], [padded]),
                      helper.make_node("Add", [padded, start], [starts[-1]])]
        else:
            nodes.append(helper.make_node("Expand", [start, shape], [starts[-1]]))
    return nodes, starts


def _edges_below(graph: _Weights, lstm: onnx.NodeProto, nodes: Nodes) -> Blocks:
    """Let what an LSTM reads have a largest and a smallest number that are always the same.

    They are columns beside it, made in `nodes`; returned are the blocks of its last axis.
    """
    x = lstm.input[0]
    below = graph.source(x)
    if below is None or graph.layout(x):
        return graph.layout(x)
    if below.op_type == "Gather" and below.input[0] in graph.tensors:
        table = graph[below.input[0]]  # (V, E)
        columns = table.shape[1]
        edges = np.tile(np.abs(table).max() * np.array(EDGES, table.dtype), (len(table), 1))
        graph.put(below.input[0], np.concatenate([table, edges], axis=1))
    elif below.op_type == "Concat" and _within_one(graph, x) and _takes_edges(graph, x):
        columns = graph[lstm.input[1]].shape[2]
        shape, beside = f"{x}.shape", f"{x}.edges"
        one = graph.put("edges", np.array(EDGES, np.float32).reshape(1, 1, -1))
        place = nodes.index(below)
        nodes[place:place] = [
            helper.make_node("Shape", [below.input[0]], [f"{x}.steps"], start=0, end=2),
            helper.make_node("Concat", [f"{x}.steps", graph.integers(1)], [shape], axis=0),
            helper.make_node("Expand", [one, shape], [beside]),
        ]
        below.input.append(beside)
    else:
        return []
    graph.wide[below.output[0]] = [(columns, len(EDGES))]
    return graph.layout(x)


def _widened(array: NDArray[Any], blocks: Blocks, *, axis: int) -> NDArray[Any]:
    """An array with zeros at the edges of an axis, if that has blocks."""
    if not blocks:
        return array
    parts = np.split(array, np.cumsum([numbers for numbers, _ in blocks])[:-1], axis=axis)
    pads = [[(0, edges if i == axis else 0) for i in range(array.ndim)] for _, edges in blocks]
    return np.concatenate([np.pad(part, pad) for part, pad in zip(parts, pads, strict=True)], axis=axis)


def _read(nodes: Iterable[onnx.NodeProto]) -> Iterator[str]:
    """The names that nodes read, those in bodies and branches included."""
    for node in nodes:
        yield from node.input
        for attribute in node.attribute:
            yield from _read(attribute.g.node)


def _replace(field: Any, values: Sequence[Any]) -> None:
    """Put other messages into a repeated field."""
    del field[:]
    field.extend(values)
