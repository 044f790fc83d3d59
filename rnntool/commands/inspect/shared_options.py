"""Options that several subcommands of `rnntool inspect` share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from rnntool.commands.options import COMMON, Messages, Reading, format_option, model_option

if TYPE_CHECKING:
    from rnntool.inference.model import ModelFolder
    from rnntool.inspection.states import TextStates

PicturePath = Annotated[str | None, typer.Option(
    "-o", "--output", metavar="FILE", show_default=False,
    help="Also draw a picture: an SVG file (.svg) or an HTML page (.html).")]
Layer = Annotated[int | None, typer.Option(
    "--layer", metavar="N", min=1, help="Layer to inspect, counted from 1.", show_default="the last layer")]
TextFormat = Annotated[str | None, format_option("any that training reads")]
Threads = Annotated[int, typer.Option(
    "--threads", metavar="N", min=0, envvar="RNNTOOL_THREADS", show_envvar=False, rich_help_panel=COMMON,
    help="Number of processor threads. 0 uses all cores.")]
InspectedModel = Annotated[str, model_option("Model to inspect")]


def comma_separated(text: str) -> list[str]:
    """Split an option's value at commas; drop repeated and empty parts."""
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def read_states(
    model: str, files: Sequence[str], *, layer: int | None, threads: int, format: str | None,
    reading: Reading, messages: Messages,
) -> tuple[ModelFolder, Iterator[TextStates]]:
    """Load a model; return it with the states of a layer at each token of the files' texts."""
    from rnntool.commands.inputs import task_records
    from rnntool.inference.model import read
    from rnntool.inspection.states import StateReader

    loaded = read(model)
    reader = StateReader(loaded, layer=layer, threads=threads)
    return loaded, reader.read(task_records(
        loaded.task, files, loaded.task.settings, format=format, reading=reading, messages=messages))
