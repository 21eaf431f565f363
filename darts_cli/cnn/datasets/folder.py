"""A folder of people's own images: which part of it is read, and how its images become one size."""

import math
import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from darts_cli import DartsError
from darts_cli.cnn.datasets.balance import first_of_each
from darts_cli.cnn.datasets.batches import Dataset
from darts_cli.cnn.datasets.measured import measured
from darts_cli.formats import fitting, images
from darts_cli.formats.fitting import Fit
from darts_cli.runs.display import terminal
from darts_cli.runtime import distributed
from darts_cli.runtime.device import generator
from darts_cli.text import counted, size, some

MEMORY_BYTES = 2 * 1024**3  # of images; more of them are kept in a file
BLOCK = 256  # files that threads read together
MANY = 1000  # files that take a while to read
HELD_OUT = 0.2  # of each class, for testing, where a folder has no test part
SET_ASIDE = (
    "a fifth of each class was set aside for testing, as the folder has no test part; a search on this folder has seen it, so "
    "put the class folders into train and test for a fair test"
)


def image_folder(folder: Path, train: bool, like: dict | None, fit: Fit, hold_out: bool, quiet: bool) -> Dataset:
    """The images below the training part of `folder` (for testing, the part for testing or else for validation), or below
    `folder` itself if it has no parts.

    Of a folder without a test part a fifth of each class is for testing, always the same one; a training leaves it out with
    `hold_out`. A bar shows how far the reading of many files is, unless `quiet`.

    All are brought to one size, and images with more than 8 bits to their common levels: as `like` says, or else by `fit`.
    Raises DartsError.
    """
    place, whole = part_of(folder, train), not has_test_part(folder)
    files, like = images.class_folders(place), like or {}
    samples = files.samples
    if whole and (hold_out or not train):
        samples = _set_aside(folder, samples, train)
    paths = [path for path, _ in samples]
    sizes = [images.size(path, turn=True) for path in paths]
    side, reason = (tuple(like["size"]), "that of the training") if "size" in like else fitting.chosen(sizes, fit.size)
    resize = like.get("resize", "squeeze") if like else fit.resize
    pixels, on_disk = _room(len(paths), side)
    levels = _read(paths, partial(fitting.fitted, size=side, resize=resize), like.get("levels"), pixels, quiet)
    dataset = measured(pixels, torch.tensor([label for _, label in samples]), files.classes)
    notes = fitting.notes(sizes, side, reason, resize)
    if on_disk:
        what = f"{counted(len(paths), 'image')} of {fitting.shown(side)} pixels"
        notes = [*notes, f"{what} are {size(pixels.nbytes)}: they are kept in a file in {tempfile.gettempdir()}, not in memory"]
    if whole and not train:
        notes = [*notes, SET_ASIDE]
    notes = [*notes, *divided_classes(place)]
    return dataset._replace(
        levels=levels, root=files.root, left_out=files.left_out, resize=resize, notes=notes, on_disk=on_disk
    )


def _room(count: int, side: Sequence[int]) -> tuple[Tensor, bool]:
    """Room for images (N, H, W, 3), bytes; and whether it is in a file, without a name, that is gone with the process.

    Raises DartsError where the disk is too small.
    """
    shape = (count, *side, 3)
    if math.prod(shape) <= MEMORY_BYTES:
        return torch.empty(shape, dtype=torch.uint8), False
    place = tempfile.gettempdir()
    free = shutil.disk_usage(place).free
    if free < math.prod(shape):
        raise DartsError(
            f"{place}: has {size(free)} free, but {counted(count, 'image')} of {fitting.shown(side)} pixels need "
            f"{size(math.prod(shape))}; choose a smaller --image-size, or another disk with the variable TMPDIR"
        )
    with tempfile.TemporaryFile() as file:
        return torch.from_numpy(np.memmap(file, np.uint8, "w+", shape=shape)), True


