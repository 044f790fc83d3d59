"""States and embeddings from ONNX graphs, and gradients through time, compared with torch and by hand."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from numpy.typing import NDArray
from test_parity import AFFIXES, VOCABULARY, network, words

import rnntool
from rnntool import model_folder
from rnntool.data.records import Text
from rnntool.errors import ModelError
from rnntool.inference.onnx_engine import OnnxEngine
from rnntool.inspection import onnx_internals, states
from rnntool.inspection.gradients import (
    cell_gradients,
    jacobian_norms,
    network_gradients,
    remaining_shares,
    text_batches,
    vanishing_step,
)
from rnntool.model_folder import ModelConfig
from rnntool.models.cells import CELLS
from rnntool.models.config import EncoderConfig, LMHeadConfig, TaggerHeadConfig
from rnntool.models.layers import RecurrentLayer
from rnntool.models.network import Network
from rnntool.tasks import TASKS

LENGTHS = (5, 1, 7)


# --- Weights and states of a graph -------------------------------------------------------------------------


@pytest.mark.parametrize(("cell", "both", "kind"), [
    *((cell, False, "lm") for cell in CELLS),
    *((cell, both, "tag") for cell, both in itertools.product(CELLS, (False, True))),
])  # fmt: skip
def test_the_states_of_each_layer_are_those_of_the_torch_network(
    cell: str, both: bool, kind: str, tmp_path: Path
) -> None:
    head = LMHeadConfig(outputs=VOCABULARY) if kind == "lm" else TaggerHeadConfig(outputs=6)
    word = None if kind == "lm" else words(chars="lstm", **AFFIXES)
    net = network(EncoderConfig(vocabulary=VOCABULARY, embed=6, cell=cell, layers=2, hidden=4,
                                bidirectional=both, word=word), head)
    assert_same_states(net, tiny.network_arrays(np.random.default_rng(1), LENGTHS, targets=6), tmp_path)


@pytest.mark.parametrize("cell", ["lstm", "mingru"])
def test_character_networks_do_not_count_as_layers(cell: str, tmp_path: Path) -> None:
    """Neither the network of a word's characters nor a character language model counts as a layer."""
    below = EncoderConfig(vocabulary=20, embed=4, cell=cell, layers=2, hidden=3)
    net = network(EncoderConfig(
        vocabulary=VOCABULARY, embed=6, cell=cell, layers=2, hidden=4, bidirectional=True,
        word=words(chars="lstm", **AFFIXES), context=below, context_both=True,
    ), TaggerHeadConfig(outputs=6))
    rng = np.random.default_rng(1)
    arrays = tiny.network_arrays(rng, LENGTHS, targets=6) | {
        "chars": rng.integers(0, 20, (30, 3)), "char_lengths": np.array([30, 10, 25], np.int32),
        "word_starts": rng.integers(0, 10, (7, 3)), "word_ends": rng.integers(0, 10, (7, 3))}
    assert_same_states(net, arrays, tmp_path)


def config_of(net: Network) -> ModelConfig:
    """Return the configuration of a network."""
    spec = TASKS[net.config.head.kind]
    return ModelConfig(version="", task=spec.name, data={}, network=net.config, parameters=0, graph="float32",
                       settings=spec.settings())


def assert_same_states(net: Network, arrays: dict[str, NDArray[Any]], tmp_path: Path) -> None:
    """Check that the states of each layer are the same in the graph and in the torch network."""
    tiny.write_graph(net, tmp_path / "model.onnx")
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    with torch.no_grad():
        x = net.encoder.input(tensors)
        for i, layer in enumerate(net.encoder.layers):
            x, _ = layer(x, tensors["lengths"])
            graph, names = onnx_internals.states_graph(tmp_path, config_of(net), layer=i)
            engine = OnnxEngine(tmp_path / "model.onnx", threads=1, graph=graph)
            outputs = engine.run(arrays | engine.initial_state(len(LENGTHS)))
            parts = [outputs[name] for name in names]
            if parts[0].ndim == 4:
                parts = list(parts[0].swapaxes(0, 1))
            whole = np.concatenate(parts, axis=-1)
            for row, length in enumerate(LENGTHS):
                np.testing.assert_allclose(whole[:length, row], x[:length, row].numpy(), atol=1e-5)


@pytest.mark.parametrize("cutoffs", [(), (10, 20)])
@pytest.mark.parametrize("int8", [False, True])
def test_the_embedding_is_that_of_the_network(int8: bool, cutoffs: tuple[int, ...], tmp_path: Path) -> None:
    net = network(EncoderConfig(vocabulary=VOCABULARY, embed=8, hidden=4, cutoffs=cutoffs),
                  LMHeadConfig(outputs=VOCABULARY))
    tiny.write_graph(net, tmp_path / "model.onnx", int8=int8)
    with torch.no_grad():
        expected = net.encoder.input.embedding(torch.arange(VOCABULARY)).numpy()
    error = 0.02 * float(np.ptp(expected)) if int8 else 1e-6
    embedding = onnx_internals.embedding(tmp_path, config_of(net))
    np.testing.assert_allclose(embedding, expected, rtol=0, atol=error)


