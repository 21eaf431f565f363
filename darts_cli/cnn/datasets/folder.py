"""A folder of people's own images: which part of it is read, and how its images become one size."""

from pathlib import Path

import torch

from darts_cli import DartsError
from darts_cli.cnn.batches import Dataset
from darts_cli.cnn.datasets.measured import measured
from darts_cli.formats import fitting, images
from darts_cli.formats.fitting import Fit
from darts_cli.text import some


def image_folder(folder: Path, train: bool, like: dict | None, fit: Fit) -> Dataset:
    """The images below the training part of `folder` (for testing, the part for testing or else for validation), or below
    `folder` itself if it has no parts.

    All are brought to one size, and images with more than 8 bits to their common levels: as `like` says, or else by `fit`.
    Raises DartsError.
    """
    files = images.class_folders(part_of(folder, train))
    paths, like = [path for path, _ in files.samples], like or {}
    sizes = [images.size(path, turn=True) for path in paths]
    size, reason = (tuple(like["size"]), "that of the training") if "size" in like else fitting.chosen(sizes, fit.size)
    resize = like.get("resize", "squeeze") if like else fit.resize
    read = [fitting.fitted(images.read(path, turn=True), size, resize) for path in paths]
    levels = like.get("levels") or images.levels(read)
    pixels = torch.stack([images.to_bytes(image, levels).permute(1, 2, 0) for image in read])
    dataset = measured(pixels, torch.tensor(files.targets), files.classes)
    notes = fitting.notes(sizes, size, reason, resize)
    return dataset._replace(levels=levels, root=files.root, left_out=files.left_out, resize=resize, notes=notes)


def part_of(folder: Path, train: bool) -> Path:
    """The folder of the training or test part; `folder` itself if it has no parts. Raises DartsError."""
    if not folder.is_dir():
        reason = "it is a file" if folder.exists() else "No such file or directory"
        raise DartsError(f"{folder}: is not a folder of images ({reason}); name it with --data")
    found = {kind: images.parts(folder, kind) for kind in images.PARTS}
    for kind, paths in found.items():
        if len(paths) > 1:
            raise DartsError(f"{folder}: {some([path.name for path in paths])} could each be its {kind} part; leave one")
    parts = found["train"] if train else found["test"] or found["val"]
    if train and not parts and any(images.visible_folders(path) for path in (*found["test"], *found["val"])):
        raise DartsError(f"{folder}: has a test part, but no folder train; it needs both")
    if not train and not parts:
        raise DartsError(f"{folder}: has no test part; it needs a folder test or val beside train")
    return parts[0] if parts else folder


def holds_classes(folder: Path) -> bool:
    """Whether a folder, or its training part, has folders of images."""
    try:
        images.class_folders(part_of(folder, train=True))
    except DartsError:
        return False
    return True
