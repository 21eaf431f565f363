"""Depthwise convolutions whose gradients are fast on CPUs, and the pointwise convolutions that follow them.

Matrices have one row per pixel: (B, C, H, W) in channels-last memory is (N, C), N = B H W, without a copy.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from darts_cli.runtime import distributed
from darts_cli.runtime.autograd import once_differentiable


def rows(x: Tensor) -> Tensor:
    """x (B, C, H, W) -> (N, C)."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def images(d: Tensor, B: int, H: int, W: int) -> Tensor:
    """d (N, C) -> (B, C, H, W)."""
    return d.view(B, H, W, d.shape[1]).permute(0, 3, 1, 2)


def to_phases(x: Tensor) -> Tensor:
    """x (B, C, H, W), H and W even -> (4B, C, H/2, W/2): even and odd rows and columns become separate images."""
    B, C, H, W = x.shape
    x = x.permute(0, 2, 3, 1).reshape(B, H // 2, 2, W // 2, 2, C)
    return x.permute(2, 4, 0, 1, 3, 5).reshape(4 * B, H // 2, W // 2, C).permute(0, 3, 1, 2)


def from_phases(d: Tensor, B: int, H: int, W: int) -> Tensor:
    """The inverse: d (N, C), in the order of `to_phases` -> (B, C, H, W)."""
    C = d.shape[1]
    d = d.view(2, 2, B, H // 2, W // 2, C)
    return d.permute(2, 3, 0, 4, 1, 5).reshape(B, H, W, C).permute(0, 3, 1, 2)


# ---- kernels (C, 1, k, k), k odd, with padding that keeps the size


def depthwise(x: Tensor, kernel: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
    return F.conv2d(x, kernel, None, stride, dilation * (kernel.shape[-1] // 2), dilation, x.shape[1])


def depthwise_backward(
    g: Tensor, x: Tensor, kernel: Tensor, stride: int = 1, dilation: int = 1, *, needs: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of x and kernel, given that of the output; `needs` says which of the two to compute.

    On a CPU the gradient of x is a convolution with the flipped kernel; that of a 5x5 kernel is computed in two parts 3 wide.
    """
    needs_x, needs_kernel = needs
    half = kernel.shape[-1] // 2
    if stride == 2 or dilation == 2 or x.device.type != "cpu":
        padding = dilation * half, dilation * half
        return _native_backward(g, x, kernel, stride, dilation, padding=padding, needs=needs)
    g_x = F.conv2d(g, kernel.flip(2, 3), padding=half, groups=x.shape[1]) if needs_x else None
    if not needs_kernel:
        return g_x, None
    if half != 2:
        return g_x, _native_backward(g, x, kernel, padding=(half, half), needs=(False, True))[1]
    B, C, H, W = x.shape
    parts = []
    for left in (2, 0):  # columns of zeros on the left, the other two on the right; both parts have the middle column
        padded = x.new_empty(B, H, W + 2, C)
        padded[:, :, :left] = 0
        padded[:, :, left : left + W] = x.permute(0, 2, 3, 1)
        padded[:, :, left + W :] = 0
        padded = padded.permute(0, 3, 1, 2)
        parts.append(_native_backward(g, padded, kernel[..., :3], padding=(2, 0), needs=(False, True))[1])
    return g_x, torch.cat([parts[0], parts[1][..., 1:]], dim=3)


def _native_backward(
    g: Tensor, x: Tensor, kernel: Tensor, stride: int = 1, dilation: int = 1, *, padding: tuple, needs: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    geometry = {"stride": (stride, stride), "padding": padding, "dilation": (dilation, dilation), "output_padding": (0, 0)}
    others = {"bias_sizes": None, "transposed": False, "groups": x.shape[1], "output_mask": (*needs, False)}
    return torch.ops.aten.convolution_backward(g, x, kernel, **geometry, **others)[:2]


# ---- with a pointwise convolution after it


class Separable(Function):
    """W depthwise(x): x (B, C, H, W), kernel (C, 1, k, k), W (C', C) -> (B, C', H, W); stride 2 halves H and W.

    The output of the depthwise convolution is recomputed for the gradient instead of kept.
    """

    @staticmethod
    def forward(ctx, x: Tensor, kernel: Tensor, W: Tensor, stride: int, dilation: int) -> Tensor:
        d = depthwise(x, kernel, stride, dilation)
        ctx.save_for_backward(x, kernel, W)
        ctx.stride, ctx.dilation = stride, dilation
        return images(rows(d) @ W.t(), len(d), *d.shape[2:])

    @staticmethod
    @once_differentiable
    def backward(ctx, g: Tensor):
        x, kernel, W = (tensor.to(g.dtype) for tensor in ctx.saved_tensors)  # under autocast, the dtype of the product
        needs = ctx.needs_input_grad[:3]
        g_x, g_kernel, g_W = _separable_backward(g, x, kernel, W, ctx.stride, ctx.dilation, needs=needs)
        return g_x, g_kernel, g_W, None, None


class NormalisedSeparable(Function):
    """W depthwise(relu(BN(z))): z (B, C, H, W), weight and bias of BN (C,), kernel (C, 1, k, k), W (C', C) -> (B, C', H, W).

    BN normalises by the batch. Of the large tensors only z is kept; the others are recomputed for the gradient.
    """

    @staticmethod
    def forward(ctx, norm: nn.BatchNorm2d, z: Tensor, weight: Tensor, bias: Tensor, kernel: Tensor, W: Tensor) -> Tensor:
        norm.num_batches_tracked += 1
        running = norm.running_mean, norm.running_var
        y, mean, factor = torch.native_batch_norm(z, weight, bias, *running, True, norm.momentum, norm.eps)
        d = depthwise(y.relu_(), kernel)
        ctx.eps = norm.eps
        ctx.save_for_backward(z, weight, bias, kernel, W, mean, factor)
        return images(rows(d) @ W.t(), len(d), *d.shape[2:])

    @staticmethod
    @once_differentiable
    def backward(ctx, g: Tensor):
        z, weight, bias, kernel, W, mean, factor = ctx.saved_tensors
        scale = weight * factor
        r = torch.addcmul((bias - scale * mean).to(z.dtype), rows(z), scale.to(z.dtype)).relu_()
        r = images(r, len(z), *z.shape[2:])
        needs = (True, *ctx.needs_input_grad[4:])
        g_r, g_kernel, g_W = _separable_backward(g, r, kernel.to(g.dtype), W.to(g.dtype), needs=needs)
        torch.ops.aten.threshold_backward.grad_input(g_r, r, 0, grad_input=g_r)
        g_z, g_weight, g_bias = torch.ops.aten.native_batch_norm_backward(
            g_r, z, weight, None, None, mean, factor, True, ctx.eps, (True, True, True)
        )
        return None, g_z, g_weight, g_bias, g_kernel, g_W


def _separable_backward(
    g: Tensor, x: Tensor, kernel: Tensor, W: Tensor, stride: int = 1, dilation: int = 1, *, needs: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The gradients of x, kernel and W, given that of W depthwise(x); `needs` says which of the three to compute."""
    needs_x, needs_kernel, needs_W = needs
    B, _, height, width = g.shape
    g = rows(g)
    g_W = g.t() @ rows(depthwise(x, kernel, stride, dilation)) if needs_W else None
    if not (needs_x or needs_kernel):
        return None, None, g_W
    g_d = images(g @ W, B, height, width)
    g_x, g_kernel = depthwise_backward(g_d, x, kernel, stride, dilation, needs=(needs_x, needs_kernel))
    return g_x, g_kernel, g_W


def normalised_separable(z: Tensor, norm: nn.BatchNorm2d, depth: nn.Conv2d, point: nn.Conv2d) -> Tensor:
    """point(depth(relu(norm(z)))), z (B, C, H, W), where `depth` is a depthwise convolution of stride 1."""
    if not norm.training or not norm.affine or distributed.ranks() > 1:
        return separable(F.relu_(norm(z)), depth, point)
    return NormalisedSeparable.apply(norm, z, norm.weight, norm.bias, depth.weight, point.weight.flatten(1))


def separable(x: Tensor, depth: nn.Conv2d, point: nn.Conv2d) -> Tensor:
    """point(depth(x)), x (B, C, H, W), where `depth` is a depthwise and `point` a pointwise convolution."""
    stride, dilation, kernel, W = depth.stride[0], depth.dilation[0], depth.weight, point.weight.flatten(1)
    if dilation == stride == 2:  # the same as an undilated convolution of every second pixel
        x = x[:, :, ::2, ::2].contiguous(memory_format=torch.channels_last)
        return Separable.apply(x, kernel, W, 1, 1)
    if dilation == 2 and x.shape[2] % 2 == x.shape[3] % 2 == 0:
        y = Separable.apply(to_phases(x), kernel, W, 1, 1)
        return from_phases(rows(y), len(x), *x.shape[2:])
    return Separable.apply(x, kernel, W, stride, dilation)
