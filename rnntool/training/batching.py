"""The order in which training data is seen. The n-th batch of epoch e depends on the seed, e and n alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rnntool.data.arrays import Arrays
from rnntool.data.corpus import Rows, Values
from rnntool.tasks.base import AnyTask
from rnntool.tasks.lm import LMTask

PADDED_BUDGET = 1 << 15  # padded positions in a batch; a single longer record is a batch of its own


class Batches(Protocol):
    """The training data of every epoch, batch by batch."""

    carries_state: bool  # whether a batch goes on where the one before it ended

    def __len__(self) -> int:
        """Batches in an epoch."""
        ...

    def epoch(self, number: int, *, start: int = 0) -> Iterator[Arrays]:
        """The batches of an epoch, from the `start`-th on."""
        ...


class Shuffled:
    """Records in random order, but in batches of like length, so that little of a batch is padding.

    With `copies`, a batch holds its records that many times over, each time all of them in the same order.
    """

    carries_state = False

    def __init__(
        self, task: AnyTask, examples: Sequence[Any], *, batch_size: int, seed: int,
        copies: int = 1,
    ) -> None:
        self.task = task
        self.copies = copies
        self.examples = examples
        self.seed = seed
        if isinstance(examples, Rows):
            lengths = examples.lengths
        else:
            lengths = np.fromiter(map(task.length, examples), np.int64, len(examples))
        self.lengths = lengths.astype(np.min_scalar_type(lengths.max(initial=0)))  # short numbers sort faster
        # Batches hold the same lengths in each epoch, so their number is known; the records in them change.
        self.cuts = _cuts(np.sort(self.lengths), batch_size, PADDED_BUDGET)

    def __len__(self) -> int:
        return len(self.cuts) - 1

    def epoch(self, number: int, *, start: int = 0) -> Iterator[Arrays]:
        """The batches of an epoch."""
        rng = np.random.default_rng([self.seed, number])
        shuffled = rng.permutation(np.arange(len(self.examples), dtype=np.uint32))
        order = shuffled[np.argsort(self.lengths[shuffled], kind="stable")]  # ties stay shuffled
        for i in rng.permutation(len(self))[start:]:
            first, last = self.cuts[i : i + 2]
            yield self.task.collate([self.examples[k] for k in order[first:last]] * self.copies)


class Streamed:
    """A language model's records as one stream, in order, the state carried from window to window."""

    carries_state = True

    def __init__(self, task: LMTask, stream: Values, *, columns: int, steps: int) -> None:
        """`stream` (N,) has all examples one behind the other."""
        self.task = task
        self.stream = stream
        tokens = len(stream)
        self.columns = max(1, min(columns, tokens // steps))  # a short text has no room for many columns
        self.steps = steps
        height = -(-tokens // self.columns)  # rounded up, as the windows are
        self.windows = -(-height // steps)

    def __len__(self) -> int:
        return self.windows

    def epoch(self, number: int, *, start: int = 0) -> Iterator[Arrays]:
        """The windows of the stream, the same in each epoch."""
        return self.task.windows(self.stream, columns=self.columns, steps=self.steps, start=start)


def mixed(labelled: Sequence[Any], raw: Sequence[Any]) -> list[Any]:
    """Examples with targets and such without, the former so often that they are a seventh of all or more.

    A pass over much raw text is then several over the few records that have labels; with more of them, these
    would be learned by heart before the text has been read often enough.
    """
    return [*labelled] * max(1, round(len(raw) / (6 * len(labelled)))) + [*raw]


def _cuts(lengths: NDArray[Any], batch_size: int, budget: int) -> NDArray[np.int64]:
    """Where batches begin among records sorted by length, and where the last one ends.

    A batch has up to `batch_size` records and `budget` padded positions, or a single record.
    """
    short = int(np.searchsorted(lengths, budget // batch_size, "right"))  # any `batch_size` of them have room
    cuts = list(range(0, short - batch_size + 1, batch_size))
    first = len(cuts) * batch_size
    while first < len(lengths):
        cuts.append(first)
        padded = lengths[first : first + batch_size] * np.arange(1, batch_size + 1)[: len(lengths) - first]
        first += max(1, int(np.searchsorted(padded, budget, "right")))
    return np.array([*cuts, len(lengths)], np.int64)
