"""Images with their mean and deviation."""

from collections.abc import Sequence

import torch
from torch import Tensor

from darts_cli.cnn.datasets.batches import BLOCK, Dataset

LEAST_DEVIATION = 1e-6  # of a channel that never varies: the images stay finite


def measured(pixels: Tensor, labels: Tensor, classes: Sequence[str], statistics: tuple | None = None) -> Dataset:
    """The data set of images (N, H, W, 3), bytes, whose mean and deviation are measured if they are not given."""
    mean, deviation = statistics or _statistics(pixels)
    return Dataset(pixels, labels, classes, mean, deviation)


def _statistics(pixels: Tensor) -> tuple[list[float], list[float]]:
    """The exact mean and deviation of each channel, pixels in [0, 1], from the counts of the 256 values."""
    value = torch.arange(256, dtype=torch.float64) / 255
    counts = torch.zeros(3, 256, dtype=torch.float64)
    for block in pixels.split(BLOCK):
        for c in range(3):
            counts[c] += torch.bincount(block[..., c].flatten(), minlength=256)
    mean = [float(count @ value / count.sum()) for count in counts]
    variance = [float(count @ (value - m) ** 2 / count.sum()) for count, m in zip(counts, mean, strict=True)]
    return mean, [max(v**0.5, LEAST_DEVIATION) for v in variance]
