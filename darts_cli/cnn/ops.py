"""The modules of the convolutional networks: the operations on the edges of a cell (sec. 3.1.1), and stems."""

from collections.abc import Callable, Collection, Sequence
from functools import cache
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_cli import DartsError
from darts_cli.cnn.fused.depthwise import separable
from darts_cli.runtime import distributed
from darts_cli.runtime.batchnorm import BatchNorm2d, normalise
from darts_cli.spaces.operations import of_packages


class ReLUFirst(nn.Module):
    """An operation that begins with a ReLU. All operations of one state share it: copies for the gradient would be large."""

    original_names: ClassVar[dict[str, str]] = {}  # of its layers, in the original code

    def forward(self, x: Tensor) -> Tensor:
        return self.after_relu(F.relu(x))

    def after_relu(self, r: Tensor) -> Tensor:
        """The rest of the operation, given r = relu(x)."""
        for convolutions, norm in self.halves():
            r = norm(convolutions(r))
        return r

    def halves(self) -> list[tuple[Callable[[Tensor], Tensor], nn.Module]]:
        """What follows the ReLU: everything up to a BatchNorm, and the BatchNorm; once or, of two halves, twice."""
        return [(self.unnormalised, self.norm)]

    def unnormalised(self, r: Tensor) -> Tensor:
        """The same without the BatchNorm at its end."""
        raise NotImplementedError


class ReLUConvBN(ReLUFirst):
    original_names: ClassVar = {"point": "op.1", "norm": "op.2"}

    def __init__(self, C_in: int, C_out: int, affine: bool):
        super().__init__()
        self.point = nn.Conv2d(C_in, C_out, 1, bias=False)
        self.norm = BatchNorm2d(C_out, affine=affine)

    def unnormalised(self, r: Tensor) -> Tensor:
        return self.point(r)


class DilConv(ReLUFirst):
    """ReLU, depthwise convolution dilated by 2, pointwise convolution, BatchNorm."""

    original_names: ClassVar = {"depth": "op.1", "point": "op.2", "norm": "op.3"}

    def __init__(self, C: int, kernel: int, stride: int, affine: bool):
        super().__init__()
        self.depth = nn.Conv2d(C, C, kernel, stride, padding=kernel - 1, dilation=2, groups=C, bias=False)
        self.point = nn.Conv2d(C, C, 1, bias=False)
        self.norm = BatchNorm2d(C, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.point(self.depth(F.relu(x))))

    def unnormalised(self, r: Tensor) -> Tensor:
        return separable(r, self.depth, self.point)  # with faster gradients and less memory


