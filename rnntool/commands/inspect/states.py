"""`rnntool inspect states`: the activations of single units along a text."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from rnntool.commands.groups import examples
from rnntool.commands.inspect.sources import (
    PicturePath,
    StatesOptions,
    TextFormat,
    comma_separated,
    watched,
)
from rnntool.commands.options import AsJson, Files, Messages, model_option
from rnntool.data.reading import TableReading
from rnntool.errors import DataError, UsageError, contradiction

if TYPE_CHECKING:
    from rnntool.inspection.states import TextStates

VARYING = 5  # default number of units
MAX_TOKENS = 20_000  # that are shown
CONTEXT = 12  # characters on each side of a token in the table


@examples(
    "echo 'To be, or not to be' | rnntool inspect states -m shakespeare",
    "rnntool inspect states -m en-pos --units 3,17 --layer 1 text.txt -o states.html",
)
def states(
    *,
    model: Annotated[str, model_option("Model to inspect")],
    files: Files = None,
    units: Annotated[str | None, typer.Option(
        "--units", metavar="N,…", show_default=False,
        help="Units to show, counted from 0 and separated by commas.")] = None,
    top: Annotated[int | None, typer.Option(
        "--top", metavar="K", min=1, help="Show the K units that vary most.",
        show_default=str(VARYING))] = None,
    options: StatesOptions,
    output: PicturePath = None,
    format: TextFormat = None,
    as_json: AsJson = False,
    reading: TableReading,
    messages: Messages,
) -> None:
    """Show how the activations of single units change along a text.

    Prints a table, and on a terminal the text in colors: red above zero, blue below.
    """
    from rnntool.commands import console
    from rnntool.commands.outputs import show
    from rnntool.data.streams import input_names
    from rnntool.inspection import charts, svg
    from rnntool.inspection.states import most_varying

    svg.check_path(output)
    if units and top:
        raise contradiction("units", "top")
    files = files or ["-"]
    loaded, texts = options.read(model, files, format=format, reading=reading, messages=messages)
    with console.progress(quiet=messages.quiet) as watch:
        text = _first_tokens(watched(texts, watch), messages)
    if text is None:
        raise DataError(place=input_names(files), expected="a text", found="none",
                        advice="give one that has words")
    chosen = _numbers(units, text.states.shape[1]) if units else most_varying(text.states, top or VARYING)
    header = ("unit", "deviation", "mean", "lowest", "highest", "lowest at", "highest at")
    shares = dict(_normalized(unit, text) for unit in chosen)
    show({"model": loaded.name, "tokens": [[text.text[start:end], start, end] for start, end in text.spans],
          "units": {unit: [round(value, 5) for value in text.states[:, unit].tolist()] for unit in chosen}},
         as_json, console.table([header, *(_row(unit, text) for unit in chosen)], right=(0, 1, 2, 3, 4)),
         indent=None)
    if not as_json and sys.stdout.isatty():
        for name, row in shares.items():
            colors = [charts.diverging_color(share) for share in row]
            console.colored_text(name, text.text, text.spans, colors)
    if output:
        svg.write(charts.colored_texts(
            f"Activations of units of {loaded.name} after each token", text.text, text.spans, shares,
            caption="The color of a token is the activation of the unit after the network has read it: red "
                    "above zero, blue and underlined below zero. Look for what the tokens of one color have "
                    "in common."), output)


def _first_tokens(texts: Iterable[TextStates], messages: Messages) -> TextStates | None:
    """Return the first `MAX_TOKENS` tokens of the texts as one text; None if they have no tokens."""
    from rnntool.inspection.states import concatenated

    kept, size = [], 0
    for text in texts:
        if size + len(text.spans) > MAX_TOKENS:
            messages.warn(f"only the first {MAX_TOKENS:,} tokens of the text are shown")
            kept.append(text.head(MAX_TOKENS - size))
            break
        kept.append(text)
        size += len(text.spans)
    return concatenated(kept) if any(text.spans for text in kept) else None


def _row(unit: int, text: TextStates) -> tuple[str, ...]:
    """Return the table row of a unit: statistics of its activations, and where its extremes are."""
    from rnntool.tasks.base import excerpt

    values = text.states[:, unit]
    extremes = int(values.argmin()), int(values.argmax())
    signed = (values.mean(), *(values[token] for token in extremes))
    return (str(unit), f"{values.std():.3f}", *(f"{value:+.3f}" for value in signed),
            *(excerpt(text.text, *text.spans[token], width=CONTEXT) for token in extremes))


def _normalized(unit: int, text: TextStates) -> tuple[str, list[float]]:
    """Return a unit's name in a picture, and its activations divided by the largest one if that exceeds 1."""
    values = text.states[:, unit]
    largest = max(1.0, float(abs(values).max()))  # only ReLU units exceed 1
    name = f"unit {unit}" if largest == 1 else f"unit {unit}, divided by its largest value, {largest:.3g}"
    return name, (values / largest).tolist()


def _numbers(units: str, size: int) -> list[int]:
    """Read the numbers of units, each below `size`."""
    numbers = [int(part) if part.isascii() and part.isdigit() else size for part in comma_separated(units)]
    if not numbers or max(numbers) >= size:
        raise UsageError(setting="units", expected=f"numbers from 0 to {size - 1}, with commas between",
                         found=repr(units))
    return numbers
