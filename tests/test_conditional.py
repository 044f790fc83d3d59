"""Language models that are conditioned on a label: training, generation, scoring, and wrong input."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from conftest import failed, invoke

from rnntool.data.progress import silent
from rnntool.data.records import Pair, Text
from rnntool.errors import DataError, ModelError, UsageError
from rnntool.inference import model
from rnntool.inference.model import Model
from rnntool.inference.torch_engine import TorchEngine
from rnntool.inference.weights import load_network
from rnntool.tasks import TASKS
from rnntool.tasks.lm import LMTask
from rnntool.tasks.specs.resolve import resolve
from rnntool.tokenize import BOS, EOS
from rnntool.training.job import Job
from rnntool.training.training_data import TrainingData

TEXTS = [Text(text, (label,)) for text, label in tiny.labeled_texts(30, seed=9)]
OTHER = {"food": "sky", "sky": "food"}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training data: labeled texts, sorted by label."""
    path = tmp_path_factory.mktemp("labeled") / "train.tsv"
    path.write_text(tiny.tsv(sorted(tiny.labeled_texts(120), key=lambda row: row[1])), "utf-8")
    return path


@pytest.fixture(scope="module")
def dev(table: Path) -> Path:
    path = table.with_name("dev.tsv")
    path.write_text(tiny.tsv((record.text, record.labels[0]) for record in TEXTS), "utf-8")
    return path


@pytest.fixture(scope="module")
def cook(table: Path, dev: Path) -> Path:
    """A word language model with tied embeddings that is conditioned on the label."""
    out = table.with_name("tiny-cook")
    tiny.train("lm", out, [table], dev=[dev], label_column="label", tokenizer="word", epochs=25)
    return out


# --- Generation and scoring --------------------------------------------------------------------------------


@pytest.fixture(params=["onnx", "torch"])
def loaded(request: pytest.FixtureRequest, cook: Path) -> Model:
    """The model with either engine."""
    onnx_model = model.load(cook, threads=1)
    if request.param == "torch":
        engine = TorchEngine(load_network(cook, onnx_model.config), torch.device("cpu"))
        return Model(cook, onnx_model.config, onnx_model.task, engine)
    return onnx_model


@pytest.mark.parametrize("label", tiny.WORDS_OF)
def test_generated_text_has_the_words_of_the_label(label: str, loaded: Model) -> None:
    texts = [sample.text for sample in loaded.generate(label=label, n=200, seed=1, max_tokens=60)]
    words = set(tiny.WORDS_OF[label])
    assert sum(bool(text) and set(text.split()) <= words for text in texts) >= 190
    (best,) = loaded.generate(label=label, beam=4, min_tokens=3)
    assert set(best.text.split()) <= words


def test_the_engines_agree(cook: Path) -> None:
    onnx = model.load(cook, threads=1)
    task = onnx.require(LMTask)
    torch_engine = TorchEngine(load_network(cook, onnx.config), torch.device("cpu"))
    arrays = task.encode(TEXTS) | onnx.engine.initial_state(len(TEXTS))
    outputs = [engine.run(arrays)["log_probs"] for engine in (onnx.engine, torch_engine)]
    np.testing.assert_allclose(*outputs, rtol=0, atol=1e-5)


def test_a_text_is_more_probable_given_its_own_label(loaded: Model) -> None:
    def perplexity(texts: list[Text]) -> float:
        scores = [p for scored in loaded.score(texts) for p in scored.log_probs]
        return math.exp(-np.mean(scores))

    right = perplexity(TEXTS)
    assert perplexity([Text(t.text, (OTHER[t.labels[0]],)) for t in TEXTS]) > 10 * right
    assert loaded.config.report["perplexity"] == pytest.approx(right, rel=1e-3)
    assert right < 5
    named = [scored.total_nats for scored in loaded.score([TEXTS[0].text], label=TEXTS[0].labels[0])]
    assert named == pytest.approx([scored.total_nats for scored in loaded.score(TEXTS[:1])])
    ((_, good, bad),) = loaded.compare([Pair("bread soup rice", "rain wind sun")], label="food")
    assert good.total_nats > bad.total_nats


def test_labels_are_inputs_but_never_predicted(loaded: Model) -> None:
    task = loaded.require(LMTask)
    arrays = task.encode(TEXTS[:3])
    assert arrays["tokens"][0].tolist() == [task.first_token(text.labels[0]) for text in TEXTS[:3]]
    assert arrays["tokens"][0].min() >= task.tokenizer.size
    assert arrays["targets"].max() < task.tokenizer.size
    outputs = loaded.engine.run(arrays | loaded.engine.initial_state(3))
    assert outputs["logits"].shape[-1] == task.tokenizer.size == task.sizes()["outputs"]
    assert task.sizes()["vocabulary"] == task.tokenizer.size + 2


