"""The candidates of a sweep, as selection.yaml in its folder tells them: cells, scores, and which are random."""

import math
from dataclasses import dataclass
from pathlib import Path

from darts_cli import DartsError, files
from darts_cli.describe import cell_name
from darts_cli.genotype import Genotype
from darts_cli.pictures.cells.figure import scene
from darts_cli.pictures.cells.shapes import Scene
from darts_cli.pictures.cells.sheet import greyed, sheet
from darts_cli.spaces.rules import genotype_problems

FORMS = {"valid_accuracy": "{:.2%}", "valid_perplexity": "{:.2f}"}  # how the scores of a measure are printed
MAX_BYTES = 1 << 26  # of a selection: thousands of candidates with long curves


@dataclass(frozen=True)
class Candidate:
    """Cells with their score, and the curve that it comes from; or why there is none."""

    name: str
    seed: int
    cells: Genotype | None
    score: str | None  # as it is printed
    spread: str | None
    curve: tuple[float, ...]
    failed: str | None
    random: bool
    winner: bool

    @property
    def heading(self) -> str:
        return f"{self.name}{', the winner' if self.winner else ''}{f': {self.score}' if self.score else ''}"


@dataclass(frozen=True)
class Selection:
    """What a sweep over seeds has found; the candidates by rank, then the random cells."""

    folder: Path
    domain: str
    measure: str | None
    rule: str | None
    remarks: tuple[str, ...]
    candidates: tuple[Candidate, ...]

    def drawn(self) -> list[Candidate]:
        """The candidates that have cells."""
        return [candidate for candidate in self.candidates if candidate.cells]

    def kinds(self) -> list[str]:
        return list(self.drawn()[0].cells.cells)


def is_selection(folder: str | Path) -> bool:
    """Whether this is the folder of a sweep over seeds that has compared its candidates."""
    return files.is_file(Path(folder) / "selection.yaml")


def read(folder: str | Path) -> Selection:
    """The selection in a folder. Raises DartsError, naming the file, when it is damaged."""
    path = Path(folder) / "selection.yaml"
    data = files.parse_yaml(files.read_text(path, MAX_BYTES), path)
    try:
        protocol = data["protocol"] or {}
        measure = protocol.get("measure")
        if measure is not None and measure not in FORMS:
            raise ValueError("its measure")
        entries = [(entry, False) for entry in data["candidates"]] + [(entry, True) for entry in data["random_cells"]]
        found = tuple(_candidate(entry, random, measure, data["winner"]) for entry, random in entries)
        remarks = tuple(map(str, data.get("remarks") or ()))
        selection = Selection(Path(folder), str(data["domain"]), measure, protocol.get("rule"), remarks, found)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DartsError(f"{path}: is not the selection of a sweep ({error}); repeat its command to write it again") from None
    if not selection.drawn():
        raise DartsError(f"{path}: names no cells to draw")
    return selection


def picture(selection: Selection, kind: str) -> Scene:
    """All candidates' cells of a kind side by side, with their scores; random cells in grey."""
    drawn = [(candidate.heading, _scene(candidate, kind)) for candidate in selection.drawn() if kind in candidate.cells.cells]
    made = sheet(drawn, 2 if len(drawn) <= 8 else 3)
    return made._replace(description=f"Candidates, {cell_name(kind)}. {made.description}")


def _scene(candidate: Candidate, kind: str) -> Scene:
    made = scene(candidate.cells.cells[kind], candidate.cells.macro)
    return greyed(made) if candidate.random else made


def _candidate(entry: dict, random: bool, measure: str | None, winner: str | None) -> Candidate:
    cells = entry.get("genotype")
    if cells is not None and genotype_problems(cells):
        raise ValueError(f"{entry['name']}: {genotype_problems(cells)[0]}")
    form = FORMS.get(measure, "{}")
    score, spread = entry.get("score"), entry.get("spread")
    curve = tuple(map(float, entry.get(measure) or ()))
    if not all(map(math.isfinite, (*curve, score or 0.0, spread or 0.0))):
        raise ValueError(f"{entry['name']}: a score that is no number")
    return Candidate(
        str(entry["name"]),
        int(entry["seed"]),
        cells and Genotype.from_dict(cells),
        None if score is None else form.format(score),
        None if spread is None else form.format(spread),
        curve,
        entry.get("failed") and str(entry["failed"]),
        random,
        not random and entry["name"] == winner,
    )
