"""The commands `darts genotype ...`: what one does with genotypes without writing Python."""

import json
import random
import sys

import click

from darts_cli import DartsError
from darts_cli.text import lines, printable, table

FORMS = ("yaml", "python", "dict", "tuples", "string")


@click.group()
def genotype():
    """List, show, check, measure, compare, draw and convert genotypes."""


@genotype.command("list")
@click.argument("domain", type=click.Choice(["cnn", "rnn"]), required=False)
def list_(domain):
    """List the published genotypes: name, domain, hash, parameters and source.

    Parameters are those of the paper's networks for CIFAR-10 (36 channels, 20 layers) and Penn Treebank (dimension 850).

    \b
    Example: darts genotype list cnn
    """
    from darts_cli.genotype import load, names, published_sizes

    rows = [("name", "domain", "hash", "parameters", "source")]
    for each in [domain] if domain else ["cnn", "rnn"]:
        for name in names(each):
            cells, size = load(name, each), published_sizes().get(f"{each}/{name}")
            rows.append((name, each, cells.hash(), f"{f'{size:,}' if size else '':>10}", cells.source or ""))
    click.echo(table(rows))


@genotype.command("show")
@click.argument("genotype", metavar="NAME|FILE|RUN")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def show(genotype, as_json):
    """Print a genotype as YAML.

    \b
    Example: darts genotype show cnn/darts_v2
    """
    from darts_cli.genotype import load

    cells = load(genotype)
    click.echo(json.dumps(cells.to_dict()) + "\n" if as_json else cells.to_yaml(), nl=False)


@genotype.command("validate")
@click.argument("paths", metavar="FILE...", nargs=-1, required=True)
def validate(paths):
    """Check genotype files and tell everything that is wrong with them.

    \b
    Example: darts genotype validate runs/*/genotype.yaml
    """
    from darts_cli import files
    from darts_cli.spaces import problems

    failed = False
    for path in paths:
        try:
            found = problems(files.read_yaml(path))
        except DartsError as error:
            click.echo(printable(str(error)), err=True)
            failed = True
            continue
        for problem in found:
            click.echo(printable(f"{path}: {problem}"), err=True)
        failed |= bool(found)
        if not found:
            click.echo(printable(f"{path}: valid"))
    if failed:
        sys.exit(1)


@genotype.command("info")
@click.argument("genotype", metavar="NAME|FILE|RUN")
@click.option("--channels", type=click.IntRange(2, 1 << 14), help="Channels of the first cells. [default: 36; ImageNet: 48]")
@click.option("--layers", type=click.IntRange(1, 200), help="Cells of the network. [default: 20; ImageNet: 14]")
@click.option(
    "--resolution",
    type=click.IntRange(4, 1 << 14),
    help="Side of the images: from 128 on the network for ImageNet, 1,000 classes, below that for CIFAR-10. [default: both]",
)
@click.option("--dim", type=click.IntRange(1, 1 << 20), help="Size of a recurrent network's states. [default: 850]")
@click.option("--vocab", type=click.IntRange(1, 1 << 30), help="Words of its vocabulary. [default: 10000]")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def info(genotype, channels, layers, resolution, dim, vocab, as_json):
    """Measure a genotype: depth, skip connections, parameters and multiply-adds.

    An auxiliary head is not counted; multiply-adds are those of convolutions and linear layers.

    \b
    Example: darts genotype info cnn/darts_v2 --channels 16 --layers 8 --resolution 32
    """
    from darts_cli.describe import about
    from darts_cli.genotype import load

    cells = load(genotype)
    if cells.domain == "cnn":
        if (dim, vocab) != (None, None):
            raise DartsError("--dim and --vocab are for recurrent cells; use --channels, --layers and --resolution", 2)
        from darts_cli.cnn.sizes import sizes

        found = sizes(cells, channels, layers, resolution)
    else:
        if (channels, layers, resolution) != (None, None, None):
            raise DartsError("--channels, --layers and --resolution are for convolutional cells; use --dim and --vocab", 2)
        from darts_cli.rnn.sizes import sizes

        found = sizes(cells, dim or 850, vocab or 10_000)
    result = about(cells) | {"sizes": found}
    click.echo(json.dumps(result) if as_json else _measured(result))


def _measured(result: dict) -> str:
    shown = {key: result[key] for key in ("name", "domain", "hash", "source") if result[key]}
    for name, cell in result["cells"].items():
        skips = [
            f"{count} {what.replace('_', ' ')}" for what, count in cell.items() if what in ("skip_connections", "identities")
        ]
        shown[name] = ", ".join([f"{cell['nodes']} nodes", f"depth {cell['depth']}", *skips])
        if cell["unused"]:
            shown[name] += f", unused: {', '.join(cell['unused'])}"
    for size in result["sizes"]:
        counts = f"{size['parameters']:,} parameters"
        if "multiply_adds" in size:
            counts += f", {size['multiply_adds'] / 1e6:,.1f} M multiply-adds"
        shown[size["network"]] = f"{counts} ({size['size']})"
    return lines(shown)


@genotype.command("diff")
@click.argument("one", metavar="A")
@click.argument("other", metavar="B")
def diff(one, other):
    """Compare two genotypes, each a name, a file or a run, node by node.

    The order of the edges within a node does not count.

    \b
    Example: darts genotype diff cnn/darts_v1 cnn/darts_v2
    """
    from darts_cli.describe import differences
    from darts_cli.genotype import load

    first, second = load(one), load(other)
    try:
        found = differences(first, second)
    except DartsError as error:
        raise DartsError(f"{one} and {other}: {error}") from None
    if not found:
        click.echo("the same cells")
    for place, before, after in found:
        for sign, edges, colour in (("-", before, "red"), ("+", after, "green")):
            if edges:
                click.secho(f"{sign} {place}  {edges}", fg=colour)


@genotype.command("random")
@click.argument("domain", type=click.Choice(["cnn", "rnn"]))
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the draw.")
@click.option(
    "--count", type=click.IntRange(1), default=1, show_default=True, help="How many, as documents of one YAML stream."
)
def random_(domain, seed, count):
    """Draw genotypes uniformly from the search space.

    \b
    Example: darts genotype random cnn --seed 1 > mine.yaml
    """
    from dataclasses import replace

    from darts_cli.genotype import random_genotype

    rng = random.Random(seed)
    for i in range(count):
        of = f", number {i + 1}" if count > 1 else ""
        drawn = replace(random_genotype(domain, rng), source=f"drawn uniformly from the search space, seed {seed}{of}")
        click.echo(("---\n" if i else "") + drawn.to_yaml(), nl=False)


@genotype.command("convert")
@click.argument("genotype", metavar="FILE|NAME|RUN|-")
@click.option("--to", "form", type=click.Choice(FORMS), default="yaml", show_default=True, help="Form to print.")
def convert(genotype, form):
    """Convert a genotype from any known form, which is detected, to another; - reads stdin.

    Known are YAML, the original's Genotype(...), its fields as a mapping, the tuples of BANANAS, and |operation~input|...| a
    node. Nothing that is read is evaluated.

    \b
    Example: darts genotype convert genotypes.txt --to yaml > mine.yaml
    """
    from darts_cli import files
    from darts_cli.formats import genotypes
    from darts_cli.genotype import is_name, load

    if genotype == "-":
        found = genotypes.parse(files.read_stream(sys.stdin.buffer, "stdin"), "stdin")
    elif files.is_file(genotype) and not is_name(genotype):
        found = genotypes.parse(files.read_text(genotype), genotype)
    else:
        found = load(genotype)
    click.echo(genotypes.WRITERS[form](found), nl=False)
