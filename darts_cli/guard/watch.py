"""What a search watches of itself, to notice that its cells collapse."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from darts_cli.genotype import Genotype
from darts_cli.spaces.space import Space

PARAMETER_FREE = ("none", "skip_connect", "max_pool_3x3", "avg_pool_3x3", "noise")


def parameter_free(cells: Genotype) -> float:
    """The share of the edges, of all cells, whose operation has no weights of its own (at stride 1)."""
    edges = [edge for cell in cells.cells.values() for node in cell.nodes for edge in node]
    return sum(edge.op in PARAMETER_FREE for edge in edges) / len(edges)


def eigenvalues(records: Sequence[Mapping]) -> str:
    """How the largest eigenvalue of the Hessian went, in words; nothing where there is none."""
    found = [(record["epoch"], record["eigenvalue"]) for record in records if "eigenvalue" in record]
    if not found:
        return ""
    shown = [f"{value:.3g} after epoch {epoch}" for epoch, value in (found[0], max(found, key=lambda pair: pair[1]), found[-1])]
    return f"Largest eigenvalue of the Hessian in alpha: {shown[0]}, at most {shown[1]}, {shown[2]}, the last."


def discrete(cells: Genotype, space: Space, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The operation weights of discrete cells in the search network: 1 for what they have, 0 for the rest."""
    tables, row_of = {}, {edge: row for row, edge in enumerate(space.edges())}
    for kind, cell in cells.cells.items():
        table = torch.zeros_like(like[kind])
        for state, node in enumerate(cell.nodes, space.inputs):
            for edge in node:
                row = row_of[edge.input, state]
                table[row, space.choices(kind)[row].index(edge.op)] = 1.0
        tables[kind] = table
    return tables