def _read(
    paths: Sequence[str], fit: Callable, levels: Sequence[float] | None, into: Tensor, quiet: bool
) -> Sequence[float] | None:
    """Read the files, by threads, into (N, H, W, 3); returns the levels of those with more than 8 bits."""

    def read(path: str) -> Tensor:
        return fit(images.read(path, turn=True))

    console, shows = terminal(quiet or len(paths) < MANY or distributed.rank() > 0)
    with ThreadPoolExecutor() as pool:
        rows = (pair for start in range(0, len(paths), BLOCK) for pair in pool.map(read, paths[start : start + BLOCK]))
        rows = track(rows, "reading images", len(paths), console=console, transient=True, disable=not shows)
        for row, image in zip(into, rows, strict=True):
            if image.dtype == torch.float64 and levels is None:
                levels = images.levels(map(read, paths))
            row.copy_(images.to_bytes(image, levels).permute(1, 2, 0))
    return levels


def _set_aside(folder: Path, samples: list[tuple[str, int]], train: bool) -> list[tuple[str, int]]:
    """The samples of a folder without a test part that are for training, or for testing."""
    order = torch.randperm(len(samples), generator=generator(0, "test part"))
    labels = torch.tensor([label for _, label in samples])
    kept = first_of_each(labels[order], round((1 - HELD_OUT) * len(samples)))
    found = [samples[i] for i in sorted(order[kept if train else ~kept].tolist())]
    if not found:
        raise DartsError(f"{folder}: has no test part, and too few images to set some aside for it; a class needs two or more")
    return found


def part_of(folder: Path, train: bool) -> Path:
    """The folder of the training or test part; `folder` itself if it has no parts. Raises DartsError."""
    if not folder.is_dir():
        reason = "it is a file" if folder.exists() else "No such file or directory"
        raise DartsError(f"{folder}: is not a folder of images ({reason}); name it with --data")
    found = _parts(folder)
    for kind, paths in found.items():
        if len(paths) > 1:
            raise DartsError(f"{folder}: {some([path.name for path in paths])} could each be its {kind} part; leave one")
    parts = found["train"] if train else found["test"] or found["val"] or found["train"]
    if train and not parts and any(images.visible_folders(path) for path in (*found["test"], *found["val"])):
        raise DartsError(f"{folder}: has a test part, but no folder train; it needs both")
    if not train and not parts and not images.visible_folders(folder):
        raise DartsError(f"{folder}: has no test part; it needs a folder test or val beside train")
    return parts[0] if parts else folder


def has_test_part(folder: Path) -> bool:
    """Whether a folder has a part for testing or validation; where not, some of its training images are set aside."""
    found = _parts(folder)
    return bool(found["test"] or found["val"])


def divided_classes(place: Path) -> list[str]:
    """A remark on class folders that are divided into parts, if any: the parts are read together."""
    classes = images.visible_folders(place) if place.is_dir() else []
    divided = [path.name for path in classes if sum(bool(images.parts(path, kind)) for kind in images.PARTS) > 1]
    what = f"{some(divided)} {'has' if len(divided) == 1 else 'have'} parts within, such as train and test"
    return [f"{what}: they are read together; to keep them apart, put the classes into train and test"] if divided else []


def _parts(folder: Path) -> dict[str, list[Path]]:
    """The folders of each part. One with the name of a part, but with images and beside others, is a class, such as train."""
    found = {kind: images.parts(folder, kind) for kind in images.PARTS}
    named = [path for paths in found.values() for path in paths]
    beside = len(images.visible_folders(folder)) - len(named)
    if len(named) == 1 and beside and not images.visible_folders(named[0]):
        return {kind: [] for kind in images.PARTS}
    return found


def holds_classes(folder: Path) -> bool:
    """Whether a folder, or its training part, has folders of images."""
    try:
        images.class_folders(part_of(folder, train=True))
    except DartsError:
        return False
    return True
