"""Measures things in turn, round by round, so that a machine that slows down slows all of them alike.

Knows nothing of what it measures.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

RNNTOOL = (sys.executable, "-m", "rnntool")
PEAK_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes that the system counts peaks in

Result = TypeVar("Result")


@dataclass(frozen=True)
class Ran:
    """What a command took."""

    seconds: float
    peak_mb: float


def run(words: Sequence[str], *, input: Path) -> Ran:
    """Run a command from its start to its end, `input` on standard input; `SystemExit` where it fails.

    The peak is that of the command, but at least that of this process, which it is started from: import
    nothing large here.
    """
    with input.open("rb") as source:
        began = time.perf_counter()
        process = subprocess.Popen(words, stdin=source, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)}: failed with {process.returncode}")
    return Ran(seconds, usage.ru_maxrss * PEAK_UNIT / 1e6)


def in_turn(runs: Mapping[str, Callable[[], Result]], *, repeats: int) -> dict[str, list[Result]]:
    """The results of `repeats` rounds, after one that isn't counted. Every other round goes backwards."""
    for measure in runs.values():
        measure()
    results: dict[str, list[Result]] = {name: [] for name in runs}
    for number in range(repeats):
        for name in list(runs)[:: 1 if number % 2 == 0 else -1]:
            results[name].append(runs[name]())
    return results


def parse_training(parser: argparse.ArgumentParser, *, repeats: int) -> argparse.Namespace:
    """Options, `--threads` and `--repeats` among them; torch and memory are set up as by the command."""
    import torch  # where it is there anyway: see `run`

    from rnntool.commands.allocator import keep_freed
    from rnntool.data.threads import cores

    parser.add_argument("--threads", type=int, default=0, help="0, the default, is all cores")
    parser.add_argument("--repeats", type=int, default=repeats, help="rounds; %(default)s by default")
    options = parser.parse_args()
    torch.set_num_threads(options.threads or cores())
    torch.set_flush_denormal(True)
    keep_freed()
    return options


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def seconds(rounds: Sequence[Ran]) -> list[float]:
    """The time of each round."""
    return [ran.seconds for ran in rounds]


def show(rows: Sequence[tuple[str, ...]]) -> None:
    """Print a table, the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        print("  ".join([row[0].ljust(widths[0]), *cells[1:]]).rstrip())
