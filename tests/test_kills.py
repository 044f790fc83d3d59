"""Processes that are killed: no model is lost, starting again works, and what is announced is on the disk."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tiny
from conftest import Run, environment, failed

import rnntool
from rnntool import model_folder
from rnntool.errors import ModelError, RnntoolError
from rnntool.inference.model import Model
from rnntool.training.loop import Interrupted

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
ALL = {"config.json", "model.onnx", "model.safetensors", "vocab.txt", "metrics.jsonl", "README.md"}
MODEL = ALL | {"labels.txt", "ngrams.safetensors"}
FILES = {"classify": MODEL, "transduce": ALL | {"decoder.onnx", "target.vocab.txt"},  # of a model
         "segment": ALL | {"multiword.txt"}}
ANSWERS: dict[str, Callable[[Model], object]] = {
    "classify": lambda model: next(model.classify(["who did the baker sing ?"])).chosen,
    "transduce": lambda model: next(model.transduce(["abc"])),
    "segment": lambda model: list(model.segment(["Hunt dont sing. Jump."])),
}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "train.tsv"
    path.parent.mkdir()
    path.write_text(tiny.tsv(tiny.questions(20)))
    return path


# --- Before each file operation ----------------------------------------------------------------------------


def killed_before(operation: int, work: Callable[[], object]) -> bool:
    """Run a function in a forked process that is killed before its n-th change of files.

    False if it ends well before that.
    """
    changes = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link"}
    left = operation

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event in changes or (event == "open" and (arguments[2] or 0) & (os.O_RDWR | os.O_WRONLY)):
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if not child:
        sys.addaudithook(watch)
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code != 0


@needs_fork
def test_a_model_is_always_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    def write(content: str, *names: str) -> None:
        with model_folder.locked(out, warn=lambda message: None), model_folder.new_model(out) as stage:
            for name in names:
                (stage / name).write_text(content)

    def state() -> set[tuple[str, str]]:
        return {(path.name, path.read_text()) for path in model_folder.find(out).iterdir()
                if path.name in model_folder.MODEL_FILES}

    def replace() -> None:
        write("new", "config.json", "model.onnx", "vocab.txt")

    out, operation, states = tmp_path / "out", 0, []
    old = {(name, "old") for name in ("config.json", "model.onnx", "vectors.txt", "labels.txt")}
    new = {(name, "new") for name in ("config.json", "model.onnx", "vocab.txt")}
    killed = True
    while killed:
        operation += 1
        shutil.rmtree(out, ignore_errors=True)
        write("old", *(name for name, _ in old))
        (out / "notes.txt").write_text("of the user")
        killed = killed_before(operation, replace)
        if model_folder.find(out) == out:
            states.append(state() & (old | new))
            assert new <= state() or state() == old, operation
        else:
            assert state() == new, operation
        with model_folder.locked(out, warn=lambda message: None):
            assert state() in (old, new), operation
        if state() == new:
            replaced = {"config.json", "model.onnx", "vocab.txt", "notes.txt"}
            assert {path.name for path in out.iterdir()} == replaced
    assert operation > 20
    assert states[0] == old


def test_a_model_can_be_loaded_while_it_is_replaced(tagger: Path, joint: Path, tmp_path: Path) -> None:
    out, stopped = tmp_path / "out", threading.Event()

    def replace() -> None:
        for other in itertools.cycle([joint, tagger]):
            with model_folder.new_model(out) as stage:
                shutil.copytree(other, stage, dirs_exist_ok=True)
            if stopped.is_set():
                return

    shutil.copytree(tagger, out)
    thread = threading.Thread(target=replace)
    thread.start()
    try:
        for _ in range(40):
            rnntool.load(out)
    finally:
        stopped.set()
        thread.join()


@needs_fork
@pytest.mark.parametrize(("task", "has_old_model", "stride"), [
    ("classify", False, 11), ("classify", True, 11), ("transduce", True, 23), ("segment", True, 29)])
def test_a_training_that_is_killed_anywhere_can_start_again(
    task: str, has_old_model: bool, stride: int, table: Path, tmp_path: Path
) -> None:
    def train(**more: Any) -> None:
        init = {"init": str(out)} if has_old_model and task == "classify" else {}
        tiny.train(task, out, [table], epochs=2, seed=2, **init | more)

    def restore() -> None:
        shutil.rmtree(out, ignore_errors=True)
        if has_old_model:
            shutil.copytree(old, out)

    def files() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in out.iterdir() if path.name != "metrics.jsonl"}

    old, out, ends = tmp_path / "old", tmp_path / "out", set()
    if task == "transduce":
        table.write_text(tiny.pairs(tiny.reversals(40)))
    if task == "segment":
        table = table.with_suffix(".conllu")
        table.write_text(tiny.segmented_conllu(20))
    tiny.train(task, old, [table], epochs=1)
    restore()
    train(force=has_old_model)
    whole, operation = files(), 1
    assert set(whole) | {"metrics.jsonl"} == FILES[task]
    restore()
    while killed_before(operation, lambda: train(force=has_old_model)):
        if has_old_model:
            assert ANSWERS[task](rnntool.load(out))
        try:
            tiny.train(task, out, resume=True)
            ends.add("resumed")
        except ModelError as error:
            ends.add(str(error).partition(": ")[2].partition(";")[0])
            if "has ended" not in str(error):
                train()
            elif files() != whole:
                train(force=True)
        assert files() == whole, operation
        operation += stride
        restore()
    assert ends >= {"resumed", "its training has ended"}
    assert ("there is no training to resume" in ends) != has_old_model


@needs_fork
def test_a_training_that_is_killed_while_it_stops_keeps_its_checkpoint(table: Path, tmp_path: Path) -> None:
    def stop() -> None:
        with pytest.raises(Interrupted):
            tiny.train("classify", out, resume=True, stopping=lambda: signal.SIGTERM)

    def files() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in out.iterdir()
                if path.is_file() and path.name != "metrics.jsonl"}

    out, before, operation, models = tmp_path / "out", tmp_path / "before", 1, set()
    calls = iter(range(9))
    with pytest.raises(Interrupted):
        tiny.train("classify", out, [table], epochs=2,
                   stopping=lambda: signal.SIGTERM if next(calls) == 2 else None)
    for name in MODEL:
        (out / name).unlink()
    out.rename(before)
    shutil.copytree(before, out)
    tiny.train("classify", out, resume=True)
    whole = files()
    killed = True
    while killed:
        shutil.rmtree(out)
        shutil.copytree(before, out)
        killed = killed_before(operation, stop)
        try:
            models.add(next(rnntool.load(out).classify(["who did the baker sing ?"])).chosen[0])
        except ModelError:
            models.add(None)
        assert model_folder.is_resumable(out), operation
        tiny.train("classify", out, resume=True)
        assert files() == whole, operation
        operation += 7
    assert len(models) == 2, "no model first, then one"


# --- What earlier versions left ----------------------------------------------------------------------------


@pytest.mark.parametrize("left", [[], ["job.json"], ["job.json", "task/data.json"], ["state.json"]])
def test_a_checkpoint_that_was_never_complete_is_none(left: list[str], table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in left:
        (out / "resume" / name).parent.mkdir(parents=True, exist_ok=True)
        (out / "resume" / name).write_text("{")
    with pytest.raises(ModelError, match="there is no training to resume; leave resume out to start one"):
        tiny.train("classify", out, resume=True)
    with pytest.raises(ModelError, match=r"is not a model folder|no such folder"):
        rnntool.load(out)
    tiny.train("classify", out, [table], epochs=1)
    assert {path.name for path in out.iterdir()} == MODEL


# --- Leftovers, and other processes ------------------------------------------------------------------------


@contextmanager
def waiting_tagger(model: Path, output: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Start a filter that writes a file and waits for its input; also return its temporary file."""
    before = set(output.parent.glob(".rnntool-*.part"))
    words = [sys.executable, "-m", "rnntool", "tag", "-m", str(model), "-f", "tokens", "-o", str(output)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, env=environment()) as process:
        try:
            while not (new := set(output.parent.glob(".rnntool-*.part")) - before):
                time.sleep(0.01)
            yield process, new.pop()
        finally:
            process.kill()


