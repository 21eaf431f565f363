"""Image files and folders of them, as people have them: any mode that Pillow reads, and any common name of a part."""

import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from darts_cli import DartsError
from darts_cli.text import counted, some

PARTS = {  # words in names of folders, in small letters, without "set" after them
    "train": ("train", "training"),
    "test": ("test", "testing", "tests", "holdout"),
    "val": ("val", "valid", "validation", "dev", "eval", "evaluation"),
}
SAYING_NOTHING = ("seg", "set", "data", "dataset", "image", "images", "img", "imgs", "split")  # in names of parts
ORIENTATION = 0x0112  # the EXIF entry that says how a photograph is to be turned
LEVELS = [2.0**bits - 1 for bits in (8, 10, 12, 14, 16, 24, 31, 32)]  # white, in images of whole numbers


def read(path: str, *, turn: bool = False) -> Tensor:
    """An image file: (3, H, W) bytes; or (1, H, W) float64, as stored, where it has more than 8 bits (see `levels`).

    What is transparent becomes white. With `turn`, the image is turned as its EXIF orientation says. Raises DartsError, naming
    the file, when it is not a readable image.
    """
    from PIL import Image

    if not os.path.isfile(path):  # reading a pipe would block
        raise unreadable(path, "not a regular file")
    try:
        with Image.open(path) as file:
            pixels = tensor(file, turn=turn)
    except Exception as error:  # the decoders of the many formats raise what they like
        raise unreadable(path, type(error).__name__) from None
    if pixels.dtype == torch.float64 and not pixels.isfinite().all():
        raise unreadable(path, "a pixel is not a finite number")
    return pixels


def size(path: str, *, turn: bool = False) -> tuple[int, int]:
    """Height and width, in pixels, of what `read` gives, from the head of the file. Raises DartsError as `read` does."""
    from PIL import Image

    if not os.path.isfile(path):
        raise unreadable(path, "not a regular file")
    try:
        with Image.open(path) as file:
            sideways = turn and file.getexif().get(ORIENTATION) in (5, 6, 7, 8)
            return file.size if sideways else file.size[::-1]
    except Exception as error:  # the decoders of the many formats raise what they like
        raise unreadable(path, type(error).__name__) from None


def tensor(image, *, turn: bool = False) -> Tensor:
    """An image of Pillow, as `read` gives it."""
    from PIL import Image, ImageOps
    from torchvision.transforms import v2

    image = ImageOps.exif_transpose(image) if turn else image
    if image.mode[0] in "IF":  # 16 or 32 bits, or real numbers
        return v2.functional.pil_to_tensor(image.convert("F") if image.mode == "F" else image.convert("I")).double()
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return v2.functional.pil_to_tensor(image.convert("RGB"))


def levels(images: Iterable[Tensor]) -> tuple[float, float] | None:
    """Black and white of the images with more than 8 bits, all of one data set; None where there are none.

    Whole numbers are taken to have 8, 10, 12, 14, 16, 24 or 32 bits, as few as fit. Real numbers are taken to lie in [0, 1],
    [-1, 1] or [0, 255], or else between the least and the largest.
    """
    least, largest, whole = math.inf, -math.inf, True
    for image in images:
        if image.dtype == torch.float64:
            least, largest = min(least, float(image.min())), max(largest, float(image.max()))
            whole = whole and bool((image == image.round()).all())
    if least > largest:
        return None
    whole = whole and largest > 1
    if least >= 0 and whole:
        return 0.0, next(white for white in [*LEVELS, largest] if largest <= white)
    for black, white in ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)):
        if black <= least and largest <= white:
            return black, white
    return least, largest


def to_bytes(image: Tensor, black_and_white: Sequence[float] | None = None) -> Tensor:
    """What `read` gives -> (3, H, W) bytes; `levels` of this image alone if none are given."""
    if image.dtype == torch.uint8:
        return image
    black, white = black_and_white or levels([image])
    grey = (image - black) / max(white - black, 1e-300)
    return (grey.clamp(0, 1) * 255).round().to(torch.uint8).expand(3, -1, -1)


def parts(folder: Path, kind: str) -> list[Path]:
    """The folders in `folder` whose name says that they are its "train", "test" or "val" part.

    Beside that word, a name may have others that say nothing, or those of another part: birds_train and birds_test. A folder
    like seg_train/seg_train, as archives have it, is its inner one.
    """
    named = {path: _kind(path.name) for path in visible_folders(folder)}
    paired = {(each, rest) for each, rest in named.values()}
    found = [
        path
        for path, (each, rest) in named.items()
        if each == kind and (not rest or any((other, rest) in paired for other in PARTS if other != kind))
    ]
    inner = [[path, *(each for each in visible_folders(path) if each.name == path.name)][-1] for path in found]
    return sorted(inner)


