"""The loss of the next words, computed without ever holding all logits."""

import torch
from torch import Tensor
from torch.autograd import Function

from darts_cli.runtime.autograd import once_differentiable

MAX_LOGITS = 1 << 23  # that exist at once


class NextWords(Function):
    """-sum_n log softmax(W s_n + b)_{y_n}: states s (N, D), W (V, D), b (V,), words y (N,) -> a number, in nats.

    The gradient of a state's logits, softmax - onehot(y), is known as soon as they are. Each chunk of logits is added to the
    gradients of s, W and b at once; none is kept or recomputed.
    """

    @staticmethod
    def forward(ctx, s: Tensor, W: Tensor, b: Tensor, y: Tensor) -> Tensor:
        compute_dtype, (needs_s, needs_W, needs_b) = s.dtype, ctx.needs_input_grad[:3]
        g_s = torch.empty_like(s) if needs_s else None
        g_W = torch.zeros_like(W, dtype=b.dtype) if needs_W else None
        g_b = torch.zeros_like(b) if needs_b else None
        nll = b.new_zeros(())
        rows = max(1, MAX_LOGITS // len(W))
        buffers = b.new_empty(2, min(rows, len(s)), len(W))
        for k, (s_k, y_k) in enumerate(zip(s.split(rows), y.split(rows), strict=True)):
            logits, g_z = buffers[0, : len(y_k)], buffers[1, : len(y_k)]
            if compute_dtype == b.dtype:
                torch.addmm(b, s_k, W.t(), out=logits)
            else:
                logits.copy_(torch.addmm(b.to(compute_dtype), s_k, W.t()))
            torch.log_softmax(logits, dim=1, out=g_z)
            nll -= g_z.gather(1, y_k[:, None]).sum()
            if not (needs_s or needs_W or needs_b):
                continue
            g_z.exp_().scatter_add_(1, y_k[:, None], b.new_full((len(y_k), 1), -1))
            if needs_b:
                g_b += g_z.sum(0)
            g_z = g_z.to(compute_dtype)
            if needs_s:
                torch.mm(g_z, W, out=g_s[k * rows : k * rows + len(s_k)])
            if needs_W and compute_dtype == g_W.dtype:
                g_W.addmm_(g_z.t(), s_k)
            elif needs_W:
                g_W += g_z.t() @ s_k
        ctx.save_for_backward(*(g for g in (g_s, g_W, g_b) if g is not None))
        return nll

    @staticmethod
    @once_differentiable
    def backward(ctx, g: Tensor):
        gradients = iter(ctx.saved_tensors)
        return *(next(gradients) * g if needed else None for needed in ctx.needs_input_grad[:3]), None
