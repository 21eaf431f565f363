"""Which charts a run has: what it measured after every epoch, with units."""

import math
from collections.abc import Mapping, Sequence

from darts_cli.describe import FIGURES
from darts_cli.methods.catalogue import METHOD_NUMBERS
from darts_cli.pictures.charts.chart import Chart, Series
from darts_cli.pictures.colours import DASHES, PARTS
from darts_cli.spaces.space import Space

Records = Sequence[Mapping]
NAMES = {"train": "training", "valid": "validation", "test": "test", "discrete": "discrete cells"}
MEASURES = {  # by domain: the unit, the factor to it, and the digits that are printed after the point
    "cnn": {"loss": ("nats", 1.0, 3), "accuracy": ("%", 100.0, 1)},
    "rnn": {"loss": ("nats per token", 1.0, 3), "perplexity": ("", 1.0, 2)},
}
EQUAL = "all operations weigh the same"
MOST_SKIPS = (2, "DARTS+ stops: normal cell")  # Liang et al., arXiv 1909.06035, of cells of two inputs


def charts(domain: str, records: Records, benchmark: str | None = None) -> list[Chart]:
    """Loss and accuracy or perplexity, of the parts that were measured after every epoch.

    With the name of a data set of NAS-Bench-201 also the true accuracies on it, where the records have them.
    """
    found = [_measured(measure, *details, records) for measure, details in MEASURES[domain].items()]
    if benchmark and domain == "cnn" and all("truth" in record for record in records):
        known = [record["truth"][benchmark] for record in records]
        shown = [f"{each['accuracy']:.1f}%, rank {each['rank']:,}" for each in known]
        values = [each["accuracy"] / 100 for each in known]
        found[1].series.append(Series(f"true on {benchmark}", values, shown, PARTS["true"], DASHES["true"]))
    return [chart for chart in found if chart.series]


def of_search(space: Space, records: Records) -> list[Chart]:
    """How decided the search is, the signs of a collapse, and what the method adds, such as a temperature."""
    signs = [
        _entropy(space, records),
        _skips(space, records),
        _parameter_free(records),
        _eigenvalues(records),
        *(_of_method(name, records) for name in METHOD_NUMBERS),
    ]
    return [chart for chart in signs if chart is not None]


def of_training(records: Records) -> list[Chart]:
    """The learning rate, where the records have it."""
    if any("lr" not in record for record in records):
        return []
    values = [record["lr"] for record in records]
    line = Series("learning rate", values, [f"{value:.3g}" for value in values], PARTS["true"])
    return [Chart("learning rate", "", [line])]


def _measured(measure: str, unit: str, factor: float, digits: int, records: Records) -> Chart:
    """The parts that every record has; a test part that is evaluated once, at the end, makes no line."""
    series = []
    for part, name in NAMES.items():
        values = [record.get(f"{part}_{measure}") for record in records]
        if None not in values:
            printed = [shown(value, unit, factor, digits) for value in values]
            series.append(Series(name, values, printed, PARTS[part], DASHES[part]))
    return Chart(measure, unit, series, factor)


def shown(value: float, unit: str, factor: float, digits: int) -> str:
    """A value as it is printed; a very large one, as of a perplexity at the start, in powers of ten."""
    value = factor * value
    return f"{value:.3g}" if abs(value) >= 1e7 else f"{value:.{digits}f}{'%' if unit == '%' else ''}"


def sums_to_one(records: Records) -> bool:
    """Whether the operation weights of every edge are shares, as by softmax."""
    tables = [table for record in records for table in record["operation_weights"].values()]
    return all(abs(sum(row) - 1) < 1e-3 for table in tables for row in table)


def _entropy(space: Space, records: Records) -> Chart | None:
    if any("entropy" not in record for record in records):
        return None
    values = [record["entropy"] for record in records]
    line = Series("mean of all edges", values, [f"{value:.3f}" for value in values], PARTS["discrete"])
    rows = [len(row) for cell in space.cells for row in space.choices(cell)]
    level = sum(map(math.log, rows)) / len(rows)
    return Chart("entropy", "nats", [line], level=(level, EQUAL))


def _skips(space: Space, records: Records) -> Chart:
    figure = FIGURES[space.macro]
    series = []
    for kind, colour, dashes in zip(space.cells, ("valid", "train"), ("", "2 3"), strict=False):
        cells = [record["genotype"][kind]["nodes"] for record in records]
        values = [sum(op == figure.identity for node in nodes for op, _ in node) for nodes in cells]
        series.append(Series(kind, values, list(map(str, values)), PARTS[colour], dashes))
    level = MOST_SKIPS if space.macro == "darts" else None
    return Chart(figure.identities, "edges", series, level=level, whole=True)


def _parameter_free(records: Records) -> Chart | None:
    """The share of edges whose operation has no weights of its own."""
    values = [record.get("parameter_free") for record in records]
    if None in values:
        return None
    line = Series("of all cells", values, [f"{value:.0%}" for value in values], PARTS["train"])
    return Chart("edges without weights", "%", [line], 100.0)


def _of_method(name: str, records: Records) -> Chart | None:
    """A number that the method adds, where every record has it."""
    values = [record.get(name) for record in records]
    if not values or None in values:
        return None
    title = name.replace("_", " ")
    line = Series("of the method", values, [f"{value:.3g}" for value in values], PARTS["true"])
    return Chart(title, "", [line], whole=all(isinstance(value, int) for value in values))


def _eigenvalues(records: Records) -> Chart | None:
    """The largest eigenvalue, each until the next one is computed."""
    found = [(record["epoch"], record["eigenvalue"]) for record in records if "eigenvalue" in record]
    if not found:
        return None
    epochs = range(1, len(records) + 1)
    values = [next((value for epoch, value in reversed(found) if epoch <= i), found[0][1]) for i in epochs]
    line = Series("largest of the Hessian in alpha", values, [f"{value:.3f}" for value in values], PARTS["test"])
    return Chart("eigenvalue", "", [line])
