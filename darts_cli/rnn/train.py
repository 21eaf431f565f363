"""The training of a recurrent cell at full size: SGD, then averaged SGD, on pieces of text of random length (sec. 3.2)."""

import copy
import math
import tempfile
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from darts_cli import DartsError
from darts_cli.config import TrainRNN
from darts_cli.genotype import Genotype
from darts_cli.rnn import data
from darts_cli.rnn.averaging import Averaging, stalled
from darts_cli.rnn.evaluate import load_weights, metrics, running_sums, sizes_of, summed, sums_dtype
from darts_cli.rnn.model import Masks, Network, parameters
from darts_cli.runs import checkpoint
from darts_cli.runs.display import Display, duration
from darts_cli.runs.run import Run
from darts_cli.runtime import anomaly, device, distributed
from darts_cli.runtime.nonfinite import NotFinite


@dataclass(frozen=True)
class Result:
    """What a training ends with; perplexities are of a word."""

    valid_perplexity: list[float]  # of every epoch
    best_epoch: int  # counted from 1
    test_perplexity: float | None  # of the network of that epoch, where the test text was evaluated
    parameters: int
    seconds: float  # over all sittings

    def summary(self) -> dict:
        test = {} if self.test_perplexity is None else {"test_perplexity": self.test_perplexity}
        return {
            **test,
            "valid_perplexity": min(self.valid_perplexity),
            "best_epoch": self.best_epoch,
            "parameters": self.parameters,
        }


def train(genotype: Genotype, config: TrainRNN, run: Run | None = None, quiet: bool = False, *, test: bool = True) -> Result:
    """Train the network of the genotype, or go on training it, in that run folder, or in none that stays.

    Without `test` nothing of the test text is read but its words. A loss that is not finite sends it back to its best epoch,
    `roll_backs` times. Raises DartsError after that and, with the state saved, when interrupted.
    """
    if run is None:
        with tempfile.TemporaryDirectory() as folder:
            return train(genotype, config, Run("train rnn", config, folder, genotype, lasting=False), quiet, test=test)
    if (run.genotype, run.config) != (genotype, config):
        raise DartsError('the run must be of this genotype and configuration: Run("train rnn", config, folder, genotype)')
    where = device.prepare(config.device)
    distributed.check_batch(config.batch_size)
    distributed.check_whole("--batch-chunks", config.batch_chunks)
    corpus = data.load(config.dataset, config.data)
    texts = {
        "train": data.streams(corpus.train, config.batch_size, "training")[:, distributed.share(config.batch_size)].to(where),
        "valid": data.streams(corpus.valid, config.eval_batch_size, "validation").to(where),
    }
    if test:
        texts["test"] = data.streams(corpus.test, 1, "test").to(where)
    source = texts["train"]
    torch.manual_seed(config.seed)
    sizes = sizes_of(config, len(corpus.vocab))
    network = Network(genotype, **sizes).to(where)
    loss = distributed.parallel(Loss(network))
    optimizer = Averaging(network, config)
    parts = {"network": network, "optimizer": optimizer}

    with (
        run.interruptible(),
        anomaly.detection(network, config.detect_anomaly),
        Display(config.epochs, len(source) - 1, quiet) as display,
    ):
        fresh = {"epoch": 0, "roll_backs": 0, **_fresh(network, config)}
        numbers = [f"{part}_{name}" for part in ("train", "valid") for name in ("loss", "perplexity")]
        state = run.restore(parts, fresh, [*numbers, "averages"])
        if state is fresh and config.init_from is not None:
            load_weights(network, sizes, genotype, config.init_from)
        run.start(device.environment(where), corpus.about())
        display.begin(state["epoch"], sum(length for _, length in _pieces(config, len(source), state)[: state["step"]]))
        _say_opening(display, config, run, network, corpus, where)
        while not _ended(config, run.metrics):
            try:
                state = _epoch(network, loss, optimizer, texts, config, run, state, display)
            except NotFinite as error:
                state = _rolled_back(error, network, optimizer, config, run, state)
                display.say(
                    f"{str(error).partition(';')[0]}: back to the best epoch, {state['epoch']}, time {state['roll_backs']}"
                )
            run.save(state, parts)
    result = _result(run, network)
    run.report(_report(config, run, result, where))
    return result


