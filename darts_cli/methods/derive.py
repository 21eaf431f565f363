"""From operation weights to cells (sec. 2.4), and the entropy that tells how decided a search is. No torch."""

import math
from collections.abc import Callable, Mapping, Sequence

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


def derive_above(strength: Mapping[str, Table], space: Space, threshold: float, rule: Callable = derive) -> Genotype:
    """The cells of a rule without edges whose operation is below a threshold, and without nodes that then have no edge
    (FairDARTS, arXiv 1911.12126). A cell keeps at least the strongest edge of its inputs; a space that keeps all edges, all."""
    found = rule(strength, space)
    if space.keep is None:
        return found
    cells = {}
    for kind, cell in found.cells.items():
        tables = space.by_node(strength[kind])
        nodes_with_weights = [
            [(edge, _weight(tables[i], space, kind, i, edge)) for edge in node] for i, node in enumerate(cell.nodes)
        ]
        from_inputs = [weight for node in nodes_with_weights for edge, weight in node if edge.input < space.inputs]
        least = min(threshold, max(from_inputs))
        number = dict(enumerate(range(space.inputs)))  # of the states that are left
        nodes: list[tuple[Edge, ...]] = []
        for i, node in enumerate(nodes_with_weights):
            kept = [edge for edge, weight in node if weight >= least and edge.input in number]
            if kept:
                number[space.inputs + i] = space.inputs + len(nodes)
                nodes.append(tuple(Edge(edge.op, number[edge.input]) for edge in kept))
        cells[kind] = Cell(tuple(nodes), space.joined(len(nodes)))
    return Genotype(space.domain, cells, space=space.genotype_space)


def derive_pairs(strength: Mapping[str, Table], space: Space) -> Genotype:
    """The cells whose nodes keep their strongest pairs of operation and input, which may share the input (GDAS' own rule).

    A space that keeps all edges has no such rule.
    """
    cells = {}
    for kind in space.cells:
        nodes = []
        for rows, choices in zip(space.by_node(strength[kind]), space.by_node(space.choices(kind)), strict=True):
            pairs = [(j, k) for j, ops in enumerate(choices) for k in space.chosen(ops)]
            best = sorted(pairs, key=lambda pair: -rows[pair[0]][pair[1]])[: space.keep]
            nodes.append(tuple(Edge(choices[j][k], j) for j, k in best))
        cells[kind] = Cell(tuple(nodes), space.joined())
    return Genotype(space.domain, cells, space=space.genotype_space)


def _weight(rows: Table, space: Space, kind: str, node: int, edge: Edge) -> float:
    choices = space.by_node(space.choices(kind))[node][edge.input]
    return rows[edge.input][choices.index(edge.op)]


def at_most_skips(strength: Mapping[str, Table], space: Space, most: int, rule: Callable = derive) -> Genotype:
    """The cells of a rule, with at most so many skip connections in the normal cell (P-DARTS, arXiv 1904.12760).

    While there are more, the kept one with the smallest operation weight gets the weight 0, and the cell is derived again.
    """
    kind = space.cells[0]
    table = [list(row) for row in strength[kind]]
    places = {edge: row for row, edge in enumerate(space.edges())}
    while True:
        found = rule({**strength, kind: table}, space)
        kept = [
            (table[row][space.choices(kind)[row].index("skip_connect")], row)
            for node, edges in enumerate(found.cells[kind].nodes, space.inputs)
            for edge in edges
            if edge.op == "skip_connect"
            for row in [places[edge.input, node]]
        ]
        if len(kept) <= most or min(kept)[0] <= 0:
            return found
        _, row = min(kept)
        table[row][space.choices(kind)[row].index("skip_connect")] = 0.0


def entropy(strength: Mapping[str, Table]) -> float:
    """Mean entropy of the operation weights over all edges of some tables, in nats.

    For eight operations it falls from ln 8 = 2.08 (undecided) to 0 (decided).
    """
    edges = [row for table in strength.values() for row in table]
    sums = [1.0 if abs(sum(row) - 1) < 1e-5 else sum(row) or 1.0 for row in edges]  # of softmax weights, without rounding, 1
    return sum(-p / s * math.log(p / s) for row, s in zip(edges, sums, strict=True) for p in row if p > 0) / len(edges)


def undecided(strength: Mapping[str, Table]) -> float | None:
    """The entropy of operation weights that equals that of equal weights, to three digits after the point; None where it
    differs."""
    equal = {name: [[1 / len(row)] * len(row) for row in table] for name, table in strength.items()}
    found = round(entropy(strength), 3)
    return found if found == round(entropy(equal), 3) else None
