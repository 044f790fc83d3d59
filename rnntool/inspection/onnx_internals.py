"""Weights and intermediate outputs of a model's ONNX graph: its embedding and the states of its layers.

Works on float32 and 8-bit graphs without torch, so that models without float weights can be inspected.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from rnntool import model_folder
from rnntool.errors import ModelError
from rnntool.model_folder import ModelConfig
from rnntool.models.config import Shape

EMBEDDING = "embedding"  # name of the weight; in 8 bits `_quantized`, `_scale` or `_zero_point` is appended
OPERATORS = ("RNN", "GRU", "LSTM", "DynamicQuantizeLSTM")  # for all directions of a layer; a Scan is for one


def embedding(folder: Path, config: ModelConfig) -> NDArray[np.float32]:
    """Return the embedding (V, E) of the graph in a model folder that has this `config`.

    The clusters of an adaptive embedding are projected to E and concatenated. Matrices in 8 bits may be
    padded with rows and columns that belong to no word. `ModelError` if the graph is damaged or belongs to
    another model.
    """
    weights = {weight.name: weight for weight in _load(folder, config).graph.initializer}

    def array(name: str) -> NDArray[np.float32]:
        return numpy_helper.to_array(weights[name]).astype(np.float32)

    def matrix(name: str) -> NDArray[np.float32] | None:
        if name in weights:
            return array(name)
        if f"{name}_quantized" in weights:
            integers = array(f"{name}_quantized") - array(f"{name}_zero_point")
            scaled: NDArray[np.float32] = integers * array(f"{name}_scale")  # one scale, or one per column
            return scaled
        return None

    whole = matrix(EMBEDDING)
    if whole is not None:
        return whole[:, : config.network.encoder.embed]
    clusters: list[NDArray[np.float32]] = []
    while (rows := matrix(f"{EMBEDDING}.{len(clusters)}")) is not None:
        projection = matrix(f"{EMBEDDING}.{len(clusters)}.projection.weight")
        clusters.append(rows if projection is None else rows @ projection[: rows.shape[1]])
    if not clusters:
        raise _damaged(folder, "has no embedding")
    return np.concatenate(clusters)


def states_graph(folder: Path, config: ModelConfig, *, layer: int) -> tuple[bytes, list[str]]:
    """Make a graph that outputs the states of one layer (from 0); return it and the names of these outputs.

    It is made from the graph in a model folder that has this `config`. The states are one array
    (T, directions, B, H), or one array (T, B, H) per direction. In 8 bits, H may be padded with extra units.
    The graph also outputs the final states, but not the model's answers, so the head is not computed.
    `ModelError` if the graph is damaged or belongs to another model.
    """
    model = _load(folder, config)
    layers, bidirectional = config.network.encoder.layers, config.network.encoder.bidirectional
    nodes = [node for node in model.graph.node if node.op_type in (*OPERATORS, "Scan")]
    by_layer: list[list[onnx.NodeProto]] = []  # the last first; character networks precede them
    while nodes and len(by_layer) < layers:
        count = 2 if bidirectional and nodes[-1].op_type == "Scan" else 1
        by_layer.append(sorted(nodes[-count:], key=_runs_backward))
        del nodes[-count:]
    if len(by_layer) < layers:
        raise _damaged(folder, expected=f"{layers} recurrent layers", found=len(by_layer))
    outputs = [output for output in model.graph.output if output.name.startswith("next.")]
    names = []
    for node in by_layer[layers - 1 - layer]:
        has_directions = node.op_type in OPERATORS
        names.append(node.output[0] if has_directions else node.output[-1])
        shape = ["time", "directions", "batch", "hidden"] if has_directions else ["time", "batch", "hidden"]
        outputs.append(helper.make_tensor_value_info(names[-1], onnx.TensorProto.FLOAT, shape))
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    return model.SerializeToString(), names


def _runs_backward(node: onnx.NodeProto) -> bool:
    """Return whether a node is a scan from the last time step to the first."""
    return any(attribute.name == "scan_output_directions" and any(attribute.ints)
               for attribute in node.attribute)


def _load(folder: Path, config: ModelConfig) -> onnx.ModelProto:
    try:
        model_folder.check_has_network(folder, config)
        model = onnx.load_model_from_string(model_folder.read_graph(folder / model_folder.GRAPH, config))
    except DecodeError as error:
        raise _damaged(folder, f"can't be read ({error})") from None
    model_folder.check_graph(folder, config, *map(_shapes, (model.graph.input, model.graph.output)))
    return model


def _shapes(values: Iterable[onnx.ValueInfoProto]) -> dict[str, Shape]:
    """Return the shapes of a graph's inputs or outputs."""
    return {value.name: tuple(size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim)
            for value in values}


def _damaged(folder: Path, problem: str = "", **parts: Any) -> ModelError:
    return ModelError(problem, place=folder / model_folder.GRAPH, advice="copy or train the model again",
                      **parts)
