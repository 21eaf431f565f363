"""The size of the network of a recurrent genotype."""

import torch

from darts_cli.genotype import Genotype
from darts_cli.rnn.model import Network, parameters


def sizes(genotype: Genotype, dim: int, vocab: int) -> list[dict]:
    """The parameters of the language model, the tied weight counted once."""
    with torch.device("meta"):
        network = Network(genotype, vocab, dim)
    size = f"dimension {dim}, {vocab:,} words"
    return [{"network": "language model", "size": size, "dim": dim, "vocab": vocab, "parameters": parameters(network)}]