def _epoch(
    network: Network,
    loss: nn.Module,
    optimizer: Averaging,
    texts: dict[str, Tensor],
    config: TrainRNN,
    run: Run,
    state: dict,
    display: Display,
) -> dict:
    """The rest of an epoch from that state on, its evaluation and its record; returns the state after it."""
    epoch, source, parts = state["epoch"], texts["train"], {"network": network, "optimizer": optimizer}
    own = distributed.share(config.batch_size)
    hidden, sums = state["hidden"][:, own].to(source.device), state["sums"].to(source.device)
    network.train()
    for step, (start, length) in list(enumerate(_pieces(config, len(source), state)))[state["step"] :]:
        device.seed(config.seed, "masks", epoch, step, state["roll_backs"])
        x, y = data.piece(source, start, length)
        nll, hidden, norm = training_step(network, optimizer.optimizer, config, x, y, hidden, loss)
        sums += nll
        run.watch.note(epoch, step, nll[0], norm)
        display.step(epoch, start + length - 1)
        state = state | {"step": step + 1, "sums": sums, "hidden": partial(distributed.gather, hidden, 1)}
        if display.due(step, config.log_every):
            _read(display, run, sums, epoch, start + length - 1)
        run.checkpoint(state, parts)

    run.check_finite()
    record = {"epoch": epoch + 1, "averages": optimizer.averages, **metrics("train", sums)}
    evaluated = optimizer.averaged().eval()
    for valid_sums in running_sums(evaluated, texts["valid"], config.bptt, config.precision):  # noqa: B007
        run.checkpoint(state, parts)
    record |= metrics("valid", distributed.first(valid_sums), run.remedy())
    if record["valid_loss"] < min((each["valid_loss"] for each in run.metrics), default=math.inf):
        run.save({"epoch": epoch + 1, "step": 0}, {"network": evaluated}, checkpoint.BEST)
    if "test" in texts and _ended(config, [*run.metrics, record]):
        best = copy.deepcopy(network).eval()
        best.load_state_dict(run.best()["network"])
        for test_sums in running_sums(best, texts["test"], config.bptt, config.precision):  # noqa: B007
            run.checkpoint(state, parts)
        record |= metrics("test", distributed.first(test_sums), run.remedy())
    run.record(record)
    run.log(**record)
    display.say(f"epoch {epoch + 1}/{config.epochs}  {_shown(record)}{'  averaged' if optimizer.averages else ''}")
    if not optimizer.averages and stalled(config, run.metrics) and not _ended(config, run.metrics):
        optimizer.average()
        display.say("the validation is no longer better: the weights are averaged from here on")
    return {"epoch": epoch + 1, "roll_backs": state["roll_backs"], **_fresh(network, config)}


