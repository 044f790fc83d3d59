#!/usr/bin/env python3
"""Time of drawing a token with each sampling option, compared with a step of the network.

Both use the model's scores after some tokens that it generated itself.
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
from rnntool.inference.generation import EngineModel
from rnntool.inference.options import GenerateOptions
from rnntool.models.sampling import DRAWS, sample

OPTIONS = {
    "all": GenerateOptions(),
    "--temperature 0.7": GenerateOptions(temperature=0.7),
    "--top-k 40": GenerateOptions(top_k=40),
    "--top-k 50 --top-p 0.95": GenerateOptions(top_k=50, top_p=0.95),
    "--top-p 0.9": GenerateOptions(top_p=0.9),
    "--top-p 0.5": GenerateOptions(top_p=0.5),
    "--min-p 0.05": GenerateOptions(min_p=0.05),
    "--typical 0.9": GenerateOptions(typical=0.9),
    "--temperature 0.7 --top-p 0.9": GenerateOptions(temperature=0.7, top_p=0.9),
    "--repetition-penalty 1.2": GenerateOptions(repetition_penalty=1.2),
}
WARM_UP, STEPS = 24, 8  # generated tokens, and steps per round


def measure(model: rnntool.inference.model.Model, texts: int, repeats: int) -> dict[str, list[float]]:
    """Measure the milliseconds of a network step for several texts, and of drawing with each option."""
    network = EngineModel(model.engine, budget=model.task.budget)
    rng = np.random.default_rng(1)
    scores, state = network.start([[]] * texts)
    seen = np.zeros(scores.logits.shape, np.bool_)
    all_scores = []
    for _ in range(WARM_UP):
        tokens, _ = sample(scores, rng.random((texts, DRAWS)), GenerateOptions())
        seen[np.arange(texts), tokens] = True
        scores, state = network.advance(tokens, state)
        all_scores.append(scores)
    scores_in_turn = cycle(all_scores)

    def timed(work: Callable[[], object]) -> Callable[[], float]:
        def run() -> float:
            times = []
            for _ in range(STEPS):
                start = time.perf_counter()
                work()
                times.append(1000 * (time.perf_counter() - start))
            return statistics.median(times)

        return run

    def draw(options: GenerateOptions) -> Callable[[], object]:
        return lambda: sample(next(scores_in_turn), rng.random((texts, DRAWS)), options, seen=seen)

    return in_turn({"the network": timed(lambda: network.advance(tokens, state)),
                    **{name: timed(draw(choice)) for name, choice in OPTIONS.items()}}, repeats=repeats)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-m", "--model", required=True, help="language model")
    parser.add_argument("--at-once", type=int, nargs="*", default=[1, 64], metavar="N",
                        help="texts generated side by side; default: 1 and 64")
    options = parse_training(parser, repeats=15)
    model = rnntool.load(options.model, threads=options.threads)
    for texts in options.at_once:
        measured = measure(model, texts, options.repeats)
        show([(f"{texts} at once", "ms", "network = 1"),
              *((name, f"{statistics.median(times):.2f}", f"{ratio(times, measured['the network']):.2f}")
                for name, times in measured.items())])


if __name__ == "__main__":
    main()
