"""The evaluation of a recurrent network: from its run, its checkpoint, or the original's pickled model."""

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from darts_cli import DartsError, legacy
from darts_cli import genotype as genotypes
from darts_cli.config import TrainRNN
from darts_cli.genotype import Genotype
from darts_cli.rnn import data
from darts_cli.rnn.model import LanguageModel, Network, parameters
from darts_cli.runs import checkpoint
from darts_cli.runtime import device
from darts_cli.runtime.nonfinite import LOWER, NotFinite

BPTT = 35  # words of a stream at a time; the hidden state is carried, so that it changes nothing


def evaluate(
    path: str | Path,
    genotype: Genotype | None = None,
    dataset: str | None = None,
    folder: str | None = None,
    *,
    batch_size: int = 1,
    where: str = "auto",
    precision: str = "fp32",
) -> dict:
    """Perplexity of a word, mean loss in nats and size of a network, on the test text of a corpus.

    path       a run folder (its best network, or else its last), a checkpoint in it, or a checkpoint of the original
    genotype   for the original's checkpoints that do not tell; DARTS_V2 where none is given
    dataset    where it is not what the network was trained on; `folder`, which holds it, likewise

    Words that the network does not know are read as <unk>, or left out where it has none, counted and named. Raises DartsError
    when the checkpoint cannot be read, or genotype or text do not fit it.
    """
    where = device.resolve(where)
    trained = restore(path, genotype)
    if dataset in (None, trained.dataset):
        dataset, folder = trained.dataset, folder or trained.folder
    corpus = data.load(dataset, folder, trained.vocab, data.PARTS if trained.vocab is None else ("test",))
    if len(corpus.vocab) != trained.sizes["vocab"]:
        raise DartsError(
            f"{trained.path}: knows {trained.sizes['vocab']:,} words, but {folder or dataset} has {len(corpus.vocab):,}"
        )
    source = data.streams(corpus.test, batch_size, "test").to(where)
    network = trained.network.to(where).eval()
    *_, sums = running_sums(network, source, BPTT, precision)
    found = metrics("test", sums, "the network does not fit this text")
    unknown = {"unknown": sum(corpus.unknown.values()), "unknown_words": [word for word, _ in corpus.unknown.most_common(10)]}
    return {
        "checkpoint": str(trained.path),
        "genotype": trained.genotype.name,
        "dataset": dataset,
        "words": int(sums[1]),
        "perplexity": found["test_perplexity"],
        "loss": found["test_loss"],
        "parameters": parameters(network),
        **(unknown if corpus.unknown else {}),
    }


# ---- what is measured


def running_sums(network: LanguageModel, source: Tensor, bptt: int, precision: str) -> Iterator[Tensor]:
    """Negative log-likelihood and number of the words predicted, summed over the first pieces of the streams, to the end.

    The network is not to be training, so that there is no dropout.
    """
    hidden, sums = network.initial(source.shape[1]), 0
    for start in range(0, len(source) - 1, bptt):
        x, y = data.piece(source, start, bptt)
        with torch.no_grad(), device.autocast(source.device, precision):
            _, nll, hidden = network.loss(x, y, hidden)
        sums = sums + summed(nll, y)
        yield sums


def summed(nll: Tensor, y: Tensor) -> Tensor:
    """A mean negative log-likelihood as its sum over the words y (T, B), and their number."""
    nll = nll.detach().to(sums_dtype(nll.device))
    return torch.stack([nll * y.numel(), torch.full_like(nll, y.numel())])


def sums_dtype(where: torch.device) -> torch.dtype:
    """Float64, where the device has it."""
    return torch.float32 if where.type == "mps" else torch.float64


def metrics(name: str, sums: Tensor, remedy: str = LOWER) -> dict[str, float]:
    """Mean negative log-likelihood of a word, and the perplexity, its exponential. Raises NotFinite."""
    nll, words = sums.tolist()
    if not math.isfinite(nll):
        raise NotFinite(f"the {name} loss is not finite; {remedy}")
    return {f"{name}_loss": nll / words, f"{name}_perplexity": math.exp(min(nll / words, 700))}


# ---- checkpoints


