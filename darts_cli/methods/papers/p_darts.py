"""P-DARTS (Chen et al., arXiv 1904.12760): deeper networks in stages, with dropout after skip connections."""

import math

from darts_cli.methods.value import Stage


def stages(epochs: int, keep: tuple[int | None, ...], cells: int | None, partial: int | None) -> tuple[Stage, ...]:
    """Stages of equal length.

    keep       operations that an edge keeps in each stage; None: all there are
    cells      that are added with every stage, to a new network; None: the network goes on
    partial    K of the partial channels after the first stage (DrNAS, arXiv 2006.10355), where it changes
    """
    bounds = [round(epochs * number / len(keep)) for number in range(len(keep) + 1)]
    schedule, fresh = (None, True) if cells is not None else ((0, epochs), False)
    return tuple(
        Stage(
            *bounds[number : number + 2],
            schedule=schedule,
            keep=ops,
            partial=partial if number else None,
            cells=number * (cells or 0),
            fresh=fresh,
        )
        for number, ops in enumerate(keep)
    )


def skip_dropout(rate: float, epoch: int, epochs: int, warmup: int) -> float:
    """The rate of dropout: it falls linearly while alpha stays as it is, and then by a fifth of its logarithm every epoch."""
    if epoch < warmup:
        return rate * (epochs - epoch - 1) / epochs
    return rate * math.exp(-0.2 * (epoch - warmup))
