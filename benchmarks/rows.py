"""What is measured: for each row the plain network and ours, doing the same work on the same kind of made-up data.

A row is a function of the side ("plain" or "ours"), the device and sizes; it returns a step without arguments.
"""

import platform
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F

from benchmarks.plain import bilevel
from benchmarks.plain import cnn as plain_cnn
from benchmarks.plain import rnn as plain_rnn
from darts_cli.cnn import evaluate as evaluate_cnn
from darts_cli.cnn import model as cnn
from darts_cli.cnn.step import make_architect as make_architect_cnn
from darts_cli.cnn.step import steps_of as steps_of_cnn
from darts_cli.cnn.train import training_step as training_step_cnn
from darts_cli.config import SearchCNN, SearchRNN, TrainCNN, TrainRNN
from darts_cli.genotype import load
from darts_cli.methods.value import Step
from darts_cli.rnn import evaluate as evaluate_rnn
from darts_cli.rnn import model as rnn
from darts_cli.rnn.step import Batch
from darts_cli.rnn.step import make_architect as make_architect_rnn
from darts_cli.rnn.step import steps_of as steps_of_rnn
from darts_cli.rnn.train import training_step as training_step_rnn
from darts_cli.runtime import device
from darts_cli.runtime.compiling import compile_regions
from darts_cli.runtime.graphs import Graphs, Steps

Work = Callable[[], None]
STEP = Step(epoch=0, epochs=1, seed=0, number=0)


