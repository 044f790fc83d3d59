"""`rnntool classify`: one line in, one line out."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
import tiny
from conftest import Run, environment, failed, jsonl, ok

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


@pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo-terminals")
def test_words_are_explained_in_color_on_a_terminal(classifier: Path, tmp_path: Path) -> None:
    (tmp_path / "in.tsv").write_text("text\tlabel\nwho did the baker teach ?\tplace\n")
    plain = f"{sys.executable} -m rnntool classify -m {classifier} --explain {tmp_path}/in.tsv"

    def shown(command: str, **more: str) -> str:
        """Run a command on a pseudo-terminal and return what it shows."""
        import pty

        output = bytearray()
        pid, descriptor = pty.fork()
        if pid == 0:
            env = environment(**more)
            if "NO_COLOR" not in more:
                del env["NO_COLOR"]
            os.execvpe("bash", ["bash", "-c", command], env)
        with contextlib.suppress(OSError):  # the other side is closed
            while data := os.read(descriptor, 1024):
                output += data
        os.waitpid(pid, 0)
        return output.decode()

    colors = shown(plain, TERM="xterm-256color")
    text = re.sub(r"\x1b\[[\d;]*m", "", colors).replace("\r\n", "\n")
    legend, answer = text.split("\n\n")
    assert legend.startswith("Words in color raise or lower the probability of the first label.")
    assert re.fullmatch(r"person [01]\.\d{4}  \(gold: place\)\nwho did the baker teach \?\n", answer)
    blue, orange = (re.search(rf"\x1b\[([\d;]+)m{words}", colors) for words in ("raise", "lower"))
    assert blue and orange
    assert blue[1] != orange[1]
    for uncolored in (shown(plain, TERM="xterm-256color", NO_COLOR="1"), shown(plain, TERM="dumb"),
                      shown(f"{plain} --to text", TERM="xterm-256color")):
        assert re.fullmatch(r"person\twho\(.\d\.\d{3}\) did\(.*", uncolored.strip())
