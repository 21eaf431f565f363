"""DARTS: find neural network cells by gradient descent (Liu, Simonyan, Yang, arXiv 1806.09055)."""

import importlib

__version__ = "0.1.0"


class DartsError(Exception):
    """A mistake that the user can correct, reported in one line: the rule, the value and the remedy.

    `exit_code` is what the command ends with: 1, 2 for wrong usage, 128 + signal for an interruption.
    """

    def __init__(self, message: str, exit_code: int = 1):
        super().__init__(message)
        self.exit_code = exit_code


class Stopped(DartsError):
    """The run was asked to stop, and its state is saved; no mistake. `command` goes on with it."""

    def __init__(self, message: str, command: str, exit_code: int):
        super().__init__(f"{message}; to resume: {command}", exit_code)
        self.message, self.command = message, command


def load(path):
    """The trained network of a run folder or a checkpoint, in evaluation mode; see `darts_cli.use.networks.load`.

    It has `genotype`; of images `classes` and `preprocess(image)`, of text `vocab`. Raises DartsError.
    """
    return importlib.import_module("darts_cli.use.networks").load(path)


def create_model(genotype, **arguments):
    """A network with random weights, of a genotype: a name, a file, a run folder, or a Genotype.

    The other arguments are those of its class, such as `num_classes` for images; text needs `vocab`, the number of words. See
    `darts_cli.use.networks.create_model`. Raises DartsError.
    """
    return importlib.import_module("darts_cli.use.networks").create_model(genotype, **arguments)


def search(domain="cnn", run=None, quiet=True, **settings):
    """Search for cells with the settings of `darts search`: `search("cnn", dataset="digits", epochs=5)`.

    help(darts_cli.config.SearchCNN) describes them. Returns genotype, network, records and folder; see
    `darts_cli.use.experiments.search`. Raises DartsError.
    """
    return importlib.import_module("darts_cli.use.experiments").search(domain, run, quiet, **settings)


def train(genotype, run=None, quiet=True, **settings):
    """Train the network of cells with the settings of `darts train`: `train("cnn/darts_v2", dataset="digits", epochs=5)`.

    help(darts_cli.config.TrainCNN) describes them. Returns the network, as `load` does; see
    `darts_cli.use.experiments.train`. Raises DartsError.
    """
    return importlib.import_module("darts_cli.use.experiments").train(genotype, run, quiet, **settings)
