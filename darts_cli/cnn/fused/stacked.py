"""The mixed operations of a node in few large kernels, for devices on which many small ones wait for each other's launch.

What folded.py computes one matrix d_k after another lies side by side here: one grouped convolution makes all of them that have
a geometry, one product adds them up. A pooled state is such a matrix as well, with W = 1.
"""

from collections.abc import Mapping, Sequence
from itertools import chain, groupby
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from darts_cli.cnn.fused.depthwise import depthwise, depthwise_backward, images, rows
from darts_cli.cnn.fused.folded import Half, Statistics
from darts_cli.runtime import distributed
from darts_cli.runtime.autograd import once_differentiable
from darts_cli.runtime.batchnorm import over_ranks
from darts_cli.runtime.device import exact

Padded = Mapping[nn.Conv2d, Tensor]  # kernels of one size, by their convolutions


class Part(NamedTuple):
    """Matrices side by side, (N, K C): depthwise convolutions of one geometry or, without kernels, the sources themselves.

    sources    (B, C', H, W) each; side by side, and all of that `times` times, they have K C channels
    kernels    (K C, 1, k, k)
    """

    sources: Sequence[Tensor]
    times: int
    kernels: Tensor | None
    stride: int = 1
    dilation: int = 1


def part(halves: Sequence[Half], padded: Padded) -> Part:
    """The part of halves of one geometry; those with smaller kernels come first, as `by_geometry` has them."""
    runs = [[half.x for half in run] for _, run in groupby(halves, lambda half: half.depth.kernel_size)]
    alike = all(len(run) == len(runs[0]) and all(map(_is, run, runs[0])) for run in runs)
    sources, times = (runs[0], len(runs)) if alike else (list(chain(*runs)), 1)
    _, x, _, _, _, stride, dilation = halves[0]
    kernels = torch.cat([padded[half.depth] for half in halves]).to(x.dtype)
    return Part(sources, times, kernels, stride, dilation)


def by_geometry(halves: Sequence[Half]) -> list[list[Half]]:
    """The halves of each geometry and size of image, those with smaller kernels first."""

    def key(half: Half) -> tuple:
        return half.stride, half.dilation, *half.x.shape

    ordered = sorted(halves, key=lambda half: (key(half), half.depth.kernel_size))
    return [list(group) for _, group in groupby(ordered, key)]


