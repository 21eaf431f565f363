"""What search methods cost: seconds of a first-order step and peak memory, each in a process of its own.

python -m benchmarks.methods                     all methods at the published size: 16 channels, 8 cells, batch 64
python -m benchmarks.methods pc-darts:256 gdas   these; :256 is another batch size
"""

import resource
import statistics
import subprocess
import sys
import time

import torch

from darts_cli.cnn.model import SearchNetwork
from darts_cli.cnn.search import Batch, make_architect, search_step
from darts_cli.config import SearchCNN
from darts_cli.methods.catalogue import METHODS
from darts_cli.methods.method import parse
from darts_cli.methods.value import Step

REPEATS = 3
EPOCH = 30  # after every warm-up


def measure(name: str, batch_size: int) -> None:
    """Print a row: method, batch, median seconds of a step and per image, peak memory in GB."""
    torch.manual_seed(0)
    config = SearchCNN(method=name, device="cpu")
    network = SearchNetwork(16, 10, 8, space=config.searched, method=parse(name))
    network.added = network.method.added(Step(EPOCH, 50, 0, 0))
    architect, relaxation = make_architect(network, config, torch.device("cpu"))
    batch = Batch(torch.randn(batch_size, 3, 32, 32), torch.randint(0, 10, (batch_size,)))
    seconds = []
    for number in range(REPEATS + 1):
        start = time.perf_counter()
        search_step(architect, relaxation, Step(EPOCH, 50, 0, number), batch, batch, config.grad_clip)
        seconds.append(time.perf_counter() - start)
    step = statistics.median(seconds[1:])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # kilobytes on Linux
    print(f"| `{name}` | {batch_size} | {step:.2f} s | {1000 * step / batch_size:.0f} ms | {peak:.2f} GB |", flush=True)


def main(names: list[str]) -> None:
    for name in names or METHODS:
        method, _, batch_size = name.partition(":")
        subprocess.run([sys.executable, "-m", "benchmarks.methods", "--one", method, batch_size or "64"], check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        measure(sys.argv[2], int(sys.argv[3]))
    else:
        main(sys.argv[1:])
