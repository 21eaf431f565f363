"""The search of a convolutional cell: algorithm 1 of the paper on the two halves of a training set."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from darts_cli.cnn import data, report
from darts_cli.cnn.datasets.batches import Batches
from darts_cli.cnn.evaluate import accuracy, eigenvalue, measure
from darts_cli.cnn.model import SearchNetwork
from darts_cli.cnn.step import batches_of, begin, make, steps_of
from darts_cli.config import SearchCNN
from darts_cli.genotype import Genotype
from darts_cli.guard import words
from darts_cli.guard.rules import times_regularised
from darts_cli.guard.watch import discrete
from darts_cli.methods.derive import derive
from darts_cli.methods.method import parse
from darts_cli.methods.relaxation import edges_of
from darts_cli.methods.stages import follow
from darts_cli.methods.value import Step, plain
from darts_cli.runs.display import Display
from darts_cli.runs.run import Run
from darts_cli.runtime import distributed
from darts_cli.runtime.device import environment, prepare
from darts_cli.runtime.graphs import Graphs
from darts_cli.runtime.nonfinite import detection

DISCRETE_BATCHES = 4  # of the validation half, that show what discrete cells are worth


def search(config: SearchCNN, run: Run, quiet: bool = False) -> Genotype:
    """Search, or resume the search, in that run folder; returns the cells. Raises DartsError when a number is no longer finite
    and, with the state saved, when interrupted."""
    device = prepare(config.device, config.deterministic, config.precision)
    distributed.check_batch(config.batch_size)
    distributed.check_unsplit("--accumulate", config.accumulate)
    about, used, train, valid = data.halves(config, device, quiet)
    method = parse(config.method)
    build = partial(make, config, len(used.classes), method, device, run)
    network, architect, relaxation = build(method.stage(len(run.state.finished()), config.epochs))
    parts = {"network": network, "w_optimizer": architect.w_optimizer, "alpha_optimizer": relaxation.optimizer}

    def state(epoch: int, step: int, sums: Tensor) -> dict:
        """Everything that resuming needs."""
        return {
            "epoch": epoch,
            "step": step,
            "sums": sums,  # of the epoch so far: loss, correct answers and images of both halves
            "network": network.state_dict(),
            "w_optimizer": architect.w_optimizer.state_dict(),
            "alpha_optimizer": relaxation.optimizer.state_dict(),
        }

    steps = len(train)
    with Display(config.epochs, steps, quiet) as display, run.interruptible(display.stopping):
        run.start(environment(device), about)
        now = run.state.restore(state(0, 0, torch.zeros(2, 3)), **parts)
        opening = [*report.search_opening(config, run, network, device, steps), *data.said("both halves", used)]
        display.begin(now["epoch"], now["step"], opening, complete=config.ends(run.reports.metrics) or None)
        graphs = Graphs(config.cuda_graphs, device, display.say)
        while (now := going_on(config, run, display, now, parts)) is not None:
            epoch, sums = now["epoch"], now["sums"].to(device)
            stage = method.stage(epoch, config.epochs)
            if stage.starts_anew(epoch, now["step"]):
                architect.w_optimizer.state.clear()
            at = partial(Step, epoch, config.epochs, config.seed)
            lr = begin(network, architect.w_optimizer, config, run.reports.metrics, stage, at(0))
            one_step = steps_of(architect, relaxation, config, graphs)
            with detection(network, config.detect_anomaly):
                for step in range(now["step"], steps):
                    batches = batches_of(at(step), train, valid, network.draws)
                    with run.state.saved_without_memory(partial(state, epoch, step, sums), network, relaxation.optimizer):
                        step_sums, norm = one_step(at(step), *batches)
                    sums += step_sums
                    run.state.watch.note(epoch, step, step_sums[0], norm, step_sums[1], list(network.alphas.values()))
                    display.step(epoch, step)
                    if display.due(step, config.log_every):
                        report.search_reading(display, run, network, sums, epoch, step)
                    run.state.checkpoint(partial(state, epoch, step + 1, sums))
            run.state.check_finite()
            network.end()
            after_each = partial(run.state.checkpoint, partial(state, epoch, steps, sums))
            network.conclude(at(steps), partial(accuracy, network, valid, config.precision, after_each))
            sums[1] = measure(network, valid, config.precision, after_each)[[0, 1, 3]]
            with run.state.saved_without_memory(partial(state, epoch, steps, sums), network, relaxation.optimizer):
                report.search_record(display, run, network, sums, epoch, lr, watched(config, network, valid, epoch, after_each))
            network, architect, relaxation = follow((network, architect, relaxation), method, at(steps), build)
            run.state.save(now := state(epoch + 1, 0, torch.zeros(2, 3)))
    return report.search_end(config, run, network, device)


def going_on(config: SearchCNN, run: Run, display: Display, now: dict, parts: dict) -> dict | None:
    """The state with which the search goes on; None when it has ended.

    After a stop, `--then regularise` goes back to the epoch that the rule names, and on with more regularisation.
    """
    records = run.reports.metrics
    stopped, ended = config.stopped(records), now["epoch"] == config.epochs
    if config.then == "regularise" and now["step"] == 0:
        run.state.keep(set() if ended and not stopped else config.candidates(records))
    if stopped and config.then == "regularise":
        last, taken = stopped
        note = {"regularised": {"times": times_regularised(records) + 1, "after_epoch": last + 1}}
        now = run.state.return_to(taken, note, **parts)
        display.say(words.regularised(config, run.reports.metrics))
        return now
    return None if stopped or ended else now


def counts(config: SearchCNN) -> dict[str, int]:
    """The steps of an epoch, the batches of its evaluation, and those that only the end of a run evaluates.

    Raises DartsError.
    """
    _, _, train, valid = data.halves(config, torch.device("cpu"))
    return {"steps": len(train), "evaluation": len(valid) + 2 * min(DISCRETE_BATCHES, len(valid)), "end": 0}


def watched(
    config: SearchCNN, network: SearchNetwork, valid: Batches, epoch: int, after_each: Callable[[], None]
) -> dict[str, float]:
    """What tells a collapse: the accuracies of the network and of the discrete cells with the same weights, on some batches of
    the validation half by whose statistics both are normalised, and in some epochs the largest eigenvalue of the Hessian."""
    tables = discrete(derive(plain(network.strength()), network.space), network.space, network.alphas)
    tables |= {edges_of(kind): table.amax(dim=1) for kind, table in tables.items() if edges_of(kind) in network.alphas}
    seen = partial(accuracy, network, valid, config.precision, after_each, batches=DISCRETE_BATCHES, training=True)
    found = {"mixed_accuracy": seen()}
    with network.bare():
        found["discrete_accuracy"] = seen(tables)
    if config.eigenvalue_every and epoch % config.eigenvalue_every == 0:
        found["eigenvalue"] = eigenvalue(network, valid, config.alpha_weight_decay)
    return found
