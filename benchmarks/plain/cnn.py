"""The convolutional network of a genotype, module by module; names of parameters as in the original code."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ReLUConvBN(nn.Module):
    def __init__(self, C_in: int, C_out: int, affine: bool):
        super().__init__()
        self.op = nn.Sequential(nn.ReLU(), nn.Conv2d(C_in, C_out, 1, bias=False), nn.BatchNorm2d(C_out, affine=affine))

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class DilConv(nn.Module):
    def __init__(self, C: int, kernel: int, stride: int, affine: bool):
        super().__init__()
        self.op = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(C, C, kernel, stride, padding=kernel - 1, dilation=2, groups=C, bias=False),
            nn.Conv2d(C, C, 1, bias=False),
            nn.BatchNorm2d(C, affine=affine),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class SepConv(nn.Module):
    def __init__(self, C: int, kernel: int, stride: int, affine: bool):
        super().__init__()
        self.op = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(C, C, kernel, stride, padding=kernel // 2, groups=C, bias=False),
            nn.Conv2d(C, C, 1, bias=False),
            nn.BatchNorm2d(C, affine=affine),
            nn.ReLU(),
            nn.Conv2d(C, C, kernel, 1, padding=kernel // 2, groups=C, bias=False),
            nn.Conv2d(C, C, 1, bias=False),
            nn.BatchNorm2d(C, affine=affine),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class Zero(nn.Module):
    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride].mul(0.0)


class FactorizedReduce(nn.Module):
    def __init__(self, C_in: int, C_out: int, affine: bool):
        super().__init__()
        self.conv_1 = nn.Conv2d(C_in, C_out // 2, 1, stride=2, bias=False)
        self.conv_2 = nn.Conv2d(C_in, C_out // 2, 1, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(C_out, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        return self.bn(torch.cat([self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])], dim=1))


def operation(name: str, C: int, stride: int, affine: bool) -> nn.Module:
    kind, _, size = name.rpartition("_")
    if name == "none":
        return Zero(stride)
    if name == "max_pool_3x3":
        return nn.MaxPool2d(3, stride, padding=1)
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
    if name == "skip_connect":
        return nn.Identity() if stride == 1 else FactorizedReduce(C, C, affine)
    return {"sep_conv": SepConv, "dil_conv": DilConv}[kind](C, int(size[0]), stride, affine)


class Cell(nn.Module):
    """Every node the sum of its edges' operations."""

    def __init__(self, genotype, C_prev_prev: int, C_prev: int, C: int, reduction: bool, reduction_prev: bool):
        super().__init__()
        first = FactorizedReduce if reduction_prev else ReLUConvBN
        self.preprocess0, self.preprocess1 = first(C_prev_prev, C, True), ReLUConvBN(C_prev, C, True)
        self.genotype = genotype
        edges = [edge for node in genotype.nodes for edge in node]
        self._ops = nn.ModuleList(operation(op, C, 2 if reduction and j < 2 else 1, affine=True) for op, j in edges)

    def forward(self, s0: Tensor, s1: Tensor, drop_path: float) -> Tensor:
        states, ops = [self.preprocess0(s0), self.preprocess1(s1)], iter(self._ops)
        for node in self.genotype.nodes:
            h = []
            for edge in node:
                op = next(ops)
                y = op(states[edge.input])
                if self.training and drop_path > 0 and not isinstance(op, nn.Identity):
                    keep = torch.empty(len(y), 1, 1, 1).bernoulli_(1 - drop_path)
                    y = y / (1 - drop_path) * keep.to(y)
                h.append(y)
            states.append(sum(h))
        return torch.cat([states[i] for i in self.genotype.concat], dim=1)


class AuxiliaryHead(nn.Module):
    def __init__(self, C: int, num_classes: int):
        super().__init__()
        self.features = nn.Sequential(
            nn.ReLU(),
            nn.AvgPool2d(5, stride=3, padding=0, count_include_pad=False),
            nn.Conv2d(C, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            nn.BatchNorm2d(768),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(768, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


class Network(nn.Module):
    def __init__(self, genotype, channels: int = 36, num_classes: int = 10, layers: int = 20, auxiliary: bool = True):
        super().__init__()
        C = 3 * channels
        self.drop_path = 0.0
        self.stem = nn.Sequential(nn.Conv2d(3, C, 3, padding=1, bias=False), nn.BatchNorm2d(C))

        C_prev_prev, C_prev, C, reduction_prev, self.cells = C, C, channels, False, nn.ModuleList()
        for i in range(layers):
            reduction = i in (layers // 3, 2 * layers // 3)
            C = 2 * C if reduction else C
            cell = genotype.cells["reduce" if reduction else "normal"]
            self.cells.append(Cell(cell, C_prev_prev, C_prev, C, reduction, reduction_prev))
            C_prev_prev, C_prev, reduction_prev = C_prev, len(cell.concat) * C, reduction
        self.last_reduction = 2 * layers // 3
        self.auxiliary_head = AuxiliaryHead(C_prev, num_classes) if auxiliary else None
        self.global_pooling = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(C_prev, num_classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        s0 = s1 = self.stem(x)
        auxiliary = None
        for i, cell in enumerate(self.cells):
            s0, s1 = s1, cell(s0, s1, self.drop_path)
            if i == self.last_reduction and self.training and self.auxiliary_head is not None:
                auxiliary = self.auxiliary_head(s1)
        return self.classifier(self.global_pooling(s1).flatten(1)), auxiliary
