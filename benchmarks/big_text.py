#!/usr/bin/env python3
"""Speed and peak memory of reading and tokenizing a large text, as at the start of a training.

Text and tokens are stored in files, like those of any large corpus. Unlike in a training, torch is not
loaded.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

from timing import show

from rnntool.data import corpus
from rnntool.tasks.lm import LMTask
from rnntool.tasks.specs.lm import LMSettings


def ignore(anything: object) -> None:
    """Ignore progress and messages."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", metavar="FILE.txt", help="text, at least a hundred megabytes")
    parser.add_argument("--tokenizers", nargs="+", default=["unigram", "bpe", "word", "char", "byte"],
                        metavar="NAME", help="default: all")
    options = parser.parse_args()
    corpus.LARGE = 1 << 20  # so that a small text also goes into a file
    size = Path(options.file).stat().st_size
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder  # for the token cache
        start = time.perf_counter()
        texts = corpus.Texts.collect(
            LMTask.inputs([options.file], LMSettings(), targets=True, format="text", log=ignore),
            watch=ignore)
        print(f"read {len(texts):,} lines at {size / 1e6 / (time.perf_counter() - start):,.0f} MB/s")
        rows = [("tokenizer", "seconds to learn", "tokens", "tokens/s")]
        for name in options.tokenizers:
            start = time.perf_counter()
            task = LMTask.learn(texts, LMSettings(tokenizer=name))
            learned = time.perf_counter()
            tokens = len(task.training_examples(texts, watch=ignore, log=ignore).values)
            elapsed_s = time.perf_counter() - learned
            rows.append((name, f"{learned - start:.1f}", f"{tokens:,}", f"{tokens / elapsed_s:,.0f}"))
    show(rows)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB")


if __name__ == "__main__":
    main()
