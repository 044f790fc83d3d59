"""Output for people: messages, progress, tables, colored texts. Only this module uses rich."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

from rnntool.data.progress import Stage, Watch, duration
from rnntool.data.records import Labels, LabelWriter, Text, WordWeight, color_shares
from rnntool.errors import SettingName, python_name, with_names

if TYPE_CHECKING:
    from rich.progress import Progress

    from rnntool.training.loop import Step

# rich strips these characters, which would shift the text that follows
_STRIPPED = dict.fromkeys(map(ord, "\a\b\v\f\r"), "\ufffd")
_IN_ONE_LINE = str.maketrans({"\n": r"\n", "\r": r"\r", "\t": r"\t"})
LINE_EVERY_S = 10.0  # seconds between progress lines before a training, without a live bar
BAR_AFTER_S = 1.0  # seconds after which a computation shows a bar
EVALUATION_EVERY_S = 1.0  # a training on small data evaluates many times per second

_setting_name: SettingName = python_name
_bar: Progress | None = None  # the live bar on standard error, while there is one


def name_settings(name: SettingName) -> None:
    """From now on, name settings in messages with `name`. A command calls this before it runs."""
    global _setting_name
    _setting_name = name


def message(text: str) -> None:
    """Write a message to standard error; references made by `setting()` get the names that the user knows."""
    write(f"rnntool: {with_names(text, _setting_name)}\n")


def write(text: str) -> None:
    """Write text to standard error, above the progress bar. If nobody reads it any more, carry on."""
    try:
        if _bar is not None:  # without line breaks of its own, so that a command can be copied
            _bar.console.print(text, end="", markup=False, emoji=False, highlight=False, soft_wrap=True)
            return
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:  # a closed pipe or terminal, or a full disk
        discard(sys.stderr)


def discard(stream: TextIO) -> None:
    """Discard the rest of a stream; otherwise Python reports an error when it flushes the stream at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def leave_closed_terminal() -> None:
    """Discard what goes to standard streams on a closed terminal, where writing would be an error."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # no descriptor, as in tests
            device = stat.S_ISCHR(os.fstat(stream.fileno()).st_mode)
            if device and not os.isatty(stream.fileno()):
                discard(stream)


# --- Progress of a training --------------------------------------------------------------------------------


class _Stages:
    """Format the progress and the speed of the work before a training."""

    def __init__(self) -> None:
        self._name, self._done, self._start_s, self._printed_s = "", 0, 0.0, 0.0

    def describe(self, stage: Stage) -> str:
        now = time.monotonic()
        begins = stage.name != self._name or stage.done < self._done
        self._name, self._done = stage.name, stage.done
        if begins:
            self._start_s, self._printed_s = now, now
        if begins or not stage.done:
            return f"{stage.done:,} {stage.unit}" if stage.done else ""
        elapsed_s = max(1e-9, now - self._start_s)
        left = f"  {duration(elapsed_s / stage.share - elapsed_s)} left" if stage.share else ""
        speed = stage.done / elapsed_s
        per_second = f"  {speed:,.0f} {stage.unit}/s" if speed >= 1 else ""
        return f"{stage.done:,} {stage.unit}{per_second}{left}"

    def print_line(self, stage: Stage) -> None:
        """Write a line to standard error every few seconds."""
        shown = self.describe(stage)
        if time.monotonic() - self._printed_s >= LINE_EVERY_S:
            self._printed_s = time.monotonic()
            share = f" {stage.share:.0%}" if stage.share is not None else ""
            write(f"{stage.name}{share}  {shown}\n")


class _Evaluations:
    """Choose the evaluations to print: at most one per second, and always that of the last step."""

    def __init__(self, *, short: bool) -> None:
        """With `short`, a line has only what a bar doesn't show, so that it fits into a terminal."""
        self._short = short
        self._printed_s = float("-inf")

    def line(self, step: Step) -> str | None:
        now, entry = time.monotonic(), step.evaluation
        last = step.progress.step == step.total_steps
        if entry is None or not (last or now - self._printed_s >= EVALUATION_EVERY_S):
            return None
        self._printed_s = now
        if not self._short:
            return _of_training(step, _one_line(entry))
        kept = {key: value for key, value in entry.items() if key not in ("lr", "seconds", "tokens")}
        return _of_training(step, f"{_one_line(kept)}  {duration(step.progress.elapsed_s)}")


