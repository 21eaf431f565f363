"""The evaluation of a trained convolutional network: from its run, its checkpoint, or a checkpoint of the original."""

import math
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_cli import DartsError, legacy
from darts_cli import genotype as genotypes
from darts_cli.architect import constant
from darts_cli.cnn import data
from darts_cli.cnn.datasets import balance, imagenet
from darts_cli.cnn.datasets.batches import Batches
from darts_cli.cnn.datasets.folder import SET_ASIDE
from darts_cli.cnn.model import Network, SearchNetwork, blocks_with_weights, network
from darts_cli.cnn.search_cell import plain_nodes
from darts_cli.cnn.sizes import parameters
from darts_cli.config import TrainCNN
from darts_cli.genotype import Genotype
from darts_cli.guard.curvature import hessian_product, largest_eigenvalue, start_of
from darts_cli.legacy import Checkpoint
from darts_cli.methods.relaxation import active
from darts_cli.methods.value import Tables
from darts_cli.runs import checkpoint
from darts_cli.runtime import distributed
from darts_cli.runtime.compiling import not_compiled
from darts_cli.runtime.device import autocast, chosen, exact, seed
from darts_cli.runtime.nonfinite import ADVICE, NotFinite
from darts_cli.spaces.rules import unknown_operations

BALANCED_DIFFERS = 0.005  # from the accuracy, where it is given besides


def evaluate(
    path: "str | Path | Checkpoint | Trained",
    genotype: Genotype | None = None,
    dataset: str | None = None,
    folder: str | None = None,
    *,
    batch_size: int = 100,
    device: str = "auto",
    precision: str = "fp32",
    deterministic: bool = True,
    workers: int | None = None,
    per_class: bool = False,
) -> dict:
    """Accuracy (between 0 and 1), mean loss and size of a network, on the test part of a data set.

    The accuracy is top-1 and, of six classes or more, top-5. The balanced accuracy, the mean of those of the classes, is given
    where it differs by half a percentage point.

    path       a run folder (its best network, or else its last), a checkpoint in it or of the original, or an opened one
    genotype   for checkpoints of the original, which do not name their cells; default DARTS_V2
    dataset    default: the data set that the network was trained on; `folder`, which holds it, likewise
    per_class  also the images and the accuracy of each class, and the confusion matrix: true class by row, predicted by column

    Raises DartsError when the checkpoint cannot be read, or when genotype or data do not fit it.
    """
    device = chosen(device, deterministic, precision)
    trained = path if isinstance(path, Trained) else restore(path, genotype)
    if dataset in (None, trained.dataset):
        dataset, folder = trained.dataset, folder or trained.folder
    part = data.load(dataset, folder, train=False, like=trained.data)
    classes = trained.sizes["num_classes"]
    if len(part.classes) != classes:
        raise DartsError(f"{trained.path}: has {classes} classes, but {folder or dataset} has {len(part.classes)}")
    if dataset == "imagenet":
        batches = imagenet.FileBatches(part, batch_size, 0, "test", device, workers=workers)
    else:
        batches = Batches(part, batch_size, 0, "test", device)
    network = trained.network.to(device)
    confusion = torch.zeros(classes, classes, dtype=torch.long, device=device)
    sums = measure(network, batches, precision, confusion=confusion)
    results = metrics("test", sums, "the network or its normalisation does not fit these images")
    balanced = balance.balanced_accuracy(confusion)
    more = {} if abs(balanced - results["test_accuracy"]) < BALANCED_DIFFERS else {"balanced_accuracy": balanced}
    more |= {"note": SET_ASIDE} if SET_ASIDE in part.notes else {}
    if per_class:
        more |= {"per_class": balance.by_class(confusion, part.classes), "confusion": confusion.tolist()}
    return {
        "checkpoint": str(trained.path),
        "genotype": trained.genotype.name,
        "dataset": dataset,
        "images": len(part.labels),
        "top1": results["test_accuracy"],
        **({"top5": results["test_top5"]} if classes > 5 else {}),
        "loss": results["test_loss"],
        "parameters": parameters(network),
        **more,
    }


# ---- what is measured


def measure(
    network: nn.Module,
    batches,
    precision: str,
    after_each: Callable[[], None] = lambda: None,
    *,
    count: int | None = None,
    training: bool = False,
    confusion: Tensor | None = None,
    **given,
) -> Tensor:
    """The sums of `scores` over a pass, of all ranks; `after_each` is called after each batch.

    count       how many batches, the first ones; all, if none is given
    training    normalise by the statistics of each batch, and leave the running statistics as they are
    confusion   (C, C), to which the images of this pass are added: true class by row, predicted by column
    given       other arguments of the network

    Operations such as noise draw the same numbers in every pass over the same batches.
    """
    network.train(training)
    kept = [buffer.clone() for buffer in network.buffers()] if training else []
    seed("evaluation")
    sums = 0
    for index, (images, labels) in enumerate(islice(batches.in_order(), count)):
        size, _ = batches.share(index)
        with torch.no_grad(), autocast(images.device, precision), distributed.batch_of(size):
            output = network(images, **given)
            logits = exact(output[0] if isinstance(output, tuple) else output)
        if confusion is not None:
            confusion.index_put_((labels, logits.argmax(dim=1)), torch.ones_like(labels), accumulate=True)
        sums = sums + scores(F.cross_entropy(logits, labels, reduction="sum"), logits, labels)
        for buffer, before in zip(network.buffers() if training else (), kept, strict=True):
            buffer.copy_(before)  # before `after_each`, which may save the network
        after_each()
    return distributed.total(sums)


