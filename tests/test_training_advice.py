"""What a training says at its start and its end: data, network, duration, result, baseline, next step."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
from conftest import invoke

from rnntool import model_folder
from rnntool.data.progress import duration
from rnntool.errors import with_names
from rnntool.evaluation import metrics
from rnntool.inference import model
from rnntool.model_folder import ModelConfig
from rnntool.training.advice import next_step, result
from rnntool.training.checkpoint import Progress
from rnntool.training.loop import Step
from rnntool.training.overview import Forecast


def changed(folder: Path, *, score: float, interval: list[float] | None, baseline: float, records: int = 1000,
            **settings: Any) -> ModelConfig:
    """Return a model's config with other results and settings."""
    config = model_folder.read_config(folder)
    key = config.report["interval_of"]
    report = {key: score, "interval_of": key, "interval": interval, "records": records,
              "baseline": {"method": "always 'x'", key: baseline}}
    return dataclasses.replace(config, report=report, settings=config.settings.replace(**settings))


def curve(key: str, *scores: float, epochs: float = 1.0) -> list[dict[str, Any]]:
    """Return the evaluations of a training with these scores, `epochs` apart."""
    return [{"epoch": i * epochs, "step": round(i * epochs * 10), "loss": 1.0, "lr": 0.1, key: score,
             "seconds": 1.0, "tokens": 10} for i, score in enumerate(scores, 1)]


GOOD: dict[str, Any] = {"score": 0.9, "interval": [0.88, 0.92], "baseline": 0.5}


@pytest.mark.parametrize(("values", "scores", "said"), [
    ({"epochs": 8}, (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.88, 0.9),
     "still improving: give it more time with epochs=16"),
    ({"epochs": 8}, (0.5, 0.6, 0.7, 0.8, 0.89, 0.9, 0.899, 0.9),
     "no longer improving: give more training data"),
    ({"epochs": 8}, (0.8, 0.9, 0.88, 0.87, 0.86, 0.85, 0.84, 0.84),
     "best after epoch 2 of 8, so more time would not"),
    ({"epochs": 1}, (0.9,), "nothing says whether it would improve further: give it more time with epochs=2"),
    ({"max_time": 180.0, "epochs": 20}, (0.88, 0.89, 0.895, 0.9),
     "still improving: give it more time with max_time=6m"),
    ({"records": 20, "epochs": 8}, (0.5, 0.6, 0.7, 0.9),
     "only 20 development records, so the figure is uncertain"),
    ({"interval": [0.8, 0.96], "records": 120}, (0.9, 0.9), "only 120 development records"),
    ({"score": 0.4, "interval": [0.38, 0.42], "epochs": 4}, (0.4,) * 4, "no better than the baseline: check"),
    ({"score": 1.0, "interval": [0.3, 1.0], "baseline": 1.0, "records": 2}, (0.5, 1.0), "only 2 development"),
    ({"score": 1.0, "interval": [0.99, 1.0]}, (0.5, 0.7, 0.9, 1.0), "no mistakes on the development data"),
    # the figure of few records can be far below the baseline all the same
    ({"score": 0.0, "interval": [0.0, 0.0], "records": 20}, (0.0,) * 4, "no better than the baseline: check"),
])
def test_the_most_useful_next_step_of_a_classifier(
    values: dict[str, Any], scores: tuple[float, ...], said: str, classifier: Path
) -> None:
    advice = with_names(next_step(changed(classifier, **GOOD | values), curve("accuracy", *scores)))
    assert advice.startswith(said)


@pytest.mark.parametrize(("score", "baseline", "scores", "epochs", "said"), [
    (34.7, 17.9, (34.7,), 0.3, "the time was over before all training data was read once: give it more time"),
    (34.7, 17.9, (50.0, 40.0, 34.7), 1.0, "no better than the baseline yet: give it more time with"),
    (4.1, 17.9, (6.0, 5.0, 4.1), 1.0, "still improving: give it more time with max_time=6m"),
    (4.1, 17.9, (4.2, 4.1, 4.1, 4.1) * 5, 1.0, "best after epoch 2 of 20, so more time would not help"),
])
def test_the_most_useful_next_step_of_a_language_model(
    score: float, baseline: float, scores: tuple[float, ...], epochs: float, said: str, writer: Path
) -> None:
    interval = [0.99 * score, 1.01 * score]
    config = changed(writer, score=score, interval=interval, baseline=baseline, max_time=180.0, epochs=20)
    assert with_names(next_step(config, curve("perplexity", *scores, epochs=epochs))).startswith(said)


