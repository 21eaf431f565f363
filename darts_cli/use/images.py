"""What a trained network of images needs besides its weights: the names of its classes, and the preprocessing."""

from collections.abc import Sequence
from os import PathLike

import torch.nn.functional as F
from torch import Tensor

from darts_cli.cnn.datasets import imagenet
from darts_cli.cnn.datasets.batches import normalised
from darts_cli.cnn.evaluate import Trained
from darts_cli.formats import images
from darts_cli.formats.fitting import fitted

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def classes(trained: Trained) -> list[str]:
    """The names of the classes, in the order of the outputs; numbered where the checkpoint does not name them."""
    count = trained.sizes["num_classes"]
    numbered = CIFAR10 if trained.dataset == "cifar10" and count == len(CIFAR10) else [f"class {i}" for i in range(count)]
    return list(trained.data.get("classes") or numbered)


class Preprocess:
    """What an evaluation does with an image before a network sees it: turned upright, brought to its size, normalised."""

    KEYS = ("size", "mean", "deviation", "levels", "resize")

    def __init__(
        self,
        dataset: str,
        size: Sequence[int],
        mean: Sequence[float],
        deviation: Sequence[float],
        levels: Sequence[float] | None = None,
        resize: str | None = None,
    ):
        self.dataset, self.size, self.resize = dataset, tuple(size), resize or "squeeze"
        self.mean, self.deviation, self.levels = mean, deviation, levels

    @classmethod
    def of(cls, trained: Trained) -> "Preprocess":
        """That of a trained network."""
        return cls(trained.dataset, **{key: trained.data.get(key) for key in cls.KEYS})

    def __call__(self, image) -> Tensor:
        """A path, an image of Pillow, or bytes (3, H, W) -> (3, H, W) float32. Raises DartsError for what is no image."""
        return self.normalise(self.pixels(image)[None])[0].contiguous()

    def pixels(self, image) -> Tensor:
        """The same without the normalisation: bytes (3, H, W)."""
        of_imagenet = self.dataset == "imagenet"
        if isinstance(image, str | PathLike):
            image = images.read(str(image), turn=not of_imagenet)
        elif not isinstance(image, Tensor):
            image = images.tensor(image, turn=not of_imagenet)
        if of_imagenet:
            return imagenet.centre_crop()(images.to_bytes(image))
        if self.dataset == "fashion-mnist" and image.shape[1:] == (28, 28):
            return F.pad(images.to_bytes(image), (2, 2, 2, 2))  # as the data set is
        return images.to_bytes(fitted(image, self.size, self.resize), self.levels)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Bytes (B, 3, H, W) -> (B, 3, H, W) float32."""
        return normalised(pixels.permute(0, 2, 3, 1), self.mean, self.deviation)
