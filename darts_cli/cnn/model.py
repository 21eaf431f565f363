"""The convolutional networks: the search network, whose edges mix all operations (sec. 2.2 and 3.1.1), and the network of a
genotype, which is trained and evaluated (sec. 3.2 and 3.3).

States pass from cell to cell after their ReLU, with which every reader begins; the last cell's output has none. Computing it in
every reader instead would keep 15 to 21 % more memory for the gradient.
"""

import functools
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_cli import DartsError
from darts_cli.cnn import nasbench201, ops
from darts_cli.cnn.search_cell import Active, Form, SearchCell, kept
from darts_cli.genotype import Cell as CellGenotype
from darts_cli.genotype import Edge, Genotype
from darts_cli.guard.watch import parameter_free
from darts_cli.methods.relaxation import Searching, edges_of
from darts_cli.methods.value import DARTS, Method, Tables
from darts_cli.runtime import distributed
from darts_cli.runtime.batchnorm import BatchNorm2d, normalise
from darts_cli.spaces.space import Space, default

# ---- what both networks share


def _reductions(layers: int) -> tuple[int, int]:
    """The indices of the reduction cells: at a third and two thirds of the depth."""
    return layers // 3, 2 * layers // 3


# ---- the search


class SearchNetwork(Searching, nn.Module):
    """The network the search trains: a stem and `layers` cells, with reduction cells at one and two thirds of the depth.

    All normal cells share the architecture parameters `alphas["normal"]` (14 edges, 8 operations), all reduction cells
    `alphas["reduce"]`; both start at `alpha_scale` N(0, 1). `layers` is at least 3, `channels` even.

    space        what the cells may be; the default space of images if none is given
    fused        compute the edges of a node together; False: eqs. 1 and 2 as written, module by module
    recompute    of fused nodes: compute depthwise convolutions once more for the gradient instead of keeping their results
    method       what the method asks of the network: partial channels, weights of edges (`alphas["normal_edges"]` and so on),
                 added skip connections
    """

    def __init__(
        self,
        channels: int = 16,
        num_classes: int = 10,
        layers: int = 8,
        *,
        fused: bool = True,
        space: Space | None = None,
        alpha_scale: float = 1e-3,
        recompute: bool = False,
        method: Method = DARTS,
    ):
        super().__init__()
        self.space, self.fused, self.method = space or default("cnn"), fused, method
        form = Form(fused, recompute, method.partial, method.auxiliary_skip is not None)
        C = channels
        self.stem = ops.CifarStem(3 * C)
        C_prev_prev, C_prev, reduction_prev = 3 * C, 3 * C, False
        self.cells = nn.ModuleList()
        for i in range(layers):
            reduction = i in _reductions(layers)
            C *= 2 if reduction else 1
            kind = "reduce" if reduction else "normal"
            self.cells.append(SearchCell(self.space, kind, C_prev_prev, C_prev, C, reduction_prev, form))
            C_prev_prev, C_prev, reduction_prev = C_prev, self.space.nodes * C, reduction
        self.classifier = nn.Linear(C_prev, num_classes)
        self.relax(self.space, method, alpha_scale)
        if fused:
            self.to(memory_format=torch.channels_last)

    def regions(self) -> list[nn.Module]:
        """What --compile compiles: the edges of a network that is not fused, of whose sizes there are few."""
        return [module for module in self.modules() if isinstance(module, ops.MixedOp)]

    def forward(self, x: Tensor, mixture: Tables | None = None, active: Mapping[str, Active] | None = None) -> Tensor:
        """x (B, 3, H, W), H and W divisible by 4 -> logits (B, num_classes).

        mixture    the operation weights, {"normal": (14, 8), "reduce": (14, 8)}; the strengths of the method if none are given
        active     for every edge of each kind of cell the names of the operations to compute; the others add nothing
        """
        mixture = self.settled() if mixture is None else mixture
        s0, s1 = self.stem(x.contiguous(memory_format=torch.channels_last) if self.fused else x)
        for cell in self.cells:
            chosen, edges = None if active is None else active[cell.kind], mixture.get(edges_of(cell.kind))
            y = cell(s0, s1, mixture[cell.kind], chosen, edges, self.added)
            s0, s1 = s1, y if cell is self.cells[-1] else F.relu_(y)
        return self.classifier(s1.mean(dim=(2, 3)))


