"""BatchNorm and operation weights folded into the pointwise convolutions before them.

If d has the mean m and the covariance S, then z = W d has the mean w_c m and the variance w_c S w_c in channel c, so that

    a BN(W d) = V (d - m),   V_c = a w_c / sqrt(w_c S w_c + eps).

Neither z nor its normalised and weighted copies are computed. Statistics are at least float32.
"""

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function

from darts_cli.cnn.fused.depthwise import depthwise, depthwise_backward, images, rows
from darts_cli.runtime import batchnorm, distributed
from darts_cli.runtime.autograd import once_differentiable
from darts_cli.runtime.device import exact


class Half(NamedTuple):
    """BN(W depthwise(x)): half of a separable convolution, or a dilated one; and the number of the sum that it is part of."""

    into: int
    x: Tensor  # (B, C, H, W), after its ReLU
    depth: nn.Conv2d
    point: nn.Conv2d
    norm: nn.BatchNorm2d
    stride: int = 1
    dilation: int = 1


class Normalised(NamedTuple):
    """A matrix y (N, C), normalised, and the statistics by which it is."""

    y: Tensor
    mean: Tensor
    variance: Tensor
    count: Tensor


def sums(
    halves: Sequence[Half], a: Tensor, recompute: bool = False, beside: Sequence[Tensor] = ()
) -> tuple[Sequence[Tensor], list[Normalised]]:
    """y_j (N, C), each the sum of a_k BN(W_k depthwise(x_k)) over the halves k of sum j; weights a (K,).

    recompute    compute the depthwise convolutions once more for the gradient instead of keeping their results
    beside       in training: matrices (N, C) that are normalised as they are, for which no rank sends another message
    """
    into, x, depths, points, norms, *geometry = zip(*halves, strict=True)
    kernels, geometry = [depth.weight.to(x[0].dtype) for depth in depths], list(zip(*geometry, strict=True))
    W = torch.stack([point.weight.flatten(1) for point in points])
    if norms[0].training:
        J = max(into) + 1
        found = Folded.apply(into, geometry, norms, recompute, a, W, *x, *kernels, *beside)
        return found[:J], _grouped(found[J:])
    mean, variance = (torch.stack([getattr(norm, name) for norm in norms]) for name in ("running_mean", "running_var"))
    eps = norms[0].eps
    y = _products(into, _matrices(x, kernels, geometry), _fold(a, W, variance, eps).to(x[0].dtype))
    b = -_fold(a, mean[..., None], variance, eps)[..., 0].to(x[0].dtype)
    return [y_j + sum(b_k for i, b_k in zip(into, b, strict=True) if i == j) for j, y_j in enumerate(y)], []


def normalised(matrices: Sequence[Tensor], eps: float) -> list[Normalised]:
    """Matrices (N, C), each normalised."""
    K = len(matrices)
    return _grouped(batchnorm.Normalise.apply(eps, K, *matrices, *[None] * (2 * K))) if matrices else []


def _grouped(found: Sequence[Tensor]) -> list[Normalised]:
    """What all y, all means, all variances and the count say of each matrix."""
    *each, count = found or (None,)
    K = len(each) // 3
    return [Normalised(*group, count) for group in zip(each[:K], each[K : 2 * K], each[2 * K :], strict=True)]


def _fold(a: Tensor, W: Tensor, variance: Tensor, eps: float) -> Tensor:
    """V (K, C, C), for weights a (K,) and the variances (K, C) of W_k d_k."""
    return (a[:, None] * (variance + eps).rsqrt())[..., None] * W


def _variance(W: Tensor, S: Tensor) -> Tensor:
    return ((W @ S) * W).sum(-1).clamp_min(0)


def _matrices(x: Sequence[Tensor], kernels: Sequence[Tensor], geometry: Sequence[tuple[int, int]]) -> list[Tensor]:
    """d_k (N, C), the depthwise convolutions of x_k, of given strides and dilations."""
    return [rows(depthwise(x_k, kernel, *each)) for x_k, kernel, each in zip(x, kernels, geometry, strict=True)]


