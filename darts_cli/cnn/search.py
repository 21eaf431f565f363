"""The search of a convolutional cell: algorithm 1 of the paper on the two halves of a training set."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from darts_cli.architect import Architect, constant
from darts_cli.cnn import data, report
from darts_cli.cnn.batches import Batch, Batches, parts_of
from darts_cli.cnn.datasets import balance
from darts_cli.cnn.evaluate import eigenvalue, measure
from darts_cli.cnn.model import SearchNetwork, search_network
from darts_cli.config import SearchCNN
from darts_cli.genotype import Genotype
from darts_cli.guard.rules import times_regularised
from darts_cli.guard.watch import discrete
from darts_cli.methods.derive import derive
from darts_cli.methods.method import parse
from darts_cli.methods.relaxation import Relaxation, active
from darts_cli.methods.stages import follow, space_of
from darts_cli.methods.value import Method, Stage, Step, Tables, plain
from darts_cli.runs import checkpoint
from darts_cli.runs.display import Display
from darts_cli.runs.run import Run
from darts_cli.runtime import distributed
from darts_cli.runtime.compiling import compile_regions, failure
from darts_cli.runtime.device import autocast, environment, exact, fused, keep_fused, prepare, seed
from darts_cli.runtime.nonfinite import detection
from darts_cli.runtime.schedules import set_lr

DISCRETE_BATCHES = 4  # of the validation half, that show what discrete cells are worth


def search(config: SearchCNN, run: Run, quiet: bool = False) -> Genotype:
    """Search, or resume the search, in that run folder; returns the cells. Raises DartsError when a number is no longer finite
    and, with the state saved, when interrupted."""
    device = prepare(config.device, config.deterministic, config.precision)
    distributed.check_batch(config.batch_size)
    distributed.check_unsplit("--accumulate", config.accumulate)
    about, used, train, valid = halves(config, device, quiet)
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
        while (now := going_on(config, run, display, now, parts)) is not None:
            epoch = now["epoch"]
            stage = method.stage(epoch, config.epochs)
            lr = stage.lr(config.lr, config.lr_min, epoch)
            weight_decay, drop_path = config.regularisation(run.reports.metrics)
            set_lr(architect.w_optimizer, lr, weight_decay)
            if stage.starts_anew(epoch, now["step"]):
                architect.w_optimizer.state.clear()
            sums = now["sums"].to(device)
            at = partial(Step, epoch, config.epochs, config.seed)
            network.begin(at(0), drop_path * epoch / max(1, config.epochs - 1))
            with detection(network, config.detect_anomaly):
                for step in range(now["step"], steps):
                    batches = batches_of(at(step), train, valid)
                    with run.state.saved_without_memory(partial(state, epoch, step, sums), network, relaxation.optimizer):
                        step_sums, norm = search_step(architect, relaxation, at(step), *batches, config.grad_clip)
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
        display.say(report.regularised(config, run.reports.metrics))
        return now
    return None if stopped or ended else now


def halves(config: SearchCNN, device: torch.device, quiet: bool = True) -> tuple[dict, data.Dataset, Batches, Batches]:
    """What describes the training set, the part of it that is used, and the batches of both its halves. Raises DartsError."""
    dataset = data.training_set(config, quiet=quiet)
    data.check_varied(dataset)
    used = data.used(dataset, config)
    both = data.split(used, config.train_portion, config.split_seed, config.split == "stratified")
    used = used._replace(notes=[*used.notes, *balance.unlike(*both)])
    parts = zip(both, ("train", "valid"), strict=True)
    return (
        dataset.about(),
        used,
        *(Batches(part, config.batch_size, config.seed, name, device, config.cutout) for part, name in parts),
    )


def counts(config: SearchCNN) -> dict[str, int]:
    """The steps of an epoch, the batches of its evaluation, and those that only the end of a run evaluates.

    Raises DartsError.
    """
    _, _, train, valid = halves(config, torch.device("cpu"))
    return {"steps": len(train), "evaluation": len(valid) + min(DISCRETE_BATCHES, len(valid)), "end": 0}


def batches_of(step: Step, train: Batches, valid: Batches) -> tuple[Batch, Batch]:
    """Those of a step, from the training and the validation half, which begins again when it ends."""
    of_valid = divmod(step.epoch * len(train) + step.number, len(valid))
    places = ((train, (step.epoch, step.number), "train"), (valid, of_valid, "valid"))
    one, other = (Batch(*half.augmented(*at), (step, name), half.share(at[1])[0]) for half, at, name in places)
    return one, other


def reopened(config: SearchCNN, run: Run, device: torch.device) -> Iterator[tuple[Architect, Relaxation, Step, Batch, Batch]]:
    """The search as the newest checkpoint of a run has it, with the steps that follow, none of which is made; those of the last
    epoch once more where it has ended.

    The configuration may differ from that of the run in what leaves the network as it is. Raises DartsError.
    """
    _, used, train, valid = halves(config, device)
    method, state = parse(config.method), checkpoint.read(run.state.newest())
    epoch, done = (state["epoch"], state["step"]) if state["epoch"] < config.epochs else (config.epochs - 1, 0)
    stage = method.stage(epoch, config.epochs)
    network, architect, relaxation = make(config, len(used.classes), method, device, run, stage)
    network.load_state_dict(state["network"])
    architect.w_optimizer.load_state_dict(state["w_optimizer"])
    weight_decay, drop_path = config.regularisation(run.state.finished())
    set_lr(architect.w_optimizer, stage.lr(config.lr, config.lr_min, epoch), weight_decay)
    for number in range(done, len(train)):
        step = Step(epoch, config.epochs, config.seed, number)
        network.begin(step, drop_path * epoch / max(1, config.epochs - 1))
        yield architect, relaxation, step, *batches_of(step, train, valid)


def make(
    config: SearchCNN, classes: int, method: Method, device: torch.device, run: Run, stage: Stage
) -> tuple[SearchNetwork, Architect, Relaxation]:
    """The network of a stage, with its optimisers, as it begins."""
    for option, given in (("--unrolled exact", config.exact), ("--compile", config.compile)):
        if given:
            distributed.check_alone(option)
    if stage.start == 0:
        torch.manual_seed(config.seed)
    else:
        seed(config.seed, "stage", stage.start)
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


def accuracy(
    network: SearchNetwork,
    valid: Batches,
    precision: str,
    after_each: Callable[[], None],
    tables: Tables,
    *,
    batches: int | None = None,
    training: bool = False,
) -> float:
    """That of operation weights on the validation half, or on some batches of it; see `measure`."""
    given = {"mixture": tables, "active": active(tables, network.space)}
    sums = measure(network, valid, precision, after_each, count=batches, training=training, **given)
    return float(sums[1] / sums[3])


def watched(
    config: SearchCNN, network: SearchNetwork, valid: Batches, epoch: int, after_each: Callable[[], None]
) -> dict[str, float]:
    """What tells a collapse: the accuracy of the discrete cells with the same weights, on some batches of the validation half,
    and in some epochs the largest eigenvalue of the Hessian."""
    tables = discrete(derive(plain(network.strength()), network.space), network.space, network.alphas)
    given = {"batches": DISCRETE_BATCHES, "training": True}
    found = {"discrete_accuracy": accuracy(network, valid, config.precision, after_each, tables, **given)}
    if config.eigenvalue_every and epoch % config.eigenvalue_every == 0:
        found["eigenvalue"] = eigenvalue(network, valid, config.alpha_weight_decay)
    return found


def search_step(
    architect: Architect, relaxation: Relaxation, step: Step, train: Batch, valid: Batch, grad_clip: float
) -> tuple[Tensor, Tensor]:
    """Algorithm 1: a step of alpha along the hypergradient, then one of the weights along the gradient of the training loss.

    While alpha is still to stay as it is, only the latter. Returns the sums of both batches (2, 3) and the norm of the weights'
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


def make_architect(network: SearchNetwork, config: SearchCNN, device: torch.device) -> tuple[Architect, Relaxation]:
    """The bilevel optimiser of a network, with SGD for the weights, and its alphas, with Adam."""
    weights, options = network.weights(), {"fused": fused(device)}
    adam = torch.optim.Adam(
        network.alphas.values(), config.alpha_lr, config.alpha_betas, weight_decay=config.alpha_weight_decay, **options
    )
    sgd = torch.optim.SGD(weights, config.lr, config.momentum, weight_decay=config.weight_decay, **options)
    relaxation = Relaxation(network, keep_fused(adam), config.alpha_clip)
    architect = Architect(
        loss_function(network, relaxation, device, config.precision),
        weights,
        relaxation.weights,
        keep_fused(sgd),
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
