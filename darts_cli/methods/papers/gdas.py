"""GDAS (Dong and Yang, arXiv 1910.04465): one operation per edge and step, drawn with a gradient."""

import torch
from torch import Tensor

from darts_cli.methods.value import Step, Tables, cells


def gumbel(alphas: Tables, step: Step, tau: float) -> Tables:
    """A one-hot mixture of every edge, drawn with Gumbel noise."""
    generator = step.generator("gumbel")
    drawn = {}
    for cell, alpha in cells(alphas).items():
        exponential = torch.empty(alpha.shape, dtype=torch.float64).exponential_(generator=generator)
        drawn[cell] = one_hot(alpha, exponential.to(alpha), tau)
    return drawn


def one_hot(alpha: Tensor, exponential: Tensor, tau: float) -> Tensor:
    """h = onehot(argmax s) with the gradient of s = softmax((log softmax(alpha) - log E) / tau), E ~ Exp(1)."""
    s = ((alpha.log_softmax(dim=-1) - exponential.log()) / tau).softmax(dim=-1)
    hard = torch.zeros_like(s).scatter_(-1, s.argmax(dim=-1, keepdim=True), 1.0)
    return hard + (s - s.detach())


def tau(step: Step, start: float, end: float) -> float:
    """The temperature: linear over the epochs, `end` in the last one."""
    return start - (start - end) * step.epoch / max(1, step.epochs - 1)
