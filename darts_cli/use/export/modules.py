"""The operations of convolutional cells in plain torch.nn; `darts export --format source` copies their text into its file.

The names of their weights are those of `darts_cli.cnn.ops`, and nothing but torch may appear in a class.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ReLUConvBN(nn.Module):
    """ReLU, 1x1 convolution, BatchNorm."""

    def __init__(self, C_in: int, C_out: int):
        super().__init__()
        self.point = nn.Conv2d(C_in, C_out, 1, bias=False)
        self.norm = nn.BatchNorm2d(C_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.point(F.relu(x)))


class FactorizedReduce(nn.Module):
    """Halve height and width: half of the channels see the even rows and columns, half the odd ones."""

    def __init__(self, C_in: int, C_out: int):
        super().__init__()
        self.conv_1 = nn.Conv2d(C_in, C_out // 2, 1, bias=False)
        self.conv_2 = nn.Conv2d(C_in, C_out // 2, 1, bias=False)
        self.bn = nn.BatchNorm2d(C_out)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        return self.bn(torch.cat([self.conv_1(x[:, :, ::2, ::2]), self.conv_2(x[:, :, 1::2, 1::2])], dim=1))


class SepConv(nn.Module):
    """ReLU, depthwise and pointwise convolution, BatchNorm; applied twice, the first time with the stride."""

    def __init__(self, C: int, kernel: int, stride: int):
        super().__init__()
        self.depth1 = nn.Conv2d(C, C, kernel, stride, padding=kernel // 2, groups=C, bias=False)
        self.point1 = nn.Conv2d(C, C, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(C)
        self.depth2 = nn.Conv2d(C, C, kernel, padding=kernel // 2, groups=C, bias=False)
        self.point2 = nn.Conv2d(C, C, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(C)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(self.point1(self.depth1(F.relu(x))))
        return self.norm2(self.point2(self.depth2(F.relu(x))))


class DilConv(nn.Module):
    """ReLU, depthwise convolution dilated by 2, pointwise convolution, BatchNorm."""

    def __init__(self, C: int, kernel: int, stride: int):
        super().__init__()
        self.depth = nn.Conv2d(C, C, kernel, stride, padding=kernel - 1, dilation=2, groups=C, bias=False)
        self.point = nn.Conv2d(C, C, 1, bias=False)
        self.norm = nn.BatchNorm2d(C)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.point(self.depth(F.relu(x))))


class FactorizedConv(nn.Module):
    """ReLU, a 1x7 and a 7x1 convolution, each strided along its length, BatchNorm."""

    def __init__(self, C: int, stride: int):
        super().__init__()
        self.across = nn.Conv2d(C, C, (1, 7), (1, stride), padding=(0, 3), bias=False)
        self.down = nn.Conv2d(C, C, (7, 1), (stride, 1), padding=(3, 0), bias=False)
        self.norm = nn.BatchNorm2d(C)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.down(self.across(F.relu(x))))


class NorConv(nn.Module):
    """ReLU, convolution, BatchNorm."""

    def __init__(self, C_in: int, C_out: int, kernel: int, stride: int):
        super().__init__()
        self.conv = nn.Conv2d(C_in, C_out, kernel, stride, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(C_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(F.relu(x)))


class Zero(nn.Module):
    """No connection: zeros of the output's shape."""

    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


class ResidualBlock(nn.Module):
    """Two convolutions, which halve height and width and double the channels, beside a shortcut."""

    def __init__(self, C: int):
        super().__init__()
        self.conv_a = NorConv(C, 2 * C, 3, stride=2)
        self.conv_b = NorConv(2 * C, 2 * C, 3, stride=1)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(C, 2 * C, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.conv_b(self.conv_a(x))


class ImageNetStem(nn.Module):
    """Three convolutions of stride 2; the outputs are a fourth and an eighth of the image's size."""

    def __init__(self, C: int):
        super().__init__()
        self.stem0 = nn.Sequential(
            nn.Conv2d(3, C // 2, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(C // 2),
            nn.ReLU(),
            nn.Conv2d(C // 2, C, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(C),
        )
        self.stem1 = nn.Sequential(nn.ReLU(), nn.Conv2d(C, C, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(C))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        s0 = self.stem0(x)
        return s0, self.stem1(s0)


MODULES = (
    ReLUConvBN,
    FactorizedReduce,
    SepConv,
    DilConv,
    FactorizedConv,
    NorConv,
    Zero,
    ResidualBlock,
    ImageNetStem,
)
