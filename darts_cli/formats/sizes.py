"""The sizes that images are brought to, as --image-size and --resize name them."""

from darts_cli import DartsError

RESIZES = ("squeeze", "crop", "pad")
LEAST_SIDE_PIXELS, MAX_SIDE_PIXELS, SIDE_DIVISOR = 8, 4096, 4  # of images that are held in memory
MAX_PAD_PIXELS = 512


def size_of(text: str) -> tuple[int, int]:
    """Height and width in pixels of a size as --image-size takes it, 64 or 48x64; sides are rounded up to multiples of 4.

    Raises DartsError.
    """
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdigit() and len(side) < 6 for side in sides):
        raise DartsError(f"--image-size {text}: must be a number of pixels, or height x width, such as 64 or 48x64", 2)
    height, width = (divisible(int(side)) for side in (sides * 2)[:2])
    if min(map(int, sides)) < LEAST_SIDE_PIXELS or max(height, width) > MAX_SIDE_PIXELS:
        rule = f"both sides must have {LEAST_SIDE_PIXELS} to {MAX_SIDE_PIXELS:,} pixels"
        raise DartsError(f"--image-size {text}: {rule}", exit_code=2)
    return height, width


def divisible(side: int) -> int:
    """The next side from this one on, in pixels, that a network can halve twice."""
    return -(-side // SIDE_DIVISOR) * SIDE_DIVISOR
