"""The training of a recurrent cell at full size: SGD, then averaged SGD, on pieces of text of random length (sec. 3.2)."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from darts_cli.config import TrainRNN
from darts_cli.genotype import Genotype
from darts_cli.rnn import data, report
from darts_cli.rnn.averaging import Averaging, stalled
from darts_cli.rnn.cells import Masks
from darts_cli.rnn.evaluate import dropouts, load_weights, measure, metrics, scores, sums_dtype
from darts_cli.rnn.model import Network
from darts_cli.rnn.sizes import parameters
from darts_cli.runs import checkpoint
from darts_cli.runs.display import Display
from darts_cli.runs.run import Run, ensure_run
from darts_cli.runs.task import Task
from darts_cli.runtime import distributed
from darts_cli.runtime.device import autocast, environment, prepare, seed
from darts_cli.runtime.graphs import Graphs, Steps
from darts_cli.runtime.nonfinite import NotFinite, detection
from darts_cli.runtime.schedules import set_lr


@dataclass(frozen=True)
class Result:
    """What a training ends with; perplexities are per word."""

    valid_perplexity: list[float]  # of every epoch
    best_epoch: int  # counted from 1
    test_perplexity: float | None  # of the network of that epoch, where the test text was evaluated
    parameters: int
    seconds: float  # also before the run was resumed

    def summary(self) -> dict:
        test = {} if self.test_perplexity is None else {"test_perplexity": self.test_perplexity}
        return {
            **test,
            "valid_perplexity": min(self.valid_perplexity),
            "best_epoch": self.best_epoch,
            "parameters": self.parameters,
        }


def train(genotype: Genotype, config: TrainRNN, run: Run | None = None, quiet: bool = False, *, test: bool = True) -> Result:
    """Train the network of the genotype, or resume its training, in that run folder; without a run nothing stays on disk.

    Without `test` only the vocabulary of the test text is used. A loss that is not finite sends the training back to its best
    epoch, `roll_backs` times. Raises DartsError after that and, with the state saved, when interrupted.
    """
    with ensure_run(run, Task("train", "rnn"), config, genotype) as run:
        return _train(run, quiet, test)


def _train(run: Run, quiet: bool, test: bool) -> Result:
    config, device = run.config, prepare(run.config.device, run.config.deterministic, run.config.precision)
    distributed.check_batch(config.batch_size)
    distributed.check_unsplit("--batch-chunks", config.batch_chunks)
    distributed.check_alone({"--cuda-graphs": config.cuda_graphs})
    corpus = data.load(config.dataset, config.data, tokens=config.tokens)
    source, held_out = _streams(config, corpus, device, test)
    torch.manual_seed(config.seed)
    sizes = {"vocab": len(corpus.vocab), "dim": config.dim, **dropouts(config), "init_op": config.init_op}
    network = Network(run.genotype, **sizes).to(device)
    optimizer = Averaging(network, config)

    def state(epoch: int, step: int, roll_backs: int, sums: Tensor, hidden: Tensor) -> dict:
        """Everything that resuming needs."""
        return {
            "epoch": epoch,
            "roll_backs": roll_backs,
            "step": step,
            "sums": sums.cpu().double(),  # the scores of the epoch so far
            "hidden": distributed.gather(hidden, 1),
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
        }

    def start_of(epoch: int, roll_backs: int) -> dict:
        """The state at the start of an epoch."""
        return state(epoch, 0, roll_backs, torch.zeros(2), network.initial(source.shape[1]))

    words = len(source) - 1
    display = Display(config.epochs, words, quiet)
    with display, run.interruptible(display.stopping), detection(network, config.detect_anomaly):
        if config.init_from is not None and run.state.newest() is None:
            load_weights(network, sizes, run.genotype, config.init_from)
        run.start(environment(device), corpus.about())
        now = run.state.restore(start_of(0, 0), network=network, optimizer=optimizer)
        done = sum(length for _, length in _pieces(config, source, now["epoch"])[: now["step"]])
        opening = report.train_opening(config, run, network, device, corpus, words)
        display.begin(now["epoch"], done, opening, unit=config.tokens[:-1], complete=_ended(config, run.reports.metrics))
        one_step = Steps(training_step, Graphs(config.cuda_graphs, device, display.say))
        while not _ended(config, run.reports.metrics):
            epoch, roll_backs = now["epoch"], now["roll_backs"]
            try:
                sums, after_each = _steps(run, display, one_step, network, optimizer, source, now, state)
                record = {"epoch": epoch + 1, "averages": optimizer.averages, **metrics("train", sums)}
                record |= _evaluations(run, network, optimizer, held_out, epoch, after_each)
            except NotFinite as error:
                epoch, roll_backs = _roll_back(error, run, network, optimizer, roll_backs), roll_backs + 1
                display.say(f"{str(error).partition(';')[0]}: back to the best epoch, {epoch} (roll-back {roll_backs})")
            else:
                report.train_record(display, run, record)
                epoch += 1
                if not optimizer.averages and stalled(config, run.reports.metrics) and not _ended(config, run.reports.metrics):
                    optimizer.average()
                    display.say("the validation loss no longer falls: averaging the weights from here on")
            run.state.save(now := start_of(epoch, roll_backs))
    result = _result(run, network)
    run.reports.write(report.train_report(config, run, network, device, result.best_epoch))
    return result


def _streams(config: TrainRNN, corpus: data.Corpus, device: torch.device, test: bool) -> tuple[Tensor, dict[str, Tensor]]:
    """This rank's streams of the training text, and all streams of those that are evaluated."""
    source = data.streams(corpus.train, config.batch_size, "training")[:, distributed.share(config.batch_size)].to(device)
    held_out = {"valid": data.streams(corpus.valid, config.eval_batch_size, "validation").to(device)}
    if test:
        held_out["test"] = data.streams(corpus.test, 1, "test").to(device)
    return source, held_out


