"""The end of a command: exit codes, one sentence per error, signals, closed pipes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Ran, Run, bash, environment, failed, invoke, ok


@pytest.mark.parametrize(("command", "name"), [
    (["tag", "--from", "tokens"], "tagger"), (["tokenize"], None),
    (["generate", "-q", "-n", "3000", "--max-tokens", "3"], "writer"),
])  # fmt: skip
def test_head_ends_quietly(command: list[str], name: str | None, request: pytest.FixtureRequest) -> None:
    model = f"-m '{request.getfixturevalue(name)}'" if name else ""
    rnntool = f"{sys.executable} -m rnntool {' '.join(command)} {model}"
    script = f"yes 'the baker sings .' | head -20000 | {rnntool} | head -1; echo ${{PIPESTATUS[2]}}"
    done = bash(script)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "0"
    assert len(done.stdout.splitlines()) == 2


@pytest.mark.skipif(os.name == "nt", reason="other signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_leaves_no_half_written_file(name: str, tagger: Path, tmp_path: Path) -> None:
    number = signal.Signals[name]
    words = [sys.executable, "-m", "rnntool", "tag", "-m", str(tagger), "-f", "tokens", "-o", "out"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
                          env=environment()) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        while not list(tmp_path.iterdir()):  # the file that will become `out`
            time.sleep(0.01)
        process.send_signal(number)
        assert process.wait(10) == 128 + number
        assert process.stderr.read() == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="no SIGHUP")
def test_nohup_keeps_working(tagger: Path) -> None:
    words = ["nohup", sys.executable, "-m", "rnntool", "tag", "-m", str(tagger), "-f", "tokens"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          text=True, env=environment()) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(2):
            process.stdin.write("the baker\n")
            process.stdin.flush()
            assert process.stdout.readline() == "DET NOUN\n"
            process.send_signal(signal.SIGHUP)
        process.stdin.close()
        assert process.wait(20) == 0


# A process that sends itself a signal at one of its imports, which is given by its number or its name.
# `how` says where Python notices it: a weak reference drops it, a module in C makes it an ImportError.
INTERRUPTED_AT_AN_IMPORT = """
import os, runpy, signal, sys, weakref
at, how = sys.argv[1:3]
seen = 0
def interrupt(*_):
    os.kill(os.getpid(), signal.SIGINT)
def in_c(*_):
    try:
        interrupt()
    except KeyboardInterrupt as error:
        raise ImportError("initialization failed") from error
def hook(event, arguments):
    global seen
    if event == "import":
        seen += 1
        if at in (str(seen), arguments[0]):
            if how == "dropped":
                thing = hook.__class__(hook.__code__, {})
                reference = weakref.ref(thing, interrupt)
                del thing
            else:
                {"plain": interrupt, "in C": in_c}[how]()
sys.addaudithook(hook)
sys.argv = ["rnntool", "tag"]
runpy.run_module("rnntool", run_name="__main__")
"""


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT to oneself")
@pytest.mark.parametrize(("at", "how"), [
    ("8", "plain"), ("25", "plain"), ("60", "plain"), ("150", "plain"), ("250", "plain"), ("60", "dropped"),
    ("200", "dropped"), ("numpy._core._multiarray_umath", "in C"),
    ("onnxruntime.capi.onnxruntime_pybind11_state", "in C")])
def test_an_early_ctrl_c_shows_no_traceback(at: str, how: str) -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED_AT_AN_IMPORT, at, how], capture_output=True,
                          input=b"", env=environment(), timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_the_package_imports_nothing() -> None:
    script = "import sys; old = set(sys.modules); import rnntool.__main__; print(*set(sys.modules) - old)"
    done = subprocess.run([sys.executable, "-S", "-c", script], capture_output=True, text=True,
                          env=environment(), timeout=60)
    assert set(done.stdout.split()) == {"__future__", "rnntool", "rnntool.__main__"}, "Ctrl-C would show them"


@pytest.mark.parametrize("module", ["typer", "rnntool.tasks.specs.settings", "numpy"])
def test_ctrl_c_while_a_command_starts(module: str, run: Run) -> None:
    interrupted = f"""
import runpy, sys
class Interrupted:
    def find_spec(self, name, *rest):
        if name == {module!r}:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupted())
