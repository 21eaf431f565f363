"""ImageNet, or any folder like it: too large for memory, so that processes read and augment the files of each batch."""

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
from darts_cli.cnn.batches import count_batches, cut_out, normalised, own_slice, share
from darts_cli.runtime import device

SIDE = 224  # pixels of the images that the network sees
STAY = 10  # seconds for which a reading process outlives SIGTERM
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class FileDataset(NamedTuple):
    """Labelled image files."""

    paths: Sequence[str]
    labels: Tensor  # (N,) int64
    classes: Sequence[str]
    root: str

    def about(self) -> dict:
        """What a trained network needs to know of it, and a fingerprint: whether two runs saw files of equal name and size."""
        digest = hashlib.sha256()
        for path in self.paths:
            digest.update(f"{os.path.relpath(path, self.root)} {_size(path)}\n".encode(errors="surrogateescape"))
        return {
            "fingerprint": digest.hexdigest()[:16],
            "classes": list(self.classes),
            "size": [SIDE, SIDE],
            "mean": list(MEAN),
            "deviation": list(DEVIATION),
        }

    def part(self, indices: Tensor) -> "FileDataset":
        return self._replace(paths=[self.paths[i] for i in indices.tolist()], labels=self.labels[indices])


def load(folder: str | None, train: bool = True) -> FileDataset:
    """The images below `folder`/train or, for testing, `folder`/val, one folder for each class.

    Raises DartsError when there are no such folders.
    """
    if folder is None:
        raise DartsError("--dataset imagenet needs --data DIR: a folder with train and val, each with a folder a class", 2)
    root = Path(folder) / ("train" if train else "val")
    found = class_folders(root)
    return FileDataset([path for path, _ in found.samples], torch.tensor(found.targets), found.classes, str(root))


def class_folders(root: Path):
    """torchvision's ImageFolder of it. Raises DartsError when there are no two folders of images."""
    from torchvision.datasets import ImageFolder

    for folder, inner, _ in os.walk(root):  # without following links, which ImageFolder does
        for path in (os.path.join(folder, name) for name in inner):
            target = os.path.realpath(path)
            if os.path.islink(path) and os.path.commonpath([target, top := os.path.realpath(root)]) in (target, top):
                raise DartsError(
                    f"{path}: is a link that leads back into {root}, so that its images would count twice; remove it"
                )
    try:
        found = ImageFolder(str(root))
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0].rstrip(".")
        raise DartsError(f"{root}: is no folder of images ({reason}); it needs one folder of images for each class") from None
    if len(found.classes) < 2:
        raise DartsError(f"{root}: has one class, {found.classes[0]}; there must be two or more, one folder each")
    return found


def read_image(path: str) -> Tensor:
    """An image file as (3, H, W) bytes. Raises DartsError, naming it, when it is none."""
    from PIL import Image
    from torchvision.transforms import v2

    if not os.path.isfile(path):  # such as a pipe, which would be waited for
        raise DartsError(f"{path}: cannot be read as an image (not a regular file); mend or remove it")
    try:
        with Image.open(path) as file:
            return v2.functional.pil_to_tensor(file.convert("RGB"))
    except Exception as error:  # the readers of the many formats raise what they like
        raise DartsError(f"{path}: cannot be read as an image ({type(error).__name__}); mend or remove it") from None


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError as error:
        raise DartsError(f"{path}: cannot be read as an image ({error.strerror}); mend or remove it") from None


