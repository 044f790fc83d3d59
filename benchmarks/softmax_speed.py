#!/usr/bin/env python3
"""Training speed of language models with large vocabularies: the adaptive softmax against the full softmax.

One LSTM layer reads random tokens, whose frequencies follow Zipf's law. Both networks are trained by the loop
of `rnntool train lm` on the same windows, with optimizer and moving average.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from timing import in_turn, parse_training, ratio, show

from rnntool.data.progress import Stage
from rnntool.tasks.lm import LMTask
from rnntool.tasks.specs.lm import LMSettings
from rnntool.tokenize import SPECIALS, WordTokenizer
from rnntool.training.batching import Streamed
from rnntool.training.loop import Step, Trainer
from rnntool.training.train import build_network


def speed(words: list[str], settings: LMSettings, steps: int) -> float:
    """Return the tokens per second of the median step, without the first, which allocates memory."""
    import torch

    task = LMTask(WordTokenizer(words, lower=False, split="space"), settings=settings)
    shares = 1 / np.arange(1, len(words) + 1)
    tokens = (steps + 1) * settings.batch_size * settings.bptt
    stream = np.random.default_rng(1).choice(len(words), tokens, p=shares / shares.sum()) + len(SPECIALS)
    windows = Streamed(task.windows, stream, columns=settings.batch_size, time_steps=settings.bptt)
    speeds: list[float] = []

    def watch(step: Step | Stage) -> None:
        if isinstance(step, Step):
            speeds.append(step.tokens_per_s)

    with tempfile.TemporaryDirectory() as folder:
        network = build_network(task.network_config(), task, [])
        Trainer(task, network, windows, [], settings, folder=Path(folder),
                device=torch.device("cpu"), watch=watch, stopping=lambda: None).run()
    return statistics.median(speeds[1:])


def main() -> None:
    """Measure and print a row for each vocabulary size."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vocabulary", nargs="+", type=int, default=[20_000, 60_000, 200_000],
                        help="vocabulary sizes; default: 20000, 60000 and 200000")
    parser.add_argument("--size", type=int, default=200, help="units of the layer; default: %(default)s")
    parser.add_argument("--steps", type=int, default=3, help="training steps per round; default: %(default)s")
    options = parse_training(parser, repeats=3)
    rows = [("entries", "full, tokens/s", "adaptive, tokens/s", "full = 1")]
    for entries in options.vocabulary:
        words = [f"w{i}" for i in range(entries - len(SPECIALS))]
        settings = {softmax: LMSettings(
            tokenizer="word", context="stream", embed=options.size, layers=1, hidden=options.size, bptt=35,
            epochs=1, softmax=softmax) for softmax in ("full", "adaptive")}
        measured = in_turn(
            {softmax: partial(speed, words, given, options.steps) for softmax, given in settings.items()},
            repeats=options.repeats)
        full, adaptive = measured["full"], measured["adaptive"]
        rows.append((f"{entries:,}", f"{statistics.median(full):,.0f}", f"{statistics.median(adaptive):,.0f}",
                     f"{ratio(adaptive, full):.1f}"))
    print(f"{torch.get_num_threads()} threads")
    show(rows)


if __name__ == "__main__":
    main()
