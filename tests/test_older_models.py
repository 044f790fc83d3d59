"""Models of earlier versions give the same results; see tests/fixtures/README.md."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from conftest import Run, ok

import rnntool
from rnntool.data.records import Sentence
from rnntool.inference.torch_engine import TorchEngine
from rnntool.model_folder import CONFIG, read_config

MODELS = Path(__file__).parent / "fixtures" / "models_0_1_0"
NAMES = ("writer", "classifier", "tagger", "window")
TEXTS = ["Anna Berg met Bob in New York .", "Dora met Emil Frey in Oslo ."]


def test_a_tagger_gives_the_same_results() -> None:
    first, second = rnntool.load(MODELS / "tagger").tag([text.split() for text in TEXTS], probs=True)
    assert first.tags == ["B-PER", "I-PER", "O", "B-PER", "O", "O", "B-LOC", "O"]
    assert second.tags == ["B-PER", "O", "B-PER", "I-PER", "O", "B-LOC", "O"]
    assert first.probs == pytest.approx(
        [0.983957, 0.955348, 0.875778, 0.729341, 0.924867, 0.571626, 0.240261, 0.91972], abs=1e-6)


def test_a_classifier_gives_the_same_results() -> None:
    first, second = rnntool.load(MODELS / "classifier").classify(TEXTS)
    assert [name for name, _ in first.ranked] == ["time", "place", "person"]
    assert [p for _, p in first.ranked] == pytest.approx([0.333741, 0.333433, 0.332826], abs=1e-6)
    assert [p for _, p in second.ranked] == pytest.approx([0.333616, 0.333578, 0.332806], abs=1e-6)


@pytest.mark.parametrize(("name", "nats"), [
    ("writer", [-100.310786, -91.330844]), ("window", [-38.416273, -34.083394]),
])
def test_language_models_give_the_same_results(name: str, nats: list[float]) -> None:
    scored = rnntool.load(MODELS / name).score(TEXTS)
    assert [result.total_nats for result in scored] == pytest.approx(nats, abs=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_weights_give_the_results_of_the_graph(name: str) -> None:
    loaded = rnntool.load(MODELS / name)
    records: list[Any] = [Sentence(text.split()) for text in TEXTS]
    if loaded.task.spec.reads == "texts":
        records = [rnntool.data.records.Text(text) for text in TEXTS]
    arrays = loaded.task.encode(records)
    torch_engine = TorchEngine(tiny.network_of(MODELS / name), torch.device("cpu"))
    outputs = [loaded.task.run(engine, arrays) for engine in (loaded.engine, torch_engine)]
    for key in outputs[0]:
        graph, torchs = (np.moveaxis(side[key], 1, 0) if side[key].ndim > 2 else side[key]
                         for side in outputs)
        if key == "emissions":  # values at padding are arbitrary
            graph, torchs = (side[:, : min(map(int, arrays["lengths"]))] for side in (graph, torchs))
        np.testing.assert_allclose(graph, torchs, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("name", NAMES)
def test_commands_accept_older_models(name: str, run: Run, tmp_path: Path) -> None:
    for command in (["info", MODELS / name], ["report", MODELS / name],
                    ["export", MODELS / name, "-o", tmp_path / "graph.onnx", "--int8"]):
        assert ok(run(*command)) or command[0] == "export"


@pytest.mark.parametrize("name", NAMES)
def test_unknown_settings_are_ignored_and_missing_ones_have_their_defaults(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(MODELS / name, folder)
    content = json.loads((folder / CONFIG).read_text("utf-8"))
    content["settings"]["a_setting_that_was_removed"] = 3
    del content["settings"]["ema"], content["network"]["encoder"]["weight_dropout"]
    (folder / CONFIG).write_text(json.dumps(content), "utf-8")
    assert read_config(folder).settings == read_config(MODELS / name).settings.replace(
        ema=type(read_config(folder).settings).ema)
    assert rnntool.load(folder).task.config() == content["data"]


def test_a_config_survives_writing_and_reading() -> None:
    for name in NAMES:
        config = read_config(MODELS / name)
        content = json.loads(json.dumps(config.to_json()))
        assert type(config).from_json(content, MODELS / name / CONFIG) == config
