"""Quantization: graphs with weights in 8 bits are smaller and faster. Knows ONNX but no networks.

Integer products round the activations to 8 bits as well. If the scale of activations depended on the batch,
the answer to a text would depend on it as well. Therefore states of most recurrent layers, which are between
-1 and 1, have a fixed scale, and all other activations are scaled row by row.

ONNX Runtime's LSTM in 8 bits (`DynamicQuantizeLSTM`) always scales its inputs and, at each step, its states
by the smallest and the largest number in the batch. These extremes are made constant: the inputs get two more
columns, which hold the extremes that are possible, and the layer gets two more units, which are always 1 and
-1. All weights from these units to others are zero, and the units are cut off from the results. Other cells
use a scan with integer products in its steps. That needs no such extremes, but for an LSTM it takes 1.1 to
1.9 times as long.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

DOMAIN = "com.microsoft"  # of operators that only ONNX Runtime has
UNIT_SCALE, ZERO_POINT = np.float32(2 / 255), np.uint8(128)  # of numbers within -1 and 1
EXTREME_UNITS = (1.0, -1.0)  # the states of the two units that are added to an LSTM
OPEN_GATE = 30.0  # a bias that opens a gate completely
SATURATED_CELL = 20.0  # an LSTM cell whose tanh is 1 in float32, whatever a step adds
MIN_SCALE = np.float32(1e-30)  # for rows and columns of zeros
REARRANGING = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Slice")  # change no number

Nodes = list[onnx.NodeProto]


def quantize(model: onnx.ModelProto) -> None:
    """Quantize the matrices of a float32 graph to 8 bits, in place; each column gets its own scale."""
    graph = _Weights(model.graph)
    nodes: Nodes = []
    for node in model.graph.node:
        if node.op_type == "LSTM":
            nodes += _lstm(graph, node)
        elif node.op_type == "MatMul" and node.input[1] in graph.tensors:
            nodes += _product(graph, node, unit=_within_one(graph, node.input[0]))
        elif node.op_type == "Gather" and node.input[0] in graph.tensors:
            nodes += _look_up(graph, node)
        elif node.op_type == "Scan":
            nodes.append(_scan(graph, node))
        else:
            nodes.append(node)
    _replace(model.graph.node, nodes)
    used = set(_inputs(nodes))
    _replace(model.graph.initializer, [weight for weight in model.graph.initializer if weight.name in used])
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))


class _Weights:
    """The weights of a graph by name, and the nodes that produce its values."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        inputs = {value.name for value in graph.input}
        self.graph = graph
        self.tensors = {tensor.name: tensor for tensor in graph.initializer if tensor.name not in inputs}
        self.producers = {name: node for node in graph.node for name in node.output}

    def __getitem__(self, name: str) -> NDArray[Any]:
        return numpy_helper.to_array(self.tensors[name])

    def put(self, name: str, value: NDArray[Any] | np.generic) -> str:
        """Set a weight, a new one or one that exists."""
        tensor = numpy_helper.from_array(np.array(value, order="C"), name)
        if name in self.tensors:
            self.tensors[name].CopyFrom(tensor)
        else:
            self.graph.initializer.append(tensor)
            self.tensors[name] = self.graph.initializer[-1]
        return name

    def integers(self, *values: int) -> str:
        """Set a vector of integers; equal ones are shared."""
        return self.put(f"integers {values}", np.array(values, np.int64))

    def rounded(self, name: str, value: NDArray[Any], *, axis: int) -> list[str]:
        """Set a weight in 8 bits: its integers, with scales and zero points that are shared along `axis`.

        The integers are unsigned. For signed ones, processors without VNNI instructions add pairs of products
        in 16 bits, which can overflow.
        """
        scales = np.maximum(np.abs(value).max(axis=axis, keepdims=True) / np.float32(127), MIN_SCALE)
        integers = (np.rint(value / scales) + ZERO_POINT).astype(np.uint8)
        scales = scales.squeeze(axis)
        return self._put_parts(name, integers, scales, np.full(scales.shape, ZERO_POINT))

    def rounded_table(self, name: str) -> list[str]:
        """Set a look-up table in 8 bits: its integers, one scale and one zero point."""
        value = self[name]
        low, high = min(value.min(), 0.0), max(value.max(), 0.0)
        scale = np.maximum(np.float32((high - low) / 255), MIN_SCALE)
        zero = np.rint(-low / scale)
        integers = (np.rint(value / scale) + zero).clip(0, 255).astype(np.uint8)
        return self._put_parts(name, integers, scale, np.uint8(zero))

    def _put_parts(self, name: str, *values: NDArray[Any] | np.generic) -> list[str]:
        return [self.put(f"{name}_{part}", value)
                for part, value in zip(("quantized", "scale", "zero_point"), values, strict=True)]

    def source(self, name: str) -> onnx.NodeProto | None:
        """Return the node that computed a value's numbers, before any rearranging nodes."""
        node = self.producers.get(name)
        while node is not None and node.op_type in REARRANGING:
            node = self.producers.get(node.input[0])
        return node


