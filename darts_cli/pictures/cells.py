"""Cells as graphs, after the figures of the paper: inputs green, nodes blue, the output yellow; and as text."""

import json
import subprocess
from collections.abc import Sequence

import graphviz

from darts_cli import DartsError
from darts_cli.describe import CELL_INPUTS, OUTPUTS, state_names, unused
from darts_cli.genotype import Cell, Genotype
from darts_cli.spaces import SPACES

INSTALL = "install it, for example with `apt install graphviz` or `brew install graphviz`"
_GRAPH = {"rankdir": "LR", "nodesep": "0.3", "ranksep": "0.6"}
_NODE = {"shape": "box", "style": "filled,rounded", "fontname": "Helvetica", "fontsize": "18", "penwidth": "1.5"}
_EDGE = {"fontname": "Helvetica", "fontsize": "14"}
_EDGES = ("#1b7837", "#762a83", "#2166ac", "#b35806", "#c51b7d", "#35978f", "#4d4d4d")  # by input, with their labels
_COLOURS = {"input": "darkseagreen2", "node": "lightblue", "output": "palegoldenrod"}


class NoGraphviz(DartsError):
    """The program `dot` is missing."""


def graph(cell: Cell, domain: str) -> graphviz.Digraph:
    """The graph of a cell: its inputs, nodes and output, every edge with the name of its operation.

    The output joins the nodes in `concat` only. A node without a way to the output is dashed.
    """
    names = state_names(domain, len(cell.nodes))
    found = _canvas("dot")
    _add_nodes(found, domain, names, [names[i] for i in unused(cell, domain)])
    first = SPACES[domain].inputs
    for i, node in enumerate(cell.nodes, first):
        for edge in node:
            found.edge(names[edge.input], names[i], label=edge.op, **_coloured(edge.input))
    for state in cell.concat:
        found.edge(names[state], OUTPUTS[domain])
    return found


def render(source: graphviz.Digraph, form: str, **options) -> bytes:
    """The graph as "pdf", "svg" or "png". Raises NoGraphviz, or DartsError when Graphviz fails."""
    try:
        return source.pipe(format=form, **options)
    except graphviz.ExecutableNotFound:
        raise NoGraphviz(f"the program `dot` of Graphviz is missing; {INSTALL}") from None
    except (graphviz.CalledProcessError, subprocess.SubprocessError, OSError) as error:
        raise DartsError(f"Graphviz could not draw this: {' '.join(str(error).split())[:200]}") from None


class Film:
    """A cell of a search over its epochs, every node and edge in one place from the first to the last.

    The places are those of the graph of all edges that were ever there; `frame` shows some of them.
    """

    def __init__(self, cells: Sequence[Cell], domain: str):
        self.domain = domain
        self.names = state_names(domain, len(cells[0].nodes))
        first = SPACES[domain].inputs
        longest = max(SPACES[domain].searched, key=len)
        union = _canvas("dot")
        _add_nodes(union, domain, self.names, [])
        for state, i in sorted(
            {(edge.input, i) for cell in cells for i, node in enumerate(cell.nodes, first) for edge in node}
        ):
            union.edge(self.names[state], self.names[i], label=longest, id=f"{state}-{i}", **_coloured(state))
        for state in cells[0].concat:
            union.edge(self.names[state], OUTPUTS[domain])
        self.layout = json.loads(render(union, "json"))

    def frame(self, cell: Cell | None = None, title: str = "") -> graphviz.Digraph:
        """The graph with the edges of a cell; without one all edges. An id of an edge is INPUT-NODE, as states."""
        shown = {}
        for i, node in enumerate(cell.nodes if cell else (), SPACES[self.domain].inputs):
            shown |= {f"{edge.input}-{i}": edge.op for edge in node}
        found = _canvas("neato")
        found.attr(bb=self.layout["bb"], label=title, labelloc="t", fontname="Helvetica", fontsize="18")
        _add_nodes(found, self.domain, self.names, [], {each["name"]: each for each in self.layout["objects"]})
        objects = [each["name"] for each in self.layout["objects"]]
        for edge in self.layout["edges"]:
            place = {"pos": edge["pos"]}
            if "lp" in edge:
                place |= {"lp": edge["lp"], "label": shown.get(edge["id"], edge["label"])}
                place |= {key: edge[key] for key in ("id", "color", "fontcolor")}
                if cell is not None and edge["id"] not in shown:
                    place["style"] = "invis"
            found.edge(objects[edge["tail"]], objects[edge["head"]], **place)
        return found

    def picture(self, form: str, *args, **options) -> bytes:
        """A frame as "png" or "svg"; arguments are those of `frame`."""
        return render(self.frame(*args, **options), form, neato_no_op=2)


def _coloured(state: int) -> dict[str, str]:
    colour = _EDGES[state % len(_EDGES)]
    return {"color": colour, "fontcolor": colour}


def _canvas(engine: str) -> graphviz.Digraph:
    return graphviz.Digraph(engine=engine, graph_attr=_GRAPH, node_attr=_NODE, edge_attr=_EDGE)


def _add_nodes(
    found: graphviz.Digraph, domain: str, names: list[str], dashed: list[str], places: dict[str, dict] | None = None
) -> None:
    """All nodes in their colours and, where these are given, at their places; in recurrent cells the edges into state 0."""

    def add(name: str, kind: str) -> None:
        place = {key: places[name][key] for key in ("pos", "width", "height")} if places else {}
        style = {"style": "filled,rounded,dashed"} if name in dashed else {}
        found.node(name, fillcolor=_COLOURS[kind], **style, **place)

    inputs, output = CELL_INPUTS[domain], OUTPUTS[domain]
    for name in inputs:
        add(name, "input")
    for name in names:
        if name not in inputs:
            add(name, "node")
    add(output, "output")
    if domain == "rnn" and places is None:
        for name in inputs:
            found.edge(name, names[0])


def text(genotype: Genotype) -> str:
    """The cells drawn with characters, a line an edge."""
    domain, drawn = genotype.domain, []
    for name, cell in genotype.cells.items():
        names = state_names(domain, len(cell.nodes))
        rows = [[(state, "") for state in CELL_INPUTS[domain]]] if domain == "rnn" else []
        rows += [[(names[edge.input], edge.op) for edge in node] for node in cell.nodes]
        width = max(len(state) for row in rows for state, _ in row)
        ops = max(len(op) for row in rows for _, op in row)
        drawn.append(name)
        for target, row in zip(names[2 if domain == "cnn" else 0 :], rows, strict=True):
            for k, (state, op) in enumerate(row):
                word = f" {op} " if op else "──"
                joint = _joint(k, len(row), target)
                drawn.append(f"  {state:>{width}} ──{word}{'─' * (ops + 2 - len(word))}──{joint}")
        joined = " ".join(names[state] for state in cell.concat)
        drawn.append(f"  {joined} ──▶ {OUTPUTS[domain]}")
    return "\n".join(drawn) + "\n"


def _joint(k: int, count: int, target: str) -> str:
    """The end of the k-th of so many edges into a node."""
    if count == 1:
        return f"──▶ {target}"
    return f"┬─▶ {target}" if k == 0 else "┘" if k == count - 1 else "┤"
