#!/usr/bin/env python3
"""What drawing a token costs, against the step of the network that it is drawn from, for each way of drawing.

Both see what the model says after some tokens of its own. The ratio is that of times in the same round.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import cycle

import numpy as np
from timing import in_turn, parse_training, ratio, show

import rnntool
from rnntool.inference.generation import BANNED, EngineStep
from rnntool.inference.sampling import DRAWS, Sampling, sample
from rnntool.tokenize import BOS

WAYS = {
    "all": Sampling(),
    "--temperature 0.7": Sampling(temperature=0.7),
    "--top-k 40": Sampling(top_k=40),
    "--top-k 50 --top-p 0.95": Sampling(top_k=50, top_p=0.95),
    "--top-p 0.9": Sampling(top_p=0.9),
    "--top-p 0.5": Sampling(top_p=0.5),
    "--min-p 0.05": Sampling(min_p=0.05),
    "--typical 0.9": Sampling(typical=0.9),
    "--temperature 0.7 --top-p 0.9": Sampling(temperature=0.7, top_p=0.9),
    "--repetition-penalty 1.2": Sampling(repetition_penalty=1.2),
}
WARM, STEPS = 24, 8


def measure(model: rnntool.inference.model.Model, texts: int, repeats: int) -> dict[str, list[float]]:
    """Milliseconds of a step of so many texts: the network's, and those of each way of drawing."""
    step = EngineStep(model.engine, budget=model.task.budget)
    rng = np.random.default_rng(1)
    scores, state = step.start([[BOS]] * texts)
    seen = np.zeros(scores.logits.shape, np.bool_)
    said = []
    for _ in range(WARM):
        tokens, _ = sample(scores, rng.random((texts, DRAWS)), Sampling(), banned=BANNED)
        seen[np.arange(texts), tokens] = True
        scores, state = step.advance(tokens, state)
        said.append(scores)
    each = cycle(said)

    def timed(work: Callable[[], object]) -> Callable[[], float]:
        def run() -> float:
            took = []
            for _ in range(STEPS):
                began = time.perf_counter()
                work()
                took.append(1000 * (time.perf_counter() - began))
            return statistics.median(took)

        return run

    def draw(way: Sampling) -> Callable[[], object]:
        return lambda: sample(next(each), rng.random((texts, DRAWS)), way, banned=BANNED, seen=seen)

    return in_turn({"the network": timed(lambda: step.advance(tokens, state)),
                    **{name: timed(draw(way)) for name, way in WAYS.items()}}, repeats=repeats)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-m", "--model", required=True, help="language model")
    parser.add_argument("--at-once", type=int, nargs="*", default=[1, 64], metavar="N",
                        help="texts written side by side; 1 and 64 by default")
    options = parse_training(parser, repeats=15)
    model = rnntool.load(options.model, threads=options.threads)
    for texts in options.at_once:
        measured = measure(model, texts, options.repeats)
        show([(f"{texts} at once", "ms", "network = 1"),
              *((name, f"{statistics.median(times):.2f}", f"{ratio(times, measured['the network']):.2f}")
                for name, times in measured.items())])


if __name__ == "__main__":
    main()