def _kind(name: str) -> tuple[str | None, tuple[str, ...]]:
    """The part that a folder's name stands for, if it names one, and its other words."""
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+", name)]
    words = [word if word == "set" else word.removesuffix("set") for word in words]
    kinds = [kind for word in words for kind, names in PARTS.items() if word in names]
    known = {word for names in PARTS.values() for word in names}
    rest = tuple(word for word in words if word not in known and word not in SAYING_NOTHING)
    return (kinds[0] if len(kinds) == 1 else None), rest


def visible_folders(folder: Path) -> list[Path]:
    """The folders in a folder, without hidden ones and what archives leave behind."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and _visible(path.name))


def _visible(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"


def class_folders(root: Path):
    """torchvision's ImageFolder for `root`, without hidden files and folders; `left_out` lists the files that are no images.

    Raises DartsError when there are not at least two folders, each with images.
    """
    from torchvision.datasets import ImageFolder
    from torchvision.datasets.folder import IMG_EXTENSIONS

    class Visible(ImageFolder):
        def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
            classes, _ = super().find_classes(directory)
            classes = [name for name in classes if _visible(name)]
            return classes, {name: i for i, name in enumerate(classes)}

    def usable(path: str) -> bool:
        inside = path.removeprefix(str(root)).strip(os.sep).split(os.sep)
        return all(map(_visible, inside)) and path.lower().endswith(IMG_EXTENSIONS)

    top, left_out = os.path.realpath(root), []
    for folder, inner, files in os.walk(root):  # without following links, which ImageFolder does
        place = "" if folder == str(root) else os.path.relpath(folder, root)
        if all(map(_visible, place.split(os.sep))):
            others = (name for name in files if _visible(name) and not name.lower().endswith(IMG_EXTENSIONS))
            left_out += [os.path.join(place, name) for name in others]
        for path in (os.path.join(folder, name) for name in inner):
            target = os.path.realpath(path)
            if os.path.islink(path) and os.path.commonpath([target, top]) in (target, top):
                raise DartsError(f"{path}: is a link that leads back into {root}; its images would count twice; remove it")
    try:
        folders = Visible(str(root), is_valid_file=usable, allow_empty=True)
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0].rstrip(".")
        raise DartsError(
            f"{root}: is not a folder of images ({reason}); it needs one folder of images for each class"
        ) from None
    if len(folders.classes) < 2:
        there = f"has one class, {folders.classes[0]}" if folders.classes else "has no class"
        remedy = ""
        if folders.classes and (below := visible_folders(Path(root, folders.classes[0]))):
            remedy = f"; {folders.classes[0]} holds {some([path.name for path in below])}: name it with --data instead"
        raise DartsError(f"{root}: {there}; there must be two or more, one folder each{remedy}")
    full = set(folders.targets)
    empty = [name for i, name in enumerate(folders.classes) if i not in full]
    if empty:
        few = "the class {} has no image; put some into its folder, or delete it"
        many = "the classes {} have no images; put some into their folders, or delete these"
        raise DartsError(f"{root}: {(few if len(empty) == 1 else many).format(some(empty))}")
    folders.left_out = sorted(left_out)
    return folders


def of_left_out(names: Sequence[str]) -> str:
    """The files that are not read, counted by their endings, with the first ones by name."""
    endings = Counter(os.path.splitext(name)[1].lower() or "no ending" for name in names)
    kinds = ", ".join(f"{count:,} {ending}" for ending, count in endings.most_common())
    return f"{counted(len(names), 'file')} left out, in no format that is read ({kinds}): {some(names)}"


def below(path: str) -> list[str]:
    """The image files below a folder, in order, but hidden ones; or that file. Raises DartsError where there are none."""
    if not os.path.exists(path):
        raise DartsError(f"{path}: no such file or folder")
    if not os.path.isdir(path):
        return [path]
    from torchvision.datasets.folder import IMG_EXTENSIONS

    found = []
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if _visible(name))
        found += [
            os.path.join(folder, name) for name in sorted(names) if _visible(name) and name.lower().endswith(IMG_EXTENSIONS)
        ]
    if not found:
        raise DartsError(f"{path}: holds no images; it may have files ending in {', '.join(IMG_EXTENSIONS)}")
    return found


def unreadable(path: str, reason: str) -> DartsError:
    return DartsError(f"{path}: cannot be read as an image ({reason}); repair or remove it")
