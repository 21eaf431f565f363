"""The search of a convolutional cell: algorithm 1 of the paper on the two halves of a training set."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from darts_cli.architect import Architect, constant
from darts_cli.cnn import data
from darts_cli.cnn.batches import Batches
from darts_cli.cnn.model import SearchNetwork
from darts_cli.config import SearchCNN
from darts_cli.describe import collapsed
from darts_cli.genotype import Genotype, entropy
from darts_cli.runs.display import Display, cell_table, duration
from darts_cli.runs.run import Run
from darts_cli.runtime import anomaly, device, distributed
from darts_cli.runtime.nonfinite import NotFinite


def search(config: SearchCNN, run: Run, quiet: bool = False) -> Genotype:
    """Search, or go on searching, in that run folder; returns the cells found.

    Every step moves alpha along the hypergradient, then the weights along the gradient of the training batch. Raises DartsError
    when a number is no longer finite and, with the state saved, when interrupted.
    """
    where = device.prepare(config.device)
    distributed.check_batch(config.batch_size)
    whole = data.load(config.dataset, config.data)
    halves = data.split(whole, config.train_portion, config.split_seed)
    train, valid = (
        Batches(half, config.batch_size, config.seed, name, where, config.cutout)
        for half, name in zip(halves, ("train", "valid"), strict=True)
    )
    torch.manual_seed(config.seed)
    more = {"alpha_scale": config.alpha_scale, "recompute": config.recompute}
    network = SearchNetwork(config.channels, len(whole.classes), config.layers, **more).to(where)
    weights, alphas = network.weights(), list(network.alphas.values())
    fused, decay = device.fused(where), config.alpha_weight_decay
    w_optimizer = torch.optim.SGD(weights, config.lr, config.momentum, weight_decay=config.weight_decay, fused=fused)
    alpha_optimizer = torch.optim.Adam(alphas, config.alpha_lr, config.alpha_betas, weight_decay=decay, fused=fused)

    loss = loss_function(network, where, config.precision)
    architect = Architect(
        loss,
        weights,
        alphas,
        w_optimizer,
        alpha_optimizer,
        unrolled=config.unrolled,
        buffers=network.buffers(),
        average=distributed.average,
    )
    parts = {"network": network, "w_optimizer": w_optimizer, "alpha_optimizer": alpha_optimizer}

    with (
        run.interruptible(),
        anomaly.detection(network, config.detect_anomaly),
        Display(config.epochs, len(train), quiet) as display,
    ):
        run.start(device.environment(where), whole.about())
        state = run.restore(parts, {"epoch": 0, "step": 0, "sums": torch.zeros(2, 3)}, ["entropy"])
        display.begin(state["epoch"], state["step"])
        _say_opening(display, config, run, network, where, complete=state["epoch"] == config.epochs)
        for epoch in range(state["epoch"], config.epochs):
            lr = cosine(config.lr, config.lr_min, epoch, config.epochs)
            for group in w_optimizer.param_groups:
                group["lr"] = lr
            sums = state["sums"].to(where)  # over this epoch's steps: a row for training, one for validation
            network.train()
            for step in range(state["step"], len(train)):
                batch = train.augmented(epoch, step)
                valid_sums = architect.step(batch, valid.augmented(*divmod(epoch * len(train) + step, len(valid))))

                w_optimizer.zero_grad()
                with constant(alphas):
                    train_loss, train_sums = loss(batch)
                train_loss.backward()
                distributed.average_gradients(weights)
                norm = torch.nn.utils.clip_grad_norm_(weights, config.grad_clip)
                w_optimizer.step()

                sums += torch.stack([train_sums, valid_sums])
                run.watch.note(epoch, step, train_sums, norm, valid_sums, alphas)
                display.step(epoch, step)
                if display.due(step, config.log_every):
                    _read(display, run, network, sums, epoch, step)
                run.checkpoint({"epoch": epoch, "step": step + 1, "sums": sums}, parts)

            run.check_finite()
            network.eval()
            valid_sums = torch.zeros(3, device=where)
            for index in range(len(valid)):
                with torch.no_grad():
                    _, batch_sums = loss(valid.plain(index))
                valid_sums += batch_sums
                run.checkpoint({"epoch": epoch, "step": len(train), "sums": sums}, parts)
            _record(display, run, network, torch.stack([sums[0], valid_sums]), epoch, lr)
            state = {"epoch": epoch + 1, "step": 0, "sums": torch.zeros(2, 3)}
            run.save(state, parts)
    run.report(_report(config, run, network, where))
    return network.genotype()


def cosine(first: float, last: float, epoch: int, epochs: int) -> float:
    """The learning rate of an epoch, counted from 0: half a cosine from `first` towards `last` (Loshchilov and Hutter)."""
    return last + (first - last) * (1 + math.cos(math.pi * epoch / epochs)) / 2


def loss_function(network: SearchNetwork, where: torch.device, precision: str) -> Callable:
    """The loss of a batch and, as its carry, what the metrics sum: loss, correct answers and images, of all processes.

    The mean of the processes' losses is the mean over the images of the whole batch.
    """

    def loss(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        images, labels = batch
        with device.autocast(where, precision):
            logits = network(images)
        losses = F.cross_entropy(device.exact(logits), labels, reduction="sum")
        correct = (logits.argmax(dim=1) == labels).sum()
        sums = distributed.total(torch.stack([losses.detach(), correct, torch.full_like(correct, len(labels))]))
        return losses * (distributed.ranks() / sums[2]), sums

    return loss


def _metrics(sums: Tensor, remedy: str) -> dict[str, float]:
    """Mean loss and accuracy of both halves. Raises DartsError when a loss is not finite."""
    (train_loss, train_correct, trained), (valid_loss, valid_correct, validated) = sums.tolist()
    if not math.isfinite(train_loss + valid_loss):
        raise NotFinite(f"the loss is no longer finite; {remedy}")
    return {
        "train_loss": train_loss / trained,
        "train_accuracy": train_correct / trained,
        "valid_loss": valid_loss / validated,
        "valid_accuracy": valid_correct / validated,
    }


def _shown(metrics: dict[str, float]) -> str:
    return "  ".join(
        f"{half} loss {metrics[f'{half}_loss']:.3f} accuracy {metrics[f'{half}_accuracy']:.1%}" for half in ("train", "valid")
    )


def _entropy(network: SearchNetwork) -> float:
    return entropy([alpha.tolist() for alpha in network.alphas.values()])


def _skips(cells: Genotype) -> str:
    return ", ".join(f"{cell.count('skip_connect')} in {name}" for name, cell in cells.cells.items())


def _say_opening(
    display: Display, config: SearchCNN, run: Run, network: SearchNetwork, where: torch.device, complete: bool
) -> None:
    weights = sum(weight.numel() for weight in network.weights())
    alphas = sum(alpha.numel() for alpha in network.alphas.values())
    display.say(f"{run.folder}: {'second' if config.unrolled else 'first'} order search on {config.dataset}")
    display.say(
        f"{where}, {config.precision}, {weights:,} weights, {alphas} alphas, {config.epochs} epochs of {display.steps} steps"
    )
    if display.done:
        display.say("complete already" if complete else f"going on after step {display.done:,} of {display.total:,}")


def _read(display: Display, run: Run, network: SearchNetwork, sums: Tensor, epoch: int, step: int) -> None:
    """Read the metrics so far off the device, show and log them."""
    run.check_finite()
    metrics, cells = _metrics(sums, run.remedy()), network.genotype()
    run.log(epoch=epoch + 1, step=step + 1, **metrics)
    about = f"entropy of alpha {_entropy(network):.3f}   skip connections: {_skips(cells)}"
    display.read(epoch, step, _shown(metrics), f"{cell_table(cells)}\n\n{about}")


def _record(display: Display, run: Run, network: SearchNetwork, sums: Tensor, epoch: int, lr: float) -> None:
    """Record a finished epoch: metrics, alphas and cells."""
    metrics, cells = _metrics(sums, run.remedy()), network.genotype()
    changed = not run.metrics or run.metrics[-1]["genotype"] != cells.to_dict()
    record = {
        "epoch": epoch + 1,
        "lr": lr,
        **metrics,
        "entropy": _entropy(network),
        "skip_connections": {name: cell.count("skip_connect") for name, cell in cells.cells.items()},
        "genotype": cells.to_dict(),
        "alphas": {kind: alpha.tolist() for kind, alpha in network.alphas.items()},
    }
    run.log(epoch=epoch + 1, **metrics)
    run.record(record, cells)
    about = f"entropy {record['entropy']:.3f}  skip connections {_skips(cells)}"
    display.say(f"epoch {epoch + 1}/{display.epochs}  {_shown(metrics)}  {about}")
    if changed and not display.live:
        display.say(cell_table(cells))


def _report(config: SearchCNN, run: Run, network: SearchNetwork, where: torch.device) -> str:
    cells, last = network.genotype(), run.metrics[-1]
    warning = f"**Warning:** {collapsed(cells)}\n\n" if collapsed(cells) else ""
    order = "Second" if config.unrolled else "First"
    return f"""# Search of a convolutional cell on {config.dataset}

{warning}{order} order, seed {config.seed}. Only the training set was opened, and split by seed {config.split_seed}:
{config.train_portion:.0%} of it trained the weights, the rest alpha. Validation figures are on images that are not augmented.

| | loss | accuracy |
| --- | --- | --- |
| training half, last epoch | {last["train_loss"]:.4f} | {last["train_accuracy"]:.2%} |
| validation half, at the end | {last["valid_loss"]:.4f} | {last["valid_accuracy"]:.2%} |

Mean entropy of the operation weights: {last["entropy"]:.3f} (undecided: {math.log(8):.3f}). Skip connections: {_skips(cells)}.

```yaml
{cells.to_yaml()}```

Cost: {duration(run.seconds())} on {where}, {config.precision}. Repeat with:

    {run.repeat()}
"""
