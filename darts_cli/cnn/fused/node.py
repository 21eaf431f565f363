"""The mixed operations of a node, computed together: the same function as one operation after another, with less work.

A node of the search cell is a sum of terms, each an operation o of an edge with its weight a (eqs. 1 and 2):

    x_i = sum_j sum_o a_o^(j,i) o(x_j).

What the edges of a state have in common is computed once (`State`). Convolutions, which end in a pointwise one and BatchNorm,
become matrix products that are added up in place (folded.py); poolings and identities are scaled and added. Where few large
kernels are faster, all of these lie side by side (stacked.py). Other operations are computed as they are.
"""

from collections.abc import Collection, Sequence
from functools import cached_property
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_cli.cnn import ops
from darts_cli.cnn.fused import stacked
from darts_cli.cnn.fused.depthwise import from_phases, images, rows, to_phases
from darts_cli.cnn.fused.folded import Half, Normalised, Statistics, normalised, sums, track
from darts_cli.runtime.device import exact, large_kernels, no_autocast

Term = tuple["State", nn.Module, Tensor]  # an operation of an edge, with its state and its weight
Factor = tuple[Tensor, Tensor, nn.BatchNorm2d]  # weight, matrix and BatchNorm of a half
Ends = list[tuple[stacked.Part, list[Factor]]]  # what ends in a node


class State:
    """A state x (B, C, H, W) of a cell, and what its outgoing edges share; they all have one stride."""

    def __init__(self, x: Tensor, stride: int):
        self.x, self.stride = x, stride
        self.shape = len(x), x.shape[2] // stride, x.shape[3] // stride  # B, H, W of the nodes after it
        self.phased = stride == 1 and x.shape[2] % 2 == x.shape[3] % 2 == 0 and not large_kernels(x.device)
        self.dilation = 2 if stride == 1 and not self.phased else 1  # of the dilated convolutions, when applied to `dilated`
        self._pooled: dict[str, Tensor] = {}  # by pooling
        self.normalised: dict[str | nn.Module, Normalised] = {}  # by pooling or reduction

    @cached_property
    def relu(self) -> Tensor:
        return F.relu(self.x)

    @cached_property
    def dilated(self) -> Tensor:
        """relu(x) as the dilated convolutions read it: by phases, or of stride 2 every second pixel, where that is possible."""
        if self.phased:
            return to_phases(self.relu)
        return self.relu if self.stride == 1 else self.relu[:, :, ::2, ::2].contiguous(memory_format=torch.channels_last)

    @cached_property
    def odd(self) -> Tensor:
        """Every second pixel of relu(x), from the second on."""
        return self.relu[:, :, 1::2, 1::2]

    def pool(self, pool: nn.Module) -> Tensor:
        """The pooled state, (B, C, H, W)."""
        if repr(pool) not in self._pooled:
            self._pooled[repr(pool)] = pool(self.x)
        return self._pooled[repr(pool)]

    def reduced(self, op: ops.PoolBN | ops.FactorizedReduce) -> Tensor:
        """The operation without its BatchNorm, (B, C, H, W)."""
        return op[0](self.x) if isinstance(op, ops.PoolBN) else op.halved(self.dilated, self.odd)

    def result(self, op: ops.PoolBN | ops.FactorizedReduce) -> Tensor:
        """The operation with its BatchNorm, (N, C), in training, of what is in `normalised`."""
        y, mean, variance, count = self.normalised[shared(op)]
        track([op.norm], mean[None], variance[None], count)
        return y


def shared(op: ops.PoolBN | ops.FactorizedReduce) -> str | nn.Module:
    """What the operations of a state that are the same before their BatchNorm have in common."""
    return repr(op[0]) if isinstance(op, ops.PoolBN) else op