def padded(convolutions: Sequence[nn.Conv2d]) -> Padded:
    """The kernels (C, 1, k, k) of depthwise convolutions, all of the largest size; smaller ones get a border of zeros."""
    found, largest = {}, max((each.kernel_size[0] for each in convolutions), default=0)
    for size in sorted({each.kernel_size[0] for each in convolutions}):
        same = [each for each in convolutions if each.kernel_size[0] == size]
        kernels = [each.weight for each in same]
        if size < largest:
            border = [(largest - size) // 2] * 4
            kernels = F.pad(torch.cat(kernels), border).split([len(kernel) for kernel in kernels])
        found |= dict(zip(same, kernels, strict=True))
    return found


def sums(
    parts: Sequence[Part],
    norms: Sequence[nn.BatchNorm2d],
    a: Tensor | None,
    W: Tensor,
    statistics: Statistics,
    recompute: bool = False,
) -> Sequence[Tensor]:
    """The sum of a_k BN(W_k d_k) over all parts, (N, C); weights a (K,), W (K, C, C).

    Without `a` nothing is added up: (N, K C) of each part. The statistics of the batch are added to those given.
    """
    return Stacked.apply(parts, norms, statistics, recompute, a, W, *(x for each in parts for x in _tensors(each)))


class Stacked(Function):
    """What `sums` says, where BatchNorm normalises by the batches of all ranks. folded.py derives the gradients, here with

    h_kc = sum_i g_V_kci W_kci,   r = (variance + eps)^(-1/2),   u = h a r^3,
    g_a_k = sum_c h_kc r_kc,   g_S_k + g_S_k^T = -W_k^T diag(u_k) W_k,   g_W_k = a_k r_k g_V_k - diag(u_k) W_k S_k.
    """

    @staticmethod
    def forward(
        ctx, parts, norms, statistics: Statistics, recompute: bool, a: Tensor | None, W: Tensor, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        C, dtype = W.shape[-1], parts[0].sources[0].dtype
        d = [_columns(part) for part in parts]
        m, S, count = _centre(d, torch.empty_like(W))
        variance = ((W @ S) * W).sum(-1).clamp_min_(0)
        statistics.add(norms, (W @ m.view(-1, C, 1))[..., 0], variance, count)
        spread = variance + norms[0].eps
        r = spread.rsqrt()
        scale = r if a is None else a[:, None] * r
        V = (scale[..., None] * W).to(dtype)
        ctx.parts = [part._replace(sources=len(part.sources), kernels=part.kernels is not None) for part in parts]
        ctx.apart, ctx.count = a is None, count
        ctx.save_for_backward(W, S, m, spread, r, scale, V, *tensors, *(() if recompute else d))
        sizes = [d_p.shape[1] // C for d_p in d]
        if a is None:
            return tuple(_each(d_p, V_p.mT) for d_p, V_p in zip(d, V.split(sizes), strict=True))
        columns = V.mT.reshape(-1, C).split([d_p.shape[1] for d_p in d])
        y = d[0] @ columns[0]
        for d_p, V_p in zip(d[1:], columns[1:], strict=True):
            y.addmm_(d_p, V_p)
        return (y,)

    @staticmethod
    @once_differentiable
    def backward(ctx, *g: Tensor) -> tuple:
        (W, S, m, spread, r, scale, V, *saved), C = ctx.saved_tensors, ctx.saved_tensors[0].shape[-1]
        parts, d = _restored(ctx.parts, saved)
        sizes = [(len(part.sources) * part.times * part.sources[0].shape[1]) // C for part in parts]
        if not d:
            means = m.to(V.dtype).split([C * K for K in sizes])
            d = [_columns(part).sub_(m_p) for part, m_p in zip(parts, means, strict=True)]
        into = list(range(len(parts))) if ctx.apart else [0] * len(parts)
        g_V = torch.cat([_g_V(g[j], d_p, C, ctx.apart) for j, d_p in zip(into, d, strict=True)]).to(W.dtype)
        h = (g_V * W).sum(-1)
        uW = (h * scale / spread)[..., None] * W
        g_W = (scale[..., None] * g_V).baddbmm_(uW, S, alpha=-1)
        G, means, share = _shared(uW.mT @ W, g, ctx.count)
        G = G.to(V.dtype).split(sizes)
        g = [g_j - mean.to(V.dtype) for g_j, mean in zip(g, means, strict=True)]
        side_by_side = None if ctx.apart else V.transpose(0, 1).reshape(C, -1).split([C * K for K in sizes], 1)
        found, needs = [], list(ctx.needs_input_grad[6:])
        for p, (part, j) in enumerate(zip(parts, into, strict=True)):
            g_d = _each(g[j], V.split(sizes)[p]) if ctx.apart else g[j] @ side_by_side[p]
            _matrices(g_d, C).baddbmm_(_matrices(d[p], C), G[p], alpha=-share)
            count = len(_tensors(part))
            found += _of_part(g_d, part, needs[:count])
            del needs[:count]
        return None, None, None, None, None if ctx.apart else (h * r).sum(-1), g_W, *found


def _tensors(part: Part) -> list[Tensor]:
    return [*part.sources, *([] if part.kernels is None else [part.kernels])]


def _restored(parts: Sequence[Part], saved: Sequence[Tensor]) -> tuple[list[Part], list[Tensor]]:
    """The parts with their tensors again, which are the first that were saved, and what was saved besides."""
    found, rest = [], list(saved)
    for each in parts:
        sources, rest = rest[: each.sources], rest[each.sources :]
        found.append(each._replace(sources=sources, kernels=rest.pop(0) if each.kernels else None))
    return found, rest


def _columns(part: Part) -> Tensor:
    """d (N, K C) of a part, in memory of its own."""
    if part.kernels is None:
        return torch.cat([rows(x) for x in part.sources], dim=1)
    return rows(depthwise(_side_by_side(part), part.kernels, part.stride, part.dilation))


def _side_by_side(part: Part) -> Tensor:
    """The input (B, K C, H, W) of the convolution of a part, channels-last."""
    x = list(part.sources) * part.times
    return x[0] if len(x) == 1 else torch.cat(x, dim=1)


def _of_part(g_d: Tensor, part: Part, needs: Sequence[bool]) -> list[Tensor | None]:
    """The gradients of sources and kernels, given that of d."""
    (B, _, H, W), K = part.sources[0].shape, g_d.shape[1]
    if part.kernels is None:
        return [images(each, B, H, W) for each in g_d.split([x.shape[1] for x in part.sources], dim=1)]
    g_d = images(g_d, B, -(-H // part.stride), -(-W // part.stride))
    x = _side_by_side(part) if needs[-1] else images(g_d.new_empty(B * H * W, K), B, H, W)  # of which only the size is used
    needed = any(needs[:-1]), needs[-1]
    g_x, g_kernels = depthwise_backward(g_d, x, part.kernels, part.stride, part.dilation, needs=needed)
    if g_x is None:
        return [None] * len(part.sources) + [g_kernels]
    if part.times > 1:
        g_x = images(rows(g_x).unflatten(1, (part.times, -1)).sum(1), B, H, W)
    return [*g_x.split([x.shape[1] for x in part.sources], dim=1), g_kernels]


def _matrices(d: Tensor, C: int) -> Tensor:
    """(N, K C) -> (K, N, C), a view."""
    return d.view(len(d), -1, C).transpose(0, 1)


def _each(d: Tensor, V: Tensor) -> Tensor:
    """The products of K matrices side by side (N, K C) with those of V (K, C, C), side by side again."""
    y = torch.empty_like(d)
    torch.bmm(_matrices(d, V.shape[-1]), V, out=_matrices(y, V.shape[-1]))
    return y


def _g_V(g: Tensor, d: Tensor, C: int, apart: bool) -> Tensor:
    """The gradient (K, C, C) of the V of a part."""
    return _matrices(g, C).mT @ _matrices(d, C) if apart else (g.t() @ d).view(C, -1, C).transpose(0, 1)


# ---- over all ranks; a single one computes fewer operators


def _centre(d: Sequence[Tensor], S: Tensor) -> tuple[Tensor, Tensor, Tensor | int]:
    """Subtract the means m (K C,) from the columns of all parts, in place; returns m, the covariances S (K, C, C), and the
    number of rows. Several ranks send one message."""
    n, C, alone = len(d[0]), S.shape[-1], distributed.ranks() == 1
    means = torch.cat([exact(d_p).mean(0) if n else exact(d_p).sum(0) for d_p in d])
    _subtract(means, d)
    for d_p, S_p in zip(d, S.split([d_p.shape[1] // C for d_p in d]), strict=True):
        columns = _matrices(exact(d_p), C)
        S_p.baddbmm_(columns.mT, columns, beta=0, alpha=1 / n if alone else 1)
    if alone:
        return means, S, n
    (m,), (S,), count = over_ranks(n, [means.view(-1, C)], [S])
    m = m.flatten()
    _subtract(m - means, d)
    return m, S, count


def _subtract(means: Tensor, d: Sequence[Tensor]) -> None:
    for d_p, m_p in zip(d, means.to(d[0].dtype).split([d_p.shape[1] for d_p in d]), strict=True):
        d_p.sub_(m_p)


def _shared(G: Tensor, g: Sequence[Tensor], count: Tensor | int) -> tuple[Tensor, Sequence[Tensor], float]:
    """The gradient G (K, C, C) of all S, the means of the gradients g_j, and what G is still to be multiplied by."""
    if distributed.ranks() == 1:
        return G, [exact(g_j).mean(0) for g_j in g], 1 / count
    G, *means = (total / count for total in distributed.totals([G, *(exact(g_j).sum(0) for g_j in g)]))
    return G, means, 1.0


def _is(one: Tensor, other: Tensor) -> bool:
    return one is other
