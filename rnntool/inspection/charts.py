"""Charts: curves, words in a plane, a dendrogram, colored texts, and heat maps. Knows no model.

Each chart names what was measured, its axes with their units, and in a caption how to read it. No chart
depends on color alone: curves differ in their dashes, highlighted words are bold, and negative numbers are
underlined.
"""

from __future__ import annotations

import math
import textwrap
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnntool.inspection import svg
from rnntool.inspection.svg import LETTER_WIDTH, PALE, Picture, Point

LEFT, RIGHT, TOP, BOTTOM = 70.0, 20.0, 40.0, 45.0  # margins around the axes of a chart
SIZE = 12.0  # of the font
ROW = 18.0  # distance of lines of text
SCALE_STEPS = 10  # shades of each color in a scale
COLUMNS = 100  # letters in each line of colored text
# for up to seven curves: the palette of Okabe and Ito (2008), which color-blind readers can tell apart
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555")
DASHES = ("", "8 3", "2 2", "8 3 2 3", "12 4", "4 4", "1 4")  # so that grayscale tells them apart as well
RED, BLUE = (244, 135, 96), (96, 165, 220)  # above and below zero; black text stays readable on both

Curves = Mapping[str, Sequence[Point]]
Span = tuple[int, int]
Rectangle = tuple[float, float, float, float]  # left, top, right, bottom


class HeatMap(NamedTuple):
    """Weights (R, C) from 0 to 1, with the names of rows and columns."""

    name: str
    rows: Sequence[str]
    columns: Sequence[str]
    weights: NDArray[np.floating[Any]]


class Axes:
    """Labeled axes in a picture, and the map from data to pixels."""

    def __init__(
        self, picture: Picture, xs: Sequence[float], ys: Sequence[float], *, x_name: str, y_name: str,
        log: bool = False,
    ) -> None:
        """Draw axes that enclose the data `xs` and `ys` and fill the picture; `log` scales y."""
        self.log = log
        self.x_ticks = ticks(min(xs), max(xs))
        self.y_ticks = decades(min(ys), max(ys)) if log else ticks(min(ys), max(ys))
        self.right, self.bottom = picture.width - RIGHT, picture.height - BOTTOM
        for tick in self.y_ticks:
            y = self(self.x_ticks[0], tick)[1]
            picture.elements += [svg.line([(LEFT, y), (self.right, y)], PALE, 1),
                                 svg.label(LEFT - 6, y + 4, f"{tick:g}", anchor="end")]
        for tick in self.x_ticks:
            x = self(tick, self.y_ticks[0])[0]
            picture.elements += [svg.line([(x, self.bottom), (x, self.bottom + 4)], width=1),
                                 svg.label(x, self.bottom + 17, f"{tick:g}", anchor="middle")]
        picture.elements += [
            svg.line([(LEFT, TOP), (LEFT, self.bottom), (self.right, self.bottom)], width=1),
            svg.label((LEFT + self.right) / 2, picture.height - 8, x_name, anchor="middle"),
            svg.label(8, TOP - 10, y_name),
            svg.label(picture.width / 2, 18, picture.title, anchor="middle", size=14),
        ]

    def __call__(self, x: float, y: float) -> Point:
        """Map a point of the data to pixels."""
        low, high = self.y_ticks[0], self.y_ticks[-1]
        if self.log:
            y, low, high = map(math.log10, (y, low, high))
        left, right = self.x_ticks[0], self.x_ticks[-1]
        return (LEFT + (x - left) / (right - left) * (self.right - LEFT),
                self.bottom - (y - low) / (high - low) * (self.bottom - TOP))


def ticks(low: float, high: float) -> list[float]:
    """Return 2 to 9 round numbers that enclose a range."""
    if not high - low > 1e-7 * max(abs(low), abs(high)):  # practically a single number
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step * power for step in (1, 2, 5, 10) if step * power >= rough * 0.999)
    return [float(f"{i * step:.9g}") for i in range(math.floor(low / step), math.ceil(high / step) + 1)]


def decades(low: float, high: float) -> list[float]:
    """Return at most ten powers of ten that enclose a range, or its upper part."""
    top = math.ceil(math.log10(high)) if high > 0 else 0
    bottom = max(math.floor(math.log10(low)) if low > 0 else -math.inf, top - 9)
    return [10.0**i for i in range(int(min(bottom, top - 1)), top + 1)]


