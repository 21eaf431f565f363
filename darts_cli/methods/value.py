"""How alpha becomes operation weights. A method is a value; the defaults are those of DARTS."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from darts_cli.genotype import Genotype
from darts_cli.methods.derive import derive
from darts_cli.spaces.space import Space

Tables = Mapping[str, Tensor]  # by kind of cell, (edges, operations): alpha, or operation weights
EDGES = "_edges"  # the end of the names of tables with a number per edge, such as normal_edges


@dataclass(frozen=True)
class Step:
    """Where a step of a search stands, and its only source of chance."""

    epoch: int
    epochs: int
    seed: int
    number: int  # of the step within its epoch

    def generator(self, use: str) -> torch.Generator:
        """Random numbers for one use in this step, on the CPU: the same on every process, and after a resume."""
        position = repr((self.seed, self.epoch, self.number, use)).encode()
        return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(position).digest()[:8], "little") >> 1)

    def between(self, start: float, end: float) -> float:
        """A value that goes linearly from the first epoch to just after the last."""
        return start + (end - start) * self.epoch / self.epochs


def cells(tables: Tables) -> dict[str, Tensor]:
    """The tables of cells, without those of edges."""
    return {cell: table for cell, table in tables.items() if not cell.endswith(EDGES)}


def softmax(tables: Tables) -> Tables:
    """The softmax over the operations of every edge.

    To the bit, it does not depend on the order of a row: what is equally strong stays so.
    """
    exponentials = {cell: (alpha - alpha.detach().amax(dim=-1, keepdim=True)).exp() for cell, alpha in cells(tables).items()}
    return {cell: e / e.sort(dim=-1).values.sum(dim=-1, keepdim=True) for cell, e in exponentials.items()}


def plain(tables: Tables) -> dict[str, list]:
    """Tables as lists, without their gradients."""
    return {cell: table.tolist() for cell, table in tables.items()}


Loss = Callable[[Tables], Tensor]  # the loss of a batch at operation weights
Average = Callable[[list[Tensor]], list[Tensor]]  # of several processes with a part of each batch, the means


@dataclass(frozen=True)
class Method:
    """How alpha becomes operation weights, and these become cells. Every field is a plain function or number.

    strength        the operation weights without chance: what derivation, entropy, records and pictures read
    mixture         those of one step: a function of alpha and of the step
    penalty         what is added to the validation loss, a function of alpha; None where there is nothing
    disturbed       those of the step of the weights, given the undisturbed ones, the step, the loss of the batch, and averages
    one_hot         whether a mixture has one operation per edge, which is then computed alone
    partial         operations see one of so many parts of the channels
    edge_weights    whether the edges of a node are weighted, by tables of alpha that end in `_edges`
    edges           these weights
    alpha_warmup    epochs in which alpha stays as it is
    auxiliary_skip  the weight of an added skip connection of every edge, where there is one
    derive          operation weights, space -> cells
    shown           numbers of a step that the display and the records add
    """

    name: str = "darts"
    strength: Callable[[Tables], Tables] = softmax
    mixture: Callable[[Tables, Step], Tables] = lambda alphas, step: softmax(alphas)
    penalty: Callable[[Tables, Step], Tensor | None] = lambda alphas, step: None
    disturbed: Callable[[Tables, Step, Loss, Average], Tables] | None = None
    one_hot: bool = False
    partial: int = 1
    edge_weights: bool = False
    edges: Callable[[Tables], dict[str, Tensor]] = lambda alphas: {}
    alpha_warmup: int = 0
    auxiliary_skip: Callable[[Step], float] | None = None
    derive: Callable[[Mapping[str, list], Space], Genotype] = derive
    shown: Callable[[Step], dict[str, float]] = lambda step: {}

    def auxiliary(self, step: Step) -> float:
        """The weight of the added skip connections; 0 where there are none."""
        return 0.0 if self.auxiliary_skip is None else self.auxiliary_skip(step)

    def settled(self, alphas: Tables) -> Tables:
        """All that a network needs to mix without chance: the operation weights and, where there are any, those of edges."""
        return self.edges(alphas) | self.strength(alphas) if self.edge_weights else self.strength(alphas)


DARTS = Method()
