"""The command line: help, completion, usage errors, options without effect."""

from __future__ import annotations

import ast
import gzip
import inspect
import json
import re
from importlib import import_module
from pathlib import Path

import pytest
from conftest import ROOT, Run, failed, invoke, jsonl, ok

from rnntool.cli import COMMANDS
from rnntool.commands.inspect import rows as inspect_rows
from rnntool.commands.train import rows as train_rows
from rnntool.commands.tune import rows as tune_rows

LINES = "the baker sings .\n\nthe workful baker paints the teacher .\n"


GROUPS = {"train": train_rows(), "tune": tune_rows(), "inspect": inspect_rows()}
ROWS = {**{row.name: row for row in COMMANDS if row.name not in GROUPS},
        **{f"{group} {row.name}": row for group, rows in GROUPS.items() for row in rows}}


@pytest.mark.parametrize("command", ["", *ROWS])
def test_help_has_examples(command: str) -> None:
    page = ok(invoke(*command.split(), "--help", COLUMNS="200"))
    assert "$ " in page.partition("Examples")[2]
    assert f"rnntool {command}" in page.partition("Examples")[2]


def test_the_help_breaks_no_line_within_a_paragraph() -> None:
    page = ok(invoke("segment", "--help", COLUMNS="300"))
    function = import_module("rnntool.commands.segment").segment
    for paragraph in (inspect.getdoc(function) or "").split("\n\n"):
        assert " ".join(paragraph.split()) in page


@pytest.mark.parametrize("command", ROWS)
def test_the_row_of_a_command_is_complete(command: str) -> None:
    """The help lists a command by its row and describes it by its docstring, so both say the same."""
    row = ROWS[command]
    assert row.summary.endswith(".")
    if isinstance(row.load, str):
        function = getattr(import_module(row.load), row.name.replace("-", "_"))
        assert " ".join(inspect.getdoc(function).partition("\n\n")[0].split()) == row.summary
        assert all(line.startswith(f"rnntool {command}") or f"| rnntool {command}" in line
                   for line in function.examples)
    *group, name = command.split()
    assert name in ok(invoke(*group, "--help", COLUMNS="200")).split()


