"""A search as one page: its cells over the epochs under a slider, metrics, operation weights, configuration."""

import html

from darts_cli.describe import FIGURES, cell_name, state_names
from darts_cli.genotype import Cell, Genotype
from darts_cli.pictures import colours
from darts_cli.pictures.cells.figure import Film, described, edge_name, taken
from darts_cli.pictures.cells.svg import svg
from darts_cli.pictures.charts import measures
from darts_cli.pictures.charts.chart import Chart
from darts_cli.pictures.pages import skeleton
from darts_cli.runs.history import History
from darts_cli.spaces.space import MANY_SKIPS, Space
from darts_cli.text import counted

CONTROLS = """<div class="bar" role="group" aria-label="Epochs">
<button id="play" type="button" aria-keyshortcuts="Space">Play</button>
<input id="slider" type="range" min="1" step="1" value="1" aria-label="Epoch" aria-describedby="keys">
<output id="epoch" for="slider"></output>
</div>
<p id="keys" class="note"><kbd>←</kbd> <kbd>→</kbd> one epoch, <kbd>Home</kbd> <kbd>End</kbd> first and last,
<kbd>Space</kbd> play and pause</p>"""
READING = "Thicker edges have larger operation weights. An operation that the epoch before did not have is outlined."
NEVER_NONE = (
    "The operation none is never taken: a node keeps a fixed number of inputs, so an edge counts by its strongest "
    "operation other than none. The weight of none itself says little: it only scales the sum of a node down, "
    "which the following normalisation undoes (section 2.4 of the paper)."
)
NEVER_NONE_RECURRENT = (
    "The operation none is never taken: a node keeps one input, so an edge counts by its strongest operation "
    "other than none. The weight of none itself says little: it only scales a node's value down (section 2.4 of the paper)."
)


def page(history: History) -> str:
    """The page of a search."""
    charts = charts_of(history)
    title = f"darts {history.command} on {history.config.dataset}"
    about = (
        f"{history.name}: {history.config.order} order, seed {history.config.seed}, "
        f"{len(history.records)} of {counted(history.config.epochs, 'epoch')}"
    )
    ending = history.config.ending(history.records)
    about += f". {ending}" if ending else ""
    pictures = "\n".join(map(_picture, *zip(*_films(history), strict=True)))
    parts = [
        CONTROLS,
        skeleton.section("cells", "Cells", f'<p id="skips" class="note"></p>\n{pictures}\n<p class="note">{READING}</p>'),
        skeleton.section("metrics", "Metrics", skeleton.figures(charts, marker=True) + skeleton.numbers(charts)),
        skeleton.section("weights", "Operation weights", f'{_weights_note(history)}\n<div id="alphas"></div>'),
        skeleton.repeat(history.repeat()),
        skeleton.settings(history.config.to_dict()),
    ]
    return skeleton.page(title, about, parts, _data(history, charts), "search.js")


def charts_of(history: History) -> list[Chart]:
    """The charts of a search: what it measured, how decided it is, and the signs of a collapse."""
    benchmark = history.config.benchmark_data if history.domain == "cnn" else None
    of_parts = measures.charts(history.domain, history.records, benchmark)
    return [*of_parts, *measures.of_search(history.space, history.records)]


def _data(history: History, charts: list[Chart]) -> dict:
    """What the page's script needs: of every epoch the cells, in words too, and the operation weights."""
    space, genotypes = history.space, history.genotypes()
    tables = [_rounded(record["operation_weights"]) for record in history.records]
    shares = {name: history.shares(name) for name in space.cells}
    return {
        "cells": [{"name": name, "title": cell_name(name), "edges": _edges(name, space)} for name in space.cells],
        "shown": [[series.shown for series in chart.series] for chart in charts],
        "first": (history.config.stopped(history.records) or (0, len(genotypes) - 1))[1] + 1,
        "equal": measures.sums_to_one(history.records),
        "largest": max(weight for table in tables for rows in table.values() for row in rows for weight in row),
        "colours": _colours(space),
        "shares": [
            {
                f"{name}-{state}-{node}": round(share, 3)
                for name, found in shares.items()
                for (state, node), share in found[i].items()
            }
            for i in range(len(genotypes))
        ],
        "epochs": [
            {
                "taken": _taken(genotype),
                "words": {name: described(cell, genotype.macro) for name, cell in genotype.cells.items()},
                "weights": weights,
                **_skips(genotype),
            }
            for genotype, weights in zip(genotypes, tables, strict=True)
        ],
    }


def _films(history: History) -> list[tuple[str, list[Cell], str]]:
    genotypes, space = history.genotypes(), history.space
    return [(name, [genotype.cells[name] for genotype in genotypes], space.macro) for name in space.cells]


def _picture(name: str, cells: list[Cell], macro: str) -> str:
    """The SVG of the union of all edges, each with the id that `_edges` gives it."""
    drawn = svg(Film(cells, macro).frame(cells[-1]), f"{name}-", paper=None)
    heading = f"<h3>{html.escape(cell_name(name).capitalize())}</h3>"
    return heading + skeleton.scrolled(f"Drawing of the {cell_name(name)}", drawn, "cells")


def _edges(name: str, space: Space) -> list[dict]:
    """The edges of the search cell, in the order of alpha's rows."""
    states = state_names(space.macro, space.nodes)
    return [
        {"id": f"{name}-{s}-{n}", "title": f"{states[s]} → {states[n]}", "operations": operations}
        for (s, n), operations in zip(space.edges(), space.choices(name), strict=True)
    ]


def _colours(space: Space) -> dict[str, dict[str, str]]:
    """Of every operation: its colour, and that of the text on it."""
    operations = {op for cell in space.cells for row in space.choices(cell) for op in row}
    found = {op: colours.operation(op) for op in sorted(operations)}
    return {op: {"fill": colour, "text": colours.on(colour)} for op, colour in found.items()}


def _taken(genotype: Genotype) -> dict[str, str]:
    """The operation of every edge that is in the cells."""
    return {
        f"{name}-{edge_name(place)}": op
        for name, cell in genotype.cells.items()
        for place, op in taken(cell, genotype.macro).items()
    }


def _rounded(tables: dict[str, list[list[float]]]) -> dict[str, list[list[float]]]:
    return {name: [[round(weight, 4) for weight in row] for row in table] for name, table in tables.items()}


def _skips(genotype: Genotype) -> dict:
    figure = FIGURES[genotype.macro]
    counts = {name: cell.count(figure.identity) for name, cell in genotype.cells.items()}
    shown = ", ".join(f"{count} in {name}" for name, count in counts.items())
    return {"skips": f"{figure.identities}: {shown}", "many": counts.get("normal", counts.get("cell", 0)) >= MANY_SKIPS}


def _weights_note(history: History) -> str:
    """How the bars are to be read, and why `none` is not among what the cells take."""
    space, lines = history.space, ["Coloured bars are what the cells take."]
    if measures.sums_to_one(history.records):
        shares = sorted({100 / len(row) for cell in space.cells for row in space.choices(cell)})
        lines.append(f"The dashed line is where all operations weigh the same: {' or '.join(f'{s:.3g} %' for s in shares)}.")
    lines.append('<span id="scale"></span>')
    if space.keep is not None and "none" in space.operations:
        lines.append(NEVER_NONE_RECURRENT if history.domain == "rnn" else NEVER_NONE)
    return f'<p class="note">{" ".join(lines)}</p>'