def test_the_result_has_an_interval_and_a_baseline(classifier: Path) -> None:
    config = changed(classifier, **GOOD)
    assert result(config) == ("accuracy 0.9000 (95% interval: 0.8800 to 0.9200) on 1,000 development "
                              "records; baseline 0.5000 (always 'x')")
    linear = {"method": "the n-gram classifier alone", "accuracy": 0.8}
    both = dataclasses.replace(config, report={**config.report, "linear": linear})
    assert result(both).endswith("; baselines 0.5000 (always 'x'), 0.8000 (the n-gram classifier alone)")
    alone = changed(classifier, score=1.0, interval=None, baseline=0.5, records=1)
    assert result(alone).startswith("accuracy 1.0000 on 1 development record; ")
    untested = dataclasses.replace(config, report={})
    assert "without development data" in result(untested)
    assert "give dev" in with_names(next_step(untested, []))


def test_a_training_says_what_it_does_and_what_came_of_it(tmp_path: Path) -> None:
    table = tmp_path / "in.tsv"
    table.write_text(tiny.tsv(tiny.questions(60)))
    options = [f"--{name.replace('_', '-')}={value}" for name, value in tiny.SETTINGS["classify"].items()]
    ran = invoke("train", "classify", table, "-o", tmp_path / "m", *options, "--epochs", "2")
    lines = [line.removeprefix("rnntool: ") for line in ran.err.splitlines() if line.startswith("rnntool: ")]
    assert lines[0] == ("54 training records, 6 for development: drawn at random from the training data "
                        "(--dev-fraction 0.1; name your own with --dev FILE)")
    assert lines[1].startswith("3 labels: ")
    assert lines[2].startswith("1 x 12 lstm, bidirectional, ")
    assert lines[2].endswith("; 2 epochs of 6 steps")
    report = json.loads((tmp_path / "m" / "config.json").read_text())["report"]
    assert f"accuracy {report['accuracy']:.4f}" in lines[-3]
    assert f"baselines {report['baseline']['accuracy']:.4f} (always '" in lines[-3]
    assert f"'), {report['linear']['accuracy']:.4f} (the n-gram classifier alone)" in lines[-3]
    assert lines[-2].startswith(("only 6 development records", "no better than the baseline"))
    assert "--" in lines[-2], "the next step names an option"
    assert lines[-1].startswith("model written to ")
    ran = invoke("train", "classify", table, "--dev", table, "-o", tmp_path / "n", *options, "--epochs", "1")
    assert f"60 training records, 60 for development: {table}\n" in ran.err


def test_the_baseline_of_a_classifier_is_its_most_frequent_label(classifier: Path) -> None:
    report = model_folder.read_config(classifier).report["baseline"]
    label = report["method"].split("'")[1]
    assert label == Counter(label for _, label in tiny.questions(100)).most_common(1)[0][0]
    gold = [label for _, label in tiny.questions(20, seed=9)]
    assert report["accuracy"] == pytest.approx(gold.count(label) / len(gold))


def test_the_baseline_of_a_tagger_is_the_usual_tag_of_each_word(tagger: Path, ner: Path) -> None:
    counts: dict[str, Counter[str]] = {}
    for word, tag in (pair for sentence in tiny.pos_sentences(100) for pair in sentence):
        counts.setdefault(word, Counter())[tag] += 1
    usual = sum(counts.values(), Counter[str]()).most_common(1)[0][0]
    hits = [tag == (counts[word].most_common(1)[0][0] if word in counts else usual)
            for sentence in tiny.pos_sentences(20, seed=9) for word, tag in sentence]
    baseline = model_folder.read_config(tagger).report["baseline"]
    assert baseline["accuracy"] == pytest.approx(sum(hits) / len(hits))
    assert 0 < model_folder.read_config(ner).report["baseline"]["f1"] <= 1


