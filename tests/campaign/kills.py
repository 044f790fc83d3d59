"""Kill trainings, exports and filters at their operations on files, and start them again.

After each kill, a model or file that was there still answers as before, or is the new one. Starting again
ends well, gives the same bytes as without a kill, and leaves nothing else behind.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import harness
from harness import Case, Operation
from writers import Writer, writers


def kill(writer: Writer, operation: Operation, resume_first: bool, at: Path) -> str | None:
    """Kill a command just before an operation; return what is wrong then, or after it was started again."""
    ran = writer.run(at, strace=operation.inject("signal=KILL"))
    if ran.code != -9:
        return f"it was not killed: exit code {ran.code}: {ran.err}"
    return writer.broken(at) or writer.start_again(at, resume_first=resume_first)


def cases(shared: Path, count: int, seed: int) -> Sequence[Case]:
    """Draw operations of all writers; with a large count, each operation once."""
    places = [(writer, operation) for writer in writers(shared) for operation in writer.operations]
    random.Random(seed).shuffle(places)
    return [
        Case(writer.name, f"killed before {operation}", partial(kill, writer, operation, bool(number % 2)))
        for number, (writer, operation) in enumerate(places[:count])]


if __name__ == "__main__":
    harness.main(__doc__, cases, count=200)
