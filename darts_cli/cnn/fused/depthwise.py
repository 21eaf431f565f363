"""Depthwise convolutions with gradients that are fast on CPUs, and the pointwise ones that follow them.

Matrices have a row a pixel: (B, C, H, W) in channels-last memory is (N, C), N = B H W, without moving anything.
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
    """x (B, C, H, W), H and W even -> (4B, C, H/2, W/2): the pixels of even and odd rows and columns each by themselves."""
    B, C, H, W = x.shape
    x = x.permute(0, 2, 3, 1).reshape(B, H // 2, 2, W // 2, 2, C)
    return x.permute(2, 4, 0, 1, 3, 5).reshape(4 * B, H // 2, W // 2, C).permute(0, 3, 1, 2)


def from_phases(d: Tensor, B: int, H: int, W: int) -> Tensor:
    """The inverse: d (N, C), by phases -> (B, C, H, W)."""
    C = d.shape[1]
    d = d.view(2, 2, B, H // 2, W // 2, C)
    return d.permute(2, 3, 0, 4, 1, 5).reshape(B, H, W, C).permute(0, 3, 1, 2)


# ---- of kernels (C, 1, k, k), k odd, padded to keep the size


def depthwise(x: Tensor, kernel: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
    return F.conv2d(x, kernel, None, stride, dilation * (kernel.shape[-1] // 2), dilation, x.shape[1])


def depthwise_backward(
    g: Tensor, x: Tensor, kernel: Tensor, stride: int, dilation: int, of_x: bool, of_kernel: bool
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of x and kernel for that of the output.

    On a CPU that of x is a convolution with the turned kernel; that of a kernel 5 wide is computed in two parts 3 wide.
    """
    half = kernel.shape[-1] // 2
    if stride == 2 or dilation == 2 or x.device.type != "cpu":
        return _native_backward(g, x, kernel, stride, dilation, (dilation * half, dilation * half), of_x, of_kernel)
    d_x = F.conv2d(g, kernel.flip(2, 3), padding=half, groups=x.shape[1]) if of_x else None
    if not of_kernel:
        return d_x, None
    if half != 2:
        return d_x, _native_backward(g, x, kernel, 1, 1, (half, half), False, True)[1]
    B, C, H, W = x.shape
    parts = []
    for left in (2, 0):  # zeros on that side, the rest of two on the other; both parts have the middle column
        padded = x.new_empty(B, H, W + 2, C)
        padded[:, :, :left] = 0
        padded[:, :, left : left + W] = x.permute(0, 2, 3, 1)
        padded[:, :, left + W :] = 0
        parts.append(_native_backward(g, padded.permute(0, 3, 1, 2), kernel[..., :3], 1, 1, (2, 0), False, True)[1])
    return d_x, torch.cat([parts[0], parts[1][..., 1:]], dim=3)


def _native_backward(g: Tensor, x: Tensor, kernel: Tensor, stride: int, dilation: int, padding, of_x: bool, of_kernel: bool):
    return torch.ops.aten.convolution_backward(
        *(g, x, kernel, None, (stride, stride), padding, (dilation, dilation), False, (0, 0), x.shape[1]),
        (of_x, of_kernel, False),
    )[:2]


# ---- followed by a pointwise convolution


class Separable(Function):
    """W depthwise(x): x (B, C, H, W), kernel (C, 1, k, k), W (C', C) -> (B, C', H, W), of half the size for stride 2.

    What the depthwise convolution gives is not kept, but computed once more for the gradient.
    """

    @staticmethod
    def forward(ctx, x: Tensor, kernel: Tensor, W: Tensor, stride: int, dilation: int) -> Tensor:
        d = depthwise(x, kernel, stride, dilation)
        ctx.save_for_backward(x, kernel, W)
        ctx.sizes = stride, dilation
        return images(rows(d) @ W.t(), len(d), *d.shape[2:])

    @staticmethod
    @once_differentiable
    def backward(ctx, g: Tensor):
        x, kernel, W = (tensor.to(g.dtype) for tensor in ctx.saved_tensors)  # which under autocast is that of the product
        return *_separable_backward(g, x, kernel, W, *ctx.sizes, *ctx.needs_input_grad[:3]), None, None


class NormalisedSeparable(Function):
    """W depthwise(relu(BN(z))): z (B, C, H, W), weight and bias of BN (C,), kernel (C, 1, k, k), W (C', C) -> (B, C', H, W).

    BN normalises by the batch. Nothing of the size of z is kept but z; the rest is computed once more for the gradient.
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
        g_r, g_kernel, g_W = _separable_backward(g, r, kernel.to(g.dtype), W.to(g.dtype), 1, 1, True, *ctx.needs_input_grad[4:])
        torch.ops.aten.threshold_backward.grad_input(g_r, r, 0, grad_input=g_r)
        g_z, g_weight, g_bias = torch.ops.aten.native_batch_norm_backward(
            g_r, z, weight, None, None, mean, factor, True, ctx.eps, (True, True, True)
        )
        return None, g_z, g_weight, g_bias, g_kernel, g_W


def _separable_backward(
    g: Tensor, x: Tensor, kernel: Tensor, W: Tensor, stride: int, dilation: int, of_x: bool, of_kernel: bool, of_W: bool
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The gradients of x, kernel and W for that of W depthwise(x)."""
    B, _, height, width = g.shape
    g = rows(g)
    g_W = g.t() @ rows(depthwise(x, kernel, stride, dilation)) if of_W else None
    g_x = g_kernel = None
    if of_x or of_kernel:
        g_d = images(g @ W, B, height, width)
        g_x, g_kernel = depthwise_backward(g_d, x, kernel, stride, dilation, of_x, of_kernel)
    return g_x, g_kernel, g_W


def normalised_separable(z: Tensor, norm: nn.BatchNorm2d, depth: nn.Conv2d, point: nn.Conv2d) -> Tensor:
    """point(depth(relu(norm(z)))), z (B, C, H, W), the depthwise convolution of stride 1."""
    if not norm.training or distributed.ranks() > 1:
        return separable(F.relu_(norm(z)), depth, point)
    return NormalisedSeparable.apply(norm, z, norm.weight, norm.bias, depth.weight, point.weight.flatten(1))


def separable(x: Tensor, depth: nn.Conv2d, point: nn.Conv2d) -> Tensor:
    """point(depth(x)), x (B, C, H, W): a depthwise convolution and a pointwise one."""
    stride, dilation, kernel, W = depth.stride[0], depth.dilation[0], depth.weight, point.weight.flatten(1)
    if dilation == stride == 2:  # which sees every second pixel only, and these undilated
        x = x[:, :, ::2, ::2].contiguous(memory_format=torch.channels_last)
        return Separable.apply(x, kernel, W, 1, 1)
    if dilation == 2 and x.shape[2] % 2 == x.shape[3] % 2 == 0:
        y = Separable.apply(to_phases(x), kernel, W, 1, 1)
        return from_phases(rows(y), len(x), *x.shape[2:])
    return Separable.apply(x, kernel, W, stride, dilation)
