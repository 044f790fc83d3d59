"""Graphs in 8 bits: an answer never depends on the rest of the batch, not even in its rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from numpy.typing import NDArray
from onnx import TensorProto, load_from_string

from rnntool.inference import signed_weights
from rnntool.inference.onnx_engine import OnnxEngine
from rnntool.inference.signed_weights import with_signed_weights
from rnntool.models.config import (
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
ENCODERS = {
    "lstm": EncoderConfig(vocabulary=VOCABULARY, embed=12, hidden=20, layers=3),
    "adaptive": EncoderConfig(vocabulary=VOCABULARY, embed=12, hidden=20, layers=2, cutoffs=(8, 20)),
    "mogrifier": EncoderConfig(vocabulary=VOCABULARY, embed=12, hidden=20, layers=2, cell="mogrifier"),
    "mingru": EncoderConfig(vocabulary=VOCABULARY, embed=12, hidden=20, layers=2, cell="mingru"),
    "window": EncoderConfig(vocabulary=VOCABULARY, embed=12, hidden=20, kind="window", window=2),
}


def engines(encoder: EncoderConfig, folder: Path, *, tied: bool) -> tuple[OnnxEngine, OnnxEngine]:
    """Return engines of a network in float32 and in 8 bits, with weights far from their initial values."""
    return both(encoder, LMHeadConfig(outputs=VOCABULARY, tied=tied), folder)


def both(encoder: EncoderConfig, head: HeadConfig, folder: Path) -> tuple[OnnxEngine, OnnxEngine]:
    torch.manual_seed(3)
    network = Network(NetworkConfig(encoder=encoder, head=head)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    paths = folder / "float32.onnx", folder / "int8.onnx"
    for path in paths:
        tiny.write_graph(network, path, int8=path.stem == "int8")
    return OnnxEngine(paths[0], threads=1), OnnxEngine(paths[1], threads=1)


def step(engine: OnnxEngine, tokens: list[int], state: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Read one token per row (B,); return `logits` (B, V) and the new states `state.*`."""
    rows = len(tokens)
    arrays = {"tokens": np.array([tokens]), "lengths": np.ones(rows, np.int32),
              "targets": np.zeros((1, rows), np.int64)}
    outputs = engine.run(arrays | state)
    return {"logits": outputs["logits"][0]} | {
        name.replace("next", "state"): value for name, value in outputs.items() if name.startswith("next")}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_row_does_not_depend_on_its_batch(encoder: str, tied: bool, tmp_path: Path) -> None:
    _, engine = engines(ENCODERS[encoder], tmp_path, tied=tied)
    rng = np.random.default_rng(0)
    tokens = rng.integers(4, VOCABULARY, (9, 6))
    lengths = np.array([9, 2, 7, 1, 4, 9], np.int32)
    arrays = {"tokens": tokens, "lengths": lengths, "targets": tokens}
    logits = engine.run(arrays | engine.initial_state(6))["logits"]
    for row, length in enumerate(lengths):
        own = tokens[:length, [row]]
        alone = {"tokens": own, "lengths": lengths[[row]], "targets": own}
        expected = engine.run(alone | engine.initial_state(1))["logits"][:, 0]
        np.testing.assert_array_equal(logits[:length, row], expected)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_rows_of_any_age_share_a_batch(encoder: str, tmp_path: Path) -> None:
    _, engine = engines(ENCODERS[encoder], tmp_path, tied=True)
    old = engine.initial_state(1)
    for token in (5, 9, 7):
        old = {k: v for k, v in step(engine, [token], old).items() if k != "logits"}
    new = engine.initial_state(1)
    both = {name: np.concatenate([old[name], new[name]], axis=1) for name in new}
    for token in (11, 12, 13):
        alone = step(engine, [token], old), step(engine, [token], new)
        together = step(engine, [token, token], both)
        for row, expected in enumerate(alone):
            np.testing.assert_array_equal(together["logits"][row], expected["logits"][0])
        old, new, both = ({k: v for k, v in s.items() if k != "logits"} for s in (*alone, together))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_results_stay_near(encoder: str, tied: bool, tmp_path: Path) -> None:
    exact, rounded = engines(ENCODERS[encoder], tmp_path, tied=tied)
    tokens = np.random.default_rng(1).integers(4, VOCABULARY, (9, 6))
    arrays = {"tokens": tokens, "lengths": np.full(6, 9, np.int32), "targets": tokens}
    expected, actual = (engine.run(arrays | engine.initial_state(6))["logits"] for engine in (exact, rounded))
    assert abs(actual - expected).max() < 0.05 * np.ptp(expected)


