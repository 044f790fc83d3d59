"""Generating text: prompts in pieces and in batches, stop texts, and repetition."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rnntool.inference import model as models
from rnntool.inference.generation import EngineModel, Generated
from rnntool.tasks.lm import LMTask


def test_a_long_prompt_is_read_in_pieces(writer: Path) -> None:
    loaded = models.load(writer, threads=1)
    task = loaded.require(LMTask)
    prompts = [task.tokenizer.encode(text) for text in ("the baker sings .", "the", "a teacher")]
    expected, states = EngineModel(loaded.engine, budget=8192).start(prompts)
    seen: list[int] = []

    class Watched:
        initial_state = loaded.engine.initial_state

        def run(self, arrays: Any, outputs: Any = None) -> Any:
            seen.append(arrays["tokens"].size)
            return loaded.engine.run(arrays, outputs)

    actual, others = EngineModel(Watched(), budget=5).start(prompts)
    assert max(seen) <= 5
    read = sum(seen)
    again, _ = EngineModel(Watched(), budget=5).start([prompts[i] for i in (2, 0, 2, 2)])
    np.testing.assert_allclose(again.logits, expected.logits[[2, 0, 2, 2]], atol=1e-5)
    assert sum(seen) - read < read, "a repeated prompt is read once"
    for values, whole in zip(actual, expected, strict=True):
        np.testing.assert_allclose(values, whole, atol=1e-5)
    for name, state in states.items():
        np.testing.assert_allclose(others[name], state, atol=1e-5)


@pytest.mark.parametrize("stop", ["e ", "s", "zzz"])
def test_a_stop_text_of_several_tokens(writer: Path, stop: str) -> None:
    model = models.load(writer, threads=1)
    prompt = "the baker sings . " * 20
    free = list(model.generate([prompt], n=20, seed=4, max_tokens=30))
    cut = list(model.generate([prompt], n=20, seed=4, max_tokens=30, stop=stop))
    assert [sample.text for sample in cut] == [sample.text.split(stop)[0] for sample in free]


def test_samples_of_a_prompt_do_not_wait_for_the_next_prompt(writer: Path) -> None:
    model = models.load(writer, threads=1)
    read: list[str] = []

    def prompts() -> Iterator[str]:
        for prompt in ("the", "a"):
            read.append(prompt)
            yield prompt

    def generate(**more: Any) -> list[Generated]:
        return list(model.generate(prompts(), n=3, seed=2, max_tokens=9, **more))

    rows: list[int] = []
    run = model.engine.run

    def watched(arrays: Any, outputs: Any = None) -> Any:
        rows.append(len(arrays["lengths"]))
        return run(arrays, outputs)

    expected = generate()
    model.engine.run = watched  # type: ignore[method-assign]
    assert generate(ready=lambda: False) == expected
    assert max(rows) == 3


def test_ten_thousand_prompts_are_read_batch_by_batch_and_answered_in_order(writer: Path) -> None:
    model = models.load(writer, threads=1)
    read = [0]

    def prompts() -> Iterator[str]:
        for i in range(10_000):
            read[0] += 1
            yield "the baker"[: i % 9]

    steps = []
    run = model.engine.run

    def counted(arrays: Any, outputs: Any = None) -> Any:
        steps.append(arrays["tokens"].shape)
        return run(arrays, outputs)

    model.engine.run = counted  # type: ignore[method-assign]
    for i, sample in enumerate(model.generate(prompts(), max_tokens=2, min_tokens=2)):
        assert (sample.index, sample.prompt) == (i, "the baker"[: i % 9])
        assert read[0] <= i + 64
    assert i == 9_999
    assert len(steps) <= 2 * math.ceil(10_000 / 64), "a batch reads its prompts and then one token"


def test_no_ngram_is_repeated(writer: Path) -> None:
    model = models.load(writer, threads=1)
    for beam in (0, 2):
        (sample,) = model.generate(["the baker "], max_tokens=60, min_tokens=40, no_repeat_ngram=3, beam=beam)
        text = sample.prompt + sample.text
        runs = [text[i : i + 3] for i in range(len(text) - 2)]
        assert len(set(runs)) == len(runs) > 40
