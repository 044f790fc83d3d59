"""What `train` shows while it works: a line at a time where no terminal is attached, otherwise a bar."""

from __future__ import annotations

import io
import itertools
import os
import pty
import re
import signal
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import rich.console
import rich.progress
import tiny

from rnntool import cli
from rnntool.commands import console
from rnntool.data.progress import Counter, Stage
from rnntool.training import loop
from rnntool.training.checkpoint import Progress
from rnntool.training.loop import Step


def test_work_before_a_training_is_shown_as_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with console.training_progress(quiet=False) as watch:
        for done in (1, 2, 3):
            watch(Stage("reading", None, done, "MB"))
        assert capsys.readouterr().err == "", "only where it takes long"
        monkeypatch.setattr(console, "LINE_EVERY_S", 0.0)
        watch(Stage("reading", None, 4, "MB"))
        assert capsys.readouterr().err.startswith("reading  4 MB  ")
        watch(Stage("tokenising", 0.25, 1000, "tokens"))
        watch(Stage("tokenising", 0.5, 2000, "tokens"))
        assert capsys.readouterr().err.split("\n")[1].startswith("tokenising 50%  2,000 tokens  ")
    with console.training_progress(quiet=True) as watch:
        watch(Stage("reading", None, 4, "MB"))
    assert capsys.readouterr() == ("", "")


def test_evaluations_are_shown_one_a_second_and_the_last(capsys: pytest.CaptureFixture[str]) -> None:
    with console.training_progress(quiet=False) as watch:
        for step in range(1, 101):
            watch(Step(progress=Progress(step=step), total_steps=100, share=0.5, loss=1.0,
                       tokens_per_s=1.0, left_s=1.0, evaluation={"epoch": step} if step % 2 == 0 else None))
        watch(a_step(100, evaluation={"epoch": 1}, training="fold 2 of 5"))
    assert capsys.readouterr().err == "epoch 2\nepoch 100\nfold 2 of 5: epoch 1\n"


def a_step(number: int = 50, **changes: Any) -> Step:
    """Make a step in the middle of a training that has a minute left."""
    progress = Progress(step=number, best=20.5, elapsed_s=60.0)
    return Step(**{"progress": progress, "total_steps": 100, "share": 0.5, "loss": 3.25, "left_s": 60.0,
                   "tokens_per_s": 12_345.6, **changes})


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> int:
    """Let standard error be a terminal of 80 columns; return the descriptor of its other end."""
    terminal, child = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "stderr", os.fdopen(child, "w"))
    return terminal


def lines_on(terminal: int) -> list[str]:
    """Close standard error, and return the lines that its terminal has shown, without their colors."""
    sys.stderr.close()
    shown = b""
    with suppress(OSError):  # at the end
        while True:
            shown += os.read(terminal, 1000)
    return [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in re.split("[\r\n]+", shown.decode())]


def test_a_terminal_shows_evaluations_and_messages_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    command = "rnntool train lm -o a-folder-with-a-long-name/and-one-more/and-another/poet --resume --finish"
    with console.training_progress(quiet=False) as watch:
        entry = {"epoch": 0.5, "step": 50, "loss": 3.2, "lr": 0.00123, "perplexity": 20.5, "seconds": 60.0,
                 "tokens": 123_456}
        watch(a_step(evaluation=entry))
        console.message(command)
    lines = lines_on(terminal)
    assert "epoch 0.5  step 50  loss 3.2  perplexity 20.5  1m00s" in lines
    assert f"rnntool: {command}" in lines, "no line break of its own, so that it can be copied"
    bar = next(line for line in lines if line.startswith("epoch 1 "))
    assert bar.endswith("12,346 tokens/s  loss 3.250  best 20.5  1m00s left") and len(bar) <= 80


def test_the_bar_follows_the_clock_during_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 100.0
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: clock))
    bar = rich.progress.Progress(console=rich.console.Console(file=io.StringIO()))
    bar.add_task("", total=None, details="")
    (task,) = bar.tasks
    watch = console._TrainingBar(bar)
    watch(Stage("reading", 0.25, 1, "MB"))
    assert (task.description, task.completed, task.total) == ("reading", 0.25, 1.0)
    watch(a_step(timed=True))
    clock += 15
    watch(Stage("evaluating", None, 0, "tokens"))
    assert (task.description, task.completed) == ("evaluating", 0.625)
    assert task.fields["details"].split() == ["45s", "left"]
    clock += 100
    watch(Stage("writing the model", None, 1000, "parameters"))
    assert task.completed == 1.0 and task.fields["details"].endswith("  0s left")
    watch(a_step())
    clock += 15
    watch(Stage("evaluating", None, 0, "tokens"))
    assert task.completed == 0.5, "steps may end later than the clock says"


