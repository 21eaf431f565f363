"""The image data sets, all but ImageNet in memory as bytes."""

import contextlib
import gzip
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from darts_cli import DartsError
from darts_cli.cnn.batches import Dataset
from darts_cli.cnn.datasets import imagenet
from darts_cli.formats import images
from darts_cli.runs.lock import locked
from darts_cli.runtime.device import generator
from darts_cli.text import counted, printable

DOWNLOADS = Path("data")
MAX_SIDE_PIXELS = 4096
CIFAR10 = ((0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768))  # mean, deviation; as in the original
_NUMERALS = [str(i) for i in range(10)]
_NAMES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "svhn": "SVHN", "fashion-mnist": "Fashion-MNIST"}


def load(name: str, folder: str | None, train: bool = True, like: dict | None = None) -> Dataset | imagenet.FileDataset:
    """The training or test part of a data set, from `folder`, or without one downloaded to ./data.

    `like`: `about` of the training part, perhaps without classes; the test part is normalised in the same way. Raises
    DartsError when something is missing, saying where it comes from, or when classes or image size differ from `like`.
    """
    if name == "imagenet":
        files = imagenet.load(folder, train)
        if like is not None:
            check_like(files.root, files.classes, [imagenet.SIDE_PIXELS, imagenet.SIDE_PIXELS], like)
        return files
    if name == "digits" and folder is not None:
        raise DartsError(f"--data {folder}: digits is built in and has no folder; use --dataset folder", exit_code=2)
    if name == "digits":
        dataset = _digits(train)
    elif name == "folder":
        if folder is None:
            raise DartsError("--dataset folder needs --data DIR: a folder with one folder of images for each class", 2)
        dataset = _image_folder(Path(folder), train, like)
    else:
        dataset = _torchvision(name, folder, train)
    if like is None:
        return dataset
    check_like(folder or name, dataset.classes, dataset.images.shape[1:3], like)
    return dataset._replace(mean=like["mean"], deviation=like["deviation"])


def summary(part: str, dataset: Dataset | imagenet.FileDataset) -> str:
    """A line of what a part of a data set is: images, classes, and what was left out."""
    counts = torch.bincount(dataset.labels, minlength=len(dataset.classes)).tolist()
    each = f"{min(counts):,} to {max(counts):,} each"
    if len(counts) <= 10:
        each = ", ".join(f"{printable(name)} {count:,}" for name, count in zip(dataset.classes, counts, strict=True))
    text = f"{part}: {counted(len(dataset.labels), 'image')} of {len(counts)} classes ({each})"
    if dataset.root is not None:
        text += f", from {printable(dataset.root)}"
    if dataset.left_out:
        text += f"; {counted(len(dataset.left_out), 'file')} left out, no images: {printable(_some(dataset.left_out))}"
    return text


def check_varied(dataset: Dataset | imagenet.FileDataset) -> None:
    """Raise DartsError when all images of a folder are of one and the same colour."""
    if isinstance(dataset, Dataset) and dataset.root and (dataset.images == dataset.images[0, 0, 0]).all():
        raise DartsError(f"{dataset.root}: all of its images are of one and the same colour; there is nothing to learn")


def check_about(about: dict) -> None:
    """Raise ValueError unless this is what `about` returns for a data set."""
    classes, size, statistics = about["classes"], about["size"], [*about["mean"], *about["deviation"]]
    if not isinstance(classes, list) or not classes or not all(isinstance(name, str) for name in classes):
        raise ValueError("its classes are not names")
    if len(size) != 2 or not all(type(side) is int and 8 <= side <= MAX_SIDE_PIXELS for side in size):
        raise ValueError(f"the size of its images is not two sides of 8 to {MAX_SIDE_PIXELS:,} pixels")
    if not len(about["mean"]) == len(about["deviation"]) == 3 or not all(type(x) is float and x < 1e6 for x in statistics):
        raise ValueError("its mean and deviation are not numbers for three channels")
    levels = about.get("levels", [0.0, 1.0])
    if not isinstance(levels, list) or len(levels) != 2 or not all(type(x) is float for x in levels):
        raise ValueError("its levels are not two numbers, black and white")


