"""The pictures of genotypes and runs: which there are, and what is in each."""

import io
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from darts_cli import DartsError
from darts_cli.describe import cell_name, state_names, unused
from darts_cli.formats.genotypes import load
from darts_cli.genotype import Cell, Genotype, is_name
from darts_cli.pictures import curves
from darts_cli.pictures.cells.figure import Film, scene
from darts_cli.pictures.cells.pdf import pdf
from darts_cli.pictures.cells.svg import file, svg
from darts_cli.pictures.cells.text import dot, text
from darts_cli.pictures.pages.search import page
from darts_cli.runs.history import History, is_run, read

FRAME_MS, LAST_FRAME_MS = 400, 2500  # how long an animation shows a frame, and its last frame


@dataclass(frozen=True)
class Subject:
    """What a name on the command line refers to: a genotype, or a run with its history."""

    spelling: str
    stem: str  # the beginning of its pictures' names
    history: History | None
    read: Genotype | None = None  # where there is no history

    @cached_property
    def genotype(self) -> Genotype:
        return self.read or load(self.history.folder / "genotype.yaml")


class Picture(NamedTuple):
    """The content of a file named STEM-PART.SUFFIX, or STEM.SUFFIX without a part."""

    stem: str
    part: str
    suffix: str
    content: bytes


def subject(spelling: str) -> Subject:
    """A published genotype, one in a file or a text, or a run folder; the folder of a sweep stands for its genotype.

    Raises DartsError when it is none of these, or a run without a finished epoch.
    """
    if not is_name(spelling) and is_run(spelling):
        history = read(spelling)
        return Subject(spelling, history.name, history)
    genotype = load(spelling)
    named = is_name(spelling) or not os.path.lexists(spelling)  # published, FILE:NAME, or a text
    stem = re.sub(r"[^\w.-]+", "-", genotype.name or "genotype") if named else Path(spelling).stem
    return Subject(spelling, stem, None, genotype)


def notebook(genotype: Genotype) -> str:
    """The cells of a genotype in one SVG, one below the other."""
    scenes = {name: scene(cell, genotype.macro) for name, cell in genotype.cells.items()}
    tops, height = {}, 0.0
    for name, drawn in scenes.items():
        tops[name] = height
        height += drawn.height
    inner = "".join(svg(drawn, f"{name}-", attributes=f' y="{tops[name]:.0f}"') for name, drawn in scenes.items())
    width = max(drawn.width for drawn in scenes.values())
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}">{inner}</svg>'


def kinds(subjects: Sequence[Subject], form: str) -> list[str]:
    """The kinds of pictures to draw by default: all that the format allows; of several runs their curves."""
    stages = [subject.history and subject.history.stage for subject in subjects]
    if form in ("dot", "text") or not all(stages):
        return ["cells"]
    if len(stages) > 1:
        return ["curves"]
    return ["cells", "animation", "alphas"] if stages == ["search"] else ["cells", "curves"]


def pictures(subjects: Sequence[Subject], kind: str, form: str) -> list[Picture]:
    """The pictures of a kind: cells, animation, alphas, curves or page. Animations are GIFs in any format.

    Raises NoMatplotlib where that is missing, DartsError where the subjects have no such pictures.
    """
    if kind == "cells":
        return [picture for subject in subjects for picture in _cells(subject, form)]
    histories = [_history(subject, kind) for subject in subjects]
    if kind == "page":
        if len(histories) != 1:
            raise DartsError(f"--html: shows one search, not {len(histories)}", exit_code=2)
        return [Picture(subjects[0].stem, "", "html", page(histories[0]).encode())]
    if kind == "curves":
        stem = subjects[0].stem if len(subjects) == 1 else f"{len(subjects)}-runs"
        return [Picture(stem, "curves", form, curves.curves(histories, form))]
    if kind == "animation":
        return [
            Picture(subject.stem, name, "gif", _animation(subject.history, name))
            for subject in subjects
            for name in subject.genotype.cells
        ]
    return [
        Picture(subject.stem, f"{name}-alphas", form, curves.alphas(subject.history, name, form))
        for subject in subjects
        for name in subject.genotype.cells
    ]


def remarks(subject: Subject) -> Iterator[str]:
    """What the pictures of the cells do not say."""
    genotype = subject.genotype
    for name, cell in genotype.cells.items():
        states = state_names(genotype.macro, len(cell.nodes))
        for state in unused(cell, genotype.macro):
            yield f"{subject.spelling}: node {states[state]} of the {cell_name(name)} has no path to the output"


def _cells(subject: Subject, form: str) -> Iterator[Picture]:
    if form == "text":
        yield Picture(subject.stem, "", "txt", text(subject.genotype).encode())
        return
    for name, cell in subject.genotype.cells.items():
        yield Picture(subject.stem, name, form, _cell(cell, subject.genotype.macro, form))


def _cell(cell: Cell, macro: str, form: str) -> bytes:
    """The picture of a cell in a format."""
    if form == "dot":
        return dot(cell, macro).encode()
    if form == "png":
        from darts_cli.pictures.cells.raster import png

        return png(scene(cell, macro))
    return {"pdf": pdf, "svg": file}[form](scene(cell, macro))


def _history(subject: Subject, kind: str) -> History:
    """The history of a run. Raises DartsError for a genotype, or for a run without such pictures."""
    option = "--html" if kind == "page" else f"--what {kind}"
    if subject.history is None:
        raise DartsError(f"{subject.spelling}: {option} is for run folders, but this is a genotype; name a run", exit_code=2)
    if kind != "curves" and subject.history.stage != "search":
        command = subject.history.command
        raise DartsError(
            f"{subject.spelling}: {option} is for searches, but this is a run of darts {command}; name a search", exit_code=2
        )
    return subject.history


def _animation(history: History, name: str) -> bytes:
    """The GIF of a cell, one frame per epoch; only what the search changed moves."""
    from darts_cli.pictures.cells.raster import image

    cells = [genotype.cells[name] for genotype in history.genotypes()]
    film, shares = Film(cells, history.space.macro), history.shares(name)
    frames = []
    for i, cell in enumerate(cells):
        title = f"{cell_name(name)}, epoch {i + 1} of {history.config.epochs}"
        frames.append(image(film.frame(cell, cells[i - 1] if i else None, shares[i], title)).quantize(64))
    buffer = io.BytesIO()
    durations = [FRAME_MS] * (len(frames) - 1) + [LAST_FRAME_MS]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    return buffer.getvalue()
