"""Modules that filters must not import, because they would delay the first line by seconds."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Run

from rnntool.cli import COMMANDS

HEAVY = {"torch", "seqeval", "sklearn", "scipy", "matplotlib", "onnx", "pandas", "transformers",
         "pydantic"}
IMPORTTIME = ("-X", "importtime")


def imported(err: str) -> set[str]:
    """Top-level names of the modules in the report of `-X importtime`."""
    lines = (line for line in err.splitlines() if line.startswith("import time:"))
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


@pytest.mark.parametrize("arguments", [
    ["--help"], ["--version"], ["train", "tag", "--help"], ["tokenize"], ["models"],
    *([row.name, "--help"] for row in COMMANDS),
])
def test_commands_without_a_model_import_no_engine(arguments: list[str], run: Run) -> None:
    ran = run(*arguments, python=IMPORTTIME)
    assert ran.code == 0
    assert "rnntool" in imported(ran.err)
    assert not imported(ran.err) & (HEAVY | {"onnxruntime"})
    if "--help" in arguments or "--version" in arguments:
        assert "numpy" not in imported(ran.err)


@pytest.mark.parametrize("command", [["report"], ["inspect", "states", "-m"]])
def test_inspecting_a_model_does_not_import_torch(command: list[str], writer: Path, run: Run) -> None:
    ran = run(*command, writer, input="the baker\n", python=IMPORTTIME)
    assert ran.code == 0
    assert ran.out
    assert not imported(ran.err) & (HEAVY - {"onnx"})


@pytest.mark.parametrize(("command", "model"), [
    (["tag"], "tagger"), (["tag", "--probs", "--jsonl"], "ner"), (["classify"], "classifier"),
    (["segment"], "segmenter"), (["transduce"], "transducer"),
    (["transduce", "--beam", "1", "--jsonl"], "transducer"),
    (["score", "--per", "word"], "writer"), (["generate", "-n", "1", "--max-tokens", "5"], "writer"),
])
def test_a_filter_imports_nothing_heavy(
    command: list[str], model: str, run: Run, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(model)
    ran = run(*command, "-m", folder, input="the baker sings .\n", python=IMPORTTIME)
    assert ran.code == 0
    assert ran.out
    assert "onnxruntime" in imported(ran.err)
    assert not imported(ran.err) & HEAVY
