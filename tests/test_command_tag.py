"""`rnntool tag`: every input and output format, one record out for each record in."""

from __future__ import annotations

import json
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from conftest import Run, bash, failed, invoke, jsonl, ok

LINES = "the baker sings .\n\nthe workful baker paints the teacher .\n"
TAGS = ["DET NOUN VERB PUNCT", "", "DET ADJ NOUN VERB DET NOUN PUNCT"]


def test_tag_raw_text_gives_columns(tagger: Path, run: Run) -> None:
    out = ok(run("tag", "-m", tagger, input="the baker sings.\n\nthe\n"))
    assert out == "the\tDET\nbaker\tNOUN\nsings\tVERB\n.\tPUNCT\n\n\nthe\tDET\n\n"


@pytest.mark.parametrize("end", ["", "\n"])
def test_tag_tokens_keeps_blank_lines_and_needs_no_last_newline(end: str, tagger: Path, run: Run) -> None:
    out = ok(run("tag", "-m", tagger, "--from", "tokens", input=LINES.rstrip("\n") + end))
    assert out == "".join(f"{tags}\n" for tags in TAGS)


def test_tag_inline_jsonl_and_html(tagger: Path, run: Run) -> None:
    inline = ok(run("tag", "-m", tagger, "--to", "inline", input=LINES))
    assert inline.splitlines()[:2] == ["the_DET baker_NOUN sings_VERB ._PUNCT", ""]
    first, blank, _ = jsonl(ok(run("tag", "-m", tagger, "--jsonl", "--probs", "--nbest", "2", input=LINES)))
    assert (first["text"], first["tags"]) == ("the baker sings .", TAGS[0].split())
    assert first["offsets"] == [[0, 3], [4, 9], [10, 15], [16, 17]]
    assert len(first["probs"]) == 4
    assert [best["tags"] == first["tags"] for best in first["nbest"]] == [True, False]
    assert blank["tags"] == []
    came_in = json.dumps({"tokens": first["tokens"]})
    assert json.loads(ok(run("tag", "-m", tagger, "--nbest", "2", input=came_in)))["nbest"] == first["nbest"]
    failed(run("tag", "-m", tagger, "--nbest", "2", input=LINES), 2,
           "--nbest: the format conll can hold only one sequence")
    html = ok(run("tag", "-m", tagger, "-t", "html", input=LINES))
    HTMLParser().feed(html)
    assert html.startswith("<!DOCTYPE html>")
    assert html.endswith("</html>\n")
    assert html.count("<p>") == 3


def test_entities_have_a_score(ner: Path, ner_file: Path, run: Run) -> None:
    tokens = "\n".join(" ".join(line.split()[0] for line in block.splitlines())
                       for block in ner_file.read_text("utf-8").split("\n\n") if block.strip()) + "\n"
    sure = jsonl(ok(run("tag", "-m", ner, "-f", "tokens", "--jsonl", "--probs", input=tokens)))
    plain = jsonl(ok(run("tag", "-m", ner, "-f", "tokens", "--jsonl", input=tokens)))
    assert any(record["entities"] for record in plain)
    assert [record["entities"] for record in plain] == [record["entities"] for record in sure]
    assert all(0 < entity["score"] <= 1 for record in plain for entity in record["entities"])
    assert not any("probs" in record for record in plain)
    again = "".join(json.dumps({"tokens": record["tokens"]}) + "\n" for record in plain)
    assert [record["entities"] for record in jsonl(ok(run("tag", "-m", ner, input=again)))] == [
        record["entities"] for record in plain]


def test_tag_conllu_changes_one_column_and_nothing_else(tagger: Path, run: Run, tmp_path: Path) -> None:
    text = (
        "\ufeff# sent_id = 1\r\n1-2\tthebaker\t_\t_\t_\t_\t_\t_\t_\t_\r\n"
        "1\tthe\t_\tX\tDT\t_\t2\tdet\t_\t_\r\n"
        "2\tbaker\t_\t_\t_\t_\t0\troot\t_\tSpaceAfter=No\r\n2.1\tgone\t_\t_\t_\t_\t_\t_\t_\t_\r\n\r\n"
        "1\tsings\t_\t_\t_\t_\t_\t_\t_\t_"
    )
    (tmp_path / "in.conllu").write_bytes(text.encode())
    done = run("tag", "-m", tagger, "in.conllu", "-o", "out.conllu")
    assert (done.code, done.out, done.err) == (0, "", "")
    expected = text[1:].replace("the\t_\tX", "the\t_\tDET").replace("\tbaker\t_\t_", "\tbaker\t_\tNOUN")
    expected = expected.replace("sings\t_\t_", "sings\t_\tVERB")
    assert (tmp_path / "out.conllu").read_bytes() == expected.encode()