sys.argv = ["rnntool", "tag"]
runpy.run_module("rnntool", run_name="__main__")
"""
    words = [sys.executable, "-c", interrupted]
    done = subprocess.run(words, capture_output=True, input=b"", env=environment(), timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


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
def test_a_closed_output_ends_quietly(command: list[str], tagger: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    arguments = [str(tagger) if word == "MODEL" else word for word in command]
    done = subprocess.run([sys.executable, "-m", "rnntool", *arguments], stdout=write, stderr=subprocess.PIPE,
                          env=environment(), text=True, timeout=60)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("ending", ["2>&1 | head -1", "2>&-"])
def test_a_training_continues_if_standard_error_is_closed(ending: str, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("the baker sings .\nthe teacher paints .\n" * 100)
    words = [sys.executable, "-m", "rnntool", "train", "lm", str(tmp_path / "in.txt"), "-o",
             str(tmp_path / "out"), "--hidden=4", "--embed=4", "--layers=1", "--epochs=3", "-v"]
    done = bash(f"{' '.join(words)} --tokenizer=char {ending}; echo ${{PIPESTATUS[0]}}")
    assert (tmp_path / "out" / "config.json").exists()
    assert not (tmp_path / "out" / "resume").exists()
    assert (done.stdout.splitlines()[-1], done.stderr) == ("0", "")
    assert len(done.stdout.splitlines()) == (2 if "head" in ending else 1)


def test_exit_codes_with_a_closed_standard_error(tagger: Path, tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "rnntool", "tag", "-m", str(tagger), "gone.txt"],
                          stderr=write, stdout=subprocess.PIPE, env=environment(), timeout=60)
    os.close(write)
    assert (done.returncode, done.stdout) == (3, b"")


def test_missing_and_wrong_inputs(tagger: Path, run: Run, tmp_path: Path) -> None:
    failed(run("tag", "-m", tagger, "gone.txt"), 3, "gone.txt: no such file")
    failed(run("tag", "-m", tagger, tmp_path), 3, "expected a file, found a folder")
    failed(run("tag", "-m", tagger, "--from", "xml"), 2, "xml")
    (tmp_path / "bad.conllu").write_text("1\tthe\t_\n\n")
    failed(run("tag", "-m", tagger, "bad.conllu"), 3, "bad.conllu:1: expected 10 columns")
    failed(run("evaluate", "gone.conllu", "-m", tagger), 3, "gone.conllu")
    (tmp_path / "empty.conllu").write_text("")
    failed(run("evaluate", "empty.conllu", "-m", tagger), 3, "expected records to evaluate on, found none")
    (tmp_path / "plain.txt").write_text("the baker\n")
    failed(run("evaluate", "plain.txt", "-m", tagger), 3, "plain.txt")


def test_folders_that_are_not_models(tagger: Path, writer: Path, run: Run, tmp_path: Path) -> None:
    failed(run("tag", "-m", "gone"), 4, "gone: no such folder, and no model has this name")
    failed(run("tag", "-m", tmp_path), 4, "is not a model folder")
    failed(run("tag", "-m", writer), 4, "`generate` or `score`", "`tag`")
    failed(run("generate", "-m", tagger), 4, "`tag`")
    failed(run("info", tmp_path), 4, "is not a model folder")
    failed(run("export", tmp_path, "-o", "x.onnx"), 4, "is not a model folder")


@pytest.mark.parametrize(("name", "text"), [
    ("config.json", '{"format": 1'), ("model.onnx", "x"), ("labels.txt", ""),
])
def test_damaged_models(name: str, text: str, tagger: Path, run: Run, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tagger, tmp_path / "copy"))
    (copy / name).write_text(text)
    failed(run("tag", "-m", copy, input="the\n"), 4, str(copy / name))


def test_a_truncated_model(tagger: Path, run: Run, tmp_path: Path) -> None:
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
    assert done.err == ("rnntool: <stdin>:2: expected UTF-8, found 0xff at byte 6; name its encoding with "
                        "--encoding, or set --encoding-errors replace\n")
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


def test_a_folder_without_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_dir", forbidden)
    failed(invoke("info", "locked"), 1, "locked: permission denied")


def test_a_closed_standard_output(tagger: Path) -> None:
    done = bash(f'echo the | {sys.executable} -m rnntool tag -m "{tagger}" >&-')
    failed(Ran(done.returncode, "", done.stderr), 1,
           "<stdout>: standard output is closed; name a file with --output")


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of the address space")
@pytest.mark.parametrize(("megabytes", "command"), [(60, "tag"), (400, "tag"), (400, "tokenize")])
def test_too_little_memory(megabytes: int, command: str, tagger: Path, tmp_path: Path) -> None:
    (tmp_path / "long").write_text("the baker sings . " * 1_500_000)
    line = f"{sys.executable} -m rnntool {command} -m '{tagger}' '{tmp_path / 'long'}'"
    done = bash(f"ulimit -v {megabytes * 1024}; {line}")
    failed(Ran(done.returncode, done.stdout, done.stderr), 1, "not enough memory; close other programs")


@pytest.mark.parametrize("error", [
    MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory"), RuntimeError("std::bad_alloc"),
    ImportError("libtorch_cpu.so: failed to map segment from shared object"),
])
def test_any_error_about_memory_is_one_sentence(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> bool:
        raise error

    monkeypatch.setattr(Path, "is_dir", fail)
    failed(invoke("info", "large"), 1, "not enough memory")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("command", [["tag", "-m", "MODEL"], ["info", "MODEL"]])
def test_a_full_disk(command: list[str], tagger: Path) -> None:
    arguments = [str(tagger) if word == "MODEL" else word for word in command]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-m", "rnntool", *arguments], input="the\n", stdout=full,
                              stderr=subprocess.PIPE, env=environment(), text=True, timeout=60)
    failed(Ran(done.returncode, "", done.stderr), 1, "No space left")
