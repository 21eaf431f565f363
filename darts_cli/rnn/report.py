"""What a search and a training of recurrent cells print, record and report."""

import math

import torch
from torch import Tensor

from darts_cli.config import SearchRNN, TrainRNN
from darts_cli.genotype import Genotype
from darts_cli.guard.watch import eigenvalues
from darts_cli.methods.derive import entropy
from darts_cli.methods.stages import spread
from darts_cli.methods.value import Step, plain
from darts_cli.rnn.data import Corpus, remarks
from darts_cli.rnn.evaluate import metrics
from darts_cli.rnn.model import Network, SearchNetwork
from darts_cli.rnn.sizes import parameters
from darts_cli.runs.display import Display, cell_table, last_numbers, numbers_in_words
from darts_cli.runs.run import Run
from darts_cli.runs.shown.known import known
from darts_cli.runtime import compiling
from darts_cli.runtime.device import precision_notes
from darts_cli.text import counted


def search_opening(config: SearchRNN, run: Run, network: SearchNetwork, device: torch.device, corpus: Corpus) -> list[str]:
    words = len(corpus.train) // config.batch_size - 1
    return [
        f"{run.folder}: {config.order} order search on {config.dataset}{config.among()}, "
        f"{len(corpus.vocab):,} different {config.tokens}",
        f"{device}, {config.precision}, {parameters(network):,} weights, {network.alphas['recurrent'].numel()} alphas, "
        f"{counted(config.epochs, 'epoch')} of {words:,} {config.tokens} in {config.batch_size} streams",
        *network.method.notes(config.epochs),
        *compiling.notes(config.compile, device),
        *precision_notes(device, config.precision),
        *remarks(config.dataset, corpus),
    ]


def search_reading(display: Display, run: Run, network: SearchNetwork, sums: Tensor, epoch: int, row: int) -> None:
    """Read the metrics so far off the device, show and log them."""
    run.state.check_finite()
    measured = metrics("train", sums[0]) | (metrics("valid", sums[1]) if sums[1, -1] else {})
    strength = spread(plain(network.strength()), network.space, run.config.searched)
    run.reports.log(epoch=epoch + 1, step=row + 1, **measured)
    cells = network.method.derive(strength, run.config.searched)
    display.read(epoch, row, _summary(measured), f"{cell_table(cells)}\n\nentropy {entropy(strength):.3f}")


def search_record(
    display: Display, run: Run, network: SearchNetwork, sums: Tensor, epoch: int, watched: dict[str, float]
) -> None:
    """Record a finished epoch: metrics, alphas, operation weights, cell, and what is watched."""
    measured = metrics("train", sums[0]) | metrics("valid", sums[1], run.state.advice())
    strength = spread(plain(network.strength()), network.space, run.config.searched)
    cells = network.method.derive(strength, run.config.searched)
    changed = not run.reports.metrics or run.reports.metrics[-1]["genotype"] != cells.to_dict()
    shown = network.shown(Step(epoch, display.epochs, run.config.seed, 0))
    record = {
        "epoch": epoch + 1,
        **measured,
        "entropy": entropy(strength),
        **watched,
        "genotype": cells.to_dict(),
        "alphas": spread(plain(network.alphas), network.space, run.config.searched),
        "operation_weights": strength,
        **shown,
    }
    run.reports.log(epoch=epoch + 1, **measured, **display.pace.of_epoch())
    run.reports.record(record, cells)
    more = numbers_in_words(shown | watched)
    line = f"epoch {epoch + 1}/{display.epochs}  {_summary(measured)}  entropy {record['entropy']:.3f}{more}"
    display.record(line, run.reports.metrics)
    if changed and not display.live:
        display.say(cell_table(cells))


def search_end(config: SearchRNN, run: Run, network: SearchNetwork, device: torch.device) -> Genotype:
    """Write the report; returns the cell."""
    run.reports.write(search_report(config, run, network, device))
    return network.genotype()


