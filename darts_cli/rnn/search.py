"""The search of a recurrent cell: algorithm 1 of the paper, weights on the training text, alpha on the validation text."""

from functools import partial

import torch
from torch import Tensor

from darts_cli.config import SearchRNN
from darts_cli.genotype import Genotype
from darts_cli.methods.method import parse
from darts_cli.methods.stages import follow
from darts_cli.methods.value import Step
from darts_cli.rnn import data, report
from darts_cli.rnn.evaluate import eigenvalue, likelihood, measure, sums_dtype
from darts_cli.rnn.model import SearchNetwork
from darts_cli.rnn.step import batches_of, make, pieces_of, steps_of, streams_of
from darts_cli.runs.display import Display
from darts_cli.runs.run import Run
from darts_cli.runtime import distributed
from darts_cli.runtime.device import environment, prepare
from darts_cli.runtime.graphs import Graphs
from darts_cli.runtime.nonfinite import detection
from darts_cli.runtime.schedules import set_lr


def search(config: SearchRNN, run: Run, quiet: bool = False) -> Genotype:
    """Search, or resume, in that run folder; returns the cell. Raises DartsError if numbers are not finite, or if stopped."""
    device = prepare(config.device, config.deterministic, config.precision)
    share = distributed.share(config.batch_size)  # the streams of this rank
    corpus = data.load(config.dataset, config.data, tokens=config.tokens)
    train, valid, evaluation = (text.to(device) for text in streams_of(config, corpus, share))
    method = parse(config.method, "rnn")
    build = partial(make, config, len(corpus.vocab), method, device, run)
    network, architect, relaxation = build(method.stage(len(run.state.finished()), config.epochs))
    parts = {"network": network, "w_optimizer": architect.w_optimizer, "alpha_optimizer": relaxation.optimizer}

    def state(epoch: int, step: int, sums: Tensor, hidden: Tensor, valid_hidden: Tensor) -> dict:
        return {  # everything that resuming needs
            "epoch": epoch,
            "step": step,
            "sums": sums.cpu().double(),  # of the epoch so far: negative log-likelihood and words of both texts
            "hidden": distributed.gather(hidden, 1),
            "valid_hidden": distributed.gather(valid_hidden, 1),
            "network": network.state_dict(),
            "w_optimizer": architect.w_optimizer.state_dict(),
            "alpha_optimizer": relaxation.optimizer.state_dict(),
        }

    start_of_epoch = (0, torch.zeros(2, 2), *[network.initial(train.shape[1])] * 2)
    with Display(config.epochs, len(train) - 1, quiet) as display, run.interruptible(display.stopping):
        run.start(environment(device), corpus.about())
        now = run.state.restore(state(0, *start_of_epoch), **parts)
        done = sum(length for _, length in pieces_of(config, train, now["epoch"])[: now["step"]])
        display.begin(now["epoch"], done, report.search_opening(config, run, network, device, corpus), unit=config.tokens[:-1])
        graphs = Graphs(config.cuda_graphs, device, display.say)
        for epoch in range(now["epoch"], config.epochs):
            stage, pieces = method.stage(epoch, config.epochs), pieces_of(config, train, epoch)
            hidden, valid_hidden = (now[name][:, share].to(device) for name in ("hidden", "valid_hidden"))
            sums = now["sums"].to(device, sums_dtype(device), copy=True)
            at = partial(Step, epoch, config.epochs, config.seed)
            network.begin(at(0))
            one_step = steps_of(architect, relaxation, config, graphs)
            with detection(network, config.detect_anomaly):
                for step, (start, length) in list(enumerate(pieces))[now["step"] :]:
                    batches = batches_of(at(step), config, network, (train, valid), (hidden, valid_hidden), start, length)
                    set_lr(architect.w_optimizer, stage.scale * config.lr * length / config.bptt)  # the architect's too
                    before = partial(state, epoch, step, sums, hidden, valid_hidden)
                    with run.state.saved_without_memory(before, network, relaxation.optimizer):
                        step_sums, norm, hidden, valid_hidden = one_step(at(step), *batches)
                    sums += step_sums
                    run.state.watch.note(epoch, step, step_sums[0], norm, step_sums[1], list(network.alphas.values()))
                    display.step(epoch, start + length - 1)
                    if display.due(step, config.log_every):
                        report.search_reading(display, run, network, sums, epoch, start + length - 1)
                    run.state.checkpoint(partial(state, epoch, step + 1, sums, hidden, valid_hidden))
            run.state.check_finite()
            after_steps = partial(state, epoch, len(pieces), sums, hidden, valid_hidden)
            after_each = partial(run.state.checkpoint, after_steps)
            network.conclude(at(len(pieces)), partial(likelihood, network, evaluation, config, after_each))
            sums[1] = distributed.first(measure(network.measured(), evaluation, config.bptt, config.precision, after_each))
            with run.state.saved_without_memory(after_steps, network, relaxation.optimizer):
                report.search_record(display, run, network, sums, epoch, watched(config, network, evaluation, epoch))
            network, architect, relaxation = follow((network, architect, relaxation), method, at(len(pieces)), build)
            run.state.save(now := state(epoch + 1, *start_of_epoch))
    return report.search_end(config, run, network, device)


def watched(config: SearchRNN, network: SearchNetwork, evaluation: Tensor, epoch: int) -> dict[str, float]:
    """In some epochs, the largest eigenvalue of the Hessian."""
    if not config.eigenvalue_every or epoch % config.eigenvalue_every:
        return {}
    return {"eigenvalue": eigenvalue(network, evaluation, config.bptt, config.alpha_weight_decay)}


def counts(config: SearchRNN) -> dict[str, int]:
    """The steps of the first epoch, the pieces of its evaluation, and those that only the end of a run evaluates.

    Raises DartsError.
    """
    train, _, evaluation = streams_of(config, data.load(config.dataset, config.data, tokens=config.tokens), slice(None))
    pieces = -(-(len(evaluation) - 1) // config.bptt)
    return {"steps": len(pieces_of(config, train, 0)), "evaluation": pieces, "end": 0}
