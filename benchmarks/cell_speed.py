#!/usr/bin/env python3
"""Training speed of layers with each cell, in tokens per second, by sequence length.

This measures the forward and backward pass of an encoder alone, without softmax and optimizer, in the
precision that `rnntool train` would choose.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

from timing import in_turn, parse_training, show

from rnntool.models.cells import CELL_NAMES
from rnntool.tasks.specs.lm import LMSettings


def learner(cell: str, hidden: int, layers: int) -> Callable[[int, int], float]:
    """Return a function that measures the tokens per second of one pass over (T, B) random tokens."""
    import torch

    from rnntool.models.config import EncoderConfig
    from rnntool.models.encoder import Encoder
    from rnntool.training.loop import pick_precision

    encoder = Encoder(EncoderConfig(vocabulary=1000, embed=hidden, cell=cell, layers=layers, hidden=hidden))
    precision = pick_precision(LMSettings(), torch.device("cpu"))

    def learn(steps: int, batch: int) -> float:
        tokens = torch.randint(1000, (steps, batch))
        start = time.perf_counter()
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            states, _ = encoder({"tokens": tokens, "lengths": torch.full((batch,), steps)})
        states.float().sum().backward()
        return steps * batch / (time.perf_counter() - start)

    return learn


def main() -> None:
    """Measure and print a row of medians for each cell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", nargs="+", default=["lstm", "mingru"], choices=CELL_NAMES)
    parser.add_argument("--steps", nargs="+", type=int, default=[35, 128, 512, 2048],
                        help="sequence lengths")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=2)
    options = parse_training(parser, repeats=5)
    learners = {cell: learner(cell, options.hidden, options.layers) for cell in options.cells}
    rows = [("cell", *(f"T = {steps}" for steps in options.steps))]
    rounds = [in_turn({cell: partial(learn, steps, options.batch) for cell, learn in learners.items()},
                      repeats=options.repeats) for steps in options.steps]
    show(rows + [(cell, *(f"{statistics.median(speeds[cell]):,.0f}" for speeds in rounds))
                 for cell in options.cells])


if __name__ == "__main__":
    main()
