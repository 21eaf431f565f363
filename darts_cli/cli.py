"""The command `darts`: parse, call one function, show its result."""

import importlib
import json
import shlex
import sys
from pathlib import Path

import click

from darts_cli import DartsError
from darts_cli.config import IMAGES, TEXTS, SearchCNN, SearchRNN, TrainCNN, TrainRNN
from darts_cli.options import GenotypeType, on_the_same_data, options, run_options, version
from darts_cli.outcome import Darts
from darts_cli.output import encodable, hint, lines, printable
from darts_cli.seeds import many_seeds, only_with, parallel_count, repeated, seed_list
from darts_cli.structure import collapsed
from darts_cli.toolbox import genotype


@click.group(
    cls=Darts,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "token_normalize_func": lambda token: token.replace("_", "-"),  # --batch_size, as the original writes it
    },
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=version, help="Show versions and devices.")
def main():
    """Find neural network cells by gradient descent (DARTS, arXiv 1806.09055)."""


@main.group()
def search():
    """Search a cell; the run folder keeps it and everything needed to go on."""


def _select(domain, config, run, quiet, seeds, select_epochs, random_cells, parallel):
    """Search with several seeds, choose, and show the winner."""
    from darts_cli.selection import select

    found, whole = select(
        config,
        domain,
        seed_list(seeds, config.seed),
        epochs=select_epochs,
        random_cells=random_cells or 0,
        parallel=parallel_count(parallel or "1"),
        folder=run,
        quiet=quiet,
    )
    _show_cells(found, domain, whole.folder, quiet)


def _search(domain, config, run, quiet):
    """Search, and show the cells."""
    from darts_cli.run import Run

    the_run = Run(f"search {domain}", config, run)
    found = importlib.import_module(f"darts_cli.{domain}.search").search(config, the_run, quiet)
    _show_cells(found, domain, the_run.folder, quiet)


def _show_cells(found, domain, folder, quiet):
    """The result of a search, whether it looks collapsed, and the training that usually comes next."""
    if found is not None:
        click.echo(found.to_yaml(), nl=False)
    if quiet:
        return
    if found is None:
        return hint(f"in {folder}, see report.md; nothing was trained, so nothing was chosen")
    warning = collapsed(found)
    if warning:
        hint(f"warning: {warning}")
    hint(f"in {folder}, see report.md; next: darts train {domain} --genotype {shlex.quote(str(folder))}")


def _train(domain, genotype, config, run, quiet):
    """Train, and show the result."""
    from darts_cli.run import Run

    the_run = Run(f"train {domain}", config, run, genotype)
    result = importlib.import_module(f"darts_cli.{domain}.train").train(genotype, config, the_run, quiet)
    click.echo(lines(result.summary()))
    if not quiet:
        hint(f"in {the_run.folder}, see report.md; next: darts eval --checkpoint {shlex.quote(str(the_run.folder))}")


def _repeat(domain, genotype, config, run, quiet, repeats, parallel):
    """Train with several seeds and show mean and deviation."""
    from darts_cli.repeats import repeat, shown

    count = parallel_count(parallel or "1")
    result, whole = repeat(genotype, config, domain, repeats, parallel=count, folder=run, quiet=quiet)
    sign = "±" if "±".encode(sys.stdout.encoding or "ascii", "ignore") else "+-"
    click.echo(lines(shown(result)).replace("±", sign))
    if not quiet:
        hint(f"in {whole.folder}, see report.md")


@search.command("cnn")
@options(SearchCNN)
@many_seeds
@run_options("search-cnn")
def search_cnn(run, quiet, seeds, select_epochs, random_cells, parallel, **settings):
    """Search a convolutional cell on images.

    The same command goes on where a run was stopped. The cells found are printed, and kept in the run folder as genotype.yaml.

    \b
    Example: darts search cnn --dataset digits --epochs 10 --channels 8 --layers 5
    """
    config = SearchCNN(**settings)
    if seeds is not None:
        return _select("cnn", config, run, quiet, seeds, select_epochs, random_cells, parallel)
    only_with("--seeds", select_epochs=select_epochs, random_cells=random_cells, parallel=parallel)
    _search("cnn", config, run, quiet)


@search.command("rnn")
@options(SearchRNN)
@many_seeds
@run_options("search-rnn")
def search_rnn(run, quiet, seeds, select_epochs, random_cells, parallel, **settings):
    """Search a recurrent cell on a text.

    The same command goes on where a run was stopped. The cell found is printed, and kept in the run folder as genotype.yaml.

    \b
    Example: darts search rnn --dataset pydoc --epochs 5
    """
    config = SearchRNN(**settings)
    if seeds is not None:
        return _select("rnn", config, run, quiet, seeds, select_epochs, random_cells, parallel)
    only_with("--seeds", select_epochs=select_epochs, random_cells=random_cells, parallel=parallel)
    _search("rnn", config, run, quiet)


