"""Alpha, and the operation weights of a step as leaves: where the method meets the architect."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from darts_cli.genotype import Genotype
from darts_cli.methods.decisions import Decisions
from darts_cli.methods.value import EDGES, NOTHING, Average, Method, Score, Step, Tables, cells, plain, softmax
from darts_cli.spaces.space import Space


class Searching:
    """What all search networks have: alpha, a space and a method.

    alphas       the architecture parameters, by kind of cell
    added        what the step of the search adds to every edge
    decisions    what the search has decided with its trained weights; None where the method does not
    """

    alphas: nn.ParameterDict

    def relax(self, space: Space, method: Method, alpha_scale: float) -> None:
        """Make alpha, of scale N(0, 1)."""
        self.alphas = new_alphas(space, alpha_scale, method.edge_weights)
        self.decisions = None if method.conclude is None else Decisions(space)
        self.added = NOTHING

    def begin(self, step: Step, drop_path: float = 0.0) -> None:
        """Begin an epoch, or go on with it: in training mode, with what its steps add to every edge."""
        self.train()
        self.added = replace(self.method.added(step), drop_path=drop_path)

    def end(self) -> None:
        """End the steps of an epoch: what is measured after it drops nothing."""
        self.added = replace(self.added, skip_dropout=0.0, drop_path=0.0)

    @contextlib.contextmanager
    def bare(self) -> Iterator[None]:
        """Within it, nothing is added to the edges."""
        added, self.added = self.added, NOTHING
        try:
            yield
        finally:
            self.added = added

    @property
    def draws(self) -> bool:
        """Whether a pass draws random numbers: noise, dropout after skip connections, drop-path."""
        return "noise" in self.space.operations or self.method.skip_dropout is not None or self.added.drop_path > 0

    @property
    def repeats(self) -> bool:
        """Whether the steps of an epoch differ in nothing but their tensors: nothing is drawn, no operation is left out."""
        chooses = self.method.one_hot or (self.decisions is not None and self.method.decides)
        return not (self.draws or self.method.chance or chooses)

    def weights(self) -> list[nn.Parameter]:
        """All parameters except the alphas: the w of the bilevel problem."""
        return [weight for name, weight in self.named_parameters() if not name.startswith("alphas.")]

    def strength(self) -> Tables:
        """The operation weights without chance, with what is decided."""
        tables = self.method.strength(self.alphas)
        return tables if self.decisions is None else self.decisions(tables)

    def settled(self) -> Tables:
        """All that the network needs to mix without chance: the operation weights and, where there are any, those of edges."""
        return {**self.method.edges(self.alphas), **self.strength()}

    def genotype(self) -> Genotype:
        """The discrete cells that the method derives from the operation weights (sec. 2.4)."""
        return self.method.derive(plain(self.strength()), self.space)

    def shown(self, step: Step) -> dict[str, float]:
        """The numbers of the method that the display and the records add."""
        undecided = {} if self.decisions is None else {"undecided_edges": self.decisions.open()}
        return self.method.shown(step) | undecided

    @torch.no_grad()
    def conclude(self, step: Step, score: Score) -> None:
        """Decide what the method decides after an epoch, all of it or, when `score` raises, nothing."""
        if self.decisions is not None:
            expected = self.method.expected(self.alphas)
            self.decisions.set(self.method.conclude(self.decisions.tables(), expected, step, score, self.space))


class Relaxation:
    """Alpha, and the operation weights of a step as leaves.

    All passes of the architect see the same ones. The step of the weights sees those of the new alpha, with the same chance.

    network      the search network, with its method, alphas and space
    optimizer    of alpha
    clip         maximum norm of alpha's gradient
    weights      the operation weights, leaves; what `Architect.hypergradient` differentiates by
    active       by kind of cell, the operations of every edge that are computed; None: all
    """

    def __init__(self, network: nn.Module, optimizer: torch.optim.Optimizer, clip: float = float("inf")):
        self.clip = clip
        self.method, self.network, self.alphas, self.optimizer = network.method, network, network.alphas, optimizer
        self.weights = {cell: torch.zeros_like(alpha, requires_grad=True) for cell, alpha in self.alphas.items()}
        self.active: dict[str, list[set[str]]] | None = None

    def draw(self, step: Step) -> Tables:
        """Set the operation weights to those of a step; returns them as functions of alpha."""
        tables, decisions = self.method.mixture(self.alphas, step), self.network.decisions
        if decisions is not None and self.method.decides:
            tables = decisions(tables)
        self._set(tables)
        if self.method.one_hot or (decisions is not None and self.method.decides):
            self.active = active(self.weights, self.network.space)
        return tables

    def disturb(self, tables: Tables, step: Step, loss: Callable[[], Tensor], average: Average) -> None:
        """Set the operation weights of the step of the weights, where the method perturbs them.

        tables    what `draw` returned
        loss      that of the training batch, at the operation weights that are set
        average   see Architect
        """
        if self.method.disturbed is None:
            return
        edges = {name: table.detach() for name, table in tables.items() if name.endswith(EDGES)}
        p = {cell: table.detach() for cell, table in softmax(self.alphas).items()}

        def at(m: Tables) -> Tensor:
            """The loss in evaluation mode: no statistics change."""
            for cell, table in (weighted(m, edges) if edges else m).items():
                self.weights[cell] = table
            return loss()

        leaves, training = dict(self.weights), self.network.training
        self.network.eval()
        try:
            m = self.method.disturbed(p, step, at, average)
        finally:
            self.network.train(training)
            self.weights.update(leaves)
        self._set(weighted(m, edges) if edges else m)

    @torch.no_grad()
    def _set(self, tables: Tables) -> None:
        """Set the operation weights."""
        for cell, leaf in self.weights.items():
            if cell in tables:
                leaf.copy_(tables[cell])

    def step(self, tables: Tables, step: Step) -> None:
        """Step alpha along its gradient; see `differentiate`."""
        self.differentiate(tables, step)
        if self.clip != float("inf"):
            torch.nn.utils.clip_grad_norm_(list(self.alphas.values()), self.clip)
        self.optimizer.step()

    def differentiate(self, tables: Tables, step: Step) -> None:
        """Leave the gradient of alpha in its `grad`. The chain rule, applied once, turns that of the operation weights into it;
        that of the penalty is added.

        tables    what `draw` returned
        """
        used = [cell for cell in self.weights if cell in tables]
        outputs, gradients = [tables[cell] for cell in used], [self.weights[cell].grad for cell in used]
        penalty = self.method.penalty(self.alphas, step)
        if penalty is not None:
            outputs, gradients = [*outputs, penalty], [*gradients, torch.ones_like(penalty)]
        alphas = list(self.alphas.values())
        found = torch.autograd.grad(outputs, alphas, gradients, allow_unused=True, materialize_grads=True)
        for alpha, gradient in zip(alphas, found, strict=True):
            if alpha.grad is None:
                alpha.grad = gradient
            else:  # in the same memory, where a recorded step leaves it too
                alpha.grad.copy_(gradient)


def active(tables: Tables, space: Space) -> dict[str, list[set[str]]]:
    """By kind of cell, the operations of every edge whose weight is not 0."""
    chosen = {cell: table.tolist() for cell, table in cells(tables).items()}
    return {
        cell: [{op for op, a in zip(ops, row, strict=True) if a} for ops, row in zip(space.choices(cell), rows, strict=True)]
        for cell, rows in chosen.items()
    }


def new_alphas(space: Space, scale: float, edge_weights: bool) -> nn.ParameterDict:
    """Alpha for every kind of cell of a space, scale N(0, 1); and the numbers of its edges, where these are weighted."""
    shapes = {kind: (len(space.edges()), len(space.choices(kind)[0])) for kind in space.cells}
    if edge_weights:
        shapes |= {edges_of(kind): (len(space.edges()),) for kind in space.cells}
    return nn.ParameterDict({kind: nn.Parameter(scale * torch.randn(shape)) for kind, shape in shapes.items()})


def edges_of(cell: str) -> str:
    """The name of the table with the weights of a cell's edges."""
    return cell + EDGES


def weighted(tables: Tables, edges: Tables) -> dict[str, Tensor]:
    """Operation weights, each row times the weight of its edge."""
    return {cell: table * edges[edges_of(cell)][:, None] for cell, table in tables.items()}
