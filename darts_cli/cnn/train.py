"""The training of a convolutional cell at full size (sec. 3.2 and 3.3), and the evaluation that it ends with."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_cli import DartsError
from darts_cli.cnn import data, model, report
from darts_cli.cnn.datasets import imagenet
from darts_cli.cnn.datasets.batches import Batches
from darts_cli.cnn.evaluate import load_weights, measure, metrics, scores
from darts_cli.cnn.sizes import parameters
from darts_cli.config import TrainCNN
from darts_cli.genotype import Genotype
from darts_cli.runs import checkpoint
from darts_cli.runs.display import Display
from darts_cli.runs.run import Run, ensure_run
from darts_cli.runs.task import Task
from darts_cli.runtime import distributed
from darts_cli.runtime.compiling import compile_regions
from darts_cli.runtime.device import autocast, environment, exact, fused, keep_kind, prepare, seed
from darts_cli.runtime.graphs import Graphs, Steps
from darts_cli.runtime.nonfinite import detection
from darts_cli.runtime.schedules import cosine, set_lr


@dataclass(frozen=True)
class Result:
    """What a training ends with; accuracies are top-1, between 0 and 1."""

    valid_accuracy: list[float]  # of every epoch; empty without a validation part
    test_accuracy: list[float]  # of every epoch; with a validation part, of the last epoch only; empty if never opened
    best_epoch: int | None  # by validation accuracy, counted from 1
    best_test_accuracy: float | None  # of the network of that epoch
    parameters: int  # without the auxiliary head
    seconds: float  # also before the run was resumed

    @property
    def last_five(self) -> list[float]:
        """Accuracy of the last five epochs: on the validation part, or else on the test part."""
        return (self.valid_accuracy or self.test_accuracy)[-5:]

    def summary(self) -> dict:
        """Test accuracy of the last network and, with a validation part, of the best."""
        best = {
            "valid_accuracy": max(self.valid_accuracy, default=None),
            "best_epoch": self.best_epoch,
            "best_test_accuracy": self.best_test_accuracy,
        }
        test = {"test_accuracy": self.test_accuracy[-1]} if self.test_accuracy else {}
        return {**test, **(best if self.valid_accuracy else {}), "parameters": self.parameters}


def train(genotype: Genotype, config: TrainCNN, run: Run | None = None, quiet: bool = False, *, test: bool = True) -> Result:
    """Train the network of the genotype, or resume its training, in that run folder; without a run nothing stays on disk.

    Without `test` the test part is never opened; a part must be held out then. Raises DartsError when a number is no longer
    finite and, with the state saved, when interrupted.
    """
    with ensure_run(run, Task("train", "cnn"), config, genotype) as run:
        return _train(run, quiet, test)


def _train(run: Run, quiet: bool, test: bool) -> Result:
    config, device = run.config, prepare(run.config.device, run.config.deterministic, run.config.precision)
    _check_ranks(config)
    batches, about = _batches(config, device, test, quiet)
    torch.manual_seed(config.seed)
    sizes = _sizes(config, run.genotype, about)
    network = model.network(run.genotype)(run.genotype, **sizes).to(device)
    if config.compile:
        compile_regions(network.regions(), device)
    optimizer = _optimizer(network, config, device)
    steps = len(batches["train"])

    def state(epoch: int, step: int, sums: Tensor) -> dict:
        """Everything that resuming needs."""
        return {
            "epoch": epoch,
            "step": step,
            "sums": sums,  # the scores of the epoch so far
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
        }

    display = Display(config.epochs, steps, quiet)
    with display, run.interruptible(display.stopping), detection(network, config.detect_anomaly):
        if config.init_from is not None and run.state.newest() is None:
            load_weights(network, sizes, run.genotype, config.init_from)
        run.start(environment(device), about)
        now = run.state.restore(state(0, 0, torch.zeros(4)), network=network, optimizer=optimizer)
        parts = [line for name, part in batches.items() for line in data.said(f"{name} part", part.dataset)]
        display.begin(now["epoch"], now["step"], [*report.train_opening(config, run, network, device, about, steps), *parts])
        graphs = Graphs(config.cuda_graphs, device, display.say)
        for epoch in range(now["epoch"], config.epochs):
            lr = learning_rate(config, epoch)
            set_lr(optimizer, lr)
            network.drop_path = config.drop_path * epoch / config.epochs
            sums = now["sums"].to(device)
            network.train()
            one_step = Steps(training_step, graphs)
            for step, batch in enumerate(batches["train"].shuffled(epoch, now["step"]), now["step"]):
                seed(config.seed, "drop-path", epoch, step)
                with run.state.saved_without_memory(partial(state, epoch, step, sums), network):
                    step_sums, norm = one_step(network, optimizer, config, *batch, batches["train"].share(step))
                sums += step_sums
                run.state.watch.note(epoch, step, step_sums[0], norm)
                display.step(epoch, step)
                if display.due(step, config.log_every):
                    report.train_reading(display, run, sums, epoch, step)
                run.state.checkpoint(partial(state, epoch, step + 1, sums))
            run.state.check_finite()
            record = {"epoch": epoch + 1, "lr": lr, "drop_path": network.drop_path, **metrics("train", sums)}
            record |= _evaluations(
                run, network, batches, epoch, partial(run.state.checkpoint, partial(state, epoch, steps, sums))
            )
            report.train_record(display, run, record)
            now = state(epoch + 1, 0, torch.zeros(4))
            run.state.save(now)
    result = _result(run, network)
    run.reports.write(report.train_report(config, run, network, device, about, result.best_epoch))
    return result


def training_step(
    network: model.Network,
    optimizer: torch.optim.Optimizer,
    config: TrainCNN,
    images: Tensor,
    labels: Tensor,
    share: tuple[int, slice] | None = None,
) -> tuple[Tensor, Tensor]:
    """A step of the weights, the batch computed in `accumulate` parts of at least two images; returns its scores (4,), of all
    ranks, and the norm of the gradient.

    share   under torchrun: how many images the batch of all ranks has, and which of them these are
    """
    share = share if distributed.ranks() > 1 else None
    size = share[0] if share else len(labels)
    optimizer.zero_grad()
    sums = torch.zeros(4, device=images.device)
    parts = max(1, min(config.accumulate, len(images) // 2))
    for x, y in zip(images.tensor_split(parts), labels.tensor_split(parts), strict=True):
        with autocast(images.device, config.precision):
            logits, auxiliary = network(x, share)
        losses = F.cross_entropy(exact(logits), y, label_smoothing=config.label_smoothing, reduction="sum")
        if auxiliary is not None:
            of_auxiliary = F.cross_entropy(exact(auxiliary), y, label_smoothing=config.label_smoothing, reduction="sum")
            losses = losses + config.auxiliary_weight * of_auxiliary
        (losses * (distributed.ranks() / size)).backward()
        sums += scores(losses.detach(), logits.detach(), y)
    distributed.average_gradients(network.parameters())
    norm = nn.utils.clip_grad_norm_(network.parameters(), config.grad_clip)
    optimizer.step()
    return distributed.total(sums), norm


def _check_ranks(config: TrainCNN) -> None:
    distributed.check_batch(config.batch_size)
    distributed.check_unsplit("--accumulate", config.accumulate)
    distributed.check_alone({"--compile": config.compile, "--cuda-graphs": config.cuda_graphs})


def _optimizer(network: nn.Module, config: TrainCNN, device: torch.device) -> torch.optim.Optimizer:
    kwargs = {"weight_decay": config.weight_decay, "nesterov": config.nesterov, "fused": fused(device)}
    return keep_kind(torch.optim.SGD(network.parameters(), config.lr, config.momentum, **kwargs))


def learning_rate(config: TrainCNN, epoch: int) -> float:
    """The learning rate of an epoch, counted from 0: a linear rise, then half a cosine or a constant factor per epoch."""
    if epoch < config.warmup:
        return config.lr * (epoch + 1) / config.warmup
    if config.schedule == "exponential":
        return config.lr * config.lr_decay ** (epoch - config.warmup)
    return cosine(config.lr, config.lr_min, epoch - config.warmup, config.epochs - config.warmup)


def _evaluations(
    run: Run, network: model.Network, batches: dict, epoch: int, after_each: Callable[[], None]
) -> dict[str, float]:
    """The metrics of an epoch: on the validation part, by which the best network is kept; else, and at the end, on the test
    part."""

    def evaluate(name: str, network: model.Network, part: str) -> dict[str, float]:
        return metrics(name, measure(network, batches[part], run.config.precision, after_each), run.state.advice())

    if "valid" not in batches:
        return evaluate("test", network, "test")
    record = evaluate("valid", network, "valid")
    if record["valid_accuracy"] > max((earlier["valid_accuracy"] for earlier in run.reports.metrics), default=-1):
        run.state.save({"epoch": epoch + 1, "step": 0, "network": network.state_dict()}, checkpoint.BEST)
    if epoch + 1 == run.config.epochs and "test" in batches:
        best = copy.deepcopy(network)
        best.load_state_dict(run.state.best()["network"])
        record |= evaluate("test", network, "test") | evaluate("best_test", best, "test")
    return record


def _batches(
    config: TrainCNN, device: torch.device, test: bool, quiet: bool = True
) -> tuple[dict[str, Batches | imagenet.FileBatches], dict]:
    """The batches of every part of the data set, and what `about` says of the training set."""
    dataset = data.training_set(config, hold_out=True, quiet=quiet)
    about = dataset.about()
    parts = {"train": dataset}
    if test:
        parts["test"] = data.load(config.dataset, config.data, train=False, like=about)
    elif config.train_portion == 1:
        raise DartsError("--train-portion 1: without the test part, a part of the training set must be held out", 2)
    data.check_varied(dataset)
    parts["train"] = dataset = data.used(dataset, config)
    if config.train_portion < 1:
        parts["train"], parts["valid"] = data.split(
            dataset, config.train_portion, config.split_seed, config.split == "stratified"
        )
    make = Batches
    if config.dataset == "imagenet":
        make = partial(imagenet.FileBatches, color_jitter=config.color_jitter, workers=config.workers)
    batches = {name: make(part, config.batch_size, config.seed, name, device, config.cutout) for name, part in parts.items()}
    return batches, about


def counts(config: TrainCNN, *, test: bool = True) -> dict[str, int]:
    """The steps of an epoch, the batches of its evaluation, and those that only the end of a run evaluates.

    Raises DartsError.
    """
    batches, _ = _batches(config, torch.device("cpu"), test)
    each = "valid" if "valid" in batches else "test"
    twice = 2 * len(batches["test"]) if each == "valid" and test else 0  # the last network, and the best
    return {"steps": len(batches["train"]), "evaluation": len(batches[each]), "end": twice}


def _sizes(config: TrainCNN, genotype: Genotype, about: dict) -> dict:
    """The arguments of Network besides the genotype."""
    stem = "imagenet" if config.dataset == "imagenet" else "cifar"
    if genotype.macro == "nas-bench-201" and (stem != "cifar" or config.auxiliary or config.drop_path):
        rule = "are trained with --no-auxiliary and --drop-path 0, and not on imagenet"
        raise DartsError(f"cells of nas-bench-201 {rule}; from Python, TrainCNN(recipe='nas-bench-201') sets both", 2)
    side, (height, width) = model.AUXILIARY_SIDE_PIXELS[stem], about["size"]
    fits = (height, width) == (side, side) and genotype.macro == "darts"
    if config.auxiliary and not fits:
        raise DartsError(
            f"--auxiliary: an auxiliary head is for images of {side}x{side} pixels, not {height}x{width}; use --no-auxiliary", 2
        )
    return {
        "channels": config.channels,
        "num_classes": len(about["classes"]),
        "layers": config.layers,
        "auxiliary": fits if config.auxiliary is None else config.auxiliary,
        "stem": stem,
    }


def _result(run: Run, network: model.Network) -> Result:
    valid = [record["valid_accuracy"] for record in run.reports.metrics if "valid_accuracy" in record]
    return Result(
        valid_accuracy=valid,
        test_accuracy=[record["test_accuracy"] for record in run.reports.metrics if "test_accuracy" in record],
        best_epoch=valid.index(max(valid)) + 1 if valid else None,
        best_test_accuracy=run.reports.metrics[-1].get("best_test_accuracy"),
        parameters=parameters(network),
        seconds=run.reports.seconds(),
    )