def _of_training(step: Step, text: str) -> str:
    """Return a text with the name of the training before it, if there are several."""
    return f"{step.training}: {text}" if step.training else text


def _one_line(entry: dict[str, Any]) -> str:
    """Format the results of an evaluation in one line."""
    return "  ".join(f"{key} {value:.5g}" if isinstance(value, float) else f"{key} {value}"
                     for key, value in entry.items())


@contextmanager
def training_progress(*, quiet: bool) -> Iterator[Callable[[Step | Stage], None]]:
    """Show the progress of a training: yield a function that takes each stage and each step.

    On a terminal this is a live bar. Elsewhere it is a line for each evaluation, at most one per second, and
    a line every few seconds for the work before the training. With `quiet` it is nothing.
    """
    if quiet:
        yield lambda step: None
    elif not sys.stderr.isatty():
        stages, evaluations = _Stages(), _Evaluations(short=False)

        def plain(step: Step | Stage) -> None:
            if isinstance(step, Stage):
                stages.print_line(step)
            elif line := evaluations.line(step):
                write(f"{line}\n")

        yield plain
    else:
        with _live_bar("preparing") as bar:
            yield _TrainingBar(bar)


@contextmanager
def _live_bar(description: str) -> Iterator[Progress]:
    """Show a bar on the last line of the terminal; messages are written above it."""
    global _bar
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[details]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        bar.add_task(description, total=None, details="")
        _bar = bar
        try:
            yield bar
        finally:
            _bar = None


@contextmanager
def progress(*, quiet: bool) -> Iterator[Watch | None]:
    """Show the progress of a long computation: yield a function that takes each stage.

    The bar appears after a second. Where there is no terminal, and with `quiet`, None is yielded instead.
    """
    if quiet or not sys.stderr.isatty():
        yield None
        return
    with ExitStack() as stack:
        bar: Progress | None = None
        stages, start_s = _Stages(), time.monotonic()

        def watch(stage: Stage) -> None:
            nonlocal bar
            details = stages.describe(stage)
            if bar is None and time.monotonic() - start_s > BAR_AFTER_S:
                bar = stack.enter_context(_live_bar(stage.name))
            if bar is not None:
                bar.update(bar.task_ids[0], description=stage.name, details=details,
                           total=None if stage.share is None else 1.0, completed=stage.share or 0)

        yield watch


class _TrainingBar:
    """Updates a live bar with each stage and each step of a training."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task = bar.task_ids[0]
        self._stages, self._evaluations = _Stages(), _Evaluations(short=True)
        self._speed = 0.0  # tokens per second, averaged over the last steps
        self._step: Step | None = None  # the last one
        self._step_at_s = 0.0

    def __call__(self, step: Step | Stage) -> None:
        if isinstance(step, Stage):
            self._show_stage(step)
        else:
            self._show_step(step)

    def _show_stage(self, stage: Stage) -> None:
        details, step = self._stages.describe(stage), self._step
        if step is None:
            total = None if stage.share is None else 1.0
            self._bar.update(self._task, total=total, completed=stage.share or 0)
        elif step.timed:  # an evaluation and the writing of the model are part of the time
            passed_s = time.monotonic() - self._step_at_s
            left_s = max(0.0, step.left_s - passed_s)
            share = 1 - (1 - step.share) * left_s / step.left_s if step.left_s else 1.0
            self._bar.update(self._task, completed=share)
            details += f"  {duration(left_s)} left"
        self._bar.update(self._task, description=stage.name, details=details)

    def _show_step(self, step: Step) -> None:
        self._step, self._step_at_s = step, time.monotonic()
        self._speed = 0.95 * self._speed + 0.05 * step.tokens_per_s if self._speed else step.tokens_per_s
        progress = step.progress
        best = "" if progress.best is None else f"  best {progress.best:.4g}"
        self._bar.update(
            self._task, total=1.0, completed=step.share,
            description=_of_training(step, f"epoch {progress.epoch + 1}"),
            details=f"{self._speed:,.0f} tokens/s  loss {step.loss:.3f}{best}  {duration(step.left_s)} left")
        if line := self._evaluations.line(step):
            write(f"{line}\n")


# --- Tables and texts --------------------------------------------------------------------------------------


def table(rows: Sequence[tuple[str, ...]], *, right: tuple[int, ...] = ()) -> str:
    """Align rows as plain text, the columns in `right` flush right; without rows return "".

    Each row takes one line: a line break in a cell is shown as `\\n`.
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


