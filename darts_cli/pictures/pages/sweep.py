"""A sweep over seeds as one page: its candidates side by side with their scores, and random cells in grey."""

import html

from darts_cli.describe import FIGURES, cell_name
from darts_cli.pictures.candidates import Candidate, Selection
from darts_cli.pictures.cells.figure import scene
from darts_cli.pictures.cells.sheet import greyed
from darts_cli.pictures.cells.svg import svg
from darts_cli.pictures.charts import many
from darts_cli.pictures.charts.chart import Chart
from darts_cli.pictures.pages import skeleton


def page(selection: Selection) -> str:
    """The page of a sweep."""
    name = selection.folder.resolve().name
    searched = sum(not candidate.random for candidate in selection.candidates)
    about = f"{name}: {searched} searched, {len(selection.candidates) - searched} random"
    cells = "\n".join(_article(candidate, i) for i, candidate in enumerate(selection.drawn()))
    repeat = skeleton.repeated_by(selection.folder)
    parts = [
        f'<p class="note">{html.escape(_protocol(selection))}</p>',
        *(f"<p><strong>{html.escape(remark)}</strong></p>" for remark in selection.remarks),
        skeleton.section("candidates", "Candidates", f'<div class="candidates">\n{cells}\n</div>'),
        f'<div class="pair">\n{_scores(selection)}\n{_curves(selection)}\n</div>',
        skeleton.repeat(repeat) if repeat else "",
    ]
    return skeleton.page(f"Candidates of {name}", about, parts)


def _protocol(selection: Selection) -> str:
    if selection.measure is None:
        return "Nothing was trained, so nothing was chosen."
    return f"Score: {selection.measure.replace('valid_', 'validation ')}, {selection.rule}. Random cells, in grey, never win."


def _article(candidate: Candidate, number: int) -> str:
    pictures = "\n".join(
        f"<h4>{html.escape(cell_name(kind).capitalize())}</h4>"
        + skeleton.scrolled(f"Drawing of the {cell_name(kind)} of {candidate.name}", _drawn(candidate, kind, number))
        for kind in candidate.cells.cells
    )
    kind = ' class="winner"' if candidate.winner else ""
    return f"<article{kind}>\n<h3>{html.escape(candidate.heading)}</h3>\n{pictures}\n</article>"


def _drawn(candidate: Candidate, kind: str, number: int) -> str:
    made = scene(candidate.cells.cells[kind], candidate.cells.macro)
    return svg(greyed(made) if candidate.random else made, f"{number}-{kind}-", paper=None)


def _scores(selection: Selection) -> str:
    return skeleton.section("scores", "Scores", skeleton.scrolled("Scores", _table(selection)))


def _curves(selection: Selection) -> str:
    """The validation curves of the short trainings; nothing where they have no epochs to show."""
    chart = _chart(selection)
    if chart is None:
        return ""
    return skeleton.section("curves", "Short trainings", skeleton.figures([chart]) + skeleton.numbers([chart]))


def _table(selection: Selection) -> str:
    macro = selection.drawn()[0].cells.macro
    names = ("candidate", "seed", "score", "spread", FIGURES[macro].identities, "hash")
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    rows = "\n".join(
        f'<tr><th scope="row">{html.escape(candidate.name)}</th>'
        + "".join(f"<td>{html.escape(value)}</td>" for value in _row(candidate, macro))
        + "</tr>"
        for candidate in selection.candidates
    )
    return f"<table><thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table>"


def _row(candidate: Candidate, macro: str) -> list[str]:
    score = candidate.score or candidate.failed or "not trained"
    if candidate.cells is None:
        return [str(candidate.seed), score, "", "", ""]
    counts = ", ".join(f"{cell.count(FIGURES[macro].identity)} in {kind}" for kind, cell in candidate.cells.cells.items())
    return [str(candidate.seed), score, candidate.spread or "", counts, candidate.cells.hash()]


def _chart(selection: Selection) -> Chart | None:
    """The measure of every candidate after each epoch of its short training: the first by rank, and random cells."""
    curves = {candidate.name: candidate.curve for candidate in selection.candidates if len(candidate.curve) > 1}
    if not curves:
        return None
    random = {candidate.name for candidate in selection.candidates if candidate.random}
    return many.of_candidates(selection.domain, selection.measure.removeprefix("valid_"), curves, random)
