"""What `darts visualize` does: from names and options to files, or to text for the terminal."""

from pathlib import Path
from typing import NamedTuple

from darts_cli import DartsError, files
from darts_cli.pictures.curves import NoMatplotlib
from darts_cli.pictures.subjects import Picture, kinds, pictures, remarks, subject

FORMATS = ("pdf", "svg", "png", "dot", "text")
UNSUPPORTED = ("bmp", "eps", "gif", "htm", "html", "jpeg", "jpg", "ps", "tif", "tiff", "webp")  # endings of files, not folders


class Drawing(NamedTuple):
    """What was drawn."""

    paths: list[Path]  # the files that were written
    text: str  # for the terminal
    remarks: list[str]  # what the pictures do not say
    missing: list[DartsError]  # libraries without which the rest could not be drawn


def draw(spellings, what: str | None, form: str | None, output: str | None, html: str | None) -> Drawing:
    """Draw genotypes and runs, with the options of `darts visualize`. Raises DartsError."""
    if html is not None and (what, form, output) != (None, None, None):
        raise DartsError("--html: the page has its own form; leave --what, --format and --output out", exit_code=2)
    subjects = [subject(spelling) for spelling in spellings]
    path, is_file, form = (Path(html), True, "svg") if html is not None else _target(output, form, what)
    chosen = ["page"] if html is not None else [what] if what else kinds(subjects, form)
    drawn, missing = [], []
    for kind in chosen:
        try:
            drawn += pictures(subjects, kind, form)
        except NoMatplotlib as error:
            missing += [] if str(error) in map(str, missing) else [error]
    notes = [remark for s in subjects for remark in remarks(s)] if "cells" in chosen else []
    if form == "text" and output is None:
        return Drawing([], "\n".join(picture.content.decode() for picture in drawn), notes, missing)
    return Drawing(_write(path, is_file, drawn), "", notes, missing)


def _target(output: str | None, form: str | None, what: str | None) -> tuple[Path, bool, str]:
    """Where --output, --format and --what send the pictures: a path, whether it is a file, and the format.

    Raises DartsError when the options contradict each other.
    """
    path = Path(output or ".")
    ending = path.suffix[1:].lower().replace("txt", "text")
    if form in ("dot", "text") and what not in (None, "cells"):
        raise DartsError(f"--format {form}: only cells are drawn like this; for {what} use pdf, svg or png", exit_code=2)
    if form is not None and what == "animation":
        raise DartsError(f"--format {form}: animations are GIFs; leave it out", exit_code=2)
    if path.is_dir() or ending not in (*FORMATS, *UNSUPPORTED):
        return path, False, form or "pdf"
    if what == "animation":
        if ending != "gif":
            raise DartsError(f"--output {output}: animations are GIFs; use the ending .gif", exit_code=2)
        return path, True, form or "pdf"
    if ending not in FORMATS:
        rule = "a GIF needs --what animation" if ending == "gif" else "use .pdf, .svg, .png, .dot or .txt"
        raise DartsError(f"--output {output}: no format has this ending; {rule}", exit_code=2)
    if form not in (None, ending):
        raise DartsError(f"--output {output}: the ending {path.suffix} contradicts --format {form}; leave one out", exit_code=2)
    return path, True, ending


def _write(path: Path, is_file: bool, drawn: list[Picture]) -> list[Path]:
    """Write the pictures into a folder; or a single one to a file, and several to files that begin like it. Returns the paths.

    Raises DartsError when two would have the same name, or when the folder cannot be written to.
    """
    folder = path.parent if is_file else path
    paths = []
    for picture in drawn:
        name = "-".join(filter(None, (path.stem if is_file else picture.stem, picture.part))) + f".{picture.suffix}"
        paths.append(path if is_file and len(drawn) == 1 else folder / name)
        if paths.count(paths[-1]) > 1:
            raise DartsError(f"{paths[-1]}: would be written twice; draw one after another, with different --output")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if is_file and (path.is_dir() or not path.name):
            raise IsADirectoryError(21, "Is a directory")
    except OSError as error:
        raise DartsError(f"{path}: cannot be written to ({error.strerror}); name another with --output or --html") from None
    for target, picture in zip(paths, drawn, strict=True):
        files.write(target, picture.content)
    return paths