BLUE, ORANGE = (110, 170, 255), (255, 165, 70)  # of words that raise and lower a probability
VISIBLE = 0.08  # share of the full color that can be seen
LEGEND = ("Words in color ", ("raise", 1.0), " or ", ("lower", -1.0), " the probability of the first label.\n"
          "The stronger the color, the more it would change without the word.")


def shows_color() -> bool:
    """Return whether standard output is a terminal that shows colors, and the user allows them."""
    from rich.console import Console

    console = Console()
    return console.is_terminal and console.color_system is not None and not console.no_color


class ExplainedTextWriter(LabelWriter):
    """For a terminal: labels, their probabilities, the gold label, and the text with its words in color."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(soft_wrap=True, highlight=False)
        self.header = self._rendered(LEGEND)

    def __call__(self, text: Text, labels: Labels, words: Sequence[WordWeight] | None) -> str:
        """Return a line of labels and a line of text, after an empty line."""
        chosen = "  ".join(f"{label} {p:.4f}" for label, p in labels)
        gold = f"  (gold: {', '.join(text.labels)})" if text.labels else ""
        pieces: list[str | tuple[str, float]] = []
        written = 0
        for word, share in zip(words or (), color_shares(words or ()), strict=True):
            pieces += text.text[written:word.start], (text.text[word.start:word.end], share)
            written = word.end
        return self._rendered([f"\n{chosen}{gold}\n", *pieces, text.text[written:]], bold=len(chosen) + 1)

    def _rendered(self, pieces: Sequence[str | tuple[str, float]], *, bold: int = 0) -> str:
        """Return text for the terminal; a piece with a share from -1 to 1 is colored."""
        from rich.text import Text as RichText

        shown = RichText()
        for piece in pieces:
            part, share = (piece, 0.0) if isinstance(piece, str) else piece
            part = part.translate(_STRIPPED)
            color = ",".join(str(round(255 + abs(share) * (full - 255)))
                             for full in (BLUE if share > 0 else ORANGE))
            shown.append(part, f"#222222 on rgb({color})" if abs(share) >= VISIBLE else None)
        shown.stylize("bold", 0, bold)
        with self._console.capture() as capture:
            self._console.print(shown, soft_wrap=True)
        return capture.get()


def colored_text(
    name: str, text: str, spans: Sequence[tuple[int, int]], colors: Sequence[tuple[int, int, int]]
) -> None:
    """Print a text on the terminal under its name, each span on its color (red, green, blue)."""
    from rich.console import Console
    from rich.text import Text

    shown = Text(text.translate(_STRIPPED))
    for span, (red, green, blue) in zip(spans, colors, strict=True):
        shown.stylize(f"#222222 on #{red:02x}{green:02x}{blue:02x}", *span)
    Console().print(Text(f"\n{name}", "bold"), shown, sep="\n", soft_wrap=True)
