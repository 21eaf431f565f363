"""The command `darts predict`."""

import csv
import json
import sys

import click

from darts_cli import DartsError
from darts_cli.commands.options import option, trained_network
from darts_cli.text import printable, table


@click.command("predict")
@click.argument("images", metavar="IMAGE|FOLDER...", nargs=-1, required=True, type=click.Path())
@trained_network
@option("--top", type=click.IntRange(1), default=3, show_default=True, help="Classes to print for each image.")
@option("--batch-size", type=click.IntRange(1), default=100, show_default=True, help="Images at a time.")
@option("--device", metavar="DEVICE", default="auto", show_default=True, help="Device: auto, cpu, cuda, cuda:N or mps.")
@option("--json", "as_json", is_flag=True, help="Print JSON, with the probabilities of all classes.")
@option("--csv", "as_csv", is_flag=True, help="Print comma-separated values: image, class, probability.")
def predict(images, checkpoint, top, batch_size, device, as_json, as_csv):
    """Classify images with a trained network.

    Images are prepared as `darts eval` prepares them. Of a folder, all images below it are classified. A file that cannot be
    read as an image is named on stderr, and the exit code is then 1.

    \b
    Example: darts predict --checkpoint runs/first-trained photo.png
    """
    from darts_cli.formats.images import below
    from darts_cli.runtime.device import chosen
    from darts_cli.use.networks import load, probabilities

    if as_json and as_csv:
        raise DartsError("--json and --csv: choose one of them", exit_code=2)
    paths = [path for image in images for path in below(image)]
    network = load(checkpoint)
    if not hasattr(network, "classes"):
        raise DartsError(f"{checkpoint}: holds a language model; darts predict needs a network of images", exit_code=2)
    network.to(chosen(device))
    rows, failed = [], []
    for path, p in probabilities(network, paths, batch_size, failed.append):
        by_class = dict(zip(network.classes, p.tolist(), strict=True))
        rows.append((path, sorted(by_class.items(), key=lambda item: -item[1])))
    if as_json:
        click.echo(json.dumps([{"image": path, "class": best[0][0], "probabilities": dict(best)} for path, best in rows]))
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(("image", "class", "probability"))
        writer.writerows((path, *best[0]) for path, best in rows)
    elif rows:
        click.echo(table([(path, *(f"{name} {value:.1%}" for name, value in best[:top])) for path, best in rows]))
    for error in failed:
        click.echo(f"error: {printable(str(error))}", err=True)
    if failed:
        sys.exit(1)
