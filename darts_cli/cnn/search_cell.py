"""The cell of the search network, whose edges mix all operations (sec. 2.2 and 3.1.1)."""

from collections.abc import Collection, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_cli.cnn import ops
from darts_cli.cnn.fused.node import State, mixed_node
from darts_cli.methods.papers.pc_darts import shuffled
from darts_cli.spaces.space import Space

Active = Sequence[Collection[str]] | None  # for every edge the operations to compute; None: all


class SearchCell(nn.Module):
    """A cell whose nodes each sum the mixed operations of all earlier states (eq. 1).

    kind         of cell in the space: "normal" or "reduce"; the latter halves height and width
    partial      operations see one of so many parts of the channels; the rest passes by (PC-DARTS, arXiv 1907.05737)
    auxiliary    add a skip connection to every edge, without affine parameters (DARTS-, arXiv 2009.01027)
    fused        compute all edges of a node together, to the same result
    recompute    compute depthwise convolutions once more for the gradient instead of keeping their results
    """

    def __init__(
        self,
        space: Space,
        kind: str,
        C_prev_prev: int,
        C_prev: int,
        C: int,
        reduction_prev: bool,
        fused: bool,
        recompute: bool,
        partial: int = 1,
        auxiliary: bool = False,
    ):
        super().__init__()
        self.space, self.kind, self.fused, self.recompute = space, kind, fused, recompute
        self.stride = 2 if kind == "reduce" else 1
        self.preprocess0, self.preprocess1 = ops.preprocessing(C_prev_prev, C_prev, C, reduction_prev, affine=False)
        self.edges = nn.ModuleList(
            ops.MixedOp(operations, C // partial, self.stride if state < space.inputs else 1)
            for (state, _), operations in zip(space.edges(), space.choices(kind), strict=True)
        )
        self.mixed_channels = C // partial
        self.register_buffer("order", shuffled(C, partial), persistent=False)
        strides = [self.stride if state < space.inputs else 1 for state, _ in space.edges()]
        skips = [ops.operation("skip_connect", C, stride, affine=False) for stride in strides] if auxiliary else []
        self.skips = nn.ModuleList(skips)

    def forward(
        self,
        s0: Tensor,
        s1: Tensor,
        weights: Tensor,
        active: Active = None,
        edge_weights: Tensor | None = None,
        auxiliary: float = 0.0,
    ) -> Tensor:
        """s0, s1 (B, C', H, W), after their ReLU, weights (14, 8) -> (B, 4C, H, W); a reduction cell halves H and W.

        edge_weights    (14,): of the channels that pass by
        auxiliary       the weight of the added skip connections
        """
        active = [None] * len(self.edges) if active is None else active
        states = [self.preprocess0.after_relu(s0), self.preprocess1.after_relu(s1)]
        shared = [self._shared(x, self.stride) for x in states]
        passing = [self._passing(x, self.stride) for x in states]
        skips = self.space.by_node(self.skips) if len(self.skips) else [()] * self.space.nodes
        by_edge = torch.ones(len(self.edges)) if edge_weights is None else edge_weights
        nodes = zip(*map(self.space.by_node, (self.edges, weights, active, by_edge)), skips, strict=True)
        for edges, rows, names, along, added in nodes:
            if self.fused:
                x = mixed_node(shared, edges, rows, names, self.recompute)
            else:
                x = sum(edge(s, row, name) for edge, s, row, name in zip(edges, shared, rows, names, strict=True))
            if self.partial:
                rest = sum(a * y for a, y in zip(along.unbind(), passing, strict=True))
                x = torch.cat([x, rest], dim=1)[:, self.order]
            if len(added) and auxiliary:
                x = x + auxiliary * sum(skip(s) for skip, s in zip(added, states, strict=True))
            states.append(x)
            shared.append(self._shared(x, 1))
            passing.append(self._passing(x, 1))
        return torch.cat(states[self.space.inputs :], dim=1)

    @property
    def partial(self) -> bool:
        """Whether some channels pass by the operations."""
        return self.mixed_channels < len(self.order)

    def _shared(self, x: Tensor, stride: int) -> State | Tensor:
        """What the operations of a state see."""
        if self.partial:
            x = x[:, : self.mixed_channels]
            x = x.contiguous(memory_format=torch.channels_last) if self.fused else x
        return State(x, stride) if self.fused else x

    def _passing(self, x: Tensor, stride: int) -> Tensor | None:
        """The channels of a state that pass by its operations."""
        if not self.partial:
            return None
        return x[:, self.mixed_channels :] if stride == 1 else F.max_pool2d(x[:, self.mixed_channels :], 2)