def _within_one(graph: _Weights, name: str) -> bool:
    """Return whether a value is certain to be between -1 and 1, like the states of most recurrent layers."""
    node = graph.source(name)
    if node is None:
        return False
    if node.op_type == "Concat":
        return all(_within_one(graph, part) for part in node.input)
    if node.op_type == "Gather":
        return _within_one(graph, node.input[0])
    if node.op_type == "Scan":
        return _is_bounded(_body(node))
    if node.op_type == "RNN":
        return bool(_attribute(node, "activations").strings[0] == b"Tanh")
    return node.op_type in ("LSTM", "GRU", "Tanh")


def _is_bounded(body: onnx.GraphProto) -> bool:
    """Return whether a step's state is between -1 and 1: made by tanh, gates and means with the old state."""
    return any(node.op_type == "Tanh" for node in body.node)


def _body(scan: onnx.NodeProto) -> Any:
    return _attribute(scan, "body").g


def _attribute(node: onnx.NodeProto, name: str) -> Any:
    return next(attribute for attribute in node.attribute if attribute.name == name)


def _scan(graph: _Weights, scan: onnx.NodeProto) -> onnx.NodeProto:
    """Quantize the matrices in the body of a scan."""
    body = _body(scan)
    rows = _attribute(scan, "num_scan_inputs").i
    states = {value.name for value in body.input[: len(scan.input) - rows]}
    nodes: Nodes = []
    for node in body.node:
        if node.op_type == "MatMul" and node.input[1] in graph.tensors:
            nodes += _product(graph, node, unit=node.input[0] in states and _is_bounded(body))
        else:
            nodes.append(node)
    _replace(body.node, nodes)
    return scan


def _product(graph: _Weights, product: onnx.NodeProto, *, unit: bool) -> Nodes:
    """Return a product with a matrix in 8 bits; `unit` says that the rows are between -1 and 1.

    Other rows are divided by their largest absolute value before, and multiplied by it after.
    """
    x, name = product.input
    (out,) = product.output
    integers, scales, zeros = graph.rounded(name, graph[name], axis=0)
    scale, zero = graph.put("unit.scale", UNIT_SCALE), graph.put("unit.zero_point", ZERO_POINT)
    before: Nodes = []
    after: Nodes = []
    scaled = out
    if not unit:
        peak, scaled = f"{out}.peak", f"{out}.scaled"
        before = [helper.make_node("Abs", [x], [f"{out}.abs"]),
                  helper.make_node("ReduceMax", [f"{out}.abs"], [f"{out}.max"], axes=[-1]),
                  helper.make_node("Max", [f"{out}.max", graph.put("min.scale", MIN_SCALE)], [peak]),
                  helper.make_node("Div", [x, peak], [f"{out}.unit"])]
        after = [helper.make_node("Mul", [scaled, peak], [out])]
        x = f"{out}.unit"
    return [*before,
            helper.make_node("QuantizeLinear", [x, scale, zero], [f"{out}.integers"]),
            helper.make_node(
                "MatMulIntegerToFloat", [f"{out}.integers", integers, scale, scales, zero, zeros], [scaled],
                domain=DOMAIN),
            *after]


def _look_up(graph: _Weights, gather: onnx.NodeProto) -> Nodes:
    """Return a look-up of rows in a table in 8 bits."""
    name, rows = gather.input
    (out,) = gather.output
    integers, scale, zero = graph.rounded_table(name)
    return [helper.make_node("Gather", [integers, rows], [f"{out}.integers"]),
            helper.make_node("DequantizeLinear", [f"{out}.integers", scale, zero], [out])]


def _lstm(graph: _Weights, lstm: onnx.NodeProto) -> Nodes:
    """Return an LSTM in 8 bits, with two more inputs and two more units; its results lack these units."""
    hidden = _attribute(lstm, "hidden_size")
    size, extra = hidden.i, len(EXTREME_UNITS)
    x, w, r, b, lengths, *states = lstm.input
    directions = len(graph[w])
    weights, scales = [], []
    for name in (w, r):  # (directions, 4H, I or H) with the gates i, o, f, c
        gates = graph[name].reshape(directions, 4, size, -1)
        gates = np.pad(gates, [(0, 0), (0, 0), (0, extra), (0, extra)])
        matrices = gates.reshape(directions, 4 * (size + extra), -1).transpose(0, 2, 1)
        integers, *scaled = graph.rounded(name, matrices, axis=1)
        weights.append(integers)
        scales += scaled
    biases = graph[b].reshape(directions, 8, size)  # of w, and of r
    unit_biases = np.zeros((directions, 8, extra), np.float32)
    unit_biases[:, :3] = OPEN_GATE
    unit_biases[:, 3] = OPEN_GATE * np.array(EXTREME_UNITS)
    graph.put(b, np.concatenate([biases, unit_biases], axis=2).reshape(directions, -1))
    before = _with_extremes(graph, x, f"{lstm.name}.x")
    nodes, starts = _start_states(graph, lstm.name, x, states, directions, size)
    outputs, after = [], []
    for place, name in enumerate(lstm.output):
        outputs.append(f"{name}.wide")
        axis = 2 if place else 3
        after.append(helper.make_node(
            "Slice", [outputs[-1], graph.integers(0), graph.integers(size), graph.integers(axis)], [name]))
    node = helper.make_node(
        "DynamicQuantizeLSTM", [f"{lstm.name}.x", *weights, b, lengths, *starts, "", *scales], outputs,
        name=lstm.name, domain=DOMAIN)
    hidden.i = size + extra
    node.attribute.extend(lstm.attribute)
    return [*before, *nodes, node, *after]


