"""A stream of records through a task and an engine: windows, batches of like length, answers in order.

Records are taken in windows, sorted by length into batches, run, and given back in their order, so memory
stays flat over any stream. Where the input says that reading on would block, what is there is answered first.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar

from rnntool.data.arrays import by_length
from rnntool.errors import RnntoolError
from rnntool.tasks.base import AnyTask, Engine, Ready

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

AHEAD = 1  # windows under way beside the one that is read
WINDOW = 4096  # records, or passages of several, sorted into batches together, at most
WINDOW_TOKENS = 1 << 16  # and their tokens, about
BUDGET = 1024  # padded tokens in a batch, where the task allows so many: small enough for the caches

Item = TypeVar("Item")
Record = TypeVar("Record")
Result = TypeVar("Result")
Flush = Callable[[], None]  # sends what was written on


class Pipeline:
    """A task with the engine that runs it; `workers` batches run side by side."""

    def __init__(self, task: AnyTask, engine: Engine, *, workers: int = 1) -> None:
        self.task = task
        self.engine = engine
        self.workers = workers
        self._reading = 0  # windows being read: more than one where a stream's records come from this model

    def run(
        self,
        records: Iterable[Record],
        decode: Callable[[Sequence[Record], Any], list[Result]],
        *,
        ready: Ready,
        flush: Flush,
    ) -> Iterator[tuple[Record, Result]]:
        """Each record with its result, in order; `decode` has those of a batch from the engine's outputs.

        While one window is computed the next is read, and the one before is decoded and handed out. Where the
        input would make us wait, everything that is there is answered first.
        """
        pending: deque[Iterator[tuple[Record, Result]]] = deque()
        with _Workers(self.workers) as workers:
            passages = ([(record, self.task.example(record)) for record in passage]
                        for passage in self.task.passages(records, ready))
            source = windows(passages, most=WINDOW, length=self._length, longest=WINDOW_TOKENS, ready=ready)
            while True:
                try:
                    window = self._next(source)
                except RnntoolError:
                    for answers in pending:  # what came before a bad record is answered
                        yield from answers
                    raise
                if window is None:
                    break
                pending.append(self._begin(window, decode, workers))
                if not self._reading:
                    self.task.forget()
                waiting = not ready()
                while len(pending) > (0 if waiting else AHEAD):
                    yield from pending.popleft()
                if waiting:
                    flush()  # whoever waits at the other end gets the answers before more is asked for
            for answers in pending:
                yield from answers

    def _next(self, source: Iterator[list[Item]]) -> list[Item] | None:
        """The next window, if there is one."""
        self._reading += 1
        try:
            return next(source, None)
        finally:
            self._reading -= 1

    def _length(self, passage: list[tuple[Record, Any]]) -> int:
        return sum(self.task.length(example) for _, example in passage)

    def _begin(
        self, window: list[list[tuple[Record, Any]]],
        decode: Callable[[Sequence[Record], Any], list[Result]], workers: _Workers,
    ) -> Iterator[tuple[Record, Result]]:
        """Begin to compute a window of passages; records and their results come when they are asked for."""
        window = [passage for passage in window if passage]
        examples = [self.task.join([example for _, example in passage]) for passage in window]
        self.task.prepare(self.engine)
        batches = list(by_length(list(map(self.task.length, examples)), min(BUDGET, self.task.budget)))
        arrays = [self.task.collate([examples[i] for i in batch]) for batch in batches]
        outputs = workers.map(lambda batch: self.task.run(self.engine, batch), arrays)

        def answers() -> Iterator[tuple[Record, Result]]:
            results: list[list[Result]] = [[] for _ in window]
            for batch, output in zip(batches, outputs, strict=True):
                there = [(i, record) for i in batch for record, _ in window[i]]
                found = decode([record for _, record in there], output)
                for (i, _), result in zip(there, found, strict=True):
                    results[i].append(result)
            for passage, found in zip(window, results, strict=True):
                yield from ((record, result) for (record, _), result in zip(passage, found, strict=True))

        return answers()


def windows(
    items: Iterable[Item], *, most: int, ready: Ready, length: Callable[[Item], int] = lambda item: 0,
    longest: float = math.inf,
) -> Iterator[list[Item]]:
    """Items in lists of `most`; fewer where they are `longest` together, or the next would be waited for.

    What came before a bad item is given before its error is raised.
    """
    window: list[Item] = []
    size = 0
    try:
        for item in items:
            window.append(item)
            size += length(item)
            if len(window) >= most or size >= longest or not ready():
                yield window
                window, size = [], 0
    except RnntoolError:
        if window:
            yield window
        raise
    if window:
        yield window


class _Workers:
    """Threads that run batches side by side; they are started when there is more than one batch to run."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool: ThreadPoolExecutor | None = None

    def map(self, run: Callable[[Item], Result], batches: list[Item]) -> Iterable[Result]:
        """The results of `run`, in order."""
        if self.count == 1 or (len(batches) == 1 and self._pool is None):
            return [run(batch) for batch in batches]
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(self.count)
        return self._pool.map(run, batches)

    def __enter__(self) -> Self:
        """Leave by ending the threads."""
        return self

    def __exit__(self, *exc: object) -> None:
        """End the threads; what was not begun is dropped."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
