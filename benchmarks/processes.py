"""Strong scaling: the seconds of a step, and the bytes that a rank puts into collectives, with one batch split between ranks.

    torchrun --nproc-per-node 2 -m benchmarks.processes search-cnn-first train-cnn

The batch is that of all ranks together; without torchrun there is one.
"""

import statistics
import sys
import time

import torch

from darts_cli.cnn.model import Network, SearchNetwork
from darts_cli.cnn.step import make_architect, search_step
from darts_cli.cnn.train import training_step
from darts_cli.config import SearchCNN, TrainCNN
from darts_cli.genotype import load
from darts_cli.methods.value import Step
from darts_cli.runtime import distributed
from darts_cli.runtime.device import prepare

BATCH, REPEATS = 64, 5


def search_cnn(device: torch.device, unrolled: bool):
    share, config = distributed.share(BATCH), SearchCNN(batch_size=BATCH, unrolled=unrolled)
    batch = torch.randn(BATCH, 3, 32, 32)[share].to(device), torch.randint(0, 10, (BATCH,))[share].to(device)
    architect, relaxation = make_architect(SearchNetwork(16, 10, 8).to(device), config, device)
    return lambda: search_step(architect, relaxation, Step(0, 1, 0, 0), batch, batch, config.grad_clip)


def train_cnn(device: torch.device):
    share, config = distributed.share(BATCH), TrainCNN(batch_size=BATCH)
    images, labels = torch.randn(BATCH, 3, 32, 32)[share].to(device), torch.randint(0, 10, (BATCH,))[share].to(device)
    network = Network(load("cnn/darts_v2"), auxiliary=True).to(device)
    network.drop_path = 0.1
    optimizer = torch.optim.SGD(network.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay)
    return lambda: training_step(network, optimizer, config, images, labels, (BATCH, share))


ROWS = {
    "search-cnn-first": lambda device: search_cnn(device, unrolled=False),
    "search-cnn-second": lambda device: search_cnn(device, unrolled=True),
    "train-cnn": train_cnn,
}


def main(names: list[str]) -> None:
    device = prepare("auto")
    for name in names or ROWS:
        torch.manual_seed(0)
        step = ROWS[name](device)
        step()
        seconds = []
        before = dict(distributed.communicated)
        for _ in range(REPEATS):
            distributed.wait()
            start = time.perf_counter()
            step()
            distributed.wait()
            seconds.append(time.perf_counter() - start)
        if distributed.rank() == 0:
            sent, calls = ((distributed.communicated[key] - before[key]) / REPEATS for key in ("bytes", "calls"))
            row = (name, distributed.ranks(), f"{statistics.median(seconds):.2f} s", f"{sent / 1e6:.1f} MB", f"{calls:.0f}")
            print("| " + " | ".join(map(str, row)) + " |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
