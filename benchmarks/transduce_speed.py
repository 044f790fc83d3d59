#!/usr/bin/env python3
"""Speed of training a sequence-to-sequence model and of `rnntool transduce`, optionally against JoeyNMT.

Training is measured on the same batches in both tools: an LSTM in both directions, a decoder with attention.
Sizes are those of the preset, but the target embedding is not tied to the softmax, because JoeyNMT can't tie
them here.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from timing import RNNTOOL, in_turn, parse_training, ratio, run, show

from rnntool.data.records import Transduction
from rnntool.tasks.specs.transduce import SPEC, TransduceSettings
from rnntool.tasks.transduce import TransduceTask
from rnntool.training.batching import Shuffled
from rnntool.training.loop import Trainer
from rnntool.training.train import build_network

PEER = Path(__file__).with_name("joeynmt_training.py")


class JoeyNMT:
    """A process that trains JoeyNMT's network on the same batches whenever it is asked to."""

    def __init__(
        self, python: str, task: TransduceTask, batches: Shuffled, threads: int, path: Path
    ) -> None:
        settings, sizes = task.settings, task.sizes()
        names = ("layers", "hidden", "embed", "dropout", "attention", "input_feeding", "label_smoothing",
                 "lr")
        description = {name: getattr(settings, name) for name in names}
        description |= {"source_size": sizes["vocabulary"], "target_size": sizes["outputs"],
                        "threads": threads, "batches": [pairs(arrays) for arrays in batches.epoch(0)]}
        path.write_text(json.dumps(description), "utf-8")
        self._process = subprocess.Popen(
            [python, str(PEER), str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def train(self) -> float:
        """Return the seconds that an epoch takes."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"{PEER.name}: failed with exit code {self._process.wait()}")
        return float(answer)


def pairs(arrays: Any) -> tuple[list[list[int]], list[list[int]]]:
    """Return the sources and the targets of a batch without padding."""
    sources = [row[:length].tolist()
               for row, length in zip(arrays["tokens"].T, arrays["lengths"], strict=True)]
    return sources, [row[row >= 0].tolist() for row in arrays["targets"].T]


def train(task: TransduceTask, batches: Shuffled, folder: Path) -> float:
    """Return the seconds that an epoch takes in rnntool, without evaluation."""
    import torch

    network = build_network(task.network_config(), task, [])
    trainer = Trainer(task, network, batches, [], task.settings, device=torch.device("cpu"), folder=folder,
                      watch=lambda step: None, stopping=lambda: None)
    start = time.perf_counter()
    trainer.run()
    return time.perf_counter() - start


def transduce(model: str, sources: Path, beam: int, threads: int) -> float:
    """Return the seconds that the command takes."""
    command = [*RNNTOOL, "transduce", "-q", "-m", model, "--beam", str(beam), "--threads", str(threads)]
    return run(command, input=sources).seconds


def spread(records: Sequence[Transduction], count: int) -> Sequence[Transduction]:
    """Return about `count` of the records, from everywhere in the file."""
    return records[:: max(1, len(records) // count)]


def speeds(count: int, measured: Mapping[str, Sequence[float]]) -> list[tuple[str, str]]:
    """Return a row of the table for each candidate, with its median speed."""
    return [(name, f"{count / statistics.median(times):,.0f}") for name, times in measured.items()]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", metavar="FILE.tsv", help="pairs of a source and a target")
    parser.add_argument("--preset", default="g2p", choices=SPEC.presets, help="default: %(default)s")
    parser.add_argument("--pairs", type=int, default=4000, help="pairs to train on; default: %(default)s")
    parser.add_argument("--input-feeding", action="store_true", help="train with input feeding")
    parser.add_argument("-m", "--model", default="en-g2p",
                        help="model to measure `rnntool transduce` with; default: %(default)s")
    parser.add_argument("--sources", type=int, default=4000,
                        help="number of sources to transduce; default: %(default)s")
    parser.add_argument("--joeynmt", metavar="PYTHON",
                        help="also measure JoeyNMT, run by this Python interpreter")
    options = parse_training(parser, repeats=3)
    settings = TransduceSettings(**{**SPEC.presets[options.preset], "epochs": 1, "tied": False,
                                    "input_feeding": options.input_feeding})
    inputs = TransduceTask.inputs([options.file], settings, targets=True, format="tsv",
                                  log=lambda message: None)
    records = list(inputs)
    task = TransduceTask.learn(records, settings)
    examples = [task.example(record, targets=True) for record in spread(records, options.pairs)]
    batches = Shuffled(task, examples, batch_size=settings.batch_size, seed=settings.seed)
    targets = sum(len(example.target) for example in examples if example.target is not None)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs: dict[str, Callable[[], float]] = {"rnntool": partial(train, task, batches, folder)}
        if options.joeynmt:
            import torch

            peer = JoeyNMT(options.joeynmt, task, batches, torch.get_num_threads(), folder / "peer.json")
            runs["JoeyNMT"] = peer.train
        measured = in_turn(runs, repeats=options.repeats)
        print(f"training: {len(examples):,} pairs in {len(batches):,} batches, {targets:,} tokens of targets")
        show([("tool", "target tokens/s"), *speeds(targets, measured)])
        if options.joeynmt:
            times = ratio(measured["JoeyNMT"], measured["rnntool"])
            print(f"rnntool is {times:.2f} times as fast as JoeyNMT")
        if not options.sources:
            return
        text = folder / "sources.txt"
        sources = [record.source for record in spread(records, options.sources)]
        text.write_text("".join(f"{source}\n" for source in sources), "utf-8")
        runs = {f"beam {beam}": partial(transduce, options.model, text, beam, options.threads)
                for beam in (1, 5)}
        measured = in_turn(runs, repeats=options.repeats)
    print(f"rnntool transduce: {len(sources):,} sources")
    show([("search", "sources/s"), *speeds(len(sources), measured)])


if __name__ == "__main__":
    main()
