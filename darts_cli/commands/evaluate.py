"""The command `darts eval`."""

import json

import click

from darts_cli import DartsError
from darts_cli.commands.completion import CHECKPOINT, DIR, GENOTYPE
from darts_cli.commands.options import option, setting_option
from darts_cli.config import IMAGES, TEXTS, TrainCNN
from darts_cli.text import lines, printable, table


@click.command("eval")
@click.argument("run", required=False, type=CHECKPOINT)
@option("--checkpoint", "--model-path", type=CHECKPOINT, help="The same as the argument RUN, which may also be a file.")
@option("--genotype", "--arch", type=GENOTYPE, show_default="darts_v2", help="Cells, if the checkpoint does not name them.")
@option(
    "--dataset",
    type=click.Choice((*IMAGES, "imagenet", *TEXTS)),
    show_default="that of the training",
    help="Data to evaluate on.",
)
@option("--data", metavar="DIR", type=DIR, show_default="that of the training", help="Folder of the data set.")
@option("--batch-size", type=click.IntRange(1), show_default="100 images, 1 stream", help="Images or streams at a time.")
@setting_option(TrainCNN, "precision")
@setting_option(TrainCNN, "deterministic")
@setting_option(TrainCNN, "device")
@option(
    "--workers",
    type=click.IntRange(0),
    show_default="one per CPU, at most 8",
    help="Processes that read the images of ImageNet; 0 reads in the main process.",
)
@option("--per-class", is_flag=True, help="Also the accuracy of each class, and the confusion matrix; images only.")
@option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def evaluate_command(
    run, checkpoint, genotype, dataset, data, batch_size, precision, deterministic, device, workers, per_class, as_json
):
    """Evaluate a trained network on the test data.

    RUN is a run folder, a checkpoint in one, one of the original code, or a safetensors file of darts export. Cells, size and
    data set come from it; for a checkpoint of the original code, the size is inferred from the tensors.

    \b
    Example: darts eval runs/first-trained
    """
    if (run is None) == (checkpoint is None):
        raise DartsError("name one run folder or checkpoint to evaluate: darts eval RUN", exit_code=2)
    checkpoint = run or checkpoint
    from darts_cli.formats.genotypes import load

    trained, domain = _opened(checkpoint, genotype)
    if dataset is not None and (dataset in TEXTS) != (domain == "rnn"):
        raise DartsError(f"--dataset {dataset}: {checkpoint} holds a network of the domain {domain}", exit_code=2)
    cells = load(genotype, domain) if genotype else None
    kwargs = {"device": device, "precision": precision, "deterministic": deterministic}
    if domain == "cnn":
        from darts_cli.cnn.evaluate import evaluate

        kwargs |= {"batch_size": batch_size or 100, "workers": workers, "per_class": per_class}
    else:
        from darts_cli.rnn.evaluate import evaluate

        if per_class:
            raise DartsError(f"--per-class: {checkpoint} holds a language model, which has no classes", exit_code=2)

        kwargs["batch_size"] = batch_size or 1
    result = evaluate(trained, cells, dataset, data, **kwargs)
    if as_json:
        return click.echo(json.dumps(result))
    classes, confusion = result.pop("per_class", None), result.pop("confusion", None)
    click.echo(lines(result))
    if classes is not None:
        click.echo(_by_class(classes, confusion))


def _opened(checkpoint, genotype):
    """What holds the network, opened, and its domain."""
    if not checkpoint.endswith(".safetensors"):
        from darts_cli.legacy import open_checkpoint

        opened = open_checkpoint(checkpoint)
        return opened, opened.domain
    from darts_cli.use.export import tensors

    if genotype:
        raise DartsError(f"--genotype: {checkpoint} names its cells; leave it out", exit_code=2)
    trained = tensors.restore(checkpoint)
    return trained, trained.genotype.domain


def _by_class(classes, confusion):
    """A row for each class: images, accuracy and, under the numbers of the classes, how many were taken for which."""
    head = ("", "class", "images", "accuracy", *(f"as {i}" for i in range(len(classes))))
    rows = [
        (str(i), printable(name), f"{each['images']:,}", _share(each["accuracy"]), *map(str, confusion[i]))
        for i, (name, each) in enumerate(classes.items())
    ]
    return f"\n{table([head, *rows])}"


def _share(accuracy):
    return "none" if accuracy is None else f"{accuracy:.2%}"
