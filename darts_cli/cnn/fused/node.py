"""The mixed operations of a node, computed together: the same function as one operation after another, with less work.

A node of the search cell is a sum of terms, each an operation o of an edge with its weight a (eqs. 1 and 2):

    x_i = sum_j sum_o a_o^(j,i) o(x_j).

What the edges of a state have in common is computed once (`State`). Convolutions, which end in a pointwise one and BatchNorm,
become matrix products that are added up in place (folded.py); poolings and identities are scaled and added. Other operations
are computed as they are.
"""

from collections.abc import Collection, Sequence
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_cli.cnn import ops
from darts_cli.cnn.fused.depthwise import from_phases, images, rows, to_phases
from darts_cli.cnn.fused.folded import Half, sums, track
from darts_cli.runtime.batchnorm import Normalise
from darts_cli.runtime.device import exact, no_autocast


class State:
    """A state x (B, C, H, W) of a cell, and what its outgoing edges share; they all have one stride."""

    def __init__(self, x: Tensor, stride: int):
        self.x, self.stride = x, stride
        self.shape = len(x), x.shape[2] // stride, x.shape[3] // stride  # B, H, W of the nodes after it
        self.phased = stride == 1 and x.shape[2] % 2 == x.shape[3] % 2 == 0
        self.dilation = 2 if stride == 1 and not self.phased else 1  # of the dilated convolutions, when applied to `dilated`
        self._pooled: dict[str, tuple] = {}  # by pooling

    @cached_property
    def relu(self) -> Tensor:
        return F.relu(self.x)

    @cached_property
    def dilated(self) -> Tensor:
        """relu(x) as the dilated convolutions read it: by phases, or of stride 2 every second pixel, where that is possible."""
        if self.phased:
            return to_phases(self.relu)
        return self.relu if self.stride == 1 else self.relu[:, :, ::2, ::2].contiguous(memory_format=torch.channels_last)

    def pooled(self, op: ops.PoolBN) -> Tensor:
        """The pooled and normalised state, (N, C)."""
        pool, norm = op
        if not norm.training:
            return rows(norm(pool(self.x)))
        if repr(pool) not in self._pooled:
            y, *statistics = Normalise.apply(exact(rows(pool(self.x))), norm.eps)
            self._pooled[repr(pool)] = y.to(self.x.dtype), statistics
        y, (mean, variance, count) = self._pooled[repr(pool)]
        track([norm], mean[None], variance[None], count)
        return y


def mixed_node(
    states: Sequence[State],
    edges: Sequence[nn.ModuleDict],
    weights: Tensor,
    active: Sequence[Collection[str] | None],
    recompute: bool = False,
) -> Tensor:
    """The sum of the mixed operations of E edges, one per state: (B, C, H, W).

    weights      (E, operations), in the order of the operations of an edge
    active       for every edge the names of the operations to compute, or None for all; the others add nothing
    recompute    compute depthwise convolutions once more for the gradient instead of keeping their results
    """
    terms = [
        (state, op, a)
        for state, edge, row, names in zip(states, edges, weights.unbind(), active, strict=True)
        for (name, op), a in zip(edge.items(), row.unbind(), strict=True)
        if names is None or name in names
    ]
    with no_autocast(states[0].x.device):  # products keep the dtype of the states, the rest is float32
        y = _convolutions(terms, states[0], recompute)
        for state, op, a in terms:
            if isinstance(op, nn.Identity | ops.PoolBN):
                y.addcmul_(rows(state.x) if isinstance(op, nn.Identity) else state.pooled(op), a.to(y.dtype))
    y = images(y, *states[0].shape)
    for state, op, a in terms:
        if isinstance(op, ops.FactorizedReduce):
            y = y + a * op.halved(state.dilated, state.relu[:, :, 1::2, 1::2])
        elif not isinstance(op, ops.SepConv | ops.DilConv | ops.PoolBN | nn.Identity | ops.Zero):
            y = y + a * (op.after_relu(state.relu) if isinstance(op, ops.ReLUFirst) else op(state.x))
    return y


def _convolutions(terms: Sequence[tuple[State, nn.Module, Tensor]], like: State, recompute: bool) -> Tensor:
    """The sum of the separable and the dilated convolutions among the terms, (N, C)."""
    separable, dilated = ([term for term in terms if isinstance(term[1], kind)] for kind in (ops.SepConv, ops.DilConv))
    B, H, W = like.shape
    ends = [Half(int(x.phased), x.dilated, op.depth, op.point, op.norm, 1, x.dilation) for x, op, _ in dilated]
    if separable:
        first = [Half(k, x.relu, op.depth1, op.point1, op.norm1, x.stride) for k, (x, op, _) in enumerate(separable)]
        r = [images(y.relu_(), B, H, W) for y in sums(first, torch.ones_like(separable[0][2]).expand(len(first)), recompute)]
        ends += [Half(0, r_k, op.depth2, op.point2, op.norm2) for r_k, (_, op, _) in zip(r, separable, strict=True)]
    if not ends:
        return like.x.new_zeros(B * H * W, like.x.shape[1])
    y, *by_phase = sums(ends, torch.stack([a for _, _, a in (*dilated, *separable)]), recompute)
    return y.add_(rows(from_phases(*by_phase, B, H, W))) if by_phase else y
