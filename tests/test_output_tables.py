"""Tables as output: the columns of the input, the answers beside them, and a row for each record."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import failed, invoke, jsonl, ok

from rnntool.data.formats import read_texts, record_writer
from rnntool.data.streams import Lines

ODD = [  # id, text and comment of records
    ("1", "where, in which town ?", 'a "b"'),
    ("2", "who\nis it ?", "x\ny"),
    ("3", "", "a\rb"),
    ("4", "=1+1", " spaces "),
]


def table(output: str, delimiter: str = ",") -> list[dict[str, str]]:
    if delimiter == "\t":
        return list(csv.DictReader(io.StringIO(output, newline=""), delimiter="\t", quoting=csv.QUOTE_NONE))
    return list(csv.DictReader(io.StringIO(output, newline=""), strict=True))


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    path = tmp_path / "odd.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("id", "text", "comment"), *ODD])
    return path


# --- Each command ------------------------------------------------------------------------------------------


def test_classify_keeps_all_columns(classifier: Path, odd: Path, tmp_path: Path) -> None:
    expected = jsonl(ok(invoke("classify", "-m", classifier, odd, "--jsonl")))
    output = ok(invoke("classify", "-m", classifier, odd, "--to", "csv"))
    rows = table(output)
    assert [(row["id"], row["text"], row["comment"]) for row in rows] == ODD
    assert [row | {"prob": float(row["prob"])} for row in rows] == expected
    assert output.startswith("id,text,comment,label,prob\n")
    ok(invoke("classify", "-m", classifier, odd, "-o", tmp_path / "out.csv"))
    assert (tmp_path / "out.csv").read_bytes().decode() == output
    tsv = ok(invoke("classify", "-m", classifier, odd, "--to", "tsv"))  # it has no quotes
    assert [row["text"] for row in table(tsv, "\t")] == [text.replace("\n", " ") for _, text, _ in ODD]
    assert len(tsv.split("\n")) == len(ODD) + 2 and "\r" not in tsv
    assert ok(invoke("classify", "-m", classifier, "--from", "csv", "--to", "csv", input=output)).startswith(
        "id,text,comment,input_label,input_prob,label,prob\n")


@pytest.mark.parametrize("command", [
    "classify -m classifier", "classify -m classifier --top 2", "classify -m classifier --explain",
    "tag -m tagger --text-column text", "tag -m tagger --text-column text --probs",
    "tag -m ner --text-column text", "score -m writer", "score -m writer --per word",
    "transduce -m transducer", "transduce -m transducer --n-best 2", "score -m transducer",
])
@pytest.mark.parametrize("to", ["csv", "tsv"])
def test_a_table_without_rows_keeps_its_header(
    command: str, to: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    empty, one = tmp_path / "empty.csv", tmp_path / "one.csv"
    empty.write_text("id,text,label,source,target\n")
    one.write_text("id,text,label,source,target\n1,the baker,x,fade,e d a f\n")
    arguments = [str(request.getfixturevalue(part)) if i == 2 else part
                 for i, part in enumerate(command.split())]
    header = ok(invoke(*arguments, empty, "--to", to))
    assert header.endswith("\n") and header.count("\n") == 1
    assert ok(invoke(*arguments, one, "--to", to)).startswith(header)
    assert invoke(*arguments, empty, "--to", "jsonl").out == ""


@pytest.mark.parametrize("cell", ["a\rb", "a\r\nb", "a\n", '"', "", "a,b"])
def test_any_cell_of_csv_is_read_back(cell: str) -> None:
    written = record_writer("csv")({"text": cell, "n": "1"}, {}, "x:1")
    assert [row["text"] for row in table(written)] == [cell]
    (again,) = read_texts(Lines(io.BytesIO(written.encode()), name="x"), format="csv")
    assert again.text == cell


def test_text_and_json_become_tables(classifier: Path) -> None:
    command = ["classify", "-m", classifier, "--to", "csv"]
    (first, second) = table(ok(invoke(*command, input="where, oh where ?\n\n")))
    assert list(first) == ["text", "label", "prob"]
    assert (first["text"], second["text"]) == ("where, oh where ?", "")
    records = '{"text": "who ?", "n": 1, "list": ["a", null], "ok": true}\n{"text": "when ?", "n": null}\n'
    rows = table(ok(invoke(*command, input=records)))
    assert [list(row.values())[1:4] for row in rows] == [["1", '["a", null]', "true"], ["", "", ""]]
    ran = invoke(*command, input=records + '{"text": "a", "new": 1}\n')
    assert (ran.code, len(table(ran.out))) == (3, 2)
    assert ran.err.endswith("<stdin>:3: expected the same columns as in the first record, found 'new'; "
                            "write JSONL: --to jsonl\n")
    (row,) = table(ok(invoke(*command, "--top", "2", "--explain", input="who sings ?\n")))
    assert json.loads(row["labels"])[0]["label"] == row["label"]
    assert [word["token"] for word in json.loads(row["explain"])] == ["who", "sings", "?"]


def test_tag_writes_tables(tagger: Path, ner: Path, odd: Path) -> None:
    (row,) = table(ok(invoke("tag", "-m", tagger, "--to", "csv", "--probs", input="the baker sings .\n")))
    assert row["text"] == row["tokens"] == "the baker sings ."
    assert row["tags"] == "DET NOUN VERB PUNCT" and len(row["probs"].split(" ")) == 4
    rows = table(ok(invoke("tag", "-m", tagger, odd, "--to", "csv", "--column", "upos")))
    assert [(row["id"], row["text"], row["comment"]) for row in rows] == ODD
    assert [len(row["upos"].split()) for row in rows] == [len(row["tokens"].split()) for row in rows]
    tokens = '{"tokens": ["New York", "sleeps"], "tags": ["X", "Y"]}'
    (row,) = table(ok(invoke("tag", "-m", tagger, "--to", "csv", input=tokens)))
    assert row["tokens"] == "New\xa0York sleeps" and json.loads(row["input_tags"]) == ["X", "Y"]
    rows = table(ok(invoke("tag", "-m", ner, "--to", "csv", input="\nAnna Berg sings in Paris\n")))
    assert [list(row) for row in rows] == [["text", "tokens", "tags", "entities"]] * 2
    assert rows[0]["entities"] == "[]"
    failed(invoke("tag", "-m", ner, "--to", "csv", "--nbest", "2", input="a\n"), 2, "--nbest")


def test_a_tagged_table_is_still_jsonl_by_default(tagger: Path, odd: Path) -> None:
    assert [record["id"] for record in jsonl(ok(invoke("tag", "-m", tagger, odd)))] == ["1", "2", "3", "4"]


def test_score_writes_tables(writer: Path, odd: Path, tmp_path: Path) -> None:
    expected = jsonl(ok(invoke("score", "-q", "-m", writer, odd, "--jsonl")))
    rows = table(ok(invoke("score", "-q", "-m", writer, odd, "--to", "csv")))
    numbers = ("log_prob", "n_tokens", "unknown", "perplexity", "surprisal_bits")
    assert [row | {name: float(row[name]) for name in numbers} for row in rows] == expected
    per_word = ["score", "-q", "-m", writer, odd, "--per", "word"]
    text = ok(invoke(*per_word))
    assert ok(invoke(*per_word, "--to", "tsv")) == text
    rows = table(ok(invoke(*per_word, "--to", "csv")))
    assert [list(row.values()) for row in rows if "\n" not in row["text"]] == [
        line.split("\t") for line in text.splitlines()[1:] if "\\n" not in line]
    pairs = "good\tbad\tUID\nthe baker\tthe the\ta\n"
    (row,) = table(ok(invoke("score", "-q", "-m", writer, "--pairs", "--columns", "good,bad", "--to", "csv",
                             input=pairs)))
    assert list(row) == ["good", "bad", "UID", "log_prob_good", "log_prob_bad", "right"]
    assert row["right"] in ("true", "false")
    failed(invoke("score", "--pairs", "--json", "--to", "csv"), 2, "--json contradicts --to")


@pytest.mark.parametrize(("record", "results", "columns"), [
    ({"a": 1}, {"b": 2}, ["a", "b"]),
    ({"a": 1, "b": 0}, {"b": 2}, ["a", "input_b", "b"]),
    ({"b": 1, "input_b": 0}, {"b": 2}, ["input_input_b", "input_b", "b"]),
])  # fmt: skip
def test_no_column_is_lost(record: dict[str, Any], results: dict[str, Any], columns: list[str]) -> None:
    header, row = record_writer("csv")(record, results, "x:1").splitlines()
    assert header.split(",") == columns
    assert row.split(",") == [str(value) for value in (*record.values(), *results.values())]


# --- Tables on standard input ------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["label\ttext", "id,text,label", 'text,"label"'])
def test_the_header_of_training_makes_standard_input_a_table(classifier: Path, header: str) -> None:
    cells = header.replace("\t", ",").split(",")
    separator = "\t" if "\t" in header else ","
    row = separator.join("where ?" if cell == "text" else "x" for cell in cells)
    ran = invoke("classify", "-m", classifier, input=f"{header}\n{row}\n")
    format = "tsv" if separator == "\t" else "csv"
    assert (ran.code, ran.out) == (0, "place\n")
    assert ran.err == f"rnntool: <stdin>: read as {format}, a guess; confirm it with --from {format}\n"


@pytest.mark.parametrize("line", ["text", "the text, the label", "text, label", "id,text"])
def test_other_first_lines_are_text(classifier: Path, line: str) -> None:
    ran = invoke("classify", "-m", classifier, input=f"{line}\nwhere ?\n")
    assert (ran.code, len(ran.out.splitlines())) == (0, 2)