def curves(
    title: str, data: Curves, *, x_name: str, y_name: str, caption: str = "", log: bool = False,
    width: float = 640, height: float = 400, best: Point | None = None,
) -> Picture:
    """Draw points (x, y) joined by lines, one color and one name per curve, and mark the `best` point.

    On a logarithmic axis a curve stops where it falls below the lowest tick.
    """
    picture = Picture(width, height, title)
    xs, ys = zip(*(point for curve in data.values() for point in curve), strict=True)
    axes = Axes(picture, xs, ys, x_name=x_name, y_name=y_name, log=log)
    for i, (name, curve) in enumerate(data.items()):
        color, dashes = COLORS[i % len(COLORS)], DASHES[i % len(DASHES)]
        visible = [point for point in curve if not log or point[1] >= axes.y_ticks[0]]
        picture.elements.append(svg.line([axes(*point) for point in visible], color, 2, dashes=dashes))
        if len(visible) <= 100:
            picture.elements += [svg.dot(*axes(x, y), color, radius=2.5, tooltip=f"{name}: {x:g}, {y:.5g}")
                                 for x, y in visible]
        if len(data) > 1:  # the legend, to the right of the axes
            y = TOP + 10 + ROW * i
            picture.elements += [svg.line([(width - 5, y), (width + 30, y)], color, 2, dashes=dashes),
                                 svg.label(width + 36, y + 4, name)]
    if best is not None:
        x, y = axes(*best)
        above = best[1] == max(ys) or y > axes.bottom - 2 * ROW  # where the curve isn't
        tooltip = f"best: {best[0]:g}, {best[1]:.5g}"
        picture.elements += [svg.dot(x, y, COLORS[1], radius=4.5, tooltip=tooltip),
                             svg.label(x, y - 9 if above else y + 18, f"{best[1]:.4g}", bold=True,
                                       anchor="end" if x > width - 60 else "middle", color=COLORS[1])]
    if len(data) > 1:
        picture.width += 50 + max(map(text_width, data))
    add_caption(picture, caption)
    return picture


def scatter(
    title: str, names: Sequence[str], points: NDArray[np.floating[Any]], *, x_name: str, y_name: str,
    caption: str = "", named: bool = True, bold: Collection[str] = (), joined: Sequence[tuple[int, int]] = (),
) -> Picture:
    """Draw points (N, 2) with their names, some names bold, and lines between the points `joined`."""
    picture = Picture(640, 480, title)
    axes = Axes(picture, points[:, 0].tolist(), points[:, 1].tolist(), x_name=x_name, y_name=y_name)
    places = [axes(*point) for point in points.tolist()]
    picture.elements += [svg.line([places[a], places[b]], COLORS[1], dashes="6 3") for a, b in joined]
    colors = [COLORS[1] if name in bold else COLORS[0] for name in names]
    picture.elements += [svg.dot(*place, color, radius=4 if name in bold else 3, tooltip=name)
                         for name, place, color in zip(names, places, colors, strict=True)]
    if named:
        frame = (LEFT, TOP, picture.width, axes.bottom)
        corners = label_places(places, [text_width(name) * (1.08 if name in bold else 1) for name in names],
                               frame, lines=[(places[a], places[b]) for a, b in joined])
        picture.elements += [svg.label(x, y, name, color=color, bold=name in bold)
                             for name, (x, y), color in zip(names, corners, colors, strict=True)]
    add_caption(picture, caption)
    return picture


def label_places(
    points: Sequence[Point], widths: Sequence[float], frame: Rectangle,
    lines: Sequence[tuple[Point, Point]] = (),
) -> list[Point]:
    """Place a label of each width next to its point; return where its baseline starts.

    Greedy: each label takes the place, of ten around its point, that overlaps least with the dots, the
    `lines`, the earlier labels and the outside of `frame`.
    """
    on_lines = [(x + (end_x - x) * i / 100, y + (end_y - y) * i / 100)
                for (x, y), (end_x, end_y) in lines for i in range(101)]
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in points]
    taken += [(x - 2, y - 2, x + 2, y + 2) for x, y in on_lines]
    corners = []
    for (x, y), width in zip(points, widths, strict=True):
        places = [(x + dx, y + dy) for dx, dy in (
            (7, 4), (-width - 7, 4), (-width / 2, -7), (-width / 2, 16), (4, -6), (4, 14), (-width - 4, -6),
            (-width - 4, 14), (-width / 2, -20), (-width / 2, 29))]
        boxes = [(left, base - SIZE * 0.8, left + width, base + SIZE * 0.2) for left, base in places]
        costs = [round(sum(_overlap(box, other) for other in taken)
                       + 2 * (width * SIZE - _overlap(box, frame))) for box in boxes]
        best = costs.index(min(costs))
        taken.append(boxes[best])
        corners.append(places[best])
    return corners


