"""What can be said of a cell without running it: the names of its states, its depth, what nothing uses, how two differ."""

from darts_cli import DartsError
from darts_cli.genotype import Cell, Genotype
from darts_cli.spaces import MANY_SKIPS, SPACES

OUTPUTS = {"cnn": "c_{k}", "rnn": "h_{t}"}
CELL_INPUTS = {"cnn": ("c_{k-2}", "c_{k-1}"), "rnn": ("x_{t}", "h_{t-1}")}


def state_names(domain: str, nodes: int) -> list[str]:
    """The states of a cell of so many nodes, named as in the paper's figures.

    Convolutional: both inputs, then the nodes from 0 on. Recurrent: state 0, made of both inputs, then the nodes from 1 on.
    """
    inputs = list(CELL_INPUTS["cnn"]) if domain == "cnn" else ["0"]
    first = len(inputs) if domain == "rnn" else 0
    return inputs + [str(first + i) for i in range(nodes)]


def depth(cell: Cell, domain: str) -> int:
    """Operations on the longest way through the cell, from an input to what its output joins."""
    depths = [0] * SPACES[domain].inputs
    for node in cell.nodes:
        depths.append(1 + max(depths[edge.input] for edge in node))
    return max(depths[state] for state in cell.concat)


def unused(cell: Cell, domain: str) -> list[int]:
    """The states that are nodes and have no way to the output."""
    first = SPACES[domain].inputs
    used = set(cell.concat)
    for i, node in reversed(list(enumerate(cell.nodes, first))):
        used |= {edge.input for edge in node} if i in used else set()
    return [i for i in range(first, first + len(cell.nodes)) if i not in used]


def collapsed(genotype: Genotype) -> str | None:
    """A warning where the cells look like those of a search that has collapsed into skip connections."""
    skips = genotype.cells["normal"].count("skip_connect") if genotype.domain == "cnn" else 0
    if skips < MANY_SKIPS:
        return None
    return (
        f"the normal cell has {skips} skip connections. Searches that collapse end like this; such cells usually train badly. "
        "Search with other seeds, or for fewer epochs."
    )


def about(genotype: Genotype) -> dict:
    """Everything of the above, as plain data; skip connections are identities in recurrent cells."""
    domain = genotype.domain
    op, what = ("skip_connect", "skip_connections") if domain == "cnn" else ("identity", "identities")
    cells = {}
    for name, cell in genotype.cells.items():
        states = state_names(domain, len(cell.nodes))
        cells[name] = {
            "nodes": len(cell.nodes),
            "depth": depth(cell, domain),
            what: cell.count(op),
            "unused": [states[i] for i in unused(cell, domain)],
        }
    return {"name": genotype.name, "domain": domain, "hash": genotype.hash(), "source": genotype.source, "cells": cells}


def differences(one: Genotype, other: Genotype) -> list[tuple[str, str, str]]:
    """What differs, as (place, in one, in the other), the order of the edges within a node not counted; empty where nothing is
    there. Raises DartsError when they are of different domains."""
    if one.domain != other.domain:
        raise DartsError(
            f"they are of different domains, {one.domain} and {other.domain}, and have no cell in common; name two of one"
        )
    found = []
    for name, cell in one.cells.items():
        theirs = other.cells[name]
        for i in range(max(len(cell.nodes), len(theirs.nodes))):
            mine, second = (sorted(each.nodes[i]) if i < len(each.nodes) else [] for each in (cell, theirs))
            both = [edge for edge in mine if edge in second]
            for edge in both:  # one at a time: a node may hold an edge twice
                if edge in mine and edge in second:
                    mine.remove(edge)
                    second.remove(edge)
            if mine or second:
                found.append((f"{name}.nodes[{i}]", _edges(mine), _edges(second)))
        if cell.concat != theirs.concat:
            found.append((f"{name}.concat", str(list(cell.concat)), str(list(theirs.concat))))
    return found


def _edges(edges: list) -> str:
    return ", ".join(f"[{edge.op}, {edge.input}]" for edge in edges)
