"""The commands `darts space ...`: what a search may find."""

import json

import click
import yaml

from darts_cli import files
from darts_cli.commands.completion import FILE, SPACE
from darts_cli.commands.errors import check_files
from darts_cli.commands.options import option
from darts_cli.spaces.choose import is_shipped, read
from darts_cli.spaces.rules import space_problems
from darts_cli.spaces.space import Space, load, names
from darts_cli.text import table


@click.group()
def space():
    """List, show and check search spaces."""


@space.command("list")
@click.argument("domain", type=click.Choice(["cnn", "rnn"]), required=False)
def list_(domain):
    """List the search spaces.

    The columns are name, domain, nodes and edges of a cell, operations of an edge, the number of different results, and a note.

    \b
    Example: darts space list cnn
    """
    rows = [("name", "domain", "nodes", "edges", "operations", "results", "about")]
    for name in names(domain):
        known = load(name)
        about = files.read_yaml(files.data_folder("spaces") / f"{name}.yaml")
        numbers = (str(known.nodes), str(len(known.edges())), str(len(known.choices(known.cells[0])[0])))
        results = f"{known.size():,}" if known.size() < 10**6 else f"{known.size():.1e}"
        rows.append((name, known.domain, *numbers, results, about.get("notes") or about.get("source")))
    click.echo(table(rows))


@space.command("show")
@click.argument("space", metavar="NAME|FILE|RUN", type=SPACE)
@option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(space, as_json):
    """Print a search space as YAML, the form of a space file.

    Change a copy of it and search with --space FILE.

    \b
    Example: darts space show s3 > mine.yaml
    """
    shown = read(space)
    if as_json:
        click.echo(json.dumps(shown.to_dict()))
    elif is_shipped(shown):
        click.echo(files.read_text(files.data_folder("spaces") / f"{shown.name}.yaml"), nl=False)
    else:
        click.echo(_to_yaml(shown), nl=False)


def _to_yaml(space: Space) -> str:
    return yaml.safe_dump(space.to_dict(), sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)


@space.command("validate")
@click.argument("paths", metavar="FILE...", nargs=-1, required=True, type=FILE)
def validate(paths):
    """Check space files and list every problem in them.

    \b
    Example: darts space validate mine.yaml
    """
    check_files(paths, lambda path: [f"{path}: {problem}" for problem in space_problems(files.read_yaml(path))])
