"""Output for people: messages, progress, tables, colored texts. Only this module uses rich."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

from rnntool.data.progress import Stage, duration
from rnntool.data.records import Labels, LabelWriter, Text, WordWeight, color_shares
from rnntool.errors import SettingName, python_name, with_names

if TYPE_CHECKING:
    from rnntool.training.loop import Step

# rich strips these characters, which would shift the text that follows
_STRIPPED = dict.fromkeys(map(ord, "\a\b\v\f\r"), "\ufffd")
_IN_ONE_LINE = str.maketrans({"\n": r"\n", "\r": r"\r", "\t": r"\t"})
LINE_EVERY_S = 10.0  # seconds between progress lines before a training, without a live bar
EVALUATION_EVERY_S = 1.0  # a training on small data evaluates many times per second

_setting_name: SettingName = python_name


def name_settings(name: SettingName) -> None:
    """From now on, name settings in messages with `name`. A command calls this before it runs."""
    global _setting_name
    _setting_name = name


def message(text: str) -> None:
    """Write a message to standard error; references made by `setting()` get the names that the user knows."""
    write(f"rnntool: {with_names(text, _setting_name)}\n")


def write(text: str) -> None:
    """Write text to standard error. If nobody reads it any more, carry on."""
    try:
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
            return f"{stage.done:,} {stage.unit}"
        elapsed_s = max(1e-9, now - self._start_s)
        left = f"  {duration(elapsed_s / stage.share - elapsed_s)} left" if stage.share else ""
        return f"{stage.done:,} {stage.unit}  {stage.done / elapsed_s:,.0f} {stage.unit}/s{left}"

    def print_line(self, stage: Stage) -> None:
        """Write a line to standard error every few seconds."""
        shown = self.describe(stage)
        if time.monotonic() - self._printed_s >= LINE_EVERY_S:
            self._printed_s = time.monotonic()
            share = f" {stage.share:.0%}" if stage.share is not None else ""
            write(f"{stage.name}{share}  {shown}\n")


class _Evaluations:
    """Choose the evaluations to print: at most one per second, and always that of the last step."""

    def __init__(self) -> None:
        self._printed_s = float("-inf")

    def line(self, step: Step) -> str | None:
        now = time.monotonic()
        last = step.progress.step == step.total_steps
        if step.evaluation is None or not (last or now - self._printed_s >= EVALUATION_EVERY_S):
            return None
        self._printed_s = now
        return _one_line(step.evaluation)


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
    stages, evaluations = _Stages(), _Evaluations()
    if quiet:
        yield lambda step: None
    elif not sys.stderr.isatty():

        def plain(step: Step | Stage) -> None:
            if isinstance(step, Stage):
                stages.print_line(step)
            elif line := evaluations.line(step):
                write(f"{line}\n")

        yield plain
    else:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[details]}"))
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            shown = bar.add_task("training", total=None, details="")
            speed = 0.0  # tokens per second, averaged over the last steps

            def watch(step: Step | Stage) -> None:
                nonlocal speed
                if isinstance(step, Stage):
                    bar.update(shown, description=step.name, details=stages.describe(step))
                    if not speed:  # an evaluation leaves the bar of the training where it is
                        total = None if step.share is None else 1.0
                        bar.update(shown, total=total, completed=step.share or 0)
                    return
                speed = step.tokens_per_s if not speed else 0.95 * speed + 0.05 * step.tokens_per_s
                progress = step.progress
                best = "" if progress.best is None else f"  best {progress.best:.4g}"
                bar.update(
                    shown, total=1.0, completed=step.share,
                    description=f"epoch {progress.epoch + 1}",
                    details=f"{speed:,.0f} tokens/s  loss {step.loss:.3f}{best}  "
                            f"{duration(step.left_s)} left",
                )
                if line := evaluations.line(step):
                    bar.console.print(line, highlight=False, soft_wrap=True)

            yield watch


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
        found = "  ".join(f"{label} {p:.4f}" for label, p in labels)
        gold = f"  (gold: {', '.join(text.labels)})" if text.labels else ""
        pieces: list[str | tuple[str, float]] = []
        written = 0
        for word, share in zip(words or (), color_shares(words or ()), strict=True):
            pieces += text.text[written:word.start], (text.text[word.start:word.end], share)
            written = word.end
        return self._rendered([f"\n{found}{gold}\n", *pieces, text.text[written:]], bold=len(found) + 1)

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
