"""An engine that reports how much it has read, so that long evaluations show their progress."""

from __future__ import annotations

from collections.abc import Callable

from rnntool.data.arrays import Arrays
from rnntool.data.progress import Counter, Stage
from rnntool.tasks.base import Engine


class WatchedEngine:
    """Runs another engine; after each batch, `watch` receives the tokens so far. It is an `Engine` itself."""

    def __init__(
        self, engine: Engine, name: str, watch: Callable[[Stage], None], *, total: int | None = None
    ) -> None:
        """`name` is the name of the progress that `watch` receives, `total` the tokens of all batches."""
        self.engine = engine
        self.word_vectors = engine.word_vectors
        self.read = Counter(name, "tokens", watch, total=total)

    def run(self, arrays: Arrays, outputs: list[str] | None = None) -> Arrays:
        """Compute the named outputs of a batch."""
        results = self.engine.run(arrays, outputs)
        self.read.add(int(arrays["lengths"].sum()))
        return results

    def initial_state(self, batch: int) -> Arrays:
        """Return recurrent states of zeros, by the names of the inputs."""
        return self.engine.initial_state(batch)

    def part(self, name: str) -> Engine:
        """Return the engine of a part, which is not watched."""
        return self.engine.part(name)
