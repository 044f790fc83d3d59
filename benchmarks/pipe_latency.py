#!/usr/bin/env python3
"""Latency of `rnntool tag` in a live pipe: the time from the end of a line to the end of its answer."""

from __future__ import annotations

import argparse
import itertools
import statistics
import subprocess
import time
from pathlib import Path

from timing import RNNTOOL, show

WARM_UP = 20  # lines that are not counted


def latencies_ms(command: list[str], lines: list[str]) -> list[float]:
    """Return the milliseconds that a command takes to answer each line with one line."""
    times = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin and process.stdout
        answers = process.stdout
        for line in lines:
            start = time.perf_counter()
            process.stdin.write(line.encode() + b"\n")
            answer = b""
            while not answer.endswith(b"\n"):
                piece = answers.read(1 << 16)
                if not piece:
                    raise SystemExit(f"{' '.join(command)}: ended before it answered")
                answer += piece
            times.append(1000 * (time.perf_counter() - start))
        process.stdin.close()
    return times[WARM_UP:]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, metavar="FILE", help="a tokenized sentence on each line")
    parser.add_argument("-m", "--model", default="en-pos", help="tagger; default: %(default)s")
    parser.add_argument("--lines", type=int, default=500, help="lines to measure; default: %(default)s")
    options = parser.parse_args()
    with options.file.open(encoding="utf-8") as file:
        lines = list(itertools.islice(filter(None, map(str.strip, file)), WARM_UP + options.lines))
    rows = [("input", "median ms", "95 % within ms", "slowest ms")]
    for format in ("tokens", "text"):
        command = [*RNNTOOL, "tag", "-m", options.model, "--from", format, "--to", "tokens"]
        times = latencies_ms(command, lines)
        ordered = sorted(times)
        rows.append((format, f"{statistics.median(times):.2f}", f"{ordered[int(0.95 * len(ordered))]:.2f}",
                     f"{ordered[-1]:.2f}"))
    words = statistics.mean(len(line.split()) for line in lines)
    print(f"{len(lines) - WARM_UP:,} lines of {words:.1f} words, after {WARM_UP} lines of warm-up")
    show(rows)


if __name__ == "__main__":
    main()
