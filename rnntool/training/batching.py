"""The order in which training data is seen. The n-th batch of epoch e depends on the seed, e and n alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rnntool.errors import UsageError
from rnntool.tasks import LMTask, Task
from rnntool.tasks.base import Arrays

PADDED_BUDGET = 1 << 15  # padded positions in a batch; a single longer record is a batch of its own
LOGITS_BUDGET = 1 << 25  # numbers in the logits of a batch: 128 MiB, and their gradients as much


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
        self, task: Task[Any, Any, Any], examples: Sequence[Any], *, batch_size: int, seed: int,
        copies: int = 1,
    ) -> None:
        self.task = task
        self.copies = copies
        self.examples = examples
        self.seed = seed
        self.lengths = np.fromiter(map(task.length, examples), np.int64, len(examples))
        budget = PADDED_BUDGET
        if isinstance(task, LMTask):
            budget = min(budget, LOGITS_BUDGET // task.tokenizer.size)
            if (longest := int(self.lengths.max(initial=0))) > budget:
                raise UsageError(
                    f"want records of at most {budget:,} tokens at a vocabulary of {task.tokenizer.size:,}, "
                    f"found one of {longest:,}; give --context stream, which reads long ones in pieces")
        # Batches hold the same lengths in each epoch, so their number is known; the records in them change.
        self.cuts = _cuts(np.sort(self.lengths), batch_size, budget)

    def __len__(self) -> int:
        return len(self.cuts)

    def epoch(self, number: int, *, start: int = 0) -> Iterator[Arrays]:
        """The batches of an epoch."""
        rng = np.random.default_rng([self.seed, number])
        shuffled = rng.permutation(len(self.examples))
        order = shuffled[np.argsort(self.lengths[shuffled], kind="stable")]  # ties stay shuffled
        for i in rng.permutation(len(self.cuts))[start:]:
            first, last = self.cuts[i]
            yield self.task.collate([self.examples[k] for k in order[first:last]] * self.copies)


class Streamed:
    """A language model's records as one stream, in order, the state carried from window to window."""

    carries_state = True

    def __init__(
        self, task: LMTask, examples: Sequence[NDArray[np.int32]], *, columns: int, steps: int
    ) -> None:
        self.task = task
        self.examples = examples
        tokens = sum(map(task.length, examples))
        self.columns = max(1, min(columns, tokens // steps))  # a short text has no room for many columns
        self.steps = steps
        height = -(-tokens // self.columns)  # rounded up, as the windows are
        self.windows = -(-height // steps)

    def __len__(self) -> int:
        return self.windows

    def epoch(self, number: int, *, start: int = 0) -> Iterator[Arrays]:
        """The windows of the stream, the same in each epoch."""
        for i, window in enumerate(self.task.windows(self.examples, columns=self.columns, steps=self.steps)):
            if i >= start:
                yield window


def mixed(tagged: Sequence[Any], raw: Sequence[Any]) -> list[Any]:
    """Examples with tags and such without, the former so often that they are a seventh of all at least.

    A pass over much raw text is then several over the few sentences that have tags; with more of them, these
    would be learned by heart before the text has been read often enough.
    """
    return [*tagged] * max(1, round(len(raw) / (6 * len(tagged)))) + [*raw]


def _cuts(lengths: NDArray[np.int64], batch_size: int, budget: int) -> list[tuple[int, int]]:
    """Ranges of records, sorted by length, that make one batch each."""
    cuts, first = [], 0
    for i, length in enumerate(lengths):
        if i - first == batch_size or (i > first and (i - first + 1) * length > budget):
            cuts.append((first, i))
            first = i
    if first < len(lengths):
        cuts.append((first, len(lengths)))
    return cuts