def test_a_model_without_labels_starts_with_bos(writer: Path) -> None:
    task = model.load(writer, threads=1).require(LMTask)
    assert task.first_token(None) == BOS
    assert task.encode([Text("", ("x",))])["tokens"].tolist() == [[BOS]]
    assert task.encode([Text("", ("x",))])["targets"].tolist() == [[EOS]]


@pytest.mark.parametrize(("label_column", "labels"), [("label", {"food", "sky"}), (None, {"sky"})])
def test_labeled_records_are_held_out_at_random(
    label_column: str | None, labels: set[str], table: Path
) -> None:
    settings = resolve(TASKS["lm"], {"label_column": label_column})
    job = Job(task="lm", train=[str(table)], dev=[], settings=settings)
    sources = TrainingData.read(job.located(), log=silent, warn=silent, watch=lambda stage: None)
    records, held = sources.train, sources.dev
    assert (len(records), len(held)) == (108, 12)
    assert {label for record in held for label in record.labels} == labels


def test_a_text_with_a_unique_label_is_not_held_out(tmp_path: Path) -> None:
    rows = [(f"text {i}", "ab"[i % 2]) for i in range(60)] + [(f"rare {i}", f"rare{i}") for i in range(40)]
    (tmp_path / "in.tsv").write_text(tiny.tsv(rows), "utf-8")
    settings = resolve(TASKS["lm"], {"label_column": "label"})
    job = Job(task="lm", train=[str(tmp_path / "in.tsv")], dev=[], settings=settings)
    sources = TrainingData.read(job.located(), log=silent, warn=silent, watch=lambda stage: None)
    assert {label for record in sources.dev for label in record.labels} == {"a", "b"}
    assert len(sources.train) + len(sources.dev) == 100


# --- Commands ----------------------------------------------------------------------------------------------


def test_train_generate_score_evaluate_info(
    table: Path, dev: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = invoke("train", "lm", table, "-o", "m", "--label-column", "3", "--tokenizer", "word",
                  "--hidden", 16, "--embed", 16, "--layers", 1, "--epochs", 25, "--lr", 0.03,
                  "--dropout", 0.1, "--ema", 0, "--batch-size", 10)
    assert done.code == 0, done.err
    assert "try: rnntool generate -m m --label " in done.err
    assert sorted((tmp_path / "m" / "labels.txt").read_text().split()) == ["food", "sky"]
    assert "rnntool score -m m --label " in (tmp_path / "m" / "README.md").read_text()
    done = invoke("generate", "-m", "m", "--label", "sky", "-n", 3, "--seed", 1, "--jsonl")
    samples = [json.loads(line) for line in done.out.splitlines()]
    assert [sample["label"] for sample in samples] == ["sky"] * 3
    assert set(samples[0]["text"].split()) <= set(tiny.WORDS_OF["sky"])
    done = invoke("generate", "-m", "m", "--label", "food", "--stream", "rice", "--seed", 1)
    assert done.out.startswith("rice") and set(done.out.split()) <= set(tiny.WORDS_OF["food"])

    lines = invoke("score", "-m", "m", dev).out
    assert invoke("score", "-m", "m", "--label-column", "label", dev).out == lines
    alone = invoke("score", "-m", "m", "--label", TEXTS[0].labels[0], input=TEXTS[0].text + "\n").out
    assert lines.startswith(alone)
    pairs = "bread soup rice\train wind sun\n"
    right = [json.loads(invoke("score", "-m", "m", "--pairs", "--json", "--label", label, input=pairs).out)
             for label in ("food", "sky")]
    assert [report["accuracy"] for report in right] == [1, 0]
    report = json.loads(invoke("evaluate", "-m", "m", dev, "--json", "--cache", "--cache-lambda", 0).out)
    assert report["perplexity"] < 7
    assert report["perplexity_cache"] == pytest.approx(report["perplexity"], rel=1e-3)
    assert "food" in invoke("info", "m").out


def test_errors_of_a_model_with_labels(cook: Path, dev: Path, tmp_path: Path) -> None:
    expected = "expected a label that the model learned (food, sky)"
    failed(invoke("generate", "-m", cook), 2, f"--label: {expected}, found none")
    failed(invoke("generate", "-m", cook, "--label", "sea"), 2, f"--label: {expected}, found 'sea'")
    failed(invoke("score", "-m", cook, "--label", "sea", dev), 2, f"--label: {expected}, found 'sea'")
    failed(invoke("score", "-m", cook, "--pairs", input="a\tb\n"), 2, f"--label: {expected}, found none")
    failed(invoke("score", "-m", cook, input="rice\n"), 3,
           "<stdin>:1: expected one label, found none; check --label-column")
    failed(invoke("score", "-m", cook, "--context", "stream", dev), 2,
           "--context: expected line, because tiny-cook reads each text after its label")
    failed(invoke("score", "-m", cook, "--label", "sky", "--label-column", "label", dev), 2,
            "--label-column: has no effect with --label; leave one out")
    failed(invoke("score", "-m", cook, "--pairs", "--label-column", "label", dev), 2,
           "--label-column: has no effect with --pairs")
    failed(invoke("evaluate", "-m", cook, dev, "--label-column", "kind"), 3, "expected a column 'kind'")
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "rice", "label": "food"}\n{"text": "x", "label": "sea"}\n')
    done = invoke("score", "-m", cook, bad)
    assert (done.code, done.out.count("\n")) == (3, 1), "earlier records are answered"
    assert "bad.jsonl:2: expected a label of the training data (food, sky), found 'sea'" in done.err
    bad.write_text('{"text": "rice", "label": ["food", "sky"]}\n')
    failed(invoke("score", "-m", cook, bad), 3, "bad.jsonl:1: expected one label, found 2 (food, sky)")