@pytest.mark.skipif(os.name == "nt", reason="no kill")
def test_temporary_files_of_killed_processes_are_removed(tagger: Path, run: Run, tmp_path: Path) -> None:
    with waiting_tagger(tagger, tmp_path / "a") as (alive, in_use):
        with waiting_tagger(tagger, tmp_path / "b") as (dead, abandoned):
            dead.kill()
            dead.wait()
        assert in_use.exists()
        assert abandoned.exists()
        (tmp_path / ".rnntool-notes.part").write_text("not ours")
        assert run("tag", "-m", tagger, "-f", "tokens", "-o", "b", input="the baker\n").code == 0
        assert {path.name for path in tmp_path.iterdir()} == {"b", ".rnntool-notes.part", in_use.name}
        assert alive.stdin is not None
        alive.stdin.close()
        assert alive.wait(20) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", ".rnntool-notes.part"}


def test_a_training_that_starts_again_after_a_kill_says_so(tmp_path: Path) -> None:
    out, said = tmp_path / "out", []
    (out / f"{model_folder.UNFINISHED}checkpoint").mkdir(parents=True)
    with model_folder.locked(out, warn=said.append):
        assert [path.name for path in out.iterdir()] == [model_folder.LOCK]
    assert said == [f"{out}: removed the files of a training that was killed before its first checkpoint"]


