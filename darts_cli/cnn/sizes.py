"""The size of convolutional networks: parameters and multiply-adds."""

import torch
from torch import nn

from darts_cli import DartsError
from darts_cli.cnn.model import network
from darts_cli.genotype import Genotype

MIN_IMAGENET_PIXELS = 128  # the side from which an image gets the network for ImageNet
# Each network of the papers, by macro structure: stem, data set, side in pixels, channels, layers, classes, and what the side
# must be a multiple of.
PAPER = {
    "darts": (("cifar", "CIFAR-10", 32, 36, 20, 10, 4), ("imagenet", "ImageNet", 224, 48, 14, 1000, 32)),
    "nas-bench-201": (("cifar", "CIFAR-10", 32, 16, 5, 10, 4),),
}


def sizes(genotype: Genotype, channels: int | None = None, layers: int | None = None, resolution: int | None = None) -> list:
    """Parameters and multiply-adds of the paper's networks for CIFAR-10 and ImageNet, or only of the one for a resolution.

    The auxiliary head is not counted. Raises DartsError when such a network cannot exist.
    """
    rows, unit = [], "layers" if genotype.macro == "darts" else "cells a stage"
    for stem, dataset, side, C, L, classes, divisor in PAPER[genotype.macro]:
        if resolution is not None and (stem == "imagenet") != (resolution >= MIN_IMAGENET_PIXELS):
            continue
        side, C, L = resolution or side, channels or C, layers or L
        if side % divisor:
            raise DartsError(f"--resolution {side}: must be a multiple of {divisor} for the network of {dataset}", exit_code=2)
        if C % 2:
            raise DartsError(f"--channels {C}: must be a multiple of 2", exit_code=2)
        with torch.device("meta"):
            built = network(genotype)(genotype, C, classes, L, stem=stem)
        rows.append(
            {
                "network": dataset,
                "size": f"{C} channels, {L} {unit}, {side}x{side} pixels, {classes} classes",
                "channels": C,
                "layers": L,
                "resolution": side,
                "classes": classes,
                "parameters": parameters(built),
                "multiply_adds": multiply_adds(built, side, side),
            }
        )
    if not rows:
        raise DartsError(f"--resolution {resolution}: must be less than {MIN_IMAGENET_PIXELS} for these cells", exit_code=2)
    return rows


def parameters(network: nn.Module) -> int:
    """The number of parameters, without those of an auxiliary head: what the papers report."""
    return sum(p.numel() for name, p in network.named_parameters() if not name.startswith("auxiliary_head."))


def multiply_adds(network: nn.Module, height: int, width: int) -> int:
    """Multiply-adds of one image's forward pass through all convolutions and linear layers.

    Normalisation, pooling and sums are not counted. Papers count differently; no count explains the 574 M that the DARTS paper
    reports for its ImageNet network (530 M here).
    """
    from torch.utils.flop_counter import FlopCounterMode  # which imports Triton

    training = network.training
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), counter:
            network.eval()(torch.zeros(1, 3, height, width).to(next(network.parameters())))
    finally:
        network.train(training)
    return counter.get_total_flops() // 2
