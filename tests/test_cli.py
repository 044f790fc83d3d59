"""The commands' options: help, completion, and those that would say nothing."""

from __future__ import annotations

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


def test_options_that_would_say_nothing(tagger: Path, ner: Path, writer: Path, run: Run) -> None:
    tag = ["tag", "-m", tagger]
    failed(run(*tag, "--jsonl", "--to", "inline", input=LINES), 2, "--jsonl is short for --to jsonl")
    assert jsonl(ok(run(*tag, "--jsonl", "--to", "jsonl", input=LINES)))
    for more in (["--to", "inline"], ["--from", "tokens"], []):
        failed(run(*tag, "--column", "xpos", *more, input=LINES), 2, "--column: ", "--to conllu or jsonl")
    assert "\tDET" in ok(run(*tag, "--column", "xpos", "--to", "conllu", input=LINES))
    for flag in ("--ids", "--jsonl"):
        failed(run("tokenize", "-m", writer, "--decode", flag, input="4\n"), 2, "--decode", flag)