# ---- the network of a genotype


class Cell(nn.Module):
    """A cell whose nodes each sum the operations of their edges (fig. 1d)."""

    def __init__(self, cell: CellGenotype, C_prev_prev: int, C_prev: int, C: int, reduction: bool, reduction_prev: bool):
        super().__init__()
        self.genotype = cell
        self.preprocess0, self.preprocess1 = ops.preprocessing(C_prev_prev, C_prev, C, reduction_prev, affine=True)
        self.edges = nn.ModuleList(
            ops.operation(edge.op, C, stride=2 if reduction and edge.input < 2 else 1, affine=True)
            for node in cell.nodes
            for edge in node
        )

    def forward(self, s0: Tensor, s1: Tensor, drop_path: float = 0.0, share: tuple[int, slice] | None = None) -> Tensor:
        """s0, s1 (B, C', H, W), after their ReLU -> (B, C * len(concat), H, W); a reduction cell halves H and W.

        In training each edge is dropped with probability `drop_path`, except skip connections of stride 1.
        """
        states = ops.preprocessed(self.preprocess0, self.preprocess1, s0, s1)
        relus: dict[int, Tensor] = {}  # each is computed once for all edges of a state

        def relu(j: int) -> Tensor:
            if j not in relus:
                relus[j] = F.relu(states[j])
            return relus[j]

        edges = [edge for node in self.genotype.nodes for edge in node]
        early = self._early(edges, relu) if self.training and distributed.ranks() > 1 else {}
        operations = iter(zip(self.edges, edges, strict=True))

        def output() -> Tensor:
            op, edge = next(operations)
            j = edge.input
            if isinstance(op, nn.Identity):
                return states[j]
            y = early.pop(op, None)
            if y is None:
                y = op.after_relu(relu(j)) if isinstance(op, ops.ReLUFirst) else op(states[j])
            if not self.training or drop_path == 0:
                return y
            ours = edge.op in ops.OPERATIONS  # another package's may return its input, or need its result in the backward pass
            return drop_path_(y if ours else y.clone(), drop_path, share)

        for node in self.genotype.nodes:
            states.append(functools.reduce(torch.add, [output() for _ in node]))
        return torch.cat([states[i] for i in self.genotype.concat], dim=1)

    def _early(self, edges: Sequence[Edge], relu: Callable[[int], Tensor]) -> dict[nn.Module, Tensor]:
        """The operations of the cell's inputs, which wait for no node: halves that are normalised together send one message."""
        both = zip(self.edges, edges, strict=True)
        found = {op: relu(edge.input) for op, edge in both if edge.input < 2 and isinstance(op, ops.ReLUFirst)}
        halves = {op: op.halves() for op in found}
        for k in range(max(map(len, halves.values()), default=0)):
            going = {op: each[k] for op, each in halves.items() if k < len(each)}
            before = [convolutions(found[op]) for op, (convolutions, _) in going.items()]
            found |= zip(going, normalise([norm for _, norm in going.values()], before), strict=True)
        return found


def drop_path_(x: Tensor, probability: float, share: tuple[int, slice] | None = None) -> Tensor:
    """Drop-path, in place (Larsson et al., arXiv 1605.07648): each image of x (B, C, H, W) becomes zero with that probability,
    the others are scaled up to keep the expectation.

    share   the size of the batch of all ranks, for which the chances are drawn, and the slice of it that x is
    """
    if probability == 0:
        return x
    size, rows = share or (len(x), slice(None))
    return x.mul_(kept(size, probability, x)[rows])


AUXILIARY_SIDE_PIXELS = {"cifar": 32, "imagenet": 224}  # of the images that an auxiliary head is made for, by stem


