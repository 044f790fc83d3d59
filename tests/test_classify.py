"""Classifiers: predicted labels, explanations, calibration, very long texts, many labels, baselines."""

from __future__ import annotations

import json
import math
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from conftest import Run, jsonl, ok

from rnntool.data.records import Text
from rnntool.errors import UsageError
from rnntool.evaluation.calibration import fit_temperature
from rnntool.evaluation.metrics import calibration_error
from rnntool.inference import model
from rnntool.tasks import classify
from rnntool.tasks.classify import ClassifyTask
from rnntool.tasks.specs.classify import ClassifySettings
from rnntool.tasks.specs.lm import LMSettings

QUESTIONS = "who did the baker sing ?\n\nwhen did the teacher work ?\n"


@pytest.fixture(scope="session")
def topics(models: Path) -> Path:
    """A classifier with several labels per text, one for each word of a list that occurs in it."""
    rng = random.Random(1)
    rows = []
    for _ in range(150):
        words = rng.sample(["sun", "sea", "snow"], rng.choice([1, 1, 2]))
        text = " ".join(rng.sample([*words, "the", rng.choice(tiny.STEMS)], len(words) + 2))
        rows.append({"text": text, "label": sorted(words)})
    file = models / "data" / "topics.jsonl"
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    report = tiny.train("classify", models / "tiny-topics", [file], epochs=10)
    assert report["accuracy"] == 1.0
    return models / "tiny-topics"


def lines(run: Run, *arguments: str | Path, input: str) -> list[list[str]]:
    done = run("classify", *arguments, input=input)
    assert (done.code, done.err) == (0, "")
    return [line.split("\t") for line in done.out.splitlines()]


# --- Predicted labels --------------------------------------------------------------------------------------


def test_top_and_threshold_with_one_label_per_text(classifier: Path, run: Run) -> None:
    ranked = lines(run, "-m", classifier, "--probs", "--top", "3", input=QUESTIONS)
    assert [len(row) for row in ranked] == [6, 6, 6]
    for k in (1, 2):
        assert lines(run, "-m", classifier, "--probs", "--top", str(k), input=QUESTIONS) == [
            row[: 2 * k] for row in ranked]
    least = sorted(float(p) for row in ranked for p in row[1::2])[4]
    kept = lines(run, "-m", classifier, "--top", "3", "--threshold", str(least + 0.00006), "--none-label",
                 "?", input=QUESTIONS)
    pairs = [list(zip(row[::2], map(float, row[1::2]), strict=True)) for row in ranked]
    expected = [[name for name, p in row if p > least + 0.0001] or ["?"] for row in pairs]
    assert kept == expected
    (record,) = objects(run, "-m", classifier, "--threshold", "1", "--none-label", "?", input="who\n")
    assert (record["label"], record["prob"]) == ("?", 0.0)


def objects(run: Run, *arguments: str | Path, input: str) -> list[dict[str, Any]]:
    return jsonl(ok(run("classify", *arguments, "--jsonl", input=input)))


def test_top_and_threshold_with_several_labels_per_text(topics: Path, run: Run) -> None:
    text = "the sea sun\nthe snow\nbaker\n"
    assert [sorted(row) for row in lines(run, "-m", topics, input=text)[:2]] == [["sea", "sun"], ["snow"]]
    probs = [dict(zip(row[::2], map(float, row[1::2]), strict=True))
             for row in lines(run, "-m", topics, "--top", "3", "--probs", input=text)]
    for least in (0.02, 0.5, 0.9):
        kept = lines(run, "-m", topics, "--threshold", str(least), "--none-label", "?", input=text)
        assert [set(row) for row in kept] == [
            {name for name, p in row.items() if p >= least} or {"?"} for row in probs]
    (top,) = lines(run, "-m", topics, "--top", "1", input="the sea sun\n")
    assert len(top) == 1
    assert lines(run, "-m", topics, "--threshold", "1", input=text) == [["none"]] * 3
    first, *_ = objects(run, "-m", topics, input=text)
    assert sorted(label["label"] for label in first["labels"]) == ["sea", "sun"]


