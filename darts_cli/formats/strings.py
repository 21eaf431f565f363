"""Cells as strings: |op~input|...| per node, joined by +.

A cell of NAS-Bench-201 is one string. A normal and a reduction cell are two, and a recurrent cell is one; each may have the
name of the cell before it.
"""

import re
import reprlib

from darts_cli import DartsError
from darts_cli.genotype import Genotype
from darts_cli.spaces.operations import is_known
from darts_cli.spaces.space import default

_EDGE = re.compile(r"([a-z0-9_]+)~(\d{1,4})", re.ASCII)
_NODE = re.compile(r"\|(?:[a-z0-9_]+~\d{1,4}\|)+", re.ASCII)


def half(cell: str | None, string: str) -> bool:
    """Whether a string is the normal or the reduction cell of a genotype: by its name, or as its first node has input 1."""
    return cell in ("normal", "reduce") or (cell is None and "~1|" in string.partition("+")[0])


def plain(strings: list[tuple[str | None, str]]) -> dict:
    """The plain form of the genotype in strings, each with the name of its cell, if it has one. Raises DartsError."""
    if len(strings) == 1 and not half(*strings[0]):
        cell, string = strings[0]
        nodes = _nodes(string)
        if cell == "recurrent" or _is_recurrent(nodes):
            return {"domain": "rnn", "recurrent": _cell(nodes, "rnn")}
        return _nas_bench_201(string, nodes)
    space = default("cnn")
    if len(strings) != len(space.cells):
        alone = "; alone stands a cell of NAS-Bench-201, whose first node has the input 0 only: |op~0|+|op~0|op~1|+..."
        raise DartsError(f"in the domain cnn there must be one line for each of {', '.join(space.cells)}{alone}")
    (first, one), (second, other) = strings
    names = reversed(space.cells) if first == "reduce" or second == "normal" else space.cells
    return {"domain": "cnn"} | {name: _cell(_nodes(string), "cnn") for name, string in zip(names, (one, other), strict=True)}


def _nodes(string: str) -> list[list]:
    """The edges [operation, input] of every node."""
    nodes = string.split("+")
    for i, node in enumerate(nodes):
        if not _NODE.fullmatch(node):
            wrong = f"node {i} is {reprlib.repr(node)}"
            raise DartsError(
                f"{reprlib.repr(string)}: must be nodes joined by +, each written |operation~input|...|, but {wrong}"
            )
    return [[[op, int(state)] for op, state in _EDGE.findall(node)] for node in nodes]


def _cell(nodes: list[list], domain: str) -> dict:
    return {"nodes": nodes, "concat": list(default(domain).states(len(nodes)))}


def _is_recurrent(nodes: list[list]) -> bool:
    """Whether no operation is one for images, and some is one for text or every node has one edge."""
    operations = {op for node in nodes for op, _ in node} - {"none"}
    if any(is_known("cnn", op) for op in operations):
        return False
    return any(is_known("rnn", op) for op in operations) or all(len(node) == 1 for node in nodes)


def _nas_bench_201(string: str, nodes: list[list]) -> dict:
    for i, node in enumerate(nodes):
        if [state for _, state in node] != list(range(i + 1)):
            rule = (
                "a cell of NAS-Bench-201 is written |op~0|+|op~0|op~1|+|op~0|op~1|op~2|, with an edge from every earlier state"
            )
            raise DartsError(f"{reprlib.repr(string)}: {rule}, in order, but node {i} is {write([node])}")
    return {"domain": "cnn", "space": "nas-bench-201", "cell": {"nodes": nodes, "concat": [len(nodes)]}}


def write(nodes) -> str:
    """The string of a cell."""
    return "+".join("|" + "".join(f"{op}~{state}|" for op, state in node) for node in nodes)


def to_string(genotype: Genotype) -> str:
    """NAS-Bench-201's notation; other cells have one line each, and must join all nodes. Raises DartsError."""
    if genotype.macro == "nas-bench-201":
        return write(genotype.cells["cell"].nodes) + "\n"
    lines = []
    for name, cell in genotype.cells.items():
        if cell.concat != default(genotype.domain).states(len(cell.nodes)):
            raise DartsError(f"{name}: strings express cells whose output joins all nodes; use --to dict for this genotype")
        lines.append(f"{name} {write(cell.nodes)}")
    return "\n".join(lines) + "\n"
