"""The bilevel optimisation of a recurrent cell: a step of algorithm 1, and what it is made of."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from darts_cli.architect import Architect, constant, whole
from darts_cli.config import SearchRNN
from darts_cli.methods.method import parse
from darts_cli.methods.relaxation import Relaxation
from darts_cli.methods.stages import space_of
from darts_cli.methods.value import Method, Stage, Step
from darts_cli.rnn import data
from darts_cli.rnn.cells import Masks
from darts_cli.rnn.evaluate import dropouts, scores
from darts_cli.rnn.model import SearchNetwork
from darts_cli.runs import checkpoint
from darts_cli.runs.run import Run
from darts_cli.runtime import distributed
from darts_cli.runtime.compiling import compile_regions
from darts_cli.runtime.device import autocast, fused, keep_kind, seed, seed_stage
from darts_cli.runtime.graphs import Graphs, repeated
from darts_cli.runtime.schedules import set_lr


class Batch(NamedTuple):
    """Words, the words that follow them, the hidden state before them, and the masks that all passes of a step share."""

    x: Tensor  # (T, B)
    y: Tensor  # (T, B)
    hidden: Tensor  # (1, B, D)
    masks: Masks


def search_step(
    architect: Architect,
    relaxation: Relaxation,
    step: Step,
    network: SearchNetwork,
    config: SearchRNN,
    train: Batch,
    valid: Batch,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Algorithm 1: a step of alpha along the hypergradient, then one of the weights along the gradient of the training loss.

    Returns the sums of both batches (2, 2), of all ranks, the norm of the weights' gradient, and both hidden states.
    """
    tables, valid_nll, valid_hidden = relaxation.draw(step), None, valid.hidden
    if relaxation.method.trains_alpha(step):
        valid_nll, valid_hidden = architect.hypergradient(train, valid)
        relaxation.step(tables, step)
        tables = relaxation.draw(step)
    relaxation.disturb(tables, step, lambda: architect.whole_loss(train), architect.average)
    architect.w_optimizer.zero_grad()
    with constant(relaxation.weights.values()):
        nll, hidden = architect.backward(train, regularised(network, relaxation, config))
    distributed.average_gradients(architect.weights)
    norm = torch.nn.utils.clip_grad_norm_(architect.weights, config.grad_clip)
    architect.w_optimizer.step()
    train_scores = scores(nll, train.y)
    valid_scores = torch.zeros_like(train_scores) if valid_nll is None else scores(valid_nll, valid.y)
    sums = distributed.total(torch.stack([train_scores, valid_scores]))
    return sums, norm, hidden, valid_hidden


def steps_of(architect: Architect, relaxation: Relaxation, config: SearchRNN, graphs: Graphs) -> Callable:
    """The steps of an epoch, as functions of where they stand and of both batches; recorded where they repeat."""
    network = relaxation.network

    def step(at: Step, train: Batch, valid: Batch) -> tuple:
        return search_step(architect, relaxation, at, network, config, train, valid)

    return repeated(step, network.repeats, graphs)


def regularised(network: SearchNetwork, relaxation: Relaxation, config: SearchRNN) -> Callable:
    """The loss by which the weights are trained, with AR and TAR."""

    def loss(batch: Batch) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        given = {"masks": batch.masks, "mixture": relaxation.weights}
        with autocast(batch.x.device, config.precision):
            value, nll, hidden = network.loss(batch.x, batch.y, batch.hidden, ar=config.ar, tar=config.tar, **given)
        return value, (nll, hidden)

    return loss


def streams_of(config: SearchRNN, corpus: data.Corpus, share: slice) -> tuple[Tensor, Tensor, Tensor]:
    """This rank's streams of the training and the validation text, and all streams of the evaluation."""
    train = data.streams(corpus.train, config.batch_size, "training")[:, share]
    valid = data.streams(corpus.valid, config.batch_size, "validation")[:, share]
    return train, valid, data.streams(corpus.valid, config.eval_batch_size, "validation")


def pieces_of(config: SearchRNN, train: Tensor, epoch: int) -> list[tuple[int, int]]:
    """The steps of an epoch: where in the text each begins, and how many rows it has."""
    return data.search_pieces(len(train), config.bptt, config.seed, epoch)


def batches_of(
    step: Step, config: SearchRNN, network: SearchNetwork, texts: tuple, hidden: tuple, start: int, length: int
) -> tuple[Batch, Batch]:
    """Those of a step with their masks, from the training and the validation text, which begins again when it ends."""
    seed(step.seed, "masks", step.epoch, step.number)
    train, valid = texts
    batch = _batch(network, train, start, length, hidden[0])
    return batch, _batch(network, valid, start % (len(valid) - 1), config.bptt, hidden[1])


