"""Charts: curves, a dendrogram, words in the plane, and texts coloured by a number. Knows no model."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnntool.inspection.picture import (
    COLOURS,
    INK,
    MONO,
    PALE,
    Box,
    Dot,
    Line,
    Picture,
    Point,
    Words,
)

LEFT, RIGHT, TOP, BOTTOM = 70.0, 20.0, 40.0, 45.0  # around the field of a chart
LETTER = 0.55  # of the size, about the width of a letter
COLUMNS = 100  # letters in a line of coloured text
RED, BLUE = (244, 135, 96), (96, 165, 220)  # above and below zero, told apart by all eyes, readable under ink

Curves = Mapping[str, Sequence[Point]]
Span = tuple[int, int]


class Field:
    """The field of a chart: from data to pixels, with axes that are labelled in round numbers."""

    def __init__(
        self, picture: Picture, xs: Sequence[float], ys: Sequence[float], *, x_name: str, y_name: str,
        log: bool = False,
    ) -> None:
        self.picture = picture
        self.log = log
        self.x_ticks = ticks(min(xs), max(xs))
        self.y_ticks = decades(min(ys), max(ys)) if log else ticks(min(ys), max(ys))
        self.x_range = self.x_ticks[0], self.x_ticks[-1]
        self.y_range = self.y_ticks[0], self.y_ticks[-1]
        right, bottom = picture.width - RIGHT, picture.height - BOTTOM
        for tick in self.y_ticks:
            y = self(self.x_range[0], tick)[1]
            picture.shapes += [Line([(LEFT, y), (right, y)], PALE, 1),
                               Words(LEFT - 6, y + 4, f"{tick:g}", "end")]
        for tick in self.x_ticks:
            x = self(tick, self.y_range[0])[0]
            picture.shapes += [Line([(x, bottom), (x, bottom + 4)], INK, 1),
                               Words(x, bottom + 17, f"{tick:g}", "middle")]
        picture.shapes += [
            Line([(LEFT, TOP), (LEFT, bottom), (right, bottom)], INK, 1),
            Words((LEFT + right) / 2, picture.height - 8, x_name, "middle"),
            Words(8, TOP - 10, y_name),
            Words(picture.width / 2, 18, picture.title, "middle", 14),
        ]

    def __call__(self, x: float, y: float) -> Point:
        """Where a point of the data is in the picture."""
        low, high = self.y_range
        if self.log:
            y, low, high = map(math.log10, (y, low, high))
        left, right = self.x_range
        return (LEFT + (x - left) / (right - left) * (self.picture.width - LEFT - RIGHT),
                self.picture.height - BOTTOM
                - (y - low) / (high - low) * (self.picture.height - TOP - BOTTOM))


def ticks(low: float, high: float) -> list[float]:
    """Round numbers, 4 to 9 of them, that enclose a range."""
    if not high - low > 1e-7 * max(abs(low), abs(high)):  # as good as flat
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step * power for step in (1, 2, 5, 10) if step * power >= rough * 0.999)
    return [float(f"{i * step:.9g}") for i in range(math.floor(low / step), math.ceil(high / step) + 1)]


def decades(low: float, high: float) -> list[float]:
    """Powers of ten that enclose a range, at most ten: what is smaller is left out."""
    top = math.ceil(math.log10(high)) if high > 0 else 0
    bottom = max(math.floor(math.log10(low)) if low > 0 else -math.inf, top - 9)
    return [10.0**i for i in range(int(min(bottom, top - 1)), top + 1)]


def curves(
    title: str, data: Curves, *, x_name: str, y_name: str, log: bool = False, width: float = 640,
    height: float = 400, marked: Point | None = None,
) -> Picture:
    """Points joined by lines, a colour and a name for each curve; one point may be marked.

    A curve on a logarithmic axis ends where it leaves the picture.
    """
    picture = Picture(width, height, title)
    points = [point for curve in data.values() for point in curve]
    xs, ys = zip(*points, strict=True)
    place = Field(picture, xs, ys, x_name=x_name, y_name=y_name, log=log)
    for i, (name, curve) in enumerate(data.items()):
        colour = COLOURS[i % len(COLOURS)]
        shown = [point for point in curve if not log or point[1] >= place.y_range[0]]
        picture.shapes.append(Line([place(*point) for point in shown], colour, 2))
        if len(shown) <= 100:
            picture.shapes += [Dot(*place(x, y), colour, f"{name}: {x:g}, {y:.5g}", 2.5) for x, y in shown]
        if len(data) > 1:
            y = TOP + 10 + 18 * i
            picture.shapes += [Line([(width - 150, y), (width - 130, y)], colour, 3),
                               Words(width - 124, y + 4, name)]
    if marked is not None:
        picture.shapes.append(Dot(*place(*marked), COLOURS[1], f"best: {marked[0]:g}, {marked[1]:.5g}", 4.5))
    return picture


def scatter(
    title: str, names: Sequence[str], points: NDArray[np.floating[Any]], *, x_name: str, y_name: str,
    labelled: bool = True, bold: Collection[str] = (), joined: Sequence[tuple[int, int]] = (),
) -> Picture:
    """Named points (N, 2) in the plane, `bold` ones in another colour, some of them joined by lines."""
    picture = Picture(640, 480, title)
    place = Field(picture, points[:, 0].tolist(), points[:, 1].tolist(), x_name=x_name, y_name=y_name)
    where = [place(*point) for point in points.tolist()]
    picture.shapes += [Line([where[a], where[b]], COLOURS[1], 1.5) for a, b in joined]
    for name, (x, y) in zip(names, where, strict=True):
        colour = COLOURS[1] if name in bold else COLOURS[0]
        picture.shapes.append(Dot(x, y, colour, name))
        if labelled:
            right = x > picture.width - 100
            picture.shapes.append(Words(x - 6 if right else x + 6, y + 4, name, "end" if right else "start",
                                        colour=colour))
    return picture


def dendrogram(title: str, names: Sequence[str], merges: NDArray[np.float64]) -> Picture:
    """The tree of SciPy's `linkage`, names on the right, the distance of what is merged to the left."""
    from scipy.cluster.hierarchy import dendrogram as plan

    found = plan(merges, no_plot=True)
    row, right = 16.0, 12 * LETTER * max(map(len, names)) + 20
    picture = Picture(max(640, right + 400), TOP + row * len(names) + BOTTOM, title)
    far = ticks(0.0, float(merges[:, 2].max()) or 1.0)
    field = picture.width - 20 - right

    def x(distance: float) -> float:
        return 20 + field * (1 - distance / far[-1])

    for ys, distances in zip(found["icoord"], found["dcoord"], strict=True):  # leaf i is at 5 + 10 * i
        picture.shapes.append(Line([(x(d), TOP + row * y / 10) for y, d in zip(ys, distances, strict=True)],
                                   COLOURS[0]))
    for i, leaf in enumerate(found["leaves"]):
        picture.shapes.append(Words(picture.width - right + 6, TOP + row * (i + 0.5) + 4, names[leaf]))
    bottom = TOP + row * len(names) + 8
    picture.shapes += [
        Line([(x(far[-1]), bottom), (x(0), bottom)], INK, 1),
        *(Words(x(tick), bottom + 15, f"{tick:g}", "middle") for tick in far),
        Words(20 + field / 2, bottom + 32, "distance", "middle"),
        Words(picture.width / 2, 18, title, "middle", 14),
    ]
    return picture


