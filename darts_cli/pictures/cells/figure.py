"""The picture of a cell: nodes in grey, operations in their colours on the edges, output edges in the background."""

from collections.abc import Mapping, Sequence

from darts_cli.describe import FIGURES, state_names, unused
from darts_cli.genotype import Cell
from darts_cli.pictures import colours
from darts_cli.pictures.cells.layout import Layout, Link, arrange
from darts_cli.pictures.cells.shapes import Group, Line, Rectangle, Scene, Words, width
from darts_cli.spaces.space import MACROS

NODE_SIZE, OPERATION_SIZE, TITLE_SIZE = 16.0, 13.0, 16.0  # of letters
NODE_HEIGHT, OPERATION_HEIGHT, TITLE_HEIGHT = 34.0, 24.0, 34.0
PLAIN, OUTPUT = 1.8, 1.1  # widths of edges: those whose weight is not known, and those to the output
THIN, THICK = 1.2, 4.6  # those of the weights 0 and the largest


class Film:
    """A cell over the epochs of a search; every node and edge keeps its position.

    The layout is that of the union of all edges of all epochs; `frame` shows those of one epoch.
    """

    def __init__(self, cells: Sequence[Cell], macro: str):
        self.macro = macro
        self.names = state_names(macro, max(len(cell.nodes) for cell in cells))
        self.concat = sorted({state for cell in cells for state in cell.concat})
        self.edges = sorted({place for cell in cells for place in taken(cell, macro)}, key=lambda place: (place[1], place))
        operations = {edge.op for cell in cells for node in cell.nodes for edge in node}
        self.label = (max(width(op, OPERATION_SIZE) for op in operations) * 1.2 + 18, OPERATION_HEIGHT)
        self.layout = self._arranged()

    def frame(self, cell: Cell, before: Cell | None = None, weights: Mapping | None = None, title: str = "") -> Scene:
        """The picture with the edges of one of the cells.

        An operation that the cell before did not have is marked. Weights, by (input state, node state), as shares of the
        largest, give the widths of the edges; an edge or a node that is not in the cell is hidden.
        """
        ops = taken(cell, self.macro)
        old = ops if before is None else taken(before, self.macro)
        shown = {*self.names[: MACROS[self.macro].inputs + len(cell.nodes)], *FIGURES[self.macro].inputs}
        shown.add(FIGURES[self.macro].output)
        groups = self._quiet_edges(cell)
        for k, place in enumerate(self.edges):
            share = None if weights is None else weights.get(place[:2], 0.0)
            op = ops.get(place, "")
            groups.append(self._edge(k, op, share, op != "" and old.get(place) != op))
        groups += self._nodes(cell, shown)
        height = self.layout.height
        if not title:
            return Scene(self.layout.width, height, groups, described(cell, self.macro))
        words = Words(self.layout.width / 2, -TITLE_HEIGHT / 2 + 6, title, TITLE_SIZE, colours.INK)
        groups.append(Group("title", "title", (words,)))
        return Scene(self.layout.width, height, groups, f"{title}: {described(cell, self.macro)}", -TITLE_HEIGHT)

    def _arranged(self) -> Layout:
        figure = FIGURES[self.macro]
        columns = dict.fromkeys(figure.inputs, 0)
        columns |= {name: 0 if name in figure.inputs else 1 for name in figure.states}
        for name in self.names[MACROS[self.macro].inputs :]:
            columns[name] = 2
        for state, node, _ in self.edges:  # in the order of the nodes
            columns[self.names[node]] = max(columns[self.names[node]], columns[self.names[state]] + 2)
        columns[figure.output] = 1 + max(columns.values())
        sizes = {name: (max(NODE_HEIGHT, width(name, NODE_SIZE) * 1.2 + 20), NODE_HEIGHT) for name in columns}
        links = [Link(self.names[state], self.names[node], self.label) for state, node, _ in self.edges]
        links += [Link(name, self.names[0]) for name in sources(self.macro)]
        links += [Link(self.names[state], figure.output) for state in self.concat]
        return arrange(sizes, columns, links)

    def _quiet_edges(self, cell: Cell) -> list[Group]:
        """The edges to the output, and those from the inputs of a recurrent cell to its first state."""
        inputs = sources(self.macro)
        wires = [wires[0] for wires in self.layout.wires[len(self.edges) :]]
        lines = [(Line(wire, colours.LINE, OUTPUT, arrow=True),) for wire in wires]
        groups = [Group("source", f"{name}-source", line) for name, line in zip(inputs, lines, strict=False)]
        for state, line in zip(self.concat, lines[len(inputs) :], strict=True):
            groups.append(Group("output", f"{state}-out", line, state not in cell.concat))
        return groups

    def _edge(self, k: int, op: str, share: float | None, changed: bool) -> Group:
        box, (before, after) = self.layout.labels[k], self.layout.wires[k]
        colour, dotted = colours.operation(op), op == "none"
        stroke = PLAIN if share is None else THIN + (THICK - THIN) * share
        lines = Line(before, colour, stroke, dotted=dotted), Line(after, colour, stroke, arrow=True, dotted=dotted)
        around = box._replace(width=box.width + 7, height=box.height + 7)
        mark = (Rectangle(around, 15.0, None, colours.CHANGED, 2.0),) if changed else ()
        label = Rectangle(box, 12.0, colour), Words(box.x, box.y, op, OPERATION_SIZE, colours.on(colour))
        return Group("edge", edge_name(self.edges[k]), (*lines, *mark, *label), not op)

    def _nodes(self, cell: Cell, shown: set[str]) -> list[Group]:
        dead = {self.names[state] for state in unused(cell, self.macro)}
        figure = FIGURES[self.macro]
        groups = []
        for name, box in self.layout.nodes.items():
            fill = colours.INPUT if name in (*figure.inputs, figure.output) else colours.PAPER
            frame = Rectangle(box, 9.0, fill, colours.INK, 1.5, name in dead)
            words = Words(box.x, box.y, name, NODE_SIZE, colours.INK)
            groups.append(Group("node", f"node-{name}", (frame, words), name not in shown))
        return groups


