"""Options that several subcommands of `rnntool inspect` have, and how their values are read."""

from __future__ import annotations

from typing import Annotated

import typer

from rnntool.commands.options import format_option

PicturePath = Annotated[str | None, typer.Option(
    "-o", "--output", metavar="FILE", show_default=False,
    help="Also draw a picture: an SVG if the name ends in .svg, an HTML page if it ends in .html.")]
Layer = Annotated[int | None, typer.Option(
    "--layer", metavar="N", min=1, help="Layer to look at, from 1.", show_default="the last layer")]
TextFormat = Annotated[str | None, format_option("any that the model's training reads")]
Threads = Annotated[int, typer.Option(
    "--threads", min=0, envvar="RNNTOOL_THREADS", show_envvar=False,
    help="Processor threads; 0 uses all cores.")]


def comma_separated(text: str) -> list[str]:
    """Split an option's value at commas; drop repeated and empty parts."""
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
