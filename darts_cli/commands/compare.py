"""The commands `darts compare cnn` and `darts compare rnn`."""

import re

import click

from darts_cli import DartsError, files
from darts_cli.commands.options import SectionedGroup, option, options, parallel_option, run_options
from darts_cli.config import SearchCNN, SearchRNN
from darts_cli.spaces.space import DEFAULTS
from darts_cli.sweeps.seeds import parallel_count, seed_list
from darts_cli.text import hint

DOMAINS = {"cnn": SearchCNN, "rnn": SearchRNN}


@click.group(cls=SectionedGroup)
def compare():
    """Compare search methods, over seeds and spaces.

    Every method searches with the same data, epochs and seeds. What they find is judged by the true accuracies of
    NAS-Bench-201 or, in other spaces, by short trainings; `random` is a random cell, `random-search:N` the best of N by short
    trainings, by default as many as cost about what a search does. Means have 95 % intervals; paired differences to the random
    methods have the p-values of a permutation test, corrected for their number.
    """


_OWN = (
    option(
        "--methods",
        metavar="A,B,...",
        default="darts,random",
        show_default=True,
        help="Methods of darts method list, random, and random-search:N.",
    ),
    option(
        "--spaces",
        "--space",
        "spaces",
        metavar="A,B,...",
        show_default="darts for cnn, darts-rnn for rnn",
        help="Search spaces, names or files; each is compared by itself.",
    ),
    option("--seeds", metavar="N|LIST", default="4", show_default=True, help="N seeds, starting at --seed, or a list."),
    option(
        "--select-epochs",
        type=click.IntRange(1),
        show_default="100 for cnn, 300 for rnn",
        help="Epochs of the short trainings, where no table knows the cells.",
    ),
    parallel_option,
)


@compare.command("cnn")
@options(SearchCNN, *_OWN, *run_options("compare-cnn"), without=("space", "method"))
def compare_cnn(**given):
    """Compare searches of convolutional cells.

    \b
    Example: darts compare cnn --space nas-bench-201 --methods darts,gdas,drnas,random --seeds 6
    """
    _compare("cnn", **given)


@compare.command("rnn")
@options(SearchRNN, *_OWN, *run_options("compare-rnn"), without=("space", "method"))
def compare_rnn(**given):
    """Compare searches of recurrent cells.

    \b
    Example: darts compare rnn --dataset pydoc --methods darts,gdas,random --seeds 6
    """
    _compare("rnn", **given)


def _compare(domain, methods, spaces, seeds, select_epochs, parallel, run, quiet, **settings):
    from darts_cli.pictures.comparison import page
    from darts_cli.sweeps.comparison import RANDOM, check_random
    from darts_cli.sweeps.comparison import compare as compared

    kind, configs, names = DOMAINS[domain], {}, _names("--methods", methods)
    spaces = _names("--spaces", spaces or DEFAULTS[domain])
    base = kind(**settings | {"space": spaces[0]})
    for space in spaces:
        for name in names:
            drawn = name.partition(":")[0] in RANDOM
            if drawn:
                check_random(name)
            given = {"space": space, "method": "darts" if drawn else name, "epochs": base.epochs}
            config = kind(**settings | given)
            configs[space, name] = config
    seeds = seed_list(seeds, base.seed)
    content, sweep = compared(
        base,
        configs,
        domain,
        seeds,
        epochs=select_epochs,
        parallel=parallel_count(parallel or "1"),
        folder=run,
        quiet=quiet,
    )
    files.write(sweep.folder / "comparison.html", page(content, sweep.repeat()))
    click.echo((sweep.folder / "report.md").read_text(encoding="utf-8"), nl=False)
    if not quiet:
        hint(f"in {sweep.folder}, see comparison.html")


def _names(option_name, text):
    """The names between commas, except those within the numbers of a method, as in narrow:second=4,third=0."""
    names = [name.strip() for name in re.split(r",(?!\s*[\w-]+=)", text) if name.strip()]
    if not names or len(set(names)) < len(names):
        raise DartsError(f"{option_name} {text}: must be different names, such as darts,random", exit_code=2)
    return names
