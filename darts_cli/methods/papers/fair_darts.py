"""FairDARTS (Chu et al., arXiv 1911.12126): operations that do not compete, each pushed towards 0 or 1."""

import torch
from torch import Tensor

from darts_cli.methods.value import Tables, cells


def sigmoid(alphas: Tables) -> Tables:
    """m = sigmoid(alpha)."""
    return {cell: alpha.sigmoid() for cell, alpha in cells(alphas).items()}


def zero_one(alphas: Tables, weight: float) -> Tensor:
    """- w mean (sigmoid(alpha) - 1/2)^2, over all entries of all tables (eq. 4 of the paper, as its code has it)."""
    distances = torch.cat([(m - 0.5).square().flatten() for m in sigmoid(alphas).values()])
    return -weight * distances.mean()
