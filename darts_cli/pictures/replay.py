"""A search as one page that needs nothing else: the cells over the epochs under a slider, alphas, metrics, configuration."""

import html
import json
import re
from pathlib import Path

from darts_cli.describe import state_names
from darts_cli.genotype import Cell, Genotype
from darts_cli.methods.derive import softmax
from darts_cli.pictures.cells import Film
from darts_cli.runs.history import History
from darts_cli.spaces import MANY_SKIPS, SPACES

MEASURES = {"cnn": {"loss": "{:.3f}", "accuracy": "{:.1%}"}, "rnn": {"loss": "{:.3f}", "perplexity": "{:.2f}"}}


def page(history: History) -> str:
    """The page of a search. Raises DartsError where Graphviz is missing or fails."""
    genotypes = history.genotypes()
    space = SPACES[history.domain]
    pictures = [_picture(name, [genotype.cells[name] for genotype in genotypes], history.domain) for name in space.cells]
    weights = [_weights(record) for record in history.records]
    title = f"darts {history.command} on {history.config.dataset}"
    data = {
        "about": f"{history.name}: {'second' if history.config.unrolled else 'first'} order, seed {history.config.seed}, "
        f"{len(genotypes)} of {history.config.epochs} epochs",
        "repeat": history.repeat(),
        "settings": {name: _said(value) for name, value in history.config.to_dict().items()},
        "operations": space.searched,
        "cells": [{"name": name, "edges": _edges(name, history.domain)} for name in space.cells],
        "charts": [_chart(history, measure, form) for measure, form in MEASURES[history.domain].items()],
        "largest": max(weight for tables in weights for table in tables.values() for row in table for weight in row),
        "epochs": [
            {"taken": _taken(genotype), "weights": tables, **_skips(genotype)}
            for genotype, tables in zip(genotypes, weights, strict=True)
        ],
    }
    filling = {
        "title": html.escape(title),
        "cells": "\n".join(pictures),
        "run": json.dumps(data, allow_nan=False).replace("<", "\\u003c"),  # nothing in it ends the script
    }
    template = Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
    return re.sub("<!--(title|cells|run)-->", lambda found: filling[found[1]], template)


def _picture(name: str, cells: list[Cell], domain: str) -> str:
    """The SVG of all edges that were ever there, each with the id that `_edges` says."""
    svg = Film(cells, domain).picture("svg", title=f"{name} cell").decode()
    return svg[svg.index("<svg") :].replace(' id="', f' id="{name}-')


def _edges(name: str, domain: str) -> list[dict]:
    """The edges of the search cell, in the order of alpha's rows."""
    space = SPACES[domain]
    states = state_names(domain, space.nodes)
    pairs = [(state, node) for node in range(space.inputs, space.inputs + space.nodes) for state in range(node)]
    return [{"id": f"{name}-{s}-{n}", "node": n, "title": f"{states[s]} → {states[n]}"} for s, n in pairs]


def _taken(genotype: Genotype) -> dict[str, str]:
    """The operation of every edge that is in the cells."""
    first = SPACES[genotype.domain].inputs
    return {
        f"{name}-{edge.input}-{i}": edge.op
        for name, cell in genotype.cells.items()
        for i, node in enumerate(cell.nodes, first)
        for edge in node
    }


def _weights(record: dict) -> dict[str, list[list[float]]]:
    return {name: [[round(weight, 4) for weight in softmax(row)] for row in table] for name, table in record["alphas"].items()}


def _skips(genotype: Genotype) -> dict:
    if genotype.domain == "rnn":
        return {"skips": f"identities: {genotype.cells['recurrent'].count('identity')}", "many": False}
    counts = {name: cell.count("skip_connect") for name, cell in genotype.cells.items()}
    said = ", ".join(f"{count} in {name}" for name, count in counts.items())
    return {"skips": f"skip connections: {said}", "many": counts["normal"] >= MANY_SKIPS}


def _chart(history: History, measure: str, form: str) -> dict:
    series = []
    for part in ("train", "valid"):
        values = [record[f"{part}_{measure}"] for record in history.records]
        series.append({"name": part, "values": values, "shown": [form.format(value) for value in values]})
    return {"label": measure, "series": series}


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return " ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