def test_tag_several_columns_side_by_side(joint: Path, models: Path, run: Run, tmp_path: Path) -> None:
    gold = (models / "data" / "joint-dev.conllu").read_text()
    rows = [line.split("\t") for line in gold.splitlines()]
    bare = "".join("\t".join([*row[:3], "_", "_", *row[5:9], "_"]) + "\n" if row[0] else "\n" for row in rows)
    done = run("tag", "-m", joint, "--from", "conllu", input=bare)
    assert (done.code, done.out) == (0, gold), "all three columns are filled in, and nothing else"
    words = "the workful baker sings ."
    found = json.loads(run("tag", "-m", joint, "--jsonl", "--probs", "--nbest", "2", input=words).out)
    assert (found["upos"][2], found["xpos"][2], found["NER"][2]) == ("NOUN", "NOUN-r", "B-PER")
    assert found["nbest"][0]["tags"] == found["upos"]
    assert len(found["probs"]) == 5
    assert run("tag", "-m", joint, "--probs", input=words).out.split("\n")[2].split("\t")[:4] == [
        "baker", "NOUN", "NOUN-r", "B-PER"]
    tags = ["DET/DET-e/O", "ADJ/ADJ-l/O", "NOUN/NOUN-r/B-PER", "VERB/VERB-s/O", "PUNCT/PUNCT-./O"]
    assert run("tag", "-m", joint, "--to", "tokens", input=words).out == " ".join(tags) + "\n"
    unsure = json.loads(run("tag", "-m", joint, "--jsonl", "--threshold", "1", input="qqq zzz").out)
    assert (unsure["upos"], unsure["xpos"], unsure["NER"]) == (["_"] * 2, ["_"] * 2, ["O"] * 2)
    renamed = json.loads(run("tag", "-m", joint, "--jsonl", "--column", "a,b,c", input=words).out)
    assert (renamed["a"], renamed["c"]) == (found["upos"], found["NER"])
    wrong = run("tag", "-m", joint, "--jsonl", "--column", "a,b", input=words)
    assert wrong.code == 2
    assert "expected a name for each of the 3 columns" in wrong.err
    spans = json.loads(run("tag", "-m", joint, "--jsonl", "--scheme", "iobes", input=words).out)
    assert (spans["upos"], spans["NER"][2]) == (found["upos"], "S-PER")


@pytest.mark.parametrize(("to", "columns", "message"), [
    ("jsonl", "tokens,b,c", "--column: expected keys without another meaning, each once, found 'tokens'"),
    ("jsonl", "a,,tags", "found 'tags'"),
    ("conllu", "upos,UPOS,NER", "--column: expected each column once, found upos, UPOS, NER"),
    ("conllu", ",upos,NER", "--column: expected each column once, found upos, upos, NER"),
])  # fmt: skip
def test_columns_that_would_overwrite_each_other(
    to: str, columns: str, message: str, joint: Path, run: Run
) -> None:
    done = run("tag", "-m", joint, "--to", to, "--column", columns, input="the baker sings .")
    assert (done.code, done.out) == (2, "")
    assert message in done.err


def test_tag_columns_keep_their_own_scheme(ner: Path, ner_file: Path, run: Run) -> None:
    out = ok(run("tag", "-m", ner, ner_file))
    rows = [line.split(" ") for line in out.splitlines() if line]
    assert all(row[1] == row[2] for row in rows), "read as IOB1, so written as IOB1"
    assert {row[2] for row in rows} >= {"B-PER", "I-PER"}
    assert [line.rpartition(" ")[0] for line in out.splitlines()] == ner_file.read_text("utf-8").splitlines()
    iob2 = ok(run("tag", "-m", ner, ner_file, "--scheme", "iob2"))
    assert iob2 != out
    assert ok(run("tag", "-m", ner, "--from", "conll", input=ner_file.read_text("utf-8"))) == iob2


