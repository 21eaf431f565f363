"""The cells of the search networks, whose edges mix all operations (sec. 2.2 and 3.1.1)."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from darts_cli.cnn import ops
from darts_cli.cnn.fused.node import Common, State, mixed_node, together
from darts_cli.methods.papers.pc_darts import shuffled
from darts_cli.methods.value import NOTHING, Added
from darts_cli.runtime import distributed
from darts_cli.spaces.space import Space

Active = Sequence[Collection[str]] | None  # for every edge the operations to compute; None: all


@dataclass(frozen=True)
class Form:
    """How mixed cells compute, and what a method adds to them.

    fused        compute all edges of a node together, to the same result
    recompute    compute depthwise convolutions once more for the gradient instead of keeping their results
    partial      operations see one of so many parts of the channels; the rest passes by (PC-DARTS, arXiv 1907.05737)
    auxiliary    add a skip connection to every edge, without affine parameters (DARTS-, arXiv 2009.01027)
    """

    fused: bool = True
    recompute: bool = False
    partial: int = 1
    auxiliary: bool = False


def kept(size: int, drop_path: float, like: Tensor) -> Tensor:
    """What an edge's output is multiplied by, (B, 1, 1, 1): 0 with that probability, else what keeps the expectation."""
    keep = 1 - drop_path
    return torch.empty(size, 1, 1, 1, dtype=like.dtype, device=like.device).bernoulli_(keep) / keep


class MixedCell(nn.Module):
    """What the search cells of all macro structures share: nodes that each sum the mixed operations of all earlier states
    (eq. 1).

    kind      of cell in the space
    C         channels of every state
    stride    of the edges from the inputs of the cell
    first     modules that come before those of the edges
    """

    def __init__(
        self, space: Space, kind: str, C: int, stride: int, form: Form, normalise_pools: bool = True, **first: nn.Module
    ):
        super().__init__()
        self.space, self.kind, self.stride, self.form = space, kind, stride, form
        for name, module in first.items():
            self.add_module(name, module)
        strides = [stride if state < space.inputs else 1 for state, _ in space.edges()]
        self.mixed_channels = C // form.partial
        self.edges = nn.ModuleList(
            ops.MixedOp(operations, self.mixed_channels, stride, normalise_pools)
            for operations, stride in zip(space.choices(kind), strides, strict=True)
        )
        skips = [ops.operation("skip_connect", C, stride, affine=False) for stride in strides] if form.auxiliary else []
        self.skips = nn.ModuleList(skips)
        self.register_buffer("order", shuffled(C, form.partial), persistent=False)

    def nodes(
        self, inputs: Sequence[Tensor], weights: Tensor, active: Active, edge_weights: Tensor | None, added: Added
    ) -> list[Tensor]:
        """The nodes' states, of the inputs' states (B, C, H, W) and operation weights (14, 8).

        edge_weights    (14,): of the channels that pass by
        """
        active = [None] * len(self.edges) if active is None else active
        states = list(inputs)
        shared = [self._shared(x, self.stride) for x in states]
        passing = [self._passing(x, self.stride) for x in states]
        skips = self.space.by_node(self.skips) if len(self.skips) else [()] * self.space.nodes
        by_edge = [1.0] * len(self.edges) if edge_weights is None else edge_weights.unbind()
        common = Common(self.edges, active) if self.form.fused and together(self.edges, states[0]) else None
        mixed = partial(self._mixed, common=common)
        tables = (self.edges, numbers(weights), active, by_edge)
        nodes = zip(*map(self.space.by_node, tables), skips, strict=True)
        for edges, rows, names, along, extra in nodes:
            keep = [1.0] * len(edges)
            if added.drop_path and self.training:
                draw = partial(kept, drop_path=added.drop_path, like=states[0])
                keep = [distributed.drawn(draw, len(states[0])) for _ in edges]
                by_edge = zip(keep, shared, edges, rows, names, strict=True)
                x = sum(k * mixed([s], [edge], [row], [name], added) for k, s, edge, row, name in by_edge)
            else:
                x = mixed(shared, edges, rows, names, added)
            if self.form.partial > 1:
                rest = sum(a * k * y for a, k, y in zip(along, keep, passing, strict=True))
                x = torch.cat([x, rest], dim=1)[:, self.order]
            if len(extra) and added.auxiliary_skip:
                x = x + added.auxiliary_skip * sum(skip(s) for skip, s in zip(extra, states, strict=True))
            states.append(x)
            shared.append(self._shared(x, 1))
            passing.append(self._passing(x, 1))
        if common is not None:
            common.statistics.move()
        return states[len(inputs) :]

    def _mixed(
        self, shared: Sequence, edges: Sequence, rows: Sequence, active: Sequence, added: Added, common: Common | None
    ) -> Tensor:
        """The sum of the mixed operations of edges, of what they share."""
        if self.form.fused:
            x = mixed_node(shared, edges, rows, active, self.form.recompute, common)
        else:
            x = sum(edge(s, row, names) for edge, s, row, names in zip(edges, shared, rows, active, strict=True))
        dropout = added.skip_dropout if self.training else 0
        return x + self._dropped(shared, edges, rows, active, dropout) if dropout else x

    def _shared(self, x: Tensor, stride: int) -> State | Tensor:
        """What the operations of a state see."""
        if self.form.partial > 1:
            x = x[:, : self.mixed_channels]
            x = x.contiguous(memory_format=torch.channels_last) if self.form.fused else x
        return State(x, stride) if self.form.fused else x

    def _passing(self, x: Tensor, stride: int) -> Tensor | None:
        """The channels of a state that pass by its operations."""
        if self.form.partial == 1:
            return None
        return x[:, self.mixed_channels :] if stride == 1 else F.max_pool2d(x[:, self.mixed_channels :], 2)

    def _dropped(self, shared: Sequence, edges: Sequence, rows: Sequence, active: Sequence, rate: float) -> Tensor | float:
        """What dropout changes where it follows the skip connections of stride 1 (P-DARTS, arXiv 1904.12760): the sum of
        a (dropout(x) - x)."""
        change = 0.0
        for state, edge, row, names in zip(shared, edges, rows, active, strict=True):
            if edge.stride == 1 and "skip_connect" in edge and (names is None or "skip_connect" in names):
                x = state.x if self.form.fused else state
                mask = distributed.drawn(lambda rows, x=x: F.dropout(x.new_ones(rows, *x.shape[1:]), rate), len(x))
                change = change + row[list(edge).index("skip_connect")] * (mask * x - x)
        return change


