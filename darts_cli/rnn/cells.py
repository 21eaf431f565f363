"""The recurrent cells: the mixed one of a search, and that of a genotype (sec. 2.1, 3.1.2)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from darts_cli.genotype import Cell as CellGenotype
from darts_cli.rnn.fused.mixture import Mixture
from darts_cli.rnn.fused.recurrence import ACTIVATIONS, Recurrence
from darts_cli.runtime.batchnorm import BatchNorm1d
from darts_cli.runtime.compiling import is_compiled
from darts_cli.runtime.device import no_autocast
from darts_cli.spaces.space import Space

INIT_RANGE = 0.04  # weights start uniformly in [-0.04, 0.04]


class Masks(NamedTuple):
    """The five dropouts of one batch, drawn once: the same at every time step, and in every pass over the batch.

    Each is 0, or 1 / keep with the probability keep (Gal and Ghahramani, arXiv 1512.05287).
    """

    words: Tensor  # (V, 1): complete words
    embedding: Tensor  # (B, D): the embedded words
    x: Tensor  # (B, D): the cell's input
    h: Tensor  # (B, D): the hidden state, and every node
    output: Tensor  # (B, D): the cell's output

    def part(self, rows: slice) -> "Masks":
        """The masks of some of the streams."""
        return Masks(self.words, *(mask[rows] for mask in self[1:]))


class Cell(nn.Module):
    """The cell of a genotype: each node moves one earlier state towards its activation, by the fraction that its gate gives.

        [c | h] = s_j W_i,   s_i = s_j + sigmoid(c) (f_i(h) - s_j)

    s_0 comes in the same way from the hidden state, which is the mean of the nodes in `concat` at the previous time; its
    activation is `init_op`, its gate [x | s] W_0.
    """

    def __init__(self, cell: CellGenotype, dim: int, init_op: str = "tanh"):
        super().__init__()
        self.steps = [(init_op, None), *((edge.op, edge.input) for (edge,) in cell.nodes)]
        self.concat = cell.concat
        self.W0, self.Ws = _weights(dim, len(cell.nodes))

    def forward(self, x: Tensor, s: Tensor, masks: Masks | None) -> Tensor:
        """x (T, B, D), s (B, D) -> the hidden states (T, B, D)."""
        x_gates, W_s = _input_gates(x, self.W0, masks)
        m = _mask(s, masks)
        Ws = [W.to(x_gates.dtype) for W in (W_s, *self.Ws)]
        with no_autocast(x.device):
            return Recurrence.apply(self.steps, self.concat, x_gates.to(s.dtype), s, m, *Ws)


class SearchCell(nn.Module):
    """The search's cell: every node is the weighted sum of Cell's nodes over all earlier states and all operations but `none`.

    One BatchNorm without affine parameters follows s_0 and every node. `fused` computes them quickly, to the same result.
    """

    def __init__(self, space: Space, dim: int, fused: bool = True):
        super().__init__()
        self.space, self.fused, self.moment = space, fused, Moment()
        self.W0, self.Ws = _weights(dim, space.nodes)
        self.bn = BatchNorm1d(dim, affine=False)
        columns = [[[float(name == op) for name in ACTIVATIONS] for op in row] for row in space.choices("recurrent")]
        self.register_buffer("columns", torch.tensor(columns), persistent=False)
        self.register_buffer("of_s_0", torch.tensor([[float(name == "tanh") for name in ACTIVATIONS]]), persistent=False)
        self.register_buffer("identity", torch.tensor([float(name == "identity") for name in ACTIVATIONS]), persistent=False)

    def forward(self, x: Tensor, s: Tensor, weights: Tensor, masks: Masks | None, auxiliary: float = 0.0) -> Tensor:
        """x (T, B, D), s (B, D), weights (36, 5) -> the hidden states (T, B, D), each the mean of the nodes; `auxiliary` is the
        weight of an identity that is added to every edge."""
        x_gates, W_s = _input_gates(x, self.W0, masks)
        p = (weights[:, :, None] * self.columns).sum(1) + auxiliary * self.identity
        if self.fused and self.bn.training and not is_compiled(self.moment):
            m, Ws = _mask(s, masks), [W.to(x_gates.dtype) for W in (W_s, *self.Ws)]
            with no_autocast(x.device):
                return Mixture.apply(self.bn, x_gates.to(s.dtype), s, m, torch.cat([self.of_s_0, p]).to(s.dtype), *Ws)
        outputs = []
        for x_gate in x_gates:
            s = self.moment(x_gate, s, masks, W_s, list(self.Ws), self.space.by_node(p), self.bn)
            outputs.append(s)
        return torch.stack(outputs)


class Moment(nn.Module):
    """The search's cell at one time, a module without tensors of its own, so that it can be compiled."""

    def forward(
        self,
        x_gate: Tensor,
        s: Tensor,
        masks: Masks | None,
        W_s: Tensor,
        Ws: Sequence[Tensor],
        by_node: Sequence[Tensor],
        bn: nn.Module,
    ) -> Tensor:
        """x_gate (B, 2D), s (B, D), and what is the same at all times -> the next hidden state (B, D)."""
        c, h = (x_gate + _masked(s, masks) @ W_s).chunk(2, dim=-1)
        states = bn(s + c.sigmoid() * (h.tanh() - s)).unsqueeze(0)  # (1, B, D)
        for W, p in zip(Ws, by_node, strict=True):
            gates = _masked(states, masks) @ W
            node = mix(states, gates.to(states.dtype), p.to(states.dtype))
            states = torch.cat([states, bn(node).unsqueeze(0)])
        return states[1:].mean(0)


def mix(states: Tensor, gates: Tensor, p: Tensor) -> Tensor:
    """sum_jk p_jk (s_j + sigmoid(c_j) (f_k(h_j) - s_j)): states (i, B, D), gates [c | h] (i, B, 2D), p (i, 4) -> (B, D)."""
    c, h = gates.chunk(2, dim=-1)
    f = torch.stack([h.tanh(), h.relu(), h.sigmoid(), h])  # as ACTIVATIONS
    return torch.einsum("jk,kjbd->bd", p, states + c.sigmoid() * (f - states))


def _weights(dim: int, nodes: int) -> tuple[nn.Parameter, nn.ParameterList]:
    """W_0 for the concatenated input and hidden state, W_i for the nodes; their left halves give c, their right halves h."""
    W0 = nn.Parameter(torch.empty(2 * dim, 2 * dim).uniform_(-INIT_RANGE, INIT_RANGE))
    return W0, nn.ParameterList(torch.empty(dim, 2 * dim).uniform_(-INIT_RANGE, INIT_RANGE) for _ in range(nodes))


def _input_gates(x: Tensor, W0: Tensor, masks: Masks | None) -> tuple[Tensor, Tensor]:
    """The part of s_0's gates that comes from the inputs x (T, B, D): (T, B, 2D); and the matrix of the hidden state."""
    W_x, W_s = W0.chunk(2)
    return (x if masks is None else x * masks.x) @ W_x, W_s


def _mask(s: Tensor, masks: Masks | None) -> Tensor:
    return torch.ones_like(s) if masks is None else masks.h


def _masked(state: Tensor, masks: Masks | None) -> Tensor:
    return state if masks is None else state * masks.h