# --- Explanations ------------------------------------------------------------------------------------------


def test_the_weight_of_a_word_is_the_probability_that_its_removal_costs(classifier: Path) -> None:
    loaded = model.load(classifier, threads=1)
    text = "  who did  the baker sing ?"
    shorter = ["did  the baker sing ?", "  who  the baker sing ?", "  who did baker sing ?",
               "  who did  the sing ?", "  who did  the baker ?", "  who did  the baker sing"]
    (whole, *without) = loaded.classify([text, *shorter])
    ((result, words),) = loaded.explain([text])
    assert result == whole
    label, p = whole.ranked[0]
    assert [text[word.start:word.end] for word in words] == [word.token for word in words] == text.split()
    for word, reading in zip(words, without, strict=True):
        assert word.weight == pytest.approx(p - dict(reading.ranked)[label], abs=1e-6)
    assert max(words, key=lambda word: word.weight).token == "who"
    texts = ["", text, "who", *[" ".join(["who", "sings"] * 40)] * 2]
    assert [len(words) for _, words in loaded.explain(texts)] == [0, 6, 1, 80, 80]


def test_explanations_are_computed_in_batches_of_limited_size(
    classifier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = model.load(classifier, threads=1)
    long = " ".join(["who"] * 300)
    expected = list(loaded.explain([long]))
    monkeypatch.setattr("rnntool.inference.pipeline.WINDOW_TOKENS", 3000)
    sizes: list[int] = []
    batches_of = loaded.task.batches

    def seen(engine: Any, batches: Any) -> Any:
        sizes.append(sum(len(example.tokens) for batch in batches for example in batch))
        return batches_of(engine, batches)

    monkeypatch.setattr(loaded.task, "batches", seen)
    explained = list(loaded.explain([long]))
    assert max(sizes) <= 3300
    assert [w.weight for w in explained[0][1]] == pytest.approx([w.weight for w in expected[0][1]], abs=1e-5)


def test_explanations_as_text_jsonl_and_html(classifier: Path, run: Run) -> None:
    first, blank, _ = lines(run, "-m", classifier, "--explain", "--probs", input=QUESTIONS)
    label, _, words = first
    assert (label, len(blank), blank[2]) == ("person", 3, "")
    assert re.fullmatch(r"who\(\+0\.\d{3}\)( \S+\([+-]\d\.\d{3}\)){5}", words)
    (record,) = objects(run, "-m", classifier, "--explain", input="who did it ?\n")
    assert record["label"] == "person"
    assert [(w["token"], w["start"], w["end"]) for w in record["explain"]] == [
        ("who", 0, 3), ("did", 4, 7), ("it", 8, 10), ("?", 11, 12)]
    page = run("classify", "-m", classifier, "--explain", "--to", "html", input="who <b>&\n").out
    assert page.startswith("<!DOCTYPE html>")
    assert page.endswith("</body>\n</html>\n")
    body = page[page.index("<body>") :]
    assert "<b>" not in body
    assert body.count('<mark class="weight"') == 3 + 2  # the words, and the legend
    assert "http" not in page
    assert "<script" not in page
    assert "class=" not in run("classify", "-m", classifier, "--to", "html", input="who\n").out
    failed = run("classify", "-m", classifier, "--jsonl", "--to", "html", input="who\n")
    assert failed.code == 2
    assert "--jsonl contradicts --to html" in failed.err


# --- Calibration -------------------------------------------------------------------------------------------


def drawn(logits: Any, rng: np.random.Generator) -> Any:
    """Draw a label for each row from its softmax."""
    return (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_fitted_temperature_is_that_of_the_data(temperature: float) -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(20_000, 4)) * 2
    targets = drawn(logits, rng)
    assert fit_temperature(logits * temperature, targets) == pytest.approx(temperature, rel=0.05)


def test_the_temperature_has_bounds_if_all_or_no_predictions_are_correct() -> None:
    logits = np.eye(3)[[0, 1, 2] * 10] * 2
    assert 0.05 < fit_temperature(logits, np.array([0, 1, 2] * 10)) < 1
    assert fit_temperature(logits, np.array([1, 2, 0] * 10)) > 5
    assert fit_temperature(np.zeros((0, 3)), np.zeros(0, int)) == 1


def test_a_model_is_calibrated_on_the_dev_data(tmp_path: Path) -> None:
    rows = tiny.questions(400, seed=4)
    train, dev = tmp_path / "train.tsv", tmp_path / "dev.tsv"
    train.write_text(tiny.tsv(rows[:100]), "utf-8")
    dev.write_text(tiny.tsv(rows[100:]), "utf-8")
    report = tiny.train("classify", tmp_path / "m", [train], dev=[dev], epochs=2, consistency=0.0,
                        ngrams=False)
    config = json.loads((tmp_path / "m" / "config.json").read_text("utf-8"))
    assert config["report"]["temperature"] == report["temperature"] < 0.9
    assert report["ece"] < report["ece_uncalibrated"] - 0.05
    loaded = model.load(tmp_path / "m", threads=1)
    results = list(loaded.classify(text for text, _ in rows[100:]))
    correct = [r.chosen == [label] for r, (_, label) in zip(results, rows[100:], strict=True)]
    error = calibration_error([r.ranked[0][1] for r in results], correct)
    assert error == pytest.approx(report["ece"], abs=1e-3)
    alone = tiny.train("classify", tmp_path / "alone", [train], epochs=1, dev_fraction=0.0)
    assert "temperature" not in alone


def test_a_model_with_several_labels_per_text_is_calibrated(topics: Path) -> None:
    report = json.loads((topics / "config.json").read_text("utf-8"))["report"]
    assert report["ece"] <= max(report["ece_uncalibrated"], 0.02)  # smoothed if all answers are right
    assert math.isfinite(report["temperature"])


# --- Texts and labels of any size --------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["mean", "max", "last"])
def test_a_very_long_text_is_read_in_pieces(
    pooling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "train.tsv"
    file.write_text(tiny.tsv(tiny.questions(60)), "utf-8")
    tiny.train("classify", tmp_path / "m", [file], epochs=2, encoder="window", window=0, pooling=pooling,
               bidirectional=False, ngrams=False)
    loaded = model.load(tmp_path / "m", threads=1)
    text = " ".join(["who did"] * 30 + ["when"] * 21)
    whole = loaded.task.run(loaded.engine, loaded.task.encode([Text(text)]))["logits"]
    monkeypatch.setattr(classify, "PIECE", 25)
    arrays = loaded.task.encode([Text(text)])
    pieces = loaded.task.run(loaded.engine, arrays)["logits"]
    words = text.split()
    parts = [loaded.task.run(loaded.engine, loaded.task.encode([Text(" ".join(words[i:i + n]))]))["logits"]
             for i, n in ((0, 21), (21, 20), (41, 20), (61, 20))]
    np.testing.assert_allclose(pieces, sum(p * n for p, n in zip(parts, (21, 20, 20, 20), strict=True)) / 81,
                               rtol=1e-5, atol=1e-6)
    if pooling == "mean":  # the mean over pieces is the mean over the whole text
        np.testing.assert_allclose(pieces, whole, rtol=1e-4, atol=1e-5)
    example = loaded.task.example(Text(text, ("person",)), targets=True)
    cut = loaded.task.parts(example)
    assert [len(part.tokens) for part in cut] == [21, 20, 20, 20]
    assert {part.labels for part in cut} == {example.labels}
    assert loaded.task.parts(loaded.task.example(Text("")))[0].tokens == []


def test_hundreds_of_classes(tmp_path: Path, run: Run) -> None:
    rows = [(f"word{i} the baker", f"class {i}") for i in range(400)] * 2
    file = tmp_path / "train.tsv"
    file.write_text(tiny.tsv(rows), "utf-8")
    report = tiny.train("classify", tmp_path / "m", [file], dev=[file], epochs=6, batch_size=16,
                        encoder="bag", embed=32, hidden=64, consistency=0.0, dropout=0.0)
    assert report["accuracy"] > 0.95
    text = "".join(f"the baker word{i}\n" for i in range(0, 400, 40))
    rankings = lines(run, "-m", tmp_path / "m", "--top", "400", input=text)
    assert all(len(set(row)) == 400 for row in rankings)
    assert [row[0] for row in rankings] == [row[0] for row in lines(run, "-m", tmp_path / "m", input=text)]


def test_balanced_weights_raise_the_recall_of_a_rare_class(tmp_path: Path) -> None:
    rng = random.Random(5)

    def rows(n: int, share: float) -> list[tuple[str, str]]:
        """Generate texts; a word occurs in most texts of the rare class and in few of the common one."""
        made = []
        for _ in range(n):
            rare = rng.random() < share
            sign = rng.random() < (0.6 if rare else 0.1)
            made.append((f"the {'odd' if sign else 'plain'} {rng.choice(tiny.STEMS)}er",
                         "rare" if rare else "common"))
        return made

    train, dev = tmp_path / "train.tsv", tmp_path / "dev.tsv"
    train.write_text(tiny.tsv(rows(600, 0.07)), "utf-8")
    dev.write_text(tiny.tsv(rows(400, 0.5)), "utf-8")
    recall = {weights: tiny.train("classify", tmp_path / weights, [train], dev=[dev], epochs=4,
                                  encoder="bag", consistency=0.0, class_weights=weights, evaluations=1
                                  )["per_label"]["rare"]["recall"] for weights in ("none", "balanced")}
    assert recall["balanced"] > recall["none"] + 0.2


@pytest.mark.parametrize(("tokenizer", "encoder"), [("char", "window"), ("byte", "rnn")])
def test_languages_are_identified_from_characters(tokenizer: str, encoder: str, tmp_path: Path) -> None:
    sounds = {"aka": ("ktpr", "aiu"), "olo": ("lmnr", "oeu"), "ski": ("skzt", "iey"), "uru": ("rgbd", "ua")}
    rng = random.Random(6)

    def sentence(language: str) -> str:
        """Generate two or three words of syllables; the languages share most letters."""
        onsets, vowels = sounds[language]
        return " ".join("".join(rng.choice(onsets) + rng.choice(vowels) for _ in range(rng.randint(1, 3)))
                        for _ in range(rng.randint(2, 3)))

    files = [tmp_path / "train.tsv", tmp_path / "dev.tsv"]
    for file, n in zip(files, (150, 50), strict=True):
        file.write_text(tiny.tsv((sentence(name), name) for name in sounds for _ in range(n)), "utf-8")
    report = tiny.train("classify", tmp_path / "m", files[:1], dev=files[1:], tokenizer=tokenizer,
                        encoder=encoder, epochs=8, consistency=0.0, hidden=24)
    assert report["accuracy"] >= 0.95


# --- Baselines ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoder", ["bag", "window"])
def test_baselines_learn_run_and_describe_themselves(encoder: str, tmp_path: Path, run: Run) -> None:
    file = tmp_path / "train.tsv"
    file.write_text(tiny.tsv(tiny.questions(150)), "utf-8")
    report = tiny.train("classify", tmp_path / "m", [file], encoder=encoder, epochs=6, layers=2)
    assert report["accuracy"] >= 0.9
    assert lines(run, "-m", tmp_path / "m", input="who did it ?\n") == [["person"]]
    assert f"2 x 12 {encoder}" in run("info", tmp_path / "m").out
    assert encoder in (tmp_path / "m" / "README.md").read_text("utf-8")


def test_a_window_language_model_generates_and_scores(tmp_path: Path, run: Run) -> None:
    file = tmp_path / "train.txt"
    file.write_text("".join(f"{line}\n" for line in tiny.lines_of_text(100)), "utf-8")
    tiny.train("lm", tmp_path / "m", [file], encoder="window", window=3, epochs=3)
    done = run("generate", "-m", tmp_path / "m", "-n", "2", "--seed", "1", "--max-tokens", "20")
    assert (done.code, done.err) == (0, "")
    loaded = model.load(tmp_path / "m", threads=1)
    near, far = loaded.score(["the baker", "a the baker"])
    assert near.log_probs[6:] == pytest.approx(far.log_probs[8:], abs=1e-5)  # same four letters


def test_a_language_model_cannot_be_a_bag_of_words() -> None:
    with pytest.raises(UsageError, match="encoder: expected one of rnn, window, ngram, found 'bag'"):
        LMSettings(encoder="bag")


def test_the_top_labels_are_the_first_of_the_full_ranking() -> None:
    records = [Text(c, (c,)) for c in "abcd"]
    task = ClassifyTask.learn(records, ClassifySettings(min_count=1))
    outputs = {"logits": np.random.default_rng(1).normal(size=(4, 4)).astype(np.float32)}
    whole = task.decode(records, outputs)
    for k in (1, 2, 4):
        for a, b in zip(task.decode(records, outputs, top=k), whole, strict=True):
            assert (a.ranked, a.chosen) == (b.ranked[:k], b.chosen)


def test_a_text_may_have_no_label(tmp_path: Path, run: Run) -> None:
    rng = random.Random(2)
    rows = []
    for _ in range(120):
        words = rng.sample(["sun", "sea", "snow"], rng.choice([0, 1]))
        rows.append({"text": " ".join(rng.sample([*words, "the", "day"], len(words) + 2)), "label": words})
    file = tmp_path / "weather.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    report = tiny.train("classify", tmp_path / "weather", [file], epochs=15)
    assert report["accuracy"] == 1.0
    assert lines(run, "-m", tmp_path / "weather", input="the day\nthe sea day\n") == [["none"], ["sea"]]
    (tmp_path / "lost.jsonl").write_text('{"text": "the day", "label": ""}\n', "utf-8")
    done = run("evaluate", tmp_path / "lost.jsonl", "-m", tmp_path / "weather")
    assert done.code == 3 and "lost.jsonl:1: expected labels in 'label', found an empty" in done.err


def test_the_dev_data_of_a_single_label_model_may_have_texts_without_labels(tmp_path: Path) -> None:
    questions = tmp_path / "train.tsv"
    questions.write_text(tiny.tsv(tiny.questions(30)), "utf-8")
    dev = tmp_path / "dev.jsonl"
    dev.write_text('{"text": "who did it ?", "label": "person"}\n{"text": "it ?", "label": []}\n', "utf-8")
    report = tiny.train("classify", tmp_path / "model", [questions], dev=[dev], epochs=1)
    assert report["records"] == 2 and "temperature" in report


def test_the_confidence_of_a_missing_label_is_one_minus_its_probability(
    topics: Path, tmp_path: Path, run: Run
) -> None:
    file = tmp_path / "one.jsonl"
    file.write_text('{"text": "the sun", "label": ["sun", "snow"]}\n', "utf-8")
    done = run("evaluate", file, "-m", topics, "--errors", "1", "--json")
    (mistake,) = json.loads(done.out)["errors"]
    ranked = dict(next(model.load(str(topics)).classify(["the sun"])).ranked)
    assert mistake["prob"] == pytest.approx(1 - ranked["snow"], abs=1e-4) and mistake["prob"] > 0.5
