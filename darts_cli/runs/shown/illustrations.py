"""The pictures that a report shows: curves and cells, as SVG files beside it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from darts_cli import files
from darts_cli.describe import cell_name
from darts_cli.genotype import Genotype
from darts_cli.pictures.cells.figure import scene
from darts_cli.pictures.cells.svg import file
from darts_cli.pictures.charts import chart, measures
from darts_cli.runs.task import Task
from darts_cli.schema import Config

CURVES = "curves.svg"


def write(folder: Path, curves: Sequence[chart.Chart], cells: Genotype) -> None:
    """Write the curves, and one picture per cell. They follow from the records, so a resumed run writes the same bytes."""
    files.write(folder / CURVES, chart.file(curves))
    for kind, cell in cells.cells.items():
        files.write(folder / f"{kind}.svg", file(scene(cell, cells.macro)))


def markdown(cells: Genotype) -> str:
    """The lines of a report that show them."""
    drawn = "\n\n".join(f"![The {cell_name(kind)}]({kind}.svg)" for kind in cells.cells)
    return f"![The curves over the epochs]({CURVES})\n\n{drawn}"


def charts(task: Task, config: Config, records: Sequence[Mapping]) -> list[chart.Chart]:
    """The charts of a search or a training."""
    if task.stage == "search":
        benchmark = config.benchmark_data if task.domain == "cnn" else None
        return [*measures.charts(task.domain, records, benchmark), *measures.of_search(config.searched, records)]
    return [*measures.charts(task.domain, records), *measures.of_training(records)]