@pytest.mark.parametrize(("name", "text", "found"), [
    ("a.conllu", "1\tAnna\t_\tPROPN\t_\t_\t0\troot\t_\tNER=S-PER\n\n", "NER=S-PER"),
    ("a.jsonl", '{"tokens": ["Anna"], "tags": ["S-PER"]}\n', '"S-PER"'),
])  # fmt: skip
def test_tags_that_are_replaced_keep_their_scheme(name: str, text: str, found: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    assert found in ok(invoke("tag", "-m", "en-ner", tmp_path / name))


def test_spans_in_one_of_several_columns_keep_their_scheme(models: Path, joint: Path, tmp_path: Path) -> None:
    written = {}
    for scheme in ("iob2", "iobes"):
        ok(invoke("tag", "-m", joint, models / "data" / "joint-dev.conllu", "--scheme", scheme, "-o",
                  tmp_path / f"{scheme}.conllu"))
        written[scheme] = (tmp_path / f"{scheme}.conllu").read_text("utf-8")
    assert written["iob2"] != written["iobes"]
    for scheme, expected in written.items():
        assert ok(invoke("tag", "-m", joint, tmp_path / f"{scheme}.conllu")) == expected


def test_records_before_a_bad_one_are_tagged(ner: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "the baker sings"}\n{"text": \n', "utf-8")
    done = invoke("tag", "-m", ner, tmp_path / "a.jsonl")
    assert (done.code, len(done.out.splitlines())) == (3, 1)
    problem = "a.jsonl:2: expected one JSON object on each line, found 'Expecting value' at column 10"
    assert problem in done.err


def test_tag_writes_spans_from_a_numbered_column_to_misc(ner: Path, pos_file: Path, run: Run) -> None:
    made = ok(run("tag", "-m", ner, "--to", "conllu", input="Bob sings\n"))
    assert made.splitlines()[2].split("\t")[3] == "_"
    assert made.splitlines()[2].endswith("\tNER=B-PER")
    rows = [line.split("\t") for line in ok(run("tag", "-m", ner, pos_file)).splitlines()]
    read = [line.split("\t") for line in pos_file.read_text("utf-8").splitlines()]
    assert [row[:9] for row in rows] == [row[:9] for row in read]
    made = ok(run("tag", "-m", ner, "--jsonl", input="Bob sings\n"))
    assert jsonl(made)[0]["tags"] == ["B-PER", "O"]


def test_tag_needs_no_gold_column(ner: Path, ner_file: Path, models: Path, run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "third"  # as if learned from a third column
    shutil.copytree(ner, folder)
    settings = json.loads((folder / "config.json").read_text("utf-8"))
    settings["settings"]["column"] = "3"
    (folder / "config.json").write_text(json.dumps(settings), "utf-8")
    assert ok(run("tag", "-m", folder, ner_file)) == ok(run("tag", "-m", ner, ner_file))
    assert "NER=B-PER" in ok(run("tag", "-m", folder, "--to", "conllu", input="Bob sings\n"))


def test_tag_a_named_pipe_is_read_once(ner: Path, ner_file: Path) -> None:
    script = f'{sys.executable} -m rnntool tag -m "{ner}" --from conll <(cat "{ner_file}") | wc -l'
    done = bash(script)
    assert int(done.stdout) == ner_file.read_text("utf-8").count("\n")
    assert done.stderr == ""


def test_tag_several_files_and_compression(tagger: Path, run: Run, tmp_path: Path) -> None:
    import gzip

    (tmp_path / "a.tok.gz").write_bytes(gzip.compress(b"the baker"))
    (tmp_path / "b.tok").write_text("sings .\n")
    assert ok(run("tag", "-m", tagger, "a.tok.gz", "b.tok")) == "DET NOUN\nVERB PUNCT\n"
    (tmp_path / "c.txt").write_text("the baker sings .\n")
    assert ok(run("tag", "-m", tagger, "b.tok", "c.txt")) == "VERB PUNCT\nDET NOUN VERB PUNCT\n", (
        "all comes out as the first file came in")
    done = run("tag", "-m", tagger, "-v", "b.tok")
    assert "b.tok: read as tokens" in done.err


def test_tag_empty_input(tagger: Path, run: Run) -> None:
    assert ok(run("tag", "-m", tagger)) == ""
    assert ok(run("tag", "-m", tagger, "--to", "html")).endswith("</html>\n")
