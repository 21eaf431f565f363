"""The bilevel optimisation of a convolutional cell: a step of algorithm 1, and what it is made of."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from darts_cli.architect import Architect, constant
from darts_cli.cnn import data
from darts_cli.cnn.datasets.batches import Batch, Batches, parts_of
from darts_cli.cnn.model import SearchNetwork, search_network
from darts_cli.config import SearchCNN
from darts_cli.methods.method import parse
from darts_cli.methods.relaxation import Relaxation
from darts_cli.methods.stages import space_of
from darts_cli.methods.value import Method, Stage, Step
from darts_cli.runs import checkpoint
from darts_cli.runs.run import Run
from darts_cli.runtime import distributed
from darts_cli.runtime.compiling import compile_regions, failure
from darts_cli.runtime.device import autocast, exact, fused, keep_kind, seed, seed_stage
from darts_cli.runtime.graphs import Graphs, repeated
from darts_cli.runtime.schedules import set_lr


def search_step(
    architect: Architect, relaxation: Relaxation, step: Step, train: Batch, valid: Batch, grad_clip: float
) -> tuple[Tensor, Tensor]:
    """Algorithm 1: a step of alpha along the hypergradient, then one of the weights along the gradient of the training loss.

    During the warm-up of alpha, only the latter. Returns the sums of both batches (2, 3) and the norm of the weights'
    gradient.
    """
    tables, valid_sums = relaxation.draw(step), None
    if relaxation.method.trains_alpha(step):
        valid_sums = architect.hypergradient(train, valid)
        relaxation.step(tables, step)
        tables = relaxation.draw(step)
    relaxation.disturb(tables, step, lambda: architect.whole_loss(train), architect.average)
    architect.w_optimizer.zero_grad()
    with constant(relaxation.weights.values()):
        train_sums = architect.backward(train)
    distributed.average_gradients(architect.weights)
    norm = torch.nn.utils.clip_grad_norm_(architect.weights, grad_clip)
    architect.w_optimizer.step()
    return torch.stack([train_sums, torch.zeros_like(train_sums) if valid_sums is None else valid_sums]), norm


def steps_of(architect: Architect, relaxation: Relaxation, config: SearchCNN, graphs: Graphs) -> Callable:
    """The steps of an epoch, as functions of where they stand and of both batches; recorded where they repeat."""

    def step(at: Step, train: Batch, valid: Batch) -> tuple:
        return search_step(architect, relaxation, at, train, valid, config.grad_clip)

    return repeated(step, relaxation.network.repeats, graphs)


def begin(
    network: SearchNetwork, w_optimizer: torch.optim.Optimizer, config: SearchCNN, records: list[dict], stage: Stage, step: Step
) -> float:
    """Begin an epoch, or go on with it: with its weight decay, what it adds to the edges, and its learning rate, which is
    returned."""
    weight_decay, drop_path = config.regularisation(records)
    lr = stage.lr(config.lr, config.lr_min, step.epoch)
    set_lr(w_optimizer, lr, weight_decay)
    network.begin(step, drop_path * step.epoch / max(1, config.epochs - 1))
    return lr


def batches_of(step: Step, train: Batches, valid: Batches, draws: bool = True) -> tuple[Batch, Batch]:
    """Those of a step, from the training and the validation half, which begins again when it ends.

    draws    whether passes over them draw random numbers
    """
    of_valid = divmod(step.epoch * len(train) + step.number, len(valid))
    places = ((train, (step.epoch, step.number), "train"), (valid, of_valid, "valid"))
    one, other = (
        Batch(*half.augmented(*at), (step, name) if draws else None, half.share(at[1])[0]) for half, at, name in places
    )
    return one, other


def make(
    config: SearchCNN, classes: int, method: Method, device: torch.device, run: Run, stage: Stage
) -> tuple[SearchNetwork, Architect, Relaxation]:
    """The network of a stage, with its optimisers, as it begins."""
    alone = {"--unrolled exact": config.exact, "--compile": config.compile, "--cuda-graphs": config.cuda_graphs}
    distributed.check_alone(alone)
    seed_stage(config.seed, stage.start)
    kwargs = {"alpha_scale": config.alpha_scale, "recompute": config.recompute}
    kwargs |= {
        "fused": not (config.exact or (config.compile and failure(device) is None)),
        "space": space_of(stage, config.searched, run.reports.metrics or run.state.finished()),
        "method": stage.method(method),
    }
    network = search_network(config.searched)(config.channels, classes, config.layers + stage.cells, **kwargs).to(device)
    if config.compile:
        compile_regions(network.regions(), device)
    return network, *make_architect(network, config, device)


def make_architect(network: SearchNetwork, config: SearchCNN, device: torch.device) -> tuple[Architect, Relaxation]:
    """The bilevel optimiser of a network, with SGD for the weights, and its alphas, with Adam."""
    weights, options = network.weights(), {"fused": fused(device)}
    of_alpha = {**options, "capturable": config.cuda_graphs and network.repeats and device.type == "cuda"}
    adam = torch.optim.Adam(
        network.alphas.values(), config.alpha_lr, config.alpha_betas, weight_decay=config.alpha_weight_decay, **of_alpha
    )
    sgd = torch.optim.SGD(weights, config.lr, config.momentum, weight_decay=config.weight_decay, **options)
    relaxation = Relaxation(network, keep_kind(adam), config.alpha_clip)
    architect = Architect(
        loss_function(network, relaxation, device, config.precision),
        weights,
        relaxation.weights,
        keep_kind(sgd),
        None,
        unrolled=bool(config.unrolled),
        exact=config.exact,
        buffers=network.buffers(),
        split=partial(parts_of, count=config.accumulate),
        join=lambda carries: sum(sums for _, sums in carries),
        average=distributed.average,
    )
    return architect, relaxation


def loss_function(network: SearchNetwork, relaxation: Relaxation, device: torch.device, precision: str) -> Callable:
    """The mean loss of a batch of all ranks; its carry is what the metrics sum: loss, correct answers and images."""

    def loss(batch: Batch) -> tuple[Tensor, Tensor]:
        images, labels, chance, size = Batch(*batch)  # a plain pair will do where no operation draws
        if chance:
            seed(*chance)
        with autocast(device, precision), distributed.batch_of(size):
            logits = network(images, relaxation.weights, relaxation.active)
        losses = F.cross_entropy(exact(logits), labels, reduction="sum")
        correct = (logits.argmax(dim=1) == labels).sum()
        sums = distributed.total(torch.stack([losses.detach(), correct, torch.full_like(correct, len(labels))]))
        return losses * (distributed.ranks() / sums[2]), sums

    return loss


def reopened(config: SearchCNN, run: Run, device: torch.device) -> Iterator[tuple[Architect, Relaxation, Step, Batch, Batch]]:
    """The search as the newest checkpoint of a run has it, with the steps that follow, none of which is made; those of an
    epoch that has none left once more.

    The configuration may differ from that of the run in what leaves the network as it is. Raises DartsError.
    """
    _, used, train, valid = data.halves(config, device)
    method, state = parse(config.method), checkpoint.read(run.state.newest())
    epoch, done = (state["epoch"], state["step"]) if state["epoch"] < config.epochs else (config.epochs - 1, 0)
    stage = method.stage(epoch, config.epochs)
    network, architect, relaxation = make(config, len(used.classes), method, device, run, stage)
    network.load_state_dict(state["network"])
    architect.w_optimizer.load_state_dict(state["w_optimizer"])
    for number in range(done if done < len(train) else 0, len(train)):
        step = Step(epoch, config.epochs, config.seed, number)
        begin(network, architect.w_optimizer, config, run.state.finished(), stage, step)
        yield architect, relaxation, step, *batches_of(step, train, valid)