class SepConv(ReLUFirst):
    """ReLU, depthwise convolution, pointwise convolution, BatchNorm; applied twice, the first time with the stride."""

    original_names: ClassVar = {
        **{"depth1": "op.1", "point1": "op.2", "norm1": "op.3"},
        **{"depth2": "op.5", "point2": "op.6", "norm2": "op.7"},
    }

    def __init__(self, C: int, kernel: int, stride: int, affine: bool):
        super().__init__()
        self.depth1 = nn.Conv2d(C, C, kernel, stride, padding=kernel // 2, groups=C, bias=False)
        self.point1 = nn.Conv2d(C, C, 1, bias=False)
        self.norm1 = BatchNorm2d(C, affine=affine)
        self.depth2 = nn.Conv2d(C, C, kernel, padding=kernel // 2, groups=C, bias=False)
        self.point2 = nn.Conv2d(C, C, 1, bias=False)
        self.norm2 = BatchNorm2d(C, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(self.point1(self.depth1(F.relu(x))))
        return self.norm2(self.point2(self.depth2(F.relu(x))))

    def halves(self) -> list[tuple[Callable[[Tensor], Tensor], nn.Module]]:  # with faster gradients and less memory
        return [
            (lambda r: separable(r, self.depth1, self.point1), self.norm1),
            (lambda y: separable(F.relu_(y), self.depth2, self.point2), self.norm2),
        ]


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

    @property
    def norm(self) -> BatchNorm2d:
        return self.bn

    def unnormalised(self, r: Tensor) -> Tensor:
        return self.halved(r[:, :, ::2, ::2], r[:, :, 1::2, 1::2])

    def halved(self, even: Tensor, odd: Tensor) -> Tensor:
        """What BatchNorm is given, of the pixels of relu(x) in even rows and columns, and those in odd ones."""
        return torch.cat([self.conv_1(even), self.conv_2(odd)], dim=1)


def pool(kind: str, stride: int) -> nn.Module:
    """3x3 pooling; the average does not count the padding."""
    if kind == "max":
        return nn.MaxPool2d(3, stride, padding=1)
    return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)


class PoolBN(nn.Sequential):
    """A pooling and BatchNorm, as the search has them."""

    def __init__(self, pool: nn.Module, C: int):
        super().__init__(pool, BatchNorm2d(C, affine=False))

    @property
    def norm(self) -> BatchNorm2d:
        return self[1]


class FactorizedConv(ReLUFirst):
    """ReLU, a 1x7 and a 7x1 convolution, each strided along its length, BatchNorm."""

    original_names: ClassVar = {"across": "1", "down": "2", "norm": "3"}

    def __init__(self, C: int, stride: int, affine: bool):
        super().__init__()
        self.across = nn.Conv2d(C, C, (1, 7), (1, stride), padding=(0, 3), bias=False)
        self.down = nn.Conv2d(C, C, (7, 1), (stride, 1), padding=(3, 0), bias=False)
        self.norm = BatchNorm2d(C, affine=affine)

    def unnormalised(self, r: Tensor) -> Tensor:
        return self.down(self.across(r))


class Zero(nn.Module):
    """No connection: zeros of the output's shape."""

    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


class NorConv(ReLUFirst):
    """ReLU, convolution, BatchNorm: the convolutions of NAS-Bench-201, whose search network has a bias without effect."""

    original_names: ClassVar = {"conv": "op.1", "norm": "op.2"}

    def __init__(self, C_in: int, C_out: int, kernel: int, stride: int, affine: bool):
        super().__init__()
        self.conv = nn.Conv2d(C_in, C_out, kernel, stride, padding=kernel // 2, bias=not affine)
        self.norm = BatchNorm2d(C_out, affine=affine)

    def unnormalised(self, r: Tensor) -> Tensor:
        return self.conv(r)


class Noise(nn.Module):
    """Standard normal noise in place of the input (space S4 of RobustDARTS)."""

    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        B, *shape = x[:, :, :: self.stride, :: self.stride].shape
        # the same for every layout of x
        return distributed.drawn(lambda rows: torch.randn(rows, *shape, dtype=x.dtype, device=x.device), B)


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
    "nor_conv_1x1": lambda C, stride, affine: NorConv(C, C, 1, stride, affine),
    "nor_conv_3x3": lambda C, stride, affine: NorConv(C, C, 3, stride, affine),
    "noise": lambda C, stride, affine: Noise(stride),
}


def operation(name: str, C: int, stride: int, affine: bool) -> nn.Module:
    """The module of an operation, of this program or of another package. Raises DartsError when that is of no use."""
    if name in OPERATIONS:
        return OPERATIONS[name](C, stride, affine)
    _check_added(name, C, stride)
    return of_packages()[name].load()(C, stride, affine)


@cache
def _check_added(name: str, C: int, stride: int) -> None:
    """Try an operation of another package on random pixels. Raises DartsError when it is of no use."""
    point = of_packages()[name]
    try:
        with torch.device("cpu"), torch.no_grad(), torch.random.fork_rng(devices=[]):
            x = torch.randn(2, C, 4, 4)
            before = x.clone()
            shape = tuple(point.load()(C, stride, False).eval()(x).shape)
            if not torch.equal(x, before):
                raise ValueError("it changes its input in place")
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        raise DartsError(f"operation {name}: {point.value} does not make a usable module ({reason})") from None
    if shape != (2, C, 4 // stride, 4 // stride):
        rule = f"must map (2, {C}, 4, 4) to (2, {C}, {4 // stride}, {4 // stride}) with stride {stride}, not to {shape}"
        raise DartsError(f"operation {name}: {point.value} {rule}")


class MixedOp(nn.ModuleDict):
    """The continuous relaxation of an edge: all of its operations, weighted; poolings are followed by BatchNorm in DARTS."""

    def __init__(self, operations: Sequence[str], C: int, stride: int, normalise_pools: bool = True):
        super().__init__()
        self.stride = stride
        for name in operations:
            op = operation(name, C, stride, affine=False)
            pools = isinstance(op, nn.MaxPool2d | nn.AvgPool2d)
            self[name] = PoolBN(op, C) if pools and normalise_pools else op

    def forward(self, x: Tensor, weights: Tensor, active: Collection[str] | None = None) -> Tensor:
        """The sum of the operations on x (B, C, H, W), weighted by weights (8,) (eq. 2); of the `active` ones, if given."""
        terms = zip(self.items(), weights, strict=True)
        mixed = [weight * op(x) for (name, op), weight in terms if active is None or name in active]
        return sum(mixed) if mixed else torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


# ---- before and beside the cells


class CifarStem(nn.Sequential):
    """A convolution to C channels at full size; its output, after ReLU, is both inputs of the first cell."""

    def __init__(self, C: int):
        super().__init__(nn.Conv2d(3, C, 3, padding=1, bias=False), BatchNorm2d(C))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, 3, H, W) -> (B, C, H, W), twice."""
        x = F.relu(super().forward(x))
        return x, x


class ImageNetStem(nn.Module):
    """Three convolutions of stride 2; the first cell's inputs, after ReLU, are a fourth and an eighth of the image's size."""

    def __init__(self, C: int):
        super().__init__()
        self.stem0 = nn.Sequential(
            nn.Conv2d(3, C // 2, 3, stride=2, padding=1, bias=False),
            BatchNorm2d(C // 2),
            nn.ReLU(),
            nn.Conv2d(C // 2, C, 3, stride=2, padding=1, bias=False),
            BatchNorm2d(C),
        )
        self.stem1 = nn.Sequential(nn.ReLU(), nn.Conv2d(C, C, 3, stride=2, padding=1, bias=False), BatchNorm2d(C))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, 3, H, W) -> (B, C, H/4, W/4), (B, C, H/8, W/8)."""
        s0 = self.stem0(x)
        return F.relu(s0), F.relu(self.stem1(s0))


def preprocessed(first: nn.Module, second: nn.Module, r0: Tensor, r1: Tensor) -> list[Tensor]:
    """Both inputs of a cell after these layers, given them after their ReLU; several ranks send one message."""
    return normalise([first.norm, second.norm], [first.unnormalised(r0), second.unnormalised(r1)])


def preprocessing(C_prev_prev: int, C_prev: int, C: int, reduction_prev: bool, affine: bool) -> tuple[nn.Module, nn.Module]:
    """The layers that bring both inputs of a cell to C channels; the first also halves its input after a reduction cell."""
    return (FactorizedReduce if reduction_prev else ReLUConvBN)(C_prev_prev, C, affine), ReLUConvBN(C_prev, C, affine)
