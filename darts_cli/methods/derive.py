"""From alpha to a cell: the derivation of section 2.4, and the entropy that tells how decided a search is. No torch."""

import math
from collections.abc import Sequence

from darts_cli.genotype import Cell, Edge
from darts_cli.spaces import SPACES


def derive_cell(alphas: Sequence[Sequence[float]], domain: str) -> Cell:
    """The discrete cell of a table of alpha: one row per edge, one column per operation (sec. 2.4).

    Softmax over the operations; per edge the strongest operation except `none`; per node the strongest inputs (two for "cnn",
    one for "rnn"), strongest first. Ties go to the operation listed first and to the lower input.
    """
    space = SPACES[domain]
    candidates = [k for k, op in enumerate(space.searched) if op != "none"]
    nodes: list[tuple[Edge, ...]] = []
    start = 0
    while start < len(alphas):
        inputs = range(space.inputs + len(nodes))
        weights = [softmax(row) for row in alphas[start : start + len(inputs)]]
        best = [max(candidates, key=row.__getitem__) for row in weights]
        strongest = sorted(inputs, key=lambda j: -weights[j][best[j]])[: space.edges]
        nodes.append(tuple(Edge(space.searched[best[j]], j) for j in strongest))
        start += len(inputs)
    return Cell(tuple(nodes), space.all_nodes(len(nodes)))


def entropy(tables: Sequence[Sequence[Sequence[float]]]) -> float:
    """Mean entropy of the operation weights over all edges of some tables of alpha, in nats.

    For eight operations it falls from ln 8 = 2.08 (undecided) to 0 (decided).
    """
    edges = [softmax(row) for table in tables for row in table]
    return sum(-p * math.log(p) for edge in edges for p in edge if p > 0) / len(edges)


def softmax(row: Sequence[float]) -> list[float]:
    """Softmax whose weights do not depend, to the bit, on the order of the row (so that ties are ties)."""
    top = max(row)
    exponentials = [math.exp(value - top) for value in row]
    total = math.fsum(exponentials)
    return [value / total for value in exponentials]
