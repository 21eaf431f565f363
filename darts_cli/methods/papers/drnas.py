"""DrNAS (Chen et al., arXiv 2006.10355): operation weights drawn from a Dirichlet distribution that alpha describes."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from darts_cli.methods.value import Step, Tables, cells


def concentration(alpha: Tensor) -> Tensor:
    """elu(alpha) + 1."""
    return F.elu(alpha) + 1


def dirichlet(alphas: Tables, step: Step) -> Tables:
    """m ~ Dirichlet(elu(alpha) + 1), every edge."""
    generator = step.generator("dirichlet")
    return {cell: Sample.apply(concentration(alpha), generator) for cell, alpha in cells(alphas).items()}


def mean(alphas: Tables) -> Tables:
    """The mean of the distribution: c / sum c."""
    concentrations = {cell: concentration(alpha) for cell, alpha in cells(alphas).items()}
    return {cell: c / c.sum(-1, keepdim=True) for cell, c in concentrations.items()}


class Sample(Function):
    """A sample m of Dirichlet(c), drawn on the CPU in float64, with PyTorch's implicit gradient by c.

    `torch.distributions` takes no generator, so these are the functions that it is made of.
    """

    @staticmethod
    def forward(ctx, c: Tensor, generator: torch.Generator | None, m: Tensor | None = None) -> Tensor:
        if m is None:
            m = torch._sample_dirichlet(c.detach().cpu().double(), generator).to(c)
        ctx.save_for_backward(c, m)
        return m.clone()

    @staticmethod
    def backward(ctx, g: Tensor):
        c, m = (tensor.cpu().double() for tensor in ctx.saved_tensors)
        slope = torch._dirichlet_grad(m, c, c.sum(-1, keepdim=True).expand_as(c))
        towards = g.cpu().double()
        return (slope * (towards - (m * towards).sum(-1, keepdim=True))).to(g), None, None


def divergence(alphas: Tables, weight: float) -> Tensor:
    """w sum over edges of KL(Dirichlet(c) || Dirichlet(1)), c = elu(alpha) + 1."""
    return weight * sum(kl(concentration(alpha)).sum() for alpha in cells(alphas).values())


def kl(c: Tensor) -> Tensor:
    """lgamma(C) - sum lgamma(c_o) - lgamma(K) + sum (c_o - 1) (digamma(c_o) - digamma(C)), C = sum c_o, of every row."""
    total = c.sum(-1)
    pull = ((c - 1) * (c.digamma() - total.digamma().unsqueeze(-1))).sum(-1)
    return total.lgamma() - c.lgamma().sum(-1) - math.lgamma(c.shape[-1]) + pull