def mixed_node(
    states: Sequence[State],
    edges: Sequence[nn.ModuleDict],
    weights: Tensor | Sequence[Sequence[Tensor]],
    active: Sequence[Collection[str] | None],
    recompute: bool = False,
    common: "Common | None" = None,
) -> Tensor:
    """The sum of the mixed operations of E edges, one per state: (B, C, H, W).

    weights      (E, operations), in the order of the operations of an edge
    active       for every edge the names of the operations to compute, or None for all; the others add nothing
    recompute    compute depthwise convolutions once more for the gradient instead of keeping their results
    common       what the node has in common with others of its cell, where they are computed together
    """
    terms = [
        (state, op, a)
        for state, edge, row, names in zip(states, edges, weights, active, strict=True)
        for (name, op), a in zip(edge.items(), row, strict=True)
        if names is None or name in names
    ]
    large = together(edges, states[0].x)
    if large:
        of_node = common or Common(edges, active)
        with no_autocast(states[0].x.device):
            y = _together(terms, states[0], of_node, recompute)
        if common is None:
            of_node.statistics.move()
    else:
        y = _one_by_one(terms, states[0], recompute)
    y = images(y, *states[0].shape)
    for state, op, a in terms:
        if large and isinstance(op, ops.FactorizedReduce):
            y = y + a * op.bn(state.reduced(op))
        elif not isinstance(op, ops.SepConv | ops.DilConv | ops.PoolBN | ops.FactorizedReduce | nn.Identity | ops.Zero):
            y = y + a * (op.after_relu(state.relu) if isinstance(op, ops.ReLUFirst) else op(state.x))
    return y


def _one_by_one(terms: Sequence[Term], like: State, recompute: bool) -> Tensor:
    """The sum of the convolutions, poolings, reductions and identities among the terms, (N, C).

    Poolings and reductions are normalised beside the first convolutions.
    """
    single = [(state, op, a) for state, op, a in terms if isinstance(op, ops.PoolBN | ops.FactorizedReduce)]
    evaluated = [rows(op.norm(state.reduced(op))) for state, op, _ in single if not op.norm.training]
    new = {(s, shared(op)): op for s, op, _ in single if op.norm.training and shared(op) not in s.normalised}
    beside = [state.reduced(op) for (state, _), op in new.items()]
    with no_autocast(like.x.device):  # products keep the dtype of the states, the rest is float32
        beside = [exact(rows(each)) for each in beside]
        y, found = _convolutions(terms, like, recompute, beside)
        if beside and not found:
            found = normalised(beside, single[0][1].norm.eps)
        for (state, key), each in zip(new, found, strict=True):
            state.normalised[key] = each._replace(y=each.y.to(state.x.dtype))
        for each, (_, _, a) in zip(evaluated or [state.result(op) for state, op, _ in single], single, strict=True):
            y.addcmul_(each, a.to(y.dtype))
        for state, op, a in terms:
            if isinstance(op, nn.Identity):
                y.addcmul_(rows(state.x), a.to(y.dtype))
    return y


def together(edges: Sequence[nn.ModuleDict], like: Tensor) -> bool:
    """Whether the operations of a node are computed in few large kernels."""
    return edges[0].training and large_kernels(like.device)


class Common:
    """What nodes have in common whose operations are computed together, such as those of a cell.

    kernels       those of all active depthwise convolutions, of one size
    statistics    of their BatchNorms, moved together when the last node is computed
    """

    def __init__(self, edges: Sequence[nn.ModuleDict], active: Sequence[Collection[str] | None]):
        operations = [
            op for edge, names in zip(edges, active, strict=True) for name, op in edge.items() if names is None or name in names
        ]
        separable = [depth for op in operations if isinstance(op, ops.SepConv) for depth in (op.depth1, op.depth2)]
        self.kernels = stacked.padded([*separable, *(op.depth for op in operations if isinstance(op, ops.DilConv))])
        self.statistics = Statistics()
        self._one: Tensor | None = None

    def one(self, like: Tensor) -> Tensor:
        """The identity (C, C) for a state (B, C, H, W), made once."""
        if self._one is None:
            self._one = torch.eye(like.shape[1], dtype=exact(like).dtype, device=like.device)
        return self._one


