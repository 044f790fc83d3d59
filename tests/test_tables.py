"""Tables as people have them: no header row, other delimiters and encodings, other names of columns."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import tiny
from conftest import Ran, failed, invoke, jsonl, ok

from rnntool.data.formats import read_judgments, read_pairs, read_sentences, read_texts
from rnntool.data.reading import Layout, TableReading
from rnntool.data.records import Judgment, Pair, Text
from rnntool.data.streams import Lines, open_lines
from rnntool.errors import DataError, UsageError
from rnntool.tasks import TASKS
from rnntool.tokenize import split_words
from rnntool.training.job import Job


def lines_of(text: str, warnings: list[str] | None = None) -> Lines:
    lines = Lines(io.BytesIO(text.encode()), name="x")
    if warnings is not None:
        lines.warn = warnings.append
    return lines


def texts(text: str, format: str = "csv", warnings: list[str] | None = None, **options: Any) -> list[Text]:
    layout = Layout(**{name: options.pop(name) for name in ("text_column", "delimiter", "header")
                       if name in options})
    return list(read_texts(lines_of(text, warnings), format=format, layout=layout, **options))


# --- Header rows -------------------------------------------------------------------------------------------


def test_a_table_without_a_header_row_has_numbered_columns() -> None:
    got = texts("1,a b,x\n2,c,y\n", header=False, text_column="2", label_column="3")
    assert [(t.text, t.labels, t.fields, t.place) for t in got] == [
        ("a b", ("x",), {"1": "1", "text": "a b", "label": "x"}, "x:1"),
        ("c", ("y",), {"1": "2", "text": "c", "label": "y"}, "x:2")]
    assert [t.text for t in texts("a\n\nb\n", "tsv", header=False)] == ["a", "", "b"]
    assert texts("", header=False) == []
    for column in ("4", "text", "0"):
        with pytest.raises(DataError, match=rf"^x:1: expected a number from 1 to 3, .* found '{column}'"):
            texts("1,a b,x\n", header=False, text_column=column)
    with pytest.raises(DataError, match=r"^x:1: expected a column 'text', found 3 columns; choose one"):
        texts("1,a b,x\n", header=False)
    with pytest.raises(DataError, match=r"^x:2: expected 2 columns as in the first row, found 1"):
        texts("1,a\n2\n", header=False, text_column="2")


@pytest.mark.parametrize(("text", "options", "warned"), [
    ("pos,great\nneg,bad\n", {"text_column": "2", "label_column": "1"}, True),
    ("pos,great\nneg,bad\n", {"default_text_column": "2", "default_label_column": "1"}, True),
    ("great\nbad\n", {}, True),
    ("a,text\nneg,bad\n", {"text_column": "2", "label_column": "1"}, False),
    ("a,b\nneg,bad\n", {"text_column": "2", "label_column": "a"}, False),
    ("a,b\nneg,bad\n", {"text_column": "b"}, False),
    ("label,b\nneg,bad\n", {"text_column": "2"}, False),
])  # fmt: skip
def test_a_first_row_is_never_taken_for_a_header_silently(text: str, options: Any, warned: bool) -> None:
    warnings: list[str] = []
    assert len(texts(text, warnings=warnings, **options)) == 1
    assert [w.startswith("x:1: read as the header row: '") for w in warnings] == [True] * warned


def test_a_classifier_trains_and_runs_without_headers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = tiny.questions(30)
    (tmp_path / "plain.csv").write_text("".join(f"{label};{text}\n" for text, label in rows))
    (tmp_path / "named.tsv").write_text("label\ttext\n" + "".join(f"{b}\t{a}\n" for a, b in rows))
    small = [f"--{key.replace('_', '-')}={value}" for key, value in tiny.SETTINGS["classify"].items()]
    columns = ["--no-header", "--delimiter", ";"]
    given = ["--text-column", "2", "--label-column", "1"]
    ok(invoke("train", "classify", "plain.csv", "-o", "plain", *columns, *given, *small, "-q", "--epochs=1"))
    ok(invoke("train", "classify", "named.tsv", "-o", "named", *small, "-q", "--epochs=1"))
    answers = ok(invoke("classify", "-m", "named", "named.tsv", "--probs"))
    assert ok(invoke("classify", "-m", "plain", "plain.csv", *columns, "--probs")) == answers
    other = ["classify", "-m", "named", "plain.csv", *columns, "--text-column", "2", "--probs"]
    assert ok(invoke(*other)) == answers
    report = json.loads(ok(invoke("evaluate", "plain.csv", "-m", "plain", "--json", *columns)))
    assert report["records"] == len(rows)
    (tmp_path / "raw.txt").write_text("a;b c\nd\n")  # neither a table nor without a header
    small += ["-q", "--epochs=1", "--raw", "raw.txt"]
    ok(invoke("train", "classify", "plain.csv", "-o", "raw", *columns, *given, *small))
    records = jsonl(ok(invoke("classify", "-m", "plain", "plain.csv", *columns, "--jsonl")))
    assert (records[0]["text"], records[0]["input_label"]) == rows[0]


# --- Delimiters --------------------------------------------------------------------------------------------


def test_any_character_can_separate_columns() -> None:
    for delimiter in ";|\t:~":
        text = f'text{delimiter}n\n"a, b{delimiter}c"{delimiter}1\n'
        assert texts(text, delimiter=delimiter)[0].text == f"a, b{delimiter}c"
    assert texts("a|b\n", "tsv", delimiter="|", header=False, text_column="2")[0].text == "b"
    assert TableReading(delimiter="tab").delimiter == TableReading(delimiter="\\t").delimiter == "\t"
    for wrong in ("", "ab", '"', "\n"):
        with pytest.raises(UsageError, match="expected one character, or the word tab"):
            TableReading(delimiter=wrong)


@pytest.mark.parametrize(("header", "message"), [
    ("Frage;Klasse", r"separated by commas, found semicolons; set delimiter=';'$"),
    ("a;b;c", "found semicolons"), ('"Frage";"Klasse"', r"quotes of this row, or set delimiter=';'$"),
])  # fmt: skip
def test_semicolons_are_recognized_without_the_names_of_columns(header: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        texts(f"{header}\nwho ?;x\n")
    assert texts("a;b\nc\n", delimiter=",")[0].text == "c"


def test_table_options_need_a_table(classifier: Path, tmp_path: Path) -> None:
    for option in (["--delimiter", ";"], ["--no-header"]):
        flag = option[0]
        failed(invoke("classify", "-m", classifier, "--from", "text", *option, input="a\n"), 2,
               f"<stdin>: {flag}: expected files in tsv or csv, found text")
    for command in (["tokenize"], ["generate"]):
        assert invoke(*command, "--no-header").code == 2
    table = "id;text\n1;who ?\n"  # a delimiter says so
    assert ok(invoke("classify", "-m", classifier, "--delimiter", ";", input=table)) == "person\n"


# --- Encodings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("encoding", "text"), [
    ("cp1252", "„Käse“ 5 €\r\nx\n"), ("latin-1", "é\x85\n"), ("utf-16", "é\u2028\U0001d4b3\r\nü\n\n"),
    ("utf-16-le", "\ufeffé\u0a0a\n"), ("utf-16-be", "é\u0a0a\u0d0a\n"), ("utf-32", "a\n"), ("utf-8", "é\n"),
    ("shift_jis", "日本\n語"), ("koi8-r", "да\n"), ("UTF8", "é"),
])  # fmt: skip
def test_any_encoding_is_read(encoding: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(text.encode(encoding))
    encoding = TableReading(encoding=encoding).encoding
    with open_lines(tmp_path / "x", encoding=encoding) as lines:
        assert "".join(lines) == text.removeprefix("\ufeff")
        assert lines.number == text.count("\n") + (not text.endswith("\n"))


def test_invalid_bytes_are_told_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"good\n\x93ok\x94\nbad \x81\nrest\n")
    lines = open_lines(tmp_path / "x", encoding="cp1252")
    assert [next(iter(lines)) for _ in range(2)] == ["good\n", "“ok”\n"]
    with pytest.raises(DataError, match=r"x:3: expected .*, found 0x81; check encoding, or set encoding_e"):
        next(iter(lines))
    with open_lines(tmp_path / "x", encoding="cp1252", errors="replace") as lines:
        assert "".join(lines) == "good\n“ok”\nbad \ufffd\nrest\n"
    for name in ("cp99999", "base64", "rot13", ""):
        with pytest.raises(UsageError, match="encoding: expected the name of an encoding"):
            TableReading(encoding=name)


def test_commands_read_encodings(tagger: Path, classifier: Path, writer: Path, tmp_path: Path) -> None:
    for encoding in ("cp1252", "utf-16"):
        (tmp_path / "x.csv").write_bytes("text\nwhere did the rüler jump ?\n".encode(encoding))
        file = tmp_path / "x.csv"
        assert ok(invoke("classify", "-m", classifier, file, "--encoding", encoding)) == "place\n"
        assert "rüler" in ok(invoke("tokenize", "--encoding", encoding, file))
        assert "rüler" in ok(invoke("tag", "-m", tagger, file, "--encoding", encoding))
        failed(invoke("classify", "-m", classifier, file), 3, "expected UTF-8", "--encoding")
        assert invoke("score", "-m", writer, "-q", file, "--encoding", encoding).code == 0


# --- Columns -----------------------------------------------------------------------------------------------


@pytest.fixture
def sentence_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A classifier whose training table had a column `sentence`."""
    monkeypatch.chdir(tmp_path)
    rows = enumerate([("sentence", "label"), *tiny.questions(40)])
    (tmp_path / "train.tsv").write_text("".join(f"{label}\t{text}\t{i}\n" for i, (text, label) in rows))
    small = [f"--{key.replace('_', '-')}={value}" for key, value in tiny.SETTINGS["classify"].items()]
    ok(invoke("train", "classify", "train.tsv", "-o", "m", "--text-column", "sentence", *small, "-q"))
    return "m"


