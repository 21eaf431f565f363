"""PC-DARTS (Xu et al., arXiv 1907.05737): operations on a part of the channels, and weights of edges."""

from itertools import accumulate, pairwise

import torch
from torch import Tensor

from darts_cli.methods.value import EDGES, Tables


def edge_weights(alphas: Tables) -> dict[str, Tensor]:
    """The weights of edges: by name of their table, the softmax of beta over the edges of each node."""
    return {name: softmax_by_node(beta) for name, beta in alphas.items() if name.endswith(EDGES)}


def softmax_by_node(beta: Tensor) -> Tensor:
    """The softmax of beta (edges,) over the edges of each node."""
    ends = list(accumulate(per_node(len(beta)), initial=0))
    return torch.cat([beta[start:end].softmax(dim=0) for start, end in pairwise(ends)])


def per_node(edges: int) -> list[int]:
    """The edges of each node: one more than those of the node before; the first has one or two, never both for a total."""
    for first in (1, 2):
        counts = [first]
        while sum(counts) < edges:
            counts.append(counts[-1] + 1)
        if sum(counts) == edges:
            return counts
    raise ValueError(f"no cell has {edges} edges")


def shuffled(C: int, K: int) -> Tensor:
    """The order of the channels after the shuffle of K groups: y[:, i] = x[:, order[i]]."""
    return torch.arange(C).view(K, C // K).t().flatten()