class Trained(NamedTuple):
    """A trained network, and what its checkpoint says of it."""

    path: Path
    network: Network
    genotype: Genotype
    sizes: dict  # the arguments of Network
    dataset: str
    folder: str | None  # that held the corpus, where the run says so
    vocab: list[str] | None  # of the training; unknown of the original's


def sizes_of(config: TrainRNN, vocab: int) -> dict:
    """The arguments of Network, besides the genotype, of a configuration."""
    dropouts = {name: getattr(config, name) for name in ("dropout", "dropouth", "dropoutx", "dropouti", "dropoute")}
    return {"vocab": vocab, "dim": config.dim, **dropouts, "init_op": config.init_op}


def restore(path: str | Path, genotype: Genotype | None = None) -> Trained:
    """The network of a run folder, of a checkpoint in one, or of a checkpoint of the original.

    Raises DartsError when there is none, or when it is of another genotype.
    """
    path = checkpoint.file(path)
    state = legacy.read_checkpoint(path)
    if state.get("command", "train rnn") not in ("train rnn", "select rnn"):
        raise DartsError(f"{path}: comes from darts {state['command']}; a trained network is needed: darts train rnn")
    try:
        trained = _ours(path, state) if "command" in state else _original(path, state, genotype)
    except (DartsError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise DartsError(f"{path}: holds no recurrent network that can be read ({type(error).__name__}: {reason})") from None
    if genotype is not None and genotype != trained.genotype:
        raise DartsError(f"{path}: was trained with another genotype, {trained.genotype.name or 'one without a name'}")
    return trained


def load_weights(network: Network, sizes: dict, genotype: Genotype, path: str) -> None:
    """Copy the weights of a checkpoint into the network of that genotype and those sizes. Raises DartsError if they differ."""
    trained = restore(path, genotype)
    differing = [
        f"{key} {trained.sizes[key]}, not {sizes[key]}" for key in ("vocab", "dim") if trained.sizes[key] != sizes[key]
    ]
    if differing:
        raise DartsError(f"--init-from {path}: its network has {'; '.join(differing)}")
    network.load_state_dict(trained.network.state_dict())


def _ours(path: Path, state: dict) -> Trained:
    genotype, config = Genotype.from_dict(state["genotype"]), TrainRNN.from_dict(state["config"])
    vocab = state["data"]["vocab"]
    if not all(isinstance(word, str) for word in vocab) or len(set(vocab)) < len(vocab):
        raise ValueError("its vocabulary is not one of different words")
    sizes = {"vocab": len(vocab), "dim": config.dim, "init_op": config.init_op}
    network = checkpoint.network(partial(Network, genotype, **sizes), state["network"])
    optimizer = state.get("optimizer", {"averages": False})  # best.pt has none: its weights are what was evaluated
    if optimizer["averages"] is True:
        with torch.no_grad():
            for weight, about in zip(network.parameters(), optimizer["optimizer"]["state"].values(), strict=False):
                weight.copy_(about["ax"])
    return Trained(path, network, genotype, sizes, config.dataset, checkpoint.data_folder(path), vocab)


def _original(path: Path, state: dict, genotype: Genotype | None) -> Trained:
    weights, config = legacy.weights(state), state.get("config", {})
    vocab, dim = weights["encoder.weight"].shape
    sizes = {"vocab": vocab, "dim": dim, "init_op": config.get("init_op", "tanh")}
    told = _told(config)
    cells = told or genotype or genotypes.load("darts_v2", "rnn")
    network = Network(cells, **sizes)
    legacy.load_state(network, weights)
    return Trained(path, network, cells, sizes, "ptb", None, None)


def _told(config: dict) -> Genotype | None:
    """The cell that the pickled model kept, under its published name where it has one."""
    if "genotype" not in config:
        return None
    edges, concat = config["genotype"]
    nodes = [[list(edge)] for edge in edges]
    found = Genotype.from_dict({"domain": "rnn", "recurrent": {"nodes": nodes, "concat": list(concat)}})
    known = (genotypes.load(name, "rnn") for name in genotypes.names("rnn"))
    return next((each for each in known if each == found), found)
