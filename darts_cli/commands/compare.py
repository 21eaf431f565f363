"""The commands `darts compare cnn` and `darts compare rnn`."""

import re

import click

from darts_cli import DartsError, files
from darts_cli.commands.options import SectionedGroup, engine_option, option, options, parallel_option, run_options
from darts_cli.commands.search import seeds_of, short_settings_option
from darts_cli.config import SearchCNN, SearchRNN
from darts_cli.formats.nasbench201 import holds
from darts_cli.pictures.pages.comparison import page
from darts_cli.spaces.space import DEFAULTS
from darts_cli.sweeps.seeds import Placement
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
    option("--seeds", metavar="N|LIST", default="6", show_default=True, help="N seeds, starting at --seed, or a list."),
    option(
        "--select-epochs",
        type=click.IntRange(1),
        show_default="100 for cnn, 300 for rnn",
        help="Epochs of the short trainings, where no table knows the cells.",
    ),
    short_settings_option,
    parallel_option,
    engine_option,
)


@compare.command("cnn")
@options(SearchCNN, *_OWN, *run_options("compare-cnn"), without=("space", "method"))
def compare_cnn(**given):
    """Compare searches of convolutional cells.

    \b
    Example: darts compare cnn --space nas-bench-201 --methods darts,gdas,drnas,random --seeds 8
    """
    _compare("cnn", **given)


@compare.command("rnn")
@options(SearchRNN, *_OWN, *run_options("compare-rnn"), without=("space", "method"))
def compare_rnn(**given):
    """Compare searches of recurrent cells.

    \b
    Example: darts compare rnn --dataset pydoc --methods darts,gdas,random --seeds 7
    """
    _compare("rnn", **given)


def _compare(domain, methods, spaces, seeds, select_epochs, select_settings, parallel, engine, run, quiet, **settings):
    from darts_cli.sweeps.comparison import check_random
    from darts_cli.sweeps.comparison import compare as compared
    from darts_cli.sweeps.reports.comparison import RANDOM, comparisons, too_few

    kind, configs, names = DOMAINS[domain], {}, _names("--methods", methods)
    spaces = _names("--spaces", spaces or DEFAULTS[domain])
    base = kind(**settings | {"space": spaces[0]})
    for space in spaces:
        for name in names:
            drawn = name.partition(":")[0] in RANDOM
            if drawn:
                check_random(name)
            given = {"space": space, "method": "darts" if drawn else name, "epochs": base.epochs}
            try:
                configs[space, name] = kind(**settings | given)
            except DartsError as error:
                raise DartsError(str(error).replace("--method:", "--methods:", 1), error.exit_code) from None
    _check_different(configs)
    seeds = seeds_of(seeds, base.seed)
    short = {"--select-epochs": select_epochs, "--select-settings": select_settings}
    for name, value in short.items():
        if value is not None and all(holds(config.searched) for config in configs.values()):
            raise DartsError(f"{name}: the table judges the cells of nas-bench-201, so nothing is trained", exit_code=2)
    for sentence in too_few(len(seeds), len(comparisons(names))):
        hint(sentence)
    content, sweep = compared(
        base,
        configs,
        domain,
        seeds,
        epochs=select_epochs,
        short=select_settings,
        placement=Placement.of(parallel, engine),
        folder=run,
        quiet=quiet,
    )
    files.write(sweep.folder / "comparison.html", page(content, sweep.repeat()))
    click.echo((sweep.folder / "report.md").read_text(encoding="utf-8"), nl=False)
    if not quiet:
        hint(f"in {sweep.folder}, see comparison.html")


def _check_different(configs):
    """Refuse two spellings of one method, and spaces or methods whose folders would have one name."""
    from darts_cli.sweeps.reports.comparison import RANDOM, word

    for i, option_name in ((0, "--spaces"), (1, "--methods")):
        words = {}
        for key, config in configs.items():
            same = word(key[0]) if i == 0 else (config.method if key[1].partition(":")[0] not in RANDOM else key[1])
            if words.setdefault(same, key[i]) != key[i]:
                raise DartsError(f"{option_name}: {words[same]} and {key[i]} are the same, or have one name", exit_code=2)


def _names(option_name, text):
    """The names between commas, except those within the numbers of a method, as in narrow:second=4,third=0."""
    names = [name.strip() for name in re.split(r",(?!\s*[\w-]+=)", text) if name.strip()]
    if option_name == "--methods" and len(names) == 1:
        raise DartsError(f"--methods {text}: a comparison needs at least two, such as darts,random", exit_code=2)
    if not names or len(set(names)) < len(names):
        raise DartsError(f"{option_name} {text}: must be different names, such as darts,random", exit_code=2)
    return names
