"""What report.md of a selection says and shows."""

import importlib
from collections.abc import Sequence
from pathlib import Path

from darts_cli import files
from darts_cli.config import TrainCNN, TrainRNN
from darts_cli.describe import collapsed
from darts_cli.formats import nasbench201
from darts_cli.genotype import Genotype
from darts_cli.pictures.charts import chart, many
from darts_cli.runs import history
from darts_cli.runs.shown import illustrations
from darts_cli.sweeps.ranking import Candidate, Measure, rank, score, spread
from darts_cli.sweeps.sweep import Sweep
from darts_cli.text import duration

TRAININGS = "trainings.svg"


def report(sweep: Sweep, rows: Sequence[Sequence[str]], text: str, winner: Candidate | None, pictures: Sequence[str]) -> str:
    """What report.md says: how the candidates compare in words, the table of them, the winner.

    pictures    the Markdown that shows the short trainings, and that which shows the winner
    """
    of_trainings, of_winner = pictures
    head, *others = rows
    rows = "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *others))
    cells = f"## The winner, {winner.name}\n\n{of_winner}```yaml\n{winner.cells.to_yaml()}```\n\n" if winner else ""
    known = winner and nasbench201.cell_of(winner.cells)
    if known:
        truths = [f"- {dataset}: {nasbench201.in_words(truth)}" for dataset, truth in nasbench201.truth(known).items()]
        cells += (
            "Its true test accuracies, from NAS-Bench-201, which were not used for any choice:\n\n" + "\n".join(truths) + "\n\n"
        )
    if winner and collapsed(winner.cells):
        cells += f"**Warning:** {collapsed(winner.cells)}\n\n"
    return f"""# Selection of cells on {sweep.config.dataset}

{text}

{rows}

{of_trainings}{cells}"""


def illustrate(sweep: Sweep, candidates: Sequence[Candidate], winner: Candidate | None, measure: Measure) -> tuple[str, str]:
    """Write the pictures of the short trainings, of the winner's search and of its cells; returns the Markdown of both."""
    of_trainings = of_winner = ""
    curves = {candidate.name: candidate.curve for candidate in candidates if len(candidate.curve) > 1}
    if curves:
        random = {name for name in curves if name.startswith("random-")}
        drawn = many.of_candidates(sweep.task.domain, measure.name.removeprefix("valid_"), curves, random)
        files.write(sweep.folder / TRAININGS, chart.file([drawn]))
        of_trainings = f"![The short trainings over the epochs]({TRAININGS})\n\n"
    if winner:
        found = history.read(sweep.folder / winner.name)
        illustrations.write(sweep.folder, illustrations.charts(found.task, found.config, found.records), winner.cells)
        of_winner = f"{illustrations.markdown(winner.cells)}\n\n"
    return of_trainings, of_winner


def table_of(
    folder: Path, candidates: Sequence[Candidate], measure: Measure, short: TrainCNN | TrainRNN | None
) -> list[list[str]]:
    """The candidates as a table, the best first, and the random cells among them."""
    head = ["rank", "candidate", "hash", "score", "spread", "parameters", "searched in", "trained in"]
    ranked, show = rank(candidates, measure), measure.show
    rows = []
    for number, candidate in enumerate(ranked, 1):
        values = [show(value(candidate.curve, measure)) for value in (score, spread)] if candidate.curve else ["", ""]
        folders = (folder / name for name in (candidate.name, f"select/{candidate.name}"))
        times = [duration(seconds) if (seconds := history.seconds(run)) else "" for run in folders]
        cells = candidate.cells
        values += [_parameters(cells, short) if cells else "", *times]
        rows.append([str(number) if candidate.curve else "", candidate.name, cells.hash() if cells else "", *values])
        if candidate.failed:
            rows[-1][3] = candidate.failed
    used = [any(row[column] for row in rows) for column in range(len(head))]
    return [[cell for cell, kept in zip(row, used, strict=True) if kept] for row in (head, *rows)]


def _parameters(cells: Genotype, short: TrainCNN | TrainRNN | None) -> str:
    """Those of the network of a short training of convolutional cells, for ten classes."""
    if not isinstance(short, TrainCNN):
        return ""
    sizes = importlib.import_module("darts_cli.cnn.sizes").sizes
    return f"{sizes(cells, short.channels, short.layers, 32)[0]['parameters']:,}"
