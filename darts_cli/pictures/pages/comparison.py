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
{_methods(found["methods"])}
{_differences(found["differences"])}
{drawn and "<h3>True accuracy of the cell over the epochs, mean of the seeds</h3>"}
{drawn}
</section>"""


def _methods(methods: Mapping) -> str:
    lines = "\n".join(
        f"<tr><td>{html.escape(method)}</td><td>{result['mean']:.2f}</td>"
        f"<td>{'' if result['deviation'] is None else '{:.2f}'.format(result['deviation'])}</td>"
        f"<td>{'' if result['interval'] is None else '{:.2f} to {:.2f}'.format(*result['interval'])}</td>"
        f"<td>{min(result['scores']):.2f} to {max(result['scores']):.2f}</td><td>{result.get('steps', 0):,}</td></tr>"
        for method, result in methods.items()
    )
    head = "<tr><th>method</th><th>mean</th><th>deviation</th><th>95 % interval</th><th>range</th><th>steps</th></tr>"
    return skeleton.scrolled("Scores", f"<table>\n<thead>{head}</thead>\n<tbody>{lines}</tbody>\n</table>")


def _differences(rows: Sequence[Mapping]) -> str:
    if not rows:
        return ""
    lines = "\n".join(
        f'<tr><td>{html.escape(row["method"])}</td><td class="word">{html.escape(row["to"])}</td><td>{row["mean"]:+.2f}</td>'
        f"<td>{'' if row['interval'] is None else '{:+.2f} to {:+.2f}'.format(*row['interval'])}</td>"
        f'<td>{row["p"]:.3g}</td><td>{row["p_holm"]:.3g}</td><td class="word">{row["conclusion"]}</td></tr>'
        for row in rows
    )
    names = ("difference", "95 % interval", "p", "p, corrected", "")
    head = f'<tr><th>method</th><th class="word">to</th>{"".join(f"<th>{name}</th>" for name in names)}</tr>'
    drawn = skeleton.scrolled("Differences", f"<table>\n<thead>{head}</thead>\n<tbody>{lines}</tbody>\n</table>")
    return f"<h3>Paired differences, by seed</h3>\n{drawn}"