def _overlap(a: Rectangle, b: Rectangle) -> float:
    """Return the area that two rectangles share."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def dendrogram(
    title: str, names: Sequence[str], linkage: NDArray[np.float64], *, caption: str = ""
) -> Picture:
    """Draw the tree of SciPy's `linkage` (N-1, 4), names on the right, distances growing to the left."""
    from scipy.cluster.hierarchy import dendrogram as layout

    tree = layout(linkage, no_plot=True)
    row, margin = 16.0, max(map(text_width, names)) + 20
    bottom = TOP + row * len(names) + 8
    picture = Picture(max(640, margin + 400), bottom + 41, title)
    distances = ticks(0.0, float(linkage[:, 2].max()) or 1.0)
    span = picture.width - 20 - margin

    def x(distance: float) -> float:
        return 20 + span * (1 - distance / distances[-1])

    for heights, depths in zip(tree["icoord"], tree["dcoord"], strict=True):  # leaf i is at 5 + 10 * i
        picture.elements.append(svg.line(
            [(x(depth), TOP + row * height / 10) for height, depth in zip(heights, depths, strict=True)],
            COLORS[0]))
    picture.elements += [
        *(svg.label(picture.width - margin + 6, TOP + row * (i + 0.5) + 4, names[leaf])
          for i, leaf in enumerate(tree["leaves"])),
        svg.line([(x(distances[-1]), bottom), (x(0), bottom)], width=1),
        *(svg.line([(x(tick), bottom), (x(tick), bottom + 4)], width=1) for tick in distances),
        *(svg.label(x(tick), bottom + 17, f"{tick:g}", anchor="middle") for tick in distances),
        svg.label(20 + span / 2, bottom + 33, "Euclidean distance", anchor="middle"),
        svg.label(picture.width / 2, 18, title, anchor="middle", size=14),
    ]
    add_caption(picture, caption)
    return picture


def text_tree(names: Sequence[str], linkage: NDArray[np.float64]) -> list[str]:
    """Draw the tree of SciPy's `linkage` as text: each name on a line, after the branches that join it."""
    clusters = [[f"─ {name}"] for name in names]  # lines of each cluster, numbered as in `linkage`
    for first, second in linkage[:, :2].astype(int).tolist():
        (top, *above), (middle, *below) = clusters[first], clusters[second]
        clusters.append([f"┬{top}", *(f"│{line}" for line in above),
                         f"└{middle}", *(f" {line}" for line in below)])
    return clusters[-1]


def diverging_color(share: float) -> tuple[int, int, int]:
    """Return red for 1, white for 0, blue for -1, and shades between, as (red, green, blue)."""
    share = max(-1.0, min(1.0, share))
    red, green, blue = (round(255 + abs(share) * (part - 255)) for part in (RED if share > 0 else BLUE))
    return red, green, blue


def colored_texts(
    title: str, text: str, spans: Sequence[Span], rows: Mapping[str, Sequence[float]], *, caption: str = ""
) -> Picture:
    """Draw the text once under each name, each token (start, end) colored by its number from -1 to 1."""
    size, margin = 13.0, 20.0
    letter = size * svg.MONOSPACE_WIDTH
    pieces = list(text_layout(text, spans))
    height = ROW * (3 + max((row for _, _, row, _ in pieces), default=0))
    widest = max((column + len(piece) for _, column, _, piece in pieces), default=0)
    picture = Picture(max(640.0, 2 * margin + widest * letter), 30, title)
    picture.elements.append(svg.label(margin, 24, title, size=14))
    add_caption(picture, caption)
    _add_color_scale(picture, margin)
    for name, shares in rows.items():
        top = picture.height + ROW
        picture.elements.append(svg.label(margin, top, name, bold=True))
        for token, column, row, piece in pieces:
            x, y, width = margin + column * letter, top + (row + 1) * ROW, len(piece) * letter
            red, green, blue = diverging_color(shares[token])
            picture.elements += [
                svg.box(x, y - size, width, ROW - 1, f"#{red:02x}{green:02x}{blue:02x}",
                        tooltip=f"{shares[token]:+.3f}"),
                svg.label(x, y, piece, size=size, columns=len(piece))]
            if shares[token] < 0:
                thickness = round(-2 * shares[token], 2)
                picture.elements.append(svg.line([(x, y + 3), (x + width, y + 3)], width=thickness))
        picture.height += height
    return picture