def check_like(source: str, classes: Sequence[str], size: Sequence[int], like: dict) -> None:
    """Raise DartsError when the height, width or known classes of a test part differ from the training's."""
    if list(size) != list(like["size"]):
        test_size, trained_size = (f"{width}x{height}" for height, width in (size, like["size"]))
        raise DartsError(f"{source}: its images are {test_size} pixels, but the network was trained on {trained_size}")
    trained = like.get("classes", classes)
    missing = [name for name in trained if name not in classes]
    unexpected = [name for name in classes if name not in trained]
    if missing or unexpected:
        lists = (("missing", missing), ("unexpected", unexpected))
        differences = "; ".join(f"{word} {_some(names)}" for word, names in lists if names)
        raise DartsError(f"{source}: its classes differ from those of the training: {differences}")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def limited(dataset: Dataset, count: int | None, seed: int) -> Dataset:
    """At most so many images of a data set, drawn at random; which ones depends only on the seed."""
    if count is None or count >= len(dataset.labels):
        return dataset
    order = torch.randperm(len(dataset.labels), generator=generator(seed, "max-images"))
    return dataset.part(order[:count])


def split(dataset: Dataset, portion: float, seed: int) -> tuple[Dataset, Dataset]:
    """The data set in two random parts, the first with that portion of the images; the split depends only on the seed."""
    count = len(dataset.labels)
    order = torch.randperm(count, generator=generator(seed, "split"))
    first = int(portion * count)
    if not 1 < first < count:
        raise DartsError(f"--train-portion {portion}: of {count} images it leaves too few in one part; choose nearer to 0.5", 2)
    return dataset.part(order[:first]), dataset.part(order[first:])


def _dataset(pixels: Tensor, labels: Tensor, classes: Sequence[str], statistics: tuple | None = None) -> Dataset:
    """Check the size of the images, (N, H, W, 3) bytes, and measure mean and deviation if they are not given."""
    _, H, W, _ = pixels.shape
    if H % 4 or W % 4 or min(H, W) < 8 or max(H, W) > MAX_SIDE_PIXELS:
        rule = f"both sides must be 8 to {MAX_SIDE_PIXELS:,} and divisible by 4"
        raise DartsError(f"the images are {W}x{H} pixels; {rule}: scale them first")
    mean, deviation = statistics or _statistics(pixels)
    return Dataset(pixels, labels, classes, mean, deviation)


def _statistics(pixels: Tensor) -> tuple[list[float], list[float]]:
    """The exact mean and deviation of each channel, pixels in [0, 1], from the counts of the 256 values."""
    value = torch.arange(256, dtype=torch.float64) / 255
    counts = [torch.bincount(pixels[..., c].flatten(), minlength=256).double() for c in range(3)]
    mean = [float(count @ value / count.sum()) for count in counts]
    variance = [float(count @ (value - m) ** 2 / count.sum()) for count, m in zip(counts, mean, strict=True)]
    return mean, [max(v, 1e-12) ** 0.5 for v in variance]  # a channel that never varies stays finite


def _digits(train: bool) -> Dataset:
    """1,797 handwritten digits of 8x8 pixels (Alpaydin and Kaynak, UCI, CC BY 4.0); every fifth is for testing."""
    with gzip.open(Path(__file__).parent / "datasets" / "digits.csv.gz", "rt") as file:
        rows = torch.tensor([[int(value) for value in line.split(",")] for line in file])
    rows = rows[(torch.arange(len(rows)) % 5 != 4) == train]
    pixels = (rows[:, :64] * 255 / 16).round().to(torch.uint8)
    return _dataset(pixels.view(-1, 8, 8, 1).expand(-1, -1, -1, 3).contiguous(), rows[:, 64], _NUMERALS)


