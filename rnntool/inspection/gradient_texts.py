"""Texts that gradients are followed back through, and how far they reach. Knows no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from rnntool.data.arrays import Arrays
from rnntool.data.formats import Sentence, Text
from rnntool.inspection.states import tokens
from rnntool.tasks.lm import LMTask

LEFT = 0.01  # of a gradient; where less is left, it counts as gone


def texts(task: Any, records: Iterable[Any], *, steps: int, count: int) -> Iterator[Arrays]:
    """Batches of one text each, the first `count` of at least 2 steps, cut behind `steps` + 1 of them.

    A language model that learned a stream reads pieces of one.
    """
    if isinstance(task, LMTask) and task.settings.context == "stream":
        stream = np.concatenate([np.zeros(0, np.int32), *map(task.example, records)])
        examples: Iterator[Any] = (
            stream[start : start + steps + 1] for start in range(0, len(stream), steps + 1))
    else:
        begin = int(isinstance(task, LMTask))  # BOS or a label stands before the tokens
        examples = (task.example(_cut(task, record, steps + 1 - begin)) for record in records)
    for example in islice((e for e in examples if task.length(e) > 1), count):
        yield task.collate([example])


def _cut(task: Any, record: Text | Sentence, size: int) -> Text | Sentence:
    """The first tokens of a record."""
    if isinstance(record, Sentence):
        return Sentence(record.words[:size])
    text, spans = tokens(task, record)
    return Text(text[: spans[:size][-1][1]] if spans else text, record.labels, place=record.place)


def reach(shares: Sequence[float]) -> int | None:
    """The first step back where less than 1 % of the gradient is left; None where there always is more."""
    return next((k for k, share in enumerate(shares) if share < LEFT), None)
