"""The charts of a comparison of search methods: scores by seed with intervals, and true accuracies over the epochs."""

import html
import math
from collections.abc import Mapping, Sequence

from darts_cli.pictures.charts.axis import linear
from darts_cli.pictures.colours import FAINT, INK, LINE, RUNS

TRUE = "True accuracy over the epochs"
WIDTH, LEFT, RIGHT, ROW = 760, 210, 30, 34
WORDS, QUIET = (f'font-size="14" fill="{colour}"' for colour in (INK, FAINT))


def scores(found: Mapping) -> str:
    """A drawing, as SVG: a row for each method of a space with its scores, mean and interval."""
    methods = found["methods"]
    top = 100.0 if "per cent" in found["measure"] else math.inf  # an interval may go beyond
    inner = [min(value, top) for result in methods.values() for value in (*result["scores"], *(result["interval"] or ()))]
    x, ticks = linear([*inner, *([found["best"]] if "best" in found else [])], LEFT, WIDTH - RIGHT)
    ticks = [tick for tick in ticks if tick[0] <= top]
    bottom = ROW * len(methods) + 10
    parts = [f'<line x1="{x(t):.1f}" x2="{x(t):.1f}" y1="4" y2="{bottom}" stroke="{LINE}"/>' for t, _ in ticks]
    parts += [f'<text {QUIET} text-anchor="middle" x="{x(t):.1f}" y="{bottom + 18}">{label}</text>' for t, label in ticks]
    if "best" in found:
        at = f"{x(found['best']):.1f}"
        parts.append(f'<line x1="{at}" x2="{at}" y1="4" y2="{bottom}" stroke="{INK}" stroke-dasharray="4 3"/>')
        parts.append(f'<text {WORDS} text-anchor="end" x="{at}" y="{bottom + 36}">the best cell, {found["best"]:.2f}</text>')
    for row, (method, result) in enumerate(methods.items()):
        y, colour = ROW * row + 24, RUNS[row % len(RUNS)]
        parts.append(f'<text {WORDS} text-anchor="end" x="{LEFT - 14}" y="{y + 5}">{html.escape(_short(method))}</text>')
        if result["interval"]:
            low, high = (x(min(value, top)) for value in result["interval"])
            parts.append(
                f'<rect x="{low:.1f}" width="{high - low:.1f}" y="{y - 6}" height="12" fill="{colour}" opacity=".25"/>'
            )
        mean = f"{x(result['mean']):.1f}"
        parts.append(f'<line x1="{mean}" x2="{mean}" y1="{y - 9}" y2="{y + 9}" stroke="{colour}" stroke-width="3"/>')
        parts += [f'<circle cx="{x(score):.1f}" cy="{y}" r="4" fill="{colour}"/>' for score in result["scores"]]
    return _svg("Scores by method", bottom + 44, parts)


def truths(curves: Mapping[str, Sequence[float]], found: Mapping) -> str:
    """A drawing, as SVG: the mean true accuracy after each epoch, a line for each method."""
    height, top, bottom = 300, 12, 268
    methods, epochs = list(found["methods"]), max(map(len, curves.values()))
    y, ticks = linear([value for values in curves.values() for value in values], bottom, top)
    parts = [f'<line x1="60" x2="{WIDTH - 160}" y1="{y(t):.1f}" y2="{y(t):.1f}" stroke="{LINE}"/>' for t, _ in ticks]
    parts += [f'<text {QUIET} text-anchor="end" x="52" y="{y(t) + 5:.1f}">{label}</text>' for t, label in ticks]
    parts.append(f'<text {QUIET} text-anchor="middle" x="{(WIDTH - 100) / 2}" y="{height - 6}">epoch 1 to {epochs}</text>')
    ends = sorted((y(values[-1]), method) for method, values in curves.items())
    level = -100.0
    for end, method in ends:
        values, colour = curves[method], RUNS[methods.index(method) % len(RUNS)]
        step = (WIDTH - 220) / max(1, epochs - 1)
        path = " ".join(f"{'L' if i else 'M'}{60 + step * i:.1f} {y(value):.1f}" for i, value in enumerate(values))
        parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if epochs == 1:
            parts.append(f'<circle cx="60" cy="{end:.1f}" r="4" fill="{colour}"/>')
        level = max(end, level + 17)  # so that no two names overlap
        parts.append(
            f'<text font-size="14" x="{WIDTH - 152}" y="{level + 5:.1f}" fill="{colour}">{html.escape(_short(method))}</text>'
        )
    return _svg(TRUE, max(height, int(level) + 16), parts)


def _short(name: str) -> str:
    return name if len(name) <= 26 else name[:24] + "…"


def _svg(label: str, height: int, parts: Sequence[str]) -> str:
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{label}">{"".join(parts)}</svg>'
