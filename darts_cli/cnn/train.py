"""The training of a convolutional cell at full size (sec. 3.2 and 3.3), and the evaluation that it ends with."""

import copy
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_cli import DartsError
from darts_cli.cnn import data, imagenet
from darts_cli.cnn.batches import Batches
from darts_cli.cnn.evaluate import load_weights, metrics, running_sums, scores
from darts_cli.cnn.model import AUXILIARY_SIZES, Network, multiply_adds, parameters
from darts_cli.cnn.search import cosine
from darts_cli.config import TrainCNN
from darts_cli.describe import collapsed
from darts_cli.genotype import Genotype
from darts_cli.runs import checkpoint
from darts_cli.runs.display import Display, duration
from darts_cli.runs.run import Run
from darts_cli.runtime import anomaly, device, distributed


@dataclass(frozen=True)
class Result:
    """What a training ends with; accuracies are top-1, between 0 and 1."""

    valid_accuracy: list[float]  # of every epoch; empty where nothing was held out
    test_accuracy: list[float]  # of every epoch; where a part was held out of the last one only; empty where it stayed closed
    best_epoch: int | None  # by validation accuracy, counted from 1, where a part was held out
    best_test_accuracy: float | None  # of the network of that epoch
    parameters: int  # auxiliary head not counted
    seconds: float  # over all sittings

    @property
    def last_five(self) -> list[float]:
        """Accuracy of the last five epochs: on what was held out, or else on the test part."""
        return (self.valid_accuracy or self.test_accuracy)[-5:]

    def summary(self) -> dict:
        """What a training is judged by: test accuracy of the last network and, where a part was held out, of the best."""
        held_out = {
            "valid_accuracy": max(self.valid_accuracy, default=None),
            "best_epoch": self.best_epoch,
            "best_test_accuracy": self.best_test_accuracy,
        }
        chosen = held_out if self.valid_accuracy else {}
        test = {"test_accuracy": self.test_accuracy[-1]} if self.test_accuracy else {}
        return {**test, **chosen, "parameters": self.parameters}


def train(genotype: Genotype, config: TrainCNN, run: Run | None = None, quiet: bool = False, *, test: bool = True) -> Result:
    """Train the network of the genotype, or go on training it, in that run folder, or in none that stays.

    Without `test` the test part is never opened; a part must be held out then. Raises DartsError when a number is no longer
    finite and, with the state saved, when interrupted.
    """
    if run is None:
        with tempfile.TemporaryDirectory() as folder:
            return train(genotype, config, Run("train cnn", config, folder, genotype, lasting=False), quiet, test=test)
    if (run.genotype, run.config) != (genotype, config):
        raise DartsError('the run must be of this genotype and configuration: Run("train cnn", config, folder, genotype)')
    where = device.prepare(config.device)
    distributed.check_batch(config.batch_size)
    distributed.check_whole("--accumulate", config.accumulate)
    batches, about = _batches(config, where, test)
    torch.manual_seed(config.seed)
    sizes = _sizes(config, about)
    network = Network(genotype, **sizes).to(where)
    fused = device.fused(where)
    optimizer = torch.optim.SGD(network.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay, fused=fused)
    parallel = distributed.parallel(network)
    parts = {"network": network, "optimizer": optimizer}
    steps = len(batches["train"])
    with (
        run.interruptible(),
        anomaly.detection(network, config.detect_anomaly),
        Display(config.epochs, steps, quiet) as display,
    ):
        fresh = {"epoch": 0, "step": 0, "sums": torch.zeros(4)}
        measured = ("train", "valid" if "valid" in batches else "test")
        state = run.restore(parts, fresh, [f"{part}_{name}" for part in measured for name in ("loss", "accuracy", "top5")])
        if state is fresh and config.init_from is not None:
            load_weights(network, sizes, genotype, config.init_from)
        run.start(device.environment(where), about)
        display.begin(state["epoch"], state["step"])
        _say_opening(display, config, run, network, where, about)
        for epoch in range(state["epoch"], config.epochs):
            lr = learning_rate(config, epoch)
            for group in optimizer.param_groups:
                group["lr"] = lr
            network.drop_path = config.drop_path * epoch / config.epochs
            network.train()
            sums = state["sums"].to(where)  # over this epoch's steps
            for step, batch in enumerate(batches["train"].shuffled(epoch, state["step"]), state["step"]):
                device.seed(config.seed, "drop-path", epoch, step)
                size, own = batches["train"].share(step)
                network.share = (size, own) if distributed.ranks() > 1 else None  # one process may compute the batch in parts
                step_sums, norm = training_step(parallel, optimizer, config, *batch, size)
                sums += step_sums
                run.watch.note(epoch, step, step_sums[0], norm)
                display.step(epoch, step)
                if display.due(step, config.log_every):
                    _read(display, run, sums, epoch, step)
                run.checkpoint({"epoch": epoch, "step": step + 1, "sums": sums}, parts)

            run.check_finite()
            position = {"epoch": epoch, "step": steps, "sums": sums}
            record = {"epoch": epoch + 1, "lr": lr, "drop_path": network.drop_path, **metrics("train", sums)}
            record |= _evaluations(network, batches, config, run, epoch, partial(run.checkpoint, position, parts))
            run.record(record)
            run.log(**record)
            display.say(f"epoch {epoch + 1}/{config.epochs}  {_shown(record)}")
            state = {"epoch": epoch + 1, "step": 0, "sums": torch.zeros(4)}
            run.save(state, parts)
    result = _result(run, network)
    run.report(_report(config, run, network, result, where, about))
    return result


