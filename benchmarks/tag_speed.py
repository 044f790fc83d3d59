#!/usr/bin/env python3
"""Words a second and peak memory of `rnntool tag` on sentences that are split already; against CRFsuite, too.

The file, a sentence a line, is repeated until it has enough words.
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
    """Write the lines of `source` again and again, to `words` words or a line more; how many there are."""
    with source.open(encoding="utf-8") as file:
        lines = [line.rstrip("\n") + "\n" for line in file if line.strip()]
    if not lines:
        raise SystemExit(f"{source}: want sentences, found none")
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
    parser.add_argument("file", type=Path, metavar="FILE", help="sentences, a line each, split by spaces")
    parser.add_argument("-m", "--model", default="en-pos", help="tagger; %(default)s by default")
    parser.add_argument("--words", type=int, default=1_000_000, help="words to tag; %(default)s by default")
    parser.add_argument("--threads", type=int, default=0, help="of rnntool; 0, the default, is all cores")
    parser.add_argument("--repeats", type=int, default=3, help="rounds; %(default)s by default")
    parser.add_argument("--crfsuite", type=Path, metavar="TRAIN.conllu",
                        help="train CRFsuite on the UPOS of this file and measure it in turn")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text, peer = Path(folder) / "words.tok", Path(folder) / "crfsuite.model"
        count = repeat(options.file, text, options.words)
        commands = {"rnntool tag": [*RNNTOOL, "tag", "-m", options.model, "--from", "tokens",
                                    "--threads", str(options.threads)]}
        if options.crfsuite:
            run([*CRFSUITE, "train", str(peer)], input=options.crfsuite)
            commands["CRFsuite"] = [*CRFSUITE, "tag", str(peer)]
        runs = {name: partial(run, words, input=text) for name, words in commands.items()}
        measured = in_turn(runs, repeats=options.repeats)
    rows = [("command", "words/s", "peak MB")]
    for name, rounds in measured.items():
        speed = count / statistics.median(seconds(rounds))
        rows.append((name, f"{speed:,.0f}", f"{statistics.median(ran.peak_mb for ran in rounds):.0f}"))
    print(f"{count:,} words")
    show(rows)
    if options.crfsuite:
        times = ratio(seconds(measured["CRFsuite"]), seconds(measured["rnntool tag"]))
        print(f"rnntool tag is {times:.2f} times as fast as CRFsuite")


if __name__ == "__main__":
    main()