def training_step(
    network: Network,
    optimizer: torch.optim.Optimizer,
    config: TrainRNN,
    x: Tensor,
    y: Tensor,
    hidden: Tensor,
    loss_of: nn.Module | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of the weights, the streams computed in `batch_chunks` parts; returns its sums, the hidden state and the norm of
    the gradient.

    `loss_of`: the network's Loss, where several processes compute some of the streams each. Every mean in the loss is over the
    streams too, so that the parts' gradients add up to those of the whole.
    """
    streams = x.shape[1] * distributed.ranks()
    masks = network.masks(streams).part(distributed.share(streams))
    parts = [tensor.tensor_split(config.batch_chunks, dim=1) for tensor in (x, y, hidden)]
    rows = [mask.tensor_split(config.batch_chunks) for mask in masks[1:]]  # a row a stream; words are common to all
    optimizer.param_groups[0]["lr"] = config.lr * len(x) / config.bptt
    optimizer.zero_grad()
    sums, after = torch.zeros(2, dtype=sums_dtype(x.device), device=x.device), []
    for (x_part, y_part, hidden_part), mask in zip(zip(*parts, strict=True), zip(*rows, strict=True), strict=True):
        with device.autocast(x.device, config.precision):
            loss, nll, last = (loss_of or network.loss)(
                x_part, y_part, hidden_part, ar=config.ar, tar=config.tar, masks=Masks(masks.words, *mask)
            )
        (loss * (x_part.shape[1] / x.shape[1])).backward()
        sums += summed(nll, y_part)
        after.append(last.detach())
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), config.grad_clip)
    optimizer.step()
    return distributed.total(sums), torch.cat(after, dim=1), norm


class Loss(nn.Module):
    """The network's loss as what a module does, for DistributedDataParallel."""

    def __init__(self, network: Network):
        super().__init__()
        self.network = network

    def forward(self, *args, **keywords):
        return self.network.loss(*args, **keywords)


def _pieces(config: TrainRNN, rows: int, state: dict) -> list[tuple[int, int]]:
    return data.train_pieces(rows, config.bptt, config.seed, state["epoch"])


def _fresh(network: Network, config: TrainRNN) -> dict:
    """The state at the beginning of an epoch."""
    hidden = network.initial(config.batch_size)
    return {"step": 0, "sums": torch.zeros(2, dtype=sums_dtype(hidden.device)), "hidden": hidden}


def _ended(config: TrainRNN, records: list[dict]) -> bool:
    losses = [each["valid_loss"] for each in records]
    waited = len(losses) - 1 - losses.index(min(losses)) if losses else 0
    return len(losses) >= config.epochs or (config.patience is not None and waited >= config.patience)


def _rolled_back(error: NotFinite, network: Network, optimizer: Averaging, config: TrainRNN, run: Run, state: dict) -> dict:
    """The state of the best epoch, to go on from with other masks."""
    if state["roll_backs"] >= config.roll_backs or not run.metrics:
        raise error
    best = run.best()
    if best["epoch"] > len(run.metrics):  # of the epoch in which it was lost
        raise error
    network.load_state_dict(best["network"])
    run.go_back(best["epoch"])
    optimizer.restart(averages=run.metrics[-1]["averages"])
    return {"epoch": best["epoch"], "roll_backs": state["roll_backs"] + 1, **_fresh(network, config)}


# ---- what is said


def _shown(record: dict) -> str:
    names = [name for name in ("train", "valid", "test") if f"{name}_perplexity" in record]
    return "  ".join(f"{name} perplexity {record[f'{name}_perplexity']:.2f}" for name in names)


def _say_opening(
    display: Display, config: TrainRNN, run: Run, network: Network, corpus: data.Corpus, where: torch.device
) -> None:
    name = run.genotype.name or "a cell"
    display.say(f"{run.folder}: training {name} on {config.dataset}, {len(corpus.vocab):,} different words")
    display.say(
        f"{where}, {config.precision}, {parameters(network):,} parameters, at most {config.epochs} epochs of "
        f"{display.steps:,} words in {config.batch_size} streams"
    )
    if display.done:
        complete = _ended(config, run.metrics)
        display.say("complete already" if complete else f"going on after word {display.done:,} of {display.total:,}")


def _read(display: Display, run: Run, sums: Tensor, epoch: int, row: int) -> None:
    """Read the metrics so far off the device, show and log them."""
    run.check_finite()
    record = metrics("train", sums)
    run.log(epoch=epoch + 1, step=row + 1, **record)
    display.read(epoch, row, _shown(record), "")


def _result(run: Run, network: Network) -> Result:
    valid = [each["valid_perplexity"] for each in run.metrics]
    test = run.metrics[-1].get("test_perplexity")
    return Result(valid, valid.index(min(valid)) + 1, test, parameters(network), run.seconds())


def _report(config: TrainRNN, run: Run, result: Result, where: torch.device) -> str:
    best = run.metrics[result.best_epoch - 1]
    averaged = sum(each["averages"] for each in run.metrics)
    once, row = "not evaluated", ""
    if result.test_perplexity is not None:
        once = "evaluated once, at the end, word by word in one stream"
        row = f"| test | {run.metrics[-1]['test_loss']:.4f} | {result.test_perplexity:.2f} |"
    return f"""# Training of {run.genotype.name or "a cell"} on {config.dataset}

{len(run.metrics)} epochs, the last {averaged} of them averaged; dimension {config.dim}, seed {config.seed}. The validation text
chose the epoch, {result.best_epoch}; the test text was {once}.

| | loss | perplexity |
| --- | --- | --- |
| training, in that epoch, with dropout | {best["train_loss"]:.4f} | {best["train_perplexity"]:.2f} |
| validation | {best["valid_loss"]:.4f} | {best["valid_perplexity"]:.2f} |
{row}
{result.parameters:,} parameters, the tied weight counted once.

```yaml
{run.genotype.to_yaml()}```

Cost: {duration(run.seconds())} on {where}, {config.precision}. Repeat with:

    {run.repeat()}
"""
