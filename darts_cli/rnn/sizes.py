"""The sizes of recurrent networks."""

import torch
from torch import nn

from darts_cli.genotype import Genotype
from darts_cli.rnn.model import Network


def sizes(genotype: Genotype, dim: int, vocab: int) -> list[dict]:
    """The parameters of the language model, the tied weight counted once."""
    with torch.device("meta"):
        network = Network(genotype, vocab, dim)
    size = f"dimension {dim}, {vocab:,} words"
    return [{"network": "language model", "size": size, "dim": dim, "vocab": vocab, "parameters": parameters(network)}]


def parameters(network: nn.Module) -> int:
    """The number of parameters without the alphas, the tied weight counted once."""
    return sum(p.numel() for name, p in network.named_parameters() if not name.startswith("alphas."))
