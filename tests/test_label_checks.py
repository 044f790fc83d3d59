"""Warnings about labels that are probably none, and messages about columns that don't exist."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
from conftest import failed, invoke

from rnntool.data.label_checks import odd_labels

ID = "all 40 labels occur only once, and they are numbers that count up, as in a column of ids"


@pytest.mark.parametrize(("labels", "message"), [
    ([str(1000 + 3 * i) for i in range(40)], ID),
    ([f"{i * 7919 % 1000:x}" for i in range(40)], "all 40 labels occur only once, as in a column of ids"),
    ([f"this is text {i}" for i in range(40)],
     "all 40 labels occur only once, and they look like free text"),
    ([f"this is text {i}" for i in range(38)] + ["good"] * 2,
     "38 of 39 labels occur only once, and they look like free text"),
    ([f"t{i}" for i in range(10)] + ["a", "b"] * 50, "10 of 12 labels occur only once"),
    (["a"] * 198 + ["b"] * 2, "198 of 200 records have the label 'a', so there is little to learn"),
    (["a"] * 197 + ["b"] * 3, None),
    (["a"] * 200, None),  # learning is an error then
    (["a", "b", "c", "d"], None),  # too few to say
    ([f"t{i}" for i in range(10)] * 2 + ["x"] * 5, None),
    ([str(i) for i in range(1, 6)] * 8, None),  # stars
    ([], None),
])  # fmt: skip
def test_labels_that_are_probably_none(labels: list[str], message: str | None) -> None:
    assert odd_labels([label] for label in labels) == message


def test_texts_without_labels_are_not_odd() -> None:
    assert odd_labels([("a", "b"), (), ("a",), ()]) is None
    assert odd_labels([()] * 200) is None
    assert odd_labels([("a", "b"), ("a", "c")] * 200) is None


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "train.tsv"
    rows = [f"{i}\t{label}\t{text}\n" for i, (text, label) in enumerate(tiny.questions(40))]
    path.write_text("number\tlabel\ttext\n" + "".join(rows))
    return path


def train(task: str, file: Path, *options: object) -> str:
    small = [f"--{key.replace('_', '-')}={value}" for key, value in tiny.SETTINGS[task].items()]
    ran = invoke("train", task, file, "-o", file.parent / "model", *small, "--epochs=1", *options)
    assert ran.code == 0, ran.err
    return ran.err


@pytest.mark.parametrize("task", ["classify", "lm"])
def test_training_on_ids_warns(table: Path, task: str) -> None:
    message = f"{table}: {ID}; if they are not in 'number', choose their column with --label-column\n"
    options = ["--text-column", "text"]
    assert message in train(task, table, *options, "--label-column", "number")
    assert "occur only once" not in train(task, table, *options, "--label-column", "label", "--force")


def test_the_share_of_a_label_is_that_of_the_whole_file(tmp_path: Path) -> None:
    file = tmp_path / "train.ft"
    file.write_text("__label__a a b c\n" * 198 + "__label__b a b\n" * 2)  # of which some become dev data
    message = "198 of 200 records have the label 'a', so there is little to learn; check them"
    assert f"{file}: {message}\n" in train("classify", file)


@pytest.mark.parametrize("missing", ["NaN", "nan", "null"])
def test_a_label_that_is_a_missing_value_is_said_once(table: Path, missing: str) -> None:
    lines = table.read_text().splitlines()
    for i in (2, 5):
        number, _, text = lines[i].split("\t")
        lines[i] = f"{number}\t{missing}\t{text}"
    table.write_text("\n".join(lines) + "\n")
    error = train("classify", table, "--label-column", "label")
    assert error.count(f"{table}:3: the label is the text {missing!r}; if it stands for a missing label, "
                       "empty such cells and set --skip-unlabelled\n") == error.count("missing label") == 1


@pytest.mark.parametrize(("option", "column", "advice"), [
    ("--label-column", "lable", "did you mean 'label'?"),
    ("--label-column", "LABELS", "did you mean 'label'?"),
    ("--text-column", "txt", "did you mean 'text'?"),
    ("--label-column", "sentiment", "choose one with --label-column, or rename one"),
])  # fmt: skip
def test_a_missing_column_is_guessed(table: Path, option: str, column: str, advice: str) -> None:
    failed(invoke("train", "classify", table, "-o", table.parent / "m", option, column), 3,
           f"train.tsv:1: expected a column '{column}' in the header row, found 'number', 'label', 'text'; "
           + advice)


def test_a_missing_key_is_guessed(tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    file.write_text('{"text": "a", "category": "b"}\n' * 2)
    failed(invoke("train", "classify", file, "-o", tmp_path / "m", "--label-column", "catgory"), 3,
           "train.jsonl:1: expected a key 'catgory', found 'text', 'category'; did you mean 'category'?")
    failed(invoke("train", "classify", file, "-o", tmp_path / "m"), 3, "choose a key with --label-column")
