"""Where everything in the picture of a cell stands: layers from left to right, computed without another program.

Columns of states and columns of operations alternate. An edge crosses every column at a height of its own, as a horizontal
line, and bends only in the gaps between columns, where nothing else stands. So no edge can cross a label, and no two labels
can meet, whatever the cell.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

MARGIN = 14.0  # all lengths in pixels
LANE, SPACE = 2.0, 11.0  # height of an edge that passes a column, and the space around everything
PORT = 13.0  # between the ends of two edges at a node
SWEEPS = 12  # of the search for an order with few crossings


class Box(NamedTuple):
    """A rectangle, by its centre."""

    x: float
    y: float
    width: float
    height: float

    @property
    def left(self) -> float:
        return self.x - self.width / 2

    @property
    def right(self) -> float:
        return self.x + self.width / 2

    @property
    def top(self) -> float:
        return self.y - self.height / 2

    @property
    def bottom(self) -> float:
        return self.y + self.height / 2


class Link(NamedTuple):
    """An edge from one node to another; with a size, it carries a label of that width and height."""

    tail: str
    head: str
    label: tuple[float, float] | None = None


class Run(NamedTuple):
    """A horizontal part of a wire; curves join one run to the next."""

    start: float
    end: float
    y: float


Wire = tuple[Run, ...]


@dataclass(frozen=True)
class Layout:
    """Boxes of the nodes by name, and for each link the box of its label and its wires: to the label and on from there."""

    width: float
    height: float
    nodes: dict[str, Box]
    labels: list[Box | None]
    wires: list[tuple[Wire, ...]]


@dataclass(eq=False)
class _Item:
    """What takes space in a column: a node, a label, or an edge that passes."""

    column: int
    width: float
    height: float
    before: list["_Item"] = field(default_factory=list)
    after: list["_Item"] = field(default_factory=list)
    y: float = 0.0
    is_node: bool = False


def arrange(sizes: Mapping[str, tuple[float, float]], columns: Mapping[str, int], links: Sequence[Link]) -> Layout:
    """Lay out nodes of these sizes in these columns.

    Every link leads to a later column. One with a label needs a column in between that holds no node: the one before its head.
    """
    nodes = {name: _Item(columns[name], *size, is_node=True) for name, size in sizes.items()}
    chains = [_chain(link, nodes) for link in links]
    filled: list[list[_Item]] = [[] for _ in range(max(columns.values()) + 1)]
    for item in dict.fromkeys([*nodes.values(), *(item for chain in chains for item in chain)]):
        filled[item.column].append(item)
    for item in nodes.values():
        item.height = max(item.height, PORT * max(len(item.before), len(item.after), 1) + 8)
    _order(filled)
    _place(filled)
    lefts, rights = _across(filled)
    boxes = {
        item: Box((lefts[i] + rights[i]) / 2, item.y, item.width, item.height)
        for i, column in enumerate(filled)
        for item in column
    }
    bottom = max(box.bottom for box in boxes.values())
    return Layout(
        rights[-1] + MARGIN,
        bottom + MARGIN,
        {name: boxes[item] for name, item in nodes.items()},
        [boxes[chain[-2]] if link.label else None for link, chain in zip(links, chains, strict=True)],
        [_wires(link, chain, boxes, lefts, rights) for link, chain in zip(links, chains, strict=True)],
    )


def _chain(link: Link, nodes: Mapping[str, _Item]) -> list[_Item]:
    """The items of a link, one in every column from its tail to its head."""
    tail, head = nodes[link.tail], nodes[link.head]
    chain = [tail, *(_Item(column, 0.0, LANE) for column in range(tail.column + 1, head.column)), head]
    if link.label:
        chain[-2].width, chain[-2].height = link.label
    for one, other in pairwise(chain):
        one.after.append(other)
        other.before.append(one)
    return chain


# ---- the order in the columns: each item near the mean of its neighbours, sweeping to and fro


def _order(filled: list[list[_Item]]) -> None:
    """Sort every column so that few edges cross."""
    best, fewest = [column[:] for column in filled], _crossings(filled)
    for sweep in range(SWEEPS):
        forward = sweep % 2 == 0
        for column in filled if forward else reversed(filled):
            ranks = {item: rank for other in filled for rank, item in enumerate(other)}
            means = {item: _mean([ranks[near] for near in (item.before if forward else item.after)]) for item in column}
            column.sort(key=lambda item: (means[item] is not None, means[item] or 0.0))
        crossings = _crossings(filled)
        if crossings < fewest:
            best, fewest = [column[:] for column in filled], crossings
    filled[:] = best


def _crossings(filled: list[list[_Item]]) -> int:
    """The number of pairs of edges that cross between two columns."""
    rank = {item: i for column in filled for i, item in enumerate(column)}
    count = 0
    for column in filled:
        steps = [(rank[item], rank[other]) for item in column for other in item.after]
        count += sum((a - c) * (b - d) < 0 for i, (a, b) in enumerate(steps) for c, d in steps[:i])
    return count


# ---- heights: each item as near to the mean of its neighbours as its column allows


def _place(filled: list[list[_Item]]) -> None:
    for column in filled:
        for item, y in zip(column, _apart(column, [0.0] * len(column)), strict=True):
            item.y = y
    for _ in range(SWEEPS):
        for column in (*filled, *reversed(filled)):
            wanted = [_mean([near.y for near in item.before + item.after]) for item in column]
            heights = _apart(column, [item.y if y is None else y for item, y in zip(column, wanted, strict=True)])
            for item, y in zip(column, heights, strict=True):
                item.y = y
    top = min(item.y - item.height / 2 for column in filled for item in column)
    for column in filled:
        for item in column:
            item.y += MARGIN - top


def _apart(column: Sequence[_Item], wanted: Sequence[float]) -> list[float]:
    """The heights nearest to the wanted ones, by the sum of squares, at which the items of a column do not touch.

    Measured from the place that each item has in a packed column, the heights must not fall: an isotonic regression, solved
    by merging neighbours that violate the order.
    """
    offsets = [0.0]
    for one, other in pairwise(column):
        offsets.append(offsets[-1] + (one.height + other.height) / 2 + SPACE)
    blocks: list[list[float]] = []  # sum and number
    for y, offset in zip(wanted, offsets, strict=True):
        blocks.append([y - offset, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] >= blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += count
    shifts = [total / count for total, count in blocks for _ in range(int(count))]
    return [shift + offset for shift, offset in zip(shifts, offsets, strict=True)]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


# ---- from left to right


def _across(filled: list[list[_Item]]) -> tuple[list[float], list[float]]:
    """The left and right ends of the columns; a gap is wider where edges climb more."""
    lefts, rights, x = [], [], MARGIN
    for column in filled:
        lefts.append(x)
        rights.append(x + max(item.width for item in column))
        climb = max((abs(item.y - other.y) for item in column for other in item.after), default=0.0)
        x = rights[-1] + min(90.0, 28 + 0.3 * climb)
    return lefts, rights


def _wires(link: Link, chain: list[_Item], boxes: Mapping[_Item, Box], lefts, rights) -> tuple[Wire, ...]:
    """The wires of a link, which end at the borders of the boxes."""
    tail, *passed, head = chain
    start, end = boxes[tail], boxes[head]
    first = Run(start.right, rights[tail.column], _port(start, tail.after, passed[0] if passed else head))
    last = Run(lefts[head.column], end.left, _port(end, head.before, passed[-1] if passed else tail))
    runs = [Run(lefts[item.column], rights[item.column], item.y) for item in passed]
    if not link.label:
        return ((first, *runs, last),)
    label = boxes[passed[-1]]
    return (first, *runs[:-1], runs[-1]._replace(end=label.left)), (runs[-1]._replace(start=label.right), last)


def _port(box: Box, neighbours: list[_Item], neighbour: _Item) -> float:
    """Where on its side of a node the edge to a neighbour ends."""
    rank = sorted(neighbours, key=lambda item: item.y).index(neighbour)
    return box.y + PORT * (rank - (len(neighbours) - 1) / 2)
