"""Depthwise convolutions whose gradients are fast on CPUs, and the pointwise convolutions that follow them.

Matrices have one row per pixel: (B, C, H, W) in channels-last memory is (N, C), N = B H W, without a copy.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from darts_cli.runtime.autograd import once_differentiable
from darts_cli.runtime.device import large_kernels


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
    g: Tensor, x: Tensor, kernel: Tensor, stride: int = 1, dilation: int = 1, *, needs: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of x and kernel, given that of the output; `needs` says which of the two to compute.

    On a CPU the gradient of x is a convolution with the flipped kernel; that of a 5x5 kernel is computed in two parts 3 wide.
    With a stride or a dilation CPUs have code for float32 only: that for bfloat16 takes 10 to 90 times as long.
    """
    half, dtype = kernel.shape[-1] // 2, x.dtype
    if dtype == torch.bfloat16 and (stride == 2 or dilation == 2) and not large_kernels(x.device):
        exactly = depthwise_backward(g.float(), x.float(), kernel.float(), stride, dilation, needs=needs)
        return tuple(None if gradient is None else gradient.to(dtype) for gradient in exactly)

    def native(x: Tensor, kernel: Tensor, padding: Sequence[int], needs: Sequence[bool]) -> tuple:
        geometry = (stride, stride), padding, (dilation, dilation), False, (0, 0), x.shape[1]
        return torch.ops.aten.convolution_backward(g, x, kernel, None, *geometry, (*needs, False))[:2]

    if stride == 2 or dilation == 2 or large_kernels(x.device):
        return native(x, kernel, (dilation * half, dilation * half), needs)
    g_x = F.conv2d(g, kernel.flip(2, 3), padding=half, groups=x.shape[1]) if needs[0] else None
    if not needs[1]:
        return g_x, None
    if half != 2:
        return g_x, native(x, kernel, (half, half), (False, True))[1]
    left, right = (native(F.pad(x, sides), kernel[..., :3], (2, 0), (False, True))[1] for sides in ((2, 0), (0, 2)))
    return g_x, torch.cat([left, right[..., 1:]], dim=3)  # the middle column is in both


# ---- with a pointwise convolution after it


class Separable(Function):
    """W depthwise(x): x (B, C, H, W), kernel (C, 1, k, k), W (C', C) -> (B, C', H, W); stride 2 halves H and W.

    The output of the depthwise convolution is recomputed for the gradient instead of kept.
    """

    @staticmethod
    def forward(ctx, x: Tensor, kernel: Tensor, W: Tensor, stride: int, dilation: int) -> Tensor:
        d = depthwise(x, kernel, stride, dilation)
        ctx.save_for_backward(x, kernel, W)
        ctx.geometry = stride, dilation
        return images(rows(d) @ W.t(), len(d), *d.shape[2:])

    @staticmethod
    @once_differentiable
    def backward(ctx, g: Tensor) -> tuple:
        x, kernel, W = (tensor.to(g.dtype) for tensor in ctx.saved_tensors)  # under autocast, the dtype of the product
        *needs, needs_W = ctx.needs_input_grad[:3]
        g_W = rows(g).t() @ rows(depthwise(x, kernel, *ctx.geometry)) if needs_W else None
        g_d = images(rows(g) @ W, len(g), *g.shape[2:]) if any(needs) else None
        g_x, g_kernel = depthwise_backward(g_d, x, kernel, *ctx.geometry, needs=needs) if any(needs) else (None, None)
        return g_x, g_kernel, g_W, None, None


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
