"""Trained networks, ready to use: with their cells, their classes or words, and the preprocessing that they need."""

from collections.abc import Sequence
from os import PathLike

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_cli import legacy
from darts_cli.cnn import evaluate as cnn
from darts_cli.cnn.batches import normalised
from darts_cli.cnn.data import scaled
from darts_cli.cnn.datasets import imagenet
from darts_cli.formats import images
from darts_cli.rnn import evaluate as rnn

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def load(path: str | PathLike) -> nn.Module:
    """The trained network of a run folder, a checkpoint, or a checkpoint of the original, on the CPU and in evaluation mode.

    It has these attributes besides its own:

    genotype      its cells
    classes       of images: the names of the classes, in the order of its outputs
    preprocess    of images: from an image (a path, an image of Pillow, or bytes (3, H, W)) to what `forward` takes, (3, H, W)
    vocab         of text: the words, in the order of its outputs; None for checkpoints that do not have them
    result        its numbers on the test part, where the training has measured them

    Raises DartsError when there is no such checkpoint.
    """
    opened = legacy.open_checkpoint(path)
    trained = (rnn if opened.domain == "rnn" else cnn).restore(opened)
    network = trained.network.eval().requires_grad_(False)
    network.genotype = trained.genotype
    metrics = opened.state.get("metrics") or [{}]
    network.result = {name: value for name, value in metrics[-1].items() if name.startswith(("test_", "best_test_"))}
    if opened.domain == "rnn":
        network.vocab = trained.vocab
    else:
        network.classes = list(trained.data.get("classes") or _names(trained))
        network.preprocess = Preprocess(trained.dataset, **{key: trained.data.get(key) for key in Preprocess.KEYS})
    return network


def _names(trained: cnn.Trained) -> Sequence[str]:
    """The classes of a checkpoint that does not name them."""
    count = trained.sizes["num_classes"]
    return CIFAR10 if trained.dataset == "cifar10" and count == len(CIFAR10) else [f"class {i}" for i in range(count)]


class Preprocess:
    """What an evaluation does with an image before a network sees it: turned upright, scaled or cropped, normalised."""

    KEYS = ("size", "mean", "deviation", "levels")

    def __init__(
        self,
        dataset: str,
        size: Sequence[int],
        mean: Sequence[float],
        deviation: Sequence[float],
        levels: Sequence[float] | None = None,
    ):
        self.dataset, self.size, self.mean, self.deviation, self.levels = dataset, tuple(size), mean, deviation, levels

    def __call__(self, image) -> Tensor:
        """A path, an image of Pillow, or bytes (3, H, W) -> (3, H, W) float32. Raises DartsError for what is no image."""
        of_imagenet = self.dataset == "imagenet"
        if isinstance(image, str | PathLike):
            image = images.read(str(image), turn=not of_imagenet)
        elif not isinstance(image, Tensor):
            image = images.tensor(image, turn=not of_imagenet)
        if of_imagenet:
            pixels = imagenet.centre_crop()(images.to_bytes(image))
        elif self.dataset == "fashion-mnist" and image.shape[1:] == (28, 28):
            pixels = F.pad(images.to_bytes(image), (2, 2, 2, 2))  # as the data set is
        else:
            pixels = images.to_bytes(scaled(image, self.size), self.levels)
        return normalised(pixels.permute(1, 2, 0)[None], self.mean, self.deviation)[0].contiguous()


@torch.no_grad()
def probabilities(network: nn.Module, paths: Sequence[str], batch_size: int = 100):
    """By path, the probabilities of the classes (classes,), in batches. Raises DartsError for what is no image."""
    device = next(network.parameters()).device
    for start in range(0, len(paths), batch_size):
        part = paths[start : start + batch_size]
        logits = network(torch.stack([network.preprocess(path) for path in part]).to(device))[0]
        yield from zip(part, logits.softmax(dim=-1).cpu(), strict=True)
