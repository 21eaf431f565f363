"""Cells as graphs in the style of the paper's figures (inputs green, nodes blue, the output yellow), and as text."""

import json
import subprocess
from collections.abc import Sequence

import graphviz

from darts_cli import DartsError
from darts_cli.describe import FIGURES, state_names, unused
from darts_cli.genotype import Cell, Genotype
from darts_cli.spaces.space import MACROS

INSTALL = "install it, for example with `apt install graphviz` or `brew install graphviz`"
_GRAPH = {"rankdir": "LR", "nodesep": "0.3", "ranksep": "0.6"}
_NODE = {"shape": "box", "style": "filled,rounded", "fontname": "Helvetica", "fontsize": "18", "penwidth": "1.5"}
_EDGE = {"fontname": "Helvetica", "fontsize": "14"}
_EDGE_COLOURS = ("#1b7837", "#762a83", "#2166ac", "#b35806", "#c51b7d", "#35978f", "#4d4d4d")  # by input
_INPUT, _INNER, _OUTPUT = "darkseagreen2", "lightblue", "palegoldenrod"


class NoGraphviz(DartsError):
    """The program `dot` is missing."""


def graph(cell: Cell, macro: str) -> graphviz.Digraph:
    """The graph of a cell: its inputs, nodes and output, every edge with the name of its operation.

    Only the nodes in `concat` are joined to the output. A node without a path to the output is dashed.
    """
    names = state_names(macro, len(cell.nodes))
    drawing = _canvas("dot")
    _add_nodes(drawing, macro, names, dashed=[names[i] for i in unused(cell, macro)])
    for name in _sources(macro):
        drawing.edge(name, names[0])
    for i, node in enumerate(cell.nodes, MACROS[macro].inputs):
        for edge in node:
            drawing.edge(
                names[edge.input],
                names[i],
                label=edge.op,
                **_coloured(edge.input),
                **({"style": "dotted"} if edge.op == "none" else {}),
            )
    for state in cell.concat:
        drawing.edge(names[state], FIGURES[macro].output)
    return drawing


def render(source: graphviz.Digraph, form: str, **options) -> bytes:
    """The graph as "pdf", "svg" or "png". Raises NoGraphviz, or DartsError when Graphviz fails."""
    try:
        return source.pipe(format=form, **options)
    except graphviz.ExecutableNotFound:
        raise NoGraphviz(f"the program `dot` of Graphviz is missing; {INSTALL}") from None
    except (graphviz.CalledProcessError, subprocess.SubprocessError, OSError) as error:
        raise DartsError(f"Graphviz could not draw this: {' '.join(str(error).split())[:200]}") from None


class Film:
    """A cell over the epochs of a search; every node and edge keeps its position.

    The layout is that of the union of all edges; `frame` shows those of one epoch.
    """

    def __init__(self, cells: Sequence[Cell], macro: str):
        self.macro = macro
        self.names = state_names(macro, len(cells[0].nodes))
        first = MACROS[macro].inputs
        longest = max((edge.op for cell in cells for node in cell.nodes for edge in node), key=len)
        edges = {(edge.input, i) for cell in cells for i, node in enumerate(cell.nodes, first) for edge in node}
        union = _canvas("dot")
        _add_nodes(union, macro, self.names)
        for name in _sources(macro):
            union.edge(name, self.names[0])
        for state, i in sorted(edges):
            union.edge(self.names[state], self.names[i], label=longest, id=f"{state}-{i}", **_coloured(state))
        for state in cells[0].concat:
            union.edge(self.names[state], FIGURES[macro].output)
        self.layout = json.loads(render(union, "json"))

    def frame(self, cell: Cell | None = None, title: str = "") -> graphviz.Digraph:
        """The graph with the edges of a cell, or with all edges. The id of an edge is INPUT-NODE, the numbers of its states."""
        ops = {}
        for i, node in enumerate(cell.nodes if cell else (), MACROS[self.macro].inputs):
            ops |= {f"{edge.input}-{i}": edge.op for edge in node}
        drawing = _canvas("neato")
        drawing.attr(bb=self.layout["bb"], label=title, labelloc="t", fontname="Helvetica", fontsize="18")
        objects = self.layout["objects"]
        _add_nodes(drawing, self.macro, self.names, layout={node["name"]: node for node in objects})
        for edge in self.layout["edges"]:
            attributes = {"pos": edge["pos"]}
            if "lp" in edge:
                attributes |= {"lp": edge["lp"], "label": ops.get(edge["id"], edge["label"])}
                attributes |= {key: edge[key] for key in ("id", "color", "fontcolor")}
                if cell is not None and edge["id"] not in ops:
                    attributes["style"] = "invis"
                elif ops.get(edge["id"]) == "none":
                    attributes["style"] = "dotted"
            drawing.edge(objects[edge["tail"]]["name"], objects[edge["head"]]["name"], **attributes)
        return drawing

    def picture(self, form: str, *args, **options) -> bytes:
        """A frame as "png" or "svg"; the other arguments are those of `frame`."""
        return render(self.frame(*args, **options), form, neato_no_op=2)


def _coloured(state: int) -> dict[str, str]:
    colour = _EDGE_COLOURS[state % len(_EDGE_COLOURS)]
    return {"color": colour, "fontcolor": colour}


def _canvas(engine: str) -> graphviz.Digraph:
    return graphviz.Digraph(engine=engine, graph_attr=_GRAPH, node_attr=_NODE, edge_attr=_EDGE)


def _sources(macro: str) -> tuple[str, ...]:
    """The inputs that are no states themselves: they make the first state of a recurrent cell."""
    figure = FIGURES[macro]
    return tuple(name for name in figure.inputs if name not in figure.states)


def _add_nodes(drawing: graphviz.Digraph, macro: str, names: list[str], dashed: Sequence[str] = (), layout=None) -> None:
    """All nodes in their colours and, given a layout, at their positions."""
    figure = FIGURES[macro]
    inner = [name for name in names if name not in figure.inputs]
    colours = dict.fromkeys(figure.inputs, _INPUT) | dict.fromkeys(inner, _INNER) | {figure.output: _OUTPUT}
    for name, colour in colours.items():
        position = {key: layout[name][key] for key in ("pos", "width", "height")} if layout else {}
        style = {"style": "filled,rounded,dashed"} if name in dashed else {}
        drawing.node(name, fillcolor=colour, **style, **position)


def text(genotype: Genotype) -> str:
    """The cells drawn with characters, one line per edge."""
    macro, rows = genotype.macro, []
    for name, cell in genotype.cells.items():
        names = state_names(macro, len(cell.nodes))
        edges = [[(names[edge.input], edge.op) for edge in node] for node in cell.nodes]
        if _sources(macro):
            edges.insert(0, [(source, "") for source in _sources(macro)])
        targets = names[len(names) - len(edges) :]
        width = max(len(state) for node in edges for state, _ in node)
        op_width = max(len(op) for node in edges for _, op in node) + 2
        rows.append(name)
        for target, node in zip(targets, edges, strict=True):
            for (state, op), joint in zip(node, _joints(len(node), target), strict=True):
                rows.append(f"  {state:>{width}} ──{f' {op} ' if op else '──':─<{op_width}}──{joint}")
        joined = " ".join(names[state] for state in cell.concat)
        rows.append(f"  {joined} ──▶ {FIGURES[macro].output}")
    return "\n".join(rows) + "\n"


def _joints(count: int, target: str) -> list[str]:
    """The right ends of so many edges into one node."""
    if count == 1:
        return [f"──▶ {target}"]
    return [f"┬─▶ {target}", *["┤"] * (count - 2), "┘"]
