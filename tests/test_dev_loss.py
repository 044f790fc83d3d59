"""The training loss on development data: a mean over targets, whatever the batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file

from rnntool import model_folder
from rnntool.data.records import Sentence, Text
from rnntool.inference.model import read
from rnntool.inference.torch_engine import to_tensors
from rnntool.models.config import ObjectiveConfig
from rnntool.tasks.base import AnyTask
from rnntool.training.dev_loss import mean_loss

CPU = torch.device("cpu")


def records_of(name: str) -> list[Sentence] | list[Text]:
    if name == "classifier":
        texts = [*tiny.questions(20, seed=3), ("what is new ?", "a label that is not in the training data")]
        return [Text(text, labels=(label,)) for text, label in texts]
    rows = [*tiny.pos_sentences(20, seed=3), []]
    return [Sentence([word for word, _ in row], [tag for _, tag in row]) for row in rows]


@pytest.mark.parametrize("name", ["tagger", "classifier"])
def test_the_loss_is_the_mean_over_targets_without_dropout(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = request.getfixturevalue(name)
    task: AnyTask = read(folder).task
    network = tiny.network_of(folder)
    extra = {"consistency": 1.0} if name == "classifier" else {}
    network.set_objective(ObjectiveConfig(label_smoothing=0.1, **extra))
    network.train()
    records = records_of(name)
    loss = mean_loss(network, task, records, CPU)
    assert network.training and network.head.objective.consistency == extra.get("consistency", 0.0)
    monkeypatch.setattr(task, "budget", 7)
    assert mean_loss(network, task, records, CPU) == pytest.approx(loss, rel=1e-5), "in other batches"

    network.eval()
    network.set_objective(ObjectiveConfig(label_smoothing=0.1))
    alone, counts = [], []
    for record in records:
        arrays = task.encode([record], targets=True)
        alone.append(network.loss(to_tensors(arrays, CPU))[0].item())
        counts.append(np.count_nonzero(arrays["targets"] != -1))
    assert counts[-1] == 0
    assert loss == pytest.approx(np.average(alone, weights=counts), rel=1e-5)
    assert mean_loss(network, task, records[-1:], CPU) == 0.0


def test_it_does_not_change_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "train.conll"
    file.write_text(tiny.conll(tiny.ner_sentences(40)), "utf-8")
    for out in ("with", "without"):
        if out == "without":
            monkeypatch.setattr("rnntool.training.loop.mean_loss", lambda *arguments: 1.0)
        tiny.train("tag", tmp_path / out, [file], epochs=2, neighbours=0.2, ema=0.9, dropout=0.4)
    weights = [load_file(tmp_path / out / model_folder.WEIGHTS) for out in ("with", "without")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
