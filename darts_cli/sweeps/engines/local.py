"""The engine of this machine: some processes at a time, which share its GPUs or the threads of its CPU."""

import contextlib
import queue
import threading

import torch

from darts_cli.sweeps.engines.engine import Event, Worker

AUTO_THREADS = 4  # CPU threads for each run that `auto` starts


class Local:
    """`--engine local`."""

    def __init__(self, parallel: str | int, device: str):
        self.free, threads = devices(parallel, device)
        self.at_a_time = len(self.free)
        self.threads = threads if self.at_a_time > 1 else None
        self.working: dict[str, tuple[str, Worker]] = {}  # by name: the device, and the process
        self.queue: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def room(self) -> bool:
        return bool(self.free)

    def start(self, name: str, job: dict) -> None:
        device = self.free.pop(0)
        worker = Worker(job | {"settings": job["settings"] | {"device": device}}, self.threads)
        self.working[name] = device, worker
        threading.Thread(target=self._follow, args=(name, worker), daemon=True).start()

    def _follow(self, name: str, worker: Worker) -> None:
        for line in worker.lines():
            self.queue.put((name, line))
        self.queue.put((name, worker.end()))

    def events(self, seconds: float) -> list[Event]:
        with contextlib.suppress(queue.Empty):
            name, what = self.queue.get(timeout=seconds)
            if not isinstance(what, str):
                device, _ = self.working.pop(name)
                self.free.append(device)
            return [(name, what)]
        return []

    def stop(self, at_once: bool) -> None:
        for _, worker in self.working.values():
            worker.stop(at_once)

    def close(self) -> None:
        self.stop(at_once=False)
        for _, worker in self.working.values():
            worker.end()


def devices(parallel: str | int, device: str, cuda: int | None = None) -> tuple[list[str], int]:
    """The device of every run that works on a machine at the same time, and the number of CPU threads for each.

    cuda    GPUs of the machine; by default of this one
    """
    if device not in ("auto", "cuda"):
        cuda = 0
    elif cuda is None:
        cuda = torch.cuda.device_count()
    threads = torch.get_num_threads()
    if parallel == "auto":
        parallel = cuda or (max(1, threads // AUTO_THREADS) if device in ("auto", "cpu") else 1)
    names = [f"cuda:{i % cuda}" if cuda > 1 else device for i in range(int(parallel))]
    return names, max(1, threads // len(names))
