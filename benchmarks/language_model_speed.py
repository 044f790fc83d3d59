#!/usr/bin/env python3
"""Training speed of a word language model, compared with PyTorch's example.

The reference reimplements the network of the example `word_language_model` and its loop: two LSTM layers, a
softmax tied to the embedding, all logits, clipped gradients, and plain SGD updates. Both read the same
windows of the same text; those of the reference are tensors already. Both run in one process, with the same
threads and memory settings.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from timing import in_turn, parse_training, ratio, show

from rnntool.tasks import TASKS
from rnntool.tasks.lm import LMTask
from rnntool.tasks.specs.lm import LMSettings
from rnntool.training.batching import Streamed
from rnntool.training.loop import Trainer

DROPOUT, CLIP, RATE = 0.2, 0.25, 20.0


def training_loop(task: LMTask, windows: Streamed, precision: str, folder: Path) -> float:
    """Return the seconds that rnntool's loop takes for the windows, without evaluation."""
    import torch

    from rnntool.training.train import build_network

    settings = task.settings.replace(precision=precision)
    network = build_network(task.network_config(), task, [])
    trainer = Trainer(task, network, windows, [], settings, folder=folder,
                      device=torch.device("cpu"), watch=lambda step: None, stopping=lambda: None)
    start = time.perf_counter()
    trainer.run()
    return time.perf_counter() - start


def reference(task: LMTask, windows: Streamed) -> float:
    """Return the seconds that the example's loop takes for the windows."""
    import torch
    from torch import nn

    class Model(nn.Module):
        def __init__(self, words: int, size: int, layers: int) -> None:
            super().__init__()
            self.drop = nn.Dropout(DROPOUT)
            self.encoder = nn.Embedding(words, size)
            self.rnn = nn.LSTM(size, size, layers, dropout=DROPOUT)
            self.decoder = nn.Linear(size, words)
            self.decoder.weight = self.encoder.weight
            nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
            nn.init.zeros_(self.decoder.bias)

        def forward(self, tokens: Any, hidden: Any) -> tuple[Any, Any]:
            output, hidden = self.rnn(self.drop(self.encoder(tokens)), hidden)
            logits = self.decoder(self.drop(output)).view(-1, len(self.encoder.weight))
            return logits.log_softmax(1), hidden

    settings = task.settings
    torch.manual_seed(settings.seed)
    model = Model(task.tokenizer.size, settings.hidden, settings.layers).train()
    criterion = nn.NLLLoss(ignore_index=-1)
    ready = [(torch.from_numpy(arrays["tokens"]).long(), torch.from_numpy(arrays["targets"]).long().flatten())
             for arrays in windows.epoch(0)]
    hidden = tuple(torch.zeros(settings.layers, windows.columns, settings.hidden) for _ in range(2))
    start = time.perf_counter()
    for tokens, targets in ready:
        model.zero_grad()
        hidden = tuple(state.detach() for state in hidden)
        output, hidden = model(tokens, hidden)
        loss = criterion(output, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter.data.add_(parameter.grad, alpha=-RATE)
        loss.item()  # the example sums it for its reports
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", metavar="FILE.txt", help="text, such as ptb.train.txt")
    parser.add_argument("--size", type=int, default=200, help="units of each layer; default: %(default)s")
    parser.add_argument("--steps", type=int, default=50, help="steps per round; default: %(default)s")
    options = parse_training(parser, repeats=5)
    settings = LMSettings(**{
        **TASKS["lm"].presets["word"], "embed": options.size, "hidden": options.size, "dropout": DROPOUT,
        "dropout_between": DROPOUT, "weight_dropout": 0.0, "ema": 0.0, "clip": CLIP, "lr": RATE,
        "batch_size": 20, "bptt": 35, "epochs": 1})
    records = list(LMTask.inputs([options.file], settings, targets=True, format="text",
                                 log=lambda message: None))
    task = LMTask.learn(records, settings)
    stream = np.concatenate([task.example(record, targets=True) for record in records])
    tokens = min(len(stream), options.steps * settings.batch_size * settings.bptt)
    windows = Streamed(task.windows, stream[:tokens], columns=settings.batch_size, time_steps=settings.bptt)
    with tempfile.TemporaryDirectory() as folder:
        loops: dict[str, Callable[[], float]] = {
            "rnntool": partial(training_loop, task, windows, "auto", Path(folder)),
            "rnntool --precision fp32": partial(training_loop, task, windows, "fp32", Path(folder)),
            "the example": partial(reference, task, windows)}
        measured = in_turn(loops, repeats=options.repeats)
    print(f"{tokens:,} tokens in {len(windows):,} steps, {task.tokenizer.size:,} words, "
          f"{torch.get_num_threads()} threads")
    rows = [("loop", "tokens/s", "example = 1")]
    for name, times in measured.items():
        speedup = 1 / ratio(times, measured["the example"])
        rows.append((name, f"{tokens / statistics.median(times):,.0f}", f"{speedup:.2f}"))
    show(rows)


if __name__ == "__main__":
    main()
