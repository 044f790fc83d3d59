"""Streams of records through a task and an engine: windows, batches of similar length, results in order.

Records are read in windows, sorted into batches by length, run, and returned in their order. Memory use does
not grow with the stream. Before a read that would block, everything that was read is answered.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar

from rnntool.data.arrays import Arrays
from rnntool.errors import RnntoolError
from rnntool.tasks.base import AnyTask, Engine, Ready

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

WINDOWS_IN_PROGRESS = 1  # besides the one being read
WINDOW = 4096  # records, or documents of several records, that are sorted into batches together
WINDOW_TOKENS = 1 << 16  # tokens that end a window earlier
BUDGET = 1024  # padded tokens in a batch, at most: few enough for the processor's caches

Item = TypeVar("Item")
Record = TypeVar("Record")
Result = TypeVar("Result")
Decode = Callable[[Sequence[Record], Arrays], list[Result]]  # a batch and the engine's outputs for it
Flush = Callable[[], None]  # passes on what was written


def no_flush() -> None:
    """Do nothing, because nothing is written."""


class Pipeline:
    """A task and the engine that runs it, `workers` batches in parallel."""

    def __init__(self, task: AnyTask, engine: Engine, *, workers: int = 1) -> None:
        self.task = task
        self.engine = engine
        self.workers = workers
        self.watch: Callable[[int], None] | None = None  # receives the number of records in each batch

    def run(
        self, records: Iterable[Record], decode: Decode[Record, Result], *, ready: Ready, flush: Flush
    ) -> Iterator[tuple[Record, Result]]:
        """Return each record with its result, in order.

        While one window is computed, the next one is read, and the previous one is decoded and returned.
        If `ready` says that reading would wait, everything that was read is answered and `flush` is called.
        """
        pending: deque[Iterator[tuple[Record, Result]]] = deque()
        with _Workers(self.workers) as workers:
            groups = ([(record, self.task.example(record)) for record in group]
                      for group in self.task.groups(records, ready))
            source = windows(groups, max_items=WINDOW, length=self._length, max_length=WINDOW_TOKENS,
                             ready=ready)
            while True:
                try:
                    window = next(source, None)
                except RnntoolError:
                    for results in pending:  # the records before the bad one
                        yield from results
                    raise
                if window is None:
                    break
                pending.append(self._start(window, decode, workers))
                waiting = not ready()
                while len(pending) > (0 if waiting else WINDOWS_IN_PROGRESS):
                    yield from pending.popleft()
                if waiting:
                    flush()  # whoever sends the records may need these results before sending more
            for results in pending:
                yield from results

    def _length(self, group: list[tuple[Record, Any]]) -> int:
        return sum(self.task.length(example) for _, example in group)

    def _start(
        self, window: list[list[tuple[Record, Any]]], decode: Decode[Record, Result], workers: _Workers
    ) -> Iterator[tuple[Record, Result]]:
        """Start computing a window of groups of records; the iterator waits for the results."""
        window = [group for group in window if group]
        examples = [self.task.join([example for _, example in group]) for group in window]
        batches = list(self.task.batched(examples, min(BUDGET, self.task.budget)))
        arrays = self.task.batches(self.engine, [[examples[i] for i in batch] for batch in batches])

        def compute(batch: tuple[list[int], Arrays]) -> Arrays:
            places, inputs = batch
            output = self.task.run(self.engine, inputs)
            if self.watch:
                self.watch(sum(len(window[i]) for i in places))
            return output

        outputs = workers.map(compute, list(zip(batches, arrays, strict=True)))

        def results() -> Iterator[tuple[Record, Result]]:
            results_of: list[list[Result]] = [[] for _ in window]
            for batch, output in zip(batches, outputs, strict=True):
                places = [i for i in batch for _ in window[i]]
                records = [record for i in batch for record, _ in window[i]]
                for i, result in zip(places, decode(records, output), strict=True):
                    results_of[i].append(result)
            for group, decoded in zip(window, results_of, strict=True):
                yield from ((record, result) for (record, _), result in zip(group, decoded, strict=True))

        return results()


def windows(
    items: Iterable[Item], *, max_items: int, ready: Ready, length: Callable[[Item], int] = lambda item: 0,
    max_length: float = math.inf,
) -> Iterator[list[Item]]:
    """Group items in lists of `max_items`; a list ends earlier at `max_length`, or before a wait for input.

    If reading an item fails, the items before it are returned before the error is raised.
    """
    window: list[Item] = []
    size = 0
    try:
        for item in items:
            window.append(item)
            size += length(item)
            if len(window) >= max_items or size >= max_length or not ready():
                yield window
                window, size = [], 0
    except RnntoolError:
        if window:
            yield window
        raise
    if window:
        yield window


def flush_when_waiting(results: Iterable[Item], ready: Ready, flush: Flush) -> Iterator[Item]:
    """Return results one by one; call `flush` before waiting for more input."""
    for result in results:
        yield result
        if not ready():
            flush()


class _Workers:
    """Threads that run batches in parallel; they are started for the first window of several batches."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool: ThreadPoolExecutor | None = None

    def map(self, run: Callable[[Item], Result], batches: list[Item]) -> Iterable[Result]:
        """Return the results of `run`, in order."""
        if self.count == 1 or (len(batches) == 1 and self._pool is None):
            return [run(batch) for batch in batches]
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(self.count)
        return self._pool.map(run, batches)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
