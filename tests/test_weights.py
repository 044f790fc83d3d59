"""Weights of older versions are loaded under the current parameter names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from rnntool import model_folder
from rnntool.errors import ModelError
from rnntool.inference.onnx_engine import OnnxEngine
from rnntool.inference.torch_engine import TorchEngine
from rnntool.inference.weights import load_network, load_weights

OLD_MODELS = Path(__file__).parent / "fixtures" / "models_0_1_0"
RENAMED = {
    "back.layers.1.ahead.kernel.weight_ih_l0": "backward_encoder.layers.1.forward_cell.kernel.weight_ih_l0",
    "encoder.layers.0.back.kernel.bias_hh_l0": "encoder.layers.0.backward_cell.kernel.bias_hh_l0",
    "encoder.input.characters.layer.back.kernel.weight_hh_l0":
        "encoder.input.characters.layer.backward_cell.kernel.weight_hh_l0",
    "encoder.input.context.ahead.input.embedding.weight":
        "encoder.input.context.forward_encoder.input.embedding.weight",
    "encoder.input.context.back.layers.0.ahead.kernel.weight_ih_l0":
        "encoder.input.context.backward_encoder.layers.0.forward_cell.kernel.weight_ih_l0",
    "head.band_weight": "head.cluster_weight",
    "head.band_bias": "head.cluster_bias",
    "head.vectors.tables.0.weight": "head.output_embedding.tables.0.weight",
    "head.output.weight": "head.output.weight",
    "encoder.input.vectors.weight": "encoder.input.vectors.weight",
}


@pytest.mark.parametrize("name", ["writer", "classifier", "tagger", "window"])
def test_the_network_of_an_older_model_computes_the_outputs_of_its_graph(name: str) -> None:
    folder = OLD_MODELS / name
    config = model_folder.read_config(folder)
    onnx = OnnxEngine(folder / model_folder.GRAPH, threads=1)
    network = TorchEngine(load_network(folder, config), torch.device("cpu"))
    outputs = config.network.head.outputs
    vocabulary = config.network.encoder.vocabulary
    arrays = tiny.network_arrays(
        np.random.default_rng(0), [7, 1, 3, 2, 5], vocabulary=vocabulary, targets=outputs)
    arrays["type_chars"] %= 15
    zeros = onnx.initial_state(5)
    assert {name: value.shape for name, value in network.initial_state(5).items()} == {
        name: value.shape for name, value in zeros.items()}
    exact, loaded = onnx.run(arrays | zeros), network.run(arrays | zeros)
    assert exact.keys() == loaded.keys()
    real = np.arange(7)[:, None] < arrays["lengths"]
    for key, value in exact.items():
        where = real if value.shape[:2] == real.shape else ...
        np.testing.assert_allclose(loaded[key][where], value[where], atol=1e-5, err_msg=key)


def test_the_fixtures_have_old_names() -> None:
    names = [name for path in OLD_MODELS.glob("*/model.safetensors") for name in load_file(path)]
    assert any(".ahead.kernel." in name for name in names) and any(name.startswith("back.") for name in names)


def test_each_old_parameter_name_becomes_the_current_one(tmp_path: Path) -> None:
    save_file({name: torch.full((1,), i) for i, name in enumerate(RENAMED)},
              tmp_path / model_folder.WEIGHTS)
    weights = load_weights(tmp_path)
    assert {name: int(tensor) for name, tensor in weights.items()} == {
        name: i for i, name in enumerate(RENAMED.values())}


def test_the_message_about_missing_weights_says_what_needs_them(tmp_path: Path) -> None:
    message = (r"has no model\.safetensors, only an ONNX graph; train the model again to get the "
               "weights, or leave out options that need them, such as device")
    with pytest.raises(ModelError, match=message):
        load_weights(tmp_path)