def accuracy(
    network: SearchNetwork,
    valid: Batches,
    precision: str,
    after_each: Callable[[], None],
    tables: Tables | None = None,
    *,
    batches: int | None = None,
    training: bool = False,
) -> float:
    """That of operation weights, or of the network's own, on the validation half, or on some batches of it; see `measure`."""
    given = {} if tables is None else {"mixture": tables, "active": active(tables, network.space)}
    sums = measure(network, valid, precision, after_each, count=batches, training=training, **given)
    return float(sums[1] / sums[3])


def eigenvalue(network: SearchNetwork, batches: Batches, weight_decay: float) -> float:
    """The largest eigenvalue of the Hessian of the loss with respect to alpha, plus alpha's weight decay.

    The loss is that of the first batch, in training mode. Every rank computes it of the whole batch; the first one's counts.
    The statistics of BatchNorm stay as they are.
    """
    alphas, training = list(network.alphas.values()), network.training
    kept = [buffer.clone() for buffer in network.buffers()]
    network.train()
    with distributed.alone(), not_compiled(network), plain_nodes(network), constant(network.weights()), torch.enable_grad():
        seed("eigenvalue")
        images, labels = batches.plain(0)
        loss = F.cross_entropy(network(images), labels)
        found = largest_eigenvalue(hessian_product(loss, alphas), start_of(alphas))
    for buffer, before in zip(network.buffers(), kept, strict=True):
        buffer.copy_(before)
    network.train(training)
    return float(distributed.first(torch.tensor(found, dtype=torch.float64))) + weight_decay


def scores(losses: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """Of a batch: the sum of its losses, how many labels come first, how many are among the first five, and images (4,)."""
    best = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]  # (B, 5)
    return torch.stack([losses, best[:, 0].sum(), best.sum(), torch.full_like(losses, len(labels))])


def metrics(name: str, sums: Tensor, advice: str = ADVICE) -> dict[str, float]:
    """Mean loss, top-1 and, where it was counted, top-5 accuracy of summed scores. Raises NotFinite."""
    loss, first, *five, images = sums.tolist()
    if not math.isfinite(loss):
        raise NotFinite(f"the {name} loss is not finite; {advice}")
    top5 = {f"{name}_top5": count / images for count in five}
    return {f"{name}_loss": loss / images, f"{name}_accuracy": first / images, **top5}


# ---- checkpoints


class Trained(NamedTuple):
    """A trained network, and what its checkpoint says about it."""

    path: Path
    network: Network
    genotype: Genotype
    sizes: dict  # the arguments of Network
    dataset: str
    folder: str | None  # that held the data set, where the run says so
    data: dict  # `about` of the training set; for checkpoints of the original without class names


def restore(path: str | Path | Checkpoint, genotype: Genotype | None = None) -> Trained:
    """The network of a run folder, of a checkpoint in one, or of a checkpoint of the original, which needs the genotype.

    Raises DartsError when there is no checkpoint, or when it is of another genotype.
    """
    path, state = path if isinstance(path, Checkpoint) else legacy.open_checkpoint(path)
    if "command" not in state:
        return _original(path, state, genotype or genotypes.load("darts_v2", "cnn"))
    if state["command"] not in ("train cnn", "select cnn"):
        raise DartsError(
            f"{path}: comes from darts {state['command']}; a trained network is needed: darts train cnn --genotype RUN"
        )
    foreign = unknown_operations(state.get("genotype"))
    if foreign:
        raise DartsError(f"{path}: its cells have {', '.join(foreign)}; install the package that provides this operation")
    try:
        cells = Genotype.from_dict(state["genotype"])
        trained = _ours(path, state, cells)
    except (DartsError, LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:80]
        raise DartsError(f"{path}: is damaged and cannot be read ({type(error).__name__}: {reason})") from None
    if genotype is not None and genotype != cells:
        raise DartsError(f"{path}: was trained with another genotype, {cells.name or 'one without a name'}")
    return trained


def load_weights(network: Network, sizes: dict, genotype: Genotype, path: str) -> None:
    """Copy the weights of a checkpoint into the network of that genotype and those sizes.

    The auxiliary head's are copied only where both have one. Raises DartsError when genotype or sizes differ.
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
    optional = [key for key in ("levels", "resize") if key in state["data"]]
    about = {key: state["data"][key] for key in ("classes", "size", "mean", "deviation", *optional)}
    data.check_about(about)
    sizes = {
        "channels": config.channels,
        "num_classes": len(about["classes"]),
        "layers": config.layers,
        "auxiliary": any(name.startswith("auxiliary_head.") for name in weights),
        "stem": "imagenet" if config.dataset == "imagenet" else "cifar",
    }
    cells = blocks_with_weights(genotype, config.layers)
    if cells != legacy.cells(weights):
        raise ValueError(f"{legacy.cells(weights)} cells, where the settings say {cells}")
    trained = checkpoint.network(partial(network(genotype), genotype, **sizes), weights)
    return Trained(path, trained, genotype, sizes, config.dataset, checkpoint.data_folder(path), about)


def _original(path: Path, state: dict, genotype: Genotype) -> Trained:
    try:
        weights = legacy.weights(state)
        sizes = legacy.sizes(weights)
    except DartsError as error:
        raise DartsError(f"{path}: {error}") from None
    try:
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
