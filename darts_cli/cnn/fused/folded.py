"""K BatchNorms at once, folded into the pointwise convolutions before them; statistics are at least float32."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function

from darts_cli.runtime import batchnorm, distributed
from darts_cli.runtime.autograd import once_differentiable
from darts_cli.runtime.device import exact


def column_sums(d: Tensor) -> Tensor:
    """d (N, C) -> (C,)."""
    return exact(d).sum(0)


def gram(d: Tensor) -> Tensor:
    """d^T d for d (N, C), summed in parts: that costs nothing and gains an order of magnitude of precision."""
    parts = math.gcd(len(d), 64) if len(d) else 1
    d = exact(d).view(parts, len(d) // parts, d.shape[1])
    return (d.mT @ d).sum(0)


def centred(d: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Subtract the means m (K, C) from K matrices d_k (N, C), in place; returns m, the covariances S (K, C, C), and N.

    All three are over the rows of all ranks. Without the subtraction, float32 would lose the covariance of numbers that vary
    little compared with their mean.
    """
    sums, count = distributed.totals(torch.stack([column_sums(d_k) for d_k in d]), len(d[0]))
    m = sums / count
    for m_k, d_k in zip(m, d, strict=True):
        d_k.sub_(m_k.to(d_k.dtype))
    return m, distributed.total(torch.stack([gram(d_k) for d_k in d])) / count, count


class ChannelMoments(Function):
    """d (N, C) -> mean (C,) and variance (C,), differentiable, and N; over the rows of all ranks."""

    @staticmethod
    def forward(ctx, d: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        m, variance, count = batchnorm.moments(exact(d))
        ctx.save_for_backward(d, m, count)
        ctx.mark_non_differentiable(count)
        return m, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx, g_m: Tensor, g_variance: Tensor, _) -> Tensor:
        d, m, count = ctx.saved_tensors
        g_m, g_variance = distributed.total(torch.stack([g_m, g_variance])) / count
        return torch.addcmul((g_m - 2 * g_variance * m).to(d.dtype), d, (2 * g_variance).to(d.dtype))


def track(norms: Sequence[nn.BatchNorm2d], means: Tensor, variances: Tensor, count: Tensor) -> None:
    """Update the running statistics of K BatchNorms with means and variances (K, C) of `count` numbers each."""
    with torch.no_grad():
        unbiased = variances * (count / (count - 1).clamp_min(1))
        torch._foreach_lerp_([norm.running_mean for norm in norms], list(means), norms[0].momentum)
        torch._foreach_lerp_([norm.running_var for norm in norms], list(unbiased), norms[0].momentum)
        torch._foreach_add_([norm.num_batches_tracked for norm in norms], 1)


def running(norms: Sequence[nn.BatchNorm2d]) -> tuple[Tensor, Tensor]:
    """The running means and variances (K, C)."""
    return torch.stack([norm.running_mean for norm in norms]), torch.stack([norm.running_var for norm in norms])


class Folded(NamedTuple):
    """V (K, C, C_k) and b (K, C) with a_k BN(W_k d_k) = V_k d_k + b_k, and what they were computed from."""

    V: Tensor
    b: Tensor
    W: Tensor  # (K, C, C_k)
    a: Tensor  # (K,)
    factors: Tensor  # 1 / sqrt(variance of W_k d_k + eps), (K, C)
    running: Tensor | None  # in evaluation: the running mean of W_k d_k, (K, C)
    m: Tensor | None  # in training: the mean of d_k, which was subtracted, (K, C_k)
    S: Tensor | None  # in training: the covariance of d_k, (K, C_k, C_k)
    count: Tensor | None  # in training: the number of rows in m and S


def fold(W: Tensor, a: Tensor, norms: Sequence[nn.BatchNorm2d], d: Sequence[Tensor]) -> Folded:
    """Fold K BatchNorms, and their weights a (K,), into the pointwise convolutions W (K, C, C_k) of d_k (N, C_k) before them.

    In training the d_k are centred, in place.
    """
    if norms[0].training:
        (m, S, count), running_means = centred(d), None
        variances = ((W @ S) * W).sum(-1).clamp_min(0)
        track(norms, (W @ m[..., None]).squeeze(-1), variances, count)
    else:
        m = S = count = None
        running_means, variances = running(norms)
    factors = (variances + norms[0].eps).rsqrt()
    scale = a[:, None] * factors
    b = torch.zeros_like(scale) if running_means is None else -scale * running_means
    return Folded(scale[..., None] * W, b, W, a, factors, running_means, m, S, count)


def fold_backward(f: Folded, g_V: Tensor, g_b: Tensor) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
    """The gradients of W and a; and in training G_k (C_k, C_k) and row_k (C_k,): through the statistics of the batch, d_k
    receives the additional gradient d_k G_k + row_k."""
    scale = f.a[:, None] * f.factors
    g_scale = (g_V * f.W).sum(-1)
    if f.running is not None:
        g_scale = g_scale - g_b * f.running
        return scale[..., None] * g_V, (g_scale * f.factors).sum(-1), [], []
    g_variances = -0.5 * g_scale * f.a[:, None] * f.factors**3
    g_W = scale[..., None] * g_V + 2 * g_variances[..., None] * (f.W @ f.S)
    g_variances, g_b = distributed.total(torch.stack([g_variances, g_b])) / f.count  # the statistics are over all rows
    G = f.W.mT @ (2 * g_variances[..., None] * f.W)
    row = (f.V.mT @ -g_b[..., None]).squeeze(-1)  # the mean that centring takes from g V
    return g_W, (g_scale * f.factors).sum(-1), list(G), list(row)


def statistics_gradient(g: Tensor, d: Tensor, V: Tensor, *statistics: Tensor) -> Tensor:
    """The gradient of d_k before it was centred: through V_k d_k + b_k and, with G_k and row_k, through the statistics."""
    if not statistics:
        return g @ V.to(g.dtype)
    G, row = statistics
    return torch.addmm(row.to(d.dtype), d, G.to(d.dtype)).addmm_(g, V.to(g.dtype))


def centre_again(d: Sequence[Tensor], f: Folded) -> None:
    """Centre recomputed d_k as `fold` did."""
    if f.m is not None:
        for d_k, m_k in zip(d, f.m, strict=True):
            d_k.sub_(m_k.to(d_k.dtype))


def scales(norms: Sequence[nn.BatchNorm2d], moments: Sequence[tuple[Tensor, ...]], a: Tensor) -> tuple[Tensor, Tensor]:
    """s (E, C) and b (C,) with sum_k a_k BN(p_k) = sum_k s_k p_k + b; `moments`: in training, the ChannelMoments of p_k."""
    if norms[0].training:
        means, variances, counts = map(torch.stack, zip(*moments, strict=True))
        track(norms, means, variances, counts[0])
    else:
        means, variances = running(norms)
    s = a[:, None] * (variances + norms[0].eps).rsqrt()
    return s, -(s * means).sum(0)
