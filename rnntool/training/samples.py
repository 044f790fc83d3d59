"""Texts that a language model writes while it trains, so that people can read how it improves."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator

from rnntool.data.progress import Log, Stage, duration
from rnntool.inference.generation import generate
from rnntool.inference.options import GenerateOptions
from rnntool.inference.torch_engine import TorchEngine
from rnntool.tasks.base import always
from rnntool.tasks.lm import LMTask
from rnntool.training.loop import Step, Trainer

ENOUGH = 150  # characters; a sample has another text until it has so many
MOST_TEXTS = 4
MOST_TOKENS = 50  # in a text
MOST_CHARACTERS = 200  # in a text of a model whose tokens are characters or bytes
WIDTH, INDENT = 76, 4 * " "


class Samples:
    """Passes steps and stages on to `watch`; every few seconds of training, says what the model writes now.

    The training stays the same: texts are drawn with random numbers of their own, and only their time counts.
    """

    def __init__(
        self, trainer: Trainer, watch: Callable[[Step | Stage], None], say: Log, *, every_s: float
    ) -> None:
        self.trainer = trainer
        self.watch = watch
        self.say = say
        self.every_s = every_s
        self._interval = 0  # number of the interval of the last step

    def __call__(self, step: Step | Stage) -> None:
        """Take the next step or stage."""
        self.watch(step)
        if isinstance(step, Stage):
            return
        interval = int(step.progress.elapsed_s // self.every_s)
        if interval > self._interval:
            progress = step.progress
            texts = "\n".join(self._texts(progress.step))
            self.say(f"sample after {duration(progress.elapsed_s)} (step {progress.step:,}):\n{texts}")
        self._interval = interval

    def _texts(self, step: int) -> Iterator[str]:
        """Draw short texts with the weights that an evaluation would use, of one label after the other."""
        trainer, task = self.trainer, self.trainer.task
        assert isinstance(task, LMTask)
        labels = task.labels.names if task.labels is not None else (None,)
        by_character = task.tokenizer.kind in ("char", "byte")
        options = GenerateOptions(
            min_tokens=1, max_tokens=MOST_CHARACTERS if by_character else MOST_TOKENS, batch_size=1)
        length = 0
        if trainer.state.average:
            trainer.state.average.swap(trainer.network)
        engine = TorchEngine(trainer.network, trainer.device)
        for number in range(MOST_TEXTS):
            label = labels[number % len(labels)]
            drawn = options.replace(label=label, seed=step * MOST_TEXTS + number)
            (sample,) = generate(task, engine, [""], drawn, ready=always)
            text = sample.text + ("" if sample.finished else "…")
            yield _indented(text if label is None else f"{label}: {text}")
            length += len(text)
            if length >= ENOUGH:
                break
        if trainer.state.average:
            trainer.state.average.swap(trainer.network)


def _indented(text: str) -> str:
    """Indent and wrap a text; replace characters that a terminal would obey rather than show."""
    printable = "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)
    return "\n".join(textwrap.fill(line, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT)
                     for line in printable.split("\n"))
