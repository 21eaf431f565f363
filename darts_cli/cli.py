"""The command `darts`."""

import click

from darts_cli.commands.catalogue.genotype import genotype
from darts_cli.commands.catalogue.method import method
from darts_cli.commands.catalogue.space import space
from darts_cli.commands.compare import compare
from darts_cli.commands.doctor import doctor
from darts_cli.commands.errors import Darts
from darts_cli.commands.evaluate import evaluate_command
from darts_cli.commands.options import version
from darts_cli.commands.plan import plan
from darts_cli.commands.runs import runs
from darts_cli.commands.search import search
from darts_cli.commands.train import train
from darts_cli.commands.use.data import data
from darts_cli.commands.use.export import export
from darts_cli.commands.use.predict import predict
from darts_cli.commands.use.text import generate, score
from darts_cli.commands.visualize import visualize


@click.group(
    cls=Darts,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "token_normalize_func": lambda token: token.replace("_", "-"),  # --batch_size, as the original writes it
    },
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=version, help="Show versions and devices.")
def main():
    """Find neural network cells by gradient descent (DARTS, arXiv 1806.09055)."""


for command in (
    search,
    train,
    plan,
    compare,
    evaluate_command,
    predict,
    generate,
    score,
    export,
    data,
    visualize,
    genotype,
    space,
    method,
    doctor,
    runs,
):
    main.add_command(command)
