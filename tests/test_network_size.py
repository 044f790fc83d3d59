"""The size of a language model, chosen for the text and the time; and the recipes for kinds of tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from rnntool.tasks import TASKS
from rnntool.tasks.specs.lm import LMSettings
from rnntool.tasks.specs.resolve import resolve
from rnntool.training import network_size
from rnntool.training.batching import Streamed
from rnntool.training.network_size import choose_size, suitable_dropout


@pytest.mark.parametrize(("given", "preset", "expected"), [
    # words of a stream have their own recipe; an optimizer or a rate of the user's goes with the usual one
    ({"tokenizer": "word", "context": "stream"}, None, {
        "optimizer": "sgd", "lr": 30.0, "auto_size": False, "initial_weights": "uniform"}),
    ({"tokenizer": "word", "context": "stream", "lr": 0.001}, None, {"optimizer": "adamw", "clip": 1.0}),
    ({"tokenizer": "word", "context": "stream", "clip": 1.0}, None, {"optimizer": "sgd", "clip": 1.0}),
    ({"tokenizer": "word"}, None, {"optimizer": "adamw", "hidden": 400}),
    ({"tokenizer": "byte", "context": "stream"}, None, {"optimizer": "adamw", "embed": 128, "hidden": 512}),
    # sizes are open under a time limit, unless something else says what they are
    ({"max_time": 60.0}, None, {"auto_size": True}),
    ({"max_time": 60.0, "hidden": 100}, None, {"auto_size": False}),
    ({"max_time": 60.0, "dropout": 0.1}, None, {"auto_size": False}),
    ({"max_time": 60.0, "auto_size": False}, None, {"auto_size": False, "hidden": 400}),
    ({"max_time": 60.0}, "char", {"auto_size": False, "hidden": 512, "epochs": 20}),
    ({"max_time": 60.0, "hidden": 100, "auto_size": True}, None, {"auto_size": True}),
])  # fmt: skip
def test_defaults_of_language_models_depend_on_the_tokens_and_the_time(
    given: Mapping[str, Any], preset: str | None, expected: Mapping[str, Any]
) -> None:
    settings = resolve(TASKS["lm"], given, preset=preset).to_json()
    assert {name: settings[name] for name in expected} == expected


class Stream:
    """As much of a task as the choice of a size needs."""

    def __init__(self, settings: LMSettings) -> None:
        self.settings = settings
        self.tokenizer = type("Tokenizer", (), {"kind": settings.tokenizer})()


def nothing(*_: Any) -> Any:
    """Stand in for what a test doesn't need."""


@pytest.mark.parametrize(("tokens", "minutes", "expected", "advice"), [
    (1_000_000, 10, 256, "is enough for 320"),
    (1_000_000, 3, 192, "is enough for 256"),
    (1_000_000, 0.05, 64, "is enough for 96"),  # even that is too wide, but none is narrower
    (900_000, 600, 512, None),  # and no wider than the text can fill
    (8_000, 600, 128, None),
])  # fmt: skip
def test_the_widest_network_is_chosen_that_has_time_for_enough_steps(
    monkeypatch: pytest.MonkeyPatch, tokens: int, minutes: float, expected: int, advice: str | None
) -> None:
    settings = LMSettings(tokenizer="word", context="stream", optimizer="sgd", max_time=minutes * 60.0)
    steps_s: dict[int, float] = {}

    def step_s(network: Any, batches: Any, settings: LMSettings, device: torch.device) -> float:
        steps_s[settings.hidden] = (settings.hidden / 256) ** 2 * 0.055
        return steps_s[settings.hidden]

    monkeypatch.setattr(network_size, "_step_s", step_s)
    batches = Streamed(nothing, range(tokens), columns=20, time_steps=35)
    messages: list[str] = []
    chosen = choose_size(
        Stream(settings), batches, tokens, left_s=minutes * 60.0, device=torch.device("cpu"),
        build=nothing, watch=nothing, say=messages.append)
    assert (chosen.hidden, chosen.embed) == (expected, expected)
    assert len(steps_s) <= 5
    assert f"{expected} units" in messages[0]
    assert (advice or "") in messages[0]
    assert ("is enough for" in messages[0]) == bool(advice)


def test_text_that_is_read_more_often_needs_more_dropout() -> None:
    values = [suitable_dropout(passes) for passes in (0.1, 3, 6, 12, 50, 1000)]
    assert values == sorted(values)
    assert (values[0], values[2], values[3], values[-1]) == (0.0, 0.1, 0.2, 0.5)


def test_a_training_with_a_time_limit_measures_the_machine_and_resumes_with_its_choice(
    tmp_path: Path,
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n".join(tiny.lines_of_text(120)), "utf-8")
    messages: list[str] = []
    stops = iter([None, None, 15])
    with pytest.raises(Exception, match="stopped after step"):
        tiny.train("lm", tmp_path / "m", [text], auto_size=True, max_time=20.0, tokenizer="word",
                   context="stream", stopping=lambda: next(stops), log=messages.append)
    (choice,) = [message for message in messages if message.startswith("chosen for")]
    tiny.train("lm", tmp_path / "m", resume=True, extension={"epochs": 3}, log=messages.append)
    settings = json.loads((tmp_path / "m" / "config.json").read_text("utf-8"))["settings"]
    assert f"{settings['hidden']} units" in choice
    assert settings["hidden"] == settings["embed"] == min(network_size.WIDTHS)
    assert settings["dropout"] == settings["dropout_between"]
    assert sum(message.startswith("chosen for") for message in messages) == 1
