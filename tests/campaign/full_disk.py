"""Let the disk be full at each write of every command that writes, and then let it have room again.

The command ends with one sentence and exit code 1. It leaves nothing half-written, and an older model or file
stays. Started again, it gives the same bytes as without the fault.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import harness
from harness import WRITES, Case, Operation, Ran, difference, snapshot
from writers import Writer, writers

NEED_ROOM = {*WRITES, "openat", "mkdir", "mkdirat", "rename", "renameat", "renameat2"}
FILE_SIZES = (0, 100, 1000, 3000, 10_000, 30_000)  # bytes


def check(writer: Writer, ran: Ran, at: Path, *, renaming: bool) -> str | None:
    """Return what is wrong after a command found no room, or after it was started again.

    Where it could not rename, files may be left that the next run puts in their place.
    """
    after = snapshot(at)
    if ran.code == 0:  # what failed was not needed
        files = {name: digest for name, digest in after.items() if name in writer.after or not renaming}
        return ran.fault(0) or difference(writer.after, files)
    left = {name for name in after.keys() - writer.before.keys() if not is_checkpoint(name, writer)}
    if fault := ran.fault(1) or writer.broken(at):
        return fault
    if left and not renaming:
        return f"left over: {', '.join(sorted(left))}"
    return writer.start_again(at, resume_first=True)


def is_checkpoint(name: str, writer: Writer) -> bool:
    """Whether a file belongs to the token cache or to a training to resume, and isn't a temporary file."""
    parts = name.split("/")
    temporary = any(part.startswith(".") or part.endswith((".writing", ".part")) for part in parts)
    return not temporary and (
        parts[0] == "cache" or parts == [writer.output] or parts[:2] == [writer.output, "resume"])


def cases(shared: Path, count: int, seed: int) -> Sequence[Case]:
    """Draw writes of all writers, and sizes at which all files stop growing."""
    places: list[tuple[Writer, Operation | int]] = []
    for writer in writers(shared):
        places += [(writer, operation) for operation in writer.operations if operation.call in NEED_ROOM]
        places += [(writer, size) for size in FILE_SIZES]
    random.Random(seed).shuffle(places)

    def check_case(writer: Writer, place: Operation | int, at: Path) -> str | None:
        if isinstance(place, int):
            return check(writer, writer.run(at, file_size=place), at, renaming=False)
        ran = writer.run(at, strace=place.inject("error=ENOSPC"))
        return check(writer, ran, at, renaming=place.call.startswith("rename"))

    return [Case(writer.name, f"no room at {place}", partial(check_case, writer, place))
            for writer, place in places[:count]]


if __name__ == "__main__":
    harness.main(__doc__, cases, count=500)
