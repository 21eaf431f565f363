"""The trainings of one cell with several seeds as one page: their curves, mean and deviation, the cells, configuration."""

import html
import statistics
from collections.abc import Sequence

from darts_cli.genotype import Genotype
from darts_cli.pictures.charts import many, measures
from darts_cli.pictures.pages import skeleton
from darts_cli.pictures.pages.training import RESULTS, cells
from darts_cli.pictures.repeats import Repeats
from darts_cli.text import counted

READING = "The shaded range is one sample deviation on both sides of the mean of all trainings."


def page(repeats: Repeats, genotype: Genotype) -> str:
    """The page of trainings of these cells, of which at least one has finished."""
    domain, first = repeats.task.domain, next(iter(repeats.runs.values()))
    charts = many.of_repeats(domain, {name: run.records for name, run in repeats.runs.items()})
    repeat = skeleton.repeated_by(repeats.folder)
    about = f"{repeats.folder.resolve().name}: {genotype.name or 'a cell'}, {counted(len(repeats.runs), 'training')} finished"
    note = f"{READING if len(repeats.runs) > 1 else ''}{_others(repeats)}"
    parts = [
        f'<p class="note">{html.escape(note)}</p>' if note else "",
        skeleton.section("result", "Result", skeleton.scrolled("Result", _table(repeats))),
        skeleton.section("metrics", "Metrics", skeleton.figures(charts) + skeleton.numbers(charts)) if charts else "",
        skeleton.section("cells", "Cells", cells(genotype)),
        skeleton.repeat(repeat) if repeat else "",
        skeleton.settings({name: value for name, value in first.config.to_dict().items() if name != "seed"}),
    ]
    return skeleton.page(f"darts {repeats.task} on {first.config.dataset}", about, parts)


def _others(repeats: Repeats) -> str:
    """What is said of trainings that are not shown."""
    return f" Failed or not finished, and not shown: {', '.join(repeats.unfinished)}." if repeats.unfinished else ""


def _table(repeats: Repeats) -> str:
    """The numbers of every training's last epoch, and first their mean and deviation."""
    domain, last = repeats.task.domain, [run.records[-1] for run in repeats.runs.values()]
    columns = [
        (f"{words}: {measure}", f"{part}_{measure}", details)
        for part, words in reversed(RESULTS.items())
        for measure, details in reversed(measures.MEASURES[domain].items())
        if all(f"{part}_{measure}" in record for record in last)
    ]
    head = "".join(f'<th scope="col">{name}</th>' for name, _, _ in columns)
    rows = []
    if len(last) > 1:
        rows.append(("mean ± deviation", [_both([record[key] for record in last], details) for _, key, details in columns]))
    for name, record in zip(repeats.runs, last, strict=True):
        rows.append((name, [measures.shown(record[key], *details) for _, key, details in columns]))
    body = "\n".join(
        f'<tr><th scope="row">{name}</th>' + "".join(f"<td>{value}</td>" for value in values) + "</tr>" for name, values in rows
    )
    return f'<table><thead><tr><th scope="col">training</th>{head}</tr></thead>\n<tbody>{body}</tbody></table>'


def _both(values: Sequence[float], details: tuple) -> str:
    mean, deviation = (measures.shown(f(values), *details) for f in (statistics.mean, statistics.stdev))
    return f"{mean} ± {deviation}"
