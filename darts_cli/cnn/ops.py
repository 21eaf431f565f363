"""The operations on the edges of a convolutional cell (sec. 3.1.1): modules from (B, C, H, W) to (B, C, H', W')."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_cli.cnn.fused.depthwise import normalised_separable, separable
from darts_cli.runtime.batchnorm import BatchNorm2d


class ReLUFirst(nn.Module):
    """An operation that begins with a ReLU. All operations of one state share it: copies for the gradient would be large."""

    def forward(self, x: Tensor) -> Tensor:
        return self.after_relu(F.relu(x))

    def after_relu(self, r: Tensor) -> Tensor:
        """The rest of the operation, given r = relu(x)."""
        raise NotImplementedError


class ReLUConvBN(ReLUFirst, nn.Sequential):
    original_op = True  # the original kept these layers one level deeper, in `op`

    def __init__(self, C_in: int, C_out: int, affine: bool):
        super().__init__(nn.ReLU(), nn.Conv2d(C_in, C_out, 1, bias=False), BatchNorm2d(C_out, affine=affine))

    def after_relu(self, r: Tensor) -> Tensor:
        _, conv, norm = self
        return norm(conv(r))


class DilConv(ReLUFirst, nn.Sequential):
    """ReLU, depthwise convolution dilated by 2, pointwise convolution, BatchNorm."""

    original_op = True

    def __init__(self, C: int, kernel: int, stride: int, affine: bool):
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(C, C, kernel, stride, padding=kernel - 1, dilation=2, groups=C, bias=False),
            nn.Conv2d(C, C, 1, bias=False),
            BatchNorm2d(C, affine=affine),
        )

    def after_relu(self, r: Tensor) -> Tensor:
        _, depth, point, norm = self
        return norm(separable(r, depth, point))


class SepConv(ReLUFirst, nn.Sequential):
    """ReLU, depthwise convolution, pointwise convolution, BatchNorm; applied twice, the first time with the stride."""

    original_op = True

    def __init__(self, C: int, kernel: int, stride: int, affine: bool):
        super().__init__(*self._half(C, kernel, stride, affine), *self._half(C, kernel, 1, affine))

    def after_relu(self, r: Tensor) -> Tensor:
        _, depth_1, point_1, norm_1, _, depth_2, point_2, norm_2 = self
        return norm_2(normalised_separable(separable(r, depth_1, point_1), norm_1, depth_2, point_2))

    @staticmethod
    def _half(C: int, kernel: int, stride: int, affine: bool):
        yield nn.ReLU()
        yield nn.Conv2d(C, C, kernel, stride, padding=kernel // 2, groups=C, bias=False)
        yield nn.Conv2d(C, C, 1, bias=False)
        yield BatchNorm2d(C, affine=affine)


class FactorizedReduce(ReLUFirst):
    """Halve height and width, both even: half of the channels see the even rows and columns, half the odd ones.

    The 1x1 convolutions of stride 2 are written as plain ones on every second pixel: on CPUs the strided kernel's gradient is
    wrong, and overruns memory, for few output channels in channels-last (oneDNN, as of PyTorch 2.14).
    """

    def __init__(self, C_in: int, C_out: int, affine: bool):
        super().__init__()
        self.conv_1 = nn.Conv2d(C_in, C_out // 2, 1, bias=False)
        self.conv_2 = nn.Conv2d(C_in, C_out // 2, 1, bias=False)
        self.bn = BatchNorm2d(C_out, affine=affine)

    def after_relu(self, r: Tensor) -> Tensor:
        return self.halved(r[:, :, ::2, ::2], r[:, :, 1::2, 1::2])

    def halved(self, even: Tensor, odd: Tensor) -> Tensor:
        """The rest of the operation, given the pixels of relu(x) in even rows and columns, and those in odd ones."""
        return self.bn(torch.cat([self.conv_1(even), self.conv_2(odd)], dim=1))


def pool(kind: str, stride: int) -> nn.Module:
    """3x3 pooling; the average does not count the padding."""
    if kind == "max":
        return nn.MaxPool2d(3, stride, padding=1)
    return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)


class FactorizedConv(ReLUFirst, nn.Sequential):
    """ReLU, a 1x7 and a 7x1 convolution, each strided along its length, BatchNorm."""

    def __init__(self, C: int, stride: int, affine: bool):
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(C, C, (1, 7), (1, stride), padding=(0, 3), bias=False),
            nn.Conv2d(C, C, (7, 1), (stride, 1), padding=(3, 0), bias=False),
            BatchNorm2d(C, affine=affine),
        )

    def after_relu(self, r: Tensor) -> Tensor:
        _, across, down, norm = self
        return norm(down(across(r)))


class Zero(nn.Module):
    """No connection: zeros of the output's shape."""

    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


# Each operation's constructor: (C, stride, affine) -> module.
OPERATIONS = {
    "none": lambda C, stride, affine: Zero(stride),
    "max_pool_3x3": lambda C, stride, affine: pool("max", stride),
    "avg_pool_3x3": lambda C, stride, affine: pool("avg", stride),
    "skip_connect": lambda C, stride, affine: nn.Identity() if stride == 1 else FactorizedReduce(C, C, affine),
    "sep_conv_3x3": lambda C, stride, affine: SepConv(C, 3, stride, affine),
    "sep_conv_5x5": lambda C, stride, affine: SepConv(C, 5, stride, affine),
    "dil_conv_3x3": lambda C, stride, affine: DilConv(C, 3, stride, affine),
    "dil_conv_5x5": lambda C, stride, affine: DilConv(C, 5, stride, affine),
    "sep_conv_7x7": lambda C, stride, affine: SepConv(C, 7, stride, affine),
    "conv_7x1_1x7": lambda C, stride, affine: FactorizedConv(C, stride, affine),
}
