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
from darts_cli.cnn.step import Batch, make_architect, search_step
from darts_cli.config import SearchCNN
from darts_cli.methods.catalogue import METHODS
from darts_cli.methods.method import parse
from darts_cli.methods.stages import narrowed
from darts_cli.methods.value import Step

REPEATS = 3
CHANNELS, LAYERS = 16, 8  # as published, but of methods with a recipe for the depth


def measure(name: str, batch_size: int) -> None:
    """Print a row: method, batch, median seconds of a step and per image, peak memory in GB; of a method with stages a row for
    each, which are in one process, so that their peaks are those so far."""
    config = SearchCNN(method=name, device="cpu")
    method = parse(name)
    stages = method.stages(config.epochs)
    for number, stage in enumerate(stages, 1):
        torch.manual_seed(0)
        space = config.searched
        if stage.keep is not None:
            table = torch.rand(len(space.edges()), len(space.choices("normal")[0])).tolist()
            space = narrowed(space, dict.fromkeys(space.cells, table), stage.keep)
        layers = (config.layers if "deepen" in config.spec.parts else LAYERS) + stage.cells
        network = SearchNetwork(CHANNELS, 10, layers, space=space, method=stage.method(method), recompute=config.recompute)
        step = time_step(network, config, batch_size, stage.end - 1)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # kilobytes on Linux
        label = f"`{name}`" + (f", stage {number} ({layers} cells)" if len(stages) > 1 else "")
        print(f"| {label} | {batch_size} | {step:.2f} s | {1000 * step / batch_size:.0f} ms | {peak:.2f} GB |", flush=True)


def time_step(network: SearchNetwork, config: SearchCNN, batch_size: int, epoch: int) -> float:
    """The median seconds of a step in an epoch, after a first step."""
    network.added = network.method.added(Step(epoch, config.epochs, 0, 0))
    architect, relaxation = make_architect(network, config, torch.device("cpu"))
    batch = Batch(torch.randn(batch_size, 3, 32, 32), torch.randint(0, 10, (batch_size,)))
    seconds = []
    for number in range(REPEATS + 1):
        start = time.perf_counter()
        search_step(architect, relaxation, Step(epoch, config.epochs, 0, number), batch, batch, config.grad_clip)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def main(names: list[str]) -> None:
    for name in names or METHODS:
        method, _, batch_size = name.partition(":")
        subprocess.run([sys.executable, "-m", "benchmarks.methods", "--one", method, batch_size or "64"], check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        measure(sys.argv[2], int(sys.argv[3]))
    else:
        main(sys.argv[1:])
