"""The mixed operations of a node of the recurrent search cell, with the gradient written by hand: few passes over memory."""

import torch
from torch import Tensor
from torch.autograd import Function

from darts_cli.runtime.autograd import once_differentiable


class Mix(Function):
    """sum_j q_j s_j + sigmoid(c_j) (sum_k p_kj f_k(h_j) - q_j s_j),   q_j = sum_k p_kj,   f = tanh, relu, sigmoid, identity.

    states s (i, B, D), gates [c | h] (i, B, 2D), p (i, 4) -> (B, D). With d = sigmoid(c) g for the gradient g of the node:

        g_p_k = d f_k(h) + (g - d) s,  g_h = d sum_k p_k f_k'(h),  g_s = q (g - d),
        g_c = g sigmoid'(c) (sum_k p_k f_k(h) - q s).

    Only the arguments are kept for the gradient.
    """

    @staticmethod
    def forward(ctx, states: Tensor, gates: Tensor, p: Tensor) -> Tensor:
        ctx.save_for_backward(states, gates, p)
        c, h = gates.chunk(2, dim=-1)
        mixed, _, _ = _mixed(h, p)
        kept = states * _column(p.sum(1))
        return kept.addcmul_(c.sigmoid(), mixed.sub_(kept)).sum(0)

    @staticmethod
    @once_differentiable
    def backward(ctx, g: Tensor):
        states, gates, p = ctx.saved_tensors
        c, h = gates.chunk(2, dim=-1)
        q = _column(p.sum(1))
        mixed, tanh, sigmoid = _mixed(h, p)
        gate = c.sigmoid()
        d = gate * g
        rest = g - d  # (i, B, D)

        g_p = None
        if ctx.needs_input_grad[2]:
            g_q = _dot(rest, states)
            g_p = torch.stack([_dot(d, f) + g_q for f in (tanh, h.relu(), sigmoid, h)], dim=1)

        g_gates = torch.empty_like(gates)
        g_c, g_h = g_gates.chunk(2, dim=-1)
        torch.mul(rest, gate, out=g_c)
        g_c.mul_(mixed.addcmul_(states, q, value=-1))
        p_tanh, p_relu, p_sigmoid, p_identity = map(_column, p.unbind(1))
        slope = tanh.square_().mul_(-p_tanh).add_(p_tanh + p_identity)  # p_tanh (1 - tanh^2) + p_identity
        slope.addcmul_(sigmoid.addcmul(sigmoid, sigmoid, value=-1), p_sigmoid)
        slope.addcmul_((h > 0).to(h.dtype), p_relu)
        torch.mul(slope, d, out=g_h)
        return rest.mul_(q), g_gates, g_p


def _mixed(h: Tensor, p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """sum_k p_k f_k(h), tanh(h) and sigmoid(h)."""
    p_tanh, p_relu, p_sigmoid, p_identity = map(_column, p.unbind(1))
    tanh, sigmoid = h.tanh(), h.sigmoid()
    mixed = (h * p_identity).addcmul_(tanh, p_tanh).addcmul_(sigmoid, p_sigmoid).addcmul_(h.relu(), p_relu)
    return mixed, tanh, sigmoid


def _column(values: Tensor) -> Tensor:
    """(i,) -> (i, 1, 1)."""
    return values[:, None, None]


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """(i, B, D) twice -> (i,)."""
    return (a * b).sum((1, 2))
