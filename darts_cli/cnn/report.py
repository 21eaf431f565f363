"""What a search and a training of convolutional cells print, record and report."""

import math

import torch
from torch import Tensor

from darts_cli.cnn.evaluate import metrics
from darts_cli.cnn.model import Network, SearchNetwork
from darts_cli.cnn.sizes import multiply_adds, parameters
from darts_cli.config import SearchCNN, TrainCNN
from darts_cli.describe import collapsed
from darts_cli.formats import nasbench201
from darts_cli.genotype import Genotype
from darts_cli.guard import words
from darts_cli.guard.watch import parameter_free
from darts_cli.methods.derive import entropy
from darts_cli.methods.stages import spread
from darts_cli.methods.value import Step, plain
from darts_cli.runs.display import Display, cell_table, last_numbers, numbers_in_words
from darts_cli.runs.run import Run
from darts_cli.runs.shown.known import known
from darts_cli.runtime import compiling
from darts_cli.runtime.device import precision_notes
from darts_cli.text import counted


def search_opening(config: SearchCNN, run: Run, network: SearchNetwork, device: torch.device, steps: int) -> list[str]:
    weights = sum(weight.numel() for weight in network.weights())
    alphas = sum(alpha.numel() for alpha in network.alphas.values())
    return [
        f"{run.folder}: {config.order} order search on {config.dataset}{config.among()}",
        f"{device}, {config.precision}, {weights:,} weights, {alphas} alphas, "
        f"{counted(config.epochs, 'epoch')} of {counted(steps, 'step')}",
        *network.method.notes(config.epochs),
        *compiling.notes(config.compile, device),
        *precision_notes(device, config.precision),
        *words.opening(config),
    ]


def search_reading(display: Display, run: Run, network: SearchNetwork, sums: Tensor, epoch: int, step: int) -> None:
    """Read the metrics so far off the device, show and log them."""
    run.state.check_finite()
    measured, strength = _measured(run, sums), spread(plain(network.strength()), network.space, run.config.searched)
    cells = network.method.derive(strength, run.config.searched)
    run.reports.log(epoch=epoch + 1, step=step + 1, **measured)
    facts = f"entropy {entropy(strength):.3f}   skip connections: {_skips(cells)}"
    truth = _true(run.config, cells)
    display.read(epoch, step, _summary(measured), f"{cell_table(cells)}\n\n{facts}" + (f"\n{truth}" if truth else ""))


def search_record(
    display: Display, run: Run, network: SearchNetwork, sums: Tensor, epoch: int, lr: float, watched: dict[str, float]
) -> None:
    """Record a finished epoch: metrics, alphas, operation weights, cells, and what is watched."""
    measured, strength = _measured(run, sums), spread(plain(network.strength()), network.space, run.config.searched)
    cells = network.method.derive(strength, run.config.searched)
    changed = not run.reports.metrics or run.reports.metrics[-1]["genotype"] != cells.to_dict()
    shown = network.shown(Step(epoch, display.epochs, run.config.seed, 0))
    record = {
        "epoch": epoch + 1,
        "lr": lr,
        **measured,
        "entropy": entropy(strength),
        "skip_connections": {name: cell.count("skip_connect") for name, cell in cells.cells.items()},
        "parameter_free": parameter_free(cells),
        **watched,
        "genotype": cells.to_dict(),
        "alphas": spread(plain(network.alphas), network.space, run.config.searched),
        "operation_weights": strength,
        **shown,
    }
    cell = nasbench201.cell_of(cells)
    if cell is not None:
        record["truth"] = nasbench201.truth(cell)
    run.reports.log(epoch=epoch + 1, **measured, **display.pace.of_epoch())
    run.reports.record(record, cells)
    facts = (
        f"entropy {record['entropy']:.3f}  skip connections {_skips(cells)}  without weights {record['parameter_free']:.0%}  "
        f"mixed {watched['mixed_accuracy']:.1%} discrete {watched['discrete_accuracy']:.1%}"
    )
    facts += numbers_in_words(shown | {name: watched[name] for name in ("eigenvalue",) if name in watched})
    display.record(f"epoch {epoch + 1}/{display.epochs}  {_summary(measured)}  {facts}", run.reports.metrics)
    truth = _true(run.config, cells)
    if truth:
        display.say(truth)
    warning = words.endangered(run.config, run.reports.metrics)
    if warning:
        display.say(warning)
    if changed and not display.live:
        display.say(cell_table(cells))


