"""Heat maps of alpha over a search, and the learning curves of runs. Needs matplotlib, the extra `plot`."""

import io
import warnings
from collections.abc import Sequence
from functools import partial

from darts_cli import DartsError
from darts_cli.describe import cell_name, state_names
from darts_cli.methods.catalogue import METHOD_NUMBERS
from darts_cli.pictures.charts.measures import MOST_SKIPS, sums_to_one
from darts_cli.pictures.colours import PARTS, RUNS
from darts_cli.runs.history import History
from darts_cli.text import printable

CURVES = {  # by domain, one panel per measure: its label and the value that is plotted
    "cnn": {"loss": ("loss", lambda v: v), "accuracy": ("error (%)", lambda v: 100 * (1 - v))},
    "rnn": {"perplexity": ("perplexity", lambda v: min(v, 1e100))},  # the axis would overflow beyond it
}
LINE_STYLES = {"train": ":", "valid": "-", "test": "--", "discrete": (0, (1, 4))}


class NoMatplotlib(DartsError):
    """The library matplotlib is missing."""


def _figure(width: float, height: float):
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise NoMatplotlib("curves and heat maps need matplotlib; install it with pip install matplotlib") from None
    return Figure(figsize=(width, height), layout="constrained")


def _rendered(figure, form: str) -> bytes:
    import matplotlib

    buffer = io.BytesIO()
    undated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": None}[form]  # equal runs give equal files
    with matplotlib.rc_context({"svg.hashsalt": "darts", "svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about letters that no installed font has
        figure.savefig(buffer, format=form, dpi=120, metadata=undated)
    return buffer.getvalue()


def alphas(history: History, cell: str, form: str) -> bytes:
    """The operation weights of a cell of a search, as "pdf", "svg" or "png".

    One row of panels per node, one column per input; in a panel one row per operation and one column per epoch.
    """
    space = history.space
    names = [f"${name}$" if "_" in name else name for name in state_names(space.macro, space.nodes)]
    tables = [record["operation_weights"][cell] for record in history.records]
    columns = space.inputs + space.nodes - 1
    figure = _figure(1.8 * columns + 2.4, 1.1 * space.nodes + 1.0)
    grid = figure.add_gridspec(space.nodes, columns)
    flat = [weight for table in tables for row in table for weight in row]
    for edge, ((state, node), operations) in enumerate(zip(space.edges(), space.choices(cell), strict=True)):
        panel = figure.add_subplot(grid[node - space.inputs, state])
        extent = (0.5, len(tables) + 0.5, len(operations) - 0.5, -0.5)
        weights = [[table[edge][k] for table in tables] for k in range(len(operations))]
        image = panel.imshow(weights, aspect="auto", vmin=min(flat), vmax=max(flat), extent=extent)
        panel.set_title(f"{names[state]} → {names[node]}", fontsize=8, pad=2)
        panel.set_yticks(range(len(operations)), operations if state == 0 or space.edgewise else [], fontsize=6)
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.tick_params(labelsize=6, labelbottom=node == space.states()[-1])
    figure.supxlabel("epoch", fontsize=9)
    figure.suptitle(f"operation weights of the {cell_name(cell)}, {printable(history.name)}", fontsize=10, parse_math=False)
    bar = figure.colorbar(image, ax=figure.axes, shrink=0.6, pad=0.01).ax
    bar.tick_params(labelsize=7)
    if sums_to_one(history.records):
        _mark_equal(bar, {1 / len(row) for row in tables[0]})
    return _rendered(figure, form)


def _mark_equal(bar, shares: set[float]) -> None:
    """Mark on the colour bar where all operations of an edge weigh the same."""
    for share in shares:
        bar.axhline(share, color="white", linewidth=2.5)
        bar.axhline(share, color="black", linewidth=1.2, linestyle=(0, (3, 2)))
        bar.annotate(
            "all equal",
            (0, share),
            xytext=(-3, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=7,
        )


def curves(histories: Sequence[History], form: str) -> bytes:
    """The learning curves of runs of one domain, one colour per run, as "pdf", "svg" or "png".

    Training is dotted, validation continuous, test dashed. Raises DartsError when the runs are of different domains.
    """
    domains = {history.domain: history for history in histories}
    if len(domains) > 1:
        folders = " and ".join(str(history.folder) for history in domains.values())
        raise DartsError(f"{folders}: are runs of different domains; draw their curves in separate pictures")
    (domain,) = domains
    measures = CURVES[domain]
    searches = [history for history in histories if history.stage == "search"]
    signs = {"skip connections": History.skips, "eigenvalue": History.eigenvalues}
    signs |= {name.replace("_", " "): partial(History.method_numbers, name=name) for name in METHOD_NUMBERS}
    signs = {label: values for label, values in signs.items() if any(map(values, searches))}
    figure = _figure(5.2 * (len(measures) + len(signs)) + 0.6, 4.0)
    panels = figure.subplots(1, len(measures) + len(signs), squeeze=False)[0]
    for panel, (label, values) in zip(panels[len(measures) :], signs.items(), strict=True):
        _draw_sign(panel, label, [(history, values(history)) for history in searches], len(histories) == 1)
    for panel, (measure, (label, plotted)) in zip(panels[: len(measures)], measures.items(), strict=True):
        for k, history in enumerate(histories):
            for part, style in LINE_STYLES.items():
                points = [(r["epoch"], plotted(r[f"{part}_{measure}"])) for r in history.records if f"{part}_{measure}" in r]
                if points:
                    marker = "o" if len(points) == 1 else ""
                    name = part if len(histories) == 1 else f"{history.name}, {part}"
                    colour = PARTS[part] if len(histories) == 1 else RUNS[k % len(RUNS)]
                    panel.plot(*zip(*points, strict=True), linestyle=style, color=colour, marker=marker, label=_literal(name))
            truth = history.truth() if measure == "accuracy" else []
            if truth:
                points = [(i, 100 - known["accuracy"]) for i, known in enumerate(truth, 1)]
                name = f"true test error on {history.config.benchmark_data}"
                name = name if len(histories) == 1 else f"{history.name}, {name}"
                marker = "o" if len(points) == 1 else ""
                panel.plot(
                    *zip(*points, strict=True),
                    "-.",
                    color=RUNS[k % len(RUNS)] if len(histories) > 1 else PARTS["true"],
                    marker=marker,
                    label=_literal(name),
                )
        if not panel.lines:
            raise DartsError(f"{histories[0].folder}: its metrics hold no {measure} to draw")
        panel.set_xlabel("epoch")
        panel.set_ylabel(label)
        panel.xaxis.get_major_locator().set_params(integer=True)
        if measure == "perplexity":
            panel.set_yscale("log")
        panel.grid(alpha=0.3, which="both")
        panel.legend(fontsize=7)
    if len(histories) == 1:
        figure.suptitle(printable(histories[0].name), fontsize=10, parse_math=False)
    return _rendered(figure, form)


def _draw_sign(panel, label: str, values: Sequence[tuple[History, list]], alone: bool) -> None:
    """A sign of collapse, or what a method adds, over the epochs of searches."""
    for k, (history, points) in enumerate(values):
        if points:
            panel.plot(*zip(*points, strict=True), color=RUNS[k % len(RUNS)], label=_literal(label if alone else history.name))
    counts = label == "skip connections"
    if counts and all(history.space.macro == "darts" for history, _ in values):
        most, words = MOST_SKIPS
        panel.axhline(most, linestyle="--", linewidth=0.8, color="black", label=words)
    panel.set_xlabel("epoch")
    panel.set_ylabel(f"{label} of the {cell_name(values[0][0].space.cells[0])}" if counts else label)
    whole = all(isinstance(value, int) for _, points in values for _, value in points)
    for axis in (panel.xaxis, panel.yaxis) if whole else (panel.xaxis,):
        axis.get_major_locator().set_params(integer=True)
    panel.grid(alpha=0.3)
    panel.legend(fontsize=7)


def _literal(text: str) -> str:
    """A label without matplotlib's special characters: $ starts mathematics, a leading _ hides the label."""
    return printable(text).replace("$", r"\$").lstrip("_") or "run"
