"""The search of a recurrent cell: algorithm 1 of the paper, weights on the training text, alpha on the validation text."""

import math
from functools import partial

import torch
from torch import Tensor

from darts_cli.architect import Architect, constant
from darts_cli.config import SearchRNN
from darts_cli.genotype import Genotype, entropy
from darts_cli.rnn import data
from darts_cli.rnn.evaluate import metrics, running_sums, summed, sums_dtype
from darts_cli.rnn.model import SearchNetwork, parameters
from darts_cli.runs.display import Display, cell_table, duration
from darts_cli.runs.run import Run
from darts_cli.runtime import anomaly, device, distributed


def search(config: SearchRNN, run: Run, quiet: bool = False) -> Genotype:
    """Search, or go on searching, in that run folder; returns the cell found.

    Every step moves alpha along the hypergradient, then the weights along the gradient of the training words. Each batch's
    masks are drawn once and serve all passes of the step. Raises DartsError when a number is no longer finite and, with the
    state saved, when interrupted.
    """
    where = device.prepare(config.device)
    distributed.check_batch(config.batch_size)
    own = distributed.share(config.batch_size)  # the streams of this process
    corpus = data.load(config.dataset, config.data)
    train, valid = (
        data.streams(part, config.batch_size, name)[:, own].to(where)
        for part, name in ((corpus.train, "training"), (corpus.valid, "validation"))
    )
    evaluation = data.streams(corpus.valid, config.eval_batch_size, "validation").to(where)
    torch.manual_seed(config.seed)
    dropouts = {name: getattr(config, name) for name in ("dropout", "dropouth", "dropoutx", "dropouti", "dropoute")}
    network = SearchNetwork(len(corpus.vocab), config.dim, **dropouts, alpha_scale=config.alpha_scale).to(where)
    weights, alphas = network.weights(), list(network.alphas.values())
    fused, decay = device.fused(where), config.alpha_weight_decay
    w_optimizer = torch.optim.SGD(weights, config.lr, weight_decay=config.weight_decay, fused=fused)
    alpha_optimizer = torch.optim.Adam(alphas, config.alpha_lr, config.alpha_betas, weight_decay=decay, fused=fused)

    def loss(batch: tuple) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        x, y, hidden, masks = batch
        with device.autocast(where, config.precision):
            _, nll, hidden = network.loss(x, y, hidden, masks=masks)
        return nll, (nll, hidden)

    architect = Architect(
        loss,
        weights,
        alphas,
        w_optimizer,
        alpha_optimizer,
        unrolled=config.unrolled,
        clip=config.grad_clip,
        buffers=network.buffers(),
        average=distributed.average,
    )
    parts = {"network": network, "w_optimizer": w_optimizer, "alpha_optimizer": alpha_optimizer}

    with (
        run.interruptible(),
        anomaly.detection(network, config.detect_anomaly),
        Display(config.epochs, len(train) - 1, quiet) as display,
    ):
        run.start(device.environment(where), corpus.about())
        state = run.restore(parts, {"epoch": 0, **_fresh(network, config)}, ["entropy"])
        pieces = data.search_pieces(len(train), config.bptt, config.seed, state["epoch"])
        display.begin(state["epoch"], sum(length for _, length in pieces[: state["step"]]))
        _say_opening(display, config, run, network, corpus, where, complete=state["epoch"] == config.epochs)
        for epoch in range(state["epoch"], config.epochs):
            network.train()
            pieces = data.search_pieces(len(train), config.bptt, config.seed, epoch)
            hidden, valid_hidden = (state[name][:, own].to(where) for name in ("hidden", "valid_hidden"))
            sums = state["sums"].to(where)
            for step, (start, length) in list(enumerate(pieces))[state["step"] :]:
                device.seed(config.seed, "masks", epoch, step)
                x, y = data.piece(train, start, length)
                valid_x, valid_y = data.piece(valid, start % (len(valid) - 1), config.bptt)
                masks, valid_masks = (network.masks(config.batch_size).part(own) for _ in range(2))
                w_optimizer.param_groups[0]["lr"] = config.lr * length / config.bptt  # the architect's too
                valid_nll, valid_hidden = architect.step((x, y, hidden, masks), (valid_x, valid_y, valid_hidden, valid_masks))

                w_optimizer.zero_grad()
                with constant(alphas), device.autocast(where, config.precision):
                    train_loss, nll, hidden = network.loss(x, y, hidden, ar=config.ar, tar=config.tar, masks=masks)
                train_loss.backward()
                distributed.average_gradients(weights)
                norm = torch.nn.utils.clip_grad_norm_(weights, config.grad_clip)
                w_optimizer.step()
                hidden = hidden.detach()
                run.watch.note(epoch, step, train_loss, norm, valid_nll, alphas)

                sums += distributed.total(torch.stack([summed(nll, y), summed(valid_nll, valid_y)]))
                display.step(epoch, start + length - 1)
                if display.due(step, config.log_every):
                    _read(display, run, network, sums, epoch, start + length - 1)
                position = {"epoch": epoch, "step": step + 1, "sums": sums, **_whole(hidden, valid_hidden)}
                run.checkpoint(position, parts)

            run.check_finite()
            position = {"epoch": epoch, "step": len(pieces), "sums": sums, **_whole(hidden, valid_hidden)}
            for valid_sums in running_sums(network.measured(), evaluation, config.bptt, config.precision):  # noqa: B007
                run.checkpoint(position, parts)
            _record(display, run, network, sums, distributed.first(valid_sums), epoch)
            state = {"epoch": epoch + 1, **_fresh(network, config)}
            run.save(state, parts)
    run.report(_report(config, run, network, where))
    return network.genotype()