def heat_maps(title: str, maps: Sequence[HeatMap], *, caption: str = "") -> Picture:
    """Draw grids of weights from 0 (white) to 1, one below the other, with the names of rows and columns."""
    size, margin, row = 13.0, 20.0, 22.0
    picture = Picture(640, 30, title)
    picture.elements.append(svg.label(margin, 24, title, size=14))
    add_caption(picture, caption)
    _add_color_scale(picture, margin, weights=True)
    for grid in maps:
        left = margin + max(map(text_width, grid.rows), default=0) + 10
        column = max(row, *(text_width(name) + 8 for name in grid.columns)) if grid.columns else row
        top = picture.height + 3 * row
        picture.elements.append(svg.label(margin, top - 1.6 * row, grid.name, bold=True))
        picture.elements += [svg.label(left + (j + 0.5) * column, top - 6, name, anchor="middle", size=size)
                             for j, name in enumerate(grid.columns)]
        for i, (name, weights) in enumerate(zip(grid.rows, grid.weights.tolist(), strict=True)):
            y = top + i * row
            picture.elements.append(svg.label(left - 6, y + 15, name, anchor="end", size=size))
            for j, weight in enumerate(weights):
                red, green, blue = diverging_color(-weight)
                picture.elements.append(svg.box(
                    left + j * column, y, column - 1, row - 1, f"#{red:02x}{green:02x}{blue:02x}",
                    tooltip=f"{name}, {grid.columns[j]}: {weight:.3f}"))
        picture.width = max(picture.width, left + len(grid.columns) * column + margin)
        picture.height = top + len(grid.rows) * row
    picture.height += margin
    return picture


def _add_color_scale(picture: Picture, left: float, *, weights: bool = False) -> None:
    """Add a row with the colors from -1 to 1 and their numbers; of `weights`, from 0 to 1."""
    top, cell = picture.height + 6, 12.0
    for i in range((1 if weights else 2) * SCALE_STEPS + 1):
        share = i / SCALE_STEPS - (0 if weights else 1)
        red, green, blue = diverging_color(-share if weights else share)
        x = left + cell * i
        picture.elements.append(svg.box(x, top, cell, ROW - 4, f"#{red:02x}{green:02x}{blue:02x}"))
        if share in (-1, 0, 1):
            number = "0" if not share else f"{share:g}" if weights else f"{share:+g}"
            picture.elements.append(svg.label(x + cell / 2, top + 2 * ROW - 8, number, anchor="middle"))
    picture.height += 2 * ROW + 4


def text_layout(text: str, spans: Sequence[Span]) -> Iterator[tuple[int, int, int, str]]:
    """Yield the number, column, row and text of each token on lines of `COLUMNS` letters.

    A line break in the text ends a line; a token that contains one is yielded in pieces.
    """
    column = row = done = 0
    for token, (start, end) in enumerate(spans):
        for in_token, part in ((False, text[done:start]), (True, text[start:end])):
            for i, piece in enumerate(part.split("\n")):
                if i or column + len(piece) > COLUMNS:
                    column, row = 0, row + 1
                if in_token and piece:
                    yield token, column, row, piece
                column += len(piece)
        done = end


def add_caption(picture: Picture, caption: str) -> None:
    """Add a caption below a picture, in as many lines as it needs."""
    for text in textwrap.wrap(caption, int((picture.width - 40) / (SIZE * LETTER_WIDTH))):
        picture.height += ROW
        picture.elements.append(svg.label(20, picture.height - 8, text))


def text_width(text: str) -> float:
    """Estimate the width of a label in a sans-serif font."""
    return SIZE * sum(_letter_width(letter) for letter in text)


def _letter_width(letter: str) -> float:
    """Estimate the width of a letter as a share of the font size."""
    if unicodedata.east_asian_width(letter) in "WF":
        return 1.0
    if letter in "mwMW@%":
        return 0.87
    if letter in "fijltI .,:;'|!()[]":
        return 0.3
    return 0.7 if letter.isupper() else 0.56