def scene(cell: Cell, macro: str) -> Scene:
    """The picture of one cell. A node without a path to the output is dashed."""
    return Film([cell], macro).frame(cell)


def taken(cell: Cell, macro: str) -> dict[tuple[int, int, int], str]:
    """The operations of a cell by (input state, node state, how many edges of the node had this input before)."""
    found: dict[tuple[int, int, int], str] = {}
    for i, node in enumerate(cell.nodes, MACROS[macro].inputs):
        for edge in node:
            repeated = sum(place[:2] == (edge.input, i) for place in found)
            found[edge.input, i, repeated] = edge.op
    return found


def edge_name(place: tuple[int, int, int]) -> str:
    """The name of an edge in a picture, INPUT-NODE; the second one between the same states ends in -1."""
    return "-".join(map(str, place if place[2] else place[:2]))


def described(cell: Cell, macro: str) -> str:
    """The cell in words, for those who cannot see its picture."""
    names = state_names(macro, len(cell.nodes))
    nodes = [
        f"node {names[i]} sums " + " and ".join(f"{edge.op} of {names[edge.input]}" for edge in node)
        for i, node in enumerate(cell.nodes, MACROS[macro].inputs)
    ]
    joined = ", ".join(names[state] for state in cell.concat)
    return "; ".join([*nodes, f"the output {FIGURES[macro].output} joins {joined}"])


def sources(macro: str) -> tuple[str, ...]:
    """The inputs that are no states themselves: they make the first state of a recurrent cell."""
    figure = FIGURES[macro]
    return tuple(name for name in figure.inputs if name not in figure.states)
