"""The order of training data: every record once per epoch, in an order that the seed and the epoch decide."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import tiny

from rnntool.data.arrays import IGNORE, Arrays
from rnntool.data.progress import silent
from rnntool.data.records import Text, Transduction
from rnntool.tasks.classify import ClassifyTask
from rnntool.tasks.lm import LMTask
from rnntool.tasks.specs.classify import ClassifySettings
from rnntool.tasks.specs.lm import LMSettings
from rnntool.tasks.specs.transduce import TransduceSettings
from rnntool.tasks.transduce import TransduceTask
from rnntool.tokenize import PAD
from rnntool.training import batching
from rnntool.training.batching import Shuffled, Streamed


def shuffled(n: int = 53, *, seed: int = 1, batch_size: int = 8) -> tuple[Shuffled, list[str]]:
    """Batches of texts of many lengths, and the texts, which all differ."""
    texts = [f"{'x' * (i % 7)}{i:03}" for i in range(n)]
    records = [Text(text, ("a" if i % 2 else "b",)) for i, text in enumerate(texts)]
    task = ClassifyTask.learn(records, ClassifySettings(tokenizer="char"))
    examples = [task.example(record, targets=True) for record in records]
    return Shuffled(task, examples, batch_size=batch_size, seed=seed), texts


def texts_of(batches: Shuffled, arrays: Arrays) -> list[str]:
    task = batches.task
    assert isinstance(task, ClassifyTask)
    return [task.tokenizer.decode(column[:length].tolist())
            for column, length in zip(arrays["tokens"].T, arrays["lengths"], strict=True)]


def epoch(batches: Shuffled, number: int, start: int = 0) -> list[list[str]]:
    return [texts_of(batches, arrays) for arrays in batches.epoch(number, start=start)]


@pytest.mark.parametrize(("n", "batch_size"), [(53, 8), (1, 8), (8, 8), (5, 1)])
def test_an_epoch_has_every_record_once(n: int, batch_size: int) -> None:
    batches, texts = shuffled(max(n, 2), batch_size=batch_size)
    for number in range(3):
        read = epoch(batches, number)
        assert Counter(text for batch in read for text in batch) == Counter(texts)
        assert len(read) == len(batches)
        assert max(map(len, read)) <= batch_size


def test_the_order_depends_only_on_the_seed_and_the_epoch() -> None:
    batches, _ = shuffled()
    first, second = epoch(batches, 0), epoch(batches, 1)
    assert epoch(shuffled()[0], 1) == second, "earlier epochs make no difference"
    assert epoch(batches, 0) == first
    assert first != second
    assert epoch(shuffled(seed=2)[0], 0) != first


def test_an_epoch_can_start_at_any_batch() -> None:
    batches, _ = shuffled()
    whole = epoch(batches, 4)
    for start in range(len(whole) + 1):
        assert epoch(batches, 4, start) == whole[start:]


def test_the_records_of_a_batch_have_similar_lengths() -> None:
    batches, _ = shuffled(200, batch_size=20)
    for arrays in batches.epoch(0):
        assert np.ptp(arrays["lengths"]) <= 1


def test_batches_of_long_records_are_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "PADDED_BUDGET", 30)
    batches, texts = shuffled(40, batch_size=16)
    sizes = [arrays["tokens"].size for arrays in batches.epoch(0)]
    assert max(sizes) <= 30
    assert Counter(t for batch in epoch(batches, 0) for t in batch) == Counter(texts)


def streamed(columns: int, time_steps: int, lines: int = 30) -> tuple[Streamed, list[int]]:
    records = [Text(line) for line in tiny.lines_of_text(lines)]
    task = LMTask.learn(records, LMSettings(tokenizer="char"))
    examples = [task.example(record) for record in records]
    targets = [i for ids in examples for i in (*ids.tolist()[1:], 3)]
    stream = np.concatenate(examples)
    return Streamed(task.windows, stream, columns=columns, time_steps=time_steps), targets


@pytest.mark.parametrize(("columns", "time_steps"), [(4, 10), (1, 7), (7, 13), (1000, 20)])
def test_the_windows_of_a_stream_have_each_token_once(columns: int, time_steps: int) -> None:
    batches, targets = streamed(columns, time_steps)
    windows = list(batches.epoch(0))
    assert len(windows) == len(batches)
    assert batches.columns <= columns
    read = np.concatenate([window["targets"] for window in windows])
    assert read.T[read.T >= 0].tolist() == targets, "column after column, up to the last token"
    for a, b in zip(windows, batches.epoch(5), strict=True):
        np.testing.assert_array_equal(a["tokens"], b["tokens"])
    for a, b in zip(windows[2:], batches.epoch(0, start=2), strict=True):
        np.testing.assert_array_equal(a["tokens"], b["tokens"])


def test_a_text_shorter_than_a_window_is_one_window() -> None:
    batches, targets = streamed(20, 1000, lines=1)
    (window,) = batches.epoch(0)
    assert (batches.columns, len(batches)) == (1, 1)
    assert window["targets"][:, 0].tolist() == targets


def test_copies_follow_all_examples_of_a_batch() -> None:
    once, _ = shuffled(11, batch_size=4)
    twice = Shuffled(once.task, once.examples, batch_size=4, seed=1, copies=2)
    assert len(twice) == len(once)
    assert epoch(twice, 0) == [batch * 2 for batch in epoch(once, 0)]


def test_a_batch_of_pairs_is_as_long_as_its_pairs() -> None:
    lengths = [(source, target) for source in range(1, 9) for target in range(1, 9) for _ in range(4)]
    records = [Transduction("a" * source, targets=("b" * target,)) for source, target in lengths]
    task = TransduceTask.learn(records, TransduceSettings())
    batches = Shuffled(task, task.training_examples(records, watch=lambda stage: None, log=silent),
                       batch_size=4, seed=1)
    seen: Counter[tuple[int, int]] = Counter()
    for arrays in batches.epoch(0):
        assert (arrays["tokens"] != PAD).all() and (arrays["targets"] != IGNORE).all()
        seen[len(arrays["tokens"]) - 1, len(arrays["targets"]) - 1] += arrays["tokens"].shape[1]
    assert seen == Counter(lengths)


def test_the_longest_target_limits_batches_of_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "PADDED_BUDGET", 60)
    records = [Transduction("a" * (1 + i % 5), targets=("b" * (1 + i % 23),)) for i in range(100)]
    task = TransduceTask.learn(records, TransduceSettings())
    batches = Shuffled(task, task.training_examples(records, watch=lambda stage: None, log=silent),
                       batch_size=16, seed=1)
    sizes = [arrays["tokens"].size + arrays["targets"].size for arrays in batches.epoch(0)]
    assert max(sizes) <= 60
