"""One side of one row in a process of its own: a step, and its seconds, for every line it is sent."""

import json
import resource
import sys
import time

import torch

from benchmarks.rows import ROWS, SCALING, Work
from darts_cli.runtime import device


def main(row: str, side: str, options: str) -> None:
    settings = json.loads(options)
    function, arguments, quick = (ROWS | SCALING)[row]
    where = torch.device(settings["device"])
    if side == "ours":
        device.keep_memory()
    torch.manual_seed(0)
    step = function(side, where, settings["precision"], **arguments | (quick if settings["quick"] else {}))
    for _ in range(settings["warm_up"]):
        step()
    print("ready", flush=True)
    for _ in sys.stdin:
        print(timed(step, where), flush=True)
    print(_peak(where), flush=True)


def timed(step: Work, where: torch.device) -> float:
    """The seconds of a step: on CUDA between two events of the device."""
    if where.type != "cuda":
        start = time.perf_counter()
        step()
        return time.perf_counter() - start
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    step()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000


def _peak(where: torch.device) -> float:
    """Bytes: of the process, or of the device."""
    if where.type == "cuda":
        return torch.cuda.max_memory_allocated(where)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main(*sys.argv[1:])
