"""How large convolutional networks are: parameters and multiply-adds."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from darts_cli import DartsError
from darts_cli.cnn.model import Network
from darts_cli.genotype import Genotype

LARGE = 128  # pixels of a side from which on it is the network for ImageNet


def sizes(genotype: Genotype, channels: int | None = None, layers: int | None = None, resolution: int | None = None) -> list:
    """Parameters and multiply-adds of the paper's networks for CIFAR-10 and ImageNet, or of that for images of one resolution.

    The auxiliary head is not counted. Raises DartsError where such a network cannot be.
    """
    found = []
    for stem, name, side, C, L, classes in (("cifar", "CIFAR-10", 32, 36, 20, 10), ("imagenet", "ImageNet", 224, 48, 14, 1000)):
        if resolution is not None:
            if (stem == "imagenet") != (resolution >= LARGE):
                continue
            side = resolution
        C, L = channels or C, layers or L
        smallest = 4 if stem == "cifar" else 32
        if side % smallest:
            raise DartsError(f"--resolution {side}: must be a multiple of {smallest} for the network of {name}", exit_code=2)
        if C % 2:
            raise DartsError(f"--channels {C}: must be a multiple of 2", exit_code=2)
        with torch.device("meta"):
            network = Network(genotype, C, classes, L, stem=stem)
        found.append(
            {
                "network": name,
                "size": f"{C} channels, {L} layers, {side}x{side} pixels, {classes} classes",
                "channels": C,
                "layers": L,
                "resolution": side,
                "classes": classes,
                "parameters": parameters(network),
                "multiply_adds": multiply_adds(network, side, side),
            }
        )
    return found


def parameters(network: nn.Module) -> int:
    """Number of parameters, those of an auxiliary head not counted: what the papers report."""
    return sum(p.numel() for name, p in network.named_parameters() if not name.startswith("auxiliary_head."))


def multiply_adds(network: nn.Module, height: int, width: int) -> int:
    """Multiplications, each with its addition, of one image's forward pass in all convolutions and linear layers.

    Nothing else is counted: no normalisation, pooling or sum. Papers differ in what they count; the 574 M of DARTS' ImageNet
    network match no count, this one gives 530 M.
    """
    training = network.training
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), counter:
            network.eval()(torch.zeros(1, 3, height, width).to(next(network.parameters())))
    finally:
        network.train(training)
    return counter.get_total_flops() // 2
