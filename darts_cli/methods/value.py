"""How alpha becomes operation weights. A method is a value; the defaults are those of DARTS."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from darts_cli.genotype import Genotype
from darts_cli.methods.derive import derive
from darts_cli.runtime.schedules import cosine
from darts_cli.spaces.space import Space
from darts_cli.text import counted

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


@dataclass(frozen=True)
class Stage:
    """Epochs of a search, from `start` to before `end`, with one network.

    scale       of the initial learning rate
    schedule    the epochs of the learning rate's schedule, with which the optimiser of the weights starts anew; those of the
                stage, if none are given
    keep        operations that an edge keeps, where the stage has fewer than the one before; alpha's warm-up begins again
    partial     K of the partial channels, where it differs from that of the method
    cells       how many more the network has than in the first stage
    fresh       whether network and alpha start anew, instead of going on
    """

    start: int
    end: int
    scale: float = 1.0
    schedule: tuple[int, int] | None = None
    keep: int | None = None
    partial: int | None = None
    cells: int = 0
    fresh: bool = False

    @property
    def warmed_since(self) -> int:
        """The epoch in which alpha's warm-up began."""
        return 0 if self.keep is None and self.partial is None else self.start

    def starts_anew(self, epoch: int, step: int) -> bool:
        """Whether the optimiser of the weights forgets, before this step."""
        return self.schedule is None and (epoch, step) == (self.start, 0)

    def another_network(self, before: "Stage") -> bool:
        """Whether the network differs from that of the stage before."""
        return self != before and (self.fresh or self.keep is not None or self.partial is not None)

    def method(self, method: "Method") -> "Method":
        """The method, as the network of this stage has it."""
        return method if self.partial is None else replace(method, partial=self.partial)

    def lr(self, first: float, last: float, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0, between that of the first and the last epoch of a search."""
        start, end = self.schedule or (self.start, self.end)
        return cosine(first * self.scale, min(last, first * self.scale), epoch - start, end - start)


@dataclass(frozen=True)
class Added:
    """What a step adds to every edge of a search network.

    auxiliary_skip    the weight of an added skip connection (DARTS-)
    skip_dropout      the rate of dropout after skip connections of stride 1 (P-DARTS)
    drop_path         the probability that an image loses what an edge adds to a node (RobustDARTS)
    """

    auxiliary_skip: float = 0.0
    skip_dropout: float = 0.0
    drop_path: float = 0.0


NOTHING = Added()
Loss = Callable[[Tables], Tensor]  # the loss of a batch at operation weights
Score = Callable[..., float]  # (tables, *, batches, training): on the validation part, the higher the better
Average = Callable[[list[Tensor]], list[Tensor]]  # of several processes with a part of each batch, the means


@dataclass(frozen=True)
class Method:
    """How alpha becomes operation weights, and these become cells. Every field is a plain function or number.

    strength        the operation weights without chance: what derivation, entropy, records and pictures read
    mean            their mean, where it is not the strength
    mixture         those of one step: a function of alpha and of the step
    penalty         what is added to the validation loss, a function of alpha; None where there is nothing
    disturbed       those of the step of the weights, given the undisturbed ones, the step, the loss of the batch, and averages
    chance          whether mixtures, or what is disturbed, are drawn
    one_hot         whether a mixture has one operation per edge, which is then computed alone
    partial         operations see one of so many parts of the channels
    edge_weights    whether the edges of a node are weighted, by tables of alpha that end in `_edges`
    edges           these weights
    alpha_warmup    epochs in which alpha stays as it is
    auxiliary_skip  the weight of an added skip connection of every edge, where there is one
    skip_dropout    the rate of dropout after skip connections, where there is any
    conclude        what the search decides after an epoch with its trained weights: a function of the tables that are decided
                    (NaN where nothing is), the strengths, the step, a score and the space; returns these tables
    decides         whether steps of the search mix by what is decided
    stages          number of epochs -> the stages of the search
    derive          operation weights, space -> cells
    shown           numbers of a step that the display and the records add
    """

    name: str = "darts"
    strength: Callable[[Tables], Tables] = softmax
    mean: Callable[[Tables], Tables] | None = None
    mixture: Callable[[Tables, Step], Tables] = lambda alphas, step: softmax(alphas)
    penalty: Callable[[Tables, Step], Tensor | None] = lambda alphas, step: None
    disturbed: Callable[[Tables, Step, Loss, Average], Tables] | None = None
    chance: bool = False
    one_hot: bool = False
    partial: int = 1
    edge_weights: bool = False
    edges: Callable[[Tables], dict[str, Tensor]] = lambda alphas: {}
    alpha_warmup: int = 0
    auxiliary_skip: Callable[[Step], float] | None = None
    skip_dropout: Callable[[Step], float] | None = None
    conclude: Callable[[Tables, Tables, Step, Score, Space], Tables] | None = None
    decides: bool = True
    stages: Callable[[int], tuple[Stage, ...]] = lambda epochs: (Stage(0, epochs),)
    derive: Callable[[Mapping[str, list], Space], Genotype] = derive
    shown: Callable[[Step], dict[str, float]] = lambda step: {}

    def added(self, step: Step) -> Added:
        """What a step adds to every edge."""
        auxiliary_skip, skip_dropout = (
            0.0 if value is None else value(step) for value in (self.auxiliary_skip, self.skip_dropout)
        )
        return Added(auxiliary_skip, skip_dropout)

    def stage(self, epoch: int, epochs: int) -> Stage:
        """The stage of an epoch."""
        stages = self.stages(epochs)
        return next((stage for stage in stages if epoch < stage.end), stages[-1])

    def trains_alpha(self, step: Step) -> bool:
        """Whether the warm-up of alpha is over."""
        return step.epoch - self.stage(step.epoch, step.epochs).warmed_since >= self.alpha_warmup

    def notes(self, epochs: int) -> list[str]:
        """What a search of so many epochs says when it begins: where its alpha waits for an end that never comes."""
        waits = self.decides and not any(self.trains_alpha(Step(epoch, epochs, 0, 0)) for epoch in range(epochs))
        rule = f"alpha is never trained: its warm-up of {counted(self.alpha_warmup, 'epoch')} does not end"
        return [f"{rule}; search for more --epochs, or set warmup in --method"] if waits else []

    def expected(self, alphas: Tables) -> Tables:
        """The mean of the operation weights."""
        return self.strength(alphas) if self.mean is None else self.mean(alphas)


DARTS = Method()