# --- Taggers and classifiers -------------------------------------------------------------------------------

SIZES: dict[str, Any] = {"vocabulary": VOCABULARY, "embed": 12, "hidden": 10}
WORD = WordConfig(chars="cnn", char_vocabulary=20, char_embed=5, char_hidden=8, affix_buckets=32,
                     affix_embed=6, vector_rows=7, vector_size=3)
CHARACTERS = WordConfig(chars="lstm", char_vocabulary=20, char_embed=5, char_hidden=8)
CONTEXT = EncoderConfig(vocabulary=VOCABULARY, embed=7, hidden=11, layers=2)
TAG = TaggerHeadConfig(outputs=6, crf=True)
CLASSIFY = ClassifierHeadConfig(outputs=6, pooling="last+mean+max+attention")
NETWORKS = {
    "tagger": (TAG, EncoderConfig(**SIZES, word=WORD, bidirectional=True, layers=3)),
    "one-direction": (TAG, EncoderConfig(**SIZES, word=WORD, layers=2)),
    "characters": (TAG, EncoderConfig(**SIZES, word=CHARACTERS, bidirectional=True)),
    "context": (TAG, EncoderConfig(**SIZES, word=WORD, bidirectional=True, layers=2, context=CONTEXT,
                                   context_both=True)),
    "gru": (TAG, EncoderConfig(**SIZES, word=WORD, bidirectional=True, cell="gru")),
    "elman-relu": (TAG, EncoderConfig(**SIZES, word=WORD, bidirectional=True, cell="elman-relu")),
    "mogrifier": (TAG, EncoderConfig(**SIZES, word=WordConfig(), bidirectional=True, cell="mogrifier")),
    "mingru": (TAG, EncoderConfig(**SIZES, word=WORD, bidirectional=True, cell="mingru", layers=2)),
    "classifier": (CLASSIFY, EncoderConfig(**SIZES, bidirectional=True, layers=2)),
    "classifier-of-words": (CLASSIFY, EncoderConfig(**SIZES, word=WORD, bidirectional=True)),
    "bag": (CLASSIFY, EncoderConfig(**SIZES, word=WORD, kind="bag")),
}


def ragged(lengths: list[int]) -> dict[str, NDArray[Any]]:
    """Make the arrays of a batch, with one character per word and one between words."""
    rng = np.random.default_rng(0)
    arrays = tiny.network_arrays(rng, lengths)
    ends = np.minimum(2 * np.arange(max(lengths))[:, None] + 1, 2 * np.array(lengths))  # (T, B)
    return arrays | {
        "chars": rng.integers(0, VOCABULARY, (2 * max(lengths) + 1, len(lengths))),
        "char_lengths": 2 * np.array(lengths, np.int32) + 1, "word_ends": ends, "word_starts": ends - 1,
    }


def row(arrays: dict[str, NDArray[Any]], which: int) -> dict[str, NDArray[Any]]:
    """Return the arrays of one row, with only its own word types and no padding."""
    length = arrays["lengths"][which]
    own = {name: arrays[name][:length, [which]] for name in ("tokens", "words", "word_ends", "word_starts")}
    own |= {name: arrays[name][[which]] for name in ("lengths", "char_lengths")}
    own["chars"] = arrays["chars"][: 2 * length + 1, [which]]
    types, words = np.unique(own["words"], return_inverse=True)
    own["words"] = words.reshape(length, 1)
    own |= {name: value[types] for name, value in arrays.items() if name.startswith("type_")}
    own["type_chars"] = own["type_chars"][:, : own["type_char_lengths"].max()]
    return own


