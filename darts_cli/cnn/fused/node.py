"""The mixed operations of a node, computed together: the same function as one operation after another, with less work.

A node of the search cell is (eqs. 1 and 2)

    x_i = sum_j sum_o a_o^(j,i) o(x_j),   a = softmax(alpha),

where `none` adds nothing and every other operation except the identity ends in BatchNorm. Three things make it cheap:

  * ReLU and both poolings of x_j, and the statistics of the pooled states, are the same for all edges of x_j (`Source`).
  * A convolution ends with a pointwise one and BatchNorm, z = W d. If d has the mean m and the covariance S, then z_c has the
    mean w_c m and the variance w_c S w_c, so that

        a BN(W d) = V (d - m),   V_c = a w_c / sqrt(w_c S w_c + eps).

    Neither z nor its normalised and weighted copies are computed: a node is a sum of matrix products and of scaled channels,
    x_i = sum_k V_k (d_k - m_k) + sum_t s_t p_t + b, the p_t being inputs and pooled inputs (`Node`; `fold` in folded.py).
  * A convolution dilated by 2 is an undilated one on even and odd rows and columns as separate images (`to_phases`), and the
    gradients of a depthwise convolution can be written as convolutions that CPUs have fast code for (`depthwise_backward`).

Matrices have one row per pixel: (B, C, H, W) in channels-last memory is (N, C), N = B H W, without a copy.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from darts_cli.cnn.fused.depthwise import depthwise, depthwise_backward, from_phases, images, rows, to_phases
from darts_cli.cnn.fused.folded import (
    ChannelMoments,
    Folded,
    centre_again,
    column_sums,
    fold,
    fold_backward,
    scales,
    statistics_gradient,
)
from darts_cli.runtime.autograd import once_differentiable
from darts_cli.spaces import SPACES

SEARCHED = SPACES["cnn"].searched
SEPARABLE, DILATED = ("sep_conv_3x3", "sep_conv_5x5"), ("dil_conv_3x3", "dil_conv_5x5")
POOLS = ("max_pool_3x3", "avg_pool_3x3")


class Halves(Function):
    """relu(BN(W_k depthwise(x_k))): the first halves of K SepConvs, after their ReLU, with the ReLU of the second halves.

    Arguments: K BatchNorms, K strides, whether to recompute the outputs of the depthwise convolutions for the gradient, W
    (K, C, C), then K tensors x_k (B, C, H, W) and K kernels.
    """

    @staticmethod
    def forward(
        ctx, norms: Sequence[nn.BatchNorm2d], strides: Sequence[int], recompute: bool, W: Tensor, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        K = len(norms)
        x, kernels = tensors[:K], tensors[K:]
        y = [depthwise(x_k, kernel, stride) for x_k, kernel, stride in zip(x, kernels, strides, strict=True)]
        d = [rows(y_k) for y_k in y]
        f = fold(W, W.new_ones(K), norms, d)
        r = [torch.addmm(b.to(d_k.dtype), d_k, V.t().to(d_k.dtype)).relu_() for b, d_k, V in zip(f.b, d, f.V, strict=True)]
        ctx.strides, ctx.recompute, ctx.shape = strides, recompute, (len(y[0]), *y[0].shape[2:])
        ctx.save_for_backward(*tensors, *r, *(() if recompute else d), *f)
        return tuple(images(r_k, *ctx.shape) for r_k in r)

    @staticmethod
    @once_differentiable
    def backward(ctx, *g: Tensor):
        K, saved = len(g), ctx.saved_tensors
        x, kernels, r, d = saved[:K], saved[K : 2 * K], saved[2 * K : 3 * K], saved[3 * K : 4 * K]
        f = Folded(*saved[-len(Folded._fields) :])
        needs_x, needs_kernel = ctx.needs_input_grad[4 : 4 + K], ctx.needs_input_grad[4 + K :]
        g = [torch.ops.aten.threshold_backward(rows(g_k), r_k, 0) for g_k, r_k in zip(g, r, strict=True)]
        if ctx.recompute:
            convolutions = zip(x, kernels, ctx.strides, strict=True)
            d = [rows(depthwise(x_k, kernel, stride)) for x_k, kernel, stride in convolutions]
            centre_again(d, f)
        g_V = torch.stack([(g_k.t() @ d_k).to(f.V.dtype) for g_k, d_k in zip(g, d, strict=True)])
        g_W, _, G, row = fold_backward(f, g_V, torch.stack([column_sums(g_k) for g_k in g]))
        gradients = []
        for k in range(K):
            g_d = statistics_gradient(g[k], d[k], f.V[k], *(term[k] for term in (G, row) if term))
            needs = needs_x[k], needs_kernel[k]
            gradients.append(depthwise_backward(images(g_d, *ctx.shape), x[k], kernels[k], ctx.strides[k], needs=needs))
        g_x, g_kernels = zip(*gradients, strict=True)
        return None, None, None, g_W, *g_x, *g_kernels


class Layout(NamedTuple):
    """The arguments of `Node` that are not tensors."""

    norms: Sequence[nn.BatchNorm2d]  # K
    dilations: Sequence[int]  # K
    phased: Sequence[bool]  # K: whether x_k comes from `to_phases`
    shape: tuple[int, int, int]  # B, H, W of the node
    recompute: bool  # whether the outputs of the depthwise convolutions are recomputed for the gradient instead of kept


class Node(Function):
    """b + sum_k a_k BN(W_k depthwise(x_k)) + sum_t s_t p_t: a node (B, C, H, W).

    Arguments: the layout, a (K,), W (K, C, C), b (C,), s (T, C), then K tensors x_k (B, C, H, W), K kernels, T tensors p_t
    (N, C).
    """

    @staticmethod
    def forward(ctx, layout: Layout, a: Tensor, W: Tensor, b: Tensor, s: Tensor, *tensors: Tensor) -> Tensor:
        K = len(layout.norms)
        x, kernels, p = tensors[:K], tensors[K : 2 * K], tensors[2 * K :]
        convolutions = zip(x, kernels, layout.dilations, strict=True)
        d = [rows(depthwise(x_k, kernel, dilation=dilation)) for x_k, kernel, dilation in convolutions]
        f = fold(W, a, layout.norms, d)
        dtype = d[0].dtype
        y = (b + f.b.sum(0)).to(dtype).expand(len(d[0]), -1).contiguous()
        by_phase = torch.zeros_like(y) if any(layout.phased) else None
        for d_k, V, phased in zip(d, f.V, layout.phased, strict=True):
            (by_phase if phased else y).addmm_(d_k, V.t().to(dtype))
        for p_t, s_t in zip(p, s.to(dtype), strict=True):
            y.addcmul_(p_t, s_t)
        ctx.layout = layout
        ctx.save_for_backward(s, *tensors, *(() if layout.recompute else d), *f)
        y = images(y, *layout.shape)
        return y if by_phase is None else y.add_(from_phases(by_phase, *layout.shape))

    @staticmethod
    @once_differentiable
    def backward(ctx, g: Tensor):
        layout, (s, *saved) = ctx.layout, ctx.saved_tensors
        K, T = len(layout.norms), len(s)
        x, kernels, p, rest = saved[:K], saved[K : 2 * K], saved[2 * K : 2 * K + T], saved[2 * K + T :]
        f = Folded(*rest[-len(Folded._fields) :])
        d = rest[:K]
        if layout.recompute:
            convolutions = zip(x, kernels, layout.dilations, strict=True)
            d = [rows(depthwise(x_k, kernel, dilation=dilation)) for x_k, kernel, dilation in convolutions]
            centre_again(d, f)
        needed = ctx.needs_input_grad[5:]
        g_pixels = rows(g).contiguous()
        g_phases = rows(to_phases(images(g_pixels, *layout.shape))) if any(layout.phased) else None
        g_y = [g_phases if phased else g_pixels for phased in layout.phased]
        g_b = column_sums(g_pixels)
        g_V = torch.stack([(g_k.t() @ d_k).to(f.V.dtype) for g_k, d_k in zip(g_y, d, strict=True)])
        g_W, g_a, G, row = fold_backward(f, g_V, g_b.expand(K, -1))
        g_x, g_kernels = [None] * K, [None] * K
        for k in range(K):
            needs = needed[k], needed[K + k]
            if any(needs):
                g_d = statistics_gradient(g_y[k], d[k], f.V[k], *(term[k] for term in (G, row) if term))
                B, _, H, W = x[k].shape
                g_d = images(g_d, B, H, W)
                g_x[k], g_kernels[k] = depthwise_backward(g_d, x[k], kernels[k], 1, layout.dilations[k], needs=needs)
        product = torch.empty_like(g_pixels)
        g_s = torch.stack([column_sums(torch.mul(g_pixels, p_t, out=product)) for p_t in p])
        g_p = [g_pixels * s_t if need else None for s_t, need in zip(s.to(g.dtype), needed[2 * K :], strict=True)]
        return None, g_a, g_W, g_b, g_s, *g_x, *g_kernels, *g_p


class Source:
    """A state x (B, C, H, W), and everything its outgoing edges share; they all have one stride."""

    def __init__(self, x: Tensor, stride: int, training: bool):
        self.stride, self.shape = stride, (len(x), x.shape[2] // stride, x.shape[3] // stride)
        self.relu = F.relu(x)
        self.phased = stride == 1 and x.shape[2] % 2 == x.shape[3] % 2 == 0
        self.dilation = 1  # of the dilated convolutions, when applied to `dilated`
        if self.phased:
            self.dilated = to_phases(self.relu)
        elif stride == 2:  # with dilation 2, the same as undilated on every second pixel
            self.dilated = self.relu[:, :, ::2, ::2].contiguous(memory_format=torch.channels_last)
        else:
            self.dilated, self.dilation = self.relu, 2
        self.skip = rows(x)
        self.odd = self.relu[:, :, 1::2, 1::2] if stride == 2 else None
        self.pools = [
            rows(F.max_pool2d(x, 3, stride, padding=1)),
            rows(F.avg_pool2d(x, 3, stride, padding=1, count_include_pad=False)),
        ]
        self.pool_moments = [ChannelMoments.apply(pool) for pool in self.pools] if training else []


def mixed_node(sources: Sequence[Source], edges: Sequence[nn.ModuleDict], weights: Tensor, recompute: bool = False) -> Tensor:
    """The sum of the mixed operations of E edges, one per source; weights (E, 8) -> (B, C, H, W)."""
    with torch.autocast(
        sources[0].relu.device.type, enabled=False
    ):  # products keep the dtype of the images, the rest is float32
        y = _node(sources, edges, weights, recompute)
    for weight, source, edge in zip(weights[:, SEARCHED.index("skip_connect")], sources, edges, strict=True):
        if source.stride == 2:
            y = y + weight * edge["skip_connect"].halved(source.dilated, source.odd)
    return y


def _node(sources: Sequence[Source], edges: Sequence[nn.ModuleDict], weights: Tensor, recompute: bool) -> Tensor:
    """The sum without the skip connections of stride 2."""
    a = dict(zip(SEARCHED, weights.unbind(1), strict=True))  # by operation, the weights of all edges (E,)
    dtype, E = sources[0].relu.dtype, len(sources)
    separable = [edge[name] for name in SEPARABLE for edge in edges]
    dilated = [edge[name] for name in DILATED for edge in edges]
    ends = [*separable, *dilated]

    middle = Halves.apply(
        [op[3] for op in separable],
        [source.stride for source in sources] * 2,
        recompute,
        torch.stack([op[2].weight.flatten(1) for op in separable]),
        *([source.relu for source in sources] * 2),
        *(op[1].weight.to(dtype) for op in separable),
    )
    layout = Layout(
        norms=[op[-1] for op in ends],
        dilations=[1] * (2 * E) + [source.dilation for source in sources] * 2,
        phased=[False] * (2 * E) + [source.phased for source in sources] * 2,
        shape=sources[0].shape,
        recompute=recompute,
    )
    p, s, b = [], [], []
    for k, name in enumerate(POOLS):
        p += [source.pools[k] for source in sources]
        moments = [source.pool_moments[k] for source in sources if source.pool_moments]
        s_k, b_k = scales([edge[name][1] for edge in edges], moments, a[name])
        s.append(s_k)
        b.append(b_k)
    identities = [k for k, source in enumerate(sources) if source.stride == 1]
    p += [sources[k].skip for k in identities]
    s.append(a["skip_connect"][identities][:, None].expand(-1, s[0].shape[1]))
    return Node.apply(
        layout,
        torch.cat([a[name] for name in (*SEPARABLE, *DILATED)]),
        torch.stack([op[-2].weight.flatten(1) for op in ends]),
        b[0] + b[1],
        torch.cat(s),
        *middle,
        *([source.dilated for source in sources] * 2),
        *([op[5].weight.to(dtype) for op in separable]),
        *([op[1].weight.to(dtype) for op in dilated]),
        *p,
    )
