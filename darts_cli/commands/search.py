"""The commands `darts search cnn` and `darts search rnn`."""

import importlib
import shlex

import click
from click.core import ParameterSource

from darts_cli import DartsError
from darts_cli.commands.options import (
    SectionedGroup,
    check_no_extension,
    engine_option,
    extend_option,
    fit_option,
    only_with,
    option,
    options,
    parallel_option,
    run_options,
)
from darts_cli.config import SearchCNN, SearchRNN
from darts_cli.describe import collapsed
from darts_cli.methods.derive import undecided
from darts_cli.sweeps.seeds import MAX_RUNS, Placement, seed_list
from darts_cli.text import hint


@click.group(cls=SectionedGroup)
def search():
    """Search for a cell.

    The run folder keeps it, and everything needed to resume.
    """


class _Assignments(click.ParamType):
    """NAME=VALUE,..., as a mapping from names to texts."""

    name = "settings"

    def convert(self, value, param, ctx):
        if isinstance(value, dict):  # of a file
            return value
        if not isinstance(value, str):
            self.fail(f"{value!r}: must be a mapping", param, ctx)
        found = {}
        for part in value.split(","):
            name, equals, text = map(str.strip, part.partition("="))
            if not (name and equals and text):
                self.fail(f"{part!r}: write NAME=VALUE,..., such as channels=8,layers=5", param, ctx)
            found[name] = text
        return found


short_settings_option = option(
    "--select-settings",
    type=_Assignments(),
    metavar="NAME=VALUE,...",
    show_default="the recipe of the data set",
    help="Settings of the short trainings, such as channels=8,layers=5.",
)

_SWEEP = (
    option("--seeds", metavar="N|LIST", help="Search with N seeds, starting at --seed, or with a list of seeds such as 0,3,7."),
    option(
        "--select-epochs",
        type=click.IntRange(0),
        show_default="100 for cnn, 300 for rnn",
        help="Epochs of the short trainings that choose the winner; 0 trains nothing.",
    ),
    short_settings_option,
    option(
        "--random-cells",
        type=click.IntRange(0, MAX_RUNS),
        show_default="0",
        help="Random cells to train for comparison.",
    ),
    parallel_option,
    engine_option,
)


_FROM_TABLE = option(
    "--select-from-table",
    is_flag=True,
    help="In nas-bench-201: take the short trainings from its table, 12 epochs each.",
)


@search.command("cnn")
@options(SearchCNN, *_SWEEP, _FROM_TABLE, extend_option, fit_option, *run_options("search-cnn"))
def search_cnn(
    run,
    quiet,
    extend,
    fit_memory,
    seeds,
    select_epochs,
    select_settings,
    select_from_table,
    random_cells,
    parallel,
    engine,
    **settings,
):
    """Search for a convolutional cell on images.

    Repeat the command to resume a stopped run. The result is printed, and written to genotype.yaml in the run folder.

    \b
    Example: darts search cnn --dataset digits --epochs 10 --channels 8 --layers 5
    """
    choice = {
        "epochs": select_epochs,
        "settings": select_settings,
        "random_cells": random_cells,
        "from_table": select_from_table,
    }
    _search("cnn", SearchCNN(**settings), run, quiet, extend, fit_memory, seeds, choice, parallel, engine)


@search.command("rnn")
@options(SearchRNN, *_SWEEP, extend_option, fit_option, *run_options("search-rnn"))
def search_rnn(
    run, quiet, extend, fit_memory, seeds, select_epochs, select_settings, random_cells, parallel, engine, **settings
):
    """Search for a recurrent cell on a text.

    Repeat the command to resume a stopped run. The result is printed, and written to genotype.yaml in the run folder.

    \b
    Example: darts search rnn --dataset pydoc --epochs 5
    """
    choice = {"epochs": select_epochs, "settings": select_settings, "random_cells": random_cells}
    _search("rnn", SearchRNN(**settings), run, quiet, extend, fit_memory, seeds, choice, parallel, engine)


def _search(domain, config, run, quiet, extend, fit_memory, seeds, choice, parallel, engine):
    """Search with one seed, or with several and choose the best cells; print the result."""
    if seeds is None:
        check_single(choice, parallel, engine)
        if extend and "narrow" in config.spec.parts:
            raise DartsError("--extend: a method with stages (narrow) has other stages in a longer search", exit_code=2)
        from darts_cli.runs.run import Run
        from darts_cli.runs.task import Task

        if fit_memory is not None:
            fit = importlib.import_module("darts_cli.plans.fit").fit
            config = fit(fit_memory, Task("search", domain), config, run, quiet=quiet)
        the_run = Run(Task("search", domain), config, run, extend=extend)
        cells = importlib.import_module(f"darts_cli.{domain}.search").search(config, the_run, quiet)
    else:
        check_no_extension(extend, "--seeds", fit_memory)
        from darts_cli.sweeps.selection import select

        cells, the_run = select(
            config,
            domain,
            seeds_of(seeds, config.seed),
            **choice | {"random_cells": choice["random_cells"] or 0},
            placement=Placement.of(parallel, engine),
            folder=run,
            quiet=quiet,
        )
    records = the_run.reports.metrics if seeds is None else []
    _show_cells(cells, domain, the_run.folder, quiet, records[-1] if records else None, config.ending(records))


def check_single(choice: dict, parallel: str | None, engine: str | None) -> None:
    """Refuse the options of several searches for a single one."""
    only_with("--seeds", select_epochs=choice["epochs"], random_cells=choice["random_cells"], parallel=parallel, engine=engine)
    only_with("--seeds", select_settings=choice["settings"], select_from_table=choice.get("from_table") or None)


def _show_cells(cells, domain, folder, quiet, last=None, ending=""):
    """Print the cells, how a rule ended the search, warnings if they look collapsed or, by the last record, nothing
    was decided, and the next command."""
    if cells is not None:
        click.echo(cells.to_yaml(), nl=False)
    if quiet:
        return
    if cells is None:
        return hint(f"in {folder}, see report.md; nothing was trained, so nothing was chosen")
    if ending:
        hint(ending)
    warning = collapsed(cells)
    if warning:
        hint(f"warning: {warning}")
    same = undecided(last["operation_weights"]) if last else None
    if same is not None:
        hint(
            f"warning: the search has decided nothing: the entropy of its operation weights, {same:.3f}, is that of equal "
            "weights, so the cells may be little better than random ones; search for more epochs, or with a larger --alpha-lr"
        )
    hint(f"in {folder}, see report.md; next: darts train {domain} --genotype {shlex.quote(str(folder))}")


def seeds_of(text, first):
    """The seeds of --seeds. Raises DartsError, also where --seed was given too and is not the first of a list."""
    seeds = seed_list(text, first)
    given = click.get_current_context().get_parameter_source("seed") is ParameterSource.COMMANDLINE
    if given and seeds[0] != first:
        raise DartsError(f"--seed {first}: is not the first of --seeds {text}; leave --seed out", exit_code=2)
    return seeds
