#!/usr/bin/env python3
"""Overhead of the training loop: training speed of a tagger, compared with a minimal loop over ready batches.

The minimal loop has forward and backward passes, gradient clipping and optimizer steps. rnntool's loop also
makes the batches and has the schedule, the moving average and the checkpoints. Each round has new batches,
like each epoch, because shapes that torch has seen before cost less.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from timing import in_turn, parse_training, ratio, show

from rnntool.tasks.specs.tag import TagSettings
from rnntool.tasks.tag import TagTask
from rnntool.training.batching import Shuffled
from rnntool.training.loop import Trainer
from rnntool.training.train import build_network


def network(task: TagTask) -> Any:
    """Return a new network, always with the same weights."""
    return build_network(task.network_config(), task, [])


def training_loop(task: TagTask, rounds: Iterator[Shuffled], folder: Path) -> float:
    """Return the seconds that an epoch takes in rnntool's loop, without evaluation."""
    import torch

    trainer = Trainer(task, network(task), next(rounds), [], task.settings, device=torch.device("cpu"),
                      folder=folder, watch=lambda step: None, stopping=lambda: None)
    start = time.perf_counter()
    trainer.run()
    return time.perf_counter() - start


def minimal_loop(task: TagTask, rounds: Iterator[Shuffled]) -> float:
    """Return the seconds that an epoch takes in a minimal loop over batches that are tensors already."""
    import torch

    from rnntool.inference.torch_engine import to_tensors
    from rnntool.training.loop import pick_precision
    from rnntool.training.optimizers import clip_gradient, make_optimizer

    device = torch.device("cpu")
    precision = pick_precision(task.settings, device)
    trained = network(task).train()
    optimizer = make_optimizer(trained, task.settings)
    ready = [to_tensors(arrays, device) for arrays in next(rounds).epoch(0)]
    start = time.perf_counter()
    for tensors in ready:
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            loss, _ = trained.loss(tensors)
        optimizer.zero_grad()
        loss.backward()
        clip_gradient(trained, task.settings.clip)
        optimizer.step()
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", metavar="FILE.conllu", help="sentences with tags")
    parser.add_argument("--sentences", type=int, default=2000, help="default: %(default)s")
    parser.add_argument("--neighbours", type=float, default=TagSettings.neighbours, metavar="WEIGHT",
                        help="weight of the auxiliary loss; default: %(default)s; 0 turns it off")
    options = parse_training(parser, repeats=3)
    settings = TagSettings(epochs=1, neighbours=options.neighbours)
    inputs = TagTask.inputs([options.file], settings, targets=True, format="conllu",
                            log=lambda message: None)
    records = list(inputs)[: options.sentences]
    task = TagTask.learn(records, settings, vectors=[])
    examples = [task.example(record, targets=True) for record in records]
    rounds = (Shuffled(task, examples, batch_size=settings.batch_size, seed=seed) for seed in count())
    with tempfile.TemporaryDirectory() as folder:
        loops = {"rnntool": partial(training_loop, task, rounds, Path(folder)),
                 "minimal loop": partial(minimal_loop, task, rounds)}
        measured = in_turn(loops, repeats=options.repeats)
    tokens = sum(map(task.length, examples))
    print(f"{tokens:,} tokens in {len(next(rounds)):,} batches")
    show([("loop", "tokens/s"),
          *((name, f"{tokens / statistics.median(times):,.0f}") for name, times in measured.items())])
    print(f"rnntool takes {ratio(measured['rnntool'], measured['minimal loop']):.2f} times as long")


if __name__ == "__main__":
    main()
