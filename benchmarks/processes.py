"""Strong scaling: the seconds of a step, and the bytes a process puts into collectives, with the batch shared by the processes.

    torchrun --nproc-per-node 2 -m benchmarks.processes search-cnn-first train-cnn

The batch is that of all processes together; without torchrun it is one process.
"""

import statistics
import sys
import time

import torch

from darts_cli.architect import Architect, constant
from darts_cli.cnn.model import Network, SearchNetwork
from darts_cli.cnn.search import loss_function
from darts_cli.cnn.train import training_step
from darts_cli.config import TrainCNN
from darts_cli.genotype import load
from darts_cli.runtime import device, distributed

BATCH, REPEATS = 64, 5


def search_cnn(where: torch.device, unrolled: bool):
    own = distributed.share(BATCH)
    images, labels = torch.randn(BATCH, 3, 32, 32)[own].to(where), torch.randint(0, 10, (BATCH,))[own].to(where)
    network = SearchNetwork(16, 10, 8).to(where)
    weights, alphas = network.weights(), list(network.alphas.values())
    w_optimizer, alpha_optimizer = torch.optim.SGD(weights, 0.025, 0.9, weight_decay=3e-4), torch.optim.Adam(alphas, 3e-4)
    loss, more = loss_function(network, where, "fp32"), {"buffers": network.buffers(), "average": distributed.average}
    architect = Architect(loss, weights, alphas, w_optimizer, alpha_optimizer, unrolled=unrolled, **more)

    def step() -> None:
        architect.step((images, labels), (images, labels))
        w_optimizer.zero_grad()
        with constant(alphas):
            of_batch = loss((images, labels))[0]
        of_batch.backward()
        distributed.average_gradients(weights)
        w_optimizer.step()

    return step


def train_cnn(where: torch.device):
    own, config = distributed.share(BATCH), TrainCNN(batch_size=BATCH)
    images, labels = torch.randn(BATCH, 3, 32, 32)[own].to(where), torch.randint(0, 10, (BATCH,))[own].to(where)
    network = Network(load("cnn/darts_v2"), auxiliary=True).to(where)
    network.drop_path, network.share = 0.1, (BATCH, own)
    parallel = distributed.parallel(network)
    optimizer = torch.optim.SGD(network.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay)
    return lambda: training_step(parallel, optimizer, config, images, labels, BATCH)


ROWS = {
    "search-cnn-first": lambda where: search_cnn(where, unrolled=False),
    "search-cnn-second": lambda where: search_cnn(where, unrolled=True),
    "train-cnn": train_cnn,
}


def main(names: list[str]) -> None:
    where = device.prepare("auto")
    for name in names or ROWS:
        torch.manual_seed(0)
        step = ROWS[name](where)
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
