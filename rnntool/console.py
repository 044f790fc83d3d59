"""What people read on standard error: messages, hints, a training's progress. rich is imported here alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rnntool.training.loop import Step


def say(message: str) -> None:
    """A line on standard error."""
    print(f"rnntool: {message}", file=sys.stderr, flush=True)


def hush(message: str) -> None:
    """Say nothing."""


def duration(seconds: float) -> str:
    """Seconds as people write them: 48s, 3m05s, 2h14m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"


def figures(entry: dict[str, Any]) -> str:
    """An evaluation in one line."""
    return "  ".join(f"{key} {value:.5g}" if isinstance(value, float) else f"{key} {value}"
                     for key, value in entry.items())


@contextmanager
def training_progress(*, quiet: bool) -> Iterator[Callable[[Step], None]]:
    """A watcher of steps: a live bar on a terminal, a line an evaluation elsewhere, nothing with `quiet`."""
    if quiet:
        yield lambda step: None
    elif not sys.stderr.isatty():
        yield _line
    else:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[figures]}"))
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            shown = bar.add_task("training", total=None, figures="")
            speed = 0.0

            def watch(step: Step) -> None:
                nonlocal speed
                speed = step.tokens_per_s if not speed else 0.95 * speed + 0.05 * step.tokens_per_s
                progress = step.progress
                best = "" if progress.best is None else f"  best {progress.best:.4g}"
                bar.update(
                    shown, total=step.steps, completed=progress.step,
                    description=f"epoch {progress.epoch + 1}",
                    figures=f"{speed:,.0f} tokens/s  loss {step.loss:.3f}{best}  "
                            f"{duration(step.left_s)} left",
                )
                if step.evaluation:
                    bar.console.print(figures(step.evaluation), highlight=False)

            yield watch


def _line(step: Step) -> None:
    if step.evaluation:
        print(figures(step.evaluation), file=sys.stderr, flush=True)


def table(rows: Sequence[tuple[str, ...]], *, right: tuple[int, ...] = ()) -> str:
    """Rows as aligned plain text, the columns in `right` flush right; empty for no rows."""
    if not rows:
        return ""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.rjust(w) if i in right else cell.ljust(w)
                 for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines) + "\n"
