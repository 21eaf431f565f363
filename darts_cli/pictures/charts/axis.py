"""Axes: the function from values to pixels, and the round values that are marked."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Axis(NamedTuple):
    """Where a value stands, and the values that are marked, with their labels."""

    place: Callable[[float], float]
    ticks: list[tuple[float, str]]


def linear(values: Sequence[float], first: float, last: float, whole: bool = False, margin: float = 0.04) -> Axis:
    """An axis from `first` to `last`, in pixels, with room beyond the values; that of counts is `whole`, and begins at 0."""
    low, high = (0.0, max(2.0, *values)) if whole else (min(values), max(values))
    around = margin * (high - low) or 0.05 * abs(high) or 1.0
    low, high = low - around, high + around
    step = _step((high - low) / 6, whole)
    marks = [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return Axis(
        lambda value: first + (value - low) / (high - low) * (last - first), [(m, _label(m, digits, step)) for m in marks]
    )


def logarithmic(values: Sequence[float], first: float, last: float) -> Axis:
    """The same for positive values that span more than a decade or so."""
    low, high = math.log10(min(values)), math.log10(max(values))
    around = 0.04 * (high - low)
    low, high = low - around, high + around
    span = high - low
    mantissas = (1,) if span > 3 else (1, 3) if span > 1.5 else (1, 2, 5)
    decades = range(math.floor(low), math.ceil(high) + 1, max(1, round(span / 5)))
    near = (m * float(f"1e{k}") for k in decades for m in mantissas)  # infinity beyond the largest float
    marks = [mark for mark in near if mark > 0 and low <= math.log10(mark) <= high]
    return Axis(
        lambda value: first + (math.log10(value) - low) / span * (last - first),
        [(m, f"{m:,g}" if m < 1e6 else f"{m:.0e}") for m in marks],
    )


def epochs(last: int, left: float, right: float) -> Axis:
    """The axis of the epochs 1 to `last`."""

    def place(epoch: float) -> float:
        return (left + right) / 2 if last == 1 else left + (epoch - 1) / (last - 1) * (right - left)

    step = 1 if last <= 8 else int(_step(last / 6, whole=True))
    marks = [1, *(k for k in range(step, last + 1, step) if k >= 1 + step / 2)]
    return Axis(place, [(epoch, f"{epoch:,}") for epoch in marks])


def _step(least: float, whole: bool) -> float:
    """The smallest of 1, 2, 5, 10, 20, ... that is at least this; of fractions too unless `whole`."""
    power = 10.0 ** math.floor(math.log10(least))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= least * (1 - 1e-9))
    return max(1.0, step) if whole else step


def _label(value: float, digits: int, step: float) -> str:
    if step >= 1e6 or 0 < step < 1e-5:
        return f"{value:.1e}"
    return f"{round(value, digits) + 0.0:,.{digits}f}"
