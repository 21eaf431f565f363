"""The commands `darts search cnn` and `darts search rnn`."""

import importlib
import shlex

import click

from darts_cli.commands.options import options, run_options
from darts_cli.commands.seeds import many_seeds, only_with
from darts_cli.config import SearchCNN, SearchRNN
from darts_cli.describe import collapsed
from darts_cli.sweeps.seeds import parallel_count, seed_list
from darts_cli.text import hint


@click.group()
def search():
    """Search a cell; the run folder keeps it and everything needed to go on."""


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


def _select(domain, config, run, quiet, seeds, select_epochs, random_cells, parallel):
    """Search with several seeds, choose, and show the winner."""
    from darts_cli.sweeps.selection import select

    found, sweep = select(
        config,
        domain,
        seed_list(seeds, config.seed),
        epochs=select_epochs,
        random_cells=random_cells or 0,
        parallel=parallel_count(parallel or "1"),
        folder=run,
        quiet=quiet,
    )
    _show_cells(found, domain, sweep.folder, quiet)


def _search(domain, config, run, quiet):
    """Search, and show the cells."""
    from darts_cli.runs.run import Run
    from darts_cli.runs.task import Task

    the_run = Run(Task("search", domain), config, run)
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
