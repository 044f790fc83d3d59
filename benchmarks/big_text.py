#!/usr/bin/env python3
"""What comes before a training on much text: megabytes read and tokens found a second, and peak memory.

Text and tokens go into files, as those of large data do. torch, which a training has loaded too, is not.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

from timing import show

from rnntool.data import corpus, token_cache
from rnntool.tasks.lm import LMTask
from rnntool.tasks.specs.lm import LMSettings


def ignore(anything: object) -> None:
    """Ignore progress and messages."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", metavar="FILE.txt", help="lines of text, a hundred megabytes or more")
    parser.add_argument("--tokenizers", nargs="+", default=["unigram", "bpe", "word", "char", "byte"],
                        metavar="NAME", help="all by default")
    options = parser.parse_args()
    corpus.LARGE = 1 << 20
    size = Path(options.file).stat().st_size
    with tempfile.TemporaryDirectory() as folder:
        token_cache.folder = lambda: Path(folder)
        began = time.perf_counter()
        texts = corpus.Texts.collect(
            LMTask.inputs([options.file], LMSettings(), targets=True, format="text",
                          errors="strict", log=ignore), watch=ignore)
        print(f"{len(texts):,} lines, {size / 1e6 / (time.perf_counter() - began):,.0f} MB/s read")
        rows = [("tokenizer", "seconds to learn", "tokens", "tokens/s")]
        for name in options.tokenizers:
            began = time.perf_counter()
            task = LMTask.learn(texts, LMSettings(tokenizer=name))
            learned = time.perf_counter()
            kept = token_cache.cached_rows(task.blocks(texts), task.dtype, key=name, warn=ignore)
            tokens, taken = len(kept.values), time.perf_counter() - learned
            rows.append((name, f"{learned - began:.1f}", f"{tokens:,}", f"{tokens / taken:,.0f}"))
    show(rows)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB")


if __name__ == "__main__":
    main()
