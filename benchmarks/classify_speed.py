#!/usr/bin/env python3
"""Speed and peak memory of `rnntool classify`, and its latency in a live pipe.

The file has one text per line and is repeated until there are enough lines.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
from functools import partial
from pathlib import Path

from pipe_latency import WARM_UP, latencies_ms
from timing import RNNTOOL, in_turn, run, seconds, show


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, metavar="FILE", help="texts, one per line")
    parser.add_argument("-m", "--model", default="en-question", help="classifier; default: %(default)s")
    parser.add_argument("--texts", type=int, default=200_000, help="texts to classify; default: %(default)s")
    parser.add_argument("--lines", type=int, default=500, help="lines in the pipe; default: %(default)s")
    parser.add_argument("--threads", type=int, default=0, help="default: 0, which uses all cores")
    parser.add_argument("--repeats", type=int, default=3, help="rounds; default: %(default)s")
    options = parser.parse_args()
    with options.file.open(encoding="utf-8") as file:
        lines = list(filter(None, map(str.strip, file)))
    if not lines:
        raise SystemExit(f"{options.file}: expected texts, found none")
    command = [*RNNTOOL, "classify", "-m", options.model, "--threads", str(options.threads)]
    commands = {"classify": command, "classify --probs --top 3": [*command, "--probs", "--top", "3"],
                "classify --jsonl": [*command, "--jsonl"]}
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "texts.txt"
        with text.open("w", encoding="utf-8") as out:
            out.writelines(f"{line}\n" for line in itertools.islice(itertools.cycle(lines), options.texts))
        runs = {name: partial(run, variant, input=text) for name, variant in commands.items()}
        measured = in_turn(runs, repeats=options.repeats)
    rows = [("command", "texts/s", "peak MB")]
    for name, rounds in measured.items():
        speed = options.texts / statistics.median(seconds(rounds))
        rows.append((name, f"{speed:,.0f}", f"{statistics.median(usage.peak_mb for usage in rounds):.0f}"))
    words = statistics.mean(len(line.split()) for line in lines)
    print(f"{options.texts:,} texts of {words:.1f} words")
    show(rows)
    sent = list(itertools.islice(itertools.cycle(lines), WARM_UP + options.lines))
    times = sorted(latencies_ms(command, sent))
    print(f"in a pipe: median {statistics.median(times):.2f} ms, 95 % within "
          f"{times[int(0.95 * len(times))]:.2f} ms, slowest {times[-1]:.2f} ms")


if __name__ == "__main__":
    main()
