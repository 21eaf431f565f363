"""Line charts over epochs as SVG, with axes, units and a legend; drawn without another program."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from darts_cli.pictures.charts.axis import Axis, epochs, linear, logarithmic
from darts_cli.pictures.colours import FAINT, GREY, INK, LINE, PAPER
from darts_cli.text import counted

WIDTH, HEIGHT = 290, 204  # of a chart; all lengths in pixels
LEFT, RIGHT, TOP, BOTTOM = 50, 280, 28, 164  # the frame that the lines stand in
LEGEND_ROW = 17
MOST_ACROSS = 4  # charts of a file
MAX_POINTS = 400  # of a line; more would only make the file larger
DECADES = 20  # the ratio of values from which the axis of a perplexity is logarithmic


@dataclass(frozen=True)
class Series:
    """A line: a value for every epoch, and how each is printed. Epochs without a value have None."""

    name: str
    values: Sequence[float | None]
    shown: Sequence[str]
    colour: str
    dashes: str = ""

    @property
    def last(self) -> str:
        """The last value, as it is printed."""
        return next(shown for shown in reversed(self.shown) if shown)


@dataclass(frozen=True)
class Chart:
    """Lines with one unit. `level` is a value that is marked across the chart, with what it means.

    `band` has the lower and the upper end of a range by epoch, which is shaded.
    """

    label: str
    unit: str
    series: Sequence[Series]
    factor: float = 1.0  # from values to the unit
    level: tuple[float, str] | None = None
    whole: bool = False  # whether the values are counts
    band: Sequence[tuple[float, float]] = ()

    @property
    def title(self) -> str:
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def epochs(self) -> int:
        return max(len(series.values) for series in self.series)

    def in_words(self) -> str:
        """The chart for those who cannot see it: every line from its first to its last value."""
        lines = [f"{line.name} from {line.shown[0]} to {line.last}" for line in self.series]
        return f"{self.title} over {counted(self.epochs, 'epoch')}: {'; '.join(lines)}"


def svg(chart: Chart, marker: bool = False, attributes: str = "") -> str:
    """The chart as an SVG element. With a marker, a line stands at the last epoch, which a page can move."""
    across, up = epochs(chart.epochs, LEFT, RIGHT), _values_axis(chart)
    parts = [f'<text x="{LEFT}" y="16" font-size="13" font-weight="600" fill="{INK}">{escape(chart.title)}</text>']
    parts += _frame(across, up)
    if len(chart.band) > 1:
        parts.append(_band(chart, across, up))
    if chart.level:
        value, words = chart.level
        y = up.place(chart.factor * value)
        below = y < TOP + 16
        parts.append(f'<path class="level" d="M{LEFT} {y:.1f}H{RIGHT}" stroke="{INK}" stroke-dasharray="6 4" fill="none"/>')
        parts.append(_text(RIGHT - 2, y + (13 if below else -5), words, "end"))
    parts += [_line(series, chart, across, up) for series in chart.series]
    if marker:
        parts.append(f'<path class="now" d="M0 {TOP}V{BOTTOM}" stroke="{INK}" transform="translate({RIGHT} 0)"/>')
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" data-left="{across.place(1):g}" data-right="{across.place(chart.epochs):g}"'
    return f'<svg {size} role="img" aria-label="{escape(chart.in_words())}"{attributes}>{"".join(parts)}</svg>'


def file(charts: Sequence[Chart], title: str = "") -> str:
    """An SVG file of charts, up to four side by side, each with its legend and last values."""
    rows, across = max(len(chart.series) for chart in charts), min(len(charts), MOST_ACROSS)
    width, top, each = WIDTH * across, 26 if title else 4, HEIGHT + LEGEND_ROW * rows + 6
    height = top + each * -(-len(charts) // across)
    parts = [f'<rect width="100%" height="100%" fill="{PAPER}"/>']
    parts += [f'<text x="{LEFT}" y="18" font-size="14" fill="{INK}">{escape(title)}</text>'] if title else []
    for i, chart in enumerate(charts):
        left, upper = WIDTH * (i % across), top + each * (i // across)
        place = f' x="{left}" y="{upper}" width="{WIDTH}" height="{HEIGHT}"'
        parts.append(svg(chart, attributes=place))
        for row, series in enumerate(chart.series):
            x, y = left + LEFT, upper + HEIGHT + LEGEND_ROW * row + 8
            parts.append(f'<path d="M{x} {y - 4}h26" {_stroke(series)}/>')
            parts.append(f'<text x="{x + 34}" y="{y}" font-size="12" fill="{INK}">{escape(series.name)} {series.last}</text>')
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    words = escape("; ".join(chart.in_words() for chart in charts))
    face = 'font-family="Helvetica, Arial, sans-serif"'
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {face} role="img" aria-label="{words}">{"".join(parts)}</svg>\n'
    )


def notebook(charts: Sequence[Chart]) -> str:
    """The charts as a picture inside HTML, as a notebook shows it."""
    content = base64.b64encode(file(charts).encode()).decode()
    words = escape("; ".join(chart.in_words() for chart in charts))
    return f'<img alt="{words}" src="data:image/svg+xml;base64,{content}">'


def _values_axis(chart: Chart) -> Axis:
    values = _values(chart)
    if _is_logarithmic(chart):
        return logarithmic(values, BOTTOM, TOP)
    values += [chart.factor * chart.level[0]] if chart.level else []
    values += [chart.factor * end for ends in chart.band for end in ends]
    return linear(values, BOTTOM, TOP, chart.whole)


def _values(chart: Chart) -> list[float]:
    return [chart.factor * value for series in chart.series for value in series.values if value is not None]


def _is_logarithmic(chart: Chart) -> bool:
    values = _values(chart)
    return chart.label.endswith("perplexity") and max(values) > DECADES * min(values)


def _band(chart: Chart, across: Axis, up: Axis) -> str:
    """The shaded range; on a logarithmic axis it ends where the lines do."""
    values = _values(chart) if _is_logarithmic(chart) else [end * chart.factor for ends in chart.band for end in ends]
    least, most = min(values), max(values)
    low, high = (
        [(across.place(i), up.place(min(most, max(least, chart.factor * ends[k])))) for i, ends in enumerate(chart.band, 1)]
        for k in (0, 1)
    )
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in (*low, *reversed(high)))
    return f'<path class="band" d="{path}Z" fill="{GREY}" opacity=".25"/>'


def _frame(across: Axis, up: Axis) -> list[str]:
    """The marks of both axes, with thin lines across the chart."""
    parts = []
    for value, label in up.ticks:
        y = up.place(value)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{RIGHT}" stroke="{LINE}" stroke-width=".5" opacity=".7" fill="none"/>')
        parts.append(_text(LEFT - 6, y + 4, label, "end"))
    parts.append(f'<path d="M{LEFT} {BOTTOM}H{RIGHT}" stroke="{LINE}" fill="none"/>')
    for epoch, label in across.ticks:
        x = across.place(epoch)
        parts.append(f'<path d="M{x:.1f} {BOTTOM}v4" stroke="{LINE}" fill="none"/>')
        parts.append(_text(x, BOTTOM + 16, label, "middle"))
    parts.append(_text((LEFT + RIGHT) / 2, BOTTOM + 32, "epoch", "middle"))
    return parts


def _line(series: Series, chart: Chart, across: Axis, up: Axis) -> str:
    points = [
        (across.place(i), up.place(chart.factor * value)) for i, value in enumerate(series.values, 1) if value is not None
    ]
    if len(points) == 1:
        return f'<circle cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="3.5" fill="{series.colour}"/>'
    every = -(-len(points) // MAX_POINTS)
    kept = [*points[::every], *([] if (len(points) - 1) % every == 0 else points[-1:])]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in kept)
    return f'<path d="{path}" {_stroke(series)} stroke-linejoin="round"/>'


def _stroke(series: Series) -> str:
    dashes = f' stroke-dasharray="{series.dashes}"' if series.dashes else ""
    return f'fill="none" stroke="{series.colour}" stroke-width="2"{dashes}'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="12" text-anchor="{anchor}" fill="{FAINT}">{escape(text)}</text>'
