"""The commands `darts data check` and `darts data show`."""

import io
import json
import sys
from pathlib import Path

import click

from darts_cli import DartsError
from darts_cli.commands.completion import DIR
from darts_cli.commands.options import option
from darts_cli.config import IMAGES
from darts_cli.formats.sizes import MAX_PAD_PIXELS, RESIZES, size_of
from darts_cli.settings.shared import TOKENS
from darts_cli.text import harmless, hint, printable

NAMED = [name for name in IMAGES if name != "folder"]
_SIZE = option("--image-size", metavar="N|HxW", show_default="as a training chooses it", help="Size of a folder's images.")
_TOKENS = option("--tokens", type=click.Choice(TOKENS), default="words", show_default=True, help="What a text is read by.")
_RESIZE = option("--resize", type=click.Choice(RESIZES), default=RESIZES[0], show_default=True, help="How images are fitted.")


@click.group("data")
def data():
    """Look at a data set before a search or a training."""


@data.command("check")
@click.argument("place", metavar="DIR|FILE|NAME", type=DIR)
@_SIZE
@_RESIZE
@_TOKENS
@option("--json", "as_json", is_flag=True, help="Print JSON.")
def check_command(place, image_size, resize, tokens, as_json):
    """Say what the program makes of a folder of images, of a text, or of a data set by its name.

    Of images: parts, classes, sizes, modes, mean and deviation; on stderr what to look at: unreadable files, files left out,
    uneven classes, images in the training and the test part. The exit code is 1 where a file cannot be read.

    Of a text: parts, lines, words and vocabulary; on stderr words that the training text lacks, lines in two parts, and lines
    without spaces.

    \b
    Example: darts data check photos
    """
    if _is_text(place, tokens):
        from darts_cli.use import corpora

        found = corpora.check(place, tokens)
        words = corpora.described(found)
    else:
        from darts_cli.use.data import check, check_named, described

        found = check(Path(place), _fit(image_size, resize)) if _is_folder(place) else check_named(place)
        words = described(found)
    click.echo(json.dumps(found) if as_json else harmless(words))
    if not as_json:
        for warning in found["warnings"]:
            hint(f"warning: {warning}")
    if any(part.get("unreadable") for part in found["parts"].values()):
        sys.exit(1)


@data.command("show")
@click.argument("place", metavar="DIR|FILE|NAME", type=DIR)
@_SIZE
@_RESIZE
@_TOKENS
@option("--flip/--no-flip", default=None, show_default="as in a training", help="Mirror half of the images, left to right.")
@option(
    "--pad",
    type=click.IntRange(0, MAX_PAD_PIXELS),
    show_default="an eighth of the shorter side",
    help="Pixels of zeros around an image before a crop.",
)
@option("--cutout", type=click.IntRange(0), show_default="as in a training", help="Cutout size in pixels.")
@option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the augmentation.")
@option("--output", "-o", metavar="FILE", show_default="data.png", help="PNG file to write.")
def show_command(place, image_size, resize, tokens, flip, pad, cutout, seed, output):
    """Write a sheet of augmented images, as a training sees them, or print the first lines of a text.

    Each of the first ten classes has a row: an image as it is, then seven that were cropped, mirrored and cut out.

    \b
    Example: darts data show digits --output digits.png
    """
    if _is_text(place, tokens):
        from darts_cli.use.corpora import shown

        if output is not None:
            raise DartsError(f"--output {output}: the lines of a text are printed; leave it out", exit_code=2)
        click.echo(harmless(shown(place, tokens)))
        return
    path = Path("data.png" if output is None else output)
    if path.suffix.lower() != ".png":
        name = path.with_suffix(".png") if path.name else "data.png"
        raise DartsError(f"--output {output}: the sheet is a PNG file; name it {name}", exit_code=2)
    from PIL import Image

    from darts_cli import files
    from darts_cli.config import TrainCNN
    from darts_cli.use.data import opened, sheet

    is_folder, fit = _is_folder(place), _fit(image_size, resize)
    usual = TrainCNN(dataset="folder" if is_folder else place, data=place)
    flips = usual.flip if flip is None else flip
    dataset = opened(place, is_folder, fit)._replace(flip=flips, pad=pad)
    picture = sheet(dataset, usual.cutout if cutout is None else cutout, seed)
    png = io.BytesIO()
    Image.fromarray(picture.numpy()).save(png, "PNG")
    files.write(path, png.getbuffer())
    click.echo(printable(str(path)))


def _fit(image_size, resize):
    from darts_cli.formats.fitting import Fit

    return Fit(None if image_size is None else size_of(image_size), resize)


def _is_text(place, tokens):
    """Whether this is a text. Raises DartsError where images are to be read by characters."""
    from darts_cli.use.corpora import is_text

    if is_text(place):
        return True
    if tokens != "words":
        raise DartsError(f"--tokens {tokens}: {place} holds no text", exit_code=2)
    return False


def _is_folder(place):
    """Whether this is a folder of images, and not the name of a data set. Raises DartsError where it is neither."""
    if Path(place).is_dir() or place not in NAMED:
        if not Path(place).exists():
            raise DartsError(f"{place}: no such folder, and no data set of this name; there are {', '.join([*NAMED, 'pydoc'])}")
        return True
    return False
