"""Measurements in alternating rounds, so that a change in the machine's speed affects all candidates alike.

Knows nothing about what is measured.
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
PEAK_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes in one unit of `ru_maxrss`

Result = TypeVar("Result")


@dataclass(frozen=True)
class Usage:
    """The time and the memory that a command took."""

    seconds: float
    peak_mb: float


def run(command: Sequence[str], *, input: Path) -> Usage:
    """Run a command with the file `input` on standard input; `SystemExit` if it fails.

    The peak memory is at least that of this process, which starts the command. So a script that measures
    memory must not import anything large.
    """
    with input.open("rb") as source:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdin=source, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        elapsed_s = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: failed with exit code {process.returncode}")
    return Usage(elapsed_s, usage.ru_maxrss * PEAK_UNIT / 1e6)


def in_turn(runs: Mapping[str, Callable[[], Result]], *, repeats: int) -> dict[str, list[Result]]:
    """Return the results of `repeats` rounds, after a warm-up. Every other round runs in reverse order."""
    for measure in runs.values():
        measure()
    results: dict[str, list[Result]] = {name: [] for name in runs}
    for number in range(repeats):
        for name in list(runs)[:: 1 if number % 2 == 0 else -1]:
            results[name].append(runs[name]())
    return results


def parse_training(parser: argparse.ArgumentParser, *, repeats: int) -> argparse.Namespace:
    """Add `--threads` and `--repeats`, parse the options, set up torch and memory like `rnntool train`."""
    from rnntool.commands.allocator import keep_freed, prepare_torch
    from rnntool.data.threads import cores

    parser.add_argument("--threads", type=int, default=0, help="default: %(default)s, which uses all cores")
    parser.add_argument("--repeats", type=int, default=repeats, help="rounds; default: %(default)s")
    options = parser.parse_args()
    keep_freed()
    prepare_torch()
    import torch

    torch.set_num_threads(options.threads or cores())
    torch.set_flush_denormal(True)
    return options


def ratio(measured: Sequence[float], reference: Sequence[float]) -> float:
    """Return the median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(measured, reference, strict=True))


def seconds(rounds: Sequence[Usage]) -> list[float]:
    """Return the time of each round."""
    return [usage.seconds for usage in rounds]


def show(rows: Sequence[tuple[str, ...]]) -> None:
    """Print a table; the first column is aligned to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        print("  ".join([row[0].ljust(widths[0]), *cells[1:]]).rstrip())
