"""What people read: messages and a training's progress on standard error; tables, and texts in colours.

rich is imported here alone.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from rnntool.data.progress import Stage, duration

if TYPE_CHECKING:
    from rnntool.training.loop import Step

_STRIPPED = dict.fromkeys(map(ord, "\a\b\v\f\r"), "\ufffd")  # what rich strips, and so moves what is behind
LINE_EVERY_S = 10.0  # of work before a training, where there is no terminal
EVALUATION_EVERY_S = 1.0  # small data is evaluated many times a second, which nobody can read


class _Stages:
    """Says how far a stage is, and how fast."""

    def __init__(self) -> None:
        self._name, self._began, self._said = "", 0.0, 0.0

    def figures(self, stage: Stage) -> str:
        now = time.monotonic()
        if stage.name != self._name:
            self._name, self._began, self._said = stage.name, now, now
            return f"{stage.done:,} {stage.unit}"
        passed = max(1e-9, now - self._began)
        left = f"  {duration(passed / stage.share - passed)} left" if stage.share else ""
        return f"{stage.done:,} {stage.unit}  {stage.done / passed:,.0f} {stage.unit}/s{left}"

    def line(self, stage: Stage) -> None:
        """A line on standard error, now and then."""
        shown = self.figures(stage)
        if time.monotonic() - self._said >= LINE_EVERY_S:
            self._said = time.monotonic()
            share = f" {stage.share:.0%}" if stage.share is not None else ""
            write(f"{stage.name}{share}  {shown}\n")


class _Evaluations:
    """A line for each evaluation that comes some time after the one before, and for that of the last step."""

    def __init__(self) -> None:
        self._said = float("-inf")

    def line(self, step: Step) -> str | None:
        now = time.monotonic()
        last = step.progress.step == step.total_steps
        if step.evaluation is None or not (last or now - self._said >= EVALUATION_EVERY_S):
            return None
        self._said = now
        return figures(step.evaluation)


def message(text: str) -> None:
    """A line on standard error."""
    write(f"rnntool: {text}\n")


def write(text: str) -> None:
    """Text on standard error, as long as anybody reads it: that nobody does must not stop what is done."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except BrokenPipeError:
        drop(sys.stderr)


def drop(stream: TextIO) -> None:
    """Send what is still to be written nowhere: Python would complain when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def figures(entry: dict[str, Any]) -> str:
    """An evaluation in one line."""
    return "  ".join(f"{key} {value:.5g}" if isinstance(value, float) else f"{key} {value}"
                     for key, value in entry.items())


@contextmanager
def training_progress(*, quiet: bool) -> Iterator[Callable[[Step | Stage], None]]:
    """A watcher of stages and steps: a live bar on a terminal, nothing with `quiet`.

    Elsewhere a line for each evaluation, where they aren't too many, and one now and then for what comes
    before the training.
    """
    stages, evaluations = _Stages(), _Evaluations()
    if quiet:
        yield lambda step: None
    elif not sys.stderr.isatty():

        def plain(step: Step | Stage) -> None:
            if isinstance(step, Stage):
                stages.line(step)
            elif line := evaluations.line(step):
                write(f"{line}\n")

        yield plain
    else:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[figures]}"))
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            shown = bar.add_task("training", total=None, figures="")
            speed = 0.0

            def watch(step: Step | Stage) -> None:
                nonlocal speed
                if isinstance(step, Stage):
                    total = None if step.share is None else 1.0
                    bar.update(shown, description=step.name, total=total, completed=step.share or 0,
                               figures=stages.figures(step))
                    return
                speed = step.tokens_per_s if not speed else 0.95 * speed + 0.05 * step.tokens_per_s
                progress = step.progress
                best = "" if progress.best is None else f"  best {progress.best:.4g}"
                bar.update(
                    shown, total=step.total_steps, completed=progress.step,
                    description=f"epoch {progress.epoch + 1}",
                    figures=f"{speed:,.0f} tokens/s  loss {step.loss:.3f}{best}  "
                            f"{duration(step.left_s)} left",
                )
                if line := evaluations.line(step):
                    bar.console.print(line, highlight=False, soft_wrap=True)

            yield watch


_IN_ONE_LINE = str.maketrans({"\n": r"\n", "\r": r"\r", "\t": r"\t"})


def table(rows: Sequence[tuple[str, ...]], *, right: tuple[int, ...] = ()) -> str:
    """Rows as aligned plain text, the columns in `right` flush right; empty for no rows.

    A row takes one line: a line break in a cell is shown as `\\n`.
    """
    if not rows:
        return ""
    rows = [tuple(cell.translate(_IN_ONE_LINE) for cell in row) for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.rjust(w) if i in right else cell.ljust(w)
                 for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines) + "\n"


def coloured(
    name: str, text: str, spans: Sequence[tuple[int, int]], colours: Sequence[tuple[int, int, int]]
) -> None:
    """A text on the terminal, each of its spans on its colour (red, green, blue), under a name."""
    from rich.console import Console
    from rich.text import Text

    shown = Text(text.translate(_STRIPPED))
    for span, (red, green, blue) in zip(spans, colours, strict=True):
        shown.stylize(f"#222222 on #{red:02x}{green:02x}{blue:02x}", *span)
    Console().print(Text(f"\n{name}", "bold"), shown, sep="\n", soft_wrap=True)
