"""The command `darts visualize`."""

from pathlib import Path

import click

from darts_cli import DartsError
from darts_cli.text import encodable, hint, printable


@click.command()
@click.argument("subjects", metavar="GENOTYPE|RUN...", nargs=-1, required=True)
@click.option(
    "--what", type=click.Choice(["cells", "animation", "alphas", "curves"]), help="What to show. [default: all there is]"
)
@click.option(
    "--format", "form", type=click.Choice(["pdf", "svg", "png", "dot", "text"]), help="Format of the pictures. [default: pdf]"
)
@click.option("--output", metavar="DIR|FILE", help="Where they go. [default: this folder; text: the terminal]")
@click.option("--html", metavar="FILE", help="Show a search as one page instead, with a slider over its epochs.")
@click.option("--view", is_flag=True, help="Open what was drawn.")
def visualize(subjects, what, form, output, html, view):
    """Draw cells, replay a search, plot learning curves.

    Of a genotype, by name, file or run: a picture of each cell. Of a search also an animation over its epochs (GIF), and how
    alpha moved; of a training the learning curves; of several runs their curves in one picture. Cells and animations need
    Graphviz, alphas and curves the extra plot.

    \b
    Example: darts visualize cnn/darts_v2 --format svg
    """
    from darts_cli.pictures import subjects as drawing
    from darts_cli.pictures.cells import NoGraphviz, text

    if html is not None and (what, form, output) != (None, None, None):
        raise DartsError("--html: the page has its own form; leave --what, --format and --output out", exit_code=2)
    found = [drawing.subject(each) for each in subjects]
    place, is_file, form = (Path(html), True, "svg") if html is not None else drawing.target(output, form, what)
    drawn = drawing.draw(found, what if html is None else "page", form)
    if form == "text" and output is None:
        if view:
            raise DartsError("--view: text is shown in the terminal; leave --view out, or use --output", exit_code=2)
        click.echo(encodable("\n".join(picture.content.decode() for picture in drawn.pictures)), nl=False)
        return
    paths = drawing.write(place, is_file, drawn.pictures)
    for path in paths:
        click.echo(printable(str(path)))
    if any(isinstance(each, NoGraphviz) for each in drawn.missing):
        for each in found:
            click.echo(encodable(text(each.genotype())), nl=False)
    for remark in drawn.remarks:
        hint(remark)
    failed = [str(each) for each in drawn.missing]
    if view and not failed and any(click.launch(str(path)) for path in paths):
        failed.append("--view: there is no program here that opens pictures")
    if failed:
        raise DartsError("; ".join(failed))
