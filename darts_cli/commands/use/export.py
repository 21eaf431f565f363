"""The command `darts export`."""

import click

from darts_cli.commands.completion import FILE
from darts_cli.commands.options import option, trained_network
from darts_cli.text import lines


@click.command("export")
@trained_network
@option(
    "--format",
    "form",
    type=click.Choice(["onnx", "torch", "source", "safetensors"]),
    required=True,
    help="onnx: an ONNX model. torch: a program of torch.export. source: a Python file and its weights. safetensors: weights.",
)
@option("--out", "--output", type=FILE, show_default="network.SUFFIX in this folder", help="File to write.")
@option("--with-preprocessing", is_flag=True, help="Put the normalisation inside; the input is images of bytes then.")
@option("--overwrite", is_flag=True, help="Replace the file if it exists.")
def export(checkpoint, form, out, with_preprocessing, overwrite):
    """Write a trained network for other programs.

    The written file is loaded again and compared with the network, on images or words of the test part where the data are at
    hand, else on random ones. The command fails, and writes nothing, where an output differs by more than 0.0001.

    Batches may have any size. A language model takes words and a hidden state, and gives log-probabilities and the next hidden
    state; as onnx and torch, whose graphs cannot loop over texts of any length, it takes one word of each stream in a call.

    \b
    Example: darts export --checkpoint runs/first-trained --format onnx --with-preprocessing
    """
    from darts_cli.use.export.export import export as exported

    result = exported(checkpoint, form, out, preprocessing=with_preprocessing, overwrite=overwrite)
    written = {"written": " and ".join(map(str, result.paths))}
    compared = {"compared_on": result.compared_on, "largest_difference": f"{result.difference:.1e}"}
    click.echo(lines(written | compared))