@pytest.mark.parametrize("name", NETWORKS)
def test_answers_of_taggers_and_classifiers_do_not_depend_on_the_batch(name: str, tmp_path: Path) -> None:
    head, encoder = NETWORKS[name]
    exact, engine = both(encoder, head, tmp_path)
    lengths = [9, 2, 7, 1, 4, 9, 12]
    arrays = ragged(lengths)
    together, expected = engine.run(arrays), exact.run(arrays)
    for which, length in enumerate(lengths):
        alone = engine.run(row(arrays, which))
        if head.kind == "tag":
            np.testing.assert_array_equal(together["emissions"][:length, which], alone["emissions"][:, 0])
        else:
            np.testing.assert_array_equal(together["logits"][which], alone["logits"][0])
    for answer in {"emissions", "logits"} & expected.keys():
        assert abs(together[answer] - expected[answer]).max() < 0.05 * np.ptp(expected[answer])


def weight_types(graph: bytes) -> dict[str, int]:
    """Return the type of each 8-bit weight of a graph, by name."""
    return {weight.name: weight.data_type for weight in load_from_string(graph).graph.initializer
            if weight.name.endswith("_quantized")}


@pytest.mark.parametrize("encoder", ENCODERS)
def test_signed_weights_change_no_bit_of_the_answers(
    encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not signed_weights.exact():
        pytest.skip("the processor is faster with unsigned weights")
    _, signed = engines(ENCODERS[encoder], tmp_path, tied=False)
    monkeypatch.setattr(signed_weights, "exact", lambda: False)
    unsigned = OnnxEngine(tmp_path / "int8.onnx", threads=1)
    rng = np.random.default_rng(0)
    tokens, lengths = rng.integers(4, VOCABULARY, (9, 6)), np.array([9, 2, 7, 1, 4, 9], np.int32)
    arrays = {"tokens": tokens, "targets": tokens, "lengths": lengths, **signed.initial_state(6)}
    expected = unsigned.run(arrays)
    for name, value in signed.run(arrays).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_weights_become_signed_but_tables_do_not(encoder: str, tmp_path: Path) -> None:
    engines(ENCODERS[encoder], tmp_path, tied=False)
    graph = (tmp_path / "int8.onnx").read_bytes()
    assert set(weight_types(graph).values()) == {TensorProto.UINT8}
    types = weight_types(with_signed_weights(graph))
    tables = {name for name in types if name.startswith("embedding") and "projection" not in name}
    products = {kind for name, kind in types.items() if name not in tables}
    assert {types[name] for name in tables} == {TensorProto.UINT8} and products == {TensorProto.INT8}
    other = load_from_string(graph)
    for weight in other.graph.initializer:
        if weight.name.endswith("_zero_point"):
            weight.raw_data = b"\x81" * len(weight.raw_data)  # the weights less that aren't signed bytes
    assert set(weight_types(with_signed_weights(other.SerializeToString())).values()) == {TensorProto.UINT8}
    plain = (tmp_path / "float32.onnx").read_bytes()
    assert with_signed_weights(plain) is plain


@pytest.mark.parametrize(("flags", "expected"), [
    ("fpu avx2 avx512bw avx512dq avx512vl avx512_vnni", True),
    ("fpu avx2 avx_vnni", True),
    ("fpu avx2 avx512bw avx512dq avx512vl", False),
    (None, False),
])
def test_weights_are_signed_where_products_are_exact(
    flags: str | None, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cpuinfo"
    if flags is not None:
        path.write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t:\n", "utf-8")
    monkeypatch.setattr(signed_weights, "CPU_INFO", path)
    assert signed_weights.exact.__wrapped__() is expected