def counts(config: TrainRNN, *, test: bool = True) -> dict[str, int]:
    """The steps of the first epoch, the pieces of its evaluation, and those that only the end of a run evaluates.

    Raises DartsError.
    """
    corpus = data.load(config.dataset, config.data, tokens=config.tokens)
    source = data.streams(corpus.train, config.batch_size, "training")
    valid = data.streams(corpus.valid, config.eval_batch_size, "validation")
    each, end = (-(-(rows - 1) // config.bptt) for rows in (len(valid), len(corpus.test)))
    return {"steps": len(_pieces(config, source, 0)), "evaluation": each, "end": end if test else 0}


def _steps(
    run: Run,
    display: Display,
    one_step: Callable,
    network: Network,
    optimizer: Averaging,
    source: Tensor,
    now: dict,
    state: Callable[..., dict],
) -> tuple[Tensor, Callable[[], None]]:
    """The steps of an epoch that are left; returns its scores, and what to call after each piece of the evaluation."""
    config, epoch, roll_backs = run.config, now["epoch"], now["roll_backs"]
    pieces = _pieces(config, source, epoch)
    hidden = now["hidden"][:, distributed.share(config.batch_size)].to(source.device)
    sums = now["sums"].to(source.device, sums_dtype(source.device))
    network.train()
    one_step = training_step if optimizer.averages else one_step  # torch.optim.ASGD reads numbers
    for step in range(now["step"], len(pieces)):
        start, length = pieces[step]
        seed(config.seed, "masks", epoch, step, roll_backs)
        x, y = data.piece(source, start, length)
        with run.state.saved_without_memory(partial(state, epoch, step, roll_backs, sums, hidden), network):
            step_sums, hidden, norm = one_step(network, optimizer.optimizer, config, x, y, hidden)
        sums += step_sums
        run.state.watch.note(epoch, step, step_sums[0], norm)
        display.step(epoch, start + length - 1)
        if display.due(step, config.log_every):
            report.train_reading(display, run, sums, epoch, start + length - 1)
        run.state.checkpoint(partial(state, epoch, step + 1, roll_backs, sums, hidden))
    run.state.check_finite()
    return sums, partial(run.state.checkpoint, partial(state, epoch, len(pieces), roll_backs, sums, hidden))


def training_step(
    network: Network, optimizer: torch.optim.Optimizer, config: TrainRNN, x: Tensor, y: Tensor, hidden: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """A step of the weights, the streams computed in `batch_chunks` parts.

    Returns its scores (2,), of all ranks, the hidden state and the norm of the gradient. Every mean in the loss is over the
    streams too, so the parts' gradients add up to those of the batch.
    """
    streams = x.shape[1] * distributed.ranks()
    masks = network.masks(streams).part(distributed.share(streams))
    parts = [tensor.tensor_split(config.batch_chunks, dim=1) for tensor in (x, y, hidden)]
    rows = [mask.tensor_split(config.batch_chunks) for mask in masks[1:]]  # one row per stream; all streams share masks.words
    set_lr(optimizer, config.lr * len(x) / config.bptt)
    optimizer.zero_grad()
    sums, after = torch.zeros(2, dtype=sums_dtype(x.device), device=x.device), []
    for (x_part, y_part, hidden_part), mask in zip(zip(*parts, strict=True), zip(*rows, strict=True), strict=True):
        with autocast(x.device, config.precision):
            loss, nll, last = network.loss(
                x_part, y_part, hidden_part, ar=config.ar, tar=config.tar, masks=Masks(masks.words, *mask)
            )
        (loss * (x_part.shape[1] / x.shape[1])).backward()
        sums += scores(nll, y_part)
        after.append(last.detach())
    distributed.average_gradients(network.parameters())
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), config.grad_clip)
    optimizer.step()
    return distributed.total(sums), torch.cat(after, dim=1), norm


def _evaluations(
    run: Run, network: Network, optimizer: Averaging, held_out: dict, epoch: int, after_each: Callable[[], None]
) -> dict[str, float]:
    """The metrics of an epoch on the validation text, by which the best network is kept; at the end, also on the test text."""
    config = run.config

    def evaluate(name: str, network: Network) -> dict[str, float]:
        sums = measure(network.eval(), held_out[name], config.bptt, config.precision, after_each)
        return metrics(name, distributed.first(sums), run.state.advice())

    averaged = optimizer.averaged()
    record = evaluate("valid", averaged)
    if record["valid_loss"] < min((earlier["valid_loss"] for earlier in run.reports.metrics), default=math.inf):
        run.state.save({"epoch": epoch + 1, "step": 0, "network": averaged.state_dict()}, checkpoint.BEST)
    if "test" in held_out and _ended(config, [*run.reports.metrics, record]):
        best = copy.deepcopy(network)
        best.load_state_dict(run.state.best()["network"])
        record |= evaluate("test", best)
    return record


def _roll_back(error: NotFinite, run: Run, network: Network, optimizer: Averaging, roll_backs: int) -> int:
    """Return to the network of the best epoch, to resume from there with other masks; returns that epoch."""
    if roll_backs >= run.config.roll_backs or not run.reports.metrics:
        raise error
    best = run.state.best()
    if best["epoch"] > len(run.reports.metrics):  # of this very epoch
        raise error
    network.load_state_dict(best["network"])
    run.state.go_back(best["epoch"])
    optimizer.restart(averages=run.reports.metrics[-1]["averages"])
    return best["epoch"]


def _pieces(config: TrainRNN, source: Tensor, epoch: int) -> list[tuple[int, int]]:
    return data.train_pieces(len(source), config.bptt, config.seed, epoch)


def _ended(config: TrainRNN, records: list[dict]) -> bool:
    losses = [record["valid_loss"] for record in records]
    waited = len(losses) - 1 - losses.index(min(losses)) if losses else 0
    return len(losses) >= config.epochs or (config.patience is not None and waited >= config.patience)


def _result(run: Run, network: Network) -> Result:
    valid = [record["valid_perplexity"] for record in run.reports.metrics]
    test = run.reports.metrics[-1].get("test_perplexity")
    return Result(valid, valid.index(min(valid)) + 1, test, parameters(network), run.reports.seconds())