def test_another_table_may_have_another_text_column(sentence_model: str) -> None:
    def classify(text: str, *options: str) -> Ran:
        return invoke("classify", "-m", sentence_model, *options, input=text)

    assert ok(classify("id,sentence,text\n1,who ?,where ?\n", "--from", "csv")) == "person\n"
    done = classify("id,text\n1,who ?\n", "--from", "csv")
    assert (done.code, done.out) == (0, "person\n")
    assert done.err == ("rnntool: <stdin>:1: no column 'sentence', which training used, so texts are read "
                        "from column 'text'; choose another one with --text-column\n")
    failed(classify("id,body\n1,who ?\n", "--from", "csv"), 3,
           "<stdin>:1: expected a column 'sentence' (used in training) or 'text', found 'id', 'body'")
    failed(classify("id,text\n1,who ?\n", "--from", "csv", "--text-column", "sentence"), 3,
           "expected a column 'sentence' in the header row")
    done = classify('{"text": "who ?"}\n{"sentence": "where ?"}\n{"text": "who ?"}\n', "--from", "jsonl")
    assert (done.code, done.out) == (0, "person\nplace\nperson\n")
    assert done.err.count("\n") == 1 and "<stdin>:1: no key 'sentence', which training used" in done.err
    # training and evaluation are strict
    done = invoke("evaluate", "-", "-m", sentence_model, "--from", "csv", input="text,label\na,person\n")
    assert done.code == 3


