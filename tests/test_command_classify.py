"""`rnntool classify`: one line in, one line out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tiny
from conftest import Run, failed, jsonl, ok

QUESTIONS = "who did the baker sing ?\n\nwhen did the teacher work ?"


def test_classify_lines(classifier: Path, run: Run) -> None:
    plain = ok(run("classify", "-m", classifier, input=QUESTIONS)).splitlines()
    assert (plain[0], plain[2], len(plain)) == ("person", "time", 3)
    assert ok(run("classify", "-m", classifier, input=QUESTIONS + "\n")).splitlines() == plain
    rows = [line.split("\t") for line in
            ok(run("classify", "-m", classifier, "--probs", "--top", "3", input=QUESTIONS)).splitlines()]
    assert [row[0] for row in rows] == plain
    for row in rows:
        assert sorted(row[::2]) == ["person", "place", "time"]
        probs = list(map(float, row[1::2]))
        assert probs == sorted(probs, reverse=True)
        assert sum(probs) == pytest.approx(1, abs=2e-4)
    none = ok(run("classify", "-m", classifier, "--threshold", "1", "--none-label", "?", input=QUESTIONS))
    assert none == "?\n?\n?\n"


def test_a_label_of_several_lines_stays_on_one(classifier: Path, run: Run, tmp_path: Path) -> None:
    shutil.copytree(classifier, tmp_path / "model")
    labels = tmp_path / "model" / "labels.txt"
    labels.write_text(labels.read_text("utf-8").replace("person", "some\\none\tor other"), "utf-8")
    tiny.forget_digests(tmp_path / "model")
    assert ok(run("classify", "-m", "model", input=QUESTIONS)).splitlines()[0] == "some one or other"
    assert jsonl(ok(run("classify", "-m", "model", "--jsonl", input=QUESTIONS)))[0]["label"] == (
        "some\none\tor other")


def test_classify_jsonl_carries_the_fields(classifier: Path, run: Run, tmp_path: Path) -> None:
    question = {"id": 7, "text": "where did the ruler jump ?", "nested": {"a": [1]}}
    records = [question, {"id": 8, "text": "é\u2028"}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    text = ok(run("classify", "-m", classifier, "in.jsonl", "--jsonl", "--top", "2"))
    out = jsonl(text.replace("\u2028", " "))
    assert [(r["id"], r.get("nested")) for r in out] == [(7, {"a": [1]}), (8, None)]
    assert out[0]["label"] == "place"
    assert out[0]["labels"][0]["label"] == "place"
    assert 0.5 < out[0]["prob"] <= 1


def test_classify_a_table(classifier: Path, question_file: Path, run: Run) -> None:
    gold = [line.split("\t")[2] for line in question_file.read_text("utf-8").splitlines()[1:]]
    assert ok(run("classify", "-m", classifier, question_file)).splitlines() == gold
    failed(run("classify", "-m", classifier, question_file, "--text-column", "body"), 3,
           f"{question_file}:1: expected a column 'body'", "'text'", "--text-column")


@pytest.mark.parametrize("lines", ["id\tbody\n1\twho sings ?\n", "__label__person who sings ?\n"])
def test_text_column_needs_a_format_with_columns(lines: str, classifier: Path, run: Run) -> None:
    done = run("classify", "-m", classifier, "--text-column", "body", input=lines)
    found = "text" if lines.startswith("id") else "fasttext"
    failed(done, 2, "<stdin>: --text-column: expected files in jsonl, tsv or csv, "
                    f"found {found}; leave it out, or name the format with --from")
    assert done.out == ""
    assert ok(run("classify", "-m", classifier, "--text-column", "body", input="")) == ""
