#!/usr/bin/env python3
"""Texts a second and peak memory of `rnntool classify` from file to file, and its delay in a live pipe.

The file, a text a line, is repeated until it has enough lines.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
from functools import partial
from pathlib import Path

from pipe_latency import FIRST, answers_ms
from timing import RNNTOOL, in_turn, run, seconds, show


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, metavar="FILE", help="texts, a line each")
    parser.add_argument("-m", "--model", default="en-question", help="classifier; %(default)s by default")
    parser.add_argument("--texts", type=int, default=200_000, help="texts to label; %(default)s by default")
    parser.add_argument("--lines", type=int, default=500, help="lines of the pipe; %(default)s by default")
    parser.add_argument("--threads", type=int, default=0, help="of rnntool; 0, the default, is all cores")
    parser.add_argument("--repeats", type=int, default=3, help="rounds; %(default)s by default")
    options = parser.parse_args()
    with options.file.open(encoding="utf-8") as file:
        lines = list(filter(None, map(str.strip, file)))
    if not lines:
        raise SystemExit(f"{options.file}: want texts, found none")
    command = [*RNNTOOL, "classify", "-m", options.model, "--threads", str(options.threads)]
    kinds = {"classify": command, "classify --probs --top 3": [*command, "--probs", "--top", "3"],
             "classify --jsonl": [*command, "--jsonl"]}
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "texts.txt"
        with text.open("w", encoding="utf-8") as out:
            out.writelines(f"{line}\n" for line in itertools.islice(itertools.cycle(lines), options.texts))
        runs = {name: partial(run, words, input=text) for name, words in kinds.items()}
        measured = in_turn(runs, repeats=options.repeats)
    rows = [("command", "texts/s", "peak MB")]
    for name, rounds in measured.items():
        speed = options.texts / statistics.median(seconds(rounds))
        rows.append((name, f"{speed:,.0f}", f"{statistics.median(ran.peak_mb for ran in rounds):.0f}"))
    words = statistics.mean(len(line.split()) for line in lines)
    print(f"{options.texts:,} texts of {words:.1f} words")
    show(rows)
    asked = list(itertools.islice(itertools.cycle(lines), FIRST + options.lines))
    times = sorted(answers_ms(command, asked))
    print(f"in a pipe: median {statistics.median(times):.2f} ms, 95 % within "
          f"{times[int(0.95 * len(times))]:.2f} ms, slowest {times[-1]:.2f} ms")


if __name__ == "__main__":
    main()