def numbers(table: Tensor) -> list[Sequence[Tensor]]:
    """The rows of a table as sequences of its numbers."""
    found = Numbers.apply(table)
    return [found[start : start + table.shape[1]] for start in range(0, table.numel(), table.shape[1])]


class Numbers(Function):
    """A table as its numbers. The gradients of those that are not used are zero, all of them in one kernel."""

    @staticmethod
    def forward(ctx, table: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.shape = table.shape
        return table.flatten().unbind()

    @staticmethod
    def backward(ctx, *g: Tensor | None) -> Tensor | None:
        used = [each for each in g if each is not None]
        if not used:
            return None
        zero = used[0].new_zeros(())
        return torch.stack([zero if each is None else each for each in g]).view(ctx.shape)


@contextmanager
def plain_nodes(network: nn.Module) -> Iterator[None]:
    """Within it the nodes of a search network are computed as eq. 1 has them, which can be differentiated twice."""
    cells = [module for module in network.modules() if isinstance(module, MixedCell)]
    forms = [cell.form for cell in cells]
    for cell in cells:
        cell.form = replace(cell.form, fused=False)
    try:
        yield
    finally:
        for cell, form in zip(cells, forms, strict=True):
            cell.form = form


class SearchCell(MixedCell):
    """The cell of the macro structure `darts`, with two inputs: "normal", or "reduce", which halves height and width."""

    def __init__(self, space: Space, kind: str, C_prev_prev: int, C_prev: int, C: int, reduction_prev: bool, form: Form):
        first, second = ops.preprocessing(C_prev_prev, C_prev, C, reduction_prev, affine=False)
        super().__init__(space, kind, C, 2 if kind == "reduce" else 1, form, preprocess0=first, preprocess1=second)

    def forward(
        self,
        s0: Tensor,
        s1: Tensor,
        weights: Tensor,
        active: Active = None,
        edge_weights: Tensor | None = None,
        added: Added = NOTHING,
    ) -> Tensor:
        """s0, s1 (B, C', H, W), after their ReLU, weights (14, 8) -> (B, 4C, H, W); the others as in `nodes`."""
        inputs = ops.preprocessed(self.preprocess0, self.preprocess1, s0, s1)
        return torch.cat(self.nodes(inputs, weights, active, edge_weights, added), dim=1)
