"""The evaluation of a recurrent network: from its run, its checkpoint, or the original's pickled model."""

import math
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from darts_cli import DartsError, legacy
from darts_cli import genotype as genotypes
from darts_cli.architect import constant
from darts_cli.config import SearchRNN, TrainRNN
from darts_cli.genotype import Genotype
from darts_cli.guard.curvature import hessian_product, largest_eigenvalue, start_of
from darts_cli.legacy import Checkpoint
from darts_cli.methods.value import Tables
from darts_cli.rnn import data
from darts_cli.rnn.model import LanguageModel, Network, SearchNetwork
from darts_cli.rnn.sizes import parameters
from darts_cli.rnn.texts import PARTS
from darts_cli.runs import checkpoint
from darts_cli.runtime import distributed
from darts_cli.runtime.compiling import not_compiled
from darts_cli.runtime.device import autocast, chosen
from darts_cli.runtime.nonfinite import ADVICE, NotFinite

BPTT = 35  # words of a stream at a time; the hidden state is carried, so that the result does not depend on it


def evaluate(
    path: "str | Path | Checkpoint | Trained",
    genotype: Genotype | None = None,
    dataset: str | None = None,
    folder: str | None = None,
    *,
    batch_size: int = 1,
    device: str = "auto",
    precision: str = "fp32",
    deterministic: bool = True,
) -> dict:
    """Perplexity per word, mean loss in nats and size of a network, on the test text of a corpus.

    path       a run folder (its best network, or else its last), a checkpoint in it or of the original, or an opened one
    genotype   for checkpoints of the original that do not name their cell; default DARTS_V2
    dataset    default: the corpus that the network was trained on; `folder`, which holds it, likewise

    Words that the network does not know are read as <unk>, or left out where it has none, and they are counted. Raises
    DartsError when the checkpoint cannot be read, or when genotype or text do not fit it.
    """
    device = chosen(device, deterministic, precision)
    trained = path if isinstance(path, Trained) else restore(path, genotype)
    if dataset in (None, trained.dataset):
        dataset, folder = trained.dataset, folder or trained.folder
    parts = PARTS if trained.vocab is None else ("test",)
    corpus = data.load(dataset, folder, trained.vocab, parts, trained.tokens)
    if len(corpus.vocab) != trained.sizes["vocab"]:
        raise DartsError(
            f"{trained.path}: knows {trained.sizes['vocab']:,} words, but {folder or dataset} has {len(corpus.vocab):,}"
        )
    source = data.streams(corpus.test, batch_size, "test").to(device)
    network = trained.network.to(device).eval()
    sums = measure(network, source, BPTT, precision)
    results = metrics("test", sums, "the network does not fit this text")
    unknown = {"unknown": sum(corpus.unknown.values()), "unknown_words": [word for word, _ in corpus.unknown.most_common(10)]}
    return {
        "checkpoint": str(trained.path),
        "genotype": trained.genotype.name,
        "dataset": dataset,
        "words": int(sums[1]),
        "perplexity": results["test_perplexity"],
        "loss": results["test_loss"],
        "parameters": parameters(network),
        **(unknown if corpus.unknown else {}),
    }


# ---- what is measured


def measure(
    network: LanguageModel,
    source: Tensor,
    bptt: int,
    precision: str,
    after_each: Callable[[], None] = lambda: None,
    *,
    count: int | None = None,
    mixture: Tables | None = None,
) -> Tensor:
    """The sums of `scores` over streams (rows, B), taken `bptt` rows at a time; `after_each` is called after each piece.

    count      how many pieces, the first ones; all, if none is given
    mixture    of a search network: its operation weights

    The network must be in eval mode, so that there is no dropout.
    """
    hidden, sums = network.initial(source.shape[1]), 0
    for start in islice(range(0, len(source) - 1, bptt), count):
        x, y = data.piece(source, start, bptt)
        with torch.no_grad(), autocast(source.device, precision):
            _, nll, hidden = network.loss(x, y, hidden, mixture=mixture)
        sums = sums + scores(nll, y)
        after_each()
    return sums


def likelihood(
    network: SearchNetwork,
    evaluation: Tensor,
    config: SearchRNN,
    after_each: Callable[[], None],
    tables: Tables,
    *,
    batches: int | None = None,
    training: bool = True,
) -> float:
    """The mean log-likelihood of a word of the validation text, or of some pieces of it, at operation weights.

    It is always normalised by the statistics of each batch, whatever `training` says.
    """
    given = {"count": batches, "mixture": tables}
    nll, words = distributed.first(measure(network.measured(), evaluation, config.bptt, config.precision, after_each, **given))
    return -float(nll / words)


