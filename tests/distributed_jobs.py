"""What tests/test_runtime_distributed.py runs in several processes: all jobs one after another, in float64."""

from pathlib import Path

import pytest
import torch
from conftest import darts
from torch import nn

from darts_cli import DartsError
from darts_cli.cnn import model
from darts_cli.cnn.search import search as search_cnn
from darts_cli.cnn.train import train as train_cnn
from darts_cli.commands import errors
from darts_cli.config import SearchCNN, SearchRNN, TrainCNN, TrainRNN
from darts_cli.genotype import Cell, Edge, Genotype, load
from darts_cli.rnn.search import search as search_rnn
from darts_cli.rnn.train import train as train_rnn
from darts_cli.runs.run import Run
from darts_cli.runs.task import Task
from darts_cli.runtime import batchnorm, distributed

IMAGES = {"dataset": "folder", "channels": 2, "layers": 3, "epochs": 1, "batch_size": 6, "device": "cpu"}  # 4 steps of 23
TEXT = {"dataset": "text", "dim": 6, "batch_size": 12, "eval_batch_size": 3, "bptt": 5, "lr": 1.0, "device": "cpu"}
SHARING = "random-sharing:candidates=20,batches=1,finalists=2"
DROPOUTS = {"dropout": 0.3, "dropouth": 0.2, "dropoutx": 0.2, "dropouti": 0.1, "dropoute": 0.1}


def idle() -> Genotype:
    """Cells of which some parameters have no gradient: those of an input behind `none`."""
    nodes = ((Edge("none", 0), Edge("sep_conv_3x3", 1)),)
    return Genotype("cnn", {name: Cell(nodes, (2,)) for name in ("normal", "reduce")})


def jobs(text: str, images: str) -> dict:
    def search(kind, function, **settings):
        task = Task("search", function.__module__[10:13])
        return lambda folder: function(kind(**settings), Run(task, kind(**settings), folder))

    def train(kind, function, genotype, **settings):
        task = Task("train", function.__module__[10:13])
        return lambda folder: function(genotype, kind(**settings), Run(task, kind(**settings), folder, genotype))

    words, pictures, cell = TEXT | DROPOUTS | {"data": text}, IMAGES | {"data": images}, load("darts_v2", "cnn")
    searched, read = pictures | {"nodes": 2}, words | {"nodes": 3}
    eigenvalue = {"eigenvalue_every": 1, "space": "s2", "batch_size": 24}
    return {
        "search-cnn-first": search(SearchCNN, search_cnn, **searched),
        "search-cnn-second": search(SearchCNN, search_cnn, unrolled=True, **searched),
        "search-cnn-eigenvalue": search(SearchCNN, search_cnn, **searched | eigenvalue),
        "search-cnn-selection": search(
            SearchCNN,
            search_cnn,
            method="perturbation-selection:share=0.5",
            space="nas-bench-201",
            **pictures | {"epochs": 2, "layers": 1, "batch_size": 24},
        ),
        "search-cnn-stages": search(
            SearchCNN, search_cnn, **searched | {"method": "p-darts:warmup=0,third=0,cells=1", "epochs": 2, "batch_size": 12}
        ),
        "search-cnn-random": search(SearchCNN, search_cnn, **searched | {"method": SHARING, "epochs": 2}),
        "search-cnn-noise": search(SearchCNN, search_cnn, **searched | {"space": "s4", "drop_path": 0.3, "epochs": 2}),
        "search-rnn-first": search(SearchRNN, search_rnn, epochs=1, eigenvalue_every=1, **read),
        "search-rnn-second": search(SearchRNN, search_rnn, epochs=1, unrolled=True, **read),
        "train-cnn": train(TrainCNN, train_cnn, cell, **pictures | {"epochs": 2, "drop_path": 0.4, "train_portion": 0.5}),
        "train-cnn-idle": train(TrainCNN, train_cnn, idle(), **pictures | {"batch_size": 24}),
        "train-rnn": train(TrainRNN, train_rnn, load("darts_v2", "rnn"), epochs=2, **words),
    }


