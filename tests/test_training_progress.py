"""What `train` shows while it works: a line at a time where no terminal is attached."""

from __future__ import annotations

import pytest

from rnntool.commands import console
from rnntool.data.progress import Stage
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
    assert capsys.readouterr().err == "epoch 2\nepoch 100\n"
