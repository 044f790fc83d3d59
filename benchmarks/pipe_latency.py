#!/usr/bin/env python3
"""How long `rnntool tag` takes to answer a line in a live pipe: from the line's end to that of its answer."""

from __future__ import annotations

import argparse
import itertools
import statistics
import subprocess
import time
from pathlib import Path

from timing import RNNTOOL, show

FIRST = 20  # lines that aren't counted: the start, and memory that is taken once


def answers_ms(words: list[str], lines: list[str]) -> list[float]:
    """Milliseconds that the command takes for each line; it gives a line for a line."""
    times = []
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin and process.stdout
        answers = process.stdout
        for line in lines:
            began = time.perf_counter()
            process.stdin.write(line.encode() + b"\n")
            answer = b""
            while not answer.endswith(b"\n"):
                piece = answers.read(1 << 16)
                if not piece:
                    raise SystemExit(f"{' '.join(words)}: ended before it answered")
                answer += piece
            times.append(1000 * (time.perf_counter() - began))
        process.stdin.close()
    return times[FIRST:]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, metavar="FILE", help="sentences, a line each, split by spaces")
    parser.add_argument("-m", "--model", default="en-pos", help="tagger; %(default)s by default")
    parser.add_argument("--lines", type=int, default=500, help="lines to measure; %(default)s by default")
    options = parser.parse_args()
    with options.file.open(encoding="utf-8") as file:
        lines = list(itertools.islice(filter(None, map(str.strip, file)), FIRST + options.lines))
    rows = [("input", "median ms", "95 % within ms", "slowest ms")]
    for format in ("tokens", "text"):
        times = answers_ms([*RNNTOOL, "tag", "-m", options.model, "--from", format, "--to", "tokens"], lines)
        ordered = sorted(times)
        rows.append((format, f"{statistics.median(times):.2f}", f"{ordered[int(0.95 * len(ordered))]:.2f}",
                     f"{ordered[-1]:.2f}"))
    words = statistics.mean(len(line.split()) for line in lines)
    print(f"{len(lines) - FIRST:,} lines of {words:.1f} words, {FIRST} before them not counted")
    show(rows)


if __name__ == "__main__":
    main()
