"""What a graph holds besides its answers: its embedding, and the states of its recurrent layers.

Reads ONNX graphs in float32 and in 8 bits, so models that ship without float weights can be looked into, and
knows no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from rnntool import model_folder
from rnntool.errors import ModelError

EMBEDDING = "embedding"  # the weight's name; in 8 bits with `_quantized`, `_scale`, `_zero_point` behind it
OPERATORS = ("RNN", "GRU", "LSTM", "DynamicQuantizeLSTM")  # a whole layer each; a scan is one direction


def embedding(folder: Path, config: Mapping[str, Any]) -> NDArray[np.float32]:
    """The embedding (V, E) of the graph in a model folder; bands come as they are after projection.

    `config` is the folder's. In 8 bits matrices may have more rows and columns, which say nothing of a word
    (see `int8`). `ModelError` where the graph is damaged or another model's.
    """
    weights = {weight.name: weight for weight in _load(folder, config).graph.initializer}

    def array(name: str) -> NDArray[np.float32]:
        return numpy_helper.to_array(weights[name]).astype(np.float32)

    def matrix(name: str) -> NDArray[np.float32] | None:
        if name in weights:
            return array(name)
        if f"{name}_quantized" in weights:
            steps = array(f"{name}_quantized") - array(f"{name}_zero_point")
            scaled: NDArray[np.float32] = steps * array(f"{name}_scale")  # one, or one for each column
            return scaled
        return None

    whole = matrix(EMBEDDING)
    if whole is not None:
        return whole[:, : config["network"]["encoder"]["embed"]]
    bands: list[NDArray[np.float32]] = []
    while (rows := matrix(f"{EMBEDDING}.{len(bands)}")) is not None:
        projection = matrix(f"{EMBEDDING}.{len(bands)}.projection.weight")
        bands.append(rows if projection is None else rows @ projection[: rows.shape[1]])
    if not bands:
        raise ModelError(f"{folder / model_folder.GRAPH}: has no embedding; copy or train the model again")
    return np.concatenate(bands)


def states_graph(folder: Path, config: Mapping[str, Any], *, layer: int) -> tuple[bytes, list[str]]:
    """A graph that gives out the states of one layer (from 0), and the names that it gives them by.

    It is made of the graph in a model folder, whose content of config.json `config` is.

    They are one array (T, directions, B, H), or one (T, B, H) for each direction; in 8 bits there may be more
    units behind the layer's own, which say nothing (see `int8`). Of its other outputs it has those that go on
    to a next batch; what only the head needs is not computed. `ModelError` where the graph is damaged or
    another model's.
    """
    model = _load(folder, config)
    layers, bidirectional = (config["network"]["encoder"][key] for key in ("layers", "bidirectional"))
    nodes = [node for node in model.graph.node if node.op_type in (*OPERATORS, "Scan")]
    found: list[list[onnx.NodeProto]] = []  # from the top down: networks of characters stand below the layers
    while nodes and len(found) < layers:
        count = 2 if bidirectional and nodes[-1].op_type == "Scan" else 1
        found.append(sorted(nodes[-count:], key=_backwards))
        del nodes[-count:]
    if len(found) < layers:
        raise ModelError(f"{folder / model_folder.GRAPH}: expected {layers} recurrent layers, found "
                         f"{len(found)}; copy or train the model again")
    outputs = [output for output in model.graph.output if output.name.startswith("next.")]
    names = []
    for node in found[layers - 1 - layer]:
        whole = node.op_type in OPERATORS
        names.append(node.output[0] if whole else node.output[-1])
        shape = ["time", "directions", "batch", "hidden"] if whole else ["time", "batch", "hidden"]
        outputs.append(helper.make_tensor_value_info(names[-1], onnx.TensorProto.FLOAT, shape))
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    return model.SerializeToString(), names


def _backwards(node: onnx.NodeProto) -> bool:
    """Whether it is a scan from the end on."""
    return any(attribute.name == "scan_output_directions" and any(attribute.ints)
               for attribute in node.attribute)


def _load(folder: Path, config: Mapping[str, Any]) -> onnx.ModelProto:
    path = folder / model_folder.GRAPH
    try:
        model = onnx.load(path)
    except (OSError, DecodeError) as error:
        raise ModelError(f"{path}: can't be read ({error}); copy or train the model again") from None
    shapes = {value.name: value.type.tensor_type.shape.dim for value in model.graph.output}
    widths = {name: shape[-1].dim_value if shape else 0 for name, shape in shapes.items()}
    model_folder.check_graph(folder, config, [value.name for value in model.graph.input], widths)
    return model
