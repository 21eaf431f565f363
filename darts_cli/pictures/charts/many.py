"""Charts of several runs: the trainings of one cell with their mean, and the candidates of a sweep."""

import statistics
from collections.abc import Collection, Mapping, Sequence

from darts_cli.pictures.charts.chart import Chart, Series
from darts_cli.pictures.charts.measures import MEASURES, NAMES, Records, shown
from darts_cli.pictures.colours import GREY, INK, RUNS

MAX_LINES = 12  # of single runs in a chart; more cannot be told apart


def of_repeats(domain: str, runs: Mapping[str, Records]) -> list[Chart]:
    """Every measure after every epoch: a line for each run, their mean, and one sample deviation around it.

    Trainings of text may end early; the mean goes as far as all of them.
    """
    found = []
    for measure, details in MEASURES[domain].items():
        for part, name in NAMES.items():
            key = f"{part}_{measure}"
            curves = {run: [record.get(key) for record in records] for run, records in runs.items()}
            if curves and all(None not in values for values in curves.values()):
                found.append(_repeated(f"{name} {measure}", curves, *details))
    return found


def of_candidates(domain: str, measure: str, curves: Mapping[str, Sequence[float]], grey: Collection[str]) -> Chart:
    """The measure of every candidate after each epoch of its short training, by rank; those that are only compared in grey."""
    details = MEASURES[domain][measure]
    epochs = max(map(len, curves.values()))
    series = [
        _line(name, values, epochs, details, GREY if name in grey else RUNS[i % len(RUNS)], "2 3" if name in grey else "")
        for i, (name, values) in enumerate(list(curves.items())[:MAX_LINES])
    ]
    return Chart(f"validation {measure}", details[0], series, details[1])


def _repeated(label: str, curves: Mapping[str, Sequence[float]], unit: str, factor: float, digits: int) -> Chart:
    details, epochs = (unit, factor, digits), max(map(len, curves.values()))
    few = list(curves.items())[:MAX_LINES]
    series = [_line(name, values, epochs, details, RUNS[i % len(RUNS)], "2 3") for i, (name, values) in enumerate(few)]
    if len(curves) == 1:
        return Chart(label, unit, series, factor)
    both = [(statistics.mean(values), statistics.stdev(values)) for values in zip(*curves.values(), strict=False)]
    values = [mean for mean, _ in both]
    printed = [f"{shown(mean, *details)} ± {shown(deviation, *details)}" for mean, deviation in both]
    rest = epochs - len(both)
    series.append(Series(f"mean (of {len(curves)})", [*values, *[None] * rest], [*printed, *[""] * rest], INK))
    return Chart(label, unit, series, factor, band=[(mean - deviation, mean + deviation) for mean, deviation in both])


def _line(name: str, values: Sequence[float], epochs: int, details: tuple, colour: str, dashes: str) -> Series:
    """A line that may end before the others."""
    rest = epochs - len(values)
    printed = [shown(value, *details) for value in values]
    return Series(name, [*values, *[None] * rest], [*printed, *[""] * rest], colour, dashes)
