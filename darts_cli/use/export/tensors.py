"""Safetensors: the weights of a network, with what rebuilds it in the metadata."""

import json
from functools import partial
from pathlib import Path

import torch

from darts_cli import DartsError, files, legacy
from darts_cli.cnn import data
from darts_cli.cnn import evaluate as cnn
from darts_cli.cnn.model import blocks_with_weights
from darts_cli.cnn.model import network as network_of_images
from darts_cli.config import IMAGES, TEXTS
from darts_cli.genotype import Genotype
from darts_cli.rnn import evaluate as rnn
from darts_cli.rnn.model import Network as LanguageModel
from darts_cli.runs import checkpoint
from darts_cli.use.export.subject import Call, Subject

SUFFIX = ".safetensors"
UNREADABLE = (DartsError, OSError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError)
NEEDED = "a safetensors file needs the package safetensors: pip install safetensors"


def write(subject: Subject, path: Path) -> None:
    """The network's state dict under its own names, without the auxiliary head, which only training uses. The weight of a
    language model's decoder is that of its encoder, and the file holds it once."""
    from safetensors.torch import save_file

    state = subject.trained.network.state_dict()
    kept = {
        key: tensor.contiguous()
        for key, tensor in state.items()
        if not key.startswith("auxiliary_head.") and key != "decoder.weight"
    }
    save_file(kept, path, subject.metadata())


def outputs(path: Path, calls: list[Call]) -> list[Call]:
    """The outputs of the network in a file."""
    trained = restore(path)
    network = trained.network.eval()
    with torch.no_grad():
        if isinstance(trained, rnn.Trained):
            return [network(*call) for call in calls]
        return [network(*call)[:1] for call in calls]


def restore(path: str | Path) -> cnn.Trained | rnn.Trained:
    """The trained network in a safetensors file of `darts export`. Raises DartsError when there is none."""
    if not files.is_file(path):
        raise DartsError(f"{path}: {'not a regular file' if Path(path).exists() else 'no such file'}")
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise DartsError(f"{path}: {NEEDED}") from None
    try:
        with safe_open(path, "pt") as file:
            about = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no dict)
        datasets, rebuild = KINDS[about["domain"]]
        if about["dataset"] not in datasets:
            raise ValueError(f"{about['dataset']}: no such data set")
        return rebuild(Path(path), about, state)
    except (*UNREADABLE, SafetensorError) as error:
        reason = " ".join(str(error).split())[:100]
        raise DartsError(f"{path}: holds no network of darts export ({type(error).__name__}: {reason})") from None


def _classifier(path: Path, about: dict, state: dict[str, torch.Tensor]) -> cnn.Trained:
    data.check_about(about)
    cells = Genotype.from_dict(about["genotype"])
    sizes = {key: about[key] for key in ("channels", "num_classes", "layers", "auxiliary", "stem")}
    if blocks_with_weights(cells, sizes["layers"]) != legacy.cells(state):
        raise ValueError(f"{legacy.cells(state)} cells, where the metadata say {sizes['layers']}")
    if len(about["classes"]) != sizes["num_classes"]:
        raise ValueError(f"{len(about['classes'])} classes, where the metadata say {sizes['num_classes']}")
    network = checkpoint.network(partial(network_of_images(cells), cells, **sizes), state)
    return cnn.Trained(path, network, cells, sizes, about["dataset"], None, about)


def _language_model(path: Path, about: dict, state: dict[str, torch.Tensor]) -> rnn.Trained:
    cells = Genotype.from_dict(about["genotype"])
    sizes = {key: about[key] for key in ("vocab", "dim", "init_op")}
    if about["words"] is not None:
        rnn.check_vocabulary(about["words"], sizes["vocab"])
    state["decoder.weight"] = state["encoder.weight"]  # one and the same tensor, which the file holds once
    network = checkpoint.network(partial(LanguageModel, cells, **sizes), state)
    return rnn.Trained(path, network, cells, sizes, about["dataset"], None, about["words"], about.get("tokens", "words"))


KINDS = {"cnn": ((*IMAGES, "imagenet"), _classifier), "rnn": (TEXTS, _language_model)}
