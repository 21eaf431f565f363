"""Labelled images, and batches of them: addressed by position, augmented on the device."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from darts_cli.architect import whole
from darts_cli.runtime import distributed
from darts_cli.runtime.device import generator

BLOCK = 256  # images that are looked at together


class Dataset(NamedTuple):
    """Labelled images and the recipe they bring."""

    images: Tensor  # (N, H, W, 3) uint8; see `rows`
    labels: Tensor  # (N,) int64
    classes: Sequence[str]
    mean: Sequence[float]  # per channel, of pixels in [0, 1]
    deviation: Sequence[float]
    flip: bool = True  # whether training mirrors half of the images
    levels: Sequence[float] | None = None  # black and white of the images that had more than 8 bits
    root: str | None = None  # the folder they were read from
    left_out: Sequence[str] = ()  # files there that are not read
    pad: int | None = None  # pixels around an image before a random crop; None: an eighth of its shorter side
    resize: str = "squeeze"  # how images of another size were fitted
    notes: Sequence[str] = ()  # what should be said of the images
    rows: Tensor | None = None  # (N,), of a part: where its images are among those of the whole
    on_disk: bool = False  # whether the images lie in a file, as they are too large for memory

    @property
    def padding(self) -> int:
        """Pixels of zeros around an image before a random crop, such as 4 for 32 pixels."""
        return min(self.images.shape[1:3]) // 8 if self.pad is None else self.pad

    def about(self) -> dict:
        """What a trained network needs to know, and a fingerprint of all pixels and labels."""
        digest = hashlib.sha256()
        for start in range(0, len(self.labels), BLOCK):
            digest.update(self.pixels(slice(start, start + BLOCK)).contiguous().numpy())
        digest.update(self.labels.contiguous().numpy())
        return {
            "fingerprint": digest.hexdigest()[:16],
            "classes": list(self.classes),
            "size": list(self.images.shape[1:3]),
            "mean": list(self.mean),
            "deviation": list(self.deviation),
            **({} if self.levels is None else {"levels": list(self.levels)}),
            **({} if self.resize == "squeeze" else {"resize": self.resize}),
        }

    def pixels(self, indices: Tensor | slice) -> Tensor:
        """Some of its images (B, H, W, 3)."""
        return self.images[indices if self.rows is None else self.rows[indices]]

    def part(self, indices: Tensor) -> "Dataset":
        """Some of its images, which are not copied."""
        return self._replace(labels=self.labels[indices], rows=indices if self.rows is None else self.rows[indices])


@dataclass(frozen=True)
class Slices:
    """How `count` positions are cut into batches. A single last one joins the batch before: BatchNorm needs two images."""

    count: int
    batch_size: int

    def __len__(self) -> int:
        return max(1, self.count // self.batch_size + (self.count % self.batch_size > 1))

    def of_all_ranks(self, index: int) -> slice:
        """The positions of a batch."""
        start = index * self.batch_size
        return slice(start, self.count if index + 1 == len(self) else start + self.batch_size)

    def share(self, index: int) -> tuple[int, slice]:
        """The size of a batch, and which rows of it belong to this rank."""
        batch = self.of_all_ranks(index)
        size = batch.stop - batch.start
        return size, distributed.share(size)

    def local(self, index: int) -> slice:
        """The positions of a batch that belong to this rank."""
        start, (_, rows) = self.of_all_ranks(index).start, self.share(index)
        return slice(start + rows.start, start + rows.stop)


class Batches:
    """Batches of a data set, addressed by (epoch, index); the same address always gives the same bits.

    In every epoch each image comes once. Order, crops, flips and cutouts depend only on (seed, name, epoch, position in the
    order). With several ranks, each gets its rows of every batch.
    """

    def __init__(self, dataset: Dataset, batch_size: int, seed: int, name: str, device: torch.device, cutout: int = 0):
        if device.type != "cpu" and not dataset.on_disk:
            dataset = dataset._replace(images=dataset.pixels(slice(None)).to(device), rows=None)
        self.labels = dataset.labels.to(device)
        self.dataset, self.seed, self.name, self.cutout = dataset, seed, name, cutout
        self.slices = Slices(len(dataset.labels), batch_size)
        self._drawn = None

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        return len(self.slices)

    def share(self, index: int) -> tuple[int, slice]:
        """The number of images in a batch of all ranks, and which of them belong to this rank."""
        return self.slices.share(index)

    def shuffled(self, epoch: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The augmented batches of an epoch, from index `first` on."""
        return (self.augmented(epoch, index) for index in range(first, len(self)))

    def in_order(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The plain batches, one pass."""
        return (self.plain(index) for index in range(len(self)))

    def augmented(self, epoch: int, index: int) -> tuple[Tensor, Tensor]:
        """Batch `index` of an epoch: images (B, 3, H, W) float32, channels-last, and labels (B,).

        Padded with zeros, cropped, flipped, normalised, then cut out.
        """
        order, uniform = (drawn[self.slices.local(index)] for drawn in self._draw(epoch))
        images = crop_and_flip(self._pixels(order), uniform[:, :3], self.dataset.padding, self.dataset.flip)
        images = normalised(images, self.dataset.mean, self.dataset.deviation)
        if self.cutout:
            images = cut_out(images, uniform[:, 3:], self.cutout)
        return images, self.labels[order]

    def plain(self, index: int) -> tuple[Tensor, Tensor]:
        """Batch `index` in the order of the data set, only normalised: for evaluation."""
        rows = self.slices.local(index)
        return normalised(self._pixels(rows), self.dataset.mean, self.dataset.deviation), self.labels[rows]

    def _pixels(self, indices: Tensor | slice) -> Tensor:
        return self.dataset.pixels(indices).to(self.labels.device, non_blocking=True)

    def _draw(self, epoch: int) -> tuple[Tensor, Tensor]:
        """The order of the images in an epoch, and five uniform numbers for each position."""
        if self._drawn is None or self._drawn[0] != epoch:
            g, count = generator(self.seed, self.name, epoch), len(self.labels)
            order, uniform = torch.randperm(count, generator=g), torch.rand(count, 5, generator=g)
            self._drawn = epoch, order.to(self.dataset.images.device), uniform.to(self.labels.device)
        return self._drawn[1:]


def normalised(images: Tensor, mean: Sequence[float], deviation: Sequence[float]) -> Tensor:
    """Bytes (B, H, W, 3) -> float32 (B, 3, H, W), channels-last; mean and deviation are of pixels in [0, 1]."""
    mean, deviation = (_in_bytes(tuple(values), images.device) for values in (mean, deviation))
    return ((images - mean) / deviation).permute(0, 3, 1, 2)


@cache
def _in_bytes(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Copied to the device once: a copy in every step would wait for it."""
    return (255 * torch.tensor(values)).to(device)


def crop_and_flip(images: Tensor, uniform: Tensor, padding: int, flip: bool) -> Tensor:
    """Pad each image (B, H, W, C) with zeros, crop it to its own size at a random offset and, if `flip`, mirror half of them.

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
    """Zero a square of each image (B, C, H, W), its centre uniform over the image, clipped at the border.

    `uniform` (B, 2) in [0, 1): row and column of the centre. DeVries and Taylor, arXiv 1708.04552.
    """
    H, W = images.shape[2:]
    rows, columns = _covered(H, uniform[:, 0], side), _covered(W, uniform[:, 1], side)
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)


def _covered(size: int, uniform: Tensor, side: int) -> Tensor:
    """The rows or columns (B, size) that the squares cover."""
    centre, position = (uniform * size).long()[:, None], torch.arange(size, device=uniform.device)
    return (position >= centre - side // 2) & (position < centre + side // 2)


class Batch(NamedTuple):
    """Images and their labels.

    chance    what seeds operations that draw, such as noise: the same in all passes over this batch
    size      images of all ranks
    """

    images: Tensor
    labels: Tensor
    chance: tuple | None = None
    size: int = 0


def parts_of(batch: Batch, count: int) -> list[tuple[float, Batch]]:
    """A batch in so many parts, of at least two images each, with their shares of it; what operations draw differs."""
    images, labels, chance, size = Batch(*batch)
    count = max(1, min(count, len(labels) // 2))
    if count == 1:
        return whole(batch)
    pairs = enumerate(zip(images.tensor_split(count), labels.tensor_split(count), strict=True))
    return [(len(y) / len(labels), Batch(x, y, chance and (*chance, i), size)) for i, (x, y) in pairs]
