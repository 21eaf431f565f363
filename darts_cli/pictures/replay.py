"""A search as one self-contained HTML page: the cells over the epochs under a slider, alphas, metrics, configuration."""

import html
import json
import re
from pathlib import Path

from darts_cli.describe import FIGURES, cell_name, state_names
from darts_cli.genotype import Cell, Genotype
from darts_cli.pictures import colours
from darts_cli.pictures.cells.figure import Film, edge_name, taken
from darts_cli.pictures.cells.svg import svg
from darts_cli.runs.history import History
from darts_cli.spaces.space import MANY_SKIPS, Space

MEASURES = {"cnn": {"loss": "{:.3f}", "accuracy": "{:.1%}"}, "rnn": {"loss": "{:.3f}", "perplexity": "{:.2f}"}}


def page(history: History) -> str:
    """The page of a search."""
    genotypes = history.genotypes()
    space = history.space
    pictures = [_picture(name, [genotype.cells[name] for genotype in genotypes], space.macro) for name in space.cells]
    shares = {name: history.shares(name) for name in space.cells}
    weights = [_weights(record) for record in history.records]
    title = f"darts {history.command} on {history.config.dataset}"
    data = {
        "about": f"{history.name}: {history.config.order} order, seed {history.config.seed}, "
        f"{len(genotypes)} of {history.config.epochs} epochs",
        "repeat": history.repeat(),
        "settings": {name: _shown(value) for name, value in history.config.to_dict().items()},
        "cells": [{"name": name, "edges": _edges(name, space)} for name in space.cells],
        "charts": [*(_chart(history, measure, form) for measure, form in MEASURES[history.domain].items()), *_signs(history)],
        "largest": max(weight for tables in weights for table in tables.values() for row in table for weight in row),
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
            {"taken": _taken(genotype), "weights": tables, **_skips(genotype)}
            for genotype, tables in zip(genotypes, weights, strict=True)
        ],
    }
    parts = {
        "curves": _curve_colours(),
        "title": html.escape(title),
        "cells": "\n".join(pictures),
        "run": json.dumps(data, allow_nan=False).replace("<", "\\u003c"),  # so that no text can end the script
    }
    template = Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
    return re.sub("<!--(title|cells|run)-->|/\\*(curves)\\*/", lambda match: parts[match[1] or match[2]], template)


def _picture(name: str, cells: list[Cell], macro: str) -> str:
    """The SVG of the union of all edges, each with the id that `_edges` gives it."""
    return svg(Film(cells, macro).frame(cells[-1], title=cell_name(name)), f"{name}-", paper=None)


def _edges(name: str, space: Space) -> list[dict]:
    """The edges of the search cell, in the order of alpha's rows."""
    states = state_names(space.macro, space.nodes)
    return [
        {"id": f"{name}-{s}-{n}", "node": n, "title": f"{states[s]} → {states[n]}", "operations": operations}
        for (s, n), operations in zip(space.edges(), space.choices(name), strict=True)
    ]


def _colours(space: Space) -> dict[str, dict[str, str]]:
    """Of every operation: its colour, that of the text on it, and that of its edges on a dark page."""
    operations = {op for cell in space.cells for row in space.choices(cell) for op in row}
    found = {op: colours.operation(op) for op in sorted(operations)}
    return {op: {"fill": colour, "text": colours.on(colour), "night": colours.at_night(colour)} for op, colour in found.items()}


def _curve_colours() -> str:
    """CSS variables with the colours of the curves, and those for dark pages."""
    day = "".join(f" --{part}: {colour};" for part, colour in colours.PARTS.items())
    night = "".join(f" --{part}: {colours.at_night(colour)};" for part, colour in colours.PARTS.items())
    return f":root {{{day} }}\n  @media (prefers-color-scheme: dark) {{ :root {{{night} }} }}"


def _taken(genotype: Genotype) -> dict[str, str]:
    """The operation of every edge that is in the cells."""
    return {
        f"{name}-{edge_name(place)}": op
        for name, cell in genotype.cells.items()
        for place, op in taken(cell, genotype.macro).items()
    }


def _weights(record: dict) -> dict[str, list[list[float]]]:
    tables = record["operation_weights"]
    return {name: [[round(weight, 4) for weight in row] for row in table] for name, table in tables.items()}


def _skips(genotype: Genotype) -> dict:
    figure = FIGURES[genotype.macro]
    counts = {name: cell.count(figure.identity) for name, cell in genotype.cells.items()}
    shown = ", ".join(f"{count} in {name}" for name, count in counts.items())
    return {"skips": f"{figure.identities}: {shown}", "many": counts.get("normal", counts.get("cell", 0)) >= MANY_SKIPS}


def _chart(history: History, measure: str, form: str) -> dict:
    series = []
    for part in ("train", "valid", "discrete"):
        if any(f"{part}_{measure}" not in record for record in history.records):
            continue
        values = [record[f"{part}_{measure}"] for record in history.records]
        shown = [form.format(value) for value in values]
        series.append({"name": part, "values": values, "shown": shown, "colour": part})
    if measure == "accuracy" and history.truth():
        values = [known["accuracy"] / 100 for known in history.truth()]
        shown = [f"{known['accuracy']:.1f}%, rank {known['rank']:,}" for known in history.truth()]
        series.append({"name": f"true on {history.config.benchmark_data}", "values": values, "shown": shown, "colour": "true"})
    return {"label": measure, "series": series}


def _signs(history: History) -> list[dict]:
    """Charts of what tells a collapse: skip connections and, where there are any, eigenvalues, the last until the next."""
    genotypes = history.genotypes()
    figure, kinds = FIGURES[genotypes[0].macro], list(genotypes[0].cells)
    counts = {kind: [genotype.cells[kind].count(figure.identity) for genotype in genotypes] for kind in kinds}
    series = [
        {"name": kind, "values": values, "shown": list(map(str, values)), "colour": part}
        for (kind, values), part in zip(counts.items(), colours.PARTS, strict=False)
    ]
    charts = [{"label": figure.identities, "series": series}]
    found = history.eigenvalues()
    if found:
        values = [
            next((value for epoch, value in reversed(found) if epoch <= i), found[0][1]) for i in range(1, len(genotypes) + 1)
        ]
        shown = [f"{value:.3f}" for value in values]
        charts.append(
            {"label": "eigenvalue", "series": [{"name": "largest", "values": values, "shown": shown, "colour": "train"}]}
        )
    return charts


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return " ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
