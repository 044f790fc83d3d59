"""Pictures in SVG: the elements of charts, and HTML pages around them. Knows no data.

Coordinates and sizes are in pixels; (0, 0) is the top left corner. SVG files and pages load nothing and
contain no scripts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from rnntool.data.streams import open_output
from rnntool.errors import UsageError

INK, PALE = "#222222", "#dddddd"
LETTER_WIDTH = 0.55  # average width of a sans-serif letter, as a share of the font size
MONOSPACE_WIDTH = 0.602  # width of a monospace letter
SUFFIXES = (".svg", ".html")

Point = tuple[float, float]


@dataclass
class Picture:
    """SVG elements, later ones drawn over earlier ones."""

    width: float
    height: float
    title: str
    elements: list[str] = field(default_factory=list)

    def svg(self) -> str:
        """Render the picture as one `<svg>` element."""
        size = f'width="{self.width:g}" height="{self.height:g}" viewBox="0 0 {self.width:g} {self.height:g}"'
        return (f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="sans-serif" '
                f'style="background:#fff">\n<title>{_escape(self.title)}</title>\n{"".join(self.elements)}'
                "</svg>\n")


def line(points: Iterable[Point], color: str = INK, width: float = 1.5, *, dashes: str = "") -> str:
    """A line through points; `dashes` are the lengths of dashes and gaps, as in `stroke-dasharray`."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    pattern = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="{width:g}"{pattern} '
            'stroke-linejoin="round"/>\n')


def box(x: float, y: float, width: float, height: float, color: str, *, tooltip: str = "") -> str:
    """A filled rectangle, given by its top left corner."""
    return (f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
            f'fill="{color}">{_title(tooltip)}</rect>\n')


def dot(x: float, y: float, color: str, *, radius: float = 3.0, tooltip: str = "") -> str:
    """A filled circle."""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{color}">{_title(tooltip)}</circle>\n'


def label(
    x: float, y: float, text: str, *, anchor: str = "start", size: float = 12, color: str = INK,
    bold: bool = False, columns: int = 0,
) -> str:
    """Text on a baseline; `anchor` says whether x is its start, middle or end.

    `columns` sets the text in monospace and stretches it to the width of that many letters.
    """
    weight = ' font-weight="bold"' if bold else ""
    monospace = (f' font-family="monospace" xml:space="preserve" lengthAdjust="spacingAndGlyphs" '
                 f'textLength="{columns * size * MONOSPACE_WIDTH:.1f}"') if columns else ""
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" text-anchor="{anchor}" '
            f'fill="{color}"{weight}{monospace}>{_escape(text)}</text>\n')


def check_path(path: str | None) -> None:
    """Raise `UsageError` for a path whose suffix is not that of a format that `write` can produce."""
    if path is not None and Path(path).suffix.lower() not in SUFFIXES:
        raise UsageError(setting="output", expected=f"a name that ends in {' or '.join(SUFFIXES)}",
                         found=repr(path), advice="for another format, write an SVG and convert it with "
                                                  "rsvg-convert, Inkscape or a browser")


def write(picture: Picture, path: str) -> None:
    """Write a picture as SVG or as an HTML page, depending on the suffix of the path."""
    check_path(path)
    with open_output(path) as out:
        out.write(picture.svg() if path.lower().endswith(".svg") else page(picture.title, picture.svg()))


def page(title: str, *parts: str) -> str:
    """Make an HTML page of pieces of HTML, one below the other; `title` names the window."""
    body = "".join(parts)
    return (f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{_escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
            f"{body}</body>\n</html>\n")


_STYLE = """
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif;
       color: #222; background: #fff; }
svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; margin: 1rem 0; }
td, th { padding: .1rem .8rem .1rem 0; text-align: left; vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
tr.best { font-weight: bold; }
.charts { display: flex; flex-wrap: wrap; align-items: flex-start; gap: 1rem; }
.confusion { overflow-x: auto; font-size: .8rem; }
.confusion td, .confusion th { padding: .1rem .35rem; }
.confusion .top { text-align: center; }
.confusion .axis { vertical-align: middle; }
.confusion .axis span { writing-mode: vertical-rl; transform: rotate(180deg); }
pre { white-space: pre-wrap; background: #f4f4f4; padding: .5rem .8rem; }
"""

# characters that XML does not allow, or that reverse the direction of the text that follows
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def _escape(text: str) -> str:
    return escape(_UNPRINTABLE.sub("\ufffd", text))


def _title(tooltip: str) -> str:
    return f"<title>{_escape(tooltip)}</title>" if tooltip else ""