def test_each_module_of_a_command_has_a_row() -> None:
    """A module that belongs to no command is not named like one: nothing in it has its name."""
    loaded = {row.load for row in ROWS.values()}
    for path in sorted((ROOT / "rnntool" / "commands").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if f"def {path.stem}(" in path.read_text("utf-8") and path.stem not in ("train", "tune"):
            assert name in loaded, name


@pytest.mark.parametrize(("typed", "completed"), [
    ("rnntool tr", ["transduce", "train"]),
    ("rnntool train ", ["lm", "classify", "tag", "transduce", "segment", "ud"]),
    ("rnntool train lm --paragr", ["--paragraphs"]), ("rnntool train tag --head ", ["softmax", "crf"]),
])  # fmt: skip
def test_bash_completes(typed: str, completed: list[str]) -> None:
    asked = {"_RNNTOOL_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    assert ok(invoke(**asked)).split() == completed


def test_no_arguments_show_the_help(run: Run) -> None:
    assert "Usage" in run().out + run().err
    assert "Usage" in run("train").out + run("train").err
    assert run("--version").out.startswith("rnntool ")


@pytest.mark.parametrize(("typed", "message"), [
    ("tga", "No such command: tga. Did you mean tag?"),
    ("train tga", "No such command: tga. Did you mean tag?"),
    ("inspect xyz", "No such command: xyz. Choose one of analogy, attention, clusters, gradients, "
                    "neighbors, similarity, states"),
    ("tag --thread 3", "No such option: --thread. Did you mean --threads?"),
    ("tag --xyzzy", "No such option: --xyzzy. See rnntool tag --help."),
    ("tag -x", "No such option: -x. See rnntool tag --help."),
    ("--versio", "No such option: --versio. Did you mean --version?"),
    ("tag -m", "Option '-m' requires an argument. See rnntool tag --help."),
    ("tag --probs=3", "Option '--probs' does not take a value. See rnntool tag --help."),
    ("tag --threads two", "--threads: expected a whole number of at least 0, found 'two'"),
    ("tag --threshold 2", "--threshold: expected a number from 0 to 1, found 2.0"),
    ("classify --top 0", "--top: expected a whole number of at least 1, found 0"),
    ("generate --temperature hot", "--temperature: expected a number from 0 to 1000000, found 'hot'"),
    ("train tag a -o b --head crff", "--head: expected one of softmax, crf, found 'crff'"),
    ("train tag --max-time soon", "--max-time: expected a duration such as 90s, 10m or 1.5h, found 'soon'"),
    ("export", "Missing argument 'MODEL'. See rnntool export --help."),
    ("models a b", "Got unexpected extra argument(s) (a b). See rnntool models --help."),
])  # fmt: skip
def test_a_usage_error_is_one_sentence(typed: str, message: str) -> None:
    done = invoke(*typed.split())
    failed(done, 2)
    assert done.err == f"rnntool: {message}\n"


def test_an_error_in_a_model_from_a_variable_names_the_variable() -> None:
    failed(invoke("tag", RNNTOOL_MODEL="gone"), 4, "gone: RNNTOOL_MODEL: no such folder")
    failed(invoke("tag", "-m", "gone", RNNTOOL_MODEL="gone"), 4, "rnntool: gone: no such folder")


def test_standard_input_is_read_only_once() -> None:
    failed(invoke("tag", "-", "-", input=""), 2, "standard input can be read only once; give - only once")


@pytest.mark.parametrize(("variable", "value", "message"), [
    ("RNNTOOL_THREADS", "two", "RNNTOOL_THREADS: expected a whole number of at least 0, found 'two'"),
    ("RNNTOOL_HEAD", "crff", "RNNTOOL_HEAD: expected one of softmax, crf, found 'crff'"),
    ("RNNTOOL_BIDIRECTIONAL", "maybe", "RNNTOOL_BIDIRECTIONAL: expected true or false, found 'maybe'"),
])  # fmt: skip
def test_an_error_in_a_variable_names_the_variable(variable: str, value: str, message: str) -> None:
    done = invoke("train", "tag", "a", "-o", "b", **{variable: value})
    failed(done, 2)
    assert done.err == f"rnntool: {message}\n"


def test_the_extension_of_the_output_chooses_the_format(
    tagger: Path, classifier: Path, writer: Path, pos_file: Path, tmp_path: Path
) -> None:
    def written(name: str, *arguments: object) -> str:
        ok(invoke(*arguments, "-o", tmp_path / name, input="the baker sings .\n"))
        with (gzip.open if name.endswith(".gz") else open)(tmp_path / name, "rt", encoding="utf-8") as file:
            return str(file.read())

    for command, model in (("tag", tagger), ("classify", classifier)):
        plain = written("plain", command, "-m", model)
        assert written("a.html", command, "-m", model).startswith("<!DOCTYPE html>")
        assert jsonl(written("a.jsonl.gz", command, "-m", model))[0]["text"] == "the baker sings ."
        assert written("a.jsonl", command, "-m", model, "--to", "html").startswith("<!DOCTYPE html>")
        assert written("a.txt", command, "-m", model) == plain
        assert written("a.tsv", command, "-m", model).startswith("text\t")
    assert "# text = the baker sings .\n1\tthe\t_\tDET\t" in written("a.conllu", "tag", "-m", tagger)
    assert written("a.tok", "tag", "-m", tagger) == "DET NOUN VERB PUNCT\n"
    for command in (["score"], ["tokenize"], ["generate", "--max-tokens", "3"]):
        assert "text" in jsonl(written("a.jsonl", *command, "-m", writer))[0]
    assert json.loads(written("a.json", "evaluate", pos_file, "-m", tagger))["task"] == "tag"
    message = invoke("tag", "-m", tagger, "-v", "-o", tmp_path / "b.html", input=LINES).err
    assert "b.html: written as html" in message


def test_options_without_effect_on_the_output(tagger: Path, ner: Path, writer: Path, run: Run) -> None:
    tag = ["tag", "-m", tagger]
    failed(run(*tag, "--jsonl", "--to", "inline", input=LINES), 2, "--jsonl contradicts --to inline")
    assert jsonl(ok(run(*tag, "--jsonl", "--to", "jsonl", input=LINES)))
    for more in (["--to", "inline"], ["--from", "tokens"], []):
        failed(run(*tag, "--column", "xpos", *more, input=LINES), 2, "--column: ", "--to jsonl or conllu")
    assert "\tDET" in ok(run(*tag, "--column", "xpos", "--to", "conllu", input=LINES))
    for flag in ("--ids", "--jsonl"):
        failed(run("tokenize", "-m", writer, "--decode", flag, input="4\n"), 2, "--decode", flag)


def test_no_module_uses_private_parts_of_another() -> None:
    public = {"_asdict", "_fields", "_replace", "_exit"}  # of named tuples, and of os
    for path in (ROOT / "rnntool").rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        imported = [name.name for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)
                    for name in node.names]
        imported += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        parts = {part for name in imported for part in name.split(".")}
        assert not {part for part in parts if re.match(r"_[a-z]", part)}, path
        defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        own = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)
               and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")}
        used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)
                and re.match(r"_[a-z]", node.attr)}
        assert used <= defined | own | public, path
