"""Graphs with weights in 8 bits: smaller and faster. Knows ONNX, and no network.

ONNX Runtime multiplies integers: it scales what meets a matrix to 8 bits, too, by the smallest and the
largest number of the whole batch. So what stands elsewhere in a batch would change how a text is rounded. In
language models, where a sample must not depend on its batch, these two numbers are always made the same.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

EDGES = (1.0, -1.0)  # the states of the two units that an LSTM gets
OPEN = 30.0  # a bias that opens a gate whole
FAR = 20.0  # a cell whose state is an edge in float32, whatever a step adds
TINIEST = 1e-30  # for rows of zeros
MOVES = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity")  # leave the last axis as it is


def write(model: onnx.ModelProto, path: Path) -> None:
    """Write a float32 graph with its matrices in 8 bits, each column with a scale of its own."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    if any(value.name == "log_probs" for value in model.graph.output):
        _steady(model)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "float32.onnx"
        onnx.save(model, source)
        logging.disable(logging.WARNING)  # it recommends a step that these graphs don't need
        try:
            # Convolutions stay in float: ONNX Runtime's integer convolution is slower than its float one.
            quantize_dynamic(
                source, path, op_types_to_quantize=["LSTM", "MatMul", "Gather"],
                weight_type=QuantType.QInt8, per_channel=True,
                # The matrices in the body of a scan, too; but vectors of words that are handed in are floats.
                extra_options={"EnableSubgraph": True}, nodes_to_exclude=_branches(model),
            )
        finally:
            logging.disable(logging.NOTSET)


def _branches(model: onnx.ModelProto) -> list[str]:
    """The names of the nodes that are run or not, as a condition says."""
    return [inner.name for node in model.graph.node if node.op_type == "If"
            for attribute in node.attribute for inner in attribute.g.node]


def _steady(model: onnx.ModelProto) -> None:
    """Let what meets a matrix have the same smallest and largest number in every batch, in place.

    An LSTM gets two units that read nothing, are read by nothing, and whose states are 1 and -1, which no
    state exceeds; its embedding two columns with the largest number of all. What meets another matrix is
    divided by its largest number, row by row, and gets 1 and -1 beside it. The results stay what they are.
    """
    graph = _Weights(model.graph)
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.op_type == "LSTM":
            nodes += _with_edges(graph, node)
        elif node.op_type == "MatMul" and node.input[1] in graph.tensors:
            nodes += _by_rows(graph, node)
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


