"""Cross-validation: folds are a partition, each record is predicted once by a model of the others."""

from __future__ import annotations

import csv
import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from conftest import Run, failed, invoke, jsonl
from test_resume import files_of, stop_after

import rnntool
from rnntool import model_folder
from rnntool.data.progress import silent
from rnntool.errors import DataError, ModelError, with_names
from rnntool.tasks import TASKS
from rnntool.tasks.base import task_class
from rnntool.tasks.specs.resolve import resolve
from rnntool.training.advice import next_step
from rnntool.training.job import Job
from rnntool.training.loop import Interrupted
from rnntool.training.training_data import Fold, TrainingData


def documents(sentences: int) -> str:
    """Return CoNLL with documents of three sentences each."""
    blocks = [f"-DOCSTART- O\n\n{tiny.conll(tiny.pos_sentences(3, seed=i))}" for i in range(sentences // 3)]
    return "".join(blocks)


CONTENTS = {
    "t.txt": "".join(f"{line}\n" for line in tiny.lines_of_text(50)),
    "t.tsv": tiny.tsv(tiny.questions(60)),
    "l.tsv": tiny.tsv(tiny.labeled_texts(40)),
    "t.conll": tiny.conll(tiny.ner_sentences(40)),
    "d.conll": documents(60),
    "s.conllu": tiny.segmented_conllu(40),
    "p.tsv": tiny.pairs([*tiny.reversals(40), *tiny.reversals(3, seed=1)]),
}
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "lm": ("lm", "t.txt", {}),
    "lm-stream": ("lm", "t.txt", {"context": "stream", "bptt": 20}),
    "lm-labels": ("lm", "l.tsv", {"label_column": "label"}),
    "classify": ("classify", "t.tsv", {}),
    "tag": ("tag", "t.conll", {"head": "crf"}),
    "transduce": ("transduce", "p.tsv", {}),
    "segment": ("segment", "s.conllu", {}),
    "tag-documents": ("tag", "d.conll", {"passage": 30}),
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with the training files."""
    for name, text in CONTENTS.items():
        (tmp_path / name).write_text(text, "utf-8")
    return tmp_path


def read(kind: str, data: Path, **settings: Any) -> tuple[TrainingData, Job]:
    """Read the training data of a kind."""
    task, name, more = KINDS[kind]
    job = Job(task=task, train=[str(data / name)], dev=[], settings=resolve(
        TASKS[task], more | settings, inherit=lambda _: tiny.SETTINGS[task]))
    return TrainingData.read(job, log=silent, watch=lambda stage: None), job


def text_of(record: Any) -> str:
    """Return what a record is predicted from."""
    if hasattr(record, "source") and isinstance(record.source, str):
        return record.source
    return record.text if hasattr(record, "text") and record.text is not None else " ".join(record.words)


def folds_of(kind: str, data: Path, count: int, **settings: Any) -> tuple[TrainingData, list[Fold]]:
    """Return the training data of a kind and its folds."""
    read_data, job = read(kind, data, **settings)
    return read_data, read_data.folds(task_class(job.task), job.settings, count)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [2, 3, 7])
def test_each_record_is_held_out_once(kind: str, count: int, data: Path) -> None:
    whole, folds = folds_of(kind, data, count)
    size = len(whole.records)
    assert sorted(i for fold in folds for i in fold.indexes.tolist()) == list(range(size))
    for fold in folds:
        assert len(fold.held_out) == len(fold.indexes)
        key = "words" if kind.startswith("tag") else "source" if kind == "transduce" else "text"
        assert [getattr(whole.records[i], key) for i in fold.indexes.tolist()] == [
            getattr(record, key) for record in fold.held_out]
        rest = [*fold.data.train, *fold.data.dev]
        expected = [getattr(record, key) for i, record in enumerate(whole.records) if i not in fold.indexes]
        assert sorted(getattr(record, key) for record in rest) == sorted(expected)
        assert fold.data.dev, "the best weights are chosen on records outside of the fold"
    again = folds_of(kind, data, count)[1]
    assert all((a.indexes == b.indexes).all() for a, b in zip(folds, again, strict=True))


def test_folds_of_a_running_text_are_parts_of_it(data: Path) -> None:
    _, folds = folds_of("lm-stream", data, 4)
    assert [i for fold in folds for i in fold.indexes.tolist()] == list(range(50))
    assert {len(fold.indexes) for fold in folds} <= {12, 13}


@pytest.mark.parametrize("kind", ["classify", "lm-labels"])
def test_each_label_is_spread_over_the_folds(kind: str, data: Path) -> None:
    whole, folds = folds_of(kind, data, 4)
    for label, total in Counter(record.labels[0] for record in whole.records).items():
        counts = [sum(record.labels[0] == label for record in fold.held_out) for fold in folds]
        assert sum(counts) == total
        assert max(counts) - min(counts) <= 1
    other = folds_of(kind, data, 4, seed=2)[1]
    assert any((a.indexes.tolist() != b.indexes.tolist()) for a, b in zip(folds, other, strict=True))


def test_sentences_that_are_read_together_are_in_one_fold(data: Path) -> None:
    _, folds = folds_of("tag-documents", data, 3)
    fold_of = {i: number for number, fold in enumerate(folds) for i in fold.indexes.tolist()}
    assert all(len({fold_of[i] for i in range(start, start + 3)}) == 1 for start in range(0, 60, 3))


@pytest.mark.parametrize("kind", KINDS)
def test_a_cross_validation_that_is_stopped_anywhere_gives_the_same_model_and_answers(
    kind: str, data: Path
) -> None:
    task, name, settings = KINDS[kind]
    settings = settings | {"folds": 3, "epochs": 2}
    files = [data / name]
    report = tiny.train(task, data / "whole", files, predictions=data / "whole.jsonl", **settings)
    for pause in (0, 3, 9, 14, 2):
        begun = (data / "stopped").exists()
        with pytest.raises(Interrupted) as caught:
            tiny.train(task, data / "stopped", [] if begun else files, resume=begun,
                       predictions=data / "stopped.jsonl", stopping=stop_after(pause),
                       **({} if begun else settings))
        assert caught.value.exit_code == 128 + signal.SIGTERM
        assert "saved" in str(caught.value)
    assert tiny.train(task, data / "stopped", resume=True) == report
    assert files_of(data / "stopped") == files_of(data / "whole")
    assert (data / "stopped.jsonl").read_text("utf-8") == (data / "whole.jsonl").read_text("utf-8")
    answers = jsonl((data / "whole.jsonl").read_text("utf-8"))
    whole, job = read(kind, data)
    assert len(answers) == len(whole.records)
    for record, answer in zip(whole.records, answers, strict=True):
        assert answer.get("text", answer.get("source")) == text_of(record)
    for number, fold in enumerate(whole.folds(task_class(task), job.settings, 3), 1):
        assert {answers[i]["fold"] for i in fold.indexes.tolist()} == {number}
    assert set(json.loads((data / "whole" / "config.json").read_text())["report"]) >= {"cross_validation"}
    rnntool.load(data / "whole")


def test_a_fold_is_evaluated_like_a_test_file_of_its_records(data: Path) -> None:
    report = tiny.train("classify", data / "m", [data / "t.tsv"], folds=3, epochs=2,
                        predictions=data / "p.csv")["cross_validation"]
    header, *rows = (data / "t.tsv").read_text("utf-8").splitlines(keepends=True)
    for figure, fold in zip(report["folds"], folds_of("classify", data, 3)[1], strict=True):
        held_out = set(fold.indexes.tolist())
        for name, chosen in {"test": held_out, "train": set(range(len(rows))) - held_out}.items():
            (data / f"{name}.tsv").write_text(header + "".join(rows[i] for i in sorted(chosen)), "utf-8")
        tiny.train("classify", data / "fold", [data / "train.tsv"], force=True, epochs=2)
        evaluated = invoke("evaluate", data / "test.tsv", "-m", data / "fold", "--json")
        assert json.loads(evaluated.out)["accuracy"] == pytest.approx(figure)
    with (data / "p.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["id"] for row in table] == [str(i) for i in range(60)]
    assert [row["input_label"] for row in table] == [row["gold"] for row in table]
    assert np.mean([row["label"] == row["gold"] for row in table]) == pytest.approx(report["value"])
    assert report["records"] == 60
    assert report["mean"] == pytest.approx(np.mean(report["folds"]))
    assert report["std"] == pytest.approx(np.std(report["folds"], ddof=1))
    low, high = report["interval"]
    assert low <= report["value"] <= high


def test_the_answers_of_a_tagger_of_several_columns(data: Path) -> None:
    (data / "j.conllu").write_text(tiny.joint_conllu(tiny.pos_sentences(30)), "utf-8")
    tiny.train("tag", data / "m", [data / "j.conllu"], folds=2, epochs=1, column="upos,xpos,NER",
               predictions=data / "p.jsonl")
    for answer in jsonl((data / "p.jsonl").read_text("utf-8")):
        assert answer.keys() >= {"gold", "gold_xpos", "gold_NER", "tags", "tags_xpos", "tags_NER", "probs"}
        assert len(answer["gold_NER"]) == len(answer["tags_NER"]) == len(answer["tokens"])
    (data / "s.jsonl").write_text("".join(json.dumps(
        {"tokens": [w for w, _ in row], "tags": [t for _, t in row], "n": i}) + "\n"
        for i, row in enumerate(tiny.pos_sentences(20))), "utf-8")
    tiny.train("tag", data / "n", [data / "s.jsonl"], folds=2, epochs=1, predictions=data / "p.jsonl")
    for i, answer in enumerate(jsonl((data / "p.jsonl").read_text("utf-8"))):
        assert answer["n"] == i
        assert answer["gold"] == answer["input_tags"]
        assert "input_tokens" not in answer


def test_texts_with_several_labels(data: Path) -> None:
    rows = [{"text": text, "label": [label, "x"][: 1 + i % 2]}
            for i, (text, label) in enumerate(tiny.questions(24))]
    (data / "s.jsonl").write_text("".join(map("{}\n".format, map(json.dumps, rows))), "utf-8")
    tiny.train("classify", data / "m", [data / "s.jsonl"], folds=2, epochs=1, predictions=data / "p.tsv")
    with (data / "p.tsv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file, delimiter="\t"))
    assert [json.loads(row["gold"]) for row in table] == [row["label"] for row in rows]


def test_all_trainings_share_the_time() -> None:
    settings = resolve(TASKS["tag"], {"max_time": 60.0, "folds": 5})
    assert settings.time_limit == 10.0
    assert settings.replace(folds=None).time_limit == 60.0
    assert settings.replace(max_time=None).time_limit is None


def test_usage(data: Path, run: Run) -> None:
    base = ["train", "classify", "t.tsv", "-o", "m", "-q"]
    failed(run(*base, "--folds", "3", "--dev", "t.tsv"), 2,
           "--folds: has no effect with --dev; leave one out")
    failed(run(*base, "--folds", "1"), 2, "--folds: expected a whole number of at least 2, found 1")
    failed(run(*base, "--predictions", "p.csv"), 2, "--predictions: has no effect without --folds; give "
           "--folds 5 as well")
    failed(run(*base, "--folds", "3", "--predictions", "p.txt"), 2, "expected a file name that ends in .csv")
    failed(run(*base, "--folds", "61"), 3, "expected at least 61 records, one for each fold, found 60; lower "
           "--folds, or give more data")
    (data / "one.tsv").write_text(tiny.tsv([("a b", "x")] * 9), "utf-8")
    failed(run("train", "classify", "one.tsv", "-o", "m", "-q", "--folds", "3"), 3,
           "expected at least 2 different labels, found only 'x'")
    assert not (data / "m").exists()
    with pytest.raises(Interrupted):
        tiny.train("classify", data / "m", [data / "t.tsv"], folds=3, epochs=1, stopping=stop_after(4))
    failed(run(*base), 2, "m: exists already; --resume continues a training that was stopped")
    resume = ["train", "classify", "-o", "m", "--resume"]
    failed(run(*resume, "--finish"), 2,
           "its folds are not all trained, so there is no model yet; leave it out")
    failed(run(*resume, "--epochs", "9"), 2, "--epochs: can't be changed after some of the --folds are "
           "trained; start again with --force")
    failed(run("classify", "-m", "m", "t.tsv"), 4, "its training has not ended; continue it with")
    ran = run(*base, *(f"--{name.replace('_', '-')}={value}" for name, value in
                       tiny.SETTINGS["classify"].items()), "--epochs", "1", "--force")
    assert (ran.code, ran.err) == (0, "")
    assert not (data / "m" / "folds").exists()


def test_a_signal_during_a_fold_says_how_to_continue(data: Path, run: Run) -> None:
    def stop() -> int | None:
        return signal.SIGINT if model_folder.has_checkpoint(data / "m" / "folds" / "2") else None

    with pytest.raises(Interrupted, match=r"^fold 2 of 3: stopped after step 0 of 4; saved$") as caught:
        tiny.train("classify", data / "m", [data / "t.tsv"], folds=3, epochs=1, stopping=stop)
    assert not caught.value.has_model
    done = run("train", "classify", "-o", "m", "--resume")
    assert done.code == 0
    lines = [line for line in done.err.splitlines() if line.startswith("rnntool: ")]
    assert lines[0] == ("rnntool: cross-validation: 60 training records in 3 folds; each fold is predicted "
                        "by a model of the others, then the model is trained on all")
    assert [line.partition(": accuracy")[0] for line in lines[1:4]] == [
        f"rnntool: fold {i} of 3" for i in (1, 2, 3)]
    epochs = [line.partition("epoch ")[0] for line in done.err.splitlines() if "epoch 1 " in line]
    assert epochs == ["fold 2 of 3: ", "fold 3 of 3: ", ""]
    (summary,) = (line for line in lines[4:] if line.startswith("rnntool: cross-validation: accuracy "))
    assert "on 60 records; mean of 3 folds 0." in summary or "mean of 3 folds 1." in summary
    figures = summary.partition(": cross-validation: ")[2]
    assert figures in run("info", "m").out
    page = run("report", "m").out
    assert "accuracy of all 60 records" in page
    assert "<td>fold 3</td>" in page
    assert f"Cross-validation: {figures}." in (data / "m" / "README.md").read_text("utf-8")


@pytest.mark.parametrize("damage", [
    [], {}, {"records": "9"}, {"folds": 1}, {"folds": ["a"]}, {"interval": [1]}, {"mean": "x"},
    {"figure": None}])
def test_damaged_figures_are_an_error(damage: Any, classifier: Path, tmp_path: Path) -> None:
    figures = {"figure": "accuracy", "value": 0.5, "interval": [0.4, 0.6], "records": 9, "mean": 0.5,
               "std": 0.1, "folds": [0.4, 0.6]}
    config = json.loads((classifier / "config.json").read_text("utf-8"))
    for content in (figures, figures | damage if damage else damage):
        (tmp_path / "config.json").write_text(json.dumps(
            config | {"report": config["report"] | {"cross_validation": content}}), "utf-8")
        if content is figures:
            model_folder.read_config(tmp_path)
    with pytest.raises(ModelError, match=r"report\.cross_validation"):
        model_folder.read_config(tmp_path)


def test_the_advice_names_folds_where_development_data_is_few(data: Path) -> None:
    tiny.train("classify", data / "m", [data / "t.tsv"], epochs=8)
    config = model_folder.read_config(data / "m")
    history = [{"epoch": 1.0, "step": 6, "loss": 1.0, "lr": 0.1, "accuracy": 1.0}]
    assert with_names(next_step(config, history)) == (
        "only 6 development records, so the figure is uncertain: give more of them with dev=FILE, or "
        "evaluate on all training data with folds=5")
    report = config.report | {"cross_validation": {"value": 0.9, "records": 60, "interval": [0.8, 0.95]}}
    object.__setattr__(config, "report", report)
    assert with_names(next_step(config, history)) == (
        "only 60 records, so the figure is uncertain: give more training data")


def test_folds_that_are_judged_differently(data: Path) -> None:
    plain = [[("a", "X"), ("b", "Y")]] * 8
    spans = [[("Anna", "B-PER"), ("Berg", "I-PER"), ("sings", "O")]] * 8
    (data / "s.conll").write_text(tiny.conll([*spans, *plain[:1]]), "utf-8")
    with pytest.raises(DataError, match=r"fold . is judged by (f1|accuracy), but the folds before it"):
        tiny.train("tag", data / "m", [data / "s.conll"], folds=9, epochs=1)
