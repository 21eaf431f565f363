"""Images in memory, and batches of them: drawn by position, augmented on the device."""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from darts_cli.runtime import distributed
from darts_cli.runtime.device import generator


class Dataset(NamedTuple):
    """Labelled images and the recipe they bring."""

    images: Tensor  # (N, H, W, 3) uint8
    labels: Tensor  # (N,) int64
    classes: Sequence[str]
    mean: Sequence[float]  # per channel, of pixels in [0, 1]
    deviation: Sequence[float]
    flip: bool  # whether a mirrored image is still one of its class

    @property
    def padding(self) -> int:
        """Zeros around an image before it is cropped at random: an eighth of its side, 4 of 32 pixels."""
        return min(self.images.shape[1:3]) // 8

    def about(self) -> dict:
        """What a trained network needs to know of it, and a fingerprint: whether two runs saw the same pixels and labels."""
        digest = hashlib.sha256(self.images.contiguous().numpy())
        digest.update(self.labels.contiguous().numpy())
        return {
            "fingerprint": digest.hexdigest()[:16],
            "classes": list(self.classes),
            "size": list(self.images.shape[1:3]),
            "mean": list(self.mean),
            "deviation": list(self.deviation),
        }

    def part(self, indices: Tensor) -> "Dataset":
        return self._replace(images=self.images[indices], labels=self.labels[indices])


class Batches:
    """Batches of a data set, addressed by (epoch, index); the same address always gives the same bits.

    In every epoch each image comes once, in an order, with a crop, a flip and a cutout that depend on nothing but
    (seed, name, epoch, position in that order). Of several processes, each gets its rows of every batch.
    """

    def __init__(self, dataset: Dataset, batch_size: int, seed: int, name: str, device: torch.device, cutout: int = 0):
        self.images = dataset.images.to(device)
        self.labels = dataset.labels.to(device)
        self.dataset, self.batch_size, self.seed, self.name, self.cutout = dataset, batch_size, seed, name, cutout
        self._drawn = None

    def __len__(self) -> int:
        """Batches in an epoch; the last one is perhaps smaller, or larger by one, since BatchNorm needs two images."""
        return count_batches(len(self.labels), self.batch_size)

    def share(self, index: int) -> tuple[int, slice]:
        """How many images the whole batch has, and which of them are this process'."""
        return share(index, len(self.labels), self.batch_size)

    def shuffled(self, epoch: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The augmented batches of that epoch, beginning with the one of index `first`."""
        return (self.augmented(epoch, index) for index in range(first, len(self)))

    def in_order(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The plain batches, one pass."""
        return (self.plain(index) for index in range(len(self)))

    def augmented(self, epoch: int, index: int) -> tuple[Tensor, Tensor]:
        """Batch `index` of that epoch: images (B, 3, H, W) float32, channels-last, and labels (B,).

        Padded with zeros, cropped, flipped, normalised, then cut out.
        """
        order, uniform = (drawn[self._slice(index)] for drawn in self._draw(epoch))
        images = crop_and_flip(self.images[order], uniform[:, :3], self.dataset.padding, self.dataset.flip)
        images = normalised(images, self.dataset.mean, self.dataset.deviation)
        if self.cutout:
            images = cut_out(images, uniform[:, 3:], self.cutout)
        return images, self.labels[order]

    def plain(self, index: int) -> tuple[Tensor, Tensor]:
        """Batch `index` in the order of the data set, normalised only: for evaluation."""
        images = normalised(self.images[self._slice(index)], self.dataset.mean, self.dataset.deviation)
        return images, self.labels[self._slice(index)]

    def _slice(self, index: int) -> slice:
        return own_slice(index, len(self.labels), self.batch_size)

    def _draw(self, epoch: int) -> tuple[Tensor, Tensor]:
        """The order of the images in that epoch, and five uniform numbers for each place in it."""
        if self._drawn is None or self._drawn[0] != epoch:
            g, count = generator(self.seed, self.name, epoch), len(self.labels)
            order, uniform = torch.randperm(count, generator=g), torch.rand(count, 5, generator=g)
            self._drawn = epoch, order.to(self.labels.device), uniform.to(self.labels.device)
        return self._drawn[1:]


def count_batches(count: int, batch_size: int) -> int:
    """Batches in a pass over so many images: a last one alone joins the batch before."""
    return max(1, count // batch_size + (count % batch_size > 1))


def batch_slice(index: int, count: int, batch_size: int) -> slice:
    """The places of a batch in the pass."""
    last = index + 1 == count_batches(count, batch_size)
    return slice(index * batch_size, count if last else (index + 1) * batch_size)


def share(index: int, count: int, batch_size: int) -> tuple[int, slice]:
    """How many places the batch has, and which of them are this process'."""
    whole = batch_slice(index, count, batch_size)
    size = whole.stop - whole.start
    return size, distributed.share(size)


def own_slice(index: int, count: int, batch_size: int) -> slice:
    """This process' places of a batch, in the pass."""
    start, (_, own) = index * batch_size, share(index, count, batch_size)
    return slice(start + own.start, start + own.stop)


def normalised(images: Tensor, mean: Sequence[float], deviation: Sequence[float]) -> Tensor:
    """Bytes (B, H, W, 3) -> float32 (B, 3, H, W), channels-last, with mean and deviation of pixels in [0, 1] taken away."""
    mean, deviation = (_pixels(tuple(each), images.device) for each in (mean, deviation))
    return ((images - mean) / deviation).permute(0, 3, 1, 2)


@cache
def _pixels(values: tuple[float, ...], where: torch.device) -> Tensor:
    """Copied to the device once, since a copy in every step would wait for it."""
    return 255 * torch.tensor(values, device=where)


def crop_and_flip(images: Tensor, uniform: Tensor, padding: int, flip: bool) -> Tensor:
    """Each image (B, H, W, C) padded with zeros, cropped to its own size at its own place and, where allowed, mirrored or not.

    `uniform` (B, 3) in [0, 1): row, column, and whether to mirror.
    """
    B, H, W, _ = images.shape
    padded = F.pad(images, (0, 0, padding, padding, padding, padding))
    offsets = (uniform[:, :2] * (2 * padding + 1)).long()
    rows = torch.arange(H, device=images.device).expand(B, H)
    columns = torch.arange(W, device=images.device).expand(B, W)
    if flip:
        columns = torch.where(uniform[:, 2:] < 0.5, W - 1 - columns, columns)
    rows, columns = rows + offsets[:, :1], columns + offsets[:, 1:]
    batch = torch.arange(B, device=images.device)[:, None, None]
    return padded[batch, rows[:, :, None], columns[:, None, :]]


def cut_out(images: Tensor, uniform: Tensor, side: int) -> Tensor:
    """Each image (B, C, H, W) with a square of zeros; its centre is uniform over the image, the square clipped at the border.

    `uniform` (B, 2) in [0, 1): row and column of the centre. DeVries and Taylor, arXiv 1708.04552.
    """
    H, W = images.shape[2:]
    top, left = (uniform[:, 0] * H).long(), (uniform[:, 1] * W).long()
    covered = [
        (torch.arange(size, device=images.device) >= start[:, None] - side // 2)
        & (torch.arange(size, device=images.device) < start[:, None] + side // 2)
        for size, start in ((H, top), (W, left))
    ]
    return images.masked_fill((covered[0][:, :, None] & covered[1][:, None, :])[:, None], 0)
