"""The command `darts eval`."""

import json

import click

from darts_cli import DartsError
from darts_cli.commands.completion import CHECKPOINT, GENOTYPE
from darts_cli.config import IMAGES, TEXTS
from darts_cli.text import lines


@click.command("eval")
@click.option(
    "--checkpoint",
    "--model-path",
    type=CHECKPOINT,
    required=True,
    help="Run folder of a training, a checkpoint in one, or a checkpoint of the original code.",
)
@click.option(
    "--genotype",
    "--arch",
    type=GENOTYPE,
    help="Cells of the original's checkpoint, where it does not tell. [default: darts_v2]",
)
@click.option(
    "--dataset", type=click.Choice((*IMAGES, "imagenet", *TEXTS)), help="Data to evaluate on. [default: that of the training]"
)
@click.option("--data", metavar="DIR", help="Folder that holds the data set. [default: that of the training]")
@click.option("--batch-size", type=click.IntRange(1), help="Images or streams at a time. [default: 100 images, 1 stream]")
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True, help="Arithmetic.")
@click.option("--device", metavar="DEVICE", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--workers", type=click.IntRange(0), help="Processes that read the images of ImageNet.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def evaluate_command(checkpoint, genotype, dataset, data, batch_size, precision, device, workers, as_json):
    """Evaluate a trained network on the test part of its data set.

    Cells, size and data set come from the checkpoint; of the original's checkpoints the size comes from the tensors.

    \b
    Example: darts eval --checkpoint runs/train-cnn-cifar10-seed0-1a2b3c4d
    """
    from darts_cli.genotype import load
    from darts_cli.legacy import open_checkpoint

    trained = open_checkpoint(checkpoint)
    if dataset is not None and (dataset in TEXTS) != (trained.domain == "rnn"):
        raise DartsError(f"--dataset {dataset}: {checkpoint} holds a network of the domain {trained.domain}", exit_code=2)
    cells = load(genotype, trained.domain) if genotype else None
    kwargs = {"device": device, "precision": precision}
    if trained.domain == "cnn":
        from darts_cli.cnn.evaluate import evaluate

        kwargs |= {"batch_size": batch_size or 100, "workers": workers}
    else:
        from darts_cli.rnn.evaluate import evaluate

        kwargs["batch_size"] = batch_size or 1
    result = evaluate(trained, cells, dataset, data, **kwargs)
    click.echo(json.dumps(result) if as_json else lines(result))
