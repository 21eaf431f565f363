"""What the program makes of a data set of images: a check of its files, and a sheet of what a training sees."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from darts_cli import DartsError
from darts_cli.cnn import data
from darts_cli.cnn.datasets import balance, folder
from darts_cli.cnn.datasets.batches import Batches, Dataset
from darts_cli.cnn.datasets.measured import LEAST_DEVIATION
from darts_cli.formats import fitting, images
from darts_cli.formats.fitting import CHOSEN, Fit
from darts_cli.text import counted, some

PARTS = {"train": True, "test": False}
SHEET_CLASSES, SHEET_COLUMNS, GAP_PIXELS = 10, 8, 2
SHOWN_PIXELS = 64  # smaller images are enlarged to about this side


class File(NamedTuple):
    """What a check keeps of an image file."""

    path: str
    label: int
    size: tuple[int, int]  # height and width in pixels, upright
    mode: str  # Pillow's: RGB, L, I;16, ...
    digest: str  # of its size and pixels


def check(root: Path, fit: Fit = CHOSEN) -> dict:
    """A folder of images as the program reads it: of every part its classes, sizes, modes and unreadable files; the size that
    all get; mean and deviation of the training images; images that occur twice; and what should be looked at.

    No unreadable file ends the check. Raises DartsError where there is no training part, or no classes.
    """
    parts, files = {}, {}
    for name, train in PARTS.items():
        try:
            place = folder.part_of(root, train)
        except DartsError:
            if train:
                raise
            continue
        if not train and not folder.has_test_part(root):
            continue  # a training sets some of the training images aside
        listed = images.class_folders(place)
        files[name], unreadable = _files(listed.samples)
        parts[name] = _part(str(place), listed.classes, files[name], listed.left_out, unreadable)
    found = {"parts": parts, **_prepared(files["train"], fit), "duplicates": _duplicates(files)}
    return found | {"warnings": _warnings(found, files, fit)}


def check_named(name: str) -> dict:
    """The same of a published data set, or of one in the package, downloaded where it is missing. Raises DartsError."""
    datasets = {part: data.load(name, None, train=train) for part, train in PARTS.items()}
    files = {
        part: [
            File(f"{part} image {i}", int(label), tuple(image.shape[:2]), "RGB", hashlib.sha256(image.numpy()).hexdigest())
            for i, (image, label) in enumerate(zip(dataset.images, dataset.labels, strict=True))
        ]
        for part, dataset in datasets.items()
    }
    about = datasets["train"].about()
    found = {
        "parts": {part: _part(name, dataset.classes, files[part], [], []) for part, dataset in datasets.items()},
        **{key: about[key] for key in ("size", "mean", "deviation")},
        "resize": "squeeze",
        "duplicates": _duplicates(files),
    }
    return found | {"warnings": _warnings(found, files, CHOSEN)}


def _part(place: str, classes: Sequence[str], files: list[File], left_out: list[str], unreadable: list[str]) -> dict:
    labels = Counter(file.label for file in files)
    return {
        "folder": place,
        "images": len(files),
        "classes": {name: labels[k] for k, name in enumerate(classes)},
        "sizes": dict(Counter(fitting.shown(file.size) for file in files).most_common()),
        "modes": dict(Counter(file.mode for file in files).most_common()),
        "left_out": left_out,
        "unreadable": unreadable,
    }


def _files(samples: list[tuple[str, int]]) -> tuple[list[File], list[str]]:
    """The files of a part, and what is wrong with those that cannot be read."""
    from PIL import Image

    found, unreadable = [], []
    for path, label in samples:
        try:
            pixels = images.read(path, turn=True)
            with Image.open(path) as file:
                mode = file.mode
        except DartsError as error:
            unreadable.append(str(error))
            continue
        digest = hashlib.sha256(f"{tuple(pixels.shape)}".encode() + pixels.contiguous().numpy().tobytes()).hexdigest()
        found.append(File(path, label, tuple(pixels.shape[1:]), mode, digest))
    return found, unreadable


def _prepared(files: list[File], fit: Fit) -> dict:
    """The size that images get, and mean and deviation of every channel then, of pixels in [0, 1]."""
    if not files:
        return {}
    size, _ = fitting.chosen([file.size for file in files], fit.size)

    def read() -> Iterator[Tensor]:
        return (fitting.fitted(images.read(file.path, turn=True), size, fit.resize) for file in files)

    levels = images.levels(read())
    sums, squares = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for image in read():
        pixels = images.to_bytes(image, levels).double() / 255
        sums, squares = sums + pixels.mean((1, 2)), squares + (pixels**2).mean((1, 2))
    mean = sums / len(files)
    deviation = (squares / len(files) - mean**2).clamp(min=0).sqrt()
    return {"size": list(size), "resize": fit.resize, "mean": mean.tolist(), "deviation": deviation.tolist()}


def _duplicates(files: dict[str, list[File]]) -> dict:
    """Images of equal pixels: pairs of a training and a test file, and the groups within the training part."""
    groups: dict[str, list[File]] = {}
    for file in files["train"]:
        groups.setdefault(file.digest, []).append(file)
    between = [[groups[file.digest][0].path, file.path] for file in files.get("test", ()) if file.digest in groups]
    twice = [group for group in groups.values() if len(group) > 1]
    return {
        "train_and_test": between,
        "within_train": [[file.path for file in group] for group in twice],
        "of_two_classes": [[file.path for file in group] for group in twice if len({file.label for file in group}) > 1],
    }


def _warnings(found: dict, files: dict[str, list[File]], fit: Fit) -> list[str]:
    """What should be looked at, a line each."""
    said = []
    for name, part in found["parts"].items():
        labels = torch.tensor([file.label for file in files[name]], dtype=torch.long)
        part_notes = balance.notes(Dataset(labels, labels, list(part["classes"]), (), ()))
        said += [f"{name}: {note.removeprefix('warning: ')}" for note in part_notes]
        if part["left_out"]:
            said.append(f"{name}: {images.of_left_out(part['left_out'])}")
        said += [f"{name}: {note}" for note in folder.divided_classes(Path(part["folder"]))]
        said += part["unreadable"]
    if files["train"]:
        sizes = [file.size for file in files["train"]]
        said += [f"train: {note}" for note in fitting.notes(sizes, *fitting.chosen(sizes, fit.size), fit.resize)]
    if max(found.get("deviation", [1.0])) <= LEAST_DEVIATION:
        said.append("train: all images are of one and the same colour; there is nothing to learn")
    if "test" not in found["parts"]:
        said.append("there is no test part: a training sets a fifth aside; folders train and test would choose it")
    elif missing := set(found["parts"]["train"]["classes"]) ^ set(found["parts"]["test"]["classes"]):
        said.append(f"train and test have different classes: only one of them has {some(sorted(missing))}")
    words = {
        "train_and_test": "of the test images are training images too",
        "within_train": "of the training images occur more than once",
        "of_two_classes": "of the training images occur in two classes",
    }
    for kind, groups in found["duplicates"].items():
        if groups:
            said.append(f"{len(groups):,} {words[kind]}, pixel by pixel, such as {some(groups[0])}")
    return said


def described(found: dict) -> str:
    """A check in words, a line for every fact."""
    lines = []
    for name, part in found["parts"].items():
        lines.append(f"{name}: {counted(part['images'], 'image')} of {len(part['classes'])} classes, from {part['folder']}")
        for what in ("classes", "sizes", "modes"):
            lines.append(f"  {what:8} {some([f'{key} {count:,}' for key, count in part[what].items()], 10)}")
    if "size" in found:
        lines.append(f"all become {fitting.shown(found['size'])} pixels (height x width, {found['resize']})")
        for what in ("mean", "deviation"):
            lines.append(f"  {what:9} {' '.join(f'{value:.4f}' for value in found[what])}")
    return "\n".join(lines)


def sheet(dataset: Dataset, cutout: int = 0, seed: int = 0) -> Tensor:
    """A picture (H, W, 3), bytes, with a row for each of the first ten classes: an image as it is, then augmented ones, as a
    training sees them; small images are enlarged. Raises DartsError where there are none."""
    rows = []
    for label in range(min(SHEET_CLASSES, len(dataset.classes))):
        indices = (dataset.labels == label).nonzero()[: SHEET_COLUMNS - 1, 0]
        if not len(indices):
            continue
        indices = indices.repeat(SHEET_COLUMNS)[: SHEET_COLUMNS - 1]
        part = dataset.part(indices)
        seen = Batches(part, len(indices), seed, "sheet", torch.device("cpu"), cutout).augmented(0, 0)[0]
        mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (dataset.mean, dataset.deviation))
        pixels = ((seen * deviation + mean).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
        rows.append(torch.cat([part.pixels(slice(1)), pixels]))
    if not rows:
        raise DartsError("there are no images to show")
    factor = max(1, SHOWN_PIXELS // max(dataset.images.shape[1:3]))
    rows = [row.repeat_interleave(factor, 1).repeat_interleave(factor, 2) for row in rows]
    framed = torch.nn.functional.pad(torch.stack(rows), (0, 0, GAP_PIXELS, GAP_PIXELS, GAP_PIXELS, GAP_PIXELS), value=255)
    R, N, H, W, _ = framed.shape
    return framed.permute(0, 2, 1, 3, 4).reshape(R * H, N * W, 3)


def opened(place: str, is_folder: bool, fit: Fit = CHOSEN) -> Dataset:
    """The training part of a folder of images, or of a data set by its name. Raises DartsError."""
    return data.load("folder", place, fit=fit) if is_folder else data.load(place, None)
