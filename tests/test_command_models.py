"""`rnntool models`, `info` and `export`."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import Run, failed, invoke, ok


def test_models_and_info(models: Path, tagger: Path, run: Run) -> None:
    rows = json.loads(ok(run("models", "--json", RNNTOOL_MODELS=str(models))))
    row = next(row for row in rows if row["name"] == "tiny-pos")
    assert (row["task"], row["figure"], row["value"]) == ("tag", "accuracy", 1.0)
    assert "tiny-pos" in ok(run("models", RNNTOOL_MODELS=str(models)))
    text = ok(run("info", "tiny-pos", RNNTOOL_MODELS=str(models)))
    assert "1 x 12 lstm, bidirectional" in text
    assert json.loads(ok(run("info", tagger, "--json")))["task"] == "tag"
    about = ok(run("info", "en-pos", "--json", PYTHONIOENCODING="latin-1"))
    assert not about.isascii(), "output is UTF-8, whatever the locale"


def test_a_damaged_graph_is_not_exported(tagger: Path, tmp_path: Path) -> None:
    shutil.copytree(tagger, tmp_path / "m")
    graph = tmp_path / "m" / "model.onnx"
    for damage in (lambda: graph.write_bytes(graph.read_bytes()[:1000]), graph.unlink):
        damage()
        failed(invoke("export", tmp_path / "m", "-o", tmp_path / "a.onnx"), 4, "m", "again")
        assert not (tmp_path / "a.onnx").exists()


def test_export_needs_the_weights_for_another_precision(tmp_path: Path) -> None:
    failed(invoke("export", "en-pos", "-o", tmp_path / "a.onnx"), 4, "has only an 8-bit graph; give --int8")
    ok(invoke("export", "en-pos", "-o", tmp_path / "a.onnx", "--int8"))


@pytest.mark.parametrize("name", ["tagger", "classifier", "writer"])
def test_export(name: str, run: Run, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(name)
    assert ok(run("export", model, "-o", "out.onnx")) == ""
    assert (tmp_path / "out.onnx").read_bytes() == (model / "model.onnx").read_bytes()
    failed(run("export", model, "-o", "out.onnx"), 2, "out.onnx: exists already; replace it with --force")
    assert ok(run("export", model, "-o", "out.onnx", "--int8", "--force")) == ""
    copy = Path(shutil.copytree(model, tmp_path / "int8"))
    assert ok(run("export", model, "-o", copy / "model.onnx", "--int8", "--force")) == ""
    assert (copy / "model.onnx").read_bytes() == (tmp_path / "out.onnx").read_bytes()
    command = {"classifier": "classify", "tagger": "tag", "writer": "score"}[name]
    assert len(ok(run(command, "-q", "-m", copy, input="who did the baker sing ?\n")).splitlines()) > 0


def test_export_never_replaces_a_device_or_a_pipe(tagger: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(pipe.read_bytes)
        ok(invoke("export", tagger, "--force", "-o", pipe))
        assert read.result(timeout=60) == (tagger / "model.onnx").read_bytes()
    assert pipe.is_fifo()
    device = tmp_path / "null"
    device.symlink_to("/dev/null")
    for flags in ([], ["--force"]):
        ok(invoke("export", tagger, *flags, "-o", device))
        assert device.is_symlink() and Path("/dev/null").is_char_device()
    assert list(tmp_path.iterdir()) == [pipe, device] or list(tmp_path.iterdir()) == [device, pipe]
