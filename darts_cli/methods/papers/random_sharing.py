"""Random search with weight sharing (Li and Talwalkar, arXiv 1902.07638): weights for all architectures."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from darts_cli.methods.catalogue import INPUTS
from darts_cli.methods.papers.pc_darts import per_node
from darts_cli.methods.value import Score, Step, Tables, cells

Columns = Mapping[str, Sequence[int | None]]

EARLY_CANDIDATES = 10  # candidates after every epoch but the last


def architecture(alphas: Tables, generator: torch.Generator, none: Columns | None = None) -> dict[str, Tensor]:
    """An architecture, drawn uniformly, as operation weights of 0 and 1: for every node its inputs, for each an operation.

    none    by cell the column of every edge that is not drawn
    """
    drawn = {}
    for cell, alpha in cells(alphas).items():
        table, start = torch.zeros(alpha.shape), 0  # on the CPU, as the numbers that fill it
        for edges in per_node(len(alpha)):
            for edge in torch.randperm(edges, generator=generator)[: INPUTS.get(cell, edges)].tolist():
                row = start + edge
                columns = [k for k in range(alpha.shape[1]) if none is None or k != none[cell][row]]
                table[row, columns[int(torch.randint(len(columns), (), generator=generator))]] = 1.0
            start += edges
        drawn[cell] = table.to(alpha)
    return drawn


def best(
    alphas: Tables, none: Columns | None, step: Step, score: Score, candidates: int, batches: int, finalists: int
) -> dict[str, Tensor]:
    """The best of random architectures with the shared weights, in evaluation mode.

    All are scored on some batches of the validation part, the best of these on all of it. Ties go to the first.
    """
    generator = step.generator("candidates")
    count = candidates if step.epoch + 1 == step.epochs else min(EARLY_CANDIDATES, candidates)
    drawn = [architecture(alphas, generator, none) for _ in range(count)]
    first = sorted(drawn, key=lambda tables: -score(tables, batches=batches))[:finalists]
    return max(first, key=score) if len(first) > 1 else first[0]
