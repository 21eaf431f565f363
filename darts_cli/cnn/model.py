"""The convolutional networks: the search network, whose edges mix all operations (sec. 2.2 and 3.1.1)."""

import torch
from torch import Tensor, nn

from darts_cli.cnn import ops
from darts_cli.genotype import SPACES, Genotype, derive_cell

NODES = 4  # intermediate nodes of a search cell, all of them joined in its output
SEARCHED = SPACES["cnn"].searched
EDGES = SPACES["cnn"].edges_searched(NODES)


class MixedOp(nn.ModuleDict):
    """The continuous relaxation of an edge: every operation of its input, weighted (eq. 2)."""

    def __init__(self, C: int, stride: int):
        super().__init__({name: self._normalised(name, C, stride) for name in SEARCHED if name != "none"})

    @staticmethod
    def _normalised(name: str, C: int, stride: int) -> nn.Module:
        op = ops.OPERATIONS[name](C, stride, affine=False)
        return nn.Sequential(op, ops.batch_norm(C, affine=False)) if "pool" in name else op

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """x (B, C, H, W), weights (8,), one for each searched operation; that of `none` multiplies zero."""
        return sum(weight * self[name](x) for name, weight in zip(SEARCHED, weights, strict=True) if name != "none")


class SearchCell(nn.Module):
    """A cell whose nodes each sum the mixed operations of all states before them (eq. 1)."""

    def __init__(self, C_prev_prev: int, C_prev: int, C: int, reduction: bool, reduction_prev: bool):
        super().__init__()
        preprocess0 = ops.FactorizedReduce if reduction_prev else ops.ReLUConvBN
        self.preprocess0 = preprocess0(C_prev_prev, C, affine=False)
        self.preprocess1 = ops.ReLUConvBN(C_prev, C, affine=False)
        self.edges = nn.ModuleList(
            MixedOp(C, stride=2 if reduction and state < 2 else 1) for node in range(NODES) for state in range(2 + node)
        )

    def forward(self, s0: Tensor, s1: Tensor, weights: Tensor) -> Tensor:
        """s0, s1 (B, C', H, W), weights (14, 8) -> (B, 4C, H, W), of half the height and width in a reduction cell."""
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        edges = list(zip(self.edges, weights, strict=True))
        for _ in range(NODES):
            incoming, edges = edges[: len(states)], edges[len(states) :]
            states.append(sum(mixed(state, weight) for state, (mixed, weight) in zip(states, incoming, strict=True)))
        return torch.cat(states[2:], dim=1)


class SearchNetwork(nn.Module):
    """The network the search trains: a stem and `layers` cells, those at a third and two thirds reduction cells.

    All normal cells share the architecture parameters `alphas["normal"]` (14 edges, 8 operations), all reduction cells
    `alphas["reduce"]`; both start at `alpha_scale` N(0, 1). `layers` is at least 3, `channels` even.
    """

    def __init__(self, channels: int = 16, num_classes: int = 10, layers: int = 8, *, alpha_scale: float = 1e-3):
        super().__init__()
        C = channels
        self.stem = nn.Sequential(nn.Conv2d(3, 3 * C, 3, padding=1, bias=False), nn.BatchNorm2d(3 * C))
        C_prev_prev, C_prev, reduction_prev = 3 * C, 3 * C, False
        self.cells = nn.ModuleList()
        self.kinds = []
        for i in range(layers):
            reduction = i in (layers // 3, 2 * layers // 3)
            C *= 2 if reduction else 1
            self.cells.append(SearchCell(C_prev_prev, C_prev, C, reduction, reduction_prev))
            self.kinds.append("reduce" if reduction else "normal")
            C_prev_prev, C_prev, reduction_prev = C_prev, NODES * C, reduction
        self.classifier = nn.Linear(C_prev, num_classes)
        self.alphas = nn.ParameterDict(
            {kind: nn.Parameter(alpha_scale * torch.randn(EDGES, len(SEARCHED))) for kind in SPACES["cnn"].cells}
        )
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor, mixture: dict[str, Tensor] | None = None) -> Tensor:
        """x (B, 3, H, W), H and W divisible by 4 -> logits (B, num_classes).

        `mixture` takes the place of the softmax of the alphas: {"normal": (14, 8), "reduce": (14, 8)}.
        """
        if mixture is None:
            mixture = {kind: alpha.softmax(dim=-1) for kind, alpha in self.alphas.items()}
        s0 = s1 = self.stem(x.contiguous(memory_format=torch.channels_last))
        for cell, kind in zip(self.cells, self.kinds, strict=True):
            s0, s1 = s1, cell(s0, s1, mixture[kind])
        return self.classifier(s1.mean(dim=(2, 3)))

    def weights(self) -> list[nn.Parameter]:
        """All parameters but the alphas: the w of the bilevel problem."""
        return [weight for name, weight in self.named_parameters() if not name.startswith("alphas.")]

    def genotype(self) -> Genotype:
        """The discrete cells that the alphas stand for (sec. 2.4)."""
        return Genotype("cnn", {kind: derive_cell(alpha.tolist(), "cnn") for kind, alpha in self.alphas.items()})
