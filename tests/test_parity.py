"""The ONNX graph computes the same as the torch network, for every architecture, on ragged batches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from rnntool.data.arrays import Arrays
from rnntool.inference.onnx_engine import OnnxEngine
from rnntool.inference.torch_engine import TorchEngine
from rnntool.models.cells import CELLS
from rnntool.models.config import (
    POOLINGS,
    ClassifierHeadConfig,
    EncoderConfig,
    HeadConfig,
    LMHeadConfig,
    NetworkConfig,
    TaggerHeadConfig,
    WordConfig,
)
from rnntool.models.network import Network

VOCABULARY = 30


def words(**parts: Any) -> WordConfig:
    sizes: dict[str, Any] = {"char_vocabulary": 20, "char_embed": 5, "char_hidden": 8}
    return WordConfig(**(sizes if "chars" in parts else {}), **parts)


AFFIXES = {"affix_buckets": 32, "affix_embed": 6}
VECTORS = {"vector_rows": 7, "vector_size": 3}

LM_HEADS = {
    "tied": (LMHeadConfig(outputs=VOCABULARY, tied=True), 12),
    "projected": (LMHeadConfig(outputs=VOCABULARY, tied=True), 10),
    "untied": (LMHeadConfig(outputs=VOCABULARY), 10),
}
OTHER_HEADS = {
    **{pooling: (ClassifierHeadConfig(outputs=6, pooling=pooling), None) for pooling in POOLINGS},
    "all-poolings": (ClassifierHeadConfig(outputs=6, pooling="+".join(POOLINGS)), None),
    "classify-words": (ClassifierHeadConfig(outputs=6, pooling="max"), words(chars="cnn", **AFFIXES)),
    "tag-embedding": (TaggerHeadConfig(outputs=6), words()),
    "tag-vectors": (TaggerHeadConfig(outputs=6), words(**VECTORS)),
    "tag-cnn": (TaggerHeadConfig(outputs=6), words(chars="cnn", **AFFIXES, **VECTORS)),
    "crf-lstm": (TaggerHeadConfig(outputs=6, crf=True), words(chars="lstm", **AFFIXES)),
    "crf-affixes": (TaggerHeadConfig(outputs=6, crf=True), words(**AFFIXES)),
}


def network(encoder: EncoderConfig, head: HeadConfig) -> Network:
    """Make a network whose weights, biases included, are far from their initial values."""
    torch.manual_seed(1)
    made = Network(NetworkConfig(encoder=encoder, head=head)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def assert_equal(net: Network, arrays: Arrays, path: Path) -> None:
    """Check that both engines return the same names and, at real positions, the same numbers."""
    tiny.write_graph(net, path)
    onnx, torch_engine = OnnxEngine(path, threads=1), TorchEngine(net, torch.device("cpu"))
    zeros = onnx.initial_state(len(arrays["lengths"]))
    assert zeros.keys() == torch_engine.initial_state(len(arrays["lengths"])).keys()
    rng = np.random.default_rng(2)
    states = {name: rng.normal(size=value.shape).astype(np.float32) for name, value in zeros.items()}
    actual, expected = onnx.run(arrays | states), torch_engine.run(arrays | states)
    assert actual.keys() == expected.keys()
    shape = arrays["tokens"].shape
    real = np.arange(shape[0])[:, None] < arrays["lengths"]
    for name in expected:
        a, b = actual[name], expected[name]
        if a.shape[:2] == shape:
            a, b = a[real], b[real]
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("head", LM_HEADS)
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_language_models(cell: str, layers: int, head: str, tmp_path: Path) -> None:
    config, hidden = LM_HEADS[head]
    encoder = EncoderConfig(vocabulary=VOCABULARY, embed=12, cell=cell, layers=layers, hidden=hidden)
    arrays = tiny.network_arrays(np.random.default_rng(0), [7, 1, 3, 2, 5])  # no row is empty: there is BOS
    assert_equal(network(encoder, config), arrays, tmp_path / "m.onnx")


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("head", LM_HEADS)
def test_language_models_that_read_more_than_they_predict(head: str, int8: bool, tmp_path: Path) -> None:
    config, hidden = LM_HEADS[head]
    fewer = replace(config, outputs=VOCABULARY - 4)
    net = network(EncoderConfig(vocabulary=VOCABULARY, embed=12, hidden=hidden), fewer)
    arrays = tiny.network_arrays(np.random.default_rng(0), [7, 1, 3, 2, 5], targets=fewer.outputs)
    arrays["tokens"][0] = VOCABULARY - 1
    assert_equal(net, arrays, tmp_path / "m.onnx")
    tiny.write_graph(net, tmp_path / "m.onnx", int8=int8)
    engine = OnnxEngine(tmp_path / "m.onnx", threads=1)
    outputs = engine.run(arrays | engine.initial_state(5))
    assert outputs["logits"].shape == (7, 5, fewer.outputs)


@pytest.mark.parametrize("head", OTHER_HEADS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_classifiers_and_taggers(
    cell: str, layers: int, bidirectional: bool, head: str, tmp_path: Path
) -> None:
    config, word = OTHER_HEADS[head]
    encoder = EncoderConfig(vocabulary=VOCABULARY, embed=12, cell=cell, layers=layers, hidden=10,
                            bidirectional=bidirectional, word=word)
    arrays = tiny.network_arrays(np.random.default_rng(0), [7, 1, 3, 0, 5])
    assert_equal(network(encoder, config), arrays, tmp_path / "m.onnx")


@pytest.mark.parametrize("head", LM_HEADS)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("window", [0, 1, 9])
def test_language_models_of_a_window(window: int, layers: int, head: str, tmp_path: Path) -> None:
    config, hidden = LM_HEADS[head]
    encoder = EncoderConfig(vocabulary=VOCABULARY, embed=12, kind="window", window=window, layers=layers,
                            hidden=hidden)
    arrays = tiny.network_arrays(np.random.default_rng(0), [7, 1, 3, 2, 5])
    assert_equal(network(encoder, config), arrays, tmp_path / "m.onnx")


@pytest.mark.parametrize("head", OTHER_HEADS)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize(("kind", "window", "bidirectional"), [
    ("bag", 0, False), ("window", 0, False), ("window", 1, False), ("window", 2, True), ("window", 9, True)])
def test_classifiers_and_taggers_without_recurrence(
    kind: str, window: int, bidirectional: bool, layers: int, head: str, tmp_path: Path
) -> None:
    config, word = OTHER_HEADS[head]
    encoder = EncoderConfig(vocabulary=VOCABULARY, embed=12, kind=kind, window=window, layers=layers,
                            hidden=10, bidirectional=bidirectional, word=word)
    arrays = tiny.network_arrays(np.random.default_rng(0), [7, 1, 3, 0, 5])
    assert_equal(network(encoder, config), arrays, tmp_path / "m.onnx")


@pytest.mark.parametrize("lengths", [[0], [1], [0, 0], [2000]])
def test_batches_of_unusual_shape(lengths: list[int], tmp_path: Path) -> None:
    config, word = OTHER_HEADS["tag-cnn"]
    encoder = EncoderConfig(vocabulary=VOCABULARY, embed=12, hidden=10, bidirectional=True, word=word)
    arrays = tiny.network_arrays(np.random.default_rng(0), lengths)
    assert_equal(network(encoder, config), arrays, tmp_path / "m.onnx")


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("head", [name for name, (_, word) in OTHER_HEADS.items() if word])
def test_vectors_of_words_can_be_kept_and_passed_in(head: str, int8: bool, tmp_path: Path) -> None:
    config, word = OTHER_HEADS[head]
    encoder = EncoderConfig(vocabulary=VOCABULARY, embed=12, hidden=10, bidirectional=True, word=word)
    net = network(encoder, config)
    tiny.write_graph(net, tmp_path / "m.onnx", int8=int8)
    engine = OnnxEngine(tmp_path / "m.onnx", threads=1)
    arrays = tiny.network_arrays(np.random.default_rng(0), [7, 1, 3, 0, 5])
    vectors = engine.run(arrays, ["word_vectors"])["word_vectors"]
    assert vectors.shape == (len(arrays["type_tokens"]), engine.word_vectors)
    one_type = {name: array[:1] for name, array in arrays.items() if name.startswith("type_")}
    reversed_table = {"words": len(vectors) - 1 - arrays["words"], "known_vectors": vectors[::-1].copy()}
    kept = engine.run(arrays | one_type | reversed_table)
    for name, expected in engine.run(arrays).items():
        np.testing.assert_array_equal(kept[name], expected, err_msg=name)


@pytest.mark.parametrize("cell", ["lstm", "gru", "mogrifier", "mingru"])
def test_eight_bits_stay_near(cell: str, tmp_path: Path) -> None:
    config, word = OTHER_HEADS["crf-lstm"]
    encoder = EncoderConfig(
        vocabulary=VOCABULARY, embed=64, cell=cell, hidden=64, bidirectional=True, word=word)
    net = network(encoder, config)
    arrays = tiny.network_arrays(np.random.default_rng(0), [7, 1, 3, 0, 5])
    tiny.write_graph(net, tmp_path / "float32.onnx")
    tiny.write_graph(net, tmp_path / "int8.onnx", int8=True)
    sizes = [(tmp_path / f"{name}.onnx").stat().st_size for name in ("int8", "float32")]
    assert sizes[0] < (1.0 if cell == "gru" else 0.5) * sizes[1]  # ONNX Runtime has no GRU in 8 bits
    near, expected = (
        OnnxEngine(tmp_path / f"{name}.onnx", threads=1).run(arrays) for name in ("int8", "float32"))
    real = np.arange(7)[:, None] < arrays["lengths"]
    spread = np.ptp(expected["emissions"][real])
    assert abs(near["emissions"] - expected["emissions"])[real].max() < 0.05 * spread
    np.testing.assert_array_equal(near["transitions"], expected["transitions"])
