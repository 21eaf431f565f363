"""The commands `darts genotype ...`: what people do with genotypes without writing Python."""

import json
import random
from dataclasses import replace
from pathlib import Path

import click

from darts_cli import DartsError, files
from darts_cli.commands.completion import DIR, FILE, GENOTYPE, SPACE
from darts_cli.commands.errors import check_files
from darts_cli.commands.options import option
from darts_cli.describe import about, differences
from darts_cli.formats import nasbench201
from darts_cli.formats.genotypes import WRITERS, load, problems, text_of
from darts_cli.genotype import names, published_sizes, random_genotype
from darts_cli.runs.derivation import derived
from darts_cli.runs.history import read
from darts_cli.spaces.choose import choose
from darts_cli.spaces.rules import genotype_problems
from darts_cli.spaces.space import default
from darts_cli.text import lines, table

as_json = option("--json", "as_json", is_flag=True, help="Print JSON.")
by_name = option("--name", metavar="NAME", help="Which genotype of a file with several; FILE:NAME says the same.")


@click.group()
def genotype():
    """List, check, measure, compare and convert genotypes."""


@genotype.command("list")
@click.argument("domain", type=click.Choice(["cnn", "rnn"]), required=False)
def list_(domain):
    """List the published genotypes.

    The columns are name, domain, hash, parameters and source. Parameters are counted in the paper's networks for CIFAR-10
    (36 channels, 20 layers) and Penn Treebank (dimension 850).

    \b
    Example: darts genotype list cnn
    """
    rows = [("name", "domain", "hash", "parameters", "source")]
    for domain_name in [domain] if domain else ["cnn", "rnn"]:
        for name in names(domain_name):
            cells, size = load(name, domain_name), published_sizes().get(f"{domain_name}/{name}")
            rows.append((name, domain_name, cells.hash(), f"{f'{size:,}' if size else '':>10}", cells.source or ""))
    click.echo(table(rows))


@genotype.command("show")
@click.argument("genotype", metavar="NAME|FILE|RUN", type=GENOTYPE)
@option("--epoch", type=click.IntRange(1), show_default="the last", help="Of a run: the epoch after which to take the cells.")
@by_name
@as_json
def show(genotype, epoch, name, as_json):
    """Print a genotype as YAML.

    A file may have any notation that `darts genotype convert` reads.

    \b
    Example: darts genotype show cnn/darts_v2
    """
    if epoch is not None and not Path(genotype).is_dir():
        raise DartsError(f"--epoch {epoch}: {genotype} is no run folder", exit_code=2)
    cells = load(genotype if epoch is None else f"{genotype}@{epoch}", name=name)
    click.echo(json.dumps(cells.to_dict()) + "\n" if as_json else cells.to_yaml(), nl=False)


@genotype.command("validate")
@click.argument("paths", metavar="FILE...", nargs=-1, required=True, type=FILE)
def validate(paths):
    """Check genotype files and list every problem in them.

    A file may have any notation that `darts genotype convert` reads; all genotypes in it are checked.

    \b
    Example: darts genotype validate runs/*/genotype.yaml
    """
    check_files(paths, _problems)


def _problems(path: str) -> list[str]:
    written = text_of(path)
    if written is None:
        return [f"{path}: {problem}" for problem in genotype_problems(files.read_yaml(path))]
    return problems(*written)


@genotype.command("info")
@click.argument("genotype", metavar="NAME|FILE|RUN", type=GENOTYPE)
@option("--channels", type=click.IntRange(2, 1 << 14), show_default="36 (ImageNet: 48)", help="Channels of the first cells.")
@option("--layers", type=click.IntRange(1, 200), show_default="20 (ImageNet: 14)", help="Cells of the network.")
@option(
    "--resolution",
    type=click.IntRange(4, 1 << 14),
    show_default="both",
    help="Image side in pixels; 128 or more selects the ImageNet network (1,000 classes), less the CIFAR-10 one.",
)
@option("--dim", type=click.IntRange(1, 1 << 20), show_default="850", help="Size of a recurrent network's states.")
@option("--vocab", type=click.IntRange(1, 1 << 30), show_default="10000", help="Vocabulary size of a recurrent network.")
@by_name
@as_json
def info(genotype, channels, layers, resolution, dim, vocab, name, as_json):
    """Measure depth, parameters and multiply-adds.

    Skip connections and unused nodes are reported too. The auxiliary head is not counted. Multiply-adds are counted in
    convolutions and linear layers.

    \b
    Example: darts genotype info cnn/darts_v2 --channels 16 --layers 8 --resolution 32
    """
    cells = load(genotype, name=name)
    if cells.domain == "cnn":
        if (dim, vocab) != (None, None):
            raise DartsError("--dim and --vocab are for recurrent cells; use --channels, --layers and --resolution", 2)
        from darts_cli.cnn.sizes import sizes

        measured = sizes(cells, channels, layers, resolution)
    else:
        if (channels, layers, resolution) != (None, None, None):
            raise DartsError("--channels, --layers and --resolution are for convolutional cells; use --dim and --vocab", 2)
        from darts_cli.rnn.sizes import sizes

        measured = sizes(cells, dim or 850, vocab or 10_000)
    result = about(cells) | {"sizes": measured}
    known = nasbench201.cell_of(cells)
    if known is not None:
        result["truth"] = nasbench201.truth(known)
    click.echo(json.dumps(result) if as_json else _info_lines(result))


