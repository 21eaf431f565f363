"""Learning rates over the epochs."""

import math

import torch


def cosine(first: float, last: float, epoch: int, epochs: int) -> float:
    """Half a cosine from `first` towards `last`, for an epoch counted from 0 (Loshchilov and Hutter, arXiv 1608.03983)."""
    return last + (first - last) * (1 + math.cos(math.pi * epoch / epochs)) / 2


def set_lr(optimizer: torch.optim.Optimizer, lr: float, weight_decay: float | None = None) -> None:
    """Set the learning rate and, where it is given, the weight decay."""
    for group in optimizer.param_groups:
        group["lr"] = lr
        if weight_decay is not None:
            group["weight_decay"] = weight_decay
