"""`rnntool score`: lines, surprisals, minimal pairs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Run, failed, jsonl, ok


def test_score_lines(writer: Path, run: Run) -> None:
    text = "the baker sings .\n\nthe the\n"
    rows = [line.split("\t") for line in ok(run("score", "-m", writer, input=text)).splitlines()]
    assert [int(row[2]) for row in rows] == [18, 1, 8]
    assert all(float(row[0]) < 0 < float(row[1]) for row in rows)
    stream = ok(run("score", "-m", writer, "--context", "stream", input=text)).splitlines()
    assert len(stream) == 3
    assert stream[0].split("\t")[2] == "18"
    assert stream[2].split("\t")[0] != rows[2][0], "what came before counts"
    records = jsonl(ok(run("score", "-m", writer, "--jsonl", "--per", "token", input=text)))
    assert [r["n_tokens"] for r in records] == [18, 1, 8]
    assert [f"{r['log_prob']:.4f}" for r in records] == [row[0] for row in rows]
    assert records[2]["unknown"] == 0
    for record in records:
        bits = [unit["surprisal_bits"] for unit in record["surprisals"]]
        assert record["surprisal_bits"] == pytest.approx(sum(bits), abs=1e-4)


@pytest.mark.parametrize("per", ["token", "word"])
def test_score_surprisals(per: str, writer: Path, run: Run) -> None:
    text = "the  baker\tsings"
    done = run("score", "-m", writer, "-q", "--per", per, input=f"{text}\n\n{text}")
    header, *rows = ok(done).splitlines()
    assert header == "record\tstart\tend\ttext\tsurprisal_bits"
    cells = [row.split("\t") for row in rows]
    assert [c[3] for c in cells if c[0] == "2"] == ["</s>"]
    first, third = ([c[1:] for c in cells if c[0] == number] for number in "13")
    assert first == third
    for start, end, surface, bits in first[:-1]:
        assert text[int(start) : int(end)].replace("\t", "\\t") == surface
        assert float(bits) >= 0
    if per == "word":
        assert [c[2] for c in first] == ["the", "baker", "sings", "</s>"]


def test_score_warns_of_unknown_tokens(writer: Path, run: Run) -> None:
    done = run("score", "-m", writer, input="the ZZ\nthe\n")
    assert done.code == 0
    assert done.err == ("rnntool: tokens that tiny-writer has never seen: 2 of 9; all such tokens are scored "
                        "as the same unknown token\n")
    assert ok(run("score", "-m", writer, "-q", input="the ZZ\nthe\n")) == done.out


def test_score_pairs(writer: Path, run: Run) -> None:
    pairs = "the baker sings .\teht rekab sgnis .\nzzzz\tthe baker\n"
    done = run("score", "-m", writer, "--pairs", input=pairs)
    assert (done.code, done.out) == (0, "accuracy\t0.5000\npairs\t2\n")
    assert done.err == ("rnntool: pairs with tokens that tiny-writer has never seen: 1; all such tokens are "
                        "scored as the same unknown token\n")
    assert ok(run("score", "-m", writer, "--pairs", "-q", input=pairs)) == done.out
    blimp = [{"sentence_good": g, "sentence_bad": b, "UID": u} for u, g, b in
             [("x", "the baker sings .", "baker the .sings"), ("y", "ppp", "the ")]]  # fmt: skip
    text = "".join(json.dumps(pair) + "\n" for pair in blimp)
    report = json.loads(ok(run("score", "-m", writer, "--pairs", "--json", "-q", input=text)))
    assert report == {"pairs": 2, "accuracy": 0.5, "per_phenomenon": {"x": 1.0, "y": 0.0},
                      "by": {"UID": {"x": {"pairs": 1, "accuracy": 1.0}, "y": {"pairs": 1, "accuracy": 0.0}}}}
    failed(run("score", "-m", writer, "--pairs", input="one sentence only\n"), 3,
           "<stdin>:1: expected 2 columns")
    failed(run("score", "-m", writer, "--pairs", "--per", "word"), 2, "--pairs")


def test_options_without_effect_are_errors(writer: Path, run: Run) -> None:
    failed(run("score", "-m", writer, "--text-column", "body", input="id\tbody\n1\tthe baker\n"), 2,
           "<stdin>: --text-column: expected files in jsonl, tsv or csv, found text")
    failed(run("score", "-m", writer, "--pairs", "--json", "--jsonl", input="the\ta\n"), 2,
           "--json contradicts --jsonl; leave one out")
