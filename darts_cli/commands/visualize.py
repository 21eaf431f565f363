"""The command `darts visualize`."""

import click

from darts_cli import DartsError
from darts_cli.commands.completion import DIR, FILE, SUBJECT
from darts_cli.commands.options import option
from darts_cli.text import encodable, hint, printable


@click.command()
@click.argument("subjects", metavar="GENOTYPE|RUN...", nargs=-1, required=True, type=SUBJECT)
@option(
    "--what",
    type=click.Choice(["cells", "animation", "alphas", "curves", "candidates"]),
    show_default="everything available",
    help="What to draw.",
)
@option("--format", "form", type=click.Choice(["pdf", "svg", "png", "dot", "text"]), show_default="pdf", help="File format.")
@option("--output", metavar="DIR|FILE", type=DIR, show_default="this folder; text: the terminal", help="Output folder or file.")
@option(
    "--html",
    type=FILE,
    help="Write a run or a sweep as one HTML page instead of pictures; a search has a slider over its epochs.",
)
@option("--view", is_flag=True, help="Open the pictures when done.")
def visualize(subjects, what, form, output, html, view):
    """Draw cells, replay a search, plot learning curves.

    Draw each cell of a genotype (a name, a file in any notation or a run). Of a search, also animate each cell over the epochs
    (GIF) and draw heat maps of alpha. Of a training, also plot the learning curves. Of a sweep over seeds, also draw all
    candidates side by side with their scores, random cells in grey. Of repeated trainings, also plot the curves of all that
    have finished. Of several runs, plot the curves in one picture. Heat maps and curves need the extra `plot`.

    \b
    Example: darts visualize cnn/darts_v2 --format svg
    """
    from darts_cli.pictures.drawing import draw

    if view and form == "text" and output is None:
        raise DartsError("--view: text is shown in the terminal; leave --view out, or use --output", exit_code=2)
    drawing = draw(subjects, what, form, output, html)
    for path in drawing.paths:
        click.echo(printable(str(path)))
    click.echo(encodable(drawing.text), nl=False)
    for remark in drawing.remarks:
        hint(remark)
    failures = [str(error) for error in drawing.missing]
    if view and not failures and any(click.launch(str(path)) for path in drawing.paths):
        failures.append("--view: there is no program here that opens pictures")
    if failures:
        raise DartsError("; ".join(failures))