def _batch(network: SearchNetwork, source: Tensor, start: int, length: int, hidden: Tensor) -> Batch:
    """The rows of a text from `start` on, with new masks."""
    streams = hidden.shape[1] * distributed.ranks()
    masks = network.masks(streams).part(distributed.share(streams))
    return Batch(*data.piece(source, start, length), hidden, masks)


def make(
    config: SearchRNN, vocab: int, method: Method, device: torch.device, run: Run, stage: Stage
) -> tuple[SearchNetwork, Architect, Relaxation]:
    """The network of a stage, with its optimisers, as it begins."""
    distributed.check_batch(config.batch_size)
    distributed.check_unsplit("--batch-chunks", config.batch_chunks)
    alone = {"--unrolled exact": config.exact, "--compile": config.compile, "--cuda-graphs": config.cuda_graphs}
    distributed.check_alone(alone)
    seed_stage(config.seed, stage.start)
    kwargs = {
        "space": space_of(stage, config.searched, run.reports.metrics or run.state.finished()),
        "method": method,
        "alpha_scale": config.alpha_scale,
        "fused": not config.exact,
    }
    network = SearchNetwork(vocab, config.dim, **kwargs, **dropouts(config)).to(device)
    if config.compile:
        compile_regions(network.regions(), device)
    return network, *make_architect(network, config, device)


def make_architect(network: SearchNetwork, config: SearchRNN, device: torch.device) -> tuple[Architect, Relaxation]:
    """The bilevel optimiser of a network, with SGD for the weights, and its alphas, with Adam."""
    weights, options = network.weights(), {"fused": fused(device)}
    of_alpha = {**options, "capturable": config.cuda_graphs and network.repeats and device.type == "cuda"}
    adam = torch.optim.Adam(
        network.alphas.values(), config.alpha_lr, config.alpha_betas, weight_decay=config.alpha_weight_decay, **of_alpha
    )
    sgd = torch.optim.SGD(weights, config.lr, weight_decay=config.weight_decay, **options)
    relaxation = Relaxation(network, keep_kind(adam))

    def loss(batch: Batch) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        with autocast(device, config.precision):
            _, nll, hidden = network.loss(batch.x, batch.y, batch.hidden, masks=batch.masks, mixture=relaxation.weights)
        return nll, (nll, hidden)

    architect = Architect(
        loss,
        weights,
        relaxation.weights,
        keep_kind(sgd),
        None,
        unrolled=bool(config.unrolled),
        exact=config.exact,
        clip=config.grad_clip,
        buffers=network.buffers(),
        split=partial(parts_of, count=config.batch_chunks),
        join=join,
        average=distributed.average,
    )
    return architect, relaxation


def parts_of(batch: Batch, count: int) -> list[tuple[float, Batch]]:
    """A batch in so many parts, of at least two streams each, with their shares of it."""
    streams = batch.x.shape[1]
    count = max(1, min(count, streams // 2))
    if count == 1:
        return whole(batch)
    rows = [slice(int(part[0]), int(part[-1]) + 1) for part in torch.arange(streams).tensor_split(count)]
    cut = [Batch(batch.x[:, r], batch.y[:, r], batch.hidden[:, r], batch.masks and batch.masks.part(r)) for r in rows]
    return [(part.x.shape[1] / streams, part) for part in cut]


def join(carries: list) -> tuple[Tensor, Tensor]:
    """The mean likelihood of all parts, and the hidden states of all streams."""
    return sum(share * nll for share, (nll, _) in carries), torch.cat([hidden for _, (_, hidden) in carries], dim=1)


def reopened(config: SearchRNN, run: Run, device: torch.device) -> Iterator[tuple[Architect, Relaxation, Step, Batch, Batch]]:
    """The search as the newest checkpoint of a run has it, with the steps that follow, none of which is made; those of an
    epoch that has none left once more.

    The hidden states are zero. The configuration may differ from that of the run in what leaves the
    network as it is. Raises DartsError.
    """
    corpus = data.load(config.dataset, config.data, tokens=config.tokens)
    texts = tuple(text.to(device) for text in streams_of(config, corpus, distributed.share(config.batch_size))[:2])
    method, state = parse(config.method, "rnn"), checkpoint.read(run.state.newest())
    epoch, done = (state["epoch"], state["step"]) if state["epoch"] < config.epochs else (config.epochs - 1, 0)
    stage = method.stage(epoch, config.epochs)
    network, architect, relaxation = make(config, len(corpus.vocab), method, device, run, stage)
    network.load_state_dict(state["network"])
    hidden = (network.initial(config.batch_size),) * 2
    pieces = list(enumerate(pieces_of(config, texts[0], epoch)))
    for number, (start, length) in pieces[done if done < len(pieces) else 0 :]:
        step = Step(epoch, config.epochs, config.seed, number)
        network.begin(step)
        set_lr(architect.w_optimizer, stage.scale * config.lr * length / config.bptt)
        yield architect, relaxation, step, *batches_of(step, config, network, texts, hidden, start, length)
