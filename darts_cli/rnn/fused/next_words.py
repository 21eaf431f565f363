"""The loss of the next words, from states to a number, without ever holding the logits of all of them."""

import torch
from torch import Tensor
from torch.autograd import Function

from darts_cli.runtime.autograd import once_differentiable

CHUNK = 1 << 23  # logits that exist at once


class NextWords(Function):
    """-sum_n log softmax(W s_n + b)_{y_n}: states s (N, D), W (V, D), b (V,), words y (N,) -> a number, in nats.

    The gradient of the logits of a state, softmax - onehot(y), is known as soon as they are: each chunk of logits goes at once
    into the gradients of s, W and b, and none is kept or computed again.
    """

    @staticmethod
    def forward(ctx, s: Tensor, W: Tensor, b: Tensor, y: Tensor) -> Tensor:
        low, (of_s, of_W, of_b) = s.dtype, ctx.needs_input_grad[:3]
        g_s = torch.empty_like(s) if of_s else None
        g_W = torch.zeros_like(W, dtype=b.dtype) if of_W else None
        g_b = torch.zeros_like(b) if of_b else None
        nll = b.new_zeros(())
        rows = max(1, CHUNK // len(W))
        z = b.new_empty(2, min(rows, len(s)), len(W))
        for k, (s_k, y_k) in enumerate(zip(s.split(rows), y.split(rows), strict=True)):
            logits, g_z = z[:, : len(y_k)]
            torch.addmm(b, s_k, W.t(), out=logits) if low == b.dtype else logits.copy_(torch.addmm(b.to(low), s_k, W.t()))
            torch.log_softmax(logits, dim=1, out=g_z)
            nll -= g_z.gather(1, y_k[:, None]).sum()
            if not (of_s or of_W or of_b):
                continue
            g_z.exp_().scatter_add_(1, y_k[:, None], b.new_full((len(y_k), 1), -1))
            if of_b:
                g_b += g_z.sum(0)
            g_z = g_z.to(low)
            if of_s:
                torch.mm(g_z, W, out=g_s[k * rows : k * rows + len(s_k)])
            if of_W:
                g_W.addmm_(g_z.t(), s_k) if low == g_W.dtype else g_W.add_(g_z.t() @ s_k)
        ctx.save_for_backward(*(g for g in (g_s, g_W, g_b) if g is not None))
        return nll

    @staticmethod
    @once_differentiable
    def backward(ctx, g: Tensor):
        kept = iter(ctx.saved_tensors)
        return *(next(kept) * g if needed else None for needed in ctx.needs_input_grad[:3]), None
