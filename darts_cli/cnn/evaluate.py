"""The evaluation of a trained convolutional network: from its run, its checkpoint, or a checkpoint of the original."""

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from darts_cli import DartsError, legacy
from darts_cli import genotype as genotypes
from darts_cli.cnn import data, imagenet
from darts_cli.cnn.batches import Batches
from darts_cli.cnn.model import Network, parameters
from darts_cli.config import TrainCNN
from darts_cli.genotype import Genotype
from darts_cli.runs import checkpoint
from darts_cli.runtime import device
from darts_cli.runtime.nonfinite import LOWER, NotFinite


def evaluate(
    path: str | Path,
    genotype: Genotype | None = None,
    dataset: str | None = None,
    folder: str | None = None,
    *,
    batch_size: int = 100,
    where: str = "auto",
    precision: str = "fp32",
    workers: int | None = None,
) -> dict:
    """Top-1 and top-5 accuracy (between 0 and 1), mean loss and size of a network, on the test part of a data set.

    path       a run folder (its best network, or else its last), a checkpoint in it, or a checkpoint of the original
    genotype   for the original's checkpoints, which do not tell; DARTS_V2 where none is given
    dataset    where it is not what the network was trained on; `folder`, which holds it, likewise

    Raises DartsError when the checkpoint cannot be read, or genotype or data do not fit it.
    """
    where = device.resolve(where)
    trained = restore(path, genotype)
    if dataset in (None, trained.dataset):
        dataset, folder = trained.dataset, folder or trained.folder
    part = data.load(dataset, folder, train=False, like=trained.data)
    classes = trained.sizes["num_classes"]
    if len(part.classes) != classes:
        raise DartsError(f"{trained.path}: tells {classes} classes apart, but {folder or dataset} has {len(part.classes)}")
    if dataset == "imagenet":
        batches = imagenet.FileBatches(part, batch_size, 0, "test", where, workers=workers)
    else:
        batches = Batches(part, batch_size, 0, "test", where)
    network = trained.network.to(where)
    *_, sums = running_sums(network, batches, precision)
    found = metrics("test", sums, "the network or its normalisation does not fit these images")
    return {
        "checkpoint": str(trained.path),
        "genotype": trained.genotype.name,
        "dataset": dataset,
        "images": len(part.labels),
        "top1": found["test_accuracy"],
        "top5": found["test_top5"],
        "loss": found["test_loss"],
        "parameters": parameters(network),
    }


# ---- what is measured


def running_sums(network: Network, batches, precision: str) -> Iterator[Tensor]:
    """The sums of `scores` over the first batch, the first two, and so on to the end of the pass."""
    network.eval()
    sums = 0
    for images, labels in batches.in_order():
        with torch.no_grad(), device.autocast(images.device, precision):
            logits = device.exact(network(images)[0])
        sums = sums + scores(F.cross_entropy(logits, labels, reduction="sum"), logits, labels)
        yield sums


def scores(losses: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """Of a batch: the sum of its losses, how many have their label first, how many among the first five, images."""
    best = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]  # (B, 5)
    return torch.stack([losses, best[:, 0].sum(), best.sum(), torch.full_like(losses, len(labels))])


def metrics(name: str, sums: Tensor, remedy: str = LOWER) -> dict[str, float]:
    """Mean loss, top-1 and top-5 accuracy of summed scores. Raises NotFinite."""
    loss, first, five, images = sums.tolist()
    if not math.isfinite(loss):
        raise NotFinite(f"the {name} loss is not finite; {remedy}")
    return {f"{name}_loss": loss / images, f"{name}_accuracy": first / images, f"{name}_top5": five / images}


# ---- checkpoints


class Trained(NamedTuple):
    """A trained network, and what its checkpoint says of it."""

    path: Path
    network: Network
    genotype: Genotype
    sizes: dict  # the arguments of Network
    dataset: str
    folder: str | None  # that held the data set, where the run says so
    data: dict  # what `about` said of the training set; of the original's without the names of the classes


def restore(path: str | Path, genotype: Genotype | None = None) -> Trained:
    """The network of a run folder, of a checkpoint in one, or of a checkpoint of the original, which needs the genotype.

    Raises DartsError when there is none, or when it is of another genotype.
    """
    path = checkpoint.file(path)
    state = legacy.read_checkpoint(path)
    if "command" not in state:
        return _original(path, state, genotype or genotypes.load("darts_v2", "cnn"))
    if state["command"] not in ("train cnn", "select cnn"):
        raise DartsError(
            f"{path}: comes from darts {state['command']}; a trained network is needed: darts train cnn --genotype RUN"
        )
    try:
        found = Genotype.from_dict(state["genotype"])
        trained = _ours(path, state, found)
    except (DartsError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:80]
        raise DartsError(f"{path}: is damaged and cannot be read ({type(error).__name__}: {reason})") from None
    if genotype is not None and genotype != found:
        raise DartsError(f"{path}: was trained with another genotype, {found.name or 'one without a name'}")
    return trained


def load_weights(network: Network, sizes: dict, genotype: Genotype, path: str) -> None:
    """Copy the weights of a checkpoint into the network of that genotype and those sizes.

    The auxiliary head's are left out unless both have one. Raises DartsError when genotype or sizes are others.
    """
    trained = restore(path, genotype)
    names = {"stem": "stem", "channels": "channels", "layers": "layers", "num_classes": "classes"}
    differing = [
        f"{name} {trained.sizes[key]}, not {sizes[key]}" for key, name in names.items() if trained.sizes[key] != sizes[key]
    ]
    if differing:
        raise DartsError(f"--init-from {path}: its network has {'; '.join(differing)}")
    both = trained.sizes["auxiliary"] and sizes["auxiliary"]
    weights = {
        name: tensor for name, tensor in trained.network.state_dict().items() if both or not name.startswith("auxiliary_head.")
    }
    network.load_state_dict(network.state_dict() | weights)


def _ours(path: Path, state: dict, genotype: Genotype) -> Trained:
    config, weights = TrainCNN.from_dict(state["config"]), state["network"]
    about = {key: state["data"][key] for key in ("classes", "size", "mean", "deviation")}
    data.check_about(about)
    sizes = {
        "channels": config.channels,
        "num_classes": len(about["classes"]),
        "layers": config.layers,
        "auxiliary": any(name.startswith("auxiliary_head.") for name in weights),
        "stem": "imagenet" if config.dataset == "imagenet" else "cifar",
    }
    if config.layers != legacy.cells(weights):
        raise ValueError(f"{legacy.cells(weights)} cells, where the settings say {config.layers}")
    network = checkpoint.network(partial(Network, genotype, **sizes), weights)
    return Trained(path, network, genotype, sizes, config.dataset, checkpoint.data_folder(path), about)


def _original(path: Path, state: dict, genotype: Genotype) -> Trained:
    try:
        weights = legacy.weights(state)
        sizes = legacy.sizes(weights)
        network = Network(genotype, **sizes)
        legacy.load_state(network, weights)
    except DartsError as error:
        name = genotype.name or "the given genotype"
        raise DartsError(f"{path}: is no network of {name}; name its --genotype ({str(error)[:160]})") from None
    if sizes["stem"] == "imagenet":
        dataset, side, (mean, deviation) = "imagenet", 224, (imagenet.MEAN, imagenet.DEVIATION)
    else:
        dataset, side, (mean, deviation) = "cifar100" if sizes["num_classes"] == 100 else "cifar10", 32, data.CIFAR10
    about = {"size": [side, side], "mean": mean, "deviation": deviation}
    return Trained(path, network, genotype, sizes, dataset, None, about)
