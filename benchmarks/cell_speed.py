#!/usr/bin/env python3
"""Tokens a second that layers of each cell learn from, by the length of the sequences.

Forward and backward through an encoder, nothing around it: no softmax, no optimizer. The arithmetic is what
`rnntool train` would choose.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

from timing import in_turn, show

import rnntool.training  # noqa: F401  (says how torch's threads wait, before torch is imported)
from rnntool.data.threads import cores
from rnntool.tasks.specs.lm import LMSettings
from rnntool.tasks.specs.settings import CELL_NAMES


def learner(cell: str, hidden: int, layers: int) -> Callable[[int, int], float]:
    """Tokens a second of one pass over (T, B) random tokens."""
    import torch

    from rnntool.models.config import EncoderConfig
    from rnntool.models.encoder import Encoder
    from rnntool.training.loop import pick_precision

    encoder = Encoder(EncoderConfig(vocabulary=1000, embed=hidden, cell=cell, layers=layers, hidden=hidden))
    precision = pick_precision(LMSettings(), torch.device("cpu"))

    def learn(steps: int, batch: int) -> float:
        tokens = torch.randint(1000, (steps, batch))
        began = time.perf_counter()
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            states, _ = encoder({"tokens": tokens, "lengths": torch.full((batch,), steps)})
        states.float().sum().backward()
        return steps * batch / (time.perf_counter() - began)

    return learn


def main() -> None:
    """Print medians, a row for each cell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", nargs="+", default=["lstm", "mingru"], choices=CELL_NAMES)
    parser.add_argument("--steps", nargs="+", type=int, default=[35, 128, 512, 2048], help="lengths")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    parser.add_argument("--threads", type=int, default=cores())
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    learners = {cell: learner(cell, options.hidden, options.layers) for cell in options.cells}
    rows = [("cell", *(f"T = {steps}" for steps in options.steps))]
    rounds = [in_turn({cell: partial(learn, steps, options.batch) for cell, learn in learners.items()},
                      repeats=options.repeats) for steps in options.steps]
    show(rows + [(cell, *(f"{statistics.median(of[cell]):,.0f}" for of in rounds)) for cell in options.cells])


if __name__ == "__main__":
    main()
