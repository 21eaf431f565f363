"""The search's recurrent cell over all time steps, with the gradient written by hand: few passes over memory."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd import Function

from darts_cli.rnn.fused.recurrence import multiply
from darts_cli.runtime.autograd import once_differentiable
from darts_cli.runtime.batchnorm import BatchNorm1d, rows_gradient
from darts_cli.runtime.device import large_kernels


class Mixture(Function):
    """s_i = BN(sum_j q_j s_j + c_j (sum_k p_jk f_k(h_j) - q_j s_j)),   c_j = sigmoid(a_j),   [a_j | h_j] = (m s_j) W_i.

    Here q_j = sum_k p_jk, and f = tanh, relu, sigmoid, identity. The output, and next hidden state, is the mean of s_1 to
    s_N. The only edge of s_0 comes from the hidden state, and its [a | h] has the input's part added.

    norm      the BatchNorm that follows s_0 and every node, in training mode
    x_gates   (T, B, 2D): the input's part of [a | h] of s_0
    s, m      (B, D): the hidden state at the start; the mask
    p         (1 + N (N + 1) / 2, 4): the weights of the activations of every edge, that of s_0 first
    Ws        (D, 2D) of s_0 and of every node

    Returns the outputs (T, B, D). With g the gradient of the sum that BatchNorm gets:

        g_a = g c (1 - c) (sum_k p_k f_k(h) - q s),   g_h = g c sum_k p_k f_k'(h),   g_s = g q (1 - c) + m ([g_a | g_h] W^T),
        g_p_k = g . (c f_k(h) + (1 - c) s),   g_W = sum_t (m s)^T [g_a | g_h].

    All [a | h] and all states are kept. What g is multiplied with is computed again: on a CPU for the edges of one node at a
    time, which its cache holds, and on other devices for all edges of a time step in few kernels.
    """

    @staticmethod
    def forward(ctx, norm: BatchNorm1d, x_gates: Tensor, s: Tensor, m: Tensor, p: Tensor, *Ws: Tensor) -> Tensor:
        T, N, (B, D) = len(x_gates), len(Ws) - 1, s.shape
        gates = s.new_empty(T, len(p), B, 2 * D)
        states = s.new_empty(T + 1, 2 + N, B, D)  # at each time the hidden state, s_0 and the nodes
        nodes, means, factors = s.new_empty(T, 1 + N, B, D), s.new_empty(T, 1 + N, D), s.new_empty(T, 1 + N, D)
        masked, q = torch.empty_like(states[0]), _column(p.sum(1))
        states[0, 0] = s
        for t in range(T):
            torch.mul(states[t, 0], m, out=masked[0])
            for i, W in enumerate(Ws):
                edges, sources = _edges(i), _sources(i)
                multiply(masked[sources].view(-1, D), W, gates[t, edges].view(-1, 2 * D))
                if i == 0:
                    gates[t, edges] += x_gates[t]
                h, sigmoid = gates[t, edges, :, D:], gates[t, edges].sigmoid()
                mixed = _mixed(h, h.tanh(), sigmoid[..., D:], p[edges])
                torch.sum(torch.lerp(states[t, sources] * q[edges], mixed, sigmoid[..., :D]), 0, out=nodes[t, i])
                count = norm.rows(nodes[t, i], states[t, i + 1], means[t, i], factors[t, i])
                torch.mul(states[t, i + 1], m, out=masked[i + 1])
            torch.mean(states[t, 2:], 0, out=states[t + 1, 0])
        ctx.count = count
        ctx.save_for_backward(gates, states, nodes, means, factors, m, p, *Ws)
        return states[1:, 0].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, g_outputs: Tensor) -> tuple:
        gates, states, nodes, means, factors, m, p, *Ws = ctx.saved_tensors
        (T, E), N, (B, D) = gates.shape[:2], len(Ws) - 1, m.shape
        needs_p, needs_W = ctx.needs_input_grad[4:6]
        g_x, g_s = torch.empty_like(gates[:, 0]), torch.zeros_like(m)
        g_p, g_Ws = torch.zeros_like(p), [W.new_zeros(W.shape, dtype=m.dtype) for W in Ws]
        g_gates, g_nodes = gates.new_empty(E, B, 2, D), states.new_empty(1 + N, B, D)
        g_masked = states.new_empty(max(N, 1) * B, D)
        groups = [range(1 + N)] if large_kernels(m.device) else [[i] for i in reversed(range(1 + N))]
        for t in reversed(range(T)):
            masked = states[t] * m
            g_states = torch.zeros_like(states[t])
            g_states[2:] = (g_outputs[t] + g_s) / N
            for group in groups:
                edges = slice(_edges(group[0]).start, _edges(group[-1]).stop)
                local = _Edges(gates[t, edges], _joined([states[t, _sources(i)] for i in group]), p[edges])
                for i in reversed(group):
                    sources, own = _sources(i), _edges(i)
                    of_group = slice(own.start - edges.start, own.stop - edges.start)
                    g = rows_gradient(g_states[i + 1], nodes[t, i], means[t, i], factors[t, i], ctx.count)
                    g_nodes[i] = g
                    g_gate = torch.mul(local.of_gates[of_group], g[:, None], out=g_gates[own]).view(-1, 2 * D)
                    g_states[sources].addcmul_(local.of_states[of_group], g)
                    through = multiply(g_gate, Ws[i].t(), g_masked[: len(g_gate)]).view(-1, B, D)
                    g_states[sources].addcmul_(through, m)
                    if needs_W:
                        g_Ws[i] += masked[sources].view(-1, D).to(Ws[i].dtype).t() @ g_gate.to(Ws[i].dtype)
                if needs_p:
                    g_p[edges] += local.of_p(_joined([g_nodes[i].expand(max(i, 1), B, D) for i in group]))
            g_x[t] = g_gates[0].flatten(1)
            g_s = g_states[0]
        g_Ws = [g.to(W.dtype) if needs_W else None for g, W in zip(g_Ws, Ws, strict=True)]
        return None, g_x, g_s, None, g_p if needs_p else None, *g_Ws


class _Edges:
    """The factors of g for some edges, given their [a | h] (E, B, 2D), s (E, B, D) and p (E, 4)."""

    def __init__(self, gates: Tensor, s: Tensor, p: Tensor):
        D, sigmoid = s.shape[-1], gates.sigmoid()
        c, h, tanh, of_h = sigmoid[..., :D], gates[..., D:], gates[..., D:].tanh(), sigmoid[..., D:]
        kept, q = 1 - c, _column(p.sum(1))
        p_tanh, p_relu, p_sigmoid, p_identity = map(_column, p.unbind(1))
        slope = tanh.square().mul_(-p_tanh).add_(p_tanh + p_identity)  # sum_k p_k f_k'(h)
        slope.addcmul_(of_h.addcmul(of_h, of_h, value=-1), p_sigmoid).addcmul_((h > 0).to(h.dtype), p_relu)
        self.of_gates = gates.new_empty(*s.shape[:2], 2, D)
        difference = _mixed(h, tanh, of_h, p).addcmul_(s, q, value=-1)
        torch.mul(difference.mul_(c), kept, out=self.of_gates[:, :, 0])
        torch.mul(slope, c, out=self.of_gates[:, :, 1])
        self.of_states = kept * q
        self._s, self._c, self._f, self._kept = s, c, (tanh, h, of_h), kept

    def of_p(self, g: Tensor) -> Tensor:
        """(E, 4): the gradient of p."""
        tanh, h, sigmoid = self._f
        d, of_all = g * self._c, _dot(g * self._kept, self._s)
        return torch.stack([_dot(d, f) for f in (tanh, h.relu(), sigmoid, h)], dim=1) + of_all[:, None]


def _edges(i: int) -> slice:
    """The edges of s_i in the list of all: one of s_0, then i of each node i."""
    return slice(1 + i * (i - 1) // 2, 1 + i * (i + 1) // 2) if i else slice(0, 1)


def _sources(i: int) -> slice:
    """Where the edges of s_i come from: the hidden state, which is followed by s_0 and the nodes, or all s before it."""
    return slice(1, 1 + i) if i else slice(0, 1)


def _mixed(h: Tensor, tanh: Tensor, sigmoid: Tensor, p: Tensor) -> Tensor:
    """sum_k p_k f_k(h)."""
    p_tanh, p_relu, p_sigmoid, p_identity = map(_column, p.unbind(1))
    return (h * p_identity).addcmul_(tanh, p_tanh).addcmul_(sigmoid, p_sigmoid).addcmul_(h.relu(), p_relu)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _column(values: Tensor) -> Tensor:
    """(E,) -> (E, 1, 1)."""
    return values[:, None, None]


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """(E, B, D) twice -> (E,)."""
    return (a * b).sum((1, 2))