class FileBatches:
    """FileBatches of image files, addressed by epoch: the same epoch always gives the same bits, with any number of processes.

    In every epoch each image comes once, in an order, with a crop, a flip and a change of colours that depend on nothing but
    (seed, name, epoch, position in that order). Of several processes, each reads its rows of every batch.
    """

    def __init__(
        self,
        dataset: FileDataset,
        batch_size: int,
        seed: int,
        name: str,
        where: torch.device,
        cutout: int = 0,
        *,
        color_jitter: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
        workers: int | None = None,
    ):
        self.dataset, self.batch_size, self.seed, self.name, self.where = dataset, batch_size, seed, name, where
        self.cutout, self.color_jitter = cutout, color_jitter
        self.workers = min(8, os.cpu_count() or 1) if workers is None else workers

    def __len__(self) -> int:
        """FileBatches in an epoch; the last one is perhaps smaller, or larger by one."""
        return count_batches(len(self.dataset.labels), self.batch_size)

    def share(self, index: int) -> tuple[int, slice]:
        """How many images the whole batch has, and which of them are this process'."""
        return share(index, len(self.dataset.labels), self.batch_size)

    def shuffled(self, epoch: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The augmented batches of that epoch, beginning with the one of index `first`: images (B, 3, 224, 224) float32,
        channels-last, and labels (B,)."""
        g, count = device.generator(self.seed, self.name, epoch), len(self.dataset.labels)
        order = torch.randperm(count, generator=g)
        uniform = torch.rand(count, 2, generator=g)
        for index, (images, labels) in enumerate(self._read(order, _augmentation(self.color_jitter), first, epoch), first):
            if self.cutout:
                place = uniform[own_slice(index, count, self.batch_size)].to(self.where)
                images = cut_out(images, place, self.cutout)
            yield images, labels

    def in_order(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches in the order of the files, scaled to 256 pixels and cropped in the middle: for evaluation."""
        return self._read(torch.arange(len(self.dataset.labels)), _plain(), 0, -1)

    def _read(self, order: Tensor, transform: Callable, first: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        slices = [own_slice(index, len(order), self.batch_size) for index in range(first, len(self))]
        addresses = list(enumerate(order.tolist()))  # position, image
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This DataLoader will create .* worker processes")  # as was asked for
            read = iter(
                DataLoader(
                    _Files(self.dataset, transform, (self.seed, self.name, epoch)),
                    batch_sampler=[addresses[each] for each in slices],
                    num_workers=self.workers,
                    collate_fn=_stacked,
                    worker_init_fn=_outlast_signals,
                    pin_memory=self.where.type == "cuda",
                )
            )
        for batch in read:
            if isinstance(batch, DartsError):
                raise batch
            images, labels = (each.to(self.where, non_blocking=True) for each in batch)
            yield normalised(images, MEAN, DEVIATION), labels


class _Files(NamedTuple):
    """What the processes look up: an address gives its image and label, or the DartsError that tells why not.

    (Raised inside such a process, the error would arrive with a traceback in its message.)
    """

    dataset: FileDataset
    transform: Callable
    position: tuple

    def __getitem__(self, address: tuple[int, int]) -> tuple[Tensor, int] | DartsError:
        place, image = address
        try:
            pixels = read_image(self.dataset.paths[image])
        except DartsError as error:
            return error
        with torch.random.fork_rng(devices=[]):
            device.seed(*self.position, place)
            return self.transform(pixels).permute(1, 2, 0), int(self.dataset.labels[image])


def _stacked(items: list) -> tuple[Tensor, Tensor] | DartsError:
    for item in items:
        if isinstance(item, DartsError):
            return item
    if not items:  # the last batch has no image for this process
        return torch.empty(0, SIDE, SIDE, 3, dtype=torch.uint8), torch.empty(0, dtype=torch.long)
    images, labels = zip(*items, strict=True)
    return torch.stack(images), torch.tensor(labels)


def _outlast_signals(_worker: int) -> None:
    """Ctrl-C, or a scheduler, may signal all processes at once; the run finishes its step, so those that read stay a while."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(STAY))


def _augmentation(color_jitter: Sequence[float]) -> Callable:
    from torchvision.transforms import v2

    jitter = [v2.ColorJitter(*color_jitter)] if any(color_jitter) else []
    return v2.Compose([v2.RandomResizedCrop(SIDE, antialias=True), v2.RandomHorizontalFlip(), *jitter])


def _plain() -> Callable:
    from torchvision.transforms import v2

    return v2.Compose([v2.Resize(256, antialias=True), v2.CenterCrop(SIDE)])