def processor() -> str:
    """The name of the CPU."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _images(batch: int, where: torch.device, side: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(batch, 3, side, side, device=where), torch.randint(0, 10, (batch,), device=where)


def _fail(line: str) -> None:
    """What a row does where it would be measured in another way than it says."""
    raise RuntimeError(line)


def search_cnn(
    side: str,
    where: torch.device,
    precision: str,
    unrolled: bool,
    batch: int = 64,
    channels: int = 16,
    layers: int = 8,
    compiled: bool = False,
    recorded: bool = False,
) -> Work:
    train, valid = _images(batch, where), _images(batch, where)
    network = cnn.SearchNetwork(channels, 10, layers, fused=side == "ours" and not compiled).to(where)
    if side == "plain":
        optimizers = _plain_optimizers(network, where, 0.025, 0.9, 3e-4, 3e-4, (0.5, 0.999))

        def loss(network, batch):
            with device.autocast(where, precision):
                return F.cross_entropy(network(batch[0]).float(), batch[1])

        return _plain_search(network, loss, *optimizers, train, valid, unrolled, 5.0, None)

    if compiled:
        compile_regions(network.regions(), where)
    config = SearchCNN(unrolled=unrolled, precision=precision, cuda_graphs=recorded)
    step = steps_of_cnn(*make_architect_cnn(network, config, where), config, Graphs(recorded, where, _fail))
    return lambda: step(STEP, train, valid)


def search_rnn(
    side: str,
    where: torch.device,
    precision: str,
    unrolled: bool,
    batch: int = 256,
    dim: int = 300,
    bptt: int = 35,
    vocab: int = 10_000,
    compiled: bool = False,
    recorded: bool = False,
) -> Work:
    train, valid = ((*torch.randint(0, vocab, (2, bptt, batch), device=where),) for _ in range(2))
    network = (plain_rnn if side == "plain" else rnn).SearchNetwork(vocab, dim).to(where)
    drawn = rnn.SearchNetwork(vocab, dim).to(where)
    masks = [drawn.masks(batch) for _ in range(2)]
    if side == "plain":
        optimizers = _plain_optimizers(network, where, 20.0, 0.0, 5e-7, 3e-3, (0.9, 0.999))
        hidden = torch.zeros(batch, dim, device=where)

        def loss(network, batch, tar: float = 0.0):
            with device.autocast(where, precision):
                return network.loss(*batch[:2], hidden, batch[2], tar)[0]

        one, other = ((*data, tuple(mask)) for data, mask in zip((train, valid), masks, strict=True))
        return _plain_search(network, loss, *optimizers, one, other, unrolled, 0.25, 0.25, tar=1e-3)

    if compiled:
        compile_regions(network.regions(), where)
    config = SearchRNN(unrolled=unrolled, precision=precision, cuda_graphs=recorded)
    step = steps_of_rnn(*make_architect_rnn(network, config, where), config, Graphs(recorded, where, _fail))
    one, other = (Batch(*words, network.initial(batch), mask) for words, mask in zip((train, valid), masks, strict=True))
    return lambda: step(STEP, one, other)


def one_hot_cnn(side: str, where: torch.device, precision: str, batch: int = 64, channels: int = 16, layers: int = 8) -> Work:
    """A pass of the fast search network forwards and backwards: with all operations as "plain", as ours with one an edge."""
    images, labels = _images(batch, where)
    network = cnn.SearchNetwork(channels, 10, layers).to(where)
    names = network.space.operations

    def step() -> None:
        chosen = {kind: torch.randint(len(names), (len(alpha),)) for kind, alpha in network.alphas.items()}
        hot = {kind: F.one_hot(k, len(names)).to(where, torch.float32).requires_grad_() for kind, k in chosen.items()}
        active = {kind: [[names[i]] for i in k.tolist()] for kind, k in chosen.items()} if side == "ours" else None
        with device.autocast(where, precision):
            loss = F.cross_entropy(network(images, hot, active).float(), labels)
        torch.autograd.grad(loss, [*network.weights(), *hot.values()], allow_unused=True)

    return step


def eigenvalue_cnn(
    side: str, where: torch.device, precision: str, batch: int = 64, channels: int = 16, layers: int = 8
) -> Work:
    """As "plain" a first-order step of our search, as ours one eigenvalue of the Hessian in alpha, of a batch of that size."""
    if side == "plain":
        return search_cnn("ours", where, precision, False, batch, channels, layers)
    network, images = cnn.SearchNetwork(channels, 10, layers).to(where), _images(batch, where)
    return lambda: evaluate_cnn.eigenvalue(network, SimpleNamespace(plain=lambda index: images), 1e-3)


def eigenvalue_rnn(
    side: str, where: torch.device, precision: str, batch: int = 256, dim: int = 300, bptt: int = 35, vocab: int = 10_000
) -> Work:
    """The same for a recurrent cell, on ten streams, as a search takes them by default."""
    if side == "plain":
        return search_rnn("ours", where, precision, False, batch, dim, bptt, vocab)
    network, words = rnn.SearchNetwork(vocab, dim).to(where), torch.randint(0, vocab, (bptt + 1, min(batch, 10)), device=where)
    return lambda: evaluate_rnn.eigenvalue(network, words, bptt, 1e-3)


def train_cnn(
    side: str,
    where: torch.device,
    precision: str,
    batch: int = 96,
    channels: int = 36,
    layers: int = 20,
    compiled: bool = False,
    recorded: bool = False,
) -> Work:
    genotype, (images, labels) = load("cnn/darts_v2"), _images(batch, where)
    config = TrainCNN(channels=channels, layers=layers, batch_size=batch, precision=precision)
    network = (plain_cnn if side == "plain" else cnn).Network(genotype, channels, 10, layers, True).to(where)
    network.drop_path = 0.1
    fused = side == "ours" and device.fused(where)
    optimizer = torch.optim.SGD(network.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay, fused=fused)
    if compiled:
        compile_regions(network.regions(), where)
    if side == "ours":
        one_step = Steps(training_step_cnn, Graphs(recorded, where, _fail))
        return lambda: one_step(network, optimizer, config, images, labels)

    def step() -> None:
        optimizer.zero_grad()
        with device.autocast(where, precision):
            logits, auxiliary = network(images)
            loss = F.cross_entropy(logits, labels) + 0.4 * F.cross_entropy(auxiliary, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), config.grad_clip)
        optimizer.step()

    return step


def train_rnn(
    side: str,
    where: torch.device,
    precision: str,
    batch: int = 64,
    dim: int = 850,
    bptt: int = 35,
    vocab: int = 10_000,
    recorded: bool = False,
) -> Work:
    genotype = load("rnn/darts_v2")
    x, y = torch.randint(0, vocab, (2, bptt, batch), device=where)
    config = TrainRNN(dim=dim, batch_size=batch, bptt=bptt, precision=precision)
    network = (plain_rnn if side == "plain" else rnn).Network(genotype, vocab, dim).to(where)
    fused = side == "ours" and device.fused(where)
    optimizer = torch.optim.SGD(network.parameters(), config.lr, weight_decay=config.weight_decay, fused=fused)
    drawn = rnn.Network(genotype, vocab, dim).to(where)
    if side == "ours":
        hidden, one_step = network.initial(batch), Steps(training_step_rnn, Graphs(recorded, where, _fail))
        return lambda: one_step(network, optimizer, config, x, y, hidden)

    def step() -> None:
        masks = tuple(drawn.masks(batch))
        optimizer.zero_grad()
        with device.autocast(where, precision):
            loss, _ = network.loss(x, y, torch.zeros(batch, dim, device=where), masks, config.tar)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), config.grad_clip)
        optimizer.step()

    return step


def eval_cnn(
    side: str,
    where: torch.device,
    precision: str,
    batch: int = 96,
    channels: int = 36,
    layers: int = 20,
    compiled: bool = False,
) -> Work:
    network = (plain_cnn if side == "plain" else cnn).Network(load("cnn/darts_v2"), channels, 10, layers, True).to(where).eval()
    if compiled:
        compile_regions(network.regions(), where)
    images, _ = _images(batch, where)

    def step() -> None:
        with torch.no_grad(), device.autocast(where, precision):
            network(images)

    return step


def _plain_optimizers(network, where, lr, momentum, decay, alpha_lr, betas):
    """Both optimisers of a plain search network."""
    w_optimizer = torch.optim.SGD(network.weights(), lr, momentum, weight_decay=decay)
    return w_optimizer, torch.optim.Adam(network.alphas.values(), alpha_lr, betas, weight_decay=1e-3)


def _plain_search(network, loss, w_optimizer, alpha_optimizer, train, valid, unrolled, clip, architect_clip, **more) -> Work:
    def step() -> None:
        if unrolled:
            bilevel.second_order(loss, network, alpha_optimizer, w_optimizer, train, valid, architect_clip)
        else:
            bilevel.first_order(loss, network, alpha_optimizer, valid)
        bilevel.weight_step(lambda network, batch: loss(network, batch, **more), network, w_optimizer, train, clip)

    return step


ROWS: dict[str, tuple[Callable, dict, dict]] = {  # name: function, its arguments, those of --quick
    "search-cnn-first": (search_cnn, {"unrolled": False}, {"batch": 16}),
    "search-cnn-second": (search_cnn, {"unrolled": True}, {"batch": 16}),
    "one-hot-cnn": (one_hot_cnn, {}, {"batch": 16}),
    "eigenvalue-cnn": (eigenvalue_cnn, {}, {"batch": 16}),
    "train-cnn": (train_cnn, {}, {"batch": 16}),
    "search-rnn-first": (search_rnn, {"unrolled": False}, {"batch": 64}),
    "search-rnn-second": (search_rnn, {"unrolled": True}, {"batch": 64}),
    "eigenvalue-rnn": (eigenvalue_rnn, {}, {"batch": 64}),
    "train-rnn": (train_rnn, {}, {"batch": 16}),
    "eval-cnn": (eval_cnn, {}, {"batch": 16}),
}
SCALING = {  # of the first-order search of convolutional cells
    f"search-cnn-first, {name} {value}": (search_cnn, {"unrolled": False, name: value}, {"batch": 16} | {name: value})
    for name, values in {"batch": (16, 32), "channels": (8, 24), "layers": (5, 11)}.items()
    for value in values
}
TINY: dict[Callable, dict] = {  # sizes to try a command with
    search_cnn: {"batch": 2, "channels": 4, "layers": 3},
    one_hot_cnn: {"batch": 2, "channels": 4, "layers": 3},
    eigenvalue_cnn: {"batch": 2, "channels": 4, "layers": 3},
    train_cnn: {"batch": 2, "channels": 4, "layers": 3},
    eval_cnn: {"batch": 2, "channels": 4, "layers": 3},
    search_rnn: {"batch": 2, "dim": 4, "bptt": 4, "vocab": 20},
    eigenvalue_rnn: {"batch": 2, "dim": 4, "bptt": 4, "vocab": 20},
    train_rnn: {"batch": 2, "dim": 4, "bptt": 4, "vocab": 20},
}
