"""A training as one page: its curves, its result, the cells, configuration."""

import html

from darts_cli.describe import cell_name
from darts_cli.genotype import Genotype
from darts_cli.pictures.cells.figure import scene
from darts_cli.pictures.cells.svg import svg
from darts_cli.pictures.charts import measures
from darts_cli.pictures.pages import skeleton
from darts_cli.runs.history import MEASURES, History
from darts_cli.text import counted

RESULTS = {
    "train": "training, last epoch",
    "valid": "validation, last epoch",
    "test": "test",
    "best_test": "test, best epoch on the validation part",
}


def page(history: History, genotype: Genotype) -> str:
    """The page of a training of these cells."""
    charts = [*measures.charts(history.domain, history.records), *measures.of_training(history.records)]
    title = f"darts {history.command} on {history.config.dataset}"
    epochs = f"{len(history.records)} of {counted(history.config.epochs, 'epoch')}"
    about = f"{history.name}: {genotype.name or 'a cell'}, seed {history.config.seed}, {epochs}"
    parts = [
        skeleton.section("metrics", "Metrics", skeleton.figures(charts) + skeleton.numbers(charts)) if charts else "",
        skeleton.section("result", "Result", _result(history)),
        skeleton.section("cells", "Cells", cells(genotype)),
        skeleton.repeat(history.repeat()),
        skeleton.settings(history.config.to_dict()),
    ]
    return skeleton.page(title, about, parts)


def cells(genotype: Genotype, prefix: str = "", heading: str = "h3") -> str:
    """The cells of a genotype, each with its heading; the prefix begins all ids."""
    return "\n".join(
        f"<{heading}>{html.escape(cell_name(name).capitalize())}</{heading}>"
        + skeleton.scrolled(
            f"Drawing of the {cell_name(name)}", svg(scene(cell, genotype.macro), f"{prefix}{name}-", paper=None), "cells"
        )
        for name, cell in genotype.cells.items()
    )


def _result(history: History) -> str:
    """The numbers of the last epoch, and those of the test part where they were computed."""
    last, names = history.records[-1], MEASURES[history.domain]
    details = measures.MEASURES[history.domain]
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    rows = "\n".join(
        f'<tr><th scope="row">{words}</th>'
        + "".join(f"<td>{measures.shown(last[f'{part}_{name}'], *details[name])}</td>" for name in names)
        + "</tr>"
        for part, words in RESULTS.items()
        if all(f"{part}_{name}" in last for name in names)
    )
    return f'<table><thead><tr><th scope="col">part</th>{head}</tr></thead>\n<tbody>{rows}</tbody></table>'
