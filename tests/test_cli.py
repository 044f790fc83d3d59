"""The commands' options: help, completion, and those that would say nothing."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from conftest import Run, failed, invoke, jsonl, ok

LINES = "the baker sings .\n\nthe workful baker paints the teacher .\n"


COMMANDS = ("train lm", "train classify", "train tag", "tag", "classify", "generate", "score", "evaluate",
            "models", "info", "export", "tokenize", "report", "inspect gradients", "inspect clusters",
            "inspect neighbors", "inspect analogy", "inspect similarity", "inspect states")


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_has_examples(command: str) -> None:
    page = ok(invoke(*command.split(), "--help", COLUMNS="200"))
    assert "$ " in page.partition("Examples")[2]
    assert f"rnntool {command}" in page.partition("Examples")[2]


def test_every_command_is_known() -> None:
    shown = ok(invoke("--help", COLUMNS="200"))
    assert {command.split()[0] for command in COMMANDS} <= set(shown.split())


@pytest.mark.parametrize(("typed", "completed"), [
    ("rnntool tr", ["train"]), ("rnntool train ", ["lm", "classify", "tag"]),
    ("rnntool train lm --paragr", ["--paragraphs"]), ("rnntool train tag --head ", ["softmax", "crf"]),
])  # fmt: skip
def test_bash_completes(typed: str, completed: list[str]) -> None:
    asked = {"_RNNTOOL_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    assert ok(invoke(**asked)).split() == completed


def test_no_arguments_and_unknown_options(run: Run) -> None:
    assert "Usage" in run().out + run().err
    done = run("tag", "--unheard-of")
    assert (done.code, done.out) == (2, "")
    assert "--unheard-of" in done.err
    assert run("--version").out.startswith("rnntool ")


def test_the_name_of_the_output_says_its_format(
    tagger: Path, classifier: Path, writer: Path, pos_file: Path, run: Run, tmp_path: Path
) -> None:
    def written(name: str, *arguments: object) -> str:
        ok(run(*arguments, "-o", name, input="the baker sings .\n"))
        with (gzip.open if name.endswith(".gz") else open)(tmp_path / name, "rt", encoding="utf-8") as file:
            return str(file.read())

    for command, model in (("tag", tagger), ("classify", classifier)):
        plain = written("plain", command, "-m", model)
        assert written("a.html", command, "-m", model).startswith("<!DOCTYPE html>")
        assert jsonl(written("a.jsonl.gz", command, "-m", model))[0]["text"] == "the baker sings ."
        assert written("a.jsonl", command, "-m", model, "--to", "html").startswith("<!DOCTYPE html>")
        assert written("a.tsv", command, "-m", model) == plain
    assert "# text = the baker sings .\n1\tthe\t_\tDET\t" in written("a.conllu", "tag", "-m", tagger)
    assert written("a.tok", "tag", "-m", tagger) == "DET NOUN VERB PUNCT\n"
    for command in (["score"], ["tokenize"], ["generate", "--max-tokens", "3"]):
        assert "text" in jsonl(written("a.jsonl", *command, "-m", writer))[0]
    assert json.loads(written("a.json", "evaluate", pos_file, "-m", tagger))["task"] == "tag"
    said = run("tag", "-m", tagger, "-v", "-o", "b.html", input=LINES).err
    assert "b.html: is written as html" in said


def test_options_that_would_say_nothing(tagger: Path, ner: Path, writer: Path, run: Run) -> None:
    tag = ["tag", "-m", tagger]
    failed(run(*tag, "--jsonl", "--to", "inline", input=LINES), 2, "--jsonl is short for --to jsonl")
    assert jsonl(ok(run(*tag, "--jsonl", "--to", "jsonl", input=LINES)))
    for more in (["--to", "inline"], ["--from", "tokens"], []):
        failed(run(*tag, "--column", "xpos", *more, input=LINES), 2, "--column: ", "--to conllu or jsonl")
    assert "\tDET" in ok(run(*tag, "--column", "xpos", "--to", "conllu", input=LINES))
    for flag in ("--ids", "--jsonl"):
        failed(run("tokenize", "-m", writer, "--decode", flag, input="4\n"), 2, "--decode", flag)