def _info_lines(result: dict) -> str:
    shown = {key: result[key] for key in ("name", "domain", "space", "hash", "source") if result.get(key)}
    for name, cell in result["cells"].items():
        facts = [f"{cell['nodes']} nodes", f"depth {cell['depth']}"]
        facts += [f"{cell[key]} {key.replace('_', ' ')}" for key in ("skip_connections", "identities") if key in cell]
        facts += [f"unused: {', '.join(cell['unused'])}"] if cell["unused"] else []
        shown[name] = ", ".join(facts)
    for size in result["sizes"]:
        counts = f"{size['parameters']:,} parameters"
        if "multiply_adds" in size:
            counts += f", {size['multiply_adds'] / 1e6:,.1f} M multiply-adds"
        shown[size["network"]] = f"{counts} ({size['size']})"
    for dataset, truth in result.get("truth", {}).items():
        shown[f"test accuracy on {dataset}"] = nasbench201.in_words(truth)
    return lines(shown)


@genotype.command("diff")
@click.argument("first", metavar="A", type=GENOTYPE)
@click.argument("second", metavar="B", type=GENOTYPE)
def diff(first, second):
    """Compare two genotypes.

    A and B are names, files or run folders. They are compared node by node; the order of the edges within a node does not
    matter.

    \b
    Example: darts genotype diff cnn/darts_v1 cnn/darts_v2
    """
    cells = load(first), load(second)
    try:
        rows = differences(*cells)
    except DartsError as error:
        raise DartsError(f"{first} and {second}: {error}") from None
    if not rows:
        click.echo("the same cells")
    for key, before, after in rows:
        for sign, edges, colour in (("-", before, "red"), ("+", after, "green")):
            if edges:
                click.secho(f"{sign} {key}  {edges}", fg=colour)


@genotype.command("random")
@click.argument("domain", type=click.Choice(["cnn", "rnn"]))
@option("--space", type=SPACE, show_default="darts for cnn, darts-rnn for rnn", help="Search space to draw from.")
@option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the sample.")
@option(
    "--count", type=click.IntRange(1), default=1, show_default=True, help="Number of genotypes, printed as one YAML stream."
)
def random_(domain, space, seed, count):
    """Sample genotypes uniformly from a search space.

    \b
    Example: darts genotype random cnn --seed 1 > mine.yaml
    """
    rng, space = random.Random(seed), choose(domain, space, None, None)[1]
    where = "the search space" if space == default(domain) else f"the space {space.name}"
    for i in range(count):
        number = f", number {i + 1}" if count > 1 else ""
        cells = replace(random_genotype(space, rng), source=f"drawn uniformly from {where}, seed {seed}{number}")
        click.echo(("---\n" if i else "") + cells.to_yaml(), nl=False)


@genotype.command("derive")
@click.argument("run", metavar="RUN", type=DIR)
@option("--epoch", type=click.IntRange(1), show_default="the last", help="Epoch whose operation weights to use.")
@option("--max-skips", type=click.IntRange(0), show_default="no limit", help="Skip connections of the normal cell, at most.")
@option(
    "--rule",
    type=click.Choice(["method", "magnitude", "threshold", "pairs"]),
    default="method",
    show_default=True,
    help="That of the search's method; the strongest operation of the strongest edges; the same above --threshold; or the "
    "strongest pairs of operation and edge.",
)
@option(
    "--threshold", type=click.FloatRange(0, 1), show_default="0.85", help="Operation weight below which edges are left out."
)
def derive_(run, epoch, max_skips, rule, threshold):
    """Derive the cells of a search again.

    They come from the operation weights that the search recorded.

    \b
    Example: darts genotype derive runs/first --epoch 30 --max-skips 2
    """
    if threshold is not None and rule != "threshold":
        raise DartsError("--threshold: only together with --rule threshold", exit_code=2)
    cells = derived(read(run), epoch, max_skips, rule, 0.85 if threshold is None else threshold)
    click.echo(cells.to_yaml(), nl=False)


@genotype.command("convert")
@click.argument("genotype", metavar="FILE|NAME|RUN|-", type=GENOTYPE)
@option("--to", "target", type=click.Choice(list(WRITERS)), default="yaml", show_default=True, help="Format to print.")
@by_name
def convert(genotype, target, name):
    """Convert a genotype to another format.

    The format of the input is detected; - reads stdin. Known formats: YAML, the original's Genotype(...), its fields as a
    mapping, the tuples of BANANAS, and |operation~input|...| per node. They are found in source code, logs (the last one),
    JSON and Markdown too. Nothing in the input is evaluated.

    A tuple is (input, operation); the operations are numbered 0 none, 1 max_pool_3x3, 2 avg_pool_3x3, 3 skip_connect,
    4 sep_conv_3x3, 5 sep_conv_5x5, 6 dil_conv_3x3, 7 dil_conv_5x5.

    \b
    Example: darts genotype convert genotypes.txt --to yaml > mine.yaml
    """
    click.echo(WRITERS[target](load(genotype, name=name)), nl=False)