def test_the_text_of_a_table_is_tagged(tagger: Path, ner: Path) -> None:
    table = 'id,body\n7,"the baker sings ."\n\n8,\n'
    first, second = jsonl(ok(invoke(
        "tag", "-m", tagger, "--from", "csv", "--text-column", "body", input=table)))
    assert first == {
        "id": "7", "body": "the baker sings .", "tokens": ["the", "baker", "sings", "."],
        "tags": ["DET", "NOUN", "VERB", "PUNCT"], "offsets": [[0, 3], [4, 9], [10, 15], [16, 17]]}
    assert (second["id"], second["tokens"]) == ("8", [])
    inline = ok(invoke("tag", "-m", tagger, "--from", "csv", "--text-column", "2", "--to", "inline", "-q",
                       input=table))
    assert inline == "the_DET baker_NOUN sings_VERB ._PUNCT\n\n"
    failed(invoke("tag", "-m", tagger, "--from", "csv", input=table), 3, "expected a column 'text'")
    failed(invoke("tag", "-m", tagger, "--from", "conll", "--text-column", "body", input="a\n\n"), 2,
           "--text-column: expected files in jsonl, tsv or csv")
    (record,) = jsonl(ok(invoke("tag", "-m", ner, "--from", "csv", input="text\nAnna Berg\n")))
    assert record["entities"][0]["text"] == "Anna Berg" and record["entities"][0]["score"] > 0
    nested = '{"data": {"a": "the"}}'
    (record,) = jsonl(ok(invoke("tag", "-m", tagger, "--text-column", "data.a", input=nested)))
    assert (record["tokens"], record["data"]) == (["the"], {"a": "the"})


