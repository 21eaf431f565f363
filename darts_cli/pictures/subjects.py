"""From genotypes and runs to pictures: which there are, what they are called, where they go."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from darts_cli import DartsError, files
from darts_cli.describe import state_names, unused
from darts_cli.genotype import Genotype, is_name, load
from darts_cli.pictures import curves
from darts_cli.pictures.cells import Film, NoGraphviz, graph, render, text
from darts_cli.runs.history import History, is_run, read
from darts_cli.spaces import SPACES

FORMATS = ("pdf", "svg", "png", "dot", "text")
OTHERS = ("bmp", "eps", "gif", "htm", "html", "jpeg", "jpg", "ps", "tif", "tiff", "webp")  # endings of files that are none
FRAME, LAST_FRAME = 400, 2500  # milliseconds that a frame of an animation, and its last one, is seen


@dataclass(frozen=True)
class Subject:
    """What a name on the command line stands for: cells by name or file, or those of a run."""

    spelled: str
    stem: str  # what the names of its pictures begin with
    history: History | None  # of a run

    def genotype(self) -> Genotype:
        return load(self.history.folder / "genotype.yaml" if self.history else self.spelled)


def subject(spelled: str) -> Subject:
    """A published genotype, a run folder, or a genotype file; of many runs in one folder its cells.

    Raises DartsError when it is none, or a run without an epoch.
    """
    if not is_name(spelled) and is_run(spelled):
        history = read(spelled)
        return Subject(spelled, history.name, history)
    genotype = load(spelled)
    return Subject(spelled, (is_name(spelled) and genotype.name) or Path(spelled).stem, None)


def kinds(subjects: Sequence[Subject], form: str) -> list[str]:
    """What is shown when nothing is asked for: everything there is in that format; of several runs together their curves."""
    stages = [each.history and each.history.stage for each in subjects]
    if form in ("dot", "text") or not all(stages):
        return ["cells"]
    if len(stages) > 1:
        return ["curves"]
    return ["cells", "animation", "alphas"] if stages == ["search"] else ["cells", "curves"]


class Picture(NamedTuple):
    """A file to be: STEM-PART.SUFFIX, or STEM.SUFFIX when it has no part."""

    stem: str
    part: str
    suffix: str
    content: bytes


def pictures(subjects: Sequence[Subject], kind: str, form: str) -> list[Picture]:
    """The pictures of a kind; animations are GIFs in any format.

    Raises NoGraphviz or NoMatplotlib where that is needed and missing, DartsError where the subjects have no such pictures.
    """
    if kind == "cells":
        return [picture for each in subjects for picture in _cells(each, form)]
    histories = [_history(each, kind) for each in subjects]
    if kind == "page":
        from darts_cli.pictures.replay import page

        if len(histories) != 1:
            raise DartsError(f"--html: shows one search, not {len(histories)}", exit_code=2)
        return [Picture(subjects[0].stem, "", "html", page(histories[0]).encode())]
    if kind == "curves":
        stem = subjects[0].stem if len(subjects) == 1 else f"{len(subjects)}-runs"
        return [Picture(stem, "curves", form, curves.curves(histories, form))]
    found = []
    for each, history in zip(subjects, histories, strict=True):
        for name in SPACES[history.domain].cells:
            if kind == "animation":
                found.append(Picture(each.stem, name, "gif", _animation(history, name)))
            else:
                found.append(Picture(each.stem, f"{name}-alphas", form, curves.alphas(history, name, form)))
    return found


class Drawn(NamedTuple):
    """What came of it."""

    pictures: list[Picture]
    remarks: list[str]  # what the pictures do not say
    missing: list[DartsError]  # programs and libraries without which the rest could not be drawn


def draw(subjects: Sequence[Subject], what: str | None, form: str) -> Drawn:
    """The pictures asked for. Where Graphviz is missing there are the sources of the cells instead, to be drawn elsewhere."""
    drawn = Drawn([], [], [])
    asked = [what] if what else kinds(subjects, form)
    for kind in asked:
        try:
            drawn.pictures.extend(pictures(subjects, kind, form))
        except (NoGraphviz, curves.NoMatplotlib) as error:
            if not any(type(each) is type(error) for each in drawn.missing):
                drawn.missing.append(error)
    if any(isinstance(each, NoGraphviz) for each in drawn.missing):
        drawn.pictures.extend(pictures(subjects, "cells", "dot"))
    if "cells" in asked:
        drawn.remarks.extend(remark for each in subjects for remark in _remarks(each))
    return drawn


def _cells(one: Subject, form: str) -> Iterator[Picture]:
    genotype = one.genotype()
    if form == "text":
        yield Picture(one.stem, "", "txt", text(genotype).encode())
        return
    for name, cell in genotype.cells.items():
        source = graph(cell, genotype.domain)
        yield Picture(one.stem, name, form, source.source.encode() if form == "dot" else render(source, form))


def _history(one: Subject, kind: str) -> History:
    """The history of a run. Raises DartsError when it is none, or not of a stage that has such pictures."""
    asked = "--html" if kind == "page" else f"--what {kind}"
    if one.history is None:
        raise DartsError(f"{one.spelled}: {asked} is for run folders, but this is a genotype; name a run", exit_code=2)
    if kind != "curves" and one.history.stage != "search":
        raise DartsError(
            f"{one.spelled}: {asked} is for searches, but this is a run of darts {one.history.command}; name a search",
            exit_code=2,
        )
    return one.history


def _animation(history: History, name: str) -> bytes:
    """The GIF of a cell, a frame an epoch; nothing in it moves but what the search changed."""
    from concurrent.futures import ThreadPoolExecutor

    from PIL import Image

    genotypes = history.genotypes()
    cells = [genotype.cells[name] for genotype in genotypes]
    film = Film(cells, history.domain)
    titles = [f"{name} cell, epoch {i} of {history.config.epochs}" for i in range(1, len(cells) + 1)]
    with ThreadPoolExecutor(2) as threads:  # each waits for a process
        frames = list(threads.map(lambda cell, title: film.picture("png", cell, title), cells, titles))
    images = [Image.open(io.BytesIO(frame)).convert("RGB").quantize(64) for frame in frames]
    buffer = io.BytesIO()
    durations = [FRAME] * (len(images) - 1) + [LAST_FRAME]
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0)
    return buffer.getvalue()


def _remarks(one: Subject) -> list[str]:
    """What the pictures of the cells do not say by itself."""
    found = []
    genotype = one.genotype()
    for name, cell in genotype.cells.items():
        states = state_names(genotype.domain, len(cell.nodes))
        for i in unused(cell, genotype.domain):
            found.append(f"{one.spelled}: node {states[i]} of the {name} cell is used by nothing that reaches the output")
    return found


# ---- writing


def target(output: str | None, form: str | None, what: str | None) -> tuple[Path, bool, str]:
    """What --output, --format and --what stand for together: a path, whether it is a file, and the format.

    Raises DartsError when they contradict each other.
    """
    path = Path(output or ".")
    ending = path.suffix[1:].lower().replace("txt", "text")
    if form in ("dot", "text") and what not in (None, "cells"):
        raise DartsError(f"--format {form}: only cells are drawn so; of {what} there is pdf, svg and png", exit_code=2)
    if form is not None and what == "animation":
        raise DartsError(f"--format {form}: animations are GIFs; leave it out", exit_code=2)
    if path.is_dir() or ending not in (*FORMATS, *OTHERS):
        return path, False, form or "pdf"
    if what == "animation":
        if ending != "gif":
            raise DartsError(f"--output {output}: animations are GIFs; use the ending .gif", exit_code=2)
        return path, True, form or "pdf"
    if ending not in FORMATS:
        rule = "a GIF needs --what animation" if ending == "gif" else "there are .pdf, .svg, .png, .dot and .txt"
        raise DartsError(f"--output {output}: no format has this ending; {rule}", exit_code=2)
    if form not in (None, ending):
        raise DartsError(f"--output {output}: the ending {path.suffix} contradicts --format {form}; leave one out", exit_code=2)
    return path, True, ending


def write(path: Path, is_file: bool, found: list[Picture]) -> list[Path]:
    """Write the pictures into that folder, or the only one as that file, several as its name with theirs; returns the paths.

    Raises DartsError when two would have one name, or a folder cannot be made or written.
    """
    folder = path.parent if is_file else path
    paths = []
    for picture in found:
        name = "-".join(filter(None, (path.stem if is_file else picture.stem, picture.part))) + f".{picture.suffix}"
        instead = picture.suffix == "dot" != path.suffix[1:].lower()  # the source of what could not be drawn
        paths.append(path if is_file and len(found) == 1 and not instead else folder / name)
        if paths.count(paths[-1]) > 1:
            raise DartsError(f"{paths[-1]}: would be written twice; draw one after another, each with its own --output")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if is_file and (path.is_dir() or not path.name):
            raise IsADirectoryError(21, "Is a directory")
    except OSError as error:
        raise DartsError(f"{path}: cannot be written to ({error.strerror}); name another with --output or --html") from None
    for each, picture in zip(paths, found, strict=True):
        files.write(each, picture.content)
    return paths
