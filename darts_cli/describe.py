"""Facts about a cell that need no network: the names of its states, its depth, unused nodes, differences between two cells."""

import math
from typing import NamedTuple

from darts_cli import DartsError
from darts_cli.genotype import Cell, Genotype
from darts_cli.spaces.space import MACROS, MANY_SKIPS


class Figure(NamedTuple):
    """How the papers' figures show the cells of a macro structure."""

    inputs: tuple[str, ...]
    states: tuple[str, ...]  # before the first node: the inputs themselves, or the state that is made of them
    output: str
    identity: str  # the operation that passes its input on
    identities: str  # what these are called


FIGURES = {  # by macro structure
    "darts": Figure(("c_{k-2}", "c_{k-1}"), ("c_{k-2}", "c_{k-1}"), "c_{k}", "skip_connect", "skip connections"),
    "nas-bench-201": Figure(("0",), ("0",), "c_{k}", "skip_connect", "skip connections"),
    "darts-rnn": Figure(("x_{t}", "h_{t-1}"), ("0",), "h_{t}", "identity", "identities"),
}


def state_names(macro: str, nodes: int) -> list[str]:
    """The states of a cell of so many nodes: inputs named as in the papers' figures, nodes by the index of their state."""
    first = FIGURES[macro].states
    return [*first, *(str(len(first) + i) for i in range(nodes))]


def cell_name(kind: str) -> str:
    """How a kind of cell is called in a sentence: the normal cell, or just the cell where there is only one kind."""
    return kind if kind == "cell" else f"{kind} cell"


def depth(cell: Cell, macro: str) -> int:
    """Operations on the longest path from an input to a state that the output joins; `none` ends a path."""
    depths: list[float] = [0] * MACROS[macro].inputs
    for node in cell.nodes:
        depths.append(max((1 + depths[edge.input] for edge in node if edge.op != "none"), default=-math.inf))
    return int(max(0, *(depths[state] for state in cell.concat)))


def unused(cell: Cell, macro: str) -> list[int]:
    """The states of nodes from which no path leads to the output."""
    nodes = list(enumerate(cell.nodes, MACROS[macro].inputs))
    used = set(cell.concat)
    for state, node in reversed(nodes):
        used |= {edge.input for edge in node if edge.op != "none"} if state in used else set()
    return [state for state, _ in nodes if state not in used]


def collapsed(genotype: Genotype) -> str | None:
    """A warning if a cell lets nothing through, or if the normal cell, or the only one, has so many skip connections that the
    search has probably collapsed."""
    closed = [kind for kind, cell in genotype.cells.items() if depth(cell, genotype.macro) == 0]
    if closed:
        return (
            f"no path leads through the {cell_name(closed[0])}: each ends in `none`, so such a network cannot learn. "
            "Take the cell of another epoch, RUN@N of epoch N, or search with other seeds."
        )
    kind = MACROS[genotype.macro].cells[0]
    skips = genotype.cells[kind].count("skip_connect")
    if skips < MANY_SKIPS:
        return None
    return (
        f"the {cell_name(kind)} has {skips} skip connections. Collapsed searches end like this, and such cells usually train "
        "badly. Search with --stop, with other seeds, or for fewer epochs."
    )


def about(genotype: Genotype) -> dict:
    """All of these facts as plain data."""
    macro, figure = genotype.macro, FIGURES[genotype.macro]
    cells = {}
    for name, cell in genotype.cells.items():
        states = state_names(macro, len(cell.nodes))
        cells[name] = {
            "nodes": len(cell.nodes),
            "depth": depth(cell, macro),
            figure.identities.replace(" ", "_"): cell.count(figure.identity),
            "unused": [states[state] for state in unused(cell, macro)],
        }
    facts = {"name": genotype.name, "domain": genotype.domain, **({"space": genotype.space} if genotype.space else {})}
    return {**facts, "hash": genotype.hash(), "source": genotype.source, "cells": cells}


def differences(first: Genotype, second: Genotype) -> list[tuple[str, str, str]]:
    """What differs, as (key, edges of the first, edges of the second); the order of the edges within a node does not matter.

    Raises DartsError when the genotypes have different kinds of cells.
    """
    if first.macro != second.macro:
        kind, one, other = (
            ("domains", first.domain, second.domain) if first.domain != second.domain else ("spaces", first.macro, second.macro)
        )
        raise DartsError(f"they are of different {kind}, {one} and {other}, and share no cell; name two genotypes of one kind")
    rows = []
    for name, cell in first.cells.items():
        other = second.cells[name]
        for i in range(max(len(cell.nodes), len(other.nodes))):
            before, after = (sorted(c.nodes[i]) if i < len(c.nodes) else [] for c in (cell, other))
            for edge in list(before):  # edge by edge: a node may have the same edge twice
                if edge in after:
                    before.remove(edge)
                    after.remove(edge)
            if before or after:
                rows.append((f"{name}.nodes[{i}]", _edges(before), _edges(after)))
        if cell.concat != other.concat:
            rows.append((f"{name}.concat", str(list(cell.concat)), str(list(other.concat))))
    return rows


def _edges(edges: list) -> str:
    return ", ".join(f"[{edge.op}, {edge.input}]" for edge in edges)