def eigenvalue(network: SearchNetwork, source: Tensor, bptt: int, weight_decay: float) -> float:
    """The largest eigenvalue of the Hessian of the loss with respect to alpha, plus alpha's weight decay.

    The loss is that of the first piece of the streams, without dropout, with the hidden state at zero.
    """
    network = network.measured(fused=False)
    alphas, (x, y) = list(network.alphas.values()), data.piece(source, 0, bptt)
    with distributed.alone(), not_compiled(network), constant(network.weights()), torch.enable_grad():
        _, nll, _ = network.loss(x, y, network.initial(x.shape[1]))
        found = largest_eigenvalue(hessian_product(nll, alphas), start_of(alphas))
    return float(distributed.first(torch.tensor(found, dtype=torch.float64))) + weight_decay


def scores(nll: Tensor, y: Tensor) -> Tensor:
    """A mean negative log-likelihood as its sum over the words y (T, B), and the number of words (2,)."""
    nll = nll.detach().to(sums_dtype(nll.device))
    return torch.stack([nll * y.numel(), torch.full_like(nll, y.numel())])


def sums_dtype(device: torch.device) -> torch.dtype:
    """Float64, where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


def metrics(name: str, sums: Tensor, advice: str = ADVICE) -> dict[str, float]:
    """Mean negative log-likelihood per word, and the perplexity, its exponential. Raises NotFinite."""
    nll, words = sums.tolist()
    if not math.isfinite(nll):
        raise NotFinite(f"the {name} loss is not finite; {advice}")
    return {f"{name}_loss": nll / words, f"{name}_perplexity": math.exp(min(nll / words, 700))}


# ---- checkpoints


class Trained(NamedTuple):
    """A trained network, and what its checkpoint says about it."""

    path: Path
    network: Network
    genotype: Genotype
    sizes: dict  # the arguments of Network
    dataset: str
    folder: str | None  # that held the corpus, where the run says so
    vocab: list[str] | None  # of the training; unknown for checkpoints of the original
    tokens: str = "words"


def dropouts(config: SearchRNN | TrainRNN) -> dict[str, float]:
    """The five dropouts of a configuration, as the networks take them."""
    return {name: getattr(config, name) for name in ("dropout", "dropouth", "dropoutx", "dropouti", "dropoute")}


def restore(path: str | Path | Checkpoint, genotype: Genotype | None = None) -> Trained:
    """The network of a run folder, of a checkpoint in one, or of a checkpoint of the original.

    Raises DartsError when there is no checkpoint, or when it is of another genotype.
    """
    path, state = path if isinstance(path, Checkpoint) else legacy.open_checkpoint(path)
    if state.get("command", "train rnn") not in ("train rnn", "select rnn"):
        raise DartsError(f"{path}: comes from darts {state['command']}; a trained network is needed: darts train rnn")
    try:
        trained = _ours(path, state) if "command" in state else _original(path, state, genotype)
    except (DartsError, LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
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


def check_vocabulary(vocab: object, count: int) -> None:
    """Raise ValueError unless this is a list of so many different words."""
    words = isinstance(vocab, list) and all(isinstance(word, str) for word in vocab)
    if not words or not len(set(vocab)) == len(vocab) == count:
        raise ValueError(f"its vocabulary is not a list of {count:,} different words")


def _ours(path: Path, state: dict) -> Trained:
    genotype, config = Genotype.from_dict(state["genotype"]), TrainRNN.from_dict(state["config"])
    vocab = state["data"]["vocab"]
    check_vocabulary(vocab, len(vocab))
    sizes = {"vocab": len(vocab), "dim": config.dim, "init_op": config.init_op}
    network = checkpoint.network(partial(Network, genotype, **sizes), state["network"])
    optimizer = state.get("optimizer", {"averages": False})  # best.pt has none: its weights are what was evaluated
    if optimizer["averages"] is True:
        with torch.no_grad():
            for weight, slots in zip(network.parameters(), optimizer["optimizer"]["state"].values(), strict=False):
                weight.copy_(slots["ax"])
    return Trained(path, network, genotype, sizes, config.dataset, checkpoint.data_folder(path), vocab, config.tokens)


def _original(path: Path, state: dict, genotype: Genotype | None) -> Trained:
    weights, config = legacy.weights(state), state.get("config", {})
    vocab, dim = weights["encoder.weight"].shape
    sizes = {"vocab": vocab, "dim": dim, "init_op": config.get("init_op", "tanh")}
    cells = _pickled_cell(config) or genotype or genotypes.load("darts_v2", "rnn")
    network = Network(cells, **sizes)
    legacy.load_state(network, weights)
    return Trained(path, network, cells, sizes, "ptb", None, None)


def _pickled_cell(config: dict) -> Genotype | None:
    """The cell that the pickled model kept, under its published name where it has one."""
    if "genotype" not in config:
        return None
    edges, concat = config["genotype"]
    nodes = [[list(edge)] for edge in edges]
    cell = Genotype.from_dict({"domain": "rnn", "recurrent": {"nodes": nodes, "concat": list(concat)}})
    published = (genotypes.load(name, "rnn") for name in genotypes.names("rnn"))
    return next((genotype for genotype in published if genotype == cell), cell)
