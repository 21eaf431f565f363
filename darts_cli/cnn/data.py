"""The image data sets; the images of all but ImageNet are bytes of one size, in memory or in a file."""

import contextlib
import gzip
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F

from darts_cli import DartsError
from darts_cli.cnn.datasets import balance, imagenet
from darts_cli.cnn.datasets.balance import first_of_each
from darts_cli.cnn.datasets.batches import Batches, Dataset
from darts_cli.cnn.datasets.folder import holds_classes, image_folder
from darts_cli.cnn.datasets.measured import LEAST_DEVIATION, measured
from darts_cli.config import SearchCNN, TrainCNN
from darts_cli.formats import images
from darts_cli.formats.fitting import CHOSEN, Fit
from darts_cli.formats.sizes import LEAST_SIDE_PIXELS, MAX_SIDE_PIXELS, RESIZES, size_of
from darts_cli.runs.lock import locked
from darts_cli.runtime.device import generator
from darts_cli.text import counted, printable, some

DOWNLOADS = Path("data")
LEAST_IMAGES = 4  # the fewest that may be left of a data set
CIFAR10 = ((0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768))  # mean, deviation; as in the original
_NUMERALS = [str(i) for i in range(10)]
_NAMES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "svhn": "SVHN", "fashion-mnist": "Fashion-MNIST"}


def load(
    name: str,
    folder: str | None,
    train: bool = True,
    like: dict | None = None,
    fit: Fit = CHOSEN,
    *,
    hold_out: bool = False,
    quiet: bool = True,
) -> Dataset | imagenet.FileDataset:
    """The training or test part of a data set, from `folder`, or without one downloaded to ./data.

    like       `about` of the training part, perhaps without classes; the test part is normalised, and the images of a folder
               are fitted, in the same way
    fit        how the images of a folder are fitted otherwise
    hold_out   without the images that are for testing where a folder has no test part
    quiet      without a bar while many files are read

    Raises DartsError when something is missing, saying where it comes from, or when classes or image size differ from `like`.
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
        dataset = image_folder(Path(folder), train, like, fit, hold_out, quiet)
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
        text += f"; {printable(images.of_left_out(dataset.left_out))}"
    return text


def said(part: str, dataset: Dataset | imagenet.FileDataset) -> list[str]:
    """The summary of a part, and a line for everything about it that may surprise."""
    return [summary(part, dataset), *(f"{part}: {note}" for note in (*dataset.notes, *balance.notes(dataset)))]


def training_set(config: SearchCNN | TrainCNN, *, hold_out: bool = False, quiet: bool = True) -> Dataset | imagenet.FileDataset:
    """The training part of a configuration's data set, fitted and augmented as it says. Raises DartsError as `load` does."""
    fit = Fit(None if config.image_size is None else size_of(config.image_size), config.resize)
    dataset = load(config.dataset, config.data, fit=fit, hold_out=hold_out, quiet=quiet)._replace(flip=config.flip)
    return dataset._replace(pad=config.pad) if isinstance(dataset, Dataset) else dataset


def used(dataset: Dataset, config: SearchCNN | TrainCNN) -> Dataset:
    """The images of a training part that a configuration uses. Raises DartsError where its share of them is too small."""
    count = config.max_images
    if config.subset is not None:
        count = round(config.subset * len(dataset.labels))
        if count < LEAST_IMAGES:
            left = f"{counted(count, 'image')} of {len(dataset.labels):,}"
            raise DartsError(f"--subset {config.subset:g}: leaves {left}, too few", exit_code=2)
    return limited(dataset, count, config.split_seed, config.split == "stratified")


def check_varied(dataset: Dataset | imagenet.FileDataset) -> None:
    """Raise DartsError when all images of a folder are of one and the same colour."""
    if isinstance(dataset, Dataset) and dataset.root and max(dataset.deviation) <= LEAST_DEVIATION:
        raise DartsError(f"{dataset.root}: all of its images are of one and the same colour; there is nothing to learn")


def check_about(about: dict) -> None:
    """Raise ValueError unless this is what `about` returns for a data set."""
    classes, size, statistics = about["classes"], about["size"], [*about["mean"], *about["deviation"]]
    if not isinstance(classes, list) or not classes or not all(isinstance(name, str) for name in classes):
        raise ValueError("its classes are not names")
    if len(size) != 2 or not all(type(side) is int and LEAST_SIDE_PIXELS <= side <= MAX_SIDE_PIXELS for side in size):
        raise ValueError(f"the size of its images is not two sides of {LEAST_SIDE_PIXELS} to {MAX_SIDE_PIXELS:,} pixels")
    if not len(about["mean"]) == len(about["deviation"]) == 3 or not all(type(x) is float and x < 1e6 for x in statistics):
        raise ValueError("its mean and deviation are not numbers for three channels")
    levels = about.get("levels", [0.0, 1.0])
    if not isinstance(levels, list) or len(levels) != 2 or not all(type(x) is float for x in levels):
        raise ValueError("its levels are not two numbers, black and white")
    if about.get("resize", "squeeze") not in RESIZES:
        raise ValueError(f"its way to fit images is none of {', '.join(RESIZES)}")