def _with_extremes(graph: _Weights, x: str, name: str) -> Nodes:
    """Return nodes that append two columns with its extremes to `x` (T, B, I)."""
    low, high, is_exact = _extremes(graph, x)
    bounds = [graph.put(f"{name}.low", np.float32(low)), graph.put(f"{name}.high", np.float32(high))]
    nodes: Nodes = []
    if not is_exact:
        nodes.append(helper.make_node("Clip", [x, *bounds], [f"{name}.clipped"]))
        x = f"{name}.clipped"
    pads = graph.integers(0, 0, 0, 0, 0, 1)  # one more column
    return [*nodes,
            helper.make_node("Pad", [x, pads, bounds[0]], [f"{name}.padded"]),
            helper.make_node("Pad", [f"{name}.padded", pads, bounds[1]], [name])]


def _extremes(graph: _Weights, name: str) -> tuple[float, float, bool]:
    """Return the smallest and the largest number that a value can have; `ValueError` if they are unknown.

    The third result says whether they are exact, or could be exceeded a little by the rounding of a product.
    """
    if _within_one(graph, name):
        return -1.0, 1.0, True
    node = graph.source(name)
    if node is not None and node.op_type == "Gather" and node.input[0] in graph.tensors:
        _, scale, zero = (graph[part] for part in graph.rounded_table(node.input[0]))
        return float((0 - float(zero)) * scale), float((255 - float(zero)) * scale), True
    if node is not None and node.op_type == "MatMul" and node.input[1] in graph.tensors:
        table = graph.source(node.input[0])  # an adaptive embedding's, whose rows are projected
        if table is not None and table.op_type == "Gather" and table.input[0] in graph.tensors:
            rows = graph[table.input[0]] @ graph[node.input[1]]
            return float(rows.min()), float(rows.max()), False
    if node is not None and node.op_type == "Clip":
        low, high = (graph[name].item() for name in node.input[1:])
        return low, high, True
    if node is not None and node.op_type == "Concat":
        sides = [_extremes(graph, side) for side in node.input]
        low, high = min(side[0] for side in sides), max(side[1] for side in sides)
        return low, high, all(side[2] for side in sides)
    if node is not None and node.op_type == "Where":
        sides = [_extremes(graph, side) for side in node.input[1:]]
        return min(low for low, _, _ in sides), max(high for _, high, _ in sides), False
    raise ValueError(f"the range of {name} is unknown")


def _start_states(
    graph: _Weights, name: str, x: str, states: Sequence[str], directions: int, hidden: int
) -> tuple[Nodes, list[str]]:
    """Return h and c before the first step, given or zeros, extended by the states of the two extreme units.

    These units have their values from the first step on, so that a batch can mix new texts with texts that
    have been read in part.
    """
    nodes: Nodes = []
    starts = []
    if not states:
        batch, shape = f"{name}.batch", f"{name}.shape"
        nodes += [helper.make_node("Shape", [x], [batch], start=1, end=2),
                  helper.make_node("Concat", [graph.integers(directions), batch, graph.integers(1)], [shape],
                                   axis=0)]
    for place, (kind, value) in enumerate((("h", 1.0), ("c", SATURATED_CELL))):
        units = np.concatenate([np.zeros(hidden), value * np.array(EXTREME_UNITS)]).astype(np.float32)
        start = graph.put(f"start.{kind}.{hidden}", units.reshape(1, 1, -1))
        starts.append(f"{name}.{kind}")
        if states:
            padded = f"{starts[-1]}.padded"
            pads = graph.integers(0, 0, 0, 0, 0, len(EXTREME_UNITS))
            nodes += [helper.make_node("Pad", [states[place], pads], [padded]),
                      helper.make_node("Add", [padded, start], [starts[-1]])]
        else:
            nodes.append(helper.make_node("Expand", [start, shape], [starts[-1]]))
    return nodes, starts


def _inputs(nodes: Iterable[onnx.NodeProto]) -> Iterator[str]:
    """Yield the names of all inputs of nodes, including those in bodies and branches."""
    for node in nodes:
        yield from node.input
        for attribute in node.attribute:
            yield from _inputs(attribute.g.node)


def _replace(field: Any, values: Sequence[Any]) -> None:
    """Replace all messages of a repeated protobuf field."""
    del field[:]
    field.extend(values)