def _products(into: Sequence[int], d: Sequence[Tensor], V: Tensor) -> tuple[Tensor, ...]:
    """y_j = sum_k V_k d_k over the k with into[k] = j.

    A device that wants few large kernels may have all d and V of a sum side by side, for a single product.
    """
    y = tuple(torch.zeros_like(d[0]) for _ in range(max(into) + 1))
    for j, d_k, V_k in zip(into, d, V, strict=True):
        y[j].addmm_(d_k, V_k.t())
    return y


class Folded(Function):
    """y_j = sum_k V_k (d_k - m_k) over the k with into[k] = j, where BatchNorm normalises by the batches of all ranks.

    Arguments: into, strides and dilations, BatchNorms, whether to recompute, a (K,), W (K, C, C), then K tensors x_k
    (B, C, H, W), K kernels, and matrices that are only normalised; their results, as of Normalise, follow the y_j. With the
    gradients g_j, and d_k centred,

        g_V_k = g_j^T d_k,   g_d_k = (g_j - mean g_j) V_k + d_k (g_S_k + g_S_k^T) / N;

    g_a, g_W and g_S follow from g_V by automatic differentiation of V(a, W, S).
    """

    @staticmethod
    def forward(ctx, into, geometry, norms, recompute: bool, a: Tensor, W: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        K = len(into)
        x, kernels, beside = tensors[:K], tensors[K : 2 * K], tensors[2 * K :]
        d = _matrices(x, kernels, geometry)
        m, S, count, *more = centre(d, beside)
        variance = _variance(W, S)
        track(norms, (W @ m[..., None])[..., 0], variance, count)
        ctx.into, ctx.geometry, ctx.eps = into, geometry, norms[0].eps
        by_channel = [batchnorm.normalised(*each, ctx.eps) for each in zip(beside, *more, strict=True)]
        ctx.beside = len(beside)
        ctx.save_for_backward(
            *(a, W, S, m, count, *x, *kernels),
            *(y for y, _ in by_channel),
            *(f for _, f in by_channel),
            *(() if recompute else d),
        )
        y = _products(into, d, _fold(a, W, variance, ctx.eps).to(d[0].dtype))
        if not beside:
            return y
        ctx.mark_non_differentiable(*more[0], *more[1], count)
        return *y, *(y for y, _ in by_channel), *more[0], *more[1], count

    @staticmethod
    @once_differentiable
    def backward(ctx, *g: Tensor) -> tuple:
        K, (a, W, S, m, count, *saved) = len(ctx.into), ctx.saved_tensors
        x, kernels, beside, factors, d = _split(saved, K, K, ctx.beside, ctx.beside)
        J = max(ctx.into) + 1
        g, g_beside = g[:J], g[J : J + ctx.beside]
        if not d:
            d = [minus(d_k, m_k, d_k) for d_k, m_k in zip(_matrices(x, kernels, ctx.geometry), m.to(x[0].dtype), strict=True)]
        with torch.enable_grad():
            a, W, S = (tensor.detach().requires_grad_() for tensor in (a, W, S))
            V = _fold(a, W, _variance(W, S), ctx.eps)
        g_V = torch.stack([g[j].t() @ d_k for j, d_k in zip(ctx.into, d, strict=True)]).to(V.dtype)
        g_a, g_W, g_S = torch.autograd.grad(V, (a, W, S), g_V)
        own = [g_S + g_S.mT, torch.stack([exact(g_j).sum(0) for g_j in g])]
        own += [batchnorm.gradient_sums(*each) for each in zip(g_beside, beside, strict=True)]
        G, means, *more = (total / count for total in distributed.totals(own))
        G, V = (tensor.to(d[0].dtype) for tensor in (G, V.detach()))
        g = [minus(g_j, mean) for g_j, mean in zip(g, means.to(d[0].dtype), strict=True)]
        g_beside = [batchnorm.gradient(*each) for each in zip(g_beside, beside, factors, more, strict=True)]
        g_x, g_kernels = [None] * K, [None] * K
        for k, (j, each) in enumerate(zip(ctx.into, ctx.geometry, strict=True)):
            needs = ctx.needs_input_grad[6 + k], ctx.needs_input_grad[6 + K + k]
            if any(needs):
                B, _, height, width = x[k].shape
                g_d = images((g[j] @ V[k]).addmm_(d[k], G[k]), B, -(-height // each[0]), -(-width // each[0]))
                g_x[k], g_kernels[k] = depthwise_backward(g_d, x[k], kernels[k], *each, needs=needs)
        return None, None, None, None, g_a, g_W, *g_x, *g_kernels, *g_beside


def centre(d: Sequence[Tensor], beside: Sequence[Tensor] = ()) -> tuple[Tensor, Tensor, Tensor, list[Tensor], list[Tensor]]:
    """Subtract the means m (K, C) from K matrices d_k (N, C), in place; returns m, the covariances S (K, C, C), and N; then the
    means (C,) and the variances (C,) of each matrix beside them.

    All are over the rows of all ranks, in one message: every rank centres by its own means first. Without that, float32 would
    lose the covariance of numbers that vary little compared with their mean.
    """
    means = torch.stack([exact(d_k).sum(0) for d_k in d]) / max(len(d[0]), 1)
    _subtract(means, d)
    moments = [(means, torch.stack([_gram(d_k) for d_k in d])), *map(batchnorm.own_moments, beside)]
    (m, *of_beside), (S, *variances), count = batchnorm.over_ranks(len(d[0]), *zip(*moments, strict=True))
    if distributed.ranks() > 1:
        _subtract(m - means, d)
    return m, S, count, of_beside, variances


def _split(tensors: Sequence[Tensor], *counts: int) -> list[Sequence[Tensor]]:
    """So many tensors after each other, and at last the others."""
    ends = [0, *accumulate(counts), len(tensors)]
    return [tensors[start:end] for start, end in pairwise(ends)]


def _subtract(means: Tensor, d: Sequence[Tensor]) -> None:
    for d_k, m_k in zip(d, means.to(d[0].dtype), strict=True):
        minus(d_k, m_k, d_k)


def minus(d: Tensor, m: Tensor, out: Tensor | None = None) -> Tensor:
    """d (N, C) less m (C,) in every row.

    In bfloat16 many rows are one: PyTorch's code for rows of few numbers takes ten times as long.
    """
    together = math.gcd(len(d), 64)
    if d.dtype != torch.bfloat16 or not d.is_contiguous() or len(d) == 0:
        return torch.sub(d, m, out=out)
    out = torch.empty_like(d) if out is None else out
    torch.sub(d.view(-1, together * d.shape[1]), m.repeat(together), out=out.view(-1, together * d.shape[1]))
    return out


def _gram(d: Tensor) -> Tensor:
    """d^T d, summed in parts: that costs nothing and gains an order of magnitude of precision."""
    d = exact(d).unflatten(0, (math.gcd(len(d), 64), -1))
    return (d.mT @ d).sum(0)


class Statistics:
    """Means and variances of batches, towards which running ones are moved together."""

    def __init__(self):
        self.norms: list[nn.BatchNorm2d] = []
        self.found: list[tuple[Tensor, Tensor]] = []
        self.count: Tensor | int = 0

    def add(self, norms: Sequence[nn.BatchNorm2d], mean: Tensor, variance: Tensor, count: Tensor | int) -> None:
        """Those (K, C) of K BatchNorms, of `count` numbers each, as all that are moved together."""
        self.norms += norms
        self.found.append((mean, variance))
        self.count = count

    def move(self) -> None:
        """Move the running statistics."""
        if self.norms:
            mean, variance = (torch.cat(each) for each in zip(*self.found, strict=True))
            track(self.norms, mean, variance, self.count)


@torch.no_grad()
def track(norms: Sequence[nn.BatchNorm2d], mean: Tensor, variance: Tensor, count: Tensor | int) -> None:
    """Move the running statistics of K BatchNorms towards means and variances (K, C) of `count` numbers each."""
    unbiased = variance * (count / (max(count - 1, 1) if isinstance(count, int) else (count - 1).clamp_min(1)))
    running = [norm.running_mean for norm in norms] + [norm.running_var for norm in norms]
    torch._foreach_lerp_(running, [*mean, *unbiased], norms[0].momentum)
    torch._foreach_add_([norm.num_batches_tracked for norm in norms], 1)
