#!/usr/bin/env python3
"""How fast a language model of words writes, against PyTorch's example of one, and how fast it scores text.

The peer is our own writing of the network that the example `word_language_model` builds, of the model's size,
and of the loop of its `generate.py`: a word at a time, drawn by `torch.multinomial`. Its weights are random,
which changes nothing in the work. No text ends before it has all its words. It is one process, so what
rnntool asks of threads and memory holds for both.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from timing import in_turn, parse_training, ratio, show

import rnntool
from rnntool.inference.model import Model


def ours(model: Model, words: int, side_by_side: int) -> float:
    """Words a second, so many texts at once."""
    length = -(-words // side_by_side)
    began = time.perf_counter()
    texts = list(model.generate(n=side_by_side, seed=1, max_tokens=length, min_tokens=length,
                                batch_size=side_by_side))
    took = time.perf_counter() - began
    return sum(len(text.tokens) for text in texts) / took


def scoring(model: Model, lines: list[str]) -> float:
    """Tokens a second of lines that are scored."""
    began = time.perf_counter()
    tokens = sum(len(scored.log_probs) for scored in model.score(lines))
    return tokens / (time.perf_counter() - began)


def peer(encoder: dict[str, Any]) -> Callable[[int], float]:
    """A function that gives the words a second of the example, on a network of an encoder's sizes."""
    import torch
    from torch import nn

    size, words, layers = encoder["hidden"], encoder["vocabulary"], encoder["layers"]
    embedding, rnn = nn.Embedding(words, size), nn.LSTM(size, size, layers)
    decoder = nn.Linear(size, words)
    decoder.weight = embedding.weight
    nn.init.uniform_(embedding.weight, -0.1, 0.1)

    def write(count: int) -> float:
        hidden = tuple(torch.zeros(layers, 1, size) for _ in range(2))
        token = torch.randint(words, (1, 1))
        began = time.perf_counter()
        with torch.no_grad():
            for _ in range(count):
                output, hidden = rnn(embedding(token), hidden)
                weights = decoder(output).view(-1, words).log_softmax(1).squeeze().exp()
                token.fill_(torch.multinomial(weights, 1)[0])
        return count / (time.perf_counter() - began)

    return write


def main() -> None:
    """Measure and print."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-m", "--model", required=True, help="language model of words")
    parser.add_argument("--words", type=int, default=2000, help="of a round; %(default)s by default")
    parser.add_argument("--at-once", type=int, nargs="*", default=[1, 64], metavar="N",
                        help="texts written side by side; 1 and 64 by default")
    parser.add_argument("--score", type=Path, metavar="FILE.txt", help="score the lines of a file, too")
    options = parse_training(parser, repeats=5)
    model = rnntool.load(options.model, threads=options.threads)
    write = peer(model.config["network"]["encoder"])
    runs: dict[str, Callable[[], float]] = {"the example": partial(write, options.words)}
    for count in options.at_once:
        runs[f"rnntool generate, {count} at once"] = partial(ours, model, options.words * count, count)
    if options.score:
        with options.score.open(encoding="utf-8") as file:
            runs["rnntool score"] = partial(scoring, model, list(map(str.strip, file)))
    measured = in_turn(runs, repeats=options.repeats)
    print(f"{model.config['network']['encoder']['vocabulary']:,} words, {torch.get_num_threads()} threads")
    show([("command", "words/s", "example = 1"),
          *((name, f"{statistics.median(speeds):,.0f}", f"{ratio(speeds, measured['the example']):.1f}")
            for name, speeds in measured.items())])


if __name__ == "__main__":
    main()
