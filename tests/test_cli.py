"""The commands as a shell runs them: pipes, both streams, exit codes, and that nothing is lost."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import tiny
from conftest import Ran, Run, environment
from typer.testing import CliRunner

from rnntool import cli

LINES = "the baker sings .\n\nthe workful baker paints the teacher .\n"
TAGS = ["DET NOUN VERB PUNCT", "", "DET ADJ NOUN VERB DET NOUN PUNCT"]


def ok(ran: Ran) -> str:
    """Standard output of a command that went well and said nothing else."""
    assert (ran.code, ran.err) == (0, "")
    return ran.out


def failed(ran: Ran, code: int, *words: str) -> None:
    """It failed as it should: one sentence on standard error, nothing on standard output."""
    assert "Traceback" not in ran.err
    assert ran.code == code, ran.err
    assert ran.err.startswith("rnntool: ")
    assert ran.err.count("\n") == 1
    assert ran.err.endswith("\n")
    for word in words:
        assert word in ran.err
    assert ran.out == ""


def bash(script: str) -> subprocess.CompletedProcess[str]:
    words = ["bash", "-c", script]
    return subprocess.run(words, capture_output=True, text=True, env=environment(), timeout=60)


def jsonl(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


# --- tag ---------------------------------------------------------------------------------------------------


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
    html = ok(run("tag", "-m", tagger, "-t", "html", input=LINES))
    HTMLParser().feed(html)
    assert html.startswith("<!DOCTYPE html>")
    assert html.endswith("</html>\n")
    assert html.count("<p>") == 3


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
    want = text[1:].replace("the\t_\tX", "the\t_\tDET").replace("\tbaker\t_\t_", "\tbaker\t_\tNOUN")
    want = want.replace("sings\t_\t_", "sings\t_\tVERB")
    assert (tmp_path / "out.conllu").read_bytes() == want.encode()


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
    assert "want 3 names" in wrong.err
    spans = json.loads(run("tag", "-m", joint, "--jsonl", "--scheme", "iobes", input=words).out)
    assert (spans["upos"], spans["NER"][2]) == (found["upos"], "S-PER")


@pytest.mark.parametrize(("to", "columns", "message"), [
    ("jsonl", "tokens,b,c", "--column: want keys that JSONL has free, each once, found 'tokens'"),
    ("jsonl", "a,,tags", "found 'tags'"),
    ("conllu", "upos,UPOS,NER", "--column: want each column once, found upos, UPOS, NER"),
    ("conllu", ",upos,NER", "--column: want each column once, found upos, upos, NER"),
])  # fmt: skip
def test_columns_that_would_be_written_over_each_other(
    to: str, columns: str, message: str, joint: Path, run: Run
) -> None:
    done = run("tag", "-m", joint, "--to", to, "--column", columns, input="the baker sings .")
    assert (done.code, done.out) == (2, "")
    assert message in done.err


def test_evaluate_several_columns(joint: Path, models: Path, run: Run) -> None:
    done = run("evaluate", models / "data" / "joint-dev.conllu", "-m", joint, "--json")
    report = json.loads(done.out)
    assert report["accuracy"] == report["accuracy_all"] == 1.0
    assert report["columns"]["xpos"]["accuracy"] == 1.0
    assert report["columns"]["NER"]["f1"] == 1.0
    assert "per_label" in report["columns"]["xpos"]
    assert "accuracy_all" in run("evaluate", models / "data" / "joint-dev.conllu", "-m", joint).out
    assert re.search(r"^dev NER f1 +1.0000$", run("info", joint).out, re.MULTILINE)
    assert "| xpos accuracy | 1.0000 |" in (joint / "README.md").read_text("utf-8")


@pytest.mark.parametrize("columns", ["upos,upos", ",", "upos,,"])
def test_a_column_named_twice(columns: str, pos_file: Path, run: Run) -> None:
    done = run("train", "tag", pos_file, "-o", "x", "--column", columns)
    assert done.code == 2
    assert "each once" in done.err


def test_tag_columns_keep_their_own_scheme(ner: Path, ner_file: Path, run: Run) -> None:
    out = ok(run("tag", "-m", ner, ner_file))
    rows = [line.split(" ") for line in out.splitlines() if line]
    assert all(row[1] == row[2] for row in rows), "read as IOB1, so written as IOB1"
    assert {row[2] for row in rows} >= {"B-PER", "I-PER"}
    assert [line.rpartition(" ")[0] for line in out.splitlines()] == ner_file.read_text("utf-8").splitlines()
    iob2 = ok(run("tag", "-m", ner, ner_file, "--scheme", "iob2"))
    assert iob2 != out
    assert ok(run("tag", "-m", ner, "--from", "conll", input=ner_file.read_text("utf-8"))) == iob2


def test_tag_spans_from_a_numbered_column_are_no_parts_of_speech(ner: Path, pos_file: Path, run: Run) -> None:
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


# --- Live pipes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("command", "name", "line"), [
    (["tag", "--from", "tokens"], "tagger", "DET NOUN VERB PUNCT"),
    (["classify", "--from", "text"], "classifier", None),
    (["score"], "writer", None),
    (["score", "--context", "stream"], "writer", None),
    (["tokenize"], None, "the baker sings ."),
    (["generate", "--prompts", "-", "--max-tokens", "5", "--seed", "1"], "writer", None),
])  # fmt: skip
def test_a_live_pipe_is_answered_line_by_line(
    command: list[str], name: str | None, line: str | None, request: pytest.FixtureRequest
) -> None:
    model = ["-m", str(request.getfixturevalue(name))] if name else []
    words = [sys.executable, "-m", "rnntool", *command, *model]
    pipe, env = subprocess.PIPE, environment()
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=env) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(2):
            process.stdin.write("the baker sings .\n")
            process.stdin.flush()
            answer = process.stdout.readline()  # comes while standard input is open
            assert answer.endswith("\n")
            assert line is None or answer == f"{line}\n"
        process.stdin.close()
        assert process.stdout.read() == ""
        assert process.stderr.read() == ""
        assert process.wait(10) == 0


@pytest.mark.parametrize(("format", "record", "begun"), [
    ("conll", "the\nbaker\n\n", "sings\n"),
    ("conll", "\n", "-DOCSTART-\n\n"),
    ("conllu", "1\tthe" + "\t_" * 8 + "\n\n", "# sent_id = 2\n"),
    ("jsonl", '{"tokens": ["the", "baker"]}\n', "\n"),
])  # fmt: skip
def test_a_record_is_answered_while_the_next_has_begun(
    format: str, record: str, begun: str, tagger: Path
) -> None:
    words = [sys.executable, "-m", "rnntool", "tag", "--from", format, "-m", str(tagger)]
    pipe, env = subprocess.PIPE, environment()
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True, env=env) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Timer(30, process.kill)  # nobody would answer
        late.start()
        process.stdin.write(record + begun)
        process.stdin.flush()
        answer = [process.stdout.readline() for _ in range(record.count("\n"))]
        assert all(line.endswith("\n") for line in answer)
        late.cancel()
        process.stdin.close()


@pytest.mark.parametrize(("command", "name"), [
    (["tag", "--from", "tokens"], "tagger"), (["generate", "-n", "3000", "--max-tokens", "3"], "writer"),
    (["tokenize"], None),
])  # fmt: skip
def test_head_ends_quietly(command: list[str], name: str | None, request: pytest.FixtureRequest) -> None:
    model = f"-m '{request.getfixturevalue(name)}'" if name else ""
    rnntool = f"{sys.executable} -m rnntool {' '.join(command)} {model}"
    script = f"yes 'the baker sings .' | head -20000 | {rnntool} | head -1; echo ${{PIPESTATUS[2]}}"
    done = bash(script)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "0"
    assert len(done.stdout.splitlines()) == 2


def test_pairs_are_answered_one_by_one(writer: Path) -> None:
    words = [sys.executable, "-m", "rnntool", "score", "-m", str(writer), "--pairs", "--jsonl"]
    pipe, env = subprocess.PIPE, environment()
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True, env=env) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for good in ("the baker", "the teacher"):
            process.stdin.write(f"{good}\tzzz\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["good"] == good  # standard input is open
        process.stdin.close()


def test_sigterm_leaves_no_half_written_file(tagger: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "rnntool", "tag", "-m", str(tagger), "-f", "tokens", "-o", "out"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
                          env=environment()) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        while not list(tmp_path.iterdir()):  # the file that will become `out`
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 143
        assert process.stderr.read() == ""
    assert list(tmp_path.iterdir()) == []


def test_sigterm_does_not_wait_for_a_reader(tagger: Path, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("the baker sings .\n" * 5000)
    words = [sys.executable, "-m", "rnntool", "tag", "-m", str(tagger), str(tmp_path / "in")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=environment()) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"t"  # the pipe is full by then, or soon
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 143


@pytest.mark.parametrize("command", [["--help"], ["--version"], ["models"], ["info", "MODEL", "--json"]])
def test_nobody_reads(command: list[str], tagger: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    arguments = [str(tagger) if word == "MODEL" else word for word in command]
    done = subprocess.run([sys.executable, "-m", "rnntool", *arguments], stdout=write, stderr=subprocess.PIPE,
                          env=environment(), text=True, timeout=60)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


# --- classify ----------------------------------------------------------------------------------------------

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
           f"{question_file}:1: want a column 'body'", "'text'", "--text-column")


# --- generate ----------------------------------------------------------------------------------------------


def test_generate_is_repeatable_whatever_the_batch(writer: Path, run: Run) -> None:
    base = ["generate", "-m", writer, "the ", "-n", "6", "--max-tokens", "30", "--seed", "5"]
    want = ok(run(*base))
    assert len(want.splitlines()) == 6
    assert all(line.startswith("the ") for line in want.splitlines())
    assert ok(run(*base, "--batch-size", "1")) == want
    assert ok(run(*base, "--stream")) == want
    assert ok(run(*base[:-1], "6")) != want
    records = jsonl(ok(run(*base, "--batch-size", "4", "--logprobs")))
    assert [r["prompt"] + r["text"] for r in records] == want.splitlines()
    assert [r["index"] for r in records] == list(range(6))
    assert all(len(r["log_probs"]) == len(r["tokens"]) + r["finished"] for r in records)


def test_generate_stops_before_a_text(writer: Path, run: Run) -> None:
    base = ["generate", "-m", writer, "the ", "-n", "3", "--max-tokens", "40", "--seed", "5"]
    want = [("the " + line[4:].split("e ")[0]) + "\n" for line in ok(run(*base)).splitlines()]
    assert ok(run(*base, "--stop", "e ")) == "".join(want)
    assert ok(run(*base, "--stop", "e ", "--stream")) == "".join(want)


def test_generate_beam_and_prompts(writer: Path, run: Run) -> None:
    out = ok(run("generate", "-m", writer, "--prompts", "-", "--beam", "3", "-n", "2", "--max-tokens", "20",
                 input="the\na baker"))  # fmt: skip
    lines = out.splitlines()
    assert [line[:3] for line in lines] == ["the", "the", "a b", "a b"]
    assert lines[0] != lines[1]


def test_generate_says_what_it_copied(writer: Path, models: Path, run: Run, tmp_path: Path) -> None:
    base = ["generate", "-m", writer, "the ", "-n", "4", "--max-tokens", "60", "--seed", "3"]
    want = run(*base, "--jsonl").out
    source = ["--copied", models / "data" / "train.txt", "--copied-words", "2"]
    for line, record in zip(jsonl(want), jsonl(run(*base, "--jsonl", *source).out), strict=True):
        assert 0 <= record.pop("copied") <= record.pop("runs") == len(("the " + line["text"]).split()) - 1
        assert record == line
    own = tmp_path / "own.txt"
    own.write_text(ok(run(*base)))
    done = run(*base, "--copied", own, "--copied-words", "2")
    assert done.out == own.read_text()
    assert re.fullmatch(r"rnntool: \S+: has 100.0% of the \d+ runs of 2 words in the new text\n", done.err)
    own.write_text("nothing")
    assert "has 0.0% of" in run(*base, "--copied", own, "--copied-words", "2", "--typical", "0.9").err
    assert "has none of the 0 runs" in run(*base, "--copied", own, "--copied-words", "99").err
    failed(run(*base, "--copied", "nowhere.txt"), 3, "nowhere.txt: no such file")


def test_generate_answers_what_came_before_a_bad_prompt(writer: Path, run: Run) -> None:
    done = run("generate", "-m", writer, "--prompts", "-", "--max-tokens", "3", input="the\nthe Q\nthe\n")
    assert done.code == 3
    assert done.out.startswith("the")
    assert len(done.out.splitlines()) == 1


def test_generate_says_what_it_does_not_know(writer: Path, run: Run) -> None:
    failed(run("generate", "-m", writer, "the Q"), 3, "'Q'", "character 5", "--allow-unknown")
    done = run("generate", "-m", writer, "the Q", "--allow-unknown", "--max-tokens", "3", "-v")
    assert done.code == 0
    assert done.out.startswith("the Q")
    assert "--seed " in done.err


@pytest.mark.parametrize(("options", "words"), [
    (["--typical", "0"], "--typical: want"), (["--beam", "2", "--typical", "0.9"], "--typical"),
    (["--no-repeat-ngram", "1", "--min-tokens", "99", "--max-tokens", "99"], "--no-repeat-ngram: want"),
    (["--temperature", "-1"], "--temperature: want"), (["--top-p", "0"], "--top-p: want"),
    (["--min-tokens", "9", "--max-tokens", "3"], "min"), (["a", "--prompts", "-"], "--prompts"),
    (["--stream", "--jsonl"], "--stream"),
])  # fmt: skip
def test_generate_usage(options: list[str], words: str, writer: Path, run: Run) -> None:
    failed(run("generate", "-m", writer, *options), 2, words)


# --- score -------------------------------------------------------------------------------------------------


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
    assert [r["tokens"] for r in records] == [18, 1, 8]
    assert [f"{r['log_prob']:.4f}" for r in records] == [row[0] for row in rows]
    assert records[2]["unknown"] == 0


@pytest.mark.parametrize("per", ["token", "word"])
def test_score_surprisals(per: str, writer: Path, run: Run) -> None:
    text = "the  baker\tsings"
    header, *rows = ok(run("score", "-m", writer, "--per", per, input=f"{text}\n\n{text}")).splitlines()
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


def test_score_pairs(writer: Path, run: Run) -> None:
    pairs = "the baker sings .\teht rekab sgnis .\nzzzz\tthe baker\n"
    assert ok(run("score", "-m", writer, "--pairs", input=pairs)) == "accuracy\t0.5000\npairs\t2\n"
    blimp = [{"sentence_good": g, "sentence_bad": b, "UID": u} for u, g, b in
             [("x", "the baker sings .", "baker the .sings"), ("y", "ppp", "the ")]]  # fmt: skip
    text = "".join(json.dumps(pair) + "\n" for pair in blimp)
    report = json.loads(ok(run("score", "-m", writer, "--pairs", "--json", input=text)))
    assert report == {"pairs": 2, "accuracy": 0.5, "per_phenomenon": {"x": 1.0, "y": 0.0},
                      "by": {"UID": {"x": {"pairs": 1, "accuracy": 1.0}, "y": {"pairs": 1, "accuracy": 0.0}}}}
    failed(run("score", "-m", writer, "--pairs", input="one sentence only\n"), 3, "<stdin>:1: want 2 columns")
    failed(run("score", "-m", writer, "--pairs", "--per", "word"), 2, "--pairs")


# --- evaluate, models, info, export, tokenize --------------------------------------------------------------


LABELLED = {"accuracy", "ece", "unseen_labels", "per_label"}
WORDS = {"accuracy_known", "accuracy_unknown", "unknown"}


@pytest.mark.parametrize(("name", "data", "keys"), [
    ("writer", "text_file", {"perplexity", "nll_nats", "bits_per_char", "bits_per_byte", "oov"}),
    ("classifier", "question_file", {"macro_f1", "micro_f1", "confusion"} | LABELLED),
    ("tagger", "pos_file", {"confusion"} | LABELLED | WORDS),
    ("ner", "ner_file", {"precision", "recall", "f1", "f1_conlleval"} | LABELLED | WORDS),
])  # fmt: skip
def test_evaluate(name: str, data: str, keys: set[str], run: Run, request: pytest.FixtureRequest) -> None:
    model, file = request.getfixturevalue(name), request.getfixturevalue(data)
    report = json.loads(ok(run("evaluate", file, "-m", model, "--json", "--errors", "2")))
    assert report.keys() == {
        "task", "model", "records", "tokens", "interval_of", "interval", "signature", "errors"} | keys
    assert (report["model"], report["records"]) == (model.name, 20)
    assert f"|model:{model.name}|seed:1|" in report["signature"]
    assert report["signature"].endswith(f"metric:{report['interval_of']}")
    low, high = report["interval"]
    assert low <= report[report["interval_of"]] <= high
    saved = json.loads((model / "config.json").read_text("utf-8"))["report"]
    fitted = {"temperature", "ece_uncalibrated"}  # by training, of its own network before
    saved = {key: value for key, value in saved.items() if key not in fitted}
    assert {key: report[key] for key in saved} == saved, "as it was reported at the end of the training"


def test_evaluate_for_people(tagger: Path, pos_file: Path, run: Run, tmp_path: Path) -> None:
    text = pos_file.read_text("utf-8")
    (tmp_path / "wrong.conllu").write_text(text.replace("\tVERB\t", "\tNOUN\t", 1))
    out = ok(run("evaluate", "wrong.conllu", "-m", tagger, "--errors", "3"))
    assert re.search(r"^accuracy +0\.9\d+  \(95% interval: 0\.9\d+ to 1\.0000\)$", out, re.MULTILINE)
    assert "most frequent confusions\ngold  predicted  count\nNOUN  VERB           1\n" in out
    assert "most confident mistakes" in out
    assert out.splitlines()[-1].split()[1:3] == ["NOUN", "VERB"]
    assert "[" in out.splitlines()[-1]
    assert "never saw" not in out


def test_evaluate_shows_the_ten_most_frequent_confusions(tagger: Path, run: Run, tmp_path: Path) -> None:
    rows = [("the", f"X{i}") for i in range(12) for _ in range(i + 1)]
    (tmp_path / "new.conllu").write_text(tiny.conllu([rows, [("the", "DET")], [("the", "DET")] * 99]))
    out = ok(run("evaluate", "new.conllu", "-m", tagger))
    never, confused = out.split("labels that training never saw\n")[1].split("\nmost frequent confusions\n")
    assert [line.split() for line in never.splitlines()[1:]] == [[f"X{i}", str(i + 1)]
                                                                 for i in range(11, 1, -1)]
    assert [line.split() for line in confused.splitlines()[1:]] == [[f"X{i}", "DET", str(i + 1)]
                                                                    for i in range(11, 1, -1)]
    report = json.loads(ok(run("evaluate", "new.conllu", "-m", tagger, "--json")))
    assert report["unseen_labels"]["X0"] == report["confusion"]["X0"]["DET"] == 1


def test_evaluate_one_record_has_no_interval(tagger: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "one.conllu").write_text(tiny.conllu(tiny.pos_sentences(1)))
    report = json.loads(ok(run("evaluate", "one.conllu", "-m", tagger, "--compare", tagger, "--json")))
    assert report["interval"] is report["compare"]["interval"] is None
    assert "interval" not in ok(run("evaluate", "one.conllu", "-m", tagger, "--compare", tagger))


def test_evaluate_says_that_a_file_is_of_another_task(
    tagger: Path, ner: Path, classifier: Path, pos_file: Path, ner_file: Path, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "other.tsv").write_text(tiny.tsv([("who sings ?", "Sports"), ("when ?", "World")]))
    for model, file, found, known, option in (
        (tagger, ner_file, "I-PER", "NOUN", "--column"),
        (ner, pos_file, "NOUN", "PER", "--column"),
        (classifier, Path("other.tsv"), "Sports", "person", "--label-column"),
    ):
        done = run("evaluate", file, "-m", model)
        assert done.code == 0
        assert done.err.startswith(f"rnntool: {file}: ")
        assert done.err.count("\n") == 1
        for word in (model.name, found, known, f"see {option}\n"):
            assert word in done.err
        assert run("evaluate", file, "-m", model, "-q") == Ran(0, done.out, "")
    total = sum(map(len, tiny.pos_sentences(20, seed=9)))
    assert f"{total} of {total} labels" in run("evaluate", pos_file, "-m", ner).err


@pytest.fixture(scope="module")
def beginner(models: Path, tagger: Path) -> Path:
    """A tagger of parts of speech that has not learned for long."""
    tiny.train("tag", models / "beginner", [models / "data" / "train.conllu"], epochs=1, lr=0.002)
    return models / "beginner"


def test_evaluate_compares_two_models(tagger: Path, beginner: Path, pos_file: Path, run: Run) -> None:
    command = ("evaluate", pos_file, "-m", tagger, "--compare")
    report = json.loads(ok(run(*command, beginner, "--json")))
    alone = json.loads(ok(run("evaluate", pos_file, "-m", beginner, "--json")))
    found = report["compare"]
    assert found.keys() == {"model", "figure", "value", "difference", "interval", "p_value", "signature"}
    assert (found["model"], found["figure"], found["value"]) == ("beginner", "accuracy", alone["accuracy"])
    assert found["signature"] == alone["signature"]
    assert found["difference"] == pytest.approx(report["accuracy"] - alone["accuracy"])
    low, high = found["interval"]
    assert 0 < low <= found["difference"] <= high
    assert found["p_value"] < 0.01
    assert json.loads(ok(run(*command, beginner, "--json"))) == report, "nothing is left to chance"
    plain = json.loads(ok(run("evaluate", pos_file, "-m", tagger, "--json")))
    assert {**plain, "compare": found} == report
    itself = json.loads(ok(run(*command, tagger, "--json")))["compare"]
    assert (itself["difference"], itself["interval"], itself["p_value"]) == (0.0, [0.0, 0.0], 1.0)
    lines = ok(run(*command, beginner)).splitlines()
    at = lines.index("compared with beginner")
    assert [line.split()[0] for line in lines[at + 1 : at + 4]] == ["accuracy", "difference", "p_value"]


def test_evaluate_compares_by_the_first_column(
    joint: Path, tagger: Path, models: Path, pos_file: Path, run: Run
) -> None:
    file = models / "data" / "joint-dev.conllu"
    many = json.loads(ok(run("evaluate", file, "-m", joint, "--compare", tagger, "--json")))
    assert many["columns"].keys() == {"xpos", "NER"}
    one = json.loads(ok(run("evaluate", file, "-m", tagger, "--compare", joint, "--json")))
    assert (many["accuracy"], many["compare"]["value"]) == (one["compare"]["value"], one["accuracy"])
    assert many["compare"]["p_value"] == one["compare"]["p_value"]
    first = json.loads(ok(run("evaluate", pos_file, "-m", joint, "--column", "upos", "--json")))
    assert "columns" not in first
    assert first["accuracy"] == many["accuracy"]
    failed(run("evaluate", file, "-m", tagger, "--column", "upos,xpos"), 2, "want 1 at most", "'upos,xpos'")


def test_evaluate_compares_what_can_be_compared(
    tagger: Path, ner: Path, writer: Path, models: Path, pos_file: Path, text_file: Path, run: Run
) -> None:
    failed(run("evaluate", pos_file, "-m", tagger, "--compare", writer), 2, "task tag", "one of lm")
    failed(run("evaluate", pos_file, "-m", tagger, "--compare", ner), 2, "by accuracy", "by f1")
    failed(run("evaluate", pos_file, "-m", tagger, "--compare", "gone"), 4, "gone: no model folder")
    data = [models / "data" / "train.txt"]
    for name, settings in (
        ("bytes", {"tokenizer": "byte"}), ("words", {"tokenizer": "word", "min_count": 50}),
        ("paragraphs", {"unit": "paragraph"}), ("chars", {"context": "stream"}),
    ):
        tiny.train("lm", models / f"writer-{name}", data, epochs=1, **settings)
    command = ("evaluate", text_file, "-m", writer, "--json", "--compare")
    bytes_ = json.loads(ok(run(*command, models / "writer-bytes")))
    assert (bytes_["interval_of"], bytes_["compare"]["figure"]) == ("perplexity", "bits_per_char")
    alone = json.loads(ok(run("evaluate", text_file, "-m", models / "writer-bytes", "--json")))
    assert bytes_["compare"]["value"] == alone["bits_per_char"]
    assert bytes_["compare"]["difference"] == bytes_["bits_per_char"] - alone["bits_per_char"] < 0
    assert bytes_["compare"]["p_value"] < 0.01
    chars = json.loads(ok(run(*command, models / "writer-chars")))["compare"]
    assert chars["figure"] == "perplexity"
    failed(run(*command, models / "writer-words"), 2, "--compare: ", "of 20 records", "bits per character")
    failed(run(*command, models / "writer-paragraphs"), 2, "--unit is line", "paragraph")


def test_models_and_info(models: Path, tagger: Path, run: Run) -> None:
    rows = json.loads(ok(run("models", "--json", RNNTOOL_MODELS=str(models))))
    row = next(row for row in rows if row["name"] == "tiny-pos")
    assert (row["task"], row["figure"], row["value"]) == ("tag", "accuracy", 1.0)
    assert "tiny-pos" in ok(run("models", RNNTOOL_MODELS=str(models)))
    text = ok(run("info", "tiny-pos", RNNTOOL_MODELS=str(models)))
    assert "1 x 12 lstm, bidirectional" in text
    assert json.loads(ok(run("info", tagger, "--json")))["task"] == "tag"


@pytest.mark.parametrize("name", ["tagger", "classifier", "writer"])
def test_export(name: str, run: Run, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(name)
    assert ok(run("export", model, "-o", "out.onnx")) == ""
    assert (tmp_path / "out.onnx").read_bytes() == (model / "model.onnx").read_bytes()
    failed(run("export", model, "-o", "out.onnx"), 2, "out.onnx: exists already; --force replaces it")
    assert ok(run("export", model, "-o", "out.onnx", "--int8", "--force")) == ""
    copy = Path(shutil.copytree(model, tmp_path / "int8"))
    (tmp_path / "out.onnx").replace(copy / "model.onnx")
    command = {"classifier": "classify", "tagger": "tag", "writer": "score"}[name]
    assert len(ok(run(command, "-m", copy, input="who did the baker sing ?\n")).splitlines()) > 0


def test_tokenize_there_and_back(writer: Path, tagger: Path, run: Run) -> None:
    text = "the baker  sings .\n\n a\n"
    ids = ok(run("tokenize", "-m", writer, "--ids", input=text))
    assert len(ids.splitlines()) == 3
    assert ok(run("tokenize", "-m", writer, "--decode", input=ids)) == text
    assert ok(run("tokenize", input="I can't, Mr. Smith.\n\n")) == "I ca n't , Mr. Smith .\n\n"
    (record,) = jsonl(ok(run("tokenize", "--jsonl", input="can't\n")))
    assert record["tokens"] == [{"text": "ca", "start": 0, "end": 2}, {"text": "n't", "start": 2, "end": 5}]
    failed(run("tokenize", "--ids", input="a\n"), 2, "-m MODEL")
    failed(run("tokenize", "-m", writer, "--decode", input="1 99999\n"), 3, "<stdin>:1: want numbers")
    assert run("tokenize", "-m", tagger, input="the unheard\n").out == "the <unk>\n"


# --- Help --------------------------------------------------------------------------------------------------

COMMANDS = ("train lm", "train classify", "train tag", "tag", "classify", "generate", "score", "evaluate",
            "models", "info", "export", "tokenize")


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_has_examples(command: str) -> None:
    done = CliRunner().invoke(cli.app, [*command.split(), "--help"], env={"COLUMNS": "200"})
    assert done.exit_code == 0
    assert "Examples" in done.stdout
    assert "$ " in done.stdout.partition("Examples")[2]
    assert f"rnntool {command}" in done.stdout.partition("Examples")[2]


def test_every_command_is_known() -> None:
    shown = CliRunner().invoke(cli.app, ["--help"], env={"COLUMNS": "200"}).stdout
    assert {command.split()[0] for command in COMMANDS} <= set(shown.split())


@pytest.mark.parametrize(("typed", "completed"), [
    ("rnntool tr", ["train"]), ("rnntool train ", ["lm", "classify", "tag"]),
    ("rnntool train lm --paragr", ["--paragraphs"]), ("rnntool train tag --head ", ["softmax", "crf"]),
])  # fmt: skip
def test_bash_completes(typed: str, completed: list[str]) -> None:
    asked = {"_RNNTOOL_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    done = CliRunner().invoke(cli.app, env=asked)
    assert (done.exit_code, done.stdout.split(), done.stderr) == (0, completed, "")


def test_no_arguments_and_unknown_options(run: Run) -> None:
    assert "Usage" in run().out + run().err
    done = run("tag", "--unheard-of")
    assert (done.code, done.out) == (2, "")
    assert "--unheard-of" in done.err
    assert run("--version").out.startswith("rnntool ")


# --- Errors ------------------------------------------------------------------------------------------------


def test_missing_and_wrong_inputs(tagger: Path, run: Run, tmp_path: Path) -> None:
    failed(run("tag", "-m", tagger, "gone.txt"), 3, "gone.txt: no such file")
    failed(run("tag", "-m", tagger, tmp_path), 3, "want a file, found a folder")
    failed(run("tag", "-m", tagger, "--from", "xml"), 2, "xml")
    (tmp_path / "bad.conllu").write_text("1\tthe\t_\n\n")
    failed(run("tag", "-m", tagger, "bad.conllu"), 3, "bad.conllu:1: want 10 columns")
    failed(run("evaluate", "gone.conllu", "-m", tagger), 3, "gone.conllu")
    (tmp_path / "empty.conllu").write_text("")
    failed(run("evaluate", "empty.conllu", "-m", tagger), 3, "want records to evaluate on, found none")
    (tmp_path / "plain.txt").write_text("the baker\n")
    failed(run("evaluate", "plain.txt", "-m", tagger), 3, "plain.txt")


def test_models_that_are_none(tagger: Path, writer: Path, run: Run, tmp_path: Path) -> None:
    failed(run("tag", "-m", "gone"), 4, "gone: no model folder and no known model of that name")
    failed(run("tag", "-m", tmp_path), 4, "is no model folder")
    failed(run("tag", "-m", writer), 4, "`generate or score`", "`tag`")
    failed(run("generate", "-m", tagger), 4, "`tag`")
    failed(run("info", tmp_path), 4, "is no model folder")
    failed(run("export", tmp_path, "-o", "x.onnx"), 4, "is no model folder")


@pytest.mark.parametrize(("name", "text"), [
    ("config.json", '{"format": 1'), ("model.onnx", "x"), ("labels.txt", ""),
])
def test_damaged_models(name: str, text: str, tagger: Path, run: Run, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tagger, tmp_path / "copy"))
    (copy / name).write_text(text)
    failed(run("tag", "-m", copy, input="the\n"), 4, str(copy / name))


def test_a_model_cut_short(tagger: Path, run: Run, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tagger, tmp_path / "copy"))
    graph = copy / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1000])
    failed(run("tag", "-m", copy, input="the\n"), 4, str(graph))
    (copy / "config.json").write_text(json.dumps(
        json.loads((copy / "config.json").read_text()) | {"data": {}, "network": {}}))
    for command in (["info", copy], ["tokenize", "-m", copy], ["export", copy, "-o", "x.onnx", "--int8"]):
        failed(run(*command), 4, str(copy))
    shutil.copy(tagger / "config.json", copy)
    graph.unlink()
    failed(run("export", copy, "-o", "x.onnx"), 4, f"{copy}: has no model.onnx")
    assert not (tmp_path / "x.onnx").exists()


def test_invalid_utf8(tagger: Path, run: Run) -> None:
    data = b"the baker\nthe b\xffker\nthe\n"
    done = run("tag", "-m", tagger, "--from", "tokens", input=data)
    assert done.code == 3
    assert done.out == "DET NOUN\n", "what came before the bad line is answered"
    assert done.err == "rnntool: <stdin>:2: want UTF-8, found 0xff at byte 6; see --encoding-errors replace\n"
    out = ok(run("tag", "-m", tagger, "-f", "tokens", "-t", "inline", "--encoding-errors", "replace",
                 input=data))
    assert "b\ufffdker_" in out
    assert len(out.splitlines()) == 3


def test_output_that_cannot_be_written(tagger: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    for place in ("no/folder/out", "file/out", "."):
        failed(run("tag", "-m", tagger, "-o", place, input="the\n"), 1, "can't be written")
    failed(run("tag", "-m", tagger, "--scheme", "iob2", input="the\n"), 2, "--scheme", "not spans")
    failed(run("export", tagger, "-o", "file/out.onnx"), 1, "file/out.onnx: can't be written")
    failed(run("export", tagger, "-o", "no/folder/out.onnx"), 1, "no/folder/out.onnx: can't be written")
    done = run("tag", "-m", tagger, "-f", "tokens", "-o", "file", input=b"the\n\xff\n")
    assert done.code == 3
    assert (tmp_path / "file").read_text() == "kept", "an older output stays as it was"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_place_that_may_not_be_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_dir", forbidden)
    done = CliRunner().invoke(cli.app, ["info", "locked"])
    failed(Ran(done.exit_code, done.stdout, done.stderr), 1, "locked: permission denied")


def test_a_closed_standard_output(tagger: Path) -> None:
    done = bash(f'echo the | {sys.executable} -m rnntool tag -m "{tagger}" >&-')
    failed(Ran(done.returncode, "", done.stderr), 1, "<stdout>: is closed; give -o FILE")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("command", [["tag", "-m", "MODEL"], ["info", "MODEL"]])
def test_a_full_disk(command: list[str], tagger: Path) -> None:
    arguments = [str(tagger) if word == "MODEL" else word for word in command]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-m", "rnntool", *arguments], input="the\n", stdout=full,
                              stderr=subprocess.PIPE, env=environment(), text=True, timeout=60)
    failed(Ran(done.returncode, "", done.stderr), 1, "No space left")


# --- Training ----------------------------------------------------------------------------------------------

Train = Callable[..., Ran]


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Runs `rnntool train …` in this process: torch is loaded already."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RNNTOOL_THREADS", "1")

    def command(*arguments: str | Path) -> Ran:
        done = CliRunner().invoke(cli.app, ["train", *map(str, arguments)])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Ran(done.exit_code, done.stdout, done.stderr)

    return command


def small(task: str, **more: Any) -> list[str]:
    """Options that make a tiny network."""
    flags = tiny.SETTINGS[task] | {"epochs": 1} | more
    if flags.get("tokenizer", "word") != "word":
        flags = {name: value for name, value in flags.items() if name not in (*tiny.WORDS, "min_count")}
    return [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]


def test_train_says_what_it_did_and_what_to_try(train: Train, tmp_path: Path) -> None:
    (tmp_path / "in.tsv").write_text(tiny.tsv(tiny.questions(40)))
    done = train("classify", "in.tsv", "-o", "out", *small("classify"), "-v")
    assert (done.code, done.out) == (0, "")
    assert "36 training records, 4 for development" in done.err
    assert done.err.splitlines()[-1] == (
        "rnntool: model written to out; try: echo 'A line of text.' | rnntool classify -m out")
    failed(train("classify", "in.tsv", "-o", "out", *small("classify")), 2, "--resume", "--force")
    done = train("classify", "in.tsv", "-o", "out", *small("classify"), "--force", "--json")
    assert json.loads(done.out).keys() >= {"accuracy", "macro_f1"}
    done = train("classify", "in.tsv", "-o", "quiet", *small("classify"), "-q")
    assert (done.code, done.out, done.err) == (0, "", "")


def test_train_settings_come_from_everywhere(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in.tsv").write_text(tiny.tsv(tiny.questions(40)))
    (tmp_path / "c.toml").write_text('hidden = 5\ncell = "gru"\nmax-time = "90s"\nembed = 6\n')
    monkeypatch.setenv("RNNTOOL_EMBED", "7")
    monkeypatch.setenv("RNNTOOL_LAYERS", "2")
    options = ["--config", "c.toml", "--hidden", "4", "--epochs", "1", "-q"]
    done = train("classify", "in.tsv", "-o", "out", *options)
    assert (done.code, done.err) == (0, "")
    settings = json.loads((tmp_path / "out" / "config.json").read_text())["settings"]
    assert {key: settings[key] for key in ("hidden", "cell", "max_time", "embed", "layers", "clip")} == {
        "hidden": 4, "cell": "gru", "max_time": 90.0, "embed": 7, "layers": 2, "clip": 1.0}  # fmt: skip
    (tmp_path / "c.toml").write_text("hiden = 5\n")
    wrong = ["classify", "in.tsv", "-o", "x"]
    failed(train(*wrong, "--config", "c.toml"), 2, "c.toml: unknown setting 'hiden'", "hidden")
    failed(train(*wrong, "--config", "gone.toml"), 2, "gone.toml: can't be read")
    failed(train(*wrong, "--hidden", "0"), 2, "--hidden: want a number of at least 1, found 0")
    failed(train(*wrong, "--max-time", "soon"), 2, "want a duration such as 90s")
    failed(train(*wrong, "--pooling", "min"), 2, "unknown pooling 'min'; choose from last")
    failed(train(*wrong, "--preset", "huge"), 2, "unknown preset 'huge'")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(("task", "name", "text", "options", "code", "words"), [
    ("classify", "in.tsv", "text\tlabel\na\tx\nb\tx\n", [], 3, "at least 2 different labels, found only 'x'"),
    ("classify", "in.tsv", "", [], 3, "want labelled texts, found none"),
    ("classify", "in.tsv", "text\tlabel\n", [], 3, "want labelled texts, found none"),
    ("classify", "in.tsv", "body\tkind\na\tx\n", [], 3, "in.tsv:1: want a column 'label'"),
    ("classify", "in.tsv", "text\tlabel\na\tx\tz\n", [], 3, "in.tsv:2: want 2 columns"),
    ("classify", "in.jsonl", '{"text": "a"}\n', [], 3, "in.jsonl:1: want a key 'label'"),
    ("classify", "in.jsonl", '{"text": \n', [], 3, "in.jsonl:1: want one JSON object"),
    ("tag", "in.conll", "a X\nb X\n\n", [], 3, "at least 2 different tags, found only 'X'"),
    ("tag", "in.conll", "a X\nb\n\n", [], 3, "in.conll:2: want at least 2 columns, found 1"),
    ("tag", "in.conll", "a X\nb Y\n\n", ["--column", "5"], 3, "want at least 5 columns, found 2"),
    ("tag", "in.conll", "", [], 3, "want tagged sentences, found none"),
    ("tag", "in.txt", "just some text\n", [], 3, "want words with tags, found text"),
    ("tag", "in.txt", "", [], 3, "want words with tags, found an empty file"),
    ("lm", "in.txt", "", [], 3, "want text, found none"),
    ("lm", "in.txt", "\n\n", [], 3, "want text, found none"),
    ("lm", "in.txt", "text\n", ["--dev", "gone.txt"], 3, "gone.txt: no such file"),
    ("lm", "in.txt", "text\n", ["--dev", os.devnull], 3, "want records for development, found none"),
    ("lm", "in.txt", "text\n", ["--vectors", "gone.vec", "--tokenizer", "word"], 3,
     "gone.vec: no such file"),
    ("lm", "in.txt", "text\n", ["--init", "gone"], 4, "gone: no model folder"),
    ("lm", "in.txt", "body\tkind\na\tx\n", ["--text-column", "body"], 2,
     "--text-column: goes with files in tsv or csv or jsonl, found text; leave it out, or see --from"),
    ("lm", "in.tsv", "text\tlabel\na\tx\n" * 9, ["--paragraphs"], 2,
     "--unit: goes with files in text, found tsv"),
    ("lm", "in.txt", "text\n", ["--resume"], 2, "--resume goes on with the files and settings"),
])  # fmt: skip
def test_train_on_bad_data(
    task: str, name: str, text: str, options: list[str], code: int, words: str, train: Train, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    failed(train(task, name, "-o", "out", *small(task), *options), code, words)
    assert not (tmp_path / "out" / "config.json").exists()


def test_train_writes_a_card_with_its_terms(train: Train, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a b\nc\n\nd\n" * 20)
    terms = ["--license", "cc-by-4.0", "--language", "en", "--about", "Letters, four of them."]
    done = train("lm", "in.txt", "-o", "out", *small("lm"), "--paragraphs", "-q", *terms)
    assert (done.code, done.err) == (0, "")
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    _, header, text = card.split("---\n")
    assert {"license: cc-by-4.0", "language: en"} <= set(header.splitlines())
    assert "Letters, four of them." in text
    assert json.loads((tmp_path / "out" / "config.json").read_text())["settings"]["unit"] == "paragraph"
    failed(train("lm", "in.txt", "-o", "x", "--paragraphs", "--documents"), 2, "--unit: want one choice")


def test_train_usage(train: Train, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("text\n")
    failed(train("lm", "in.txt"), 2, "give -o DIR")
    failed(train("lm", "-o", "out"), 2, "want training files")
    failed(train("lm", "gone.txt", "-o", "out"), 3, "gone.txt: no such file")
    failed(train("lm", "-", "--dev", "-", "-o", "out"), 2, "standard input")
    failed(train("lm", "in.txt", "-o", "in.txt"), 2, "in.txt: is a file")
    failed(train("lm", "in.txt", "-o", "in.txt/out"), 1, "can't be written to")
    failed(train("lm", "gone.txt", "-o", "in.txt/out"), 1, "can't be written to")  # said before data is read
    failed(train("lm", "in.txt", "-o", "."), 2, "holds other files and no model")
    failed(train("lm", "--resume", "-o", "out"), 4, "no training to resume")
    assert [path.name for path in tmp_path.iterdir()] == ["in.txt"]


def test_train_on_invalid_utf8(train: Train, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_bytes(b"good\nbad \xff\n" * 5)
    failed(train("lm", "in.txt", "-o", "out", *small("lm")), 3, "in.txt:2: want UTF-8, found 0xff at byte 5")
    done = train("lm", "in.txt", "-o", "out", *small("lm"), "--encoding-errors", "replace", "-q")
    assert (done.code, done.err) == (0, "")


def test_train_on_sentences_without_words(train: Train, tmp_path: Path) -> None:
    (tmp_path / "in.conll").write_text(tiny.conll(tiny.ner_sentences(10)) + "\n" * 50)
    for head in ("softmax", "crf"):
        done = train("tag", "in.conll", "-o", head, *small("tag"), "--head", head, "-q")
        assert (done.code, done.err) == (0, "")


def test_train_from_another_model(train: Train, writer: Path, tmp_path: Path) -> None:
    (tmp_path / "in.tsv").write_text(tiny.tsv(tiny.questions(40)))
    base = [*small("classify", tokenizer="char", embed=16, hidden=16, layers=2), "--no-bidirectional"]
    done = train("classify", "in.tsv", "-o", "out", *base, "--init", writer, "-v")
    assert done.code == 0
    entries = len((tmp_path / "out" / "vocab.txt").read_text("utf-8").splitlines())
    shared = len(set((tmp_path / "out" / "vocab.txt").read_text("utf-8").splitlines())
                 & set((writer / "vocab.txt").read_text("utf-8").splitlines()))
    parts = [f"input.embedding ({shared} of {entries} entries)", "layers.0.ahead", "layers.1.ahead"]
    said = f"carried over from {writer}: {', '.join(parts)}; not carried over: nothing"
    assert f"rnntool: {said}\n" in done.err
    kept = json.loads((tmp_path / "out" / "config.json").read_text("utf-8"))["init"]
    assert kept == {"model": str(writer), "parts": parts, "left": []}
    done = train("classify", "in.tsv", "-o", "plain", *base, "--init", writer)
    assert f"rnntool: {said}\n" in done.err
    done = train("classify", "in.tsv", "-o", "quiet", *base, "--init", writer, "-q")
    assert (done.code, done.err) == (0, "")


def test_train_from_another_model_takes_its_tokens_and_sizes(
    train: Train, writer: Path, tmp_path: Path
) -> None:
    (tmp_path / "in.tsv").write_text(tiny.tsv(tiny.questions(40)))
    short = ["--epochs=1", "--layers=2", "--no-bidirectional", "--init", str(writer), "-q"]
    assert train("classify", "in.tsv", "-o", "out", *short).code == 0
    content = json.loads((tmp_path / "out" / "config.json").read_text("utf-8"))
    assert [content["settings"][name] for name in ("tokenizer", "lower", "embed", "hidden")] == [
        "char", False, 16, 16]
    assert content["init"]["left"] == []
    assert train("classify", "in.tsv", "-o", "own", *short, "--hidden=8", "--lower").code == 0
    content = json.loads((tmp_path / "own" / "config.json").read_text("utf-8"))
    assert [content["settings"][name] for name in ("lower", "embed", "hidden")] == [True, 16, 8]


def test_train_from_another_model_carries_a_layer_whole_or_not(
    train: Train, writer: Path, tmp_path: Path
) -> None:
    (tmp_path / "in.tsv").write_text(tiny.tsv(tiny.questions(40)))
    base = [*small("classify", tokenizer="char", embed=10, hidden=16, layers=2), "--no-bidirectional"]
    done = train("classify", "in.tsv", "-o", "out", *base, "--init", writer)
    assert "carried over from" in done.err
    assert ": layers.1.ahead; not carried over: input.embedding, layers.0.ahead\n" in done.err
    failed(train("classify", "in.tsv", "-o", "odd", *base, "--hidden=10", "--init", writer), 4,
           "nothing of its encoder fits")


def test_train_from_another_model_maps_characters(train: Train, tmp_path: Path) -> None:
    from rnntool.models.weights import load_weights

    rows = tiny.questions(40)
    (tmp_path / "a.tsv").write_text(tiny.tsv(rows))
    (tmp_path / "b.tsv").write_text(tiny.tsv([("Aha Aho " + text, label) for text, label in rows]))
    still = ["--lr=0", "--weight-decay=0", "-q"]
    assert train("classify", "a.tsv", "-o", "a", *small("classify"), "-q").code == 0
    assert train("classify", "b.tsv", "-o", "b", *small("classify"), *still, "--init", "a").code == 0
    tables = []
    for name in "ab":
        content = json.loads((tmp_path / name / "config.json").read_text())
        characters = content["data"]["features"]["characters"]
        table = load_weights(tmp_path / name)["encoder.input.characters.embedding.weight"]
        tables.append(dict(zip(characters, table[2:].tolist(), strict=True)))
    before, after = tables
    assert list(after).index("e") != list(before).index("e")
    assert "A" in after.keys() - before.keys()
    assert all(after[char] == row for char, row in before.items())


def test_train_from_another_model_keeps_the_vectors_that_were_given(train: Train, tmp_path: Path) -> None:
    from rnntool.models.weights import load_weights

    (tmp_path / "in.tsv").write_text(tiny.tsv(tiny.questions(40)))
    (tmp_path / "a.vec").write_text("who 1 2\nwhere 3 4\n")
    (tmp_path / "b.vec").write_text("where 5 6\nwho 7 8\n")
    assert train("classify", "in.tsv", "-o", "a", *small("classify"), "--vectors", "a.vec", "-q").code == 0
    again = ["--vectors", "b.vec", "--init", "a", "-q"]
    done = train("classify", "in.tsv", "-o", "b", *small("classify"), *again)
    assert (done.code, done.err) == (0, "")
    vectors = load_weights(tmp_path / "b")["encoder.input.vectors.weight"]
    assert vectors.tolist() == [[0, 0], [5, 6], [7, 8]]


def test_train_keeps_a_dev_record_of_few(train: Train, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a b\nb a\n")
    done = train("lm", "in.txt", "-o", "out", *small("lm"), "-v")
    assert done.code == 0
    assert "1 training records, 1 for development" in done.err
    done = train("lm", "in.txt", "-o", "most", *small("lm"), "--dev-fraction", "0.9", "-v")
    assert "1 training records, 1 for development" in done.err
    for watching in (["--patience", "2"], ["--schedule", "plateau"]):
        base = ["lm", "in.txt", "-o", "x", *small("lm"), *watching]
        failed(train(*base, "--dev-fraction", "0"), 2, watching[0], "give --dev")
        assert train(*base[:3], "out" + watching[0], *base[4:], "-q").code == 0
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(("task", "name"), [("classify", "in.tsv"), ("tag", "in.conll")])
def test_train_where_no_word_is_frequent(
    task: str, name: str, train: Train, run: Run, tmp_path: Path
) -> None:
    data = {"in.tsv": "text\tlabel\nfine work\tgood\npoor stuff\tbad\nodd\tbad\n",
            "in.conll": "Fine X\nwork Y\n\npoor X\nstuff Y\n\nodd X\n\n"}
    (tmp_path / name).write_text(data[name])
    base = [task, name, *small(task), "--min-count=2", "--dev-fraction=0", "-q"]
    done = train(*base, "-o", "out")
    assert (done.code, done.err) == (0, "")
    assert (tmp_path / "out" / "vocab.txt").read_text() == ""
    assert len(ok(run(task, "-m", "out", input="fine work\n")).split()) in (1, 4)
    bare = [task, name, "--min-count=2", "--dev-fraction=0", "--chars=none", "--affix-embed=0"]
    failed(train(*bare, "-o", "x"), 3, "lower --min-count")


def test_train_resumes_with_nothing_else(train: Train, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("text\n")
    base = ["lm", "-o", "out", "--resume"]
    for more in (["in.txt"], ["--dev", "in.txt"], ["--from", "text"], ["--force"],
                 ["--encoding-errors", "replace"], ["--preset", "char"], ["--epochs", "3"]):
        failed(train(*base, *more), 2, "--resume goes on with the files and settings", f"leave {more[0]} out")


def test_options_that_would_say_nothing(tagger: Path, ner: Path, writer: Path, run: Run) -> None:
    tag = ["tag", "-m", tagger]
    failed(run(*tag, "--jsonl", "--to", "inline", input=LINES), 2, "--jsonl is short for --to jsonl")
    assert jsonl(ok(run(*tag, "--jsonl", "--to", "jsonl", input=LINES)))
    for more in (["--to", "inline"], ["--from", "tokens"], []):
        failed(run(*tag, "--column", "xpos", *more, input=LINES), 2, "--column: ", "--to conllu or jsonl")
    assert "\tDET" in ok(run(*tag, "--column", "xpos", "--to", "conllu", input=LINES))
    for flag in ("--ids", "--jsonl"):
        failed(run("tokenize", "-m", writer, "--decode", flag, input="4\n"), 2, "--decode", flag)


def test_evaluate_gives_one_batch_all_threads(
    tagger: Path, pos_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rnntool import model

    asked: list[dict[str, Any]] = []
    load = model.load

    def noted(*names: str, **options: Any) -> model.Model:
        asked.append(options)
        return load(*names, **options)

    monkeypatch.setattr(model, "load", noted)
    assert CliRunner().invoke(cli.app, ["evaluate", "-m", str(tagger), str(pos_file)]).exit_code == 0
    assert asked[0]["side_by_side"] is False
    for side_by_side, workers, threads in ((True, 3, 1), (False, 1, 3)):
        loaded = load(tagger, threads=3, side_by_side=side_by_side)
        options = loaded.engine.session.get_session_options()  # type: ignore[attr-defined]
        assert (loaded.pipeline.workers, options.intra_op_num_threads) == (workers, threads)
