"""Build the ONNX graphs of a torch network, whose parts add their own nodes."""

from __future__ import annotations

from pathlib import Path

import onnx

from rnntool.models import graph_check
from rnntool.models.export import quantization
from rnntool.models.export.builder import Graph
from rnntool.models.network import Network

MAIN = "model"  # the graph that reads records; heads may add others


def build_graphs(network: Network) -> dict[str, onnx.ModelProto]:
    """Return the graphs of a network in float32, by name; `MAIN` contains encoder and head."""
    g = Graph()
    encoded, final_states = network.encoder.add_to(g, network.state_sizes())
    others = network.head.add_to(g, encoded, "lengths")
    if network.head.carries_state:
        for sizes, values in zip(network.state_sizes("next"), final_states, strict=True):
            for (name, size), value in zip(sizes.items(), values, strict=True):
                g.output(value, name, "float32", [1, "batch", size])
    return {name: graph.model() for name, graph in {MAIN: g, **others}.items()}


def serialize(model: onnx.ModelProto, *, int8: bool = False) -> bytes:
    """Return the content of a graph's file; with `int8`, first quantize the model in place."""
    if int8:
        quantization.quantize(model)
    graph: bytes = model.SerializeToString()
    graph_check.check(graph)  # a graph with an operator that isn't listed there could never be loaded
    return graph


def write_graphs(network: Network, folder: Path, *, int8: bool = False) -> None:
    """Write each graph of `network` to `<name>.onnx` in `folder`."""
    for name, model in build_graphs(network).items():
        (folder / f"{name}.onnx").write_bytes(serialize(model, int8=int8))
