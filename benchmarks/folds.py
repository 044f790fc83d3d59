#!/usr/bin/env python3
"""Cross-validated accuracy of a classifier: each row of a TSV file is tested by a model that never saw it.

Row i belongs to fold i modulo the number of folds. Further options are passed to `rnntool train classify`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path


def main() -> None:
    """Print the accuracy on each fold and on all rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="TSV with a header")
    parser.add_argument("--folds", type=int, default=5, help="default: %(default)s")
    options, training = parser.parse_known_args()
    head, *rows = options.file.read_text("utf-8").rstrip("\n").split("\n")
    correct = 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for fold in range(options.folds):
            test = [row for i, row in enumerate(rows) if i % options.folds == fold]
            train = [row for i, row in enumerate(rows) if i % options.folds != fold]
            for path, part in (("train.tsv", train), ("test.tsv", test)):
                (folder / path).write_text("\n".join([head, *part]) + "\n", "utf-8")
            model = folder / f"model-{fold}"
            run("train", "classify", str(folder / "train.tsv"), "-o", str(model), "-q", "--dev-fraction", "0",
                *training)
            report = json.loads(run("evaluate", str(folder / "test.tsv"), "-m", str(model), "--json"))
            print(f"fold {fold}  {report['accuracy']:.4f}", flush=True)
            correct += report["accuracy"] * len(test)
    print(f"all     {correct / len(rows):.4f}")


def run(*arguments: str) -> str:
    """Run an rnntool command and return its output."""
    command = [sys.executable, "-m", "rnntool", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
