"""Cells drawn with characters, and as the source of a graph for Graphviz."""

from darts_cli.describe import FIGURES, state_names
from darts_cli.genotype import Cell, Genotype
from darts_cli.pictures import colours
from darts_cli.pictures.cells.figure import sources, taken


def dot(cell: Cell, macro: str) -> str:
    """The graph of a cell in the language of Graphviz, for those who want to lay it out themselves."""
    names, output = state_names(macro, len(cell.nodes)), FIGURES[macro].output
    lines = ['rankdir=LR; node [shape=box style=rounded fontname="Helvetica"]; edge [fontname="Helvetica"]']
    lines += [f'"{name}" -> "{names[0]}"' for name in sources(macro)]
    lines += [
        f'"{names[state]}" -> "{names[node]}" [label="{op}" color="{colours.operation(op)}"]'
        for (state, node, _), op in taken(cell, macro).items()
    ]
    lines += [f'"{names[state]}" -> "{output}" [color="{colours.LINE}"]' for state in cell.concat]
    return "digraph {\n" + "".join(f"\t{line}\n" for line in lines) + "}\n"


def text(genotype: Genotype) -> str:
    """The cells drawn with characters, one line per edge."""
    macro, rows = genotype.macro, []
    for name, cell in genotype.cells.items():
        names = state_names(macro, len(cell.nodes))
        edges = [[(names[edge.input], edge.op) for edge in node] for node in cell.nodes]
        if sources(macro):
            edges.insert(0, [(source, "") for source in sources(macro)])
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