def _together(terms: Sequence[Term], like: State, common: Common, recompute: bool) -> Tensor:
    """The same in few large kernels."""
    kinds = (ops.SepConv, ops.DilConv, ops.PoolBN, nn.Identity)
    separable, dilated, pooled, identities = ([term for term in terms if isinstance(term[1], kind)] for kind in kinds)
    ends = [*_second_halves(separable, like, common, recompute), *_dilated(dilated, common), *_pooled(pooled, common)]
    B, H, W = like.shape
    y = like.x.new_zeros(B * H * W, like.x.shape[1]) if not ends else None
    if ends:
        parts, factors = zip(*ends, strict=True)
        a, points, norms = zip(*chain(*factors), strict=True)
        (y,) = stacked.sums(parts, norms, torch.stack(a), torch.stack(points), common.statistics, recompute)
    if identities:
        x = torch.stack([rows(state.x) for state, _, _ in identities])
        a = torch.stack([a for _, _, a in identities]).to(x.dtype)
        y = torch.addmv(y.flatten(), x.flatten(1).t(), a).view_as(y)
    return y


def _second_halves(terms: Sequence[Term], like: State, common: Common, recompute: bool) -> Ends:
    """The second halves of separable convolutions, whose first halves are computed."""
    if not terms:
        return []
    of_half = {id(op.depth1): (op, a) for _, op, a in terms}
    groups = stacked.by_geometry([Half(0, x.relu, op.depth1, op.point1, op.norm1, x.stride) for x, op, _ in terms])
    first = list(chain(*groups))
    points = torch.stack([half.point.weight.flatten(1) for half in first])
    parts, norms = [stacked.part(group, common.kernels) for group in groups], [half.norm for half in first]
    r = stacked.sums(parts, norms, None, points, common.statistics, recompute)
    r = F.relu_(r[0] if len(r) == 1 else torch.cat(r, dim=1))
    second = [of_half[id(half.depth)] for half in first]
    kernels = torch.cat([common.kernels[op.depth2] for op, _ in second]).to(r.dtype)
    return [
        (stacked.Part([images(r, *like.shape)], 1, kernels), [(a, op.point2.weight.flatten(1), op.norm2) for op, a in second])
    ]


def _dilated(terms: Sequence[Term], common: Common) -> Ends:
    a_of = {id(op.depth): a for _, op, a in terms}
    halves = [Half(0, x.dilated, op.depth, op.point, op.norm, 1, x.dilation) for x, op, _ in terms]
    return [
        (
            stacked.part(group, common.kernels),
            [(a_of[id(half.depth)], half.point.weight.flatten(1), half.norm) for half in group],
        )
        for group in stacked.by_geometry(halves)
    ]


def _pooled(terms: Sequence[Term], common: Common) -> Ends:
    if not terms:
        return []
    x = [state.pool(op[0]) for state, op, _ in terms]
    return [(stacked.Part(x, 1, None), [(a, common.one(x[0]), op[1]) for _, op, a in terms])]


def _convolutions(
    terms: Sequence[Term], like: State, recompute: bool, beside: Sequence[Tensor]
) -> tuple[Tensor, list[Normalised]]:
    """The sum of the separable and the dilated convolutions among the terms, (N, C); and what is beside them, normalised, where
    there are any."""
    separable, dilated = ([term for term in terms if isinstance(term[1], kind)] for kind in (ops.SepConv, ops.DilConv))
    (B, H, W), found = like.shape, []
    ends = [Half(int(x.phased), x.dilated, op.depth, op.point, op.norm, 1, x.dilation) for x, op, _ in dilated]
    if separable:
        first = [Half(k, x.relu, op.depth1, op.point1, op.norm1, x.stride) for k, (x, op, _) in enumerate(separable)]
        r, found = sums(first, torch.ones_like(separable[0][2]).expand(len(first)), recompute, beside)
        r, beside = [images(y.relu_(), B, H, W) for y in r], ()
        ends += [Half(0, r_k, op.depth2, op.point2, op.norm2) for r_k, (_, op, _) in zip(r, separable, strict=True)]
    if not ends:
        return like.x.new_zeros(B * H * W, like.x.shape[1]), found
    (y, *by_phase), more = sums(ends, torch.stack([a for _, _, a in (*dilated, *separable)]), recompute, beside)
    return y.add_(rows(from_phases(*by_phase, B, H, W))) if by_phase else y, found + more