def check_collectives() -> None:
    """The parts that the jobs would not tell apart."""
    size, rank = distributed.ranks(), distributed.rank()
    distributed.check_equal({"same": torch.ones(3)})
    with pytest.raises(DartsError, match="mine of process"):
        distributed.check_equal({"same": torch.ones(3), "mine": torch.full((2,), float(rank))})
    assert torch.equal(distributed.first(torch.full((2,), 5.0 + rank)), torch.full((2,), 5.0))
    assert distributed.largest(rank, 3) == [size - 1, 3]
    torch.manual_seed(0)
    rows = torch.arange(7 * 3.0).view(7, 3)
    own = rows[distributed.share(7)]
    assert torch.equal(distributed.total(own.sum(0)), rows.sum(0))
    assert torch.equal(distributed.gather(own[:2], 0).unique(), distributed.gather(own[:2], 0).flatten().sort().values)

    kernel = torch.zeros(4, 2, 3, 3).to(memory_format=torch.channels_last).requires_grad_()
    kernel.grad = torch.full_like(kernel, float(rank))
    idle = torch.zeros(1, requires_grad=True)  # the loss does not depend on it
    distributed.average_gradients([kernel, idle])
    assert torch.equal(kernel.grad, torch.full_like(kernel, (size - 1) / 2))
    assert kernel.grad.stride() == kernel.stride()  # as fused optimisers need it
    assert idle.grad is None

    whole = (2 + torch.randn(7, 3, 4, 2)).requires_grad_()  # an uneven number of images; one process alone has them all here
    direction, norm = torch.randn(7, 3, 4, 2), nn.BatchNorm2d(3)
    ours = batchnorm.BatchNorm2d(3)
    for each in (norm, ours):
        nn.init.uniform_(each.weight, generator=torch.Generator().manual_seed(1))
    expected = norm(whole)
    gradients = torch.autograd.grad((expected * direction).sum(), [whole, *norm.parameters()])
    mine = whole.detach()[distributed.share(7)].requires_grad_()
    found = ours(mine)
    torch.testing.assert_close(found, expected[distributed.share(7)])
    of_x, *of_parameters = torch.autograd.grad((found * direction[distributed.share(7)]).sum(), [mine, *ours.parameters()])
    torch.testing.assert_close(of_x, gradients[0][distributed.share(7)])
    torch.testing.assert_close([distributed.total(each) for each in of_parameters], list(gradients[1:]))
    torch.testing.assert_close([*ours.buffers()], [*norm.buffers()])

    cell, before = model.Cell(load("cnn/darts_v2").cells["normal"], 4, 4, 4, False, False), distributed.communicated["calls"]
    cell(torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)).sum().backward()
    forward = 4  # both preprocessings; the first, then the second halves of five separable convolutions; a dilated one
    assert distributed.communicated["calls"] - before == 2 * forward


MISTAKES = {  # each is one line, and leaves nothing behind
    "search cnn --dataset digits --batch-size 15": "--batch-size 15: must be a multiple of the number of processes, 2",
    "train cnn --dataset digits --accumulate 2": "--accumulate 2: not under torchrun; use more processes instead",
    "search cnn --dataset digits --seeds 2": "--seeds: not under torchrun; use --parallel",
}


def check_mistakes(folder: Path) -> None:
    errors.FIRST_RANK_SECONDS = 0  # the second process need not let the first one speak
    for command, message in MISTAKES.items():
        done = darts(*command.split(), "--run", folder / "mistake")
        assert done.exit_code == 2
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
        assert not (folder / "mistake").exists()


def main(args: list[str]) -> None:
    torch.set_default_dtype(torch.float64)
    out, text, images, *names = Path(args[0]), *args[1:]
    distributed.join()
    if distributed.ranks() > 1:
        check_collectives()
    if distributed.ranks() == 2:
        check_mistakes(out)
    for name in names:
        jobs(text, images)[name](out / name)
