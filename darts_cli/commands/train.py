"""The commands `darts train cnn` and `darts train rnn`."""

import importlib
import shlex
import sys
from pathlib import Path

import click

from darts_cli.commands.options import (
    GenotypeType,
    SectionedGroup,
    check_no_extension,
    engine_option,
    extend_option,
    fit_option,
    on_the_same_data,
    only_with,
    option,
    options,
    parallel_option,
    run_options,
)
from darts_cli.config import TrainCNN, TrainRNN
from darts_cli.formats.genotypes import load
from darts_cli.genotype import is_name
from darts_cli.sweeps.seeds import MAX_RUNS, Placement
from darts_cli.text import hint, lines


class TrainGroup(SectionedGroup):
    """Its commands, and the cells to train in place of one: `darts train RUN` is `darts train cnn --genotype RUN`."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple:
        if args[0] not in self.commands and (is_name(args[0]) or Path(args[0]).exists()):
            args = [load(args[0]).domain, "--genotype", *args]
        return super().resolve_command(ctx, args)


@click.group(cls=TrainGroup)
def train():
    """Train a cell at full size.

    The domain may be left out where the cells are named: darts train RUN.
    """


def _training_options(domain):
    """The options of a training besides its settings."""
    genotype = option(
        "--genotype",
        "--arch",
        "genotype",
        type=GenotypeType(domain),
        default="darts_v2",
        show_default=True,
        help="Cell to train: a published name, a file or text in any notation that `darts genotype convert` reads, or a "
        "search's run folder (its data set is then used too).",
    )
    repeats = option(
        "--repeats",
        type=click.IntRange(1, MAX_RUNS),
        default=1,
        show_default=True,
        help="Train with this many seeds, starting at --seed, and print mean and deviation.",
    )
    return genotype, repeats, parallel_option, engine_option, extend_option, fit_option, *run_options(f"train-{domain}")


@train.command("cnn")
@options(TrainCNN, *_training_options("cnn"))
def train_cnn(genotype, run, quiet, extend, fit_memory, repeats, parallel, engine, **settings):
    """Train a network of convolutional cells on images.

    Repeat the command to resume a stopped run. Accuracy and loss are printed, and kept in the run folder.

    \b
    Example: darts train cnn --genotype darts_v1 --dataset digits --epochs 20 --channels 8 --layers 5
    """
    settings["recipe"] = genotype.macro
    _train("cnn", genotype, TrainCNN(**on_the_same_data(settings)), run, quiet, extend, fit_memory, repeats, parallel, engine)


@train.command("rnn")
@options(TrainRNN, *_training_options("rnn"))
def train_rnn(genotype, run, quiet, extend, fit_memory, repeats, parallel, engine, **settings):
    """Train a language model with a recurrent cell on a text.

    Repeat the command to resume a stopped run. The perplexity is printed, and kept in the run folder.

    \b
    Example: darts train rnn --dataset pydoc --epochs 5
    """
    _train("rnn", genotype, TrainRNN(**on_the_same_data(settings)), run, quiet, extend, fit_memory, repeats, parallel, engine)


def _train(domain, genotype, config, run, quiet, extend, fit_memory, repeats, parallel, engine):
    """Train with one seed or with several; print the result."""
    if repeats == 1:
        only_with("--repeats", parallel=parallel, engine=engine)
        from darts_cli.runs.run import Run
        from darts_cli.runs.task import Task

        if fit_memory is not None:
            fit = importlib.import_module("darts_cli.plans.fit").fit
            config = fit(fit_memory, Task("train", domain), config, run, genotype, quiet=quiet)
        the_run = Run(Task("train", domain), config, run, genotype, extend=extend)
        result = importlib.import_module(f"darts_cli.{domain}.train").train(genotype, config, the_run, quiet)
        shown = result.summary()
        following = f"; next: darts eval {shlex.quote(str(the_run.folder))}"
    else:
        check_no_extension(extend, "--repeats", fit_memory)
        from darts_cli.sweeps.repeats import repeat
        from darts_cli.sweeps.reports import repeats as reports

        placement = Placement.of(parallel, engine)
        result, the_run = repeat(genotype, config, domain, repeats, placement=placement, folder=run, quiet=quiet)
        shown, following = reports.shown(result), ""
    sign = "±" if "±".encode(sys.stdout.encoding or "ascii", "ignore") else "+-"
    click.echo(lines(shown).replace("±", sign))
    if not quiet:
        hint(f"in {the_run.folder}, see report.md{following}")