def search_end(config: SearchCNN, run: Run, network: SearchNetwork, device: torch.device) -> Genotype:
    """Write the report; returns the cells: the last ones or, where `--stop` has ended the search, those of an earlier epoch."""
    cells = run.taken() or network.genotype()
    run.reports.write(search_report(config, run, network, device, cells))
    return cells


def search_report(config: SearchCNN, run: Run, network: SearchNetwork, device: torch.device, cells: Genotype) -> str:
    last = run.reports.metrics[-1]
    truth = _true(config, cells)
    used = f"a random part of the training set, {_part(config)}," if _part(config) else "the training set"
    undecided = math.log(len(network.space.choices(network.space.cells[0])[0]))
    return f"""# Search of a convolutional cell on {config.dataset}

{_warning(cells)}{config.order.capitalize()} order{config.among()}, {_classes(run)}, seed {config.seed}. Only {used} was used,
split by seed {config.split_seed}: {config.train_portion:.0%} of it trained the weights, the rest alpha. The validation
figures are on images without augmentation.

| | loss | accuracy |
| --- | --- | --- |
| training half, last epoch | {last["train_loss"]:.4f} | {last["train_accuracy"]:.2%} |
| validation half, at the end | {last["valid_loss"]:.4f} | {last["valid_accuracy"]:.2%} |

Mean entropy of the operation weights: {last["entropy"]:.3f} (undecided: {undecided:.3f}). Skip connections: {_skips(cells)}.
{last_numbers(last)}{words.reported(config, run.folder, run.reports.metrics)}
{f"{chr(10)}From NAS-Bench-201, the {truth}. It was not used for any choice.{chr(10)}" if truth else ""}
{run.illustrate(cells)}

```yaml
{cells.to_yaml()}```

{run.cost(device)}

Repeat with:

    {run.repeat()}
"""


def _true(config: SearchCNN, cells: Genotype) -> str | None:
    """What NAS-Bench-201 knows of the cells that would be derived now; it chooses nothing."""
    cell = nasbench201.cell_of(cells)
    if cell is None:
        return None
    ranked = nasbench201.in_words(nasbench201.truth(cell)[config.benchmark_data])
    return f"true test accuracy of this cell on {config.benchmark_data}: {ranked}"


def train_opening(config: TrainCNN, run: Run, network: Network, device: torch.device, about: dict, steps: int) -> list[str]:
    adds = multiply_adds(network, *about["size"]) / 1e6
    name, classes = run.genotype.name or "a cell", len(about["classes"])
    return [
        f"{run.folder}: training {name} on {config.dataset}, {classes} classes",
        f"{device}, {config.precision}, {parameters(network):,} parameters, {adds:.1f} M multiply-adds per image, "
        f"{counted(config.epochs, 'epoch')} of {counted(steps, 'step')}",
        *compiling.notes(config.compile, device),
        *precision_notes(device, config.precision),
    ]


def train_reading(display: Display, run: Run, sums: Tensor, epoch: int, step: int) -> None:
    """Read the metrics so far off the device, show and log them."""
    run.state.check_finite()
    measured = metrics("train", sums)
    run.reports.log(epoch=epoch + 1, step=step + 1, **measured)
    display.read(epoch, step, _summary(measured), "")


def train_record(display: Display, run: Run, record: dict) -> None:
    """Record a finished epoch."""
    run.reports.log(**record, **display.pace.of_epoch())
    run.reports.record(record)
    display.record(f"epoch {record['epoch']}/{display.epochs}  {_summary(record)}", run.reports.metrics)


