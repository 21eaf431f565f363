"""DARTS-PT (Wang et al., arXiv 2108.04392): operations and edges are kept whose removal would hurt the trained network most."""

import torch
from torch import Tensor

from darts_cli.methods.decisions import fixed
from darts_cli.methods.value import Score, Step, Tables
from darts_cli.spaces.space import Space

LR_SCALE = 0.1  # of the initial learning rate, while edges are decided


def rounds(space: Space) -> int:
    """Decisions for each kind of cell: one per edge, then one per node with more inputs than are kept."""
    return len(space.edges()) + len(_crowded(space))


def done(decided: Tables, space: Space) -> int:
    """The rounds that are over."""
    first = decided[space.cells[0]]
    if first.isnan().any():
        return int((~first.isnan().any(dim=-1)).sum())
    reduced = sum(bool((rows == 0).all(dim=-1).any()) for rows in space.by_node(first))
    return len(first) + reduced


def due(step: Step, share: float, count: int) -> int:
    """How many rounds are over after an epoch: the first before the last `share` of the epochs, the others evenly within."""
    span = round(share * step.epochs)
    since = step.epoch + 1 - (step.epochs - span)
    if since < 0:
        return 0
    return count if since == span else since * (count - 1) // span + 1


def select(strength: Tables, decided: Tables, step: Step, score: Score, space: Space, number: int) -> dict[str, Tensor]:
    """One round for each kind of cell, on top of what is decided (rows that are open are NaN); returns what is decided then.

    number    of the round
    """
    decided = {cell: table.clone() for cell, table in decided.items()}
    for cell in decided:
        generator = step.generator(f"round {number} of {cell}")
        if number < len(space.edges()):
            undecided = [edge for edge, row in enumerate(decided[cell]) if row.isnan().any()]
            edge = undecided[int(torch.randint(len(undecided), (), generator=generator))]
            decided[cell][edge] = missed(fixed(strength, decided), cell, edge, score, space)
        else:
            order = torch.randperm(len(_crowded(space)), generator=Step(0, 0, step.seed, 0).generator(f"nodes of {cell}"))
            node = _crowded(space)[int(order[number - len(space.edges())])]
            for edge in discarded(fixed(strength, decided), cell, node, score, space):
                decided[cell][edge] = 0.0
    return decided


def missed(tables: Tables, cell: str, edge: int, score: Score, space: Space) -> Tensor:
    """The row of an edge with the operation alone whose removal gives the lowest score; ties go to the first."""
    scores = without_operation(tables, cell, edge, score)
    kept = min(space.chosen(space.choices(cell)[edge]), key=scores.__getitem__)
    return torch.zeros_like(tables[cell][edge]).index_fill_(0, torch.tensor(kept, device=tables[cell].device), 1.0)


def without_operation(tables: Tables, cell: str, edge: int, score: Score) -> list[float]:
    """The scores with one weight of an edge set to 0, for each of its operations."""
    return [score(_with_zero(tables, cell, (edge, k)), training=True) for k in range(tables[cell].shape[1])]


def discarded(tables: Tables, cell: str, node: int, score: Score, space: Space) -> list[int]:
    """The edges of a node whose removal hurts least, all but those that are kept; ties go to the last."""
    edges = space.by_node(range(len(space.edges())))[node]
    scores = {edge: score(_with_zero(tables, cell, edge), training=True) for edge in edges}
    return sorted(edges, key=lambda edge: (-scores[edge], -edge))[: len(edges) - space.keep]


def _with_zero(tables: Tables, cell: str, place) -> dict[str, Tensor]:
    table = tables[cell].clone()
    table[place] = 0.0
    return {**tables, cell: table}


def _crowded(space: Space) -> list[int]:
    """The nodes with more inputs than are kept."""
    return [n for n, edges in enumerate(space.by_node(space.edges())) if space.keep is not None and len(edges) > space.keep]
