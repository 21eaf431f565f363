"""One size for images of many: which size, and how an image is brought to it."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from darts_cli import DartsError
from darts_cli.formats.sizes import LEAST_SIDE_PIXELS, MAX_SIDE_PIXELS, divisible
from darts_cli.text import counted

Size = tuple[int, int]  # height and width, in pixels
SIDE_PIXELS = 64  # of the square that photographs of many sizes become
LARGE_PIXELS = 256  # a longer side makes a search or a training slow
_DONE = {"squeeze": "squeezed", "crop": "cropped", "pad": "padded"}


class Fit(NamedTuple):
    """How images are brought to one size."""

    size: Size | None = None  # None: `chosen` from the images
    resize: str = "squeeze"


CHOSEN = Fit()  # unless something else is asked for


def chosen(sizes: Sequence[Size], wanted: Size | None = None) -> tuple[Size, str]:
    """The size to bring images of these sizes to, with sides divisible by 4, and the reason for it in words.

    Without a wanted size it is the most common one, if at least half of the images have it. Otherwise it is a square of 64
    pixels, or less where most images are smaller. Raises DartsError where the images are too small or too large.
    """
    if wanted is not None:
        return wanted, "the size of --image-size"
    size, count = Counter(sizes).most_common(1)[0]
    if 2 * count >= len(sizes):
        if min(size) < LEAST_SIDE_PIXELS or max(map(divisible, size)) > MAX_SIDE_PIXELS:
            rule = f"sides must have {LEAST_SIDE_PIXELS} to {MAX_SIDE_PIXELS:,} pixels"
            raise DartsError(f"most images are {shown(size)} pixels; {rule}: choose a size with --image-size, such as 64")
        even = divisible(size[0]), divisible(size[1])
        return even, "the most common size" if even == size else "the most common size, made divisible by 4"
    middle = sorted(min(size) for size in sizes)[len(sizes) // 2]
    side = max(LEAST_SIDE_PIXELS, min(SIDE_PIXELS, divisible(middle)))
    return (side, side), "the default for images of many sizes"


def fitted(image: Tensor, size: Sequence[int], resize: str = "squeeze") -> Tensor:
    """An image (C, H, W) of that height and width.

    squeeze   scaled in both directions, each by its own factor
    crop      scaled until it covers the size, then cropped in the middle
    pad       scaled until the size covers it, then padded evenly with black
    """
    from torchvision.transforms import v2

    height, width = size
    if tuple(image.shape[1:]) == (height, width):
        return image
    if resize == "squeeze":
        return v2.functional.resize(image, [height, width], antialias=True)
    ratios = height / image.shape[1], width / image.shape[2]
    ratio = max(ratios) if resize == "crop" else min(ratios)
    sides = [max(1, round(ratio * side)) for side in image.shape[1:]]
    image = v2.functional.resize(image, sides, antialias=True)
    if resize == "crop":
        return v2.functional.center_crop(image, [height, width])
    black = min(0.0, float(image.min()))  # real numbers may be negative
    top, left = (height - sides[0]) // 2, (width - sides[1]) // 2
    return F.pad(image, (left, width - sides[1] - left, top, height - sides[0] - top), value=black)


def notes(sizes: Sequence[Size], size: Size, reason: str, resize: str) -> list[str]:
    """What should be said of images of these sizes, which are brought to one."""
    others = [each for each in sizes if each != size]
    said = []
    if others:
        kinds = sorted(set(others), key=lambda each: (each[0] * each[1], each))
        between = shown(kinds[0]) if len(kinds) == 1 else f"{len(kinds):,} sizes, {shown(kinds[0])} to {shown(kinds[-1])}"
        said.append(
            f"{len(others):,} of {counted(len(sizes), 'image')} (of {between}) {'is' if len(others) == 1 else 'are'} "
            f"{_DONE[resize]} to {shown(size)} pixels, height x width, {reason}; --image-size and --resize choose otherwise"
        )
    if max(size) > LARGE_PIXELS:
        said.append(f"images of {shown(size)} pixels make every step slow; a smaller --image-size, such as 64, is faster")
    return said


def shown(size: Sequence[int]) -> str:
    """A size as --image-size takes it: height x width."""
    return "x".join(map(str, size))