def test_a_table_of_words_and_tags_is_conll(tagger: Path, tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text("the\tDET\nbaker\tNOUN\n\nthe\tDET\n")
    done = invoke("tag", "-m", tagger, tmp_path / "x.tsv", "-q")
    assert ok(done).startswith("the\tDET\tDET\nbaker\tNOUN\tNOUN\n\n")
    with pytest.raises(DataError, match="expected words with tags, found csv"):
        read_sentences(lines_of("text\na\n"), format="csv", split=split_words, need_tags=True)


# --- Pairs and judgments -----------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["grammatical\tungrammatical", "Good\tBad", "sentence1\tsentence2"])
def test_any_header_of_pairs_is_told(header: str) -> None:
    rows = "The keys are here .\tThe keys is here .\n"
    good, bad = header.split("\t")
    names, no_header = f"{good},{bad}", Layout(header=False)
    text = f"{header}\n{rows}"
    with pytest.raises(DataError, match=rf"^x:1: expected two sentences, .* set columns={names}, or if"):
        list(read_pairs(lines_of(text), format="tsv"))
    with pytest.raises(DataError, match=r"^x:1: expected two sentences"):
        list(read_pairs(lines_of(text), format="tsv", columns=("2", "1")))
    assert len(list(read_pairs(lines_of(text), format="tsv", columns=(good, bad)))) == 1
    assert len(list(read_pairs(lines_of(text), format="tsv", layout=no_header))) == 2
    words = list(read_pairs(lines_of(f"{header}\nkey\tkye\n"), format="tsv"))  # pairs of words
    assert words[0] == Pair(good, bad, None, "x:1")


def test_pairs_and_judgments_with_other_delimiters() -> None:
    (pair,) = read_pairs(lines_of("a b;c d\n"), format="csv", layout=Layout(delimiter=";"))
    assert (pair.good, pair.bad) == ("a b", "c d")
    lines = lines_of("a;b;c\na;b;7.5\n")  # the first row is a header
    (judgment,) = read_judgments(lines, format="csv", layout=Layout(delimiter=";"))
    assert judgment == Judgment("a", "b", 7.5)
    with pytest.raises(DataError, match=r"^x:1: expected a number as the score, found 'c'"):
        list(read_judgments(lines_of("a,b,c\n"), format="csv", layout=Layout(header=False)))


def test_reading_options_are_resumed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    reading = TableReading(encoding="cp1252", no_header=True)
    job = Job(task="lm", train=[], dev=[], settings=TASKS["lm"].settings(), reading=reading)
    path = tmp_path / "m" / "resume" / "job.json"
    path.parent.mkdir(parents=True)
    job.save(path, {})
    (path.parent / "state.json").write_text("{}")
    assert Job.load(path)[0].reading == reading
    failed(invoke("train", "lm", "-o", "m", "--resume", "--encoding", "cp1252", "--no-header"), 2,
           "leave out --encoding, --no-header")
    saved = json.loads(path.read_text())
    del saved["reading"]
    path.write_text(json.dumps(saved | {"encoding_errors": "replace"}))  # as before there were others
    assert Job.load(path)[0].reading == TableReading(encoding_errors="replace")
