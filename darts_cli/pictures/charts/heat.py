"""A table of operation weights as a picture: edges down, operations across, darker where the weight is larger."""

import math
from collections.abc import Sequence

from darts_cli.describe import state_names
from darts_cli.pictures.cells.layout import Box
from darts_cli.pictures.cells.shapes import Group, Rectangle, Scene, Words, width
from darts_cli.pictures.colours import CHANGED, INK, OPERATIONS, PAPER, mixed, on
from darts_cli.spaces.space import Space

ROW, SIZE = 26.0, 12.0  # height of a row, and of its letters
DARK = OPERATIONS["sep_conv_3x3"]


def heat_map(space: Space, kind: str, table: Sequence[Sequence[float]], taken: set[tuple[int, int, str]]) -> Scene:
    """The operation weights of a kind of cell, in percent; what the cell takes, by (input, node, operation), is framed.

    The colour goes by the square root of a weight, the same in all epochs.
    """
    states, choices = state_names(space.macro, space.nodes), space.choices(kind)
    uniform = len(set(choices)) == 1  # or else every edge has operations of its own, named beside the weights
    column = max(width(op if uniform else f"{op} 00.0", SIZE) for ops in choices for op in ops) * 1.2 + 12
    left = 96.0
    groups = []
    if uniform:
        heads = [Words(left + (k + 0.5) * column, ROW / 2, op, SIZE, INK) for k, op in enumerate(choices[0])]
        groups.append(Group("title", "operations", tuple(heads)))
    for row, ((state, node), ops, weights) in enumerate(zip(space.edges(), choices, table, strict=True)):
        y = ROW * (row + 1.5)
        shapes = [Words(left / 2, y, f"{_plain(states[state])} to {states[node]}", SIZE, INK)]
        for k, (op, weight) in enumerate(zip(ops, weights, strict=True)):
            box = Box(left + (k + 0.5) * column, y, column - 2, ROW - 2)
            colour = mixed(PAPER, DARK, math.sqrt(min(1.0, max(0.0, weight))))
            frame = CHANGED if (state, node, op) in taken else None
            shapes.append(Rectangle(box, 2.0, colour, frame, 2.5))
            words = f"{100 * weight:.1f}" if uniform else f"{op} {100 * weight:.1f}"
            shapes.append(Words(box.x, box.y, words, SIZE, on(colour)))
        groups.append(Group("row", f"row-{row}", tuple(shapes)))
    wide = left + column * max(map(len, choices)) + 6
    return Scene(wide, ROW * (len(table) + 1) + 6, groups, f"operation weights of the {kind} cell in percent")


def _plain(state: str) -> str:
    """A state without the marks of a subscript, which a line with other words cannot have: c_{k-2} is c k-2."""
    return state.replace("_{", " ").replace("}", "")
