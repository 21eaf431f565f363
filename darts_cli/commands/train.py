"""The commands `darts train cnn` and `darts train rnn`."""

import importlib
import shlex
import sys

import click

from darts_cli.commands.options import GenotypeType, on_the_same_data, options, run_options
from darts_cli.commands.seeds import only_with, repeated
from darts_cli.config import TrainCNN, TrainRNN
from darts_cli.sweeps.seeds import parallel_count
from darts_cli.text import hint, lines


@click.group()
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


def _train(domain, genotype, config, run, quiet):
    """Train, and show the result."""
    from darts_cli.runs.run import Run
    from darts_cli.runs.task import Task

    the_run = Run(Task("train", domain), config, run, genotype)
    result = importlib.import_module(f"darts_cli.{domain}.train").train(genotype, config, the_run, quiet)
    click.echo(lines(result.summary()))
    if not quiet:
        hint(f"in {the_run.folder}, see report.md; next: darts eval --checkpoint {shlex.quote(str(the_run.folder))}")


def _repeat(domain, genotype, config, run, quiet, repeats, parallel):
    """Train with several seeds and show mean and deviation."""
    from darts_cli.sweeps.repeats import repeat, shown

    count = parallel_count(parallel or "1")
    result, sweep = repeat(genotype, config, domain, repeats, parallel=count, folder=run, quiet=quiet)
    sign = "±" if "±".encode(sys.stdout.encoding or "ascii", "ignore") else "+-"
    click.echo(lines(shown(result)).replace("±", sign))
    if not quiet:
        hint(f"in {sweep.folder}, see report.md")
