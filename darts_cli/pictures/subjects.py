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
from darts_cli.pictures import candidates, curves, repeats
from darts_cli.pictures.candidates import Selection
from darts_cli.pictures.cells.figure import Film, scene
from darts_cli.pictures.cells.pdf import pdf
from darts_cli.pictures.cells.shapes import Scene
from darts_cli.pictures.cells.svg import file, svg
from darts_cli.pictures.cells.text import dot, text
from darts_cli.pictures.pages import repeats as repeats_page
from darts_cli.pictures.pages import search, sweep, training
from darts_cli.pictures.repeats import Repeats
from darts_cli.runs.history import History, is_run, read

FRAME_MS, LAST_FRAME_MS = 400, 2500  # how long an animation shows a frame, and its last frame


@dataclass(frozen=True)
class Subject:
    """What a name on the command line refers to: a genotype, a run with its history, or a sweep with its runs."""

    spelling: str
    stem: str  # the beginning of its pictures' names
    history: History | None
    read: Genotype | None = None  # where there is no history
    selection: Selection | None = None  # of a sweep over seeds
    repeats: Repeats | None = None  # of repeated trainings, some of which have finished

    @cached_property
    def genotype(self) -> Genotype:
        return self.read or load((self.history or self.selection).folder / "genotype.yaml")

    def has_genotype(self) -> bool:
        """Whether it stands for cells; a sweep that has chosen nothing does not."""
        return self.selection is None or any(candidate.winner for candidate in self.selection.candidates)


class Picture(NamedTuple):
    """The content of a file named STEM-PART.SUFFIX, or STEM.SUFFIX without a part."""

    stem: str
    part: str
    suffix: str
    content: bytes


def subject(spelling: str) -> Subject:
    """A published genotype, one in a file or a text, a run folder, or the folder of a sweep.

    A sweep over seeds has candidates, repeated trainings have curves. One that has not finished stands for its genotype.
    Raises DartsError when it is none of these, or a run without a finished epoch.
    """
    if not is_name(spelling) and candidates.is_selection(spelling):
        selection = candidates.read(spelling)
        return Subject(spelling, selection.folder.resolve().name, None, selection=selection)
    if not is_name(spelling) and is_run(spelling):
        history = read(spelling)
        return Subject(spelling, history.name, history)
    genotype = load(spelling)
    if not is_name(spelling) and repeats.is_repeats(spelling):
        found = repeats.read(spelling)
        return Subject(spelling, found.folder.resolve().name, None, genotype, repeats=found if found.runs else None)
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
    if len(subjects) == 1 and subjects[0].selection and form not in ("dot", "text"):
        return [*(["cells"] if subjects[0].has_genotype() else []), "candidates"]
    if len(subjects) == 1 and subjects[0].repeats and form not in ("dot", "text"):
        return ["cells", "curves"]
    stages = [subject.history and subject.history.stage for subject in subjects]
    if form in ("dot", "text") or not all(stages):
        return ["cells"]
    if len(stages) > 1:
        return ["curves"]
    return ["cells", "animation", "alphas"] if stages == ["search"] else ["cells", "curves"]


def pictures(subjects: Sequence[Subject], kind: str, form: str) -> list[Picture]:
    """The pictures of a kind: cells, candidates, animation, alphas, curves or page. Animations are GIFs in any format.

    Raises NoMatplotlib where that is missing, DartsError where the subjects have no such pictures.
    """
    if kind == "cells":
        return [picture for subject in subjects for picture in _cells(subject, form)]
    if kind == "candidates":
        return [picture for subject in subjects for picture in _candidates(subject, form)]
    if kind == "page":
        return [Picture(subjects[0].stem, "", "html", _page(subjects).encode())]
    if kind == "curves":
        histories = [history for subject in subjects for history in _trainings(subject)]
        stem = subjects[0].stem if len(subjects) == 1 else f"{len(subjects)}-runs"
        return [Picture(stem, "curves", form, curves.curves(histories, form))]
    for subject in subjects:
        _history(subject, kind)
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
    return dot(cell, macro).encode() if form == "dot" else _drawn(scene(cell, macro), form)


def _drawn(picture: Scene, form: str) -> bytes:
    """A picture as "pdf", "svg" or "png"."""
    if form == "png":
        from darts_cli.pictures.cells.raster import png

        return png(picture)
    return {"pdf": pdf, "svg": file}[form](picture)


def _candidates(subject: Subject, form: str) -> list[Picture]:
    """One picture per kind of cell, with all candidates of a sweep."""
    if subject.selection is None:
        message = (
            f"{subject.spelling}: --what candidates is for the folders of darts search --seeds; name one that has finished"
        )
        raise DartsError(message, exit_code=2)
    kinds = subject.selection.kinds()
    return [
        Picture(subject.stem, f"{kind}-candidates", form, _drawn(candidates.picture(subject.selection, kind), form))
        for kind in kinds
    ]


def _page(subjects: Sequence[Subject]) -> str:
    """The page of one run or sweep."""
    if len(subjects) != 1:
        raise DartsError(f"--html: shows one run or sweep, not {len(subjects)}", exit_code=2)
    (only,) = subjects
    if only.selection:
        return sweep.page(only.selection)
    if only.repeats:
        return repeats_page.page(only.repeats, only.genotype)
    history = _history(only, "page")
    return search.page(history) if history.stage == "search" else training.page(history, only.genotype)


def _trainings(subject: Subject) -> list[History]:
    """The runs whose curves a subject has."""
    return list(subject.repeats.runs.values()) if subject.repeats else [_history(subject, "curves")]


def _history(subject: Subject, kind: str) -> History:
    """The history of a run. Raises DartsError for a genotype, or for a run without such pictures."""
    option = "--html" if kind == "page" else f"--what {kind}"
    if subject.history is None:
        what = "a sweep" if subject.selection or subject.repeats else "a genotype"
        raise DartsError(f"{subject.spelling}: {option} is for run folders, but this is {what}; name a run", exit_code=2)
    if kind not in ("curves", "page") and subject.history.stage != "search":
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
