"""A search and a training as one call each, with the names and defaults of the command line."""

import contextlib
import importlib
import multiprocessing
import re
import tempfile
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from torch import nn

from darts_cli import DartsError, Stopped
from darts_cli.formats.genotypes import load as load_genotype
from darts_cli.genotype import Genotype
from darts_cli.pictures.charts import chart, measures
from darts_cli.runs import history
from darts_cli.runs.run import Run
from darts_cli.runs.task import Task
from darts_cli.runtime.device import prepare
from darts_cli.text import counted
from darts_cli.use.networks import load


class Search(NamedTuple):
    """What a search ends with.

    genotype    the cells that were found
    network     the search network with its trained weights and alphas, in evaluation mode
    records     what metrics.jsonl holds, by epoch
    folder      the run folder; None where there was none
    """

    genotype: Genotype
    network: nn.Module
    records: list[dict]
    folder: Path | None

    def __repr__(self) -> str:
        return f"<Search, {counted(len(self.records), 'epoch')}, {self.genotype!r}>"

    def _repr_html_(self) -> str:
        """How a notebook shows it: its curves, and the cells that were found."""
        found = measures.charts(self.genotype.domain, self.records)
        curves = chart.notebook([*found, *measures.of_search(self.network.space, self.records)])
        return f"<div>{curves}</div><div>{self.genotype._repr_svg_()}</div>"


def search(domain: str = "cnn", run: str | PathLike | None = None, quiet: bool = True, **settings) -> Search:
    """Search for cells, "cnn" or "rnn", with the settings of `darts search`, such as dataset="digits", epochs=5.

    help(darts_cli.config.SearchCNN) and SearchRNN describe the settings. With `run`, a folder, the search is kept and resumed
    there; without, nothing stays on the disk. Raises DartsError for a setting that is not there or out of its range, and as the
    command does.
    """
    with _named(), _run("search", domain, run, None, settings) as the_run:
        genotype = importlib.import_module(f"darts_cli.{domain}.search").search(the_run.config, the_run, quiet)
        reopened = importlib.import_module(f"darts_cli.{domain}.step").reopened
        _, relaxation, *_ = next(reopened(the_run.config, the_run, prepare(the_run.config.device)))
        records = history.read(the_run.folder).records
    return Search(genotype, relaxation.network.eval(), records, None if run is None else the_run.folder)


def train(genotype: Genotype | str | PathLike, run: str | PathLike | None = None, quiet: bool = True, **settings) -> nn.Module:
    """Train the network of cells with the settings of `darts train`, such as dataset="digits", epochs=5.

    genotype    cells, or what `darts train --genotype` takes: a name, a file or the run folder of a search
    run         the folder in which the training is kept and resumed; without one, nothing stays on the disk

    help(darts_cli.config.TrainCNN) and TrainRNN describe the settings. Returns the network as `darts_cli.load` does: in
    evaluation mode, with genotype, classes and preprocess or vocab, and its result. Raises DartsError as `search` does.
    """
    with _named():
        cells = genotype if isinstance(genotype, Genotype) else load_genotype(str(genotype))
        with _run("train", cells.domain, run, cells, settings) as the_run:
            importlib.import_module(f"darts_cli.{cells.domain}.train").train(cells, the_run.config, the_run, quiet)
            return load(the_run.folder)


@contextlib.contextmanager
def _run(stage: str, domain: str, folder: str | PathLike | None, cells: Genotype | None, settings: dict) -> Iterator[Run]:
    """A run in that folder or, without one, in a folder that is deleted at the end."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # Python's own sign that a worker imports the script
        rule = 'put what the script runs below `if __name__ == "__main__":`'
        raise DartsError(f"a process that reads images runs the script that started it once more; {rule}, or pass workers=0")
    if domain not in ("cnn", "rnn"):
        raise DartsError(f"domain {domain!r}: must be cnn or rnn")
    task = Task(stage, domain)
    config = task.config(**task.config.check(settings))
    if folder is not None:
        yield Run(task, config, folder, cells)
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield Run(task, config, temporary, cells, lasting=False)


@contextlib.contextmanager
def _named() -> Iterator[None]:
    """Errors name arguments, not options: train_portion for --train-portion, flip=False for --no-flip."""
    try:
        yield
    except Stopped:
        raise
    except DartsError as error:
        message = re.sub(r"--no-([a-z][a-z-]*[a-z])", r"--\1=False", str(error))
        message = re.sub(r"--([a-z][a-z-]*[a-z])", lambda match: match[1].replace("-", "_"), message)
        raise type(error)(message, error.exit_code) from None
