"""No command opens a connection or leaves a file behind, whatever its dependencies would like to do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import environment

UNWRITABLE = "/dev/null/home"  # where not even root can write
# calls that connect, or that create, change, rename or remove a file
CALLS = ("socket,connect,open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,symlink,"
         "symlinkat")
MODIFIES = re.compile(r"open.*O_(?:WRONLY|RDWR|CREAT)|creat\(|mkdir|rename|link")
PATH = re.compile(r'"([^"]*)"')

PYTHON = """
import sys, rnntool
print(next(rnntool.load(sys.argv[1]).tag(["the baker sings ."])).tags)
"""
COMMANDS = {
    "tag": "tag -m TAGGER",
    "classify": "classify -m CLASSIFIER",
    "segment": "segment -m SEGMENTER",
    "tag segmented": "tag -m TAGGER --segmenter SEGMENTER",
    "transduce": "transduce -q -m TRANSDUCER",
    "score": "score -m WRITER",
    "generate": "generate -q -m WRITER -n 1 --max-tokens 5",
    "evaluate": "evaluate -m TAGGER POS_FILE",
    "evaluate sequences": "evaluate -m TRANSDUCER PAIRS_FILE",
    "tokenize": "tokenize -m WRITER",
    "models": "models",
    "info": "info TAGGER",
    "export": "export TAGGER -o OUT/graph.onnx --int8",
    "report": "report WRITER -o OUT/report.html",
    "inspect states": "inspect states -m WRITER -o OUT/states.svg",
    "inspect neighbors": "inspect neighbors -m TAGGER the",
    "inspect gradients": "inspect gradients -m WRITER",
    "inspect attention": "inspect attention -m TRANSDUCER -o OUT/attention.html",
    "train": "train tag POS_FILE --dev POS_FILE -o OUT/model --epochs 1 --hidden 8 --embed 8 --device cpu -q",
    "train segment": "train segment SEGMENTED_FILE --dev SEGMENTED_FILE -o OUT/model --epochs 1 --hidden 8 "
                     "--embed 8 --device cpu -q",
    "train transduce": "train transduce PAIRS_FILE --dev PAIRS_FILE -o OUT/model --epochs 1 --hidden 8 "
                       "--embed 8 --device cpu -q",
}


@pytest.fixture
def places(
    tagger: Path, classifier: Path, writer: Path, transducer: Path, pos_file: Path, reversal_file: Path,
    segmenter: Path, segmented_file: Path, tmp_path: Path,
) -> dict[str, str]:
    """The folders and files of the commands, and the places where nothing may be left."""
    for name in ("out", "home", "tmp"):
        (tmp_path / name).mkdir()
    return {"TAGGER": str(tagger), "CLASSIFIER": str(classifier), "WRITER": str(writer),
            "TRANSDUCER": str(transducer), "SEGMENTER": str(segmenter),
            "POS_FILE": str(pos_file), "PAIRS_FILE": str(reversal_file),
            "SEGMENTED_FILE": str(segmented_file),
            "OUT": str(tmp_path / "out"), "HOME": str(tmp_path / "home"),
            "TMPDIR": str(tmp_path / "tmp")}


def words(name: str, places: dict[str, str]) -> list[str]:
    if name == "python":
        return [sys.executable, "-c", PYTHON, places["TAGGER"]]
    command = [re.sub("[A-Z_]{3,}", lambda part: places[part[0]], word) for word in COMMANDS[name].split()]
    return [sys.executable, "-m", "rnntool", *command]


def finished(command: list[str], places: dict[str, str], *, home: str) -> None:
    """Run a command that has to end without a message."""
    variables = environment(HOME=home, TMPDIR=places["TMPDIR"], PYTHONDONTWRITEBYTECODE="1")
    variables.pop("TORCHINDUCTOR_CACHE_DIR", None)  # torch has set it if this process trained a model
    done = subprocess.run(command, input=b"the baker sings .\n", capture_output=True, cwd=places["OUT"],
                          timeout=100, env=variables)
    assert (done.returncode, done.stderr) == (0, b"")


def connections_and_changes(trace: Path, *allowed: str) -> Iterator[str]:
    """Yield the calls of a trace that connect, or that change a file outside the folders `allowed`.

    The command was run in the first of these.
    """
    for line in trace.read_text("utf-8", "replace").splitlines():
        if re.search(r" (?:socket|connect)\(", line):
            yield line
        elif MODIFIES.search(line) and " = -1 " not in line:
            paths = [Path(allowed[0], path) for path in PATH.findall(line)]
            if any(not any(map(path.is_relative_to, allowed)) and path != Path(os.devnull) for path in paths):
                yield line


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
@pytest.mark.parametrize("name", [*COMMANDS, "python"])
def test_nothing_connects_or_writes_elsewhere(name: str, places: dict[str, str], tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    strace = ["strace", "-f", "--seccomp-bpf", "-e", f"trace={CALLS}", "-o", str(trace)]
    finished([*strace, *words(name, places)], places, home=places["HOME"])
    assert "open" in trace.read_text("utf-8", "replace")
    assert list(connections_and_changes(trace, places["OUT"], places["TMPDIR"])) == []
    assert not list(Path(places["TMPDIR"]).iterdir())


@pytest.mark.parametrize("name", ["tag", "python"])
def test_no_home_is_needed_and_nothing_is_left_in_one(name: str, places: dict[str, str]) -> None:
    finished(words(name, places), places, home=places["HOME"])
    assert not list(Path(places["HOME"]).iterdir())
    assert not list(Path(places["TMPDIR"]).iterdir())
    finished(words(name, places), places, home=UNWRITABLE)