@contextmanager
def slow_training(table: Path, out: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a training and wait for its first evaluation."""
    words = [sys.executable, "-m", "rnntool", "train", "classify", str(table), "-o", str(out),
             "--epochs=100000", "--hidden=4", "--embed=4", "--layers=1"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment()) as process:
        try:
            assert process.stderr is not None
            assert any(line.startswith("epoch ") for line in process.stderr)
            yield process
        finally:
            process.kill()


@pytest.mark.skipif(os.name == "nt", reason="no SIGSTOP")
def test_two_trainings_do_not_share_a_folder(table: Path, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with slow_training(table, out) as process:
        process.send_signal(signal.SIGSTOP)
        message = f"{out}: another training is writing there (process {process.pid} on "
        failed(run("train", "classify", table, "-o", out), 1, message, "; wait until it ends, or choose ")
        for how in ({"files": [table], "force": True}, {"resume": True}):
            with pytest.raises(RnntoolError, match=re.escape(message)):
                tiny.train("classify", out, **how)
        assert {path.name for path in out.iterdir()} == {"resume", ".lock"}
        process.kill()
        process.wait()
        with pytest.raises(RnntoolError, match="stopped after step"):
            tiny.train("classify", out, resume=True, stopping=lambda: signal.SIGTERM)
    assert {path.name for path in out.iterdir()} == {"resume"}


# --- A power cut -------------------------------------------------------------------------------------------

RECORD = """
import json, os, sys
events, fsync = [], os.fsync
def record(descriptor):
    fsync(descriptor)
    events.append(["sync", os.readlink(f"/proc/self/fd/{descriptor}")])
def hook(event, arguments):
    if event == "os.rename":
        events.append(["rename", *(os.path.join(os.getcwd(), os.fspath(path)) for path in arguments[:2])])
os.fsync = record
sys.addaudithook(hook)
sys.argv = ["rnntool", *sys.argv[2:]]
from rnntool.cli import main
try:
    main()
finally:
    with open(os.environ["EVENTS"], "w") as file:
        json.dump(events, file)
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors have no names there")
@pytest.mark.parametrize("command", ["tag", "train", "export"])
def test_what_gets_its_name_is_on_the_disk(command: str, tagger: Path, table: Path, tmp_path: Path) -> None:
    arguments = {
        "tag": ["tag", "-m", tagger, "-f", "tokens", "-o", "out"],
        "train": ["train", "classify", table, "-o", "out", "--epochs=1", "--hidden=4", "--embed=4"],
        "export": ["export", tagger, "-o", "out"],
    }[command]
    done = subprocess.run(
        [sys.executable, "-c", RECORD, "", *map(str, arguments)], input=b"the\n", capture_output=True,
        cwd=tmp_path, env=environment(EVENTS=str(tmp_path / "events")), timeout=100)
    assert done.returncode == 0, done.stderr
    events = json.loads((tmp_path / "events").read_text())
    synced: set[str] = set()
    named = 0
    for i, (kind, *paths) in enumerate(events):
        if kind == "sync":
            synced.add(paths[0])
            continue
        source, target = paths
        if "/.writing-" in target:  # a link to a file of `.new`, or something that is removed
            continue
        linked = f"{Path(target).parent}/.new/{Path(target).name}"
        assert {source, linked} & synced, target
        assert ["sync", str(Path(target).parent)] in events[i:], target
        synced |= {target + path.removeprefix(source) for path in synced if path.startswith(source)}
        named += 1
    assert named >= {"tag": 1, "train": 9, "export": 1}[command]