def colour_of(share: float) -> tuple[int, int, int]:
    """Red for 1, white for 0, blue for -1."""
    share = max(-1.0, min(1.0, share))
    strong = RED if share > 0 else BLUE
    red, green, blue = (round(255 + abs(share) * (part - 255)) for part in strong)
    return red, green, blue


def coloured_texts(
    title: str, text: str, spans: Sequence[Span], rows: Mapping[str, Sequence[float]]
) -> Picture:
    """The text once under each name, each token (start, end) in the colour of its share from -1 to 1."""
    size, line, margin = 13.0, 18.0, 20.0
    letter = size * MONO
    placed = list(laid_out(text, spans))
    block = line * (3 + max((row for _, _, row, _ in placed), default=0))
    widest = max((column + len(piece) for _, column, _, piece in placed), default=0)
    picture = Picture(max(300.0, 2 * margin + widest * letter), 40 + block * len(rows), title)
    picture.shapes.append(Words(margin, 24, title, size=14))
    for number, (name, shares) in enumerate(rows.items()):
        top = 40 + number * block + line
        picture.shapes.append(Words(margin, top, name, size=12))
        for token, column, row, piece in placed:
            x, y = margin + column * letter, top + (row + 1) * line
            red, green, blue = colour_of(shares[token])
            picture.shapes += [
                Box(x, y - size, len(piece) * letter, line - 1, f"#{red:02x}{green:02x}{blue:02x}",
                    f"{shares[token]:+.3f}"),
                Words(x, y, piece, size=size, columns=len(piece))]
    return picture


def laid_out(text: str, spans: Sequence[Span]) -> Iterator[tuple[int, int, int, str]]:
    """Each token's number, column, row and text on lines of `COLUMNS` letters; its line breaks end a line."""
    column = row = done = 0
    for token, (start, end) in enumerate(spans):
        for own, part in ((False, text[done:start]), (True, text[start:end])):
            for i, piece in enumerate(part.split("\n")):
                if i or column + len(piece) > COLUMNS:
                    column, row = 0, row + 1
                if own and piece:
                    yield token, column, row, piece
                column += len(piece)
        done = end