def search_report(config: SearchRNN, run: Run, network: SearchNetwork, device: torch.device) -> str:
    last, cells = run.reports.metrics[-1], network.genotype()
    undecided = math.log(len(network.space.choices("recurrent")[0]))
    entropy = f"Mean entropy of the operation weights: {last['entropy']:.3f} (undecided: {undecided:.3f})."
    watched = f"{entropy}\n{last_numbers(last)}{eigenvalues(run.reports.metrics)}".rstrip()
    return f"""# Search of a recurrent cell on {config.dataset}

{config.order.capitalize()} order{config.among()}, {_vocabulary(run)}, seed {config.seed}.
The training text trained the weights, the validation text alpha; of the test text only the vocabulary was used.
The validation perplexity is that of the search network, without dropout, normalised by each batch's own statistics.

| | loss | perplexity |
| --- | --- | --- |
| training, last epoch, with dropout | {last["train_loss"]:.4f} | {last["train_perplexity"]:.2f} |
| validation, at the end | {last["valid_loss"]:.4f} | {last["valid_perplexity"]:.2f} |

{watched}

{run.illustrate(cells)}

```yaml
{cells.to_yaml()}```

{run.cost(device)}

Repeat with:

    {run.repeat()}
"""


def train_opening(config: TrainRNN, run: Run, network: Network, device: torch.device, corpus: Corpus, words: int) -> list[str]:
    name = run.genotype.name or "a cell"
    return [
        f"{run.folder}: training {name} on {config.dataset}, {len(corpus.vocab):,} different {config.tokens}",
        f"{device}, {config.precision}, {parameters(network):,} parameters, at most {counted(config.epochs, 'epoch')} of "
        f"{words:,} {config.tokens} in {config.batch_size} streams",
        *precision_notes(device, config.precision),
        *remarks(config.dataset, corpus),
    ]


def train_reading(display: Display, run: Run, sums: Tensor, epoch: int, row: int) -> None:
    """Read the metrics so far off the device, show and log them."""
    run.state.check_finite()
    measured = metrics("train", sums)
    run.reports.log(epoch=epoch + 1, step=row + 1, **measured)
    display.read(epoch, row, _summary(measured), "")


def train_record(display: Display, run: Run, record: dict) -> None:
    """Record a finished epoch."""
    run.reports.log(**record, **display.pace.of_epoch())
    run.reports.record(record)
    averaged = "  averaged" if record["averages"] else ""
    display.record(f"epoch {record['epoch']}/{display.epochs}  {_summary(record)}{averaged}", run.reports.metrics)


def train_report(config: TrainRNN, run: Run, network: Network, device: torch.device, best_epoch: int) -> str:
    best, last = run.reports.metrics[best_epoch - 1], run.reports.metrics[-1]
    epochs, averaged = len(run.reports.metrics), sum(record["averages"] for record in run.reports.metrics)
    test, row, found = "not evaluated", "", known(run.identity, last.get("test_perplexity"))
    if "test_loss" in last:
        test = f"evaluated once, at the end, {config.tokens[:-1]} by {config.tokens[:-1]} in one stream"
        row = f"| test | {last['test_loss']:.4f} | {last['test_perplexity']:.2f} |"
    return f"""# Training of {run.genotype.name or "a cell"} on {config.dataset}

{_vocabulary(run)}; {counted(epochs, "epoch")}, the last {averaged} averaged; dimension {config.dim}, seed {config.seed}.
The validation text chose epoch {best_epoch}; the test text was {test}.

| | loss | perplexity |
| --- | --- | --- |
| training, in that epoch, with dropout | {best["train_loss"]:.4f} | {best["train_perplexity"]:.2f} |
| validation | {best["valid_loss"]:.4f} | {best["valid_perplexity"]:.2f} |
{row}
{f"{chr(10)}{found}{chr(10)}" if found else ""}
{parameters(network):,} parameters, with the tied weight counted once.

{run.illustrate(run.genotype)}

```yaml
{run.genotype.to_yaml()}```

{run.cost(device)}

Repeat with:

    {run.repeat()}
"""


def _vocabulary(run: Run) -> str:
    return f"{len(run.state.data['vocab']):,} different {run.config.tokens}"


def _summary(record: dict) -> str:
    parts = [part for part in ("train", "valid", "test") if f"{part}_perplexity" in record]
    return "  ".join(f"{part} perplexity {record[f'{part}_perplexity']:.2f}" for part in parts)
