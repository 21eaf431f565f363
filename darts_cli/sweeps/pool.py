"""Sub-runs: run folders below that of a whole, worked on several at a time, each in a process of its own.

A process is told on stdin what to do; when its stdin ends, because whoever started it is gone, it saves and stops. What it says
on stderr is passed on, a prefix before every line. All of them hold the lock of the folder of the whole, so that nobody else
begins there while one of them is still saving.
"""

import contextlib
import io
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from darts_cli import DartsError
from darts_cli.genotype import Genotype
from darts_cli.runs import history, signals
from darts_cli.runs.lock import alive, locked
from darts_cli.schema import Config
from darts_cli.sweeps.worker import MEASURED, NOT_FINITE
from darts_cli.text import harmless, printable, tell

DIVERGED = "diverged: a number is no longer finite"  # what is kept; where depends on when one looked, so that is only said
# A worker of this same program; what lies in the folder that it works in is no module of it.
BEGIN = """import sys
root = sys.argv.pop()
sys.path[:] = filter(None, sys.path)
root in sys.path or sys.path.insert(0, root)
from darts_cli.sweeps.worker import main
main()"""
THREADS = 4  # of the CPU, for each sub-run that `auto` starts


@dataclass(frozen=True)
class Job:
    """One sub-run: what to do in the folder of that name below the whole's, and whether only a few steps, to measure them."""

    name: str
    command: str  # such as "search cnn"; "select" is a training that leaves the test part closed
    config: Config
    genotype: Genotype | None = None
    measure: bool = False

    def done(self, whole: Path) -> bool:
        """Whether it is complete, told by its files alone; a run that lacks some of them writes them again."""
        folder = whole / self.name
        return (folder / MEASURED).exists() if self.measure else history.complete(folder)


class Crew:
    """Does jobs below the folder of a whole, `parallel` at a time; a context manager that holds the folder and takes signals.

    Ctrl-C, SIGTERM and a terminal that closes let the sub-runs save and stop; a second Ctrl-C or SIGTERM ends them at once.
    """

    def __init__(self, folder: Path, repeat: str, parallel: str | int, device: str, quiet: bool):
        self.folder, self.repeat, self.quiet = folder, repeat, quiet
        self.devices, self.threads = _places(parallel, device)
        self.processes: dict[int, subprocess.Popen] = {}  # by place
        self.ended: queue.SimpleQueue[tuple[int, Job, str]] = queue.SimpleQueue()
        self.signal: int | None = None
        self.waiting = self.killed = False
        self.stack = contextlib.ExitStack()

    def __enter__(self) -> "Crew":
        with contextlib.ExitStack() as stack:
            self.lock = stack.enter_context(locked(self.folder, patient=self._left_behind))
            stack.callback(self._end)
            stack.enter_context(signals.noted(self._note))
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *_) -> None:
        self.stack.close()

    def _left_behind(self, holder: str) -> bool:
        """Whether the holder was killed and only its sub-runs hold the folder, which save and stop."""
        if alive(holder):
            return False
        if not self.waiting:
            self.say(f"{self.folder}: {holder} is gone; waiting until its sub-runs have saved")
        self.waiting = True
        return True

    def say(self, line: str) -> None:
        if not self.quiet:
            tell(line)

    def run(self, jobs: Sequence[Job]) -> dict[str, str]:
        """Do the jobs that are not done yet; returns the reason of each that failed, by its name.

        Raises DartsError when interrupted.
        """
        waiting = [job for job in jobs if not job.done(self.folder)]
        failed: dict[str, str] = {}
        while self.processes or (waiting and not self.signal):
            for place in range(len(self.devices)):
                if waiting and not self.signal and place not in self.processes:
                    self._start(place, waiting.pop(0))
            try:
                place, job, last = self.ended.get(timeout=0.5)
            except queue.Empty:
                continue
            process = self.processes.pop(place)
            code = process.wait()
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            if code in {number for each in signals.STOPS for number in (-each, 128 + each)}:
                if self.signal is None:  # somebody stopped this one: all are meant
                    self._note(abs(code) % 128)
            elif code and not self.killed:
                reason = _reason(code, last)
                failed[job.name] = DIVERGED if code == NOT_FINITE else reason
                if not job.measure:
                    tell(f"{job.name} failed: {reason}")
        if self.signal:
            how = " at once; from the last checkpoints" if self.killed else "; all is saved,"
            name = signal.Signals(self.signal).name
            raise DartsError(f"stopped by {name}{how} the same command goes on: {self.repeat}", 128 + self.signal)
        return failed

    def _start(self, place: int, job: Job) -> None:
        task = {
            "command": job.command,
            "settings": replace(job.config, device=self.devices[place]).to_dict(),
            "genotype": job.genotype and job.genotype.to_dict(),
            "folder": str(self.folder / job.name),
            "measure": job.measure,
            "quiet": self.quiet,
            "repeat": self.repeat,
        }
        threads = {"OMP_NUM_THREADS": str(self.threads)} if len(self.devices) > 1 else {}
        process = subprocess.Popen(
            [sys.executable, "-c", BEGIN, str(Path(__file__).parents[2])],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONUNBUFFERED": "1"} | threads,
            pass_fds=[self.lock.fileno()] if os.name == "posix" else (),
            start_new_session=True,  # the terminal's Ctrl-C comes here alone, and is passed on once
        )
        self.processes[place] = process
        if self.signal is not None:  # came while the process began, and so did not reach it
            process.send_signal(signal.SIGTERM)
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(task).encode() + b"\n")
            process.stdin.flush()
        threading.Thread(target=self._follow, args=(place, job, process), daemon=True).start()

    def _follow(self, place: int, job: Job, process: subprocess.Popen) -> None:
        """Pass on what the process says until it ends."""
        last = ""
        with io.TextIOWrapper(process.stderr, errors="replace") as lines:
            for line in lines:
                last = line.strip() or last
                if not (line.startswith("error: ") or job.measure):  # told once, by `run`, or never if it was stopped
                    self.say(f"{job.name}: {harmless(line.rstrip())}")
        self.ended.put((place, job, last))

    def _note(self, number: int) -> None:
        first, self.signal = self.signal is None, self.signal or number
        if not first and signal.Signals(number).name == "SIGHUP":  # which a terminal that closes may send twice
            return
        self.killed = not first
        for process in list(self.processes.values()):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM if first else signal.SIGKILL)

    def _end(self) -> None:
        for process in self.processes.values():  # after an error here; they save and stop
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        for process in self.processes.values():
            process.wait()


def _places(parallel: str | int, device: str) -> tuple[list[str], int]:
    """The device of every sub-run that runs at the same time, and the number of CPU threads for each."""
    cuda = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    threads = torch.get_num_threads()
    if parallel == "auto":
        parallel = cuda or (max(1, threads // THREADS) if device in ("auto", "cpu") else 1)
    devices = [f"cuda:{i % cuda}" if cuda > 1 else device for i in range(int(parallel))]
    return devices, max(1, threads // len(devices))


def _reason(code: int, last: str) -> str:
    """Why a process failed."""
    killed = f"killed by {signal.Signals(-code).name}, perhaps for want of memory" if code < 0 else ""
    return killed or printable(last).removeprefix("error: ") or f"exit code {code}"
