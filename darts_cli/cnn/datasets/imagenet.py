"""ImageNet, or any folder like it: too large for memory, so worker processes read and augment the files of each batch."""

import hashlib
import os
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from darts_cli import DartsError
from darts_cli.cnn.datasets.batches import Slices, cut_out, normalised
from darts_cli.formats.images import class_folders, read, to_bytes, unreadable
from darts_cli.runtime.device import generator, seed

SIDE_PIXELS = 224  # of the images that the network sees
RESIZED_PIXELS = 256  # of the shorter side before the centre is cropped, in evaluation
GRACE_SECONDS = 10  # for which a worker process outlives SIGTERM
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class FileDataset(NamedTuple):
    """Labelled image files."""

    paths: Sequence[str]
    labels: Tensor  # (N,) int64
    classes: Sequence[str]
    root: str
    flip: bool = True  # whether training mirrors half of the images
    left_out: Sequence[str] = ()  # files there that are not read
    notes: Sequence[str] = ()  # what should be said of the images

    def about(self) -> dict:
        """What a trained network needs to know, and a fingerprint of the names and sizes of all files."""
        digest = hashlib.sha256()
        for path in self.paths:
            digest.update(f"{os.path.relpath(path, self.root)} {_size(path)}\n".encode(errors="surrogateescape"))
        return {
            "fingerprint": digest.hexdigest()[:16],
            "classes": list(self.classes),
            "size": [SIDE_PIXELS, SIDE_PIXELS],
            "mean": list(MEAN),
            "deviation": list(DEVIATION),
        }

    def part(self, indices: Tensor) -> "FileDataset":
        return self._replace(paths=[self.paths[i] for i in indices.tolist()], labels=self.labels[indices])


def load(folder: str | None, train: bool = True) -> FileDataset:
    """The images below `folder`/train or, for testing, `folder`/val, one folder per class.

    Raises DartsError when these folders are missing.
    """
    if folder is None:
        raise DartsError("--dataset imagenet needs --data DIR: a folder with train and val, each with one folder per class", 2)
    root = Path(folder) / ("train" if train else "val")
    folders = class_folders(root)
    paths = [path for path, _ in folders.samples]
    return FileDataset(paths, torch.tensor(folders.targets), folders.classes, str(root), left_out=folders.left_out)


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError as error:
        raise unreadable(path, error.strerror) from None


class FileBatches:
    """Batches of image files, addressed by epoch: the same epoch always gives the same bits, with any number of workers.

    In every epoch each image comes once. Order, crops, flips and changes of colour depend only on (seed, name, epoch, position
    in the order). With several ranks, each reads its rows of every batch.
    """

    def __init__(
        self,
        dataset: FileDataset,
        batch_size: int,
        seed: int,
        name: str,
        device: torch.device,
        cutout: int = 0,
        *,
        color_jitter: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
        workers: int | None = None,
    ):
        self.dataset, self.seed, self.name, self.device = dataset, seed, name, device
        self.cutout, self.color_jitter = cutout, color_jitter
        self.slices = Slices(len(dataset.labels), batch_size)
        self.workers = min(8, os.cpu_count() or 1) if workers is None else workers

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        return len(self.slices)

    def share(self, index: int) -> tuple[int, slice]:
        """The number of images in a batch of all ranks, and which of them belong to this rank."""
        return self.slices.share(index)

    def shuffled(self, epoch: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The augmented batches of an epoch, from index `first` on: images (B, 3, 224, 224) float32, channels-last, and labels
        (B,)."""
        g, count = generator(self.seed, self.name, epoch), len(self.dataset.labels)
        order, centres = torch.randperm(count, generator=g), torch.rand(count, 2, generator=g)
        for index, (images, labels) in enumerate(
            self._read(order, _augmentation(self.color_jitter, self.dataset.flip), first, epoch), first
        ):
            if self.cutout:
                images = cut_out(images, centres[self.slices.local(index)].to(self.device), self.cutout)
            yield images, labels

    def in_order(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches in the order of the files, resized and cropped in the middle: for evaluation."""
        return self._read(torch.arange(len(self.dataset.labels)), centre_crop(), 0, -1)

    def _read(self, order: Tensor, transform: Callable, first: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        addresses = list(enumerate(order.tolist()))  # (position, image)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This DataLoader will create .* worker processes")  # more than there are cores
            loader = DataLoader(
                _Files(self.dataset, transform, (self.seed, self.name, epoch)),
                batch_sampler=[addresses[self.slices.local(index)] for index in range(first, len(self))],
                num_workers=self.workers,
                collate_fn=_stacked,
                worker_init_fn=_outlast_signals,
                pin_memory=self.device.type == "cuda",
            )
            batches = iter(loader)
        for batch in batches:
            if isinstance(batch, DartsError):
                raise batch
            images, labels = (tensor.to(self.device, non_blocking=True) for tensor in batch)
            yield normalised(images, MEAN, DEVIATION), labels


class _Files(NamedTuple):
    """What the workers read: an address gives its image and label, or a DartsError as a value.

    (Raised inside a worker, the error would arrive with a traceback in its message.)
    """

    dataset: FileDataset
    transform: Callable
    epoch: tuple  # seed, name and number

    def __getitem__(self, address: tuple[int, int]) -> tuple[Tensor, int] | DartsError:
        position, image = address
        try:
            pixels = to_bytes(read(self.dataset.paths[image]))
        except DartsError as error:
            return error
        with torch.random.fork_rng(devices=[]):
            seed(*self.epoch, position)
            return self.transform(pixels).permute(1, 2, 0), int(self.dataset.labels[image])


def _stacked(items: list) -> tuple[Tensor, Tensor] | DartsError:
    for item in items:
        if isinstance(item, DartsError):
            return item
    if not items:  # the last batch has no image for this rank
        return torch.empty(0, SIDE_PIXELS, SIDE_PIXELS, 3, dtype=torch.uint8), torch.empty(0, dtype=torch.long)
    images, labels = zip(*items, strict=True)
    return torch.stack(images), torch.tensor(labels)


def _outlast_signals(_worker: int) -> None:
    """Ctrl-C, or a scheduler, may signal all processes at once: workers stay alive while the run finishes its step."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE_SECONDS))


def _augmentation(color_jitter: Sequence[float], flip: bool = True) -> Callable:
    from torchvision.transforms import v2

    jitter = [v2.ColorJitter(*color_jitter)] if any(color_jitter) else []
    mirror = [v2.RandomHorizontalFlip()] if flip else []
    return v2.Compose([v2.RandomResizedCrop(SIDE_PIXELS, antialias=True), *mirror, *jitter])


def centre_crop() -> Callable:
    """What an evaluation sees of an image (3, H, W): the centre, after the shorter side was scaled."""
    from torchvision.transforms import v2

    return v2.Compose([v2.Resize(RESIZED_PIXELS, antialias=True), v2.CenterCrop(SIDE_PIXELS)])
