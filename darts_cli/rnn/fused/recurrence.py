"""The cell of a genotype over all time steps, with the gradient written out: its matrices' gradients are one product each."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from darts_cli.runtime.autograd import once_differentiable


class Activation(NamedTuple):
    apply_: Callable[[Tensor], Tensor]  # in place
    slope: Callable[[Tensor], Tensor]  # its derivative, from what it gave


ACTIVATIONS = {
    "tanh": Activation(torch.tanh_, lambda f: 1 - f * f),
    "relu": Activation(torch.relu_, lambda f: (f > 0).to(f.dtype)),
    "sigmoid": Activation(torch.sigmoid_, lambda f: f * (1 - f)),
    "identity": Activation(lambda h: h, torch.ones_like),
}


class Recurrence(Function):
    """[c | h] = (m s_j) W_i,  s_i = s_j + sigmoid(c) (f_i(h) - s_j); the output, and the next s, the mean of `concat`.

    Arguments: steps, (operation, j) for s_0 and every node, j = None for s_0, which comes from the last output, s; concat; the
    input's part of s_0's gate (T, B, 2D), which is added to [c | h] of s_0; s (B, D); the mask m (B, D); and W_i (D, 2D), one a
    step. Returns the outputs (T, B, D). With g the gradient of s_i, and c and f after their activations:

        g_[c|h] = [g (f - s_j) c (1 - c) | g c f_i'],   g_j = g (1 - c) + m (g_[c|h] W_i^T),   g_W_i = sum (m s_j)^T g_[c|h].

    The gradients of the gates take the place of the gates, so that there is no second backward pass.
    """

    @staticmethod
    def forward(ctx, steps: Sequence[tuple], concat: Sequence[int], of_x: Tensor, s: Tensor, m: Tensor, *Ws: Tensor) -> Tensor:
        T, B, D = *of_x.shape[:2], s.shape[1]
        gates = s.new_empty(len(steps), T, B, 2 * D)  # [sigmoid(c) | f(h)]
        states = s.new_empty(len(steps), T, B, D)
        outputs = s.new_empty(T, B, D)
        start, turned = s, [W.t().contiguous().t() for W in Ws]  # products with few rows are faster so
        for t in range(T):
            for i, ((op, j), W) in enumerate(zip(steps, turned, strict=True)):
                before = s if j is None else states[j, t]
                gate = _product(before * m, W, gates[i, t])
                if j is None:
                    gate += of_x[t]
                c, h = gate.chunk(2, dim=-1)
                torch.lerp(before, ACTIVATIONS[op].apply_(h), c.sigmoid_(), out=states[i, t])
            s = torch.mean(states[:, t][list(concat)], 0, out=outputs[t])
        ctx.steps, ctx.concat, ctx.gates = steps, list(concat), gates
        ctx.save_for_backward(start, m, states, outputs, *Ws)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx, g_outputs: Tensor):
        start, m, states, outputs, *Ws = ctx.saved_tensors
        gates, ctx.gates = ctx.gates, None
        if gates is None:
            raise RuntimeError("a pass of a recurrent network has one backward pass; compute its loss anew for another")
        product = torch.empty_like(m)
        g_s = torch.zeros_like(start)
        for t in reversed(range(len(outputs))):
            g_states = torch.zeros_like(states[:, 0])
            g_states[ctx.concat] = (g_outputs[t] + g_s) / len(ctx.concat)
            g_s = torch.zeros_like(start)
            for i, (op, j) in reversed(list(enumerate(ctx.steps))):
                before, g_before = (states[j, t], g_states[j]) if j is not None else (outputs[t - 1] if t else start, g_s)
                c, f = gates[i, t].chunk(2, dim=-1)
                through = g_states[i] * c
                g_before.add_(g_states[i]).sub_(through)
                c.mul_(1 - c).mul_((f - before).mul_(g_states[i]))
                torch.mul(through, ACTIVATIONS[op].slope(f), out=f)
                g_before.addcmul_(_product(gates[i, t], Ws[i].t(), product), m)
        g_gates = gates

        def g_W(i: int, j: int | None) -> Tensor:
            before = states[j] if j is not None else torch.cat([start[None], outputs[:-1]])
            return (before * m).flatten(0, 1).to(Ws[i].dtype).t() @ g_gates[i].flatten(0, 1).to(Ws[i].dtype)

        g_Ws = [g_W(i, j) if ctx.needs_input_grad[5 + i] else None for i, (_, j) in enumerate(ctx.steps)]
        return None, None, g_gates[0], g_s, None, *g_Ws


def _product(a: Tensor, W: Tensor, out: Tensor) -> Tensor:
    """a W, computed in the type of W."""
    return torch.mm(a, W, out=out) if a.dtype == W.dtype else out.copy_(a.to(W.dtype) @ W)