def test_a_classifier_is_compared_with_its_n_grams_alone(tmp_path: Path) -> None:
    table, dev = tmp_path / "in.tsv", tmp_path / "dev.tsv"
    table.write_text(tiny.tsv(tiny.questions(60)))
    dev.write_text(tiny.tsv([*tiny.questions(9, seed=3), ("who or where ?", "time"), ("when ?", "place")]))
    report = tiny.train("classify", tmp_path / "m", [table], dev=[dev], epochs=1)
    task = model.load(tmp_path / "m", threads=1).task
    records = list(task.inputs([str(dev)], task.settings, targets=True, format=None, log=str))
    best = task.ngrams.scores([task.example(record).tokens for record in records]).argmax(axis=1)
    hits = [task.labels.names[i] == record.labels[0] for i, record in zip(best, records, strict=True)]
    assert report["linear"]["accuracy"] == pytest.approx(sum(hits) / len(hits))
    assert 0 < sum(hits) < len(hits)
    assert report["linear"]["method"] == "the n-gram classifier alone"
    without = tiny.train("classify", tmp_path / "n", [table], dev=[dev], epochs=1, ngrams=False)
    assert "linear" not in without and "baseline" in without


@pytest.mark.parametrize("settings", [{}, {"head": "crf"}])
def test_a_tagger_is_compared_with_its_window_classifier_alone(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    train, dev = tmp_path / "train.conll", tmp_path / "dev.conll"
    train.write_text(tiny.conll(tiny.pos_sentences(30)))
    odd = [[("the", "DET"), ("sings", "NOUN"), ("bakful", "VERB")], [("garden", "ADJ")]]
    dev.write_text(tiny.conll([*tiny.pos_sentences(5, seed=3), *odd]))
    report = tiny.train("tag", tmp_path / "m", [train], dev=[dev], epochs=1, **settings)
    task = model.load(tmp_path / "m", threads=1).task
    hits = []
    for record in task.inputs([str(dev)], task.settings, targets=True, format=None, log=str):
        best = task.window.scores([record.words])[:, 0].argmax(axis=1)
        hits += [task.labels.names[i] == tag for i, tag in zip(best, record.tags, strict=True)]
    assert report["linear"]["accuracy"] == pytest.approx(sum(hits) / len(hits))
    assert 0 < sum(hits) < len(hits)


def test_the_baseline_of_a_language_model_is_a_unigram_model(writer: Path) -> None:
    counts = Counter[str]()
    for line in tiny.lines_of_text(150):
        counts.update([*line, "end"])
    size = json.loads((writer / "config.json").read_text())["network"]["head"]["outputs"]
    total = counts.total() + size
    dev = [token for line in tiny.lines_of_text(20, seed=9) for token in [*line, "end"]]
    nats = -sum(math.log((counts[token] + 1) / total) for token in dev) / len(dev)
    baseline = model_folder.read_config(writer).report["baseline"]["perplexity"]
    assert baseline == pytest.approx(metrics.perplexity_of(nats))


def test_the_baseline_of_a_tagger_with_document_context(tmp_path: Path) -> None:
    text = "".join(f"-DOCSTART- O\n\n{tiny.conll([sentence] * 3)}" for sentence in tiny.pos_sentences(30))
    file = tmp_path / "t.conll"
    file.write_text(text)
    report = tiny.train("tag", tmp_path / "m", [file], dev=[file], epochs=1, passage=50)
    assert report["baseline"]["accuracy"] == 1.0, "each word of these sentences has one tag"


def test_the_duration_is_forecast_once_after_some_steps() -> None:
    trainer: Any = SimpleNamespace(total_steps=1000, epochs=10, batches=range(100),
                                   settings=SimpleNamespace(time_limit=None))
    for limit_s, expected in (
        (None, f"expected duration: {duration(1000)}"),
        (300.0, "expected duration: 5m00s, enough for 3.0 of 10 epochs; all of them need about 16m40s"),
    ):
        trainer.settings.time_limit = limit_s
        seen, said = [], list[str]()
        forecast = Forecast(trainer, seen.append, said.append)
        for step in range(1, 100):
            left_s = (1000 if limit_s is None else limit_s) - step
            forecast(Step(progress=Progress(step=step, elapsed_s=float(step)), total_steps=1000, share=0.1,
                          loss=1.0, tokens_per_s=1.0, left_s=left_s))
        assert len(seen) == 99
        assert len(said) == 1
        assert said[0].startswith(expected)
