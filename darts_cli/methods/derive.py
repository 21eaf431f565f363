"""From operation weights to cells (sec. 2.4), and the entropy that tells how decided a search is. No torch."""

import math
from collections.abc import Mapping, Sequence

from darts_cli.genotype import Cell, Edge, Genotype
from darts_cli.spaces.space import Space

Table = Sequence[Sequence[float]]  # one row per edge, one column per operation


def derive(strength: Mapping[str, Table], space: Space) -> Genotype:
    """The discrete cells of the operation weights of each kind of cell."""
    cells = {cell: derive_cell(strength[cell], space, cell) for cell in space.cells}
    return Genotype(space.domain, cells, space=space.genotype_space)


def derive_cell(strength: Table, space: Space, cell: str) -> Cell:
    """The discrete cell of a table of operation weights (sec. 2.4).

    Per edge the strongest operation except `none`; per node the strongest inputs, as many as the space keeps, strongest first.
    Ties go to the operation listed first and to the lower input. Where a space keeps all edges, they stand in order, each with
    its strongest operation, `none` included.
    """
    nodes = []
    for rows, choices in zip(space.by_node(strength), space.by_node(space.choices(cell)), strict=True):
        best = [max(space.chosen(ops), key=row.__getitem__) for row, ops in zip(rows, choices, strict=True)]
        strongest = sorted(range(len(rows)), key=lambda j: -rows[j][best[j]])[: space.keep] if space.keep else range(len(rows))
        nodes.append(tuple(Edge(choices[j][best[j]], j) for j in strongest))
    return Cell(tuple(nodes), space.joined())


def entropy(strength: Mapping[str, Table]) -> float:
    """Mean entropy of the operation weights over all edges of some tables, in nats.

    For eight operations it falls from ln 8 = 2.08 (undecided) to 0 (decided).
    """
    edges = [row for table in strength.values() for row in table]
    return sum(-p * math.log(p) for row in edges for p in row if p > 0) / len(edges)
