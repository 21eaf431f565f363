"""The cell of a genotype over all time steps, with the gradient written by hand: each weight's gradient is a single product."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from darts_cli.runtime.autograd import once_differentiable


class Activation(NamedTuple):
    apply_: Callable[[Tensor], Tensor]  # in place
    slope: Callable[[Tensor], Tensor]  # its derivative, as a function of its output


ACTIVATIONS = {
    "tanh": Activation(torch.tanh_, lambda f: 1 - f * f),
    "relu": Activation(torch.relu_, lambda f: (f > 0).to(f.dtype)),
    "sigmoid": Activation(torch.sigmoid_, lambda f: f * (1 - f)),
    "identity": Activation(lambda h: h, torch.ones_like),
}


class Recurrence(Function):
    """[c | h] = (m s_j) W_i,  s_i = s_j + sigmoid(c) (f_i(h) - s_j); the output, and the next s, is the mean of `concat`.

    steps     (operation, j) of s_0 and every node; j = None for s_0, which follows the last output, s
    concat    the states whose mean is the output
    x_gates   (T, B, 2D): the input's part of [c | h] of s_0
    s, m      (B, D): the hidden state at the start; the mask
    Ws        (D, 2D), one per step

    Returns the outputs (T, B, D). With g the gradient of s_i, and c and f after their activations:

        g_[c|h] = [g (f - s_j) c (1 - c) | g c f_i'],   g_j = g (1 - c) + m (g_[c|h] W_i^T),   g_W_i = sum (m s_j)^T g_[c|h].

    The gradients of the gates overwrite the gates, whose copies would be the largest tensors; so there is one backward pass.
    """

    @staticmethod
    def forward(ctx, steps: Sequence, concat: Sequence[int], x_gates: Tensor, s: Tensor, m: Tensor, *Ws: Tensor) -> Tensor:
        T, B, D = *x_gates.shape[:2], s.shape[1]
        gates = s.new_empty(len(steps), T, B, 2 * D)  # [sigmoid(c) | f(h)]
        states = s.new_empty(len(steps), T, B, D)
        outputs = s.new_empty(T, B, D)
        start, columns = s, [W.t().contiguous().t() for W in Ws]  # column by column, which is faster for few rows
        for t in range(T):
            for i, ((op, j), W) in enumerate(zip(steps, columns, strict=True)):
                before = s if j is None else states[j, t]
                gate = multiply(before * m, W, gates[i, t])
                if j is None:
                    gate += x_gates[t]
                c, h = gate.chunk(2, dim=-1)
                torch.lerp(before, ACTIVATIONS[op].apply_(h), c.sigmoid_(), out=states[i, t])
            s = torch.mean(torch.stack([states[i, t] for i in concat]), 0, out=outputs[t])
        ctx.steps, ctx.concat, ctx.gates = steps, concat, gates
        ctx.save_for_backward(start, m, states, outputs, *Ws)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx, g_outputs: Tensor):
        start, m, states, outputs, *Ws = ctx.saved_tensors
        gates, ctx.gates = ctx.gates, None
        if gates is None:
            raise RuntimeError("a pass of a recurrent network has one backward pass; compute its loss again for another")
        product = torch.empty_like(m)
        g_s = torch.zeros_like(start)
        for t in reversed(range(len(outputs))):
            g_states = torch.zeros_like(states[:, 0])
            g_output = (g_outputs[t] + g_s) / len(ctx.concat)
            for i in ctx.concat:
                g_states[i] = g_output
            g_s = torch.zeros_like(start)
            for i, (op, j) in reversed(list(enumerate(ctx.steps))):
                if j is None:
                    before, g_before = outputs[t - 1] if t else start, g_s
                else:
                    before, g_before = states[j, t], g_states[j]
                g, (c, f) = g_states[i], gates[i, t].chunk(2, dim=-1)
                g_f = g * c
                g_before.add_(g).sub_(g_f)
                g_c = c * (1 - c) * ((f - before) * g)
                g_gate = torch.cat([g_c, g_f * ACTIVATIONS[op].slope(f)], dim=-1, out=gates[i, t])
                g_before.addcmul_(multiply(g_gate, Ws[i].t(), product), m)
        g_gates = gates

        def g_W(i: int, j: int | None) -> Tensor:
            before = states[j] if j is not None else torch.cat([start[None], outputs[:-1]])
            return (before * m).flatten(0, 1).to(Ws[i].dtype).t() @ g_gates[i].flatten(0, 1).to(Ws[i].dtype)

        g_Ws = [g_W(i, j) if ctx.needs_input_grad[5 + i] else None for i, (_, j) in enumerate(ctx.steps)]
        return None, None, g_gates[0], g_s, None, *g_Ws


def multiply(a: Tensor, W: Tensor, out: Tensor) -> Tensor:
    """a W, computed in the dtype of W."""
    return torch.mm(a, W, out=out) if a.dtype == W.dtype else out.copy_(a.to(W.dtype) @ W)
