"""Graphs in 8 bits: in language models what stands elsewhere in a batch changes nothing by its rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rnntool.engines.onnx import OnnxEngine
from rnntool.models import export
from rnntool.models.encoder import EncoderConfig
from rnntool.models.heads import HeadConfig
from rnntool.models.network import Network, NetworkConfig

VOCABULARY = 30
ENCODERS = {
    "lstm": EncoderConfig(vocabulary=VOCABULARY, embed=12, hidden=20, layers=3),
    "window": EncoderConfig(vocabulary=VOCABULARY, embed=12, hidden=20, kind="window", window=2),
}


def engines(encoder: EncoderConfig, folder: Path, *, tied: bool) -> tuple[OnnxEngine, OnnxEngine]:
    """The graph in float32 and in 8 bits of a network with weights far from their starting values."""
    torch.manual_seed(3)
    head = HeadConfig(kind="lm", outputs=VOCABULARY, tied=tied)
    network = Network(NetworkConfig(encoder=encoder, head=head)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    paths = folder / "float32.onnx", folder / "int8.onnx"
    for path in paths:
        export.write(network, path, int8=path.stem == "int8")
    return OnnxEngine(paths[0], threads=1), OnnxEngine(paths[1], threads=1)


def step(engine: OnnxEngine, tokens: list[int], state: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """One token (B,) a row, and the states `state.*` behind it beside the logits (B, V)."""
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
        want = engine.run(alone | engine.initial_state(1))["logits"][:, 0]
        np.testing.assert_array_equal(logits[:length, row], want)


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
        for row, want in enumerate(alone):
            np.testing.assert_array_equal(together["logits"][row], want["logits"][0])
        old, new, both = ({k: v for k, v in s.items() if k != "logits"} for s in (*alone, together))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_results_stay_near(encoder: str, tied: bool, tmp_path: Path) -> None:
    exact, rounded = engines(ENCODERS[encoder], tmp_path, tied=tied)
    tokens = np.random.default_rng(1).integers(4, VOCABULARY, (9, 6))
    arrays = {"tokens": tokens, "lengths": np.full(6, 9, np.int32), "targets": tokens}
    want, have = (engine.run(arrays | engine.initial_state(6))["logits"] for engine in (exact, rounded))
    assert abs(have - want).max() < 0.05 * np.ptp(want)
