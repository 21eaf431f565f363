"""The networks of NAS-Bench-201 (Dong and Yang, arXiv 2001.00326): three stages of cells, residual blocks between them.

A cell has one input, every node sums one operation of every earlier state, and the last node is the output.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from darts_cli import DartsError
from darts_cli.cnn import ops
from darts_cli.cnn.search_cell import Active, Form, MixedCell
from darts_cli.genotype import Cell as CellGenotype
from darts_cli.genotype import Genotype
from darts_cli.methods.relaxation import Searching, edges_of
from darts_cli.methods.value import DARTS, NOTHING, Added, Method, Tables
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

    def regions(self) -> list[nn.Module]:
        """What --compile compiles: of a search the edges, of whose sizes there are few."""
        edges = [module for module in self.modules() if isinstance(module, ops.MixedOp)]
        return edges or list(self.cells)

    def logits(self, x: Tensor, *of_cells) -> Tensor:
        """x (B, 3, H, W) -> (B, num_classes); every cell gets the other arguments."""
        x = self.stem(x)
        for cell in self.cells:
            x = cell(x) if isinstance(cell, ResidualBlock) else cell(x, *of_cells)
        return self.classifier(self.last(x).mean(dim=(2, 3)))


# ---- the search


class SearchCell(MixedCell):
    """A cell of one input; its last node is its output."""

    def __init__(self, space: Space, C: int, form: Form):
        super().__init__(space, "cell", C, 1, form, normalise_pools=False)

    def forward(
        self,
        x: Tensor,
        weights: Tensor,
        active: Active = None,
        edge_weights: Tensor | None = None,
        added: Added = NOTHING,
    ) -> Tensor:
        """x (B, C, H, W), weights (6, 5) -> (B, C, H, W); the others as in `nodes`."""
        return self.nodes([x], weights, active, edge_weights, added)[-1]


class SearchNetwork(Searching, Stages):
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
        form = Form(fused, recompute, method.partial, method.auxiliary_skip is not None)
        super().__init__(channels, num_classes, layers, lambda C: SearchCell(space, C, form))
        self.space, self.fused, self.method = space, fused, method
        self.relax(space, method, alpha_scale)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor, mixture: Tables | None = None, active: Mapping | None = None) -> Tensor:
        """x (B, 3, H, W), H and W divisible by 4 -> logits (B, num_classes); the others as in `model.SearchNetwork.forward`."""
        mixture = self.settled() if mixture is None else mixture
        x = x.contiguous(memory_format=torch.channels_last)
        chosen = None if active is None else active["cell"]
        return self.logits(x, mixture["cell"], chosen, mixture.get(edges_of("cell")), self.added)


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
