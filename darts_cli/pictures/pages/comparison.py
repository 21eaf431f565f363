"""A comparison of search methods as one page: scores by seed, intervals, differences, true accuracies."""

import html
from collections.abc import Mapping, Sequence

from darts_cli.pictures.charts.methods import TRUE, scores, truths
from darts_cli.pictures.pages import skeleton


def page(comparison: Mapping, repeat: str) -> str:
    """The page of what comparison.yaml holds, and the command that repeats it."""
    title = f"Search methods compared on {comparison['dataset']}"
    parts = "\n".join(_space(name, found) for name, found in comparison["spaces"].items())
    seeds = ", ".join(map(str, comparison["seeds"]))
    about = f"Seeds {seeds}. A dot is the cell of one seed, the bar the mean with its 95 % interval."
    return skeleton.page(title, about, [parts, skeleton.repeat(repeat)])


def _space(name: str, found: Mapping) -> str:
    curves = {method: result["curve"] for method, result in found["methods"].items() if "curve" in result}
    drawn = skeleton.scrolled(TRUE, truths(curves, found), "wide") if curves else ""
    return f"""<section>
<h2>The space {html.escape(name)}</h2>
<p>{html.escape(found["measure"].capitalize())}. <strong>{html.escape(found["conclusion"])}</strong></p>
{skeleton.scrolled("Scores by method", scores(found), "wide")}
{_differences(found["differences"])}
{drawn and "<h3>True accuracy of the cell over the epochs, mean of the seeds</h3>"}
{drawn}
</section>"""


def _differences(rows: Sequence[Mapping]) -> str:
    if not rows:
        return ""
    lines = "\n".join(
        f'<tr><td>{html.escape(row["method"])}</td><td class="word">{html.escape(row["to"])}</td><td>{row["mean"]:+.2f}</td>'
        f"<td>{'' if row['interval'] is None else '{:+.2f} to {:+.2f}'.format(*row['interval'])}</td>"
        f'<td>{row["p"]:.3g}</td><td>{row["p_holm"]:.3g}</td><td class="word">{row["conclusion"]}</td></tr>'
        for row in rows
    )
    head = (
        "<tr><th>method</th><th>to</th><th>difference</th><th>95 % interval</th><th>p</th><th>p, corrected</th><th></th></tr>"
    )
    return skeleton.scrolled("Differences", f"<table>\n<thead>{head}</thead>\n<tbody>{lines}</tbody>\n</table>")