def _torchvision(name: str, folder: str | None, train: bool) -> Dataset:
    root, download = (DOWNLOADS, True) if folder is None else (Path(folder), False)
    try:
        remedy = "name the folder of the data set with --data"
        lock = locked(root, wait=True, remedy=remedy) if download else contextlib.nullcontext()
        with lock, contextlib.redirect_stdout(sys.stderr):  # torchvision reports its download on stdout, for results only
            dataset = _open(name, root, train, download)
    except ModuleNotFoundError as error:
        raise DartsError(f"{_NAMES[name]} needs the package {error.name}: pip install 'darts-cli[svhn]'") from None
    except (RuntimeError, OSError, EOFError, ValueError, AssertionError) as error:
        if not download:
            raise DartsError(f"{root}: {_NAMES[name]} is missing here or incomplete; leave --data out to download it") from None
        with contextlib.suppress(OSError):
            root.rmdir()  # only if nothing was downloaded
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DartsError(
            f"{root}: {_NAMES[name]} could not be downloaded, or is incomplete ({reason}); "
            "delete what was downloaded and try again, or pass --data DIR if you have the data set"
        ) from None
    pixels = torch.as_tensor(dataset.data)
    labels = torch.as_tensor(dataset.labels if name == "svhn" else dataset.targets).long()
    if name == "svhn":
        pixels = pixels.permute(0, 2, 3, 1).contiguous()  # stored as (N, 3, H, W)
    if name == "fashion-mnist":
        pixels = F.pad(pixels, (2, 2, 2, 2)).unsqueeze(-1).expand(-1, -1, -1, 3).contiguous()  # 28 to 32 pixels
    classes = _NUMERALS if name == "svhn" else dataset.classes
    return _dataset(pixels, labels, classes, CIFAR10 if name == "cifar10" else None)


def _open(name: str, root: Path, train: bool, download: bool):
    from torchvision import datasets

    if name == "svhn":
        return datasets.SVHN(root, split="train" if train else "test", download=download)
    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100, "fashion-mnist": datasets.FashionMNIST}[name]
    return kind(root, train=train, download=download)


def _image_folder(folder: Path, train: bool, like: dict | None) -> Dataset:
    """The images below the training part of `folder` (for testing, the part for testing or else for validation), or below
    `folder` itself if it has no parts.

    All are scaled to the size of the first, and images with more than 8 bits by their common levels, or as `like` says.
    """
    if not folder.is_dir():
        raise DartsError(f"{folder}: is not a folder of images (No such file or directory); name it with --data")
    found = {kind: images.parts(folder, kind) for kind in images.PARTS}
    for kind, paths in found.items():
        if len(paths) > 1:
            raise DartsError(f"{folder}: {_some([path.name for path in paths])} could each be its {kind} part; leave one")
    parts = found["train"] if train else found["test"] or found["val"]
    if train and not parts and any(images.visible_folders(path) for path in (*found["test"], *found["val"])):
        raise DartsError(f"{folder}: has a test part, but no folder train; it needs both")
    if not train and not parts:
        raise DartsError(f"{folder}: has no test part; it needs a folder test or val beside train")
    files = images.class_folders(parts[0] if parts else folder)
    size = (like or {}).get("size")
    read: list[Tensor] = []
    for path, _ in files.samples:
        read.append(scaled(images.read(path, turn=True), size or (read[0].shape[1:] if read else None)))
    levels = (like or {}).get("levels") or images.levels(read)
    pixels = torch.stack([images.to_bytes(image, levels).permute(1, 2, 0) for image in read])
    dataset = _dataset(pixels, torch.tensor(files.targets), files.classes)
    return dataset._replace(levels=levels, root=files.root, left_out=files.left_out)


def scaled(image: Tensor, size: Sequence[int] | None) -> Tensor:
    """An image (C, H, W) of another size, if one is given."""
    from torchvision.transforms import v2

    if size is None or list(image.shape[1:]) == list(size):
        return image
    return v2.functional.resize(image, list(size), antialias=True)