def train_report(
    config: TrainCNN, run: Run, network: Network, device: torch.device, about: dict, best_epoch: int | None
) -> str:
    last, many = run.reports.metrics[-1], len(about["classes"]) > 5  # of five classes, one of five answers is always right
    rows = [("training, last epoch", "train"), ("validation, last epoch", "valid"), ("test, last epoch", "test")]
    rows += [(f"test, epoch {best_epoch}, the best on the validation part", "best_test")]
    table = "\n".join(
        f"| {what} | {last[f'{key}_loss']:.4f} | {last[f'{key}_accuracy']:.2%} | {1 - last[f'{key}_accuracy']:.2%} |"
        + (f" {last[f'{key}_top5']:.2%} |" if many else "")
        for what, key in rows
        if f"{key}_loss" in last
    )
    height, width = about["size"]
    adds = multiply_adds(network, height, width) / 1e6
    epochs, cells = counted(config.epochs, "epoch"), counted(config.layers, "cell")
    found = known(run.identity, 100 * (1 - last["test_accuracy"]) if "test_accuracy" in last else None)
    size = f"{_classes(run)}, {epochs}, {cells}, {config.channels} channels, seed {config.seed}."
    return f"""# Training of {run.genotype.name or "a cell"} on {config.dataset}

{_warning(run.genotype)}{size} {_protocol(config, last)}
The training loss is the one that was minimised, on augmented images, with label smoothing and auxiliary head where they are on.

| | loss | top-1 | error |{" top-5 |" if many else ""}
| --- | --- | --- | --- |{" --- |" if many else ""}
{table}
{f"{chr(10)}{found}{chr(10)}" if found else ""}
{parameters(network):,} parameters without the auxiliary head; {adds:.1f} M multiply-adds in convolutions and linear layers
for an image of {width}x{height} pixels.

{run.illustrate(run.genotype)}

```yaml
{run.genotype.to_yaml()}```

{run.cost(device)}

Repeat with:

    {run.repeat()}
"""


def _classes(run: Run) -> str:
    return f"{len(run.state.data['classes']):,} classes"


def _part(config: SearchCNN | TrainCNN) -> str:
    """How much of the training set is used, in words; nothing where all of it is."""
    return f"{config.max_images:,} images" if config.max_images else f"{100 * config.subset:g}%" if config.subset else ""


def _protocol(config: TrainCNN, last: dict) -> str:
    if config.train_portion == 1:
        part = f"{_part(config)} of the training set" if _part(config) else "the whole training set"
        return f"The network was trained on {part}, and no part chose an epoch: the result is the last epoch's."
    opened = "evaluated once, at the end" if "test_loss" in last else "not opened"
    return (
        f"{config.train_portion:.0%} of the training set, split by seed {config.split_seed}, trained the weights; "
        f"the rest, the validation part, chose the best epoch. The test part was {opened}."
    )


def _summary(record: dict) -> str:
    """Losses and accuracies on one line; a search has one digit after the point, a training two."""
    digits = 2 if "train_top5" in record else 1
    return "  ".join(
        f"{part.replace('_', ' ')} loss {record[f'{part}_loss']:.3f} accuracy {record[f'{part}_accuracy']:.{digits}%}"
        for part in ("train", "valid", "test", "best_test")
        if f"{part}_loss" in record
    )


def _measured(run: Run, sums: Tensor) -> dict[str, float]:
    """Loss and accuracy of both halves; of the training half only, during the warm-up of alpha."""
    train, valid = (
        metrics(name, part, run.state.advice()) if part[-1] else {} for name, part in zip(("train", "valid"), sums, strict=True)
    )
    return train | valid


def _skips(cells: Genotype) -> str:
    return ", ".join(f"{cell.count('skip_connect')} in {name}" for name, cell in cells.cells.items())


def _warning(cells: Genotype) -> str:
    warning = collapsed(cells)
    return f"**Warning:** {warning}\n\n" if warning else ""
