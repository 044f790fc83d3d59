"""Nothing is no label: records without labels are errors with a line, or are skipped and counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny
from conftest import Run, failed, ok

from rnntool.data.inputs import Inputs
from rnntool.errors import DataError
from rnntool.tasks import TASKS
from rnntool.tasks.base import task_class

GOOD_ROW = "1\tgoes\tgo\tVERB\tVBZ\t_\t0\troot\t_\tNER=O\n"
BAD_JSON_LABELS = ("null", "NaN", "Infinity", "-Infinity", "1e400", '""', '" "', '"\\u00a0"', '["a", ""]',
                   '["a", null]', '[" "]')
BAD_JSON_TAGS = ("null", "[]", '[""]', '[" "]', "[null]", "[NaN]")

# task, name of the file, settings, a labeled record and one without a label
CASES = [
    *(("classify", "x.jsonl", {}, '{"text": "a", "label": "b"}\n', f'{{"text": "c", "label": {label}}}\n')
      for label in BAD_JSON_LABELS),
    ("classify", "x.jsonl", {}, '{"text": "a", "label": "b"}\n', '{"text": "c"}\n'),
    *((task, "x.jsonl", {"label_column": "y"}, '{"text": "a", "y": 1}\n', f'{{"text": "c", "y": {label}}}\n')
      for task in ("classify", "lm") for label in ("null", "NaN", '""')),
    ("lm", "x.jsonl", {"label_column": "y"}, '{"text": "a", "y": "b"}\n', '{"text": "c", "y": []}\n'),
    *((task, f"x.{kind}", {"label_column": "label"}, f"b{separator}a\n", f"{label}{separator}c\n")
      for task in ("classify", "lm") for kind, separator in (("tsv", "\t"), ("csv", ","))
      for label in ("", " ", "\u3000")),
    *((task, "x.ft", settings, "__label__b a\n", bad)
      for task, settings in (("classify", {}), ("lm", {"label_column": "label"}))
      for bad in ("c\n", "__label__ c\n", "__label__\u00a0 c\n", "\n")),
    *(("tag", "x.jsonl", {}, '{"tokens": ["a"], "tags": ["X"]}\n', f'{{"tokens": ["c"], "tags": {tags}}}\n')
      for tags in BAD_JSON_TAGS),
    ("tag", "x.jsonl", {}, '{"tokens": ["a"], "tags": ["X"]}\n', '{"tokens": ["c"]}\n'),
    *(("tag", "x.jsonl", {}, '{"text": "a", "label": [[0, 1, "X"]]}\n', bad) for bad in (
        '{"text": "c", "label": [[0, 1, ""]]}\n', '{"text": "c", "label": [[0, 1, null]]}\n',
        '{"text": "c", "spans": [{"start": 0, "end": 1, "label": NaN}]}\n')),
    *(("tag", "x.conll", {"column": column}, "a\tA\tB\n\n", bad) for column, bad in (
        (None, "c\tA\t\n\n"), (None, "c\tA\t \n\n"), ("2", "c\t\tB\n\n"), ("3", "c\tA\n\n"),
        (None, "c\n\n"))),
    *(("tag", "x.conllu", {"column": column}, GOOD_ROW + "\n", bad + "\n") for column, bad in (
        (None, GOOD_ROW.replace("VERB", "_")), ("upos", GOOD_ROW.replace("VERB", "")),
        ("xpos", GOOD_ROW.replace("VBZ", " ")), ("deprel", GOOD_ROW.replace("root", "_")),
        ("NER", GOOD_ROW.replace("NER=O", "NER=")), ("upos,xpos", GOOD_ROW.replace("VERB", "_")))),
]


@pytest.mark.parametrize(("task", "name", "settings", "good", "bad"), CASES)
def test_a_record_without_a_label_is_an_error_with_its_line_or_is_skipped(
    task: str, name: str, settings: dict[str, str], good: str, bad: str, tmp_path: Path
) -> None:
    header = {".tsv": "label\ttext\n", ".csv": "label,text\n"}.get(Path(name).suffix, "")
    file = tmp_path / name
    file.write_text(header + good + bad + bad + good, "utf-8")
    warnings: list[str] = []

    def inputs(*, skip: bool) -> Inputs:
        chosen = TASKS[task].settings(**settings, skip_unlabelled=skip)
        return task_class(task).inputs([str(file)], chosen, targets=True, format=None,
                                       log=lambda message: None, warn=warnings.append)

    line = 1 + header.count("\n") + good.count("\n")
    with pytest.raises(DataError, match=rf":{line}: expected .*; .*, or skip such records with skip_unl"):
        list(inputs(skip=False))
    records = inputs(skip=True)
    for _ in "ab":  # the count starts anew
        assert len(list(records)) == 2
    assert warnings == [f"{file}: skipped 2 records without a label"] * 2


def test_no_label_applies_is_a_label(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text('{"text": "a", "label": []}\n{"text": "b", "label": 0}\n{"text": "b", "label": false}\n')
    settings = TASKS["classify"].settings()
    records = task_class("classify").inputs([str(file)], settings, targets=True, format=None,
                                            log=lambda message: None)
    assert [record.labels for record in records] == [(), ("0",), ("false",)]


def test_training_skips_records_in_all_of_its_files(tmp_path: Path, run: Run) -> None:
    for name, bad in (("train.tsv", "x\tnew town\t\n"), ("dev.tsv", "x\tnew town\t \nx\told town\t\n")):
        (tmp_path / name).write_text(tiny.tsv(tiny.questions(12)) + bad)
    arguments = ["train", "classify", "train.tsv", "--dev", "dev.tsv", "-o", "m", "--epochs", "1", "--hidden",
                 "4", "--embed", "4", "--affix-embed", "0"]
    failed(run(*arguments), 3, "train.tsv:14: expected a label, found an empty cell; fill it, choose another "
                               "column with --label-column, or skip such records with --skip-unlabelled")
    done = run(*arguments, "--skip-unlabelled")
    assert done.code == 0, done.err
    assert "rnntool: train.tsv: skipped 1 record without a label\n" in done.err
    assert "rnntool: dev.tsv: skipped 2 records without a label\n" in done.err
    assert json.loads((tmp_path / "m/config.json").read_text())["report"]["records"] == 12
    # whether to skip is decided anew for each evaluation
    failed(run("evaluate", "-m", "m", "dev.tsv"), 3, "dev.tsv:14: expected a label")


def test_evaluate_skips_sentences_without_tags(
    tagger: Path, pos_file: Path, writer: Path, tmp_path: Path, run: Run
) -> None:
    file = tmp_path / "half.conllu"
    file.write_text(pos_file.read_text("utf-8") + "1\ta" + "\t_" * 8 + "\n\n", "utf-8")
    failed(run("evaluate", "-m", tagger, file), 3, "expected a tag in column 4, found '_'")
    done = run("evaluate", "-m", tagger, file, "--json", "--skip-unlabelled")
    whole = run("evaluate", "-m", tagger, pos_file, "--json")
    report = json.loads(done.out)
    assert report.pop("skipped") == 1 and report == json.loads(ok(whole))
    assert done.err == f"rnntool: {file}: skipped 1 record without a label\n"
    failed(run("evaluate", "-m", writer, pos_file, "-f", "text", "--skip-unlabelled"), 2,
           "--skip-unlabelled: the model tiny-writer was trained on text without labels")


def test_skipping_everything_leaves_nothing_to_learn_from(tmp_path: Path, run: Run) -> None:
    (tmp_path / "in.txt").write_text("some text\n")
    failed(run("train", "classify", "in.txt", "-o", "m"), 3, "in.txt:1: expected a label, found plain text")
    done = run("train", "classify", "in.txt", "-o", "m", "--skip-unlabelled")
    assert done.code == 3 and "in.txt: expected labeled texts, found none" in done.err
    failed(run("train", "lm", "in.txt", "-o", "m", "--skip-unlabelled"), 2,
           "--skip-unlabelled: needs --label-column")
