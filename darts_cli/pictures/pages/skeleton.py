"""What all pages share: one self-contained file, one style, charts with their captions, settings, a table of numbers."""

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

from darts_cli import files
from darts_cli.pictures.charts.chart import Chart, Series, svg
from darts_cli.pictures.colours import night_css

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


@cache
def _text(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def page(title: str, about: str, parts: Iterable[str], data: Mapping | None = None, script: str = "") -> str:
    """A page: its title, what it is about, and its parts as HTML; with a script, the data that it reads.

    Only the parts may hold markup. No text can end the script, and the page asks no other machine for anything.
    """
    run = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c") if data else ""
    moving = f'<script type="application/json" id="run">{run}</script>\n<script>\n{_text(script)}</script>\n' if script else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<link rel="icon" href="data:,">
<title>{html.escape(title)}</title>
<style>
{_text("style.css")}
@media (prefers-color-scheme: dark) {{
{night_css()}
}}
</style>
</head>
<body>
<header>
<h1>{html.escape(title)}</h1>
<p class="note">{html.escape(about)}</p>
</header>
<main>
{chr(10).join(parts)}
</main>
{moving}</body>
</html>
"""


def section(name: str, heading: str, inner: str) -> str:
    """A part of a page that a screen reader finds by its heading."""
    return (
        f'<section aria-labelledby="{name}-heading">\n<h2 id="{name}-heading">{html.escape(heading)}</h2>\n{inner}\n</section>'
    )


def scrolled(label: str, inner: str, kind: str = "") -> str:
    """What may be wider than a phone: a region that scrolls by itself, also by keys."""
    return f'<div class="scroll {kind}" role="region" tabindex="0" aria-label="{html.escape(label)}">{inner}</div>'


def figures(charts: Sequence[Chart], marker: bool = False) -> str:
    """The charts side by side, each with its legend: the names of its lines and their last values."""
    columns = len(charts) if len(charts) < 5 else 3
    drawn = "\n".join(f"<figure>{svg(chart, marker)}<figcaption>{_legend(chart)}</figcaption></figure>" for chart in charts)
    return f'<div class="charts" style="--columns: {columns}">\n{drawn}\n</div>'


def _legend(chart: Chart) -> str:
    return "".join(
        f"<span>{_swatch(series)}{html.escape(series.name)} <output>{html.escape(series.last)}</output></span>"
        for series in chart.series
    )


def _swatch(series: Series) -> str:
    dashes = f' stroke-dasharray="{series.dashes}"' if series.dashes else ""
    line = f'<path d="M0 3h28" stroke="{series.colour}" stroke-width="2" fill="none"{dashes}/>'
    return f'<svg viewBox="0 0 28 6" aria-hidden="true">{line}</svg>'


def numbers(charts: Sequence[Chart]) -> str:
    """All values of the charts as a table, for those who want the numbers or cannot see the lines."""
    lines = [(f"{series.name}, {chart.label}", series) for chart in charts for series in chart.series]
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name, _ in lines)
    rows = "\n".join(
        f'<tr><th scope="row">{epoch + 1}</th>'
        + "".join(f"<td>{html.escape(series.shown[epoch])}</td>" for _, series in lines)
        + "</tr>"
        for epoch in range(max(chart.epochs for chart in charts))
    )
    table = f'<table><thead><tr><th scope="col">epoch</th>{head}</tr></thead>\n<tbody>{rows}</tbody></table>'
    return f"<details>\n<summary>All numbers as a table</summary>\n{scrolled('Numbers by epoch', table)}\n</details>"


def settings(values: Mapping[str, object]) -> str:
    rows = "\n".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(_shown(value))}</dd></div>" for name, value in values.items()
    )
    return section("settings", "Configuration", f'<dl class="settings">\n{rows}\n</dl>')


def repeat(command: str) -> str:
    return section("repeat", "Repeat with", f"<pre>{html.escape(command)}</pre>") if command else ""


def repeated_by(folder: Path) -> str:
    """The command that repeats a sweep, as its report names it; nothing where there is no report."""
    path = folder / "report.md"
    return files.read_text(path).rpartition("Repeat with:")[2].strip() if files.is_file(path) else ""


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return " ".join(map(str, value)) if isinstance(value, list) else "none" if value is None else str(value)
