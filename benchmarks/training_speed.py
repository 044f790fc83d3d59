#!/usr/bin/env python3
"""What the training loop costs: a tagger's tokens a second, against the same network fed with ready batches.

The bare loop does what cannot be left out: forward, backward, clipping, the optimizer's step. rnntool's own
makes the batches as well, and has the schedule, the moving average and the checkpoints. Each round has
batches of its own, as each epoch has: a shape that torch has met before costs less.
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
    """A new network, always with the same weights."""
    return build_network(task.network_config(), task, [])


def ours(task: TagTask, rounds: Iterator[Shuffled], folder: Path) -> float:
    """Seconds of an epoch in rnntool's loop, without evaluation."""
    import torch

    trainer = Trainer(task, network(task), next(rounds), [], task.settings, device=torch.device("cpu"),
                      folder=folder, watch=lambda step: None, stopping=lambda: None)
    began = time.perf_counter()
    trainer.run()
    return time.perf_counter() - began


def bare(task: TagTask, rounds: Iterator[Shuffled]) -> float:
    """Seconds of an epoch in the least loop there can be, over batches that are tensors already."""
    import torch

    from rnntool.inference.torch_engine import to_tensors
    from rnntool.training.loop import pick_precision
    from rnntool.training.optimizers import clip_gradient, make_optimizer

    device = torch.device("cpu")
    precision = pick_precision(task.settings, device)
    learner = network(task).train()
    optimizer = make_optimizer(learner, task.settings)
    ready = [to_tensors(arrays, device) for arrays in next(rounds).epoch(0)]
    began = time.perf_counter()
    for tensors in ready:
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            loss, _ = learner.loss(tensors)
        optimizer.zero_grad()
        loss.backward()
        clip_gradient(learner, task.settings.clip)
        optimizer.step()
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", metavar="FILE.conllu", help="sentences with tags")
    parser.add_argument("--sentences", type=int, default=2000, help="of them; %(default)s by default")
    parser.add_argument("--neighbours", type=float, default=TagSettings.neighbours, metavar="WEIGHT",
                        help="of that objective; %(default)s, training's own, by default, 0 leaves it out")
    options = parse_training(parser, repeats=3)
    settings = TagSettings(epochs=1, neighbours=options.neighbours)
    inputs = TagTask.inputs([options.file], settings, targets=True, format="conllu", errors="strict",
                            log=lambda message: None)
    records = list(inputs)[: options.sentences]
    task = TagTask.learn(records, settings, vectors=[])
    examples = [task.example(record, targets=True) for record in records]
    rounds = (Shuffled(task, examples, batch_size=settings.batch_size, seed=seed) for seed in count())
    with tempfile.TemporaryDirectory() as folder:
        loops = {"rnntool": partial(ours, task, rounds, Path(folder)),
                 "bare loop": partial(bare, task, rounds)}
        measured = in_turn(loops, repeats=options.repeats)
    tokens = sum(map(task.length, examples))
    print(f"{tokens:,} tokens in {len(next(rounds)):,} batches")
    show([("loop", "tokens/s"),
          *((name, f"{tokens / statistics.median(times):,.0f}") for name, times in measured.items())])
    print(f"rnntool's takes {ratio(measured['rnntool'], measured['bare loop']):.2f} times as long")


if __name__ == "__main__":
    main()
