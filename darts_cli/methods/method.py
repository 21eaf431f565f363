"""How alpha becomes operation weights. A method is a value; the defaults are those of DARTS."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Tables = Mapping[str, Tensor]  # by kind of cell, (edges, operations): alpha, or operation weights


@dataclass(frozen=True)
class Step:
    """Where a step of a search stands."""

    epoch: int
    epochs: int
    seed: int
    number: int  # of the step within its epoch


def softmax(tables: Tables) -> Tables:
    """The softmax over the operations of every edge.

    To the bit, it does not depend on the order of a row: what is equally strong stays so.
    """
    exponentials = {cell: (alpha - alpha.detach().amax(dim=-1, keepdim=True)).exp() for cell, alpha in tables.items()}
    return {cell: e / e.sort(dim=-1).values.sum(dim=-1, keepdim=True) for cell, e in exponentials.items()}


def plain(tables: Tables) -> dict[str, list[list[float]]]:
    """Tables as lists, without their gradients."""
    return {cell: table.tolist() for cell, table in tables.items()}


@dataclass(frozen=True)
class Method:
    """How alpha becomes operation weights.

    strength    the operation weights without chance: what derivation, entropy, records and pictures read
    mixture     those of one step: a function of alpha and of the step, which is the only source of chance
    """

    name: str
    strength: Callable[[Tables], Tables] = softmax
    mixture: Callable[[Tables, Step], Tables] = lambda alphas, step: softmax(alphas)


DARTS = Method("darts")


class Relaxation:
    """Alpha, and the operation weights of a step as leaves.

    All passes of the architect see the same ones. The step of the weights sees those of the new alpha, with the same chance.

    alphas       the tables of alpha
    optimizer    of alpha
    weights      the operation weights, leaves; what `Architect.hypergradient` differentiates by
    """

    def __init__(self, method: Method, alphas: Tables, optimizer: torch.optim.Optimizer):
        self.method, self.alphas, self.optimizer = method, alphas, optimizer
        self.weights = {cell: torch.zeros_like(alpha, requires_grad=True) for cell, alpha in alphas.items()}

    def draw(self, step: Step) -> Tables:
        """Set the operation weights to those of a step; returns them as functions of alpha."""
        tables = self.method.mixture(self.alphas, step)
        with torch.no_grad():
            for cell, leaf in self.weights.items():
                leaf.copy_(tables[cell])
        return tables

    def step(self, tables: Tables) -> None:
        """Step alpha. The chain rule, applied once, turns the gradient in `grad` of the operation weights into that of alpha.

        tables    what `draw` returned
        """
        gradients = torch.autograd.grad(
            [tables[cell] for cell in self.weights],
            list(self.alphas.values()),
            [leaf.grad for leaf in self.weights.values()],
        )
        for alpha, gradient in zip(self.alphas.values(), gradients, strict=True):
            alpha.grad = gradient
        self.optimizer.step()