@main.group()
def train():
    """Train a cell at full size."""


@train.command("cnn")
@click.option(
    "--genotype",
    "--arch",
    "genotype",
    type=GenotypeType("cnn"),
    default="darts_v2",
    show_default=True,
    help="Cells to train: a published name, a genotype file, or the run folder of a search, whose data are trained on.",
)
@options(TrainCNN)
@repeated
@run_options("train-cnn")
def train_cnn(genotype, run, quiet, repeats, parallel, **settings):
    """Train a network of convolutional cells on images.

    The same command goes on where a run was stopped. Accuracy and loss are printed, and kept in the run folder.

    \b
    Example: darts train cnn --genotype darts_v1 --dataset digits --epochs 20 --channels 8 --layers 5
    """
    config = TrainCNN(**on_the_same_data(settings))
    if repeats > 1:
        return _repeat("cnn", genotype, config, run, quiet, repeats, parallel)
    only_with("--repeats", parallel=parallel)
    _train("cnn", genotype, config, run, quiet)


@train.command("rnn")
@click.option(
    "--genotype",
    "--arch",
    type=GenotypeType("rnn"),
    default="darts_v2",
    show_default=True,
    help="Cell to train: a published name, a genotype file, or the run folder of a search, whose text is trained on.",
)
@options(TrainRNN)
@repeated
@run_options("train-rnn")
def train_rnn(genotype, run, quiet, repeats, parallel, **settings):
    """Train a language model of a recurrent cell on a text.

    The same command goes on where a run was stopped. The perplexity is printed, and kept in the run folder.

    \b
    Example: darts train rnn --dataset pydoc --epochs 5
    """
    config = TrainRNN(**on_the_same_data(settings))
    if repeats > 1:
        return _repeat("rnn", genotype, config, run, quiet, repeats, parallel)
    only_with("--repeats", parallel=parallel)
    _train("rnn", genotype, config, run, quiet)


@main.command("eval")
@click.option(
    "--checkpoint",
    "--model-path",
    metavar="RUN|FILE",
    required=True,
    help="Run folder of a training, a checkpoint in one, or a checkpoint of the original code.",
)
@click.option(
    "--genotype",
    "--arch",
    metavar="NAME|FILE|RUN",
    help="Cells of the original's checkpoint, where it does not tell. [default: darts_v2]",
)
@click.option(
    "--dataset", type=click.Choice((*IMAGES, "imagenet", *TEXTS)), help="Data to evaluate on. [default: that of the training]"
)
@click.option("--data", metavar="DIR", help="Folder that holds the data set. [default: that of the training]")
@click.option("--batch-size", type=click.IntRange(1), help="Images or streams at a time. [default: 100 images, 1 stream]")
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True, help="Arithmetic.")
@click.option("--device", metavar="DEVICE", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--workers", type=click.IntRange(0), help="Processes that read the images of ImageNet.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def eval_(checkpoint, genotype, dataset, data, batch_size, precision, device, workers, as_json):
    """Evaluate a trained network on the test part of its data set.

    Cells, size and data set come from the checkpoint; of the original's checkpoints the size comes from the tensors.

    \b
    Example: darts eval --checkpoint runs/train-cnn-cifar10-seed0-1a2b3c4d
    """
    from darts_cli import checkpoint as checkpoints
    from darts_cli.genotype import load
    from darts_cli.legacy import domain_of

    domain = domain_of(checkpoints.file(checkpoint))
    if dataset is not None and (dataset in TEXTS) != (domain == "rnn"):
        raise DartsError(f"--dataset {dataset}: {checkpoint} holds a network of the domain {domain}", exit_code=2)
    cells = load(genotype, domain) if genotype else None
    if domain == "cnn":
        from darts_cli.cnn.evaluate import evaluate

        further = {"batch_size": batch_size or 100, "workers": workers}
    else:
        from darts_cli.rnn.evaluate import evaluate

        further = {"batch_size": batch_size or 1}
    result = evaluate(checkpoint, cells, dataset, data, where=device, precision=precision, **further)
    click.echo(json.dumps(result) if as_json else lines(result))


@main.command()
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
    from darts_cli import visualize as drawing
    from darts_cli.draw import NoGraphviz, text

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


main.add_command(genotype)
