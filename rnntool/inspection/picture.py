"""A picture made of lines, boxes, dots and words, and how it is written: as SVG, as a page, as PNG.

Knows no data. Coordinates are pixels from the top left corner. An SVG and a page load nothing and run
nothing; PNG takes matplotlib, which is there with the extra `plots`.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from rnntool.data.streams import open_output
from rnntool.errors import RnntoolError, UsageError

INK, PALE = "#222222", "#dddddd"
# for up to seven things side by side, told apart by all eyes (Okabe and Ito, 2008)
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555")
MONO = 0.602  # of the size, the width of a letter in fonts whose letters are all as wide
FORMATS = (".svg", ".html", ".png")
DPI = 200  # of a PNG, where an inch is 100 pixels of the picture

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """A line through points."""

    points: Sequence[Point]
    colour: str = INK
    width: float = 1.5


@dataclass(frozen=True)
class Box:
    """A filled box by its top left corner; `title` is shown where the pointer rests on it."""

    x: float
    y: float
    width: float
    height: float
    colour: str
    title: str = ""


@dataclass(frozen=True)
class Dot:
    """A filled circle."""

    x: float
    y: float
    colour: str
    title: str = ""
    radius: float = 3.0


@dataclass(frozen=True)
class Words:
    """Text on its baseline. `columns` stretches it to so many letters of a font of one width."""

    x: float
    y: float
    text: str
    anchor: str = "start"  # where x is: start, middle, end
    size: float = 12.0
    colour: str = INK
    columns: int = 0


Shape = Line | Box | Dot | Words


@dataclass
class Picture:
    """Shapes, the later ones over the earlier."""

    width: float
    height: float
    title: str
    shapes: list[Shape] = field(default_factory=list)

    def svg(self) -> str:
        """One `<svg>` element."""
        size = f'width="{self.width:g}" height="{self.height:g}" viewBox="0 0 {self.width:g} {self.height:g}"'
        shapes = "".join(map(_svg, self.shapes))
        return (f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="sans-serif" '
                f'style="background:#fff">\n<title>{_escape(self.title)}</title>\n{shapes}</svg>\n')


def check(path: str | None) -> None:
    """`UsageError` for a name of which no format is known, before anything is computed; None is no name."""
    if path is not None and Path(path).suffix.lower() not in FORMATS:
        raise UsageError(f"-o: expected a name that ends in {', '.join(FORMATS)}, found {path!r}")
    if path is not None and path.lower().endswith(".png"):
        _figure_class(path)


def write(picture: Picture, path: str) -> None:
    """Write a picture in the format that the name says."""
    check(path)
    if path.lower().endswith(".png"):
        _write_png(picture, path)
        return
    with open_output(path) as out:
        out.write(picture.svg() if path.lower().endswith(".svg") else page(picture.title, picture.svg()))


def page(title: str, *parts: str) -> str:
    """A whole HTML page with pieces of HTML one below the other."""
    body = "".join(parts)
    return (f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{_escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
            f"<h1>{_escape(title)}</h1>\n{body}</body>\n</html>\n")


_STYLE = """
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif;
       color: #222; background: #fff; }
svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; margin: 1rem 0; }
td, th { padding: .1rem .8rem .1rem 0; text-align: left; vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
tr.best { font-weight: bold; }
.charts { display: flex; flex-wrap: wrap; gap: 1rem; }
"""


_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def _printable(text: str) -> str:
    """Text without characters that XML has no place for, or that turn round what is behind them."""
    return _CONTROLS.sub("\ufffd", text)


def _escape(text: str) -> str:
    return escape(_printable(text))


def _svg(shape: Shape) -> str:
    title = f"<title>{_escape(shape.title)}</title>" if isinstance(shape, Box | Dot) and shape.title else ""
    match shape:
        case Line(points, colour, width):
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            return (f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width:g}" '
                    'stroke-linejoin="round"/>\n')
        case Box(x, y, width, height, colour):
            return (f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
                    f'fill="{colour}">{title}</rect>\n')
        case Dot(x, y, colour, _, radius):
            return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{colour}">{title}</circle>\n'
        case Words(x, y, text, anchor, size, colour, columns):
            fixed = (f' font-family="monospace" xml:space="preserve" lengthAdjust="spacingAndGlyphs" '
                     f'textLength="{columns * size * MONO:.1f}"') if columns else ""
            return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" text-anchor="{anchor}" '
                    f'fill="{colour}"{fixed}>{_escape(text)}</text>\n')


def _figure_class(path: str) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise RnntoolError(f"{path}: PNG needs the Python package matplotlib; pip install matplotlib, or end "
                           "the name in .svg or .html") from None
    return Figure


def _write_png(picture: Picture, path: str) -> None:
    """As the SVG, shape by shape."""
    figure = _figure_class(path)(figsize=(picture.width / 100, picture.height / 100), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, picture.width), ylim=(picture.height, 0))
    axes.axis("off")
    points = 72 / 100  # of a pixel
    for order, shape in enumerate(picture.shapes):
        match shape:
            case Line(line, colour, width):
                axes.plot(*zip(*line, strict=True), color=colour, linewidth=width * points, zorder=order)
            case Box(x, y, width, height, colour):
                axes.fill([x, x + width, x + width, x], [y, y, y + height, y + height], color=colour,
                          linewidth=0, zorder=order)
            case Dot(x, y, colour, _, radius):
                axes.plot([x], [y], "o", color=colour, markersize=2 * radius * points, markeredgewidth=0,
                          zorder=order)
            case Words(x, y, text, anchor, size, colour, columns):
                side = {"start": "left", "middle": "center", "end": "right"}[anchor]
                axes.text(x, y, _printable(text), fontsize=size * points, ha=side, va="baseline",
                          color=colour, family="monospace" if columns else "sans-serif", zorder=order,
                          parse_math=False)
    content = io.BytesIO()
    with warnings.catch_warnings(action="ignore"):  # of letters that the font lacks: it draws a box
        figure.savefig(content, format="png")
    with open_output(path) as out:
        out.buffer.write(content.getvalue())