def test_a_damaged_graph_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"nothing of the kind")
    content = config_of(network(EncoderConfig(vocabulary=VOCABULARY, embed=8, hidden=4),
                                LMHeadConfig(outputs=VOCABULARY)))
    with pytest.raises(ModelError, match=r"model\.onnx: isn't a graph that rnntool wrote"):
        onnx_internals.embedding(tmp_path, content)
    with pytest.raises(ModelError, match=r"model\.onnx: isn't a graph that rnntool wrote"):
        onnx_internals.states_graph(tmp_path, content, layer=0)


def test_a_graph_of_another_model_is_an_error(tagger: Path, writer: Path, tmp_path: Path) -> None:
    content = replace(model_folder.read_config(tagger), sha256={})
    shutil.copy(writer / "model.onnx", tmp_path)
    for inspect in (onnx_internals.embedding, partial(onnx_internals.states_graph, layer=0)):
        with pytest.raises(ModelError, match=r"model\.onnx: doesn't fit config\.json"):
            inspect(tmp_path, content)


# --- Gradients ---------------------------------------------------------------------------------------------


def test_gradients_of_an_elman_network_are_products_of_its_matrices() -> None:
    """dh_t / dx_(t-k) = D_t W D_(t-1) W … D_(t-k) U with D = diag(1 - h^2) (Pascanu et al. 2013)."""
    torch.manual_seed(1)
    layer = RecurrentLayer("elman", 3, 4, bidirectional=False)
    x = torch.randn(6, 1, 3)
    u, w = (layer.forward_cell.kernel.get_parameter(f"weight_{side}_l0").detach().double().numpy()
            for side in ("ih", "hh"))
    h, slopes = np.zeros(4), []
    for row in x[:, 0].double().numpy():
        h = np.tanh(u @ row + w @ h)
        slopes.append(np.diag(1 - h**2))
    expected, product = [], np.eye(4)
    for slope in reversed(slopes):
        expected.append(np.linalg.norm(product @ slope @ u))
        product = product @ slope @ w
    norms = jacobian_norms(lambda rows: layer(rows, torch.full((rows.shape[1],), len(rows)))[0], x)
    np.testing.assert_allclose(norms, expected, rtol=1e-4)


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_agree_with_finite_differences(cell: str) -> None:
    torch.manual_seed(2)
    layer = RecurrentLayer(cell, 3, 4, bidirectional=False)

    def states(x: torch.Tensor) -> torch.Tensor:
        return layer(x, torch.full((x.shape[1],), len(x)))[0]

    x, small = torch.randn(5, 1, 3), 1e-2
    expected = np.zeros(5)
    with torch.no_grad():
        for t, i in itertools.product(range(5), range(3)):
            nudge = torch.zeros_like(x)
            nudge[t, 0, i] = small
            slope = (states(x + nudge)[-1] - states(x - nudge)[-1]) / (2 * small)
            expected[4 - t] += float(slope.square().sum())
    np.testing.assert_allclose(jacobian_norms(states, x), np.sqrt(expected), rtol=1e-2, atol=1e-3)


def test_shares_are_geometric_means_over_the_texts_that_are_long_enough() -> None:
    shares = remaining_shares([np.array([2.0, 1.0, 0.5]), np.array([1.0, 0.125])])
    assert shares == pytest.approx([1, 0.25, 0.25])
    assert remaining_shares([np.array([1.0, 0.0])]) == [1, 0]
    assert remaining_shares([]) == []


def test_an_lstm_keeps_more_of_a_gradient_than_an_elman_network() -> None:
    elman, lstm = (cell_gradients(cell, size=20, steps=20, texts=3, seed=1) for cell in ("elman", "lstm"))
    assert elman[0] == lstm[0] == 1.0
    assert len(elman) == 21
    assert lstm[20] > 10 * elman[20]
    assert cell_gradients("lstm", size=20, steps=20, texts=3, seed=1) == lstm, "the seed decides"


def test_a_window_ends_a_gradient() -> None:
    net = network(EncoderConfig(vocabulary=VOCABULARY, embed=6, hidden=4, kind="window", window=2),
                  LMHeadConfig(outputs=VOCABULARY))
    arrays = tiny.network_arrays(np.random.default_rng(1), (5,))
    left = network_gradients(net, [arrays], steps=9)
    assert all(share > 1e-3 for share in left[:3])
    assert left[3:] == [0, 0]
    assert len(network_gradients(net, [arrays], steps=3)) == 4


@pytest.mark.parametrize(("context", "lengths"), [("line", [6, 4]), ("stream", [6, 6, 6, 3])])
def test_texts_for_gradients(context: str, lengths: list[int], writer: Path) -> None:
    """Lines are read up to the limit and skipped if they are too short; a stream is cut into pieces."""
    task = rnntool.load(writer, threads=1).task
    task.settings = replace(task.settings, context=context)
    texts = [Text("the baker sings"), Text(""), Text("the")]  # 16, 1 and 4 steps, BOS included
    batches = list(text_batches(task, texts, steps=5, count=9))
    assert [min(6, int(batch["lengths"][0])) for batch in batches] == lengths
    assert len(list(text_batches(task, texts, steps=5, count=1))) == 1


def test_the_vanishing_step() -> None:
    assert vanishing_step([1.0, 0.5, 0.009, 0.5]) == 2
    assert vanishing_step([1.0, 0.5]) is None


def test_the_states_of_a_graph_in_8_bits_leave_out_the_extra_units() -> None:
    model = rnntool.load("shakespeare")
    (read,) = states.StateReader(model, threads=1).read([Text("To be")])
    assert read.states.shape == (5, model.config.network.encoder.hidden)
