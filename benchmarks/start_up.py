#!/usr/bin/env python3
"""Start-up time of rnntool: tagging one sentence and printing the help, compared with `import torch`."""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path

from timing import RNNTOOL, in_turn, ratio, run, seconds, show

SENTENCE = "The keys on the table are mine.\n"
TORCH = "python -c 'import torch'"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-m", "--model", default="en-pos", help="tagger; default: %(default)s")
    parser.add_argument("--repeats", type=int, default=9, help="rounds; default: %(default)s")
    options = parser.parse_args()
    commands = {
        TORCH: [sys.executable, "-c", "import torch"],
        "rnntool tag, one sentence": [*RNNTOOL, "tag", "-m", options.model],
        "rnntool --help": [*RNNTOOL, "--help"],
    }
    with tempfile.TemporaryDirectory() as folder:
        sentence = Path(folder) / "sentence.txt"
        sentence.write_text(SENTENCE, "utf-8")
        runs = {name: partial(run, command, input=sentence) for name, command in commands.items()}
        measured = {name: seconds(rounds) for name, rounds in in_turn(runs, repeats=options.repeats).items()}
    show([("command", "seconds", "ratio"), *(
        (name, f"{statistics.median(times):.3f}", f"{ratio(times, measured[TORCH]):.3f}")
        for name, times in measured.items())])


if __name__ == "__main__":
    main()