class AuxiliaryHead(nn.Module):
    """A second classifier inside the network, for training only; its input must be 8x8 (CIFAR) or 7x7 (ImageNet)."""

    def __init__(self, C: int, num_classes: int, stem: str):
        super().__init__()
        self.features = nn.Sequential(
            nn.ReLU(),
            nn.AvgPool2d(5, stride=3 if stem == "cifar" else 2, count_include_pad=False),
            nn.Conv2d(C, 128, 1, bias=False),
            BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            *([BatchNorm2d(768)] if stem == "cifar" else []),  # missing for ImageNet in the original
            nn.ReLU(),
        )
        self.classifier = nn.Linear(768, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


class Network(nn.Module):
    """The network of a genotype: a stem and `layers` of its cells, with reduction cells at one and two thirds of the depth.

    stem         "cifar": full height and width; "imagenet": an eighth of them
    auxiliary    adds an auxiliary head after the second reduction, for images of AUXILIARY_SIDE_PIXELS
    drop_path    attribute: the probability that an edge is dropped in training; the training raises it over the epochs

    Raises DartsError when the genotype is not convolutional or the stem unknown.
    """

    def __init__(
        self,
        genotype: Genotype,
        channels: int = 36,
        num_classes: int = 10,
        layers: int = 20,
        auxiliary: bool = False,
        stem: str = "cifar",
    ):
        super().__init__()
        if genotype.domain != "cnn":
            raise DartsError(f"a convolutional network needs a genotype of the domain cnn, not {genotype.domain}")
        if genotype.macro != "darts":
            raise DartsError(
                f"this network needs a convolutional genotype with the cells normal and reduce, not {genotype.macro}"
            )
        if stem not in AUXILIARY_SIDE_PIXELS:
            raise DartsError(f"stem {stem!r}: must be one of {', '.join(AUXILIARY_SIDE_PIXELS)}")
        self.drop_path = 0.0
        C = channels
        self.stem = ops.CifarStem(3 * C) if stem == "cifar" else ops.ImageNetStem(C)
        C_prev_prev = C_prev = 3 * C if stem == "cifar" else C
        reduction_prev = stem == "imagenet"  # the first cell's inputs differ in size
        self.auxiliary_head = None
        self.cells = nn.ModuleList()
        for i in range(layers):
            reduction = i in _reductions(layers)
            C *= 2 if reduction else 1
            cell = genotype.cells["reduce" if reduction else "normal"]
            self.cells.append(Cell(cell, C_prev_prev, C_prev, C, reduction, reduction_prev))
            C_prev_prev, C_prev, reduction_prev = C_prev, len(cell.concat) * C, reduction
            if auxiliary and i == _reductions(layers)[1]:
                self.auxiliary_head = AuxiliaryHead(C_prev, num_classes, stem)
        self.classifier = nn.Linear(C_prev, num_classes)
        self.to(memory_format=torch.channels_last)

    def regions(self) -> list[nn.Module]:
        """What --compile compiles."""
        return list(self.cells)

    def forward(self, x: Tensor, share: tuple[int, slice] | None = None) -> tuple[Tensor, Tensor | None]:
        """x (B, 3, H, W) -> logits (B, num_classes), and the auxiliary head's logits in training, else None.

        share   under torchrun: the size of the batch of all ranks, and the slice of it that x is
        """
        auxiliary = None
        s0, s1 = self.stem(x.contiguous(memory_format=torch.channels_last))
        for i, cell in enumerate(self.cells):
            s0, s1 = s1, cell(s0, s1, self.drop_path, share)
            if i + 1 < len(self.cells):
                s1 = F.relu_(s1)
            if self.training and self.auxiliary_head is not None and i == _reductions(len(self.cells))[1]:
                auxiliary = self.auxiliary_head(s1)
        return self.classifier(s1.mean(dim=(2, 3))), auxiliary


# ---- the networks of other macro structures


def search_network(space: Space) -> type[SearchNetwork | nasbench201.SearchNetwork]:
    """The class of the network that searches a space."""
    return nasbench201.SearchNetwork if space.macro == "nas-bench-201" else SearchNetwork


def blocks(genotype: Genotype, layers: int) -> int:
    """How many modules `cells` of its network has: the cells and, in NAS-Bench-201, the residual blocks between them."""
    return nasbench201.STAGES * (layers + 1) - 1 if genotype.macro == "nas-bench-201" else layers


def blocks_with_weights(genotype: Genotype, layers: int) -> int:
    """How many of them have weights: in NAS-Bench-201 not the cells whose operations have none."""
    without = genotype.macro == "nas-bench-201" and parameter_free(genotype) == 1
    return nasbench201.STAGES - 1 if without else blocks(genotype, layers)


def network(genotype: Genotype) -> type[Network | nasbench201.Network]:
    """The class of the network that is made of such cells."""
    return nasbench201.Network if genotype.macro == "nas-bench-201" else Network
