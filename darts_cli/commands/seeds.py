"""The options of several seeds, and what their values mean."""

import click

from darts_cli import DartsError
from darts_cli.sweeps.seeds import MAX_RUNS


def many_seeds(command):
    """Decorator: the options of a search with several seeds, and of what follows it."""
    for option in (
        click.option(
            "--parallel", metavar="N|auto", help="Sub-runs at a time; auto is one a GPU, or one for 4 CPU threads. [default: 1]"
        ),
        click.option(
            "--random-cells", type=click.IntRange(0, MAX_RUNS), help="Random cells to train beside those found. [default: 0]"
        ),
        click.option(
            "--select-epochs",
            type=click.IntRange(0),
            help="Epochs of the trainings that choose the winner; 0 is none. [default: 100; of rnn: 300]",
        ),
        click.option(
            "--seeds", metavar="N|LIST", help="Search with N seeds from --seed on, or with those of a list such as 0,3,7."
        ),
    ):
        command = option(command)
    return command


def repeated(command):
    """Decorator: the options of a training with several seeds."""
    for option in (
        click.option(
            "--parallel", metavar="N|auto", help="Repeats at a time; auto is one a GPU, or one for 4 CPU threads. [default: 1]"
        ),
        click.option(
            "--repeats",
            type=click.IntRange(1, MAX_RUNS),
            default=1,
            show_default=True,
            help="Train with so many seeds, from --seed on; the result is mean and deviation.",
        ),
    ):
        command = option(command)
    return command


def only_with(option, **others):
    """Refuse what has no meaning without that option."""
    for name, value in others.items():
        if value is not None:
            raise DartsError(f"--{name.replace('_', '-')}: only together with {option}", exit_code=2)