def test_errors_of_a_model_without_labels(writer: Path, dev: Path) -> None:
    without = "the model was trained on text without labels"
    failed(invoke("generate", "-m", writer, "--label", "sky"), 2, f"--label: {without}")
    failed(invoke("score", "-m", writer, "--label", "sky", dev), 2, f"--label: {without}")
    failed(invoke("score", "-m", writer, "--label-column", "label", dev), 2, f"--label-column: {without}")
    failed(invoke("evaluate", "-m", writer, "--label-column", "label", dev), 2,
           "tiny-writer was trained on text without labels")


def test_labels_lower_the_perplexity_in_a_comparison(
    cook: Path, table: Path, dev: Path, tmp_path: Path
) -> None:
    plain = tmp_path / "plain"
    tiny.train("lm", plain, [table], dev=[dev], tokenizer="word", epochs=25)
    done = invoke("evaluate", "-m", cook, "--compare", plain, dev, "--json")
    assert done.code == 0, done.err
    compared = json.loads(done.out)["compare"]
    assert (compared["figure"], compared["model"]) == ("perplexity", "plain")
    assert compared["difference"] < -0.2
    failed(invoke("evaluate", "-m", plain, "--compare", cook, dev), 2,
           "expected a model that reads no labels")


@pytest.mark.parametrize(("rows", "sentence"), [
    ([("a b", "x"), ("b", "")], r"data.tsv:3: expected a label, found an empty cell; fill it"),
    ([("a b", "x"), ("b", "x")], r"expected at least 2 different labels, found only 'x'; check label_column"),
])
def test_training_data_needs_two_labels_and_one_per_text(
    rows: list[tuple[str, str]], sentence: str, tmp_path: Path
) -> None:
    file = tmp_path / "data.tsv"
    file.write_text(tiny.tsv(rows), "utf-8")
    with pytest.raises(DataError, match=sentence):
        tiny.train("lm", tmp_path / "m", [file], label_column="label", dev_fraction=0.0)


def test_the_development_data_must_not_have_unseen_labels(table: Path, tmp_path: Path) -> None:
    dev = tmp_path / "dev.tsv"
    dev.write_text(tiny.tsv([("rice", "food"), ("rice", "sea")]), "utf-8")
    message = r"dev.tsv:3: expected a label of the training data \(.*\), found 'sea'"
    with pytest.raises(DataError, match=message):
        tiny.train("lm", tmp_path / "m", [table], dev=[dev], label_column="label")
    assert not (tmp_path / "m").exists()


def test_labels_exclude_the_stream_context() -> None:
    with pytest.raises(UsageError, match="label_column: expected context=line"):
        resolve(TASKS["lm"], {"label_column": "label"}, preset="char")


def test_a_wrong_labels_file_is_detected_when_the_model_is_loaded(
    cook: Path, copy: Callable[[Path], Path]
) -> None:
    damaged = copy(cook)
    (damaged / "labels.txt").write_text("food\nsky\nsea\n")
    with pytest.raises(ModelError, match="differs from its SHA-256"):
        model.load(damaged)
    tiny.forget_digests(damaged)
    with pytest.raises(ModelError, match="don't belong together"):
        model.load(damaged)
    (damaged / "labels.txt").unlink()
    with pytest.raises(ModelError, match=r"labels\.txt"):
        model.load(damaged)


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[Path], Path]:
    """Return a function that copies a model folder."""
    return lambda folder: shutil.copytree(folder, tmp_path / "copy")


# --- Starting from another model ---------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["to labels", "from labels", "labels to labels"])
def test_transfer_between_models_with_and_without_labels(
    direction: str, cook: Path, writer: Path, table: Path, tmp_path: Path
) -> None:
    base = writer if direction == "to labels" else cook
    kind = "char" if base == writer else "word"
    labels = None if direction == "from labels" else "label"
    report = tiny.train("lm", tmp_path / "m", [table], init=str(base), freeze=True, label_column=labels,
                        epochs=1, tokenizer=kind)
    assert report["perplexity"] < 100
    init = model.load(tmp_path / "m", threads=1).config.init
    assert any(part.startswith("input.embedding (") for part in init["parts"])
    assert {"layers.0.forward_cell", "layers.1.forward_cell"} <= set(init["parts"])
