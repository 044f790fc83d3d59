#!/usr/bin/env python3
"""Speed and peak memory of `rnntool tag` on tokenized sentences, optionally compared with CRFsuite.

The file has one sentence per line and is repeated until there are enough words.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path

from timing import RNNTOOL, in_turn, ratio, run, seconds, show

CRFSUITE = (sys.executable, str(Path(__file__).with_name("crfsuite.py")))


def repeat(source: Path, target: Path, words: int) -> int:
    """Repeat the lines of `source` in `target` until there are `words` words; return the number of words."""
    with source.open(encoding="utf-8") as file:
        lines = [line.rstrip("\n") + "\n" for line in file if line.strip()]
    if not lines:
        raise SystemExit(f"{source}: expected sentences, found none")
    count = 0
    with target.open("w", encoding="utf-8") as out:
        for line in itertools.cycle(lines):
            out.write(line)
            count += len(line.split())
            if count >= words:
                return count
    return count


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, metavar="FILE", help="a tokenized sentence on each line")
    parser.add_argument("-m", "--model", default="en-pos", help="tagger; default: %(default)s")
    parser.add_argument("--words", type=int, default=1_000_000, help="words to tag; default: %(default)s")
    parser.add_argument("--threads", type=int, default=0, help="default: 0, which uses all cores")
    parser.add_argument("--repeats", type=int, default=3, help="rounds; default: %(default)s")
    parser.add_argument("--crfsuite", type=Path, metavar="TRAIN.conllu",
                        help="also measure CRFsuite, trained on the UPOS tags of this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text, crf = Path(folder) / "words.tok", Path(folder) / "crfsuite.model"
        count = repeat(options.file, text, options.words)
        commands = {"rnntool tag": [*RNNTOOL, "tag", "-m", options.model, "--from", "tokens",
                                    "--threads", str(options.threads)]}
        if options.crfsuite:
            run([*CRFSUITE, "train", str(crf)], input=options.crfsuite)
            commands["CRFsuite"] = [*CRFSUITE, "tag", str(crf)]
        runs = {name: partial(run, command, input=text) for name, command in commands.items()}
        measured = in_turn(runs, repeats=options.repeats)
    rows = [("command", "words/s", "peak MB")]
    for name, rounds in measured.items():
        speed = count / statistics.median(seconds(rounds))
        rows.append((name, f"{speed:,.0f}", f"{statistics.median(usage.peak_mb for usage in rounds):.0f}"))
    print(f"{count:,} words")
    show(rows)
    if options.crfsuite:
        times = ratio(seconds(measured["CRFsuite"]), seconds(measured["rnntool tag"]))
        print(f"rnntool tag is {times:.2f} times as fast as CRFsuite")


if __name__ == "__main__":
    main()
