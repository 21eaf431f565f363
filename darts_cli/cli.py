"""The command `darts`: parse, call one function, show its result."""

import contextlib
import sys

import click

from darts_cli import DartsError, __version__
from darts_cli.config import SearchCNN
from darts_cli.options import options


class Darts(click.Group):
    """The root command; whatever goes wrong in it ends as one line on stderr and an exit code."""

    def main(self, *args, **kwargs):
        try:
            result = super().main(*args, **kwargs | {"standalone_mode": False})
            sys.exit(result if isinstance(result, int) else 0)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message(), err=True)
            sys.exit(error.exit_code)
        except click.UsageError as error:
            path = error.ctx.command_path if error.ctx else "darts"
            _fail(f"{error.format_message().rstrip('.')}; see {path} --help", error.exit_code)
        except click.ClickException as error:
            _fail(error.format_message(), error.exit_code)
        except DartsError as error:
            _fail(str(error), error.exit_code)
        except click.Abort:
            _fail("stopped", 130)


def _fail(message: str, exit_code: int):
    with contextlib.suppress(BrokenPipeError):
        click.echo(f"error: {_printable(message)}", err=True)
    sys.exit(exit_code)


def _printable(message: str) -> str:
    """On one line, without what a terminal would obey."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(message.split()))


@click.group(
    cls=Darts,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "token_normalize_func": lambda token: token.replace("_", "-"),  # --batch_size, as the original writes it
    },
)
@click.version_option(__version__, prog_name="darts", message="%(prog)s %(version)s")
def main():
    """Find neural network cells by gradient descent (DARTS, arXiv 1806.09055)."""


@main.group()
def search():
    """Search a cell; the run folder keeps it and everything needed to go on."""


@search.command("cnn")
@options(SearchCNN)
@click.option("--run", metavar="DIR", help="Run folder. [default: runs/search-cnn-DATASET-seedN-HASH]")
@click.option("--quiet", is_flag=True, help="Say nothing but errors and the result.")
def search_cnn(run, quiet, **settings):
    """Search a convolutional cell on images.

    The same command goes on where a run was stopped. The cells found are printed, and kept in the run folder as genotype.yaml.

    \b
    Example: darts search cnn --dataset digits --epochs 10 --channels 8 --layers 5
    """
    config = SearchCNN(**settings)
    from darts_cli.cnn.search import search
    from darts_cli.run import Run

    the_run = Run("search cnn", config, run)
    found = search(config, the_run, quiet)
    click.echo(found.to_yaml(), nl=False)
    if not quiet:
        click.echo(f"in {the_run.folder}; next: darts genotype show {the_run.folder}", err=True)


@main.group()
def genotype():
    """List, show and check genotypes."""


@genotype.command("list")
@click.argument("domain", type=click.Choice(["cnn", "rnn"]), required=False)
def genotype_list(domain):
    """List the published genotypes: name, domain and source.

    \b
    Example: darts genotype list cnn
    """
    from darts_cli.genotype import load, names

    rows = [("name", "domain", "source")]
    for each in [domain] if domain else ["cnn", "rnn"]:
        rows += [(name, each, load(name, each).source) for name in names(each)]
    widths = [max(len(row[k]) for row in rows) for k in range(2)]
    for name, each, source in rows:
        click.echo(f"{name:{widths[0]}}  {each:{widths[1]}}  {source}")


@genotype.command("show")
@click.argument("genotype", metavar="NAME|FILE|RUN")
def genotype_show(genotype):
    """Print a genotype as YAML.

    \b
    Example: darts genotype show cnn/darts_v2
    """
    from darts_cli.genotype import load

    click.echo(load(genotype).to_yaml(), nl=False)


@genotype.command("validate")
@click.argument("paths", metavar="FILE...", nargs=-1, required=True)
def genotype_validate(paths):
    """Check genotype files and tell everything that is wrong with them.

    \b
    Example: darts genotype validate runs/*/genotype.yaml
    """
    from darts_cli import files
    from darts_cli.genotype import problems

    failed = False
    for path in paths:
        try:
            found = problems(files.read_yaml(path))
        except DartsError as error:
            click.echo(_printable(str(error)), err=True)
            failed = True
            continue
        for problem in found:
            click.echo(_printable(f"{path}: {problem}"), err=True)
        failed |= bool(found)
        if not found:
            click.echo(_printable(f"{path}: valid"))
    if failed:
        sys.exit(1)
