"""SDARTS (Chen and Hsieh, arXiv 2002.05283): weights that are good around alpha, not only at it."""

import torch
from torch import Tensor

from darts_cli.methods.value import Average, Loss, Step, Tables


def project(m: Tensor) -> Tensor:
    """Back on the simplex: clamp to [0, 1] and divide by the sum; a row without anything left is one-hot at its maximum."""
    clamped = m.clamp(0, 1)
    total = clamped.sum(-1, keepdim=True)
    one_hot = torch.zeros_like(m).scatter_(-1, m.argmax(dim=-1, keepdim=True), 1.0)
    return torch.where(total > 0, clamped / torch.where(total > 0, total, 1), one_hot)


def noise(p: Tables, step: Step, radius: float) -> dict[str, Tensor]:
    """U(-e, e) for every operation weight."""
    generator = step.generator("perturbation")
    drawn = {cell: torch.rand(m.shape, dtype=torch.float64, generator=generator) for cell, m in p.items()}
    return {cell: ((2 * u - 1) * radius).to(p[cell]) for cell, u in drawn.items()}


def random(p: Tables, step: Step, radius: float) -> Tables:
    """SDARTS-RS: m = project(p + U(-e, e))."""
    delta = noise(p, step, radius)
    return {cell: project(m + delta[cell]) for cell, m in p.items()}


def climb(p: Tables, delta: Tables, loss: Loss, radius: float, ascents: int, average: Average = list) -> Tables:
    """SDARTS-ADV: climb the loss from project(p + delta), within the radius of p; p itself if the loss is lower in the end.

    m := project(p + clamp(m + (2 e / n) sign(dL/dm) - p, -e, e)), n times.
    """
    with torch.no_grad():
        (first,) = average([loss(p)])
    m = {cell: project(p[cell] + delta[cell]) for cell in p}
    for _ in range(ascents):
        leaves = {cell: table.detach().requires_grad_() for cell, table in m.items()}
        with torch.enable_grad():
            found = torch.autograd.grad(loss(leaves), list(leaves.values()), allow_unused=True, materialize_grads=True)
        for cell, gradient in zip(leaves, average(list(found)), strict=True):
            moved = m[cell] + (2 * radius / ascents) * gradient.sign() - p[cell]
            m[cell] = project(p[cell] + moved.clamp(-radius, radius))
    with torch.no_grad():
        (last,) = average([loss(m)])
    return {cell: torch.where(first > last, p[cell], m[cell]) for cell in p}