def learning_rate(config: TrainCNN, epoch: int) -> float:
    """The learning rate of an epoch, counted from 0: a linear rise, then half a cosine or a constant factor an epoch."""
    if epoch < config.warmup:
        return config.lr * (epoch + 1) / config.warmup
    if config.schedule == "exponential":
        return config.lr * config.lr_decay ** (epoch - config.warmup)
    return cosine(config.lr, config.lr_min, epoch - config.warmup, config.epochs - config.warmup)


def _batches(config: TrainCNN, where: torch.device, test: bool) -> tuple[dict[str, Batches | imagenet.FileBatches], dict]:
    """The batches of every part of the data set, and what the whole training set is."""
    whole = data.load(config.dataset, config.data)
    about = whole.about()
    parts = {"train": whole}
    if test:
        parts["test"] = data.load(config.dataset, config.data, train=False, like=about)
    elif config.train_portion == 1:
        raise DartsError("--train-portion 1: without the test part, a part of the training set must be held out", 2)
    if config.train_portion < 1:
        parts["train"], parts["valid"] = data.split(whole, config.train_portion, config.split_seed)
    batches = Batches
    if config.dataset == "imagenet":
        batches = partial(imagenet.FileBatches, color_jitter=config.color_jitter, workers=config.workers)
    found = {name: batches(part, config.batch_size, config.seed, name, where, config.cutout) for name, part in parts.items()}
    return found, about


def _sizes(config: TrainCNN, about: dict) -> dict:
    """The arguments of Network besides the genotype."""
    stem = "imagenet" if config.dataset == "imagenet" else "cifar"
    side = AUXILIARY_SIZES[stem]
    fits = about["size"] == [side, side]
    if config.auxiliary and not fits:
        height, width = about["size"]
        raise DartsError(
            f"--auxiliary: an auxiliary head is for images of {side}x{side} pixels, not {width}x{height}; use --no-auxiliary", 2
        )
    return {
        "channels": config.channels,
        "num_classes": len(about["classes"]),
        "layers": config.layers,
        "auxiliary": fits if config.auxiliary is None else config.auxiliary,
        "stem": stem,
    }


def training_step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    config: TrainCNN,
    images: Tensor,
    labels: Tensor,
    size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """One step of the weights, the batch computed in `accumulate` parts of at least two images; returns its sums, and the norm
    of the gradient.

    Of several processes: `size` is that of the whole batch, of which these are some images; the sums are of all.
    """
    optimizer.zero_grad()
    sums = torch.zeros(4, device=images.device)
    count = max(1, min(config.accumulate, len(images) // 2))
    for x, y in zip(images.tensor_split(count), labels.tensor_split(count), strict=True):
        with device.autocast(images.device, config.precision):
            logits, auxiliary = network(x)
        losses = F.cross_entropy(device.exact(logits), y, label_smoothing=config.label_smoothing, reduction="sum")
        if auxiliary is not None:
            second = F.cross_entropy(device.exact(auxiliary), y, label_smoothing=config.label_smoothing, reduction="sum")
            losses = losses + config.auxiliary_weight * second
        (losses * (distributed.ranks() / (size or len(labels)))).backward()
        sums += scores(losses.detach(), logits.detach(), y)
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), config.grad_clip)
    optimizer.step()
    return distributed.total(sums), norm