class _Weights:
    """The weights of a graph by name, and where its values come from."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.tensors = {tensor.name: tensor for tensor in graph.initializer}
        self.makers = {name: node for node in graph.node for name in node.output}
        self.widened: set[str] = set()

    def __getitem__(self, name: str) -> NDArray[Any]:
        return numpy_helper.to_array(self.tensors[name])

    def put(self, name: str, value: NDArray[Any]) -> str:
        """Set a weight, a new one or one that is there."""
        tensor = numpy_helper.from_array(np.ascontiguousarray(value), name)
        if name in self.tensors:
            self.tensors[name].CopyFrom(tensor)
        else:
            self.graph.initializer.append(tensor)
            self.tensors[name] = self.graph.initializer[-1]
        return name

    def widen(self, name: str, *pads: tuple[int, int]) -> None:
        """Put zeros around a weight, once however often it is used."""
        if name not in self.widened:
            self.widened.add(name)
            self.put(name, np.pad(self[name], pads))

    def source(self, name: str) -> onnx.NodeProto | None:
        """The node that made a value, but for the order of its axes."""
        node = self.makers.get(name)
        while node is not None and node.op_type in MOVES:
            node = self.makers.get(node.input[0])
        return node


def _with_edges(graph: _Weights, lstm: onnx.NodeProto) -> list[onnx.NodeProto]:
    """An LSTM of one direction with two units more."""
    x, w, r, b, _, h, c = lstm.input
    (size,) = (a for a in lstm.attribute if a.name == "hidden_size")
    hidden, size.i = size.i, size.i + len(EDGES)
    below = graph.source(x)
    inputs = 0
    if below is not None and (below.op_type == "LSTM" or _edge_columns(graph, below)):
        inputs = len(EDGES)
    for name, columns in ((w, inputs), (r, len(EDGES))):  # (1, 4H, D) with the gates i, o, f, c
        gates = np.split(graph[name], 4, axis=1)
        wider = [np.pad(gate, ((0, 0), (0, len(EDGES)), (0, columns))) for gate in gates]
        graph.put(name, np.concatenate(wider, axis=1))
    biases = graph[b].reshape(1, 8, hidden)  # those of w, and those of r
    edges = np.zeros((1, 8, len(EDGES)), np.float32)
    edges[0, :3] = OPEN
    edges[0, 3] = OPEN * np.array(EDGES)
    graph.put(b, np.concatenate([biases, edges], axis=2).reshape(1, -1))
    # the two are at their edges before the first step already, so that rows of any age can share a batch
    before, after = [], []
    pads = graph.put("edges.pads", np.array([0, 0, 0, 0, 0, len(EDGES)], np.int64))
    for place, value, height in ((5, h, 1.0), (6, c, FAR)):
        start = np.concatenate([np.zeros(hidden), height * np.array(EDGES)]).astype(np.float32)
        graph.put(f"{value}.edges", start.reshape(1, 1, -1))
        before += [helper.make_node("Pad", [value, pads], [f"{value}.padded"]),
                   helper.make_node("Add", [f"{value}.padded", f"{value}.edges"], [f"{value}.wide"])]
        lstm.input[place] = f"{value}.wide"
    size_of, axis = (graph.put(name, np.array([number], np.int64))
                     for name, number in ((f"{c}.size", hidden), ("edges.axis", 2)))
    none = graph.put("edges.none", np.array([0], np.int64))
    for place in (1, 2):
        if len(lstm.output) > place and lstm.output[place]:
            end = lstm.output[place]
            lstm.output[place] = f"{end}.wide"
            after.append(helper.make_node("Slice", [f"{end}.wide", none, size_of, axis], [end]))
    return [*before, lstm, *after]


def _edge_columns(graph: _Weights, node: onnx.NodeProto) -> bool:
    """Give the table that `node` gathers from two columns with its largest number; False if there is none."""
    if node.op_type != "Gather" or node.input[0] not in graph.tensors:
        return False
    table = graph[node.input[0]]  # (V, E)
    edges = np.tile(np.abs(table).max() * np.array(EDGES, table.dtype), (len(table), 1))
    graph.put(node.input[0], np.concatenate([table, edges], axis=1))
    return True


def _by_rows(graph: _Weights, product: onnx.NodeProto) -> list[onnx.NodeProto]:
    """A product with a matrix, each row of it scaled to the edges; those of an LSTM reach them anyway."""
    x, w = product.input
    (out,) = product.output
    graph.widen(w, (0, len(EDGES)), (0, 0))
    below = graph.source(x)
    if below is not None and below.op_type == "LSTM":
        return [product]
    tiniest = graph.put("tiniest", np.array(TINIEST, np.float32))
    peak, one = f"{out}.peak", f"{out}.one"
    product.input[0], product.output[0] = f"{out}.x", f"{out}.scaled"
    return [
        helper.make_node("Abs", [x], [f"{out}.abs"]),
        helper.make_node("ReduceMax", [f"{out}.abs"], [f"{out}.max"], axes=[-1]),  # (T, B, 1)
        helper.make_node("Max", [f"{out}.max", tiniest], [peak]),
        helper.make_node("Div", [x, peak], [f"{out}.unit"]),
        helper.make_node("Div", [peak, peak], [one]),
        helper.make_node("Neg", [one], [f"{out}.minus"]),
        helper.make_node("Concat", [f"{out}.unit", one, f"{out}.minus"], [product.input[0]], axis=-1),
        product,
        helper.make_node("Mul", [product.output[0], peak], [out]),
    ]
