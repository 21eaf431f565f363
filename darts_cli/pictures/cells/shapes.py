"""What a picture consists of before it has a format: lines, boxes and words, in groups that belong to one edge or node."""

import re
from typing import NamedTuple

from darts_cli.pictures.cells.layout import Box, Run, Wire

HELVETICA = (  # widths of the characters from space to ~, in thousandths of the size
    *(278, 278, 355, 556, 556, 889, 667, 222, 333, 333, 389, 584, 278, 333, 278, 278),
    *(556, 556, 556, 556, 556, 556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556),
    *(1015, 667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833, 722, 778),
    *(667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469, 556),
    *(222, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556),
    *(556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584),
)
MINUS = "\N{MINUS SIGN}"
SUBSCRIPT = 0.72  # size of a subscript, of that of its letter
LOWERED = 0.24  # by how much it stands lower
ARROW = 8.0  # length of an arrow's head


class Line(NamedTuple):
    """A wire, with an arrow at its end or without."""

    wire: Wire
    colour: str
    width: float
    arrow: bool = False
    dotted: bool = False


class Rectangle(NamedTuple):
    """A box with round corners."""

    box: Box
    radius: float
    fill: str | None
    stroke: str | None = None
    width: float = 1.5
    dashed: bool = False


class Words(NamedTuple):
    """A line of text, centred; its height is that of the box of which (x, y) is the centre. `c_{k}` has a subscript."""

    x: float
    y: float
    text: str
    size: float
    colour: str


Shape = Line | Rectangle | Words


class Group(NamedTuple):
    """The shapes of one thing: an edge, a node, the output edges of a node, a mark, or the title."""

    kind: str
    name: str  # unique among the groups of a scene
    shapes: tuple[Shape, ...]
    hidden: bool = False


class Scene(NamedTuple):
    """A picture, from back to front, and the same in words."""

    width: float
    height: float
    groups: list[Group]
    description: str
    top: float = 0.0  # negative where a title stands above


def typeset(text: str) -> tuple[str, str]:
    """A text as a letter and its subscript: c_{k-2} is c and k\N{MINUS SIGN}2. Without a subscript that is empty."""
    match = re.fullmatch(r"([a-z])_\{(.+)\}", text)
    return (match[1], match[2].replace("-", MINUS)) if match else (text, "")


def width(text: str, size: float) -> float:
    """The width of a text in Helvetica; other sans-serif typefaces need at most a quarter more."""
    base, sub = typeset(text)
    return size * (_advance(base) + SUBSCRIPT * _advance(sub))


def _advance(text: str) -> float:
    return sum(HELVETICA[ord(c) - 32] if " " <= c <= "~" else 584 for c in text) / 1000


Point = tuple[float, float]


def curves(wire: Wire) -> list[tuple[Point, Point, Point, Point]]:
    """A wire as cubic Bezier curves, one after another; straight parts too."""
    parts = []
    for i, run in enumerate(wire):
        if i:
            parts.append(_bend((wire[i - 1].end, wire[i - 1].y), (run.start, run.y)))
        if run.end > run.start:
            parts.append(_bend((run.start, run.y), (run.end, run.y)))
    return parts


def _bend(start: Point, end: Point) -> tuple[Point, Point, Point, Point]:
    middle = (start[0] + end[0]) / 2
    return start, (middle, start[1]), (middle, end[1]), end


def head(wire: Wire, stroke: float) -> tuple[Point, Point, Point]:
    """The triangle of the arrow at the end of a wire."""
    x, y = wire[-1].end, wire[-1].y
    half = 2.4 + 0.9 * stroke
    return (x, y), (x - ARROW, y - half), (x - ARROW, y + half)


def shortened(wire: Wire) -> Wire:
    """The wire without the part that its arrow covers."""
    last: Run = wire[-1]
    return (*wire[:-1], last._replace(start=min(last.start, last.end - ARROW + 1), end=last.end - ARROW + 1))