def test_a_language_model_shows_samples_and_trains_as_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "train.txt"
    file.write_text("".join(f"{line}\n" for line in tiny.lines_of_text(30)), "utf-8")
    rows = tmp_path / "train.tsv"
    rows.write_text(tiny.tsv(tiny.labeled_texts(30)), "utf-8")
    kinds: dict[str, dict[str, Any]] = {
        "char": {"tokenizer": "char", "context": "stream", "bptt": 70},
        "byte": {"tokenizer": "byte", "ema": 0.9},
        "word": {"tokenizer": "word", "direction": "both"},
        "subword": {"tokenizer": "unigram", "vocab_size": 270},
        "labels": {"tokenizer": "char", "label_column": "label"},
    }
    for name, settings in kinds.items():
        said: list[str] = []
        folders = [tmp_path / f"{name}-{how}" for how in ("silent", "samples", "resumed")]
        files = [rows if name == "labels" else file]
        settings |= {"epochs": 2, "batch_size": 4}
        tiny.train("lm", folders[0], files, **settings)
        with monkeypatch.context() as patch:
            patch.setattr(loop, "time", SimpleNamespace(monotonic=itertools.count(step=0.2).__next__))
            settings |= {"sample_every": 1.5}
            tiny.train("lm", folders[1], files, **settings, log=said.append)
            stopping = partial(next, iter([None] * 6), signal.SIGINT)
            with pytest.raises(loop.Interrupted):
                tiny.train("lm", folders[2], files, **settings, stopping=stopping)
            tiny.train("lm", folders[2], resume=True)
        assert len({(folder / "model.safetensors").read_bytes() for folder in folders}) == 1, name
        shown = [text for text in said if text.startswith("sample after ")]
        assert len(shown) >= 2 and all(re.match(r"sample after \d+s \(step \d+\):\n    .", s) for s in shown)
        assert all(c.isprintable() or c == "\n" for c in "".join(shown))
        if name == "labels":
            assert all("\n    food: " in text and "\n    sky: " in text for text in shown)


def test_a_long_computation_shows_a_bar_after_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    clock = 100.0
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: clock))
    with console.progress(quiet=False) as watch:
        assert watch is not None
        counter = Counter("scoring", "texts", watch, total=200)
        clock += 0.5
        counter.add(40)
        clock += 1.5
        counter.add(60)
    lines = [line for line in lines_on(terminal) if line.strip()]
    assert all(line.startswith("scoring ━") for line in lines)
    assert not any("40 texts" in line for line in lines), "nothing in the first second"
    assert lines[-1].endswith(" 100 texts  50 texts/s  2s left")


def test_progress_is_for_terminals_alone(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    with console.progress(quiet=False) as watch:
        assert watch is None
    on_a_terminal(monkeypatch)
    with console.progress(quiet=True) as watch:
        assert watch is None


@pytest.mark.parametrize(("command", "model", "data", "shown"), [
    ("score --pairs -m", "writer", "the baker sings .\tthe the baker .\n" * 30, "60 sentences"),
    ("score --pairs -q -m", "writer", "the baker sings .\tthe the baker .\n" * 30, None),
    ("evaluate -m", "tagger", tiny.conllu(tiny.pos_sentences(30)), "evaluating tiny-pos"),
    ("evaluate -m", "segmenter", tiny.segmented_conllu(30), "evaluating tiny-segmenter"),
    ("evaluate -m", "transducer", "source\ttarget\n" + "abc\tcba\n" * 5, "evaluating tiny-reversal"),
    ("evaluate -m", "writer", "the baker sings .\n" * 30, "540 tokens"),
    ("inspect clusters -m", "tagger", "the baker sings .\n" * 30, "120 tokens"),
    ("inspect states -m", "tagger", "the baker sings .\n" * 30, "120 tokens"),
    ("inspect gradients --cells lstm --texts 3 --hidden 4 -m", "writer", "the baker sings .\n" * 3,
     "6 texts"),
])
def test_commands_that_may_take_long_show_progress(
    command: str, model: str, data: str, shown: str | None, request: pytest.FixtureRequest, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / ("data.conllu" if data.startswith("# ") else "data.tsv" if "\t" in data else "data.txt")
    file.write_text(data, "utf-8")
    folder = request.getfixturevalue(model)
    terminal = on_a_terminal(monkeypatch)
    monkeypatch.setattr(console, "BAR_AFTER_S", -1.0)
    monkeypatch.setattr(sys, "argv", ["rnntool", *command.split(), str(folder), str(file)])
    with pytest.raises(SystemExit) as exit:
        cli.app()
    lines = [line for line in lines_on(terminal) if line.strip()]
    assert exit.value.code == 0 and capsys.readouterr().out
    assert any(shown in line for line in lines) if shown else not lines
