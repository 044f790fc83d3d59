"""The order of the training data. Batch n of epoch e depends only on the seed, e and n."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rnntool.data.arrays import Arrays
from rnntool.data.rows import Rows, Values
from rnntool.tasks.base import AnyTask

PADDED_BUDGET = 1 << 15  # most padded positions in a batch; a longer example is a batch by itself


class Batches(Protocol):
    """The training data of every epoch, batch by batch."""

    carries_state: bool  # whether a batch starts from the recurrent states after the previous batch

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        ...

    def epoch(self, number: int, *, start: int = 0) -> Iterator[Arrays]:
        """Yield the batches of an epoch, from batch `start` on."""
        ...


def example_lengths(task: AnyTask, examples: Sequence[Any]) -> NDArray[np.int64]:
    """Return the time steps of each example, (N,)."""
    if isinstance(examples, Rows):
        return examples.lengths
    return np.fromiter(map(task.length, examples), np.int64, len(examples))


class Shuffled:
    """Examples in random order, in batches of similar length to avoid padding.

    With `copies` > 1, a batch contains all its examples that many times, one copy after the other.
    """

    carries_state = False

    def __init__(
        self, task: AnyTask, examples: Sequence[Any], *, batch_size: int, seed: int, copies: int = 1
    ) -> None:
        self.task = task
        self.copies = copies
        self.examples = examples
        self.seed = seed
        lengths = keys = example_lengths(task, examples)
        if not isinstance(examples, Rows):
            keys = np.fromiter(map(task.padding_key, examples), np.int64, len(examples))
        self.keys = keys.astype(np.min_scalar_type(keys.max(initial=0)))  # small types sort faster
        # The same in each epoch, because examples with equal keys are interchangeable. Sorting by key doesn't
        # always sort by length, so each example is counted with the greatest length so far.
        longest = np.maximum.accumulate(lengths[np.argsort(self.keys, kind="stable")])
        self.bounds = _batch_bounds(longest, batch_size, PADDED_BUDGET)

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def epoch(self, number: int, *, start: int = 0) -> Iterator[Arrays]:
        """Yield the batches of an epoch, from batch `start` on."""
        rng = np.random.default_rng([self.seed, number])
        shuffled = rng.permutation(np.arange(len(self.examples), dtype=np.uint32))
        order = shuffled[np.argsort(self.keys[shuffled], kind="stable")]  # equal keys stay shuffled
        for i in rng.permutation(len(self))[start:]:
            first, end = self.bounds[i : i + 2]
            yield self.task.collate([self.examples[k] for k in order[first:end]] * self.copies)


class Streamed:
    """One long text in order, read in windows; the recurrent states are carried from window to window.

    The text is cut into `columns` of equal length, which are read side by side. A window has `time_steps`
    tokens of each column. `windows` cuts them, see `LMTask.windows`.
    """

    carries_state = True

    def __init__(
        self, windows: Callable[..., Iterator[Arrays]], stream: Values, *, columns: int, time_steps: int
    ) -> None:
        """`stream` (N,) holds the tokens of all records."""
        self.windows = windows
        self.stream = stream
        self.columns = max(1, min(columns, len(stream) // time_steps))  # a column has one full window or more
        self.time_steps = time_steps

    def __len__(self) -> int:
        column_length = -(-len(self.stream) // self.columns)  # rounded up
        return -(-column_length // self.time_steps)

    def epoch(self, number: int, *, start: int = 0) -> Iterator[Arrays]:
        """Return the windows from window `start` on; they are the same in each epoch."""
        return self.windows(self.stream, columns=self.columns, steps=self.time_steps, start=start)


def mix(labeled: Sequence[Any], raw: Sequence[Any]) -> list[Any]:
    """Mix labeled with raw or invented examples.

    The labeled ones are repeated so that they are about a seventh of all. With a larger share, the network
    would memorize them before it has read the others often enough.
    """
    return [*labeled] * max(1, round(len(raw) / (6 * len(labeled)))) + [*raw]


def _batch_bounds(lengths: NDArray[Any], batch_size: int, budget: int) -> NDArray[np.int64]:
    """Cut examples with these lengths, in ascending order, into batches.

    Returns the first index of each batch, and the end of the last one.

    A batch has up to `batch_size` examples and up to `budget` padded positions, or a single longer example.
    """
    short = int(np.searchsorted(lengths, budget // batch_size, "right"))  # full batches of these fit
    bounds = list(range(0, short - batch_size + 1, batch_size))
    first = len(bounds) * batch_size
    while first < len(lengths):
        bounds.append(first)
        padded = lengths[first : first + batch_size] * np.arange(1, batch_size + 1)[: len(lengths) - first]
        first += max(1, int(np.searchsorted(padded, budget, "right")))
    return np.array([*bounds, len(lengths)], np.int64)