def _evaluations(
    network: Network, batches: dict, config: TrainCNN, run: Run, epoch: int, after_each: Callable[[], None]
) -> dict[str, float]:
    """What the epoch is evaluated on: what was held out, by which the best network is kept; otherwise, and at the end, the test
    part."""
    last = epoch + 1 == config.epochs
    if "valid" not in batches:
        return _evaluated("test", network, batches["test"], config, after_each, run.remedy())
    record = _evaluated("valid", network, batches["valid"], config, after_each, run.remedy())
    if record["valid_accuracy"] > max((each["valid_accuracy"] for each in run.metrics), default=-1):
        run.save({"epoch": epoch + 1, "step": 0}, {"network": network}, checkpoint.BEST)
    if last and "test" in batches:
        best = copy.deepcopy(network)
        best.load_state_dict(run.best()["network"])
        record |= _evaluated("test", network, batches["test"], config, after_each, run.remedy())
        record |= _evaluated("best_test", best, batches["test"], config, after_each, run.remedy())
    return record


def _evaluated(
    name: str, network: Network, batches, config: TrainCNN, after_each: Callable[[], None], remedy: str
) -> dict[str, float]:
    for sums in running_sums(network, batches, config.precision):  # noqa: B007
        after_each()
    return metrics(name, distributed.total(sums), remedy)


# ---- what is said


def _shown(record: dict) -> str:
    return "  ".join(
        f"{name.replace('_', ' ')} loss {record[f'{name}_loss']:.3f} accuracy {record[f'{name}_accuracy']:.2%}"
        for name in ("train", "valid", "test", "best_test")
        if f"{name}_loss" in record
    )


def _say_opening(display: Display, config: TrainCNN, run: Run, network: Network, where: torch.device, about: dict) -> None:
    name = run.genotype.name or "a cell"
    adds = multiply_adds(network, *about["size"])
    display.say(f"{run.folder}: training {name} on {config.dataset}, {len(about['classes'])} classes")
    display.say(
        f"{where}, {config.precision}, {parameters(network):,} parameters, {adds / 1e6:.1f} M multiply-adds an image, "
        f"{config.epochs} epochs of {display.steps} steps"
    )
    if display.done:
        complete = display.done == display.total
        display.say("complete already" if complete else f"going on after step {display.done:,} of {display.total:,}")


def _read(display: Display, run: Run, sums: Tensor, epoch: int, step: int) -> None:
    """Read the metrics so far off the device, show and log them."""
    run.check_finite()
    record = metrics("train", sums)
    run.log(epoch=epoch + 1, step=step + 1, **record)
    display.read(epoch, step, _shown(record), "")


def _result(run: Run, network: Network) -> Result:
    valid = [each["valid_accuracy"] for each in run.metrics if "valid_accuracy" in each]
    return Result(
        valid_accuracy=valid,
        test_accuracy=[each["test_accuracy"] for each in run.metrics if "test_accuracy" in each],
        best_epoch=valid.index(max(valid)) + 1 if valid else None,
        best_test_accuracy=run.metrics[-1].get("best_test_accuracy"),
        parameters=parameters(network),
        seconds=run.seconds(),
    )


def _report(config: TrainCNN, run: Run, network: Network, result: Result, where: torch.device, about: dict) -> str:
    last = run.metrics[-1]
    name = run.genotype.name or "a cell"
    rows = [("training, last epoch", "train"), ("held out, last epoch", "valid"), ("test, last epoch", "test")]
    rows += [(f"test, epoch {result.best_epoch}, the best on what was held out", "best_test")]
    table = "\n".join(
        f"| {what} | {last[f'{key}_loss']:.4f} | {last[f'{key}_accuracy']:.2%} | {1 - last[f'{key}_accuracy']:.2%} "
        f"| {last[f'{key}_top5']:.2%} |"
        for what, key in rows
        if f"{key}_loss" in last
    )
    protocol = (
        f"{config.train_portion:.0%} of the training set, split by seed {config.split_seed}, trained the weights; the rest "
        f"chose the best epoch. The test part was {'evaluated once, at the end' if result.test_accuracy else 'not opened'}."
        if config.train_portion < 1
        else "The whole training set was trained on; nothing was held out, so no epoch was chosen: the result is the last one."
    )
    adds = multiply_adds(network, *about["size"])
    warning = f"**Warning:** {collapsed(run.genotype)}\n\n" if collapsed(run.genotype) else ""
    return f"""# Training of {name} on {config.dataset}

{warning}{config.epochs} epochs, {config.layers} cells, {config.channels} channels, seed {config.seed}. {protocol}
The training loss is what was minimised: with label smoothing and auxiliary head where there are such, on augmented images.

| | loss | top-1 | error | top-5 |
| --- | --- | --- | --- | --- |
{table}

{parameters(network):,} parameters, the auxiliary head not counted; {adds / 1e6:.1f} M multiply-adds in convolutions
and linear layers for an image of {about["size"][1]}x{about["size"][0]} pixels.

```yaml
{run.genotype.to_yaml()}```

Cost: {duration(run.seconds())} on {where}, {config.precision}. Repeat with:

    {run.repeat()}
"""
