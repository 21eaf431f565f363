"""P-DARTS (Chen et al., arXiv 1904.12760): deeper networks in stages, with dropout after skip connections."""

import math


def skip_dropout(rate: float, epoch: int, epochs: int, warmup: int) -> float:
    """The rate of dropout: it falls linearly while alpha stays as it is, and then by a fifth of its logarithm every epoch."""
    if epoch < warmup:
        return rate * (epochs - epoch - 1) / epochs
    return rate * math.exp(-0.2 * (epoch - warmup))