def check_like(source: str, classes: Sequence[str], size: Sequence[int], like: dict) -> None:
    """Raise DartsError when the height, width or known classes of a test part differ from the training's."""
    if list(size) != list(like["size"]):
        test_size, trained_size = (f"{height}x{width}" for height, width in (size, like["size"]))
        raise DartsError(f"{source}: its images are {test_size} pixels, but the network was trained on {trained_size}")
    trained = like.get("classes", classes)
    missing = [name for name in trained if name not in classes]
    unexpected = [name for name in classes if name not in trained]
    if missing or unexpected:
        lists = (("missing", missing), ("unexpected", unexpected))
        differences = "; ".join(f"{word} {some(names)}" for word, names in lists if names)
        raise DartsError(f"{source}: its classes differ from those of the training: {differences}")


def limited(dataset: Dataset, count: int | None, seed: int, by_class: bool = False) -> Dataset:
    """At most so many images of a data set, drawn at random; which ones depends only on the seed.

    With `by_class`, the classes keep their shares.
    """
    if count is None or count >= len(dataset.labels):
        return dataset
    order = torch.randperm(len(dataset.labels), generator=generator(seed, "max-images"))
    return dataset.part(order[first_of_each(dataset.labels[order], count)] if by_class else order[:count])


def split(dataset: Dataset, portion: float, seed: int, by_class: bool = False) -> tuple[Dataset, Dataset]:
    """The data set in two random parts, the first with that portion of the images; the split depends only on the seed.

    With `by_class`, the classes keep their shares in both parts, and those of two images or more are in both. Raises
    DartsError where the first part would have fewer than two images, or the second none.
    """
    count = len(dataset.labels)
    order = torch.randperm(count, generator=generator(seed, "split"))
    first = int(portion * count)
    if not 1 < first < count:
        raise DartsError(f"--train-portion {portion}: of {count} images it leaves too few in one part; choose nearer to 0.5", 2)
    if by_class:
        chosen = first_of_each(dataset.labels[order], first)
        return dataset.part(order[chosen]), dataset.part(order[~chosen])._replace(notes=())
    return dataset.part(order[:first]), dataset.part(order[first:])._replace(notes=())


def halves(config: SearchCNN, device: torch.device, quiet: bool = True) -> tuple[dict, Dataset, Batches, Batches]:
    """What describes the training set, the part of it that is used, and the batches of both its halves. Raises DartsError."""
    dataset = training_set(config, quiet=quiet)
    check_varied(dataset)
    part = used(dataset, config)
    both = split(part, config.train_portion, config.split_seed, config.split == "stratified")
    part = part._replace(notes=[*part.notes, *balance.unlike(*both)])
    batches = (
        Batches(half, config.batch_size, config.seed, name, device, config.cutout)
        for half, name in zip(both, ("train", "valid"), strict=True)
    )
    return dataset.about(), part, *batches


def _digits(train: bool) -> Dataset:
    """1,797 handwritten digits of 8x8 pixels (Alpaydin and Kaynak, UCI, CC BY 4.0); every fifth is for testing."""
    with gzip.open(Path(__file__).parent / "datasets" / "digits.csv.gz", "rt") as file:
        rows = torch.tensor([[int(value) for value in line.split(",")] for line in file])
    rows = rows[(torch.arange(len(rows)) % 5 != 4) == train]
    pixels = (rows[:, :64] * 255 / 16).round().to(torch.uint8)
    return measured(pixels.view(-1, 8, 8, 1).expand(-1, -1, -1, 3).contiguous(), rows[:, 64], _NUMERALS)


def _torchvision(name: str, folder: str | None, train: bool) -> Dataset:
    from torchvision import datasets  # outside the try: where this fails, it is not for want of the data set

    root, download = (DOWNLOADS, True) if folder is None else (_root(name, Path(folder)), False)
    try:
        remedy = "name the folder of the data set with --data"
        lock = locked(root, wait=True, remedy=remedy) if download else contextlib.nullcontext()
        with lock, contextlib.redirect_stdout(sys.stderr):  # torchvision reports its download on stdout, for results only
            dataset = _open(datasets, name, root, train, download)
    except ModuleNotFoundError as error:
        raise DartsError(f"{_NAMES[name]} needs {error.name}; install it with pip install {error.name}") from None
    except (RuntimeError, OSError, EOFError, ValueError, AssertionError) as error:
        if not download and holds_classes(root):
            raise DartsError(f"{root}: holds folders of images, not {_NAMES[name]}; add --dataset folder") from None
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
    return measured(pixels, labels, classes, CIFAR10 if name == "cifar10" else None)


def _root(name: str, folder: Path) -> Path:
    """The folder that holds the data set's own folder, also where that one is given."""
    inner = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python", "fashion-mnist": "FashionMNIST"}.get(name)
    return folder.resolve().parent if folder.resolve().name == inner else folder


def _open(datasets, name: str, root: Path, train: bool, download: bool):
    if name == "svhn":
        return datasets.SVHN(root, split="train" if train else "test", download=download)
    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100, "fashion-mnist": datasets.FashionMNIST}[name]
    return kind(root, train=train, download=download)
