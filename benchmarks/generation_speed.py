#!/usr/bin/env python3
"""Speed of generating and scoring text with a word language model, compared with PyTorch's example.

The reference reimplements PyTorch's example `word_language_model`, in the size of the model, and the loop of
its `generate.py`: one word at a time, drawn by `torch.multinomial`. Its weights are random, which does not
change the amount of work. All texts have the same length. Both run in one process, with the same threads and
memory settings.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from timing import in_turn, parse_training, ratio, show

import rnntool
from rnntool.inference.model import Model
from rnntool.models.config import EncoderConfig


def generation(model: Model, words: int, texts: int) -> float:
    """Return the words per second of generating `texts` texts side by side."""
    length = -(-words // texts)
    start = time.perf_counter()
    results = list(model.generate(n=texts, seed=1, max_tokens=length, min_tokens=length, batch_size=texts))
    elapsed_s = time.perf_counter() - start
    return sum(len(result.tokens) for result in results) / elapsed_s


def scoring(model: Model, lines: list[str]) -> float:
    """Return the tokens per second of scoring lines."""
    start = time.perf_counter()
    tokens = sum(len(scored.log_probs) for scored in model.score(lines))
    return tokens / (time.perf_counter() - start)


def reference(encoder: EncoderConfig) -> Callable[[int], float]:
    """Return a function that measures the words per second of the example, in the size of an encoder."""
    import torch
    from torch import nn

    size, words, layers = encoder.hidden, encoder.vocabulary, encoder.layers
    embedding, rnn = nn.Embedding(words, size), nn.LSTM(size, size, layers)
    decoder = nn.Linear(size, words)
    decoder.weight = embedding.weight
    nn.init.uniform_(embedding.weight, -0.1, 0.1)

    def write(count: int) -> float:
        hidden = tuple(torch.zeros(layers, 1, size) for _ in range(2))
        token = torch.randint(words, (1, 1))
        start = time.perf_counter()
        with torch.no_grad():
            for _ in range(count):
                output, hidden = rnn(embedding(token), hidden)
                weights = decoder(output).view(-1, words).log_softmax(1).squeeze().exp()
                token.fill_(torch.multinomial(weights, 1)[0])
        return count / (time.perf_counter() - start)

    return write


def main() -> None:
    """Measure and print."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-m", "--model", required=True, help="language model of words")
    parser.add_argument("--words", type=int, default=2000, help="generated in a round; default: %(default)s")
    parser.add_argument("--at-once", type=int, nargs="*", default=[1, 64], metavar="N",
                        help="texts generated side by side; default: 1 and 64")
    parser.add_argument("--score", type=Path, metavar="FILE.txt", help="also score the lines of a file")
    options = parse_training(parser, repeats=5)
    model = rnntool.load(options.model, threads=options.threads)
    write = reference(model.config.network.encoder)
    runs: dict[str, Callable[[], float]] = {"the example": partial(write, options.words)}
    for count in options.at_once:
        runs[f"rnntool generate, {count} at once"] = partial(generation, model, options.words * count, count)
    if options.score:
        with options.score.open(encoding="utf-8") as file:
            runs["rnntool score"] = partial(scoring, model, list(map(str.strip, file)))
    measured = in_turn(runs, repeats=options.repeats)
    print(f"{model.config.network.encoder.vocabulary:,} words, {torch.get_num_threads()} threads")
    show([("command", "words/s", "example = 1"),
          *((name, f"{statistics.median(speeds):,.0f}", f"{ratio(speeds, measured['the example']):.1f}")
            for name, speeds in measured.items())])


if __name__ == "__main__":
    main()
