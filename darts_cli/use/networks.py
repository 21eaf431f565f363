"""Networks, ready to use: trained ones with their cells, classes or words and preprocessing; new ones of any genotype."""

import contextlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from os import PathLike

import torch
from torch import Tensor, nn

from darts_cli import DartsError, legacy
from darts_cli import genotype as genotypes
from darts_cli.cnn import evaluate as cnn
from darts_cli.cnn.model import network as network_of_images
from darts_cli.genotype import Genotype
from darts_cli.rnn import evaluate as rnn
from darts_cli.rnn.model import Network as LanguageModel
from darts_cli.runs import history
from darts_cli.use import images
from darts_cli.use.export import tensors

Trained = cnn.Trained | rnn.Trained


def load(path: str | PathLike) -> nn.Module:
    """The trained network of a run folder, a checkpoint, a checkpoint of the original, or a safetensors file that
    `darts export` wrote; on the CPU and in evaluation mode.

    It has these attributes besides its own:

    genotype      its cells
    classes       of images: the names of the classes, in the order of its outputs
    preprocess    of images: from an image (a path, an image of Pillow, or bytes (3, H, W)) to what `forward` takes, (3, H, W)
    vocab         of text: the words, in the order of its outputs; None for checkpoints that do not have them
    tokens        of text: whether these are `words` or `characters`
    result        its numbers on the test part, where the training has measured them

    Raises DartsError when there is no such checkpoint.
    """
    trained, state = restore(path)
    network = trained.network.eval().requires_grad_(False)
    network.genotype = trained.genotype
    network.result = {name: value for name, value in _last(path, state).items() if name.startswith(("test_", "best_test_"))}
    if isinstance(trained, rnn.Trained):
        network.vocab, network.tokens = trained.vocab, trained.tokens
    else:
        network.classes = images.classes(trained)
        network.preprocess = images.Preprocess.of(trained)
    return network


def _last(path: str | PathLike, state: dict) -> dict:
    """The last record of a run folder, whose best.pt is older than the test; or that in a checkpoint."""
    if os.path.isdir(path):
        with contextlib.suppress(DartsError):
            return history.read(path).records[-1]
    return (state.get("metrics") or [{}])[-1]


def restore(path: str | PathLike) -> tuple[Trained, dict]:
    """The trained network, and the state that its checkpoint holds; empty for a safetensors file. Raises DartsError."""
    if str(path).endswith(tensors.SUFFIX):
        return tensors.restore(path), {}
    opened = legacy.open_checkpoint(path)
    return (rnn if opened.domain == "rnn" else cnn).restore(opened), opened.state


def create_model(genotype: str | PathLike | Genotype, **arguments) -> nn.Module:
    """A network with random weights, in training mode, of a genotype: a name, a file, a run folder, or a Genotype.

    The arguments are those of its class: `darts_cli.cnn.model.Network` (channels, num_classes, layers, auxiliary, stem), or
    `darts_cli.rnn.model.Network` (vocab, the number of words, which it needs; dim and the dropouts). A name that both domains
    have means the recurrent cell where `vocab` is given. The network has `genotype` besides its own attributes.

    Raises DartsError when there is no such genotype or a value does not fit, TypeError for arguments that the class lacks.
    """
    cells = genotype
    if not isinstance(genotype, Genotype):
        cells = genotypes.load(genotype, "rnn" if "vocab" in arguments else None)
    network = (LanguageModel if cells.domain == "rnn" else network_of_images(cells))(cells, **arguments)
    network.genotype = cells
    return network


@torch.no_grad()
def probabilities(
    network: nn.Module, paths: Iterable[str], batch_size: int, failed: Callable[[DartsError], None]
) -> Iterator[tuple[str, Tensor]]:
    """By path, the probabilities of the classes (classes,), in batches. `failed` is told of what is no image."""
    device, paths = next(network.parameters()).device, iter(paths)
    while part := list(itertools.islice(paths, batch_size)):
        images = []
        for path in part:
            try:
                images.append((path, network.preprocess(path)))
            except DartsError as error:
                failed(error)
        if images:
            logits = network(torch.stack([image for _, image in images]).to(device))[0]
            yield from zip([path for path, _ in images], logits.softmax(dim=-1).cpu(), strict=True)