def _whole(hidden: Tensor, valid_hidden: Tensor) -> dict:
    """The hidden states of the streams of all processes, put together when they are saved."""
    return {"hidden": partial(distributed.gather, hidden, 1), "valid_hidden": partial(distributed.gather, valid_hidden, 1)}


def _fresh(network: SearchNetwork, config: SearchRNN) -> dict:
    """The state at the beginning of an epoch."""
    hidden = network.initial(config.batch_size)
    return {"step": 0, "sums": torch.zeros(2, 2, dtype=sums_dtype(hidden.device)), "hidden": hidden, "valid_hidden": hidden}


# ---- what is said


def _shown(record: dict) -> str:
    return "  ".join(f"{name} perplexity {record[f'{name}_perplexity']:.2f}" for name in ("train", "valid"))


def _say_opening(
    display: Display, config: SearchRNN, run: Run, network: SearchNetwork, corpus: data.Corpus, where, complete: bool
) -> None:
    order = "second" if config.unrolled else "first"
    display.say(f"{run.folder}: {order} order search on {config.dataset}, {len(corpus.vocab):,} different words")
    display.say(
        f"{where}, {config.precision}, {parameters(network):,} weights, {network.alphas['recurrent'].numel()} alphas, "
        f"{config.epochs} epochs of {display.steps:,} words in {config.batch_size} streams"
    )
    if display.done:
        display.say("complete already" if complete else f"going on after word {display.done:,} of {display.total:,}")


def _read(display: Display, run: Run, network: SearchNetwork, sums: Tensor, epoch: int, row: int) -> None:
    """Read the metrics so far off the device, show and log them."""
    run.check_finite()
    record = metrics("train", sums[0]) | metrics("valid", sums[1])
    run.log(epoch=epoch + 1, step=row + 1, **record)
    about = f"entropy of alpha {entropy([network.alphas['recurrent'].tolist()]):.3f}"
    display.read(epoch, row, _shown(record), f"{cell_table(network.genotype())}\n\n{about}")


def _record(display: Display, run: Run, network: SearchNetwork, sums: Tensor, valid_sums: Tensor, epoch: int) -> None:
    """Record a finished epoch: metrics, alphas and cell."""
    cells, alphas = network.genotype(), network.alphas["recurrent"].tolist()
    changed = not run.metrics or run.metrics[-1]["genotype"] != cells.to_dict()
    record = {
        "epoch": epoch + 1,
        **metrics("train", sums[0]),
        **metrics("valid", valid_sums, run.remedy()),
        "entropy": entropy([alphas]),
        "genotype": cells.to_dict(),
        "alphas": {"recurrent": alphas},
    }
    run.log(epoch=epoch + 1, **metrics("train", sums[0]), **metrics("valid", valid_sums))
    run.record(record, cells)
    display.say(f"epoch {epoch + 1}/{display.epochs}  {_shown(record)}  entropy {record['entropy']:.3f}")
    if changed and not display.live:
        display.say(cell_table(cells))


def _report(config: SearchRNN, run: Run, network: SearchNetwork, where: torch.device) -> str:
    last = run.metrics[-1]
    return f"""# Search of a recurrent cell on {config.dataset}

{"Second" if config.unrolled else "First"} order, seed {config.seed}. The training text trained the weights, the validation text
alpha; of the test text nothing but its words was read. The validation's perplexity is of the search network, without dropout,
normalised by each batch's own statistics.

| | loss | perplexity |
| --- | --- | --- |
| training, last epoch, with dropout | {last["train_loss"]:.4f} | {last["train_perplexity"]:.2f} |
| validation, at the end | {last["valid_loss"]:.4f} | {last["valid_perplexity"]:.2f} |

Mean entropy of the operation weights: {last["entropy"]:.3f} (undecided: {math.log(5):.3f}).

```yaml
{network.genotype().to_yaml()}```

Cost: {duration(run.seconds())} on {where}, {config.precision}. Repeat with:

    {run.repeat()}
"""
