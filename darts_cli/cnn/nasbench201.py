"""The networks of NAS-Bench-201 (Dong and Yang, arXiv 2001.00326): three stages of cells, residual blocks between them.

A cell has one input, every node sums one operation of every earlier state, and the last node is the output.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from darts_cli import DartsError
from darts_cli.cnn import ops
from darts_cli.cnn.fused.node import State, mixed_node
from darts_cli.genotype import Cell as CellGenotype
from darts_cli.genotype import Genotype
from darts_cli.methods.relaxation import new_alphas
from darts_cli.methods.value import DARTS, Method, Tables, plain
from darts_cli.runtime.batchnorm import BatchNorm2d
from darts_cli.spaces.space import Space, load

STAGES = 3  # with C, 2C and 4C channels


class ResidualBlock(nn.Module):
    """Two ReLU-convolution-BatchNorm, which halve height and width and double the channels, beside a shortcut."""

    original_names: ClassVar = {"shortcut": "downsample"}

    def __init__(self, C: int):
        super().__init__()
        self.conv_a = ops.NorConv(C, 2 * C, 3, stride=2, affine=True)
        self.conv_b = ops.NorConv(2 * C, 2 * C, 3, stride=1, affine=True)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(C, 2 * C, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 2C, H/2, W/2)."""
        return self.shortcut(x) + self.conv_b(self.conv_a(x))


class Stages(nn.Module):
    """What both networks share: stem, three stages of cells with residual blocks between them, classifier."""

    original_names: ClassVar = {"last": "lastact"}

    def __init__(self, C: int, num_classes: int, layers: int, make_cell):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, C, 3, padding=1, bias=False), BatchNorm2d(C))
        self.cells = nn.ModuleList()
        for stage in range(STAGES):
            if stage > 0:
                self.cells.append(ResidualBlock(C))
                C *= 2
            self.cells.extend(make_cell(C) for _ in range(layers))
        self.last = nn.Sequential(BatchNorm2d(C), nn.ReLU())
        self.classifier = nn.Linear(C, num_classes)

    def logits(self, x: Tensor, *of_cells) -> Tensor:
        """x (B, 3, H, W) -> (B, num_classes); every cell gets the other arguments."""
        x = self.stem(x)
        for cell in self.cells:
            x = cell(x) if isinstance(cell, ResidualBlock) else cell(x, *of_cells)
        return self.classifier(self.last(x).mean(dim=(2, 3)))


# ---- the search


class SearchCell(nn.Module):
    """A cell whose nodes each sum the mixed operations of all earlier states (eq. 1)."""

    def __init__(self, space: Space, C: int, fused: bool):
        super().__init__()
        self.space, self.fused = space, fused
        self.edges = nn.ModuleList(ops.MixedOp(row, C, 1, normalise_pools=False) for row in space.choices("cell"))

    def forward(self, x: Tensor, weights: Tensor, active=None, auxiliary: float = 0.0) -> Tensor:
        """x (B, C, H, W), weights (6, 5) -> (B, C, H, W)."""
        active = [None] * len(self.edges) if active is None else active
        states = [State(x, 1) if self.fused else x]
        for edges, rows, names in zip(*map(self.space.by_node, (self.edges, weights, active)), strict=True):
            if self.fused:
                y = mixed_node(states, edges, rows, names)
                y = y + auxiliary * sum(state.x for state in states) if auxiliary else y
                states.append(State(y, 1))
            else:
                y = sum(edge(s, row, name) for edge, s, row, name in zip(edges, states, rows, names, strict=True))
                states.append(y + auxiliary * sum(states) if auxiliary else y)
        return states[-1].x if self.fused else states[-1]


class SearchNetwork(Stages):
    """The network the search trains; all cells share `alphas["cell"]` (6 edges, 5 operations), which start at `alpha_scale`
    N(0, 1). The arguments are those of `model.SearchNetwork`, but `layers` are the cells of each stage."""

    def __init__(
        self,
        channels: int = 16,
        num_classes: int = 10,
        layers: int = 5,
        *,
        fused: bool = True,
        space: Space | None = None,
        alpha_scale: float = 1e-3,
        recompute: bool = False,
        method: Method = DARTS,
    ):
        space = space or load("nas-bench-201")
        super().__init__(channels, num_classes, layers, lambda C: SearchCell(space, C, fused))
        self.space, self.fused, self.method = space, fused, method
        self.auxiliary_skip = 0.0  # the weight of added skip connections (DARTS-)
        self.alphas = new_alphas(space, alpha_scale, method.edge_weights)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor, mixture: Tables | None = None, active: Mapping | None = None) -> Tensor:
        """x (B, 3, H, W), H and W divisible by 4 -> logits (B, num_classes); the others as in `model.SearchNetwork.forward`."""
        mixture = self.method.settled(self.alphas) if mixture is None else mixture
        x = x.contiguous(memory_format=torch.channels_last)
        return self.logits(x, mixture["cell"], None if active is None else active["cell"], self.auxiliary_skip)

    def weights(self) -> list[nn.Parameter]:
        """All parameters except the alphas: the w of the bilevel problem."""
        return [weight for name, weight in self.named_parameters() if not name.startswith("alphas.")]

    def genotype(self) -> Genotype:
        """The discrete cell that the method derives from the alphas."""
        return self.method.derive(plain(self.method.strength(self.alphas)), self.space)


# ---- the network of a genotype


class Cell(nn.Module):
    """A cell whose nodes each sum one operation of every earlier state."""

    def __init__(self, cell: CellGenotype, C: int):
        super().__init__()
        self.genotype = cell
        self.edges = nn.ModuleList(ops.operation(edge.op, C, 1, affine=True) for node in cell.nodes for edge in node)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        states, operations = [x], iter(self.edges)
        for node in self.genotype.nodes:
            states.append(sum(next(operations)(states[edge.input]) for edge in node))
        return states[-1]


class Network(Stages):
    """The network of a genotype, as the benchmark trained it; `layers` are the cells of each stage.

    It has no auxiliary head, no other stem, and no drop-path. Raises DartsError when the genotype is of another space, or where
    one of these is asked for.
    """

    def __init__(
        self,
        genotype: Genotype,
        channels: int = 16,
        num_classes: int = 10,
        layers: int = 5,
        auxiliary: bool = False,
        stem: str = "cifar",
    ):
        if genotype.macro != "nas-bench-201":
            raise DartsError(f"a network of NAS-Bench-201 needs a genotype of its space, not of {genotype.macro}")
        if auxiliary or stem != "cifar":
            raise DartsError(f"a network of NAS-Bench-201 has no {'auxiliary head' if auxiliary else f'stem for {stem}'}")
        super().__init__(channels, num_classes, layers, lambda C: Cell(genotype.cells["cell"], C))
        self.drop_path = 0.0
        self.auxiliary_head = None
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor, share: tuple[int, slice] | None = None) -> tuple[Tensor, None]:
        """x (B, 3, H, W) -> logits (B, num_classes), and None in place of an auxiliary head's."""
        return self.logits(x.contiguous(memory_format=torch.channels_last)), None
