"""The runs of a sweep, several at a time, each in a process of its own.

A process gets its job on stdin. When its stdin ends, because the process that started it is gone, it saves and stops. Its lines
on stderr are passed on with a prefix.
"""

import contextlib
import io
import json
import os
import queue
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from darts_cli import Stopped
from darts_cli.genotype import Genotype
from darts_cli.runs import history, signals
from darts_cli.runs.display import terminal
from darts_cli.runs.lock import locked
from darts_cli.runs.task import Task
from darts_cli.schema import Config
from darts_cli.sweeps.worker import MEASURED, NOT_FINITE
from darts_cli.text import counted, duration, harmless, printable, tell

DIVERGED = "diverged: a number is no longer finite"  # stored; the step is only printed, as it depends on when one looked
# Starts a module of this very package, whose folder is the last argument. Files in the working folder are not its modules.
WORKER = """import importlib, sys
root, module = sys.argv.pop(), sys.argv.pop()
sys.path[:] = filter(None, sys.path)
root in sys.path or sys.path.insert(0, root)
importlib.import_module(module).main()"""
AUTO_THREADS = 4  # CPU threads for each run that `auto` starts


@dataclass(frozen=True)
class Job:
    """A run in the folder of that name below the sweep's, or a measurement of a few of its steps."""

    name: str
    task: Task
    config: Config
    genotype: Genotype | None = None
    measure: bool = False

    def done(self, sweep: Path) -> bool:
        """Whether all its files are there. A finished run that lacks some writes them again."""
        folder = sweep / self.name
        return (folder / MEASURED).exists() if self.measure else history.complete(folder)


class Pool:
    """Works on jobs below the folder of a sweep; a context manager that locks the folder and takes signals.

    Ctrl-C, SIGTERM and a closing terminal let the runs save and stop; a second Ctrl-C or SIGTERM ends them at once.
    """

    def __init__(self, folder: Path, repeat: str, parallel: str | int, device: str, quiet: bool):
        self.folder, self.repeat, self.quiet = folder, repeat, quiet
        self.board = Board(quiet)
        self.devices, self.threads = devices(parallel, device)
        self.processes: dict[int, subprocess.Popen] = {}  # by index into devices
        self.ended: queue.SimpleQueue[tuple[int, Job, str]] = queue.SimpleQueue()
        self.signal: int | None = None
        self.killed = False
        self.stack = contextlib.ExitStack()

    def __enter__(self) -> "Pool":
        with contextlib.ExitStack() as stack:
            stack.enter_context(locked(self.folder))
            stack.callback(self._stop)
            stack.enter_context(signals.noted(self._note))
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *_) -> None:
        self.stack.close()

    def say(self, line: str) -> None:
        self.board.say(line)

    def run(self, jobs: Sequence[Job]) -> dict[str, str]:
        """Do the unfinished jobs; returns the reason of each that failed, by its name. Raises Stopped when interrupted."""
        waiting = [job for job in jobs if not job.done(self.folder)]
        failed: dict[str, str] = {}
        with self.board.over(len(jobs), len(jobs) - len(waiting)):
            while self.processes or (waiting and not self.signal):
                for index in range(len(self.devices)):
                    if waiting and not self.signal and index not in self.processes:
                        self._start(index, waiting.pop(0))
                with contextlib.suppress(queue.Empty):
                    self._finish(*self.ended.get(timeout=0.5), failed)
        if self.signal:
            state = "stopped at once; the checkpoints stay" if self.killed else "the state is saved"
            name = signal.Signals(self.signal).name
            raise Stopped(f"stopped by {name}; {state}", self.repeat, 128 + self.signal)
        return failed

    def _start(self, index: int, job: Job) -> None:
        content = {
            "task": job.task,
            "settings": replace(job.config, device=self.devices[index]).to_dict(),
            "genotype": job.genotype and job.genotype.to_dict(),
            "folder": str(self.folder / job.name),
            "measure": job.measure,
            "quiet": self.quiet,
            "sweep": self.repeat,
        }
        threads = {"OMP_NUM_THREADS": str(self.threads)} if len(self.devices) > 1 else {}
        process = subprocess.Popen(
            worker_command("darts_cli.sweeps.worker"),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONUNBUFFERED": "1"} | threads,
            start_new_session=True,  # Ctrl-C reaches only this process, which passes it on once
        )
        self.processes[index] = process
        self.board.started(job.name)
        if self.signal is not None:  # it came while the process started, and so did not reach it
            process.send_signal(signal.SIGTERM)
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(content).encode() + b"\n")
            process.stdin.flush()
        threading.Thread(target=self._follow, args=(index, job, process), daemon=True).start()

    def _follow(self, index: int, job: Job, process: subprocess.Popen) -> None:
        """Pass on the lines of a process until it ends."""
        last = ""
        with io.TextIOWrapper(process.stderr, errors="replace") as lines:
            for line in lines:
                last = line.strip() or last
                if not (line.startswith("error: ") or job.measure):  # `_finish` prints the errors
                    self.board.line(job.name, harmless(line.rstrip()))
        self.ended.put((index, job, last))

    def _finish(self, index: int, job: Job, last: str, failed: dict[str, str]) -> None:
        process = self.processes.pop(index)
        code = process.wait()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        self.board.ended(job.name)
        if code in {number for stop in signals.STOPS for number in (-stop, 128 + stop)}:
            if self.signal is None:  # somebody stopped this run: stop the sweep
                self._note(abs(code) % 128)
        elif code and not self.killed:
            why = reason(code, last)
            failed[job.name] = DIVERGED if code == NOT_FINITE else why
            if not job.measure:
                self.board.say(f"{job.name} failed: {why}", error=True)

    def _note(self, number: int) -> None:
        first, self.signal = self.signal is None, self.signal or number
        if not first and signal.Signals(number).name == "SIGHUP":  # a closing terminal may send it twice
            return
        self.killed = not first
        for process in list(self.processes.values()):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM if first else signal.SIGKILL)

    def _stop(self) -> None:
        """After an error here: let the runs save and stop."""
        for process in self.processes.values():
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        for process in self.processes.values():
            process.wait()


class Board:
    """What the runs of a pool say: on a terminal a row for each that works and a bar for all, elsewhere every line."""

    def __init__(self, quiet: bool):
        self.quiet = quiet
        self.console, self.animated = terminal(quiet)
        self.live: Live | None = None
        self.rows: dict[str, tuple[float, str]] = {}  # of the runs that work: when it started, and its newest line
        self.lasted: list[float] = []  # seconds of the runs that have ended here
        self.total = self.done = 0

    @contextlib.contextmanager
    def over(self, total: int, done: int) -> Iterator[None]:
        """Inside, that many runs are worked on, of which some are done already."""
        self.total, self.done, self.lasted = total, done, []
        if not self.animated or total == done:
            yield
            return
        with Live(get_renderable=self._drawn, console=self.console, transient=True) as self.live:
            try:
                yield
            finally:
                self.live = None

    def say(self, line: str, error: bool = False) -> None:
        """Print a line that stays."""
        live = self.live
        if live:
            live.console.print(Text(line))
        elif error or not self.quiet:
            tell(line)

    def started(self, name: str) -> None:
        self.rows[name] = (time.monotonic(), "starting")

    def line(self, name: str, line: str) -> None:
        """A line of a run. On a terminal it stays only while it is the newest."""
        if self.live and name in self.rows:
            self.rows[name] = (self.rows[name][0], line) if line.startswith(("epoch ", "finishing ")) else self.rows[name]
        else:
            self.say(f"{name}: {line}")

    def ended(self, name: str) -> None:
        started, line = self.rows.pop(name)
        self.lasted.append(time.monotonic() - started)
        self.done += 1
        if self.live and line.startswith("epoch "):
            self.say(f"{name}: {line}")

    def _drawn(self) -> Group:
        now, rows = time.monotonic(), list(self.rows.items())
        width = max((len(name) for name, _ in rows), default=0)
        lines = [f"{name:{width}}  {duration(now - started):>6}  {line}" for name, (started, line) in rows]
        facts = f"  {self.done} of {counted(self.total, 'run')} done"
        if self.lasted:
            spent = sum(now - started for _, (started, _) in rows)
            seconds = max(0.0, statistics.mean(self.lasted) * (self.total - self.done) - spent)
            facts += f", about {duration(seconds / max(1, len(rows)))} left"
        bar = ProgressBar(self.total, self.done, width=40)
        return Group("", *(Text(line, overflow="ellipsis", no_wrap=True) for line in lines), bar, Text(facts))


def worker_command(module: str) -> list[str]:
    """The command that calls `main` of a module of this package in a process of its own."""
    return [sys.executable, "-c", WORKER, module, str(Path(__file__).parents[2])]


def devices(parallel: str | int, device: str) -> tuple[list[str], int]:
    """The device of every run that runs at the same time, and the number of CPU threads for each."""
    cuda = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    threads = torch.get_num_threads()
    if parallel == "auto":
        parallel = cuda or (max(1, threads // AUTO_THREADS) if device in ("auto", "cpu") else 1)
    names = [f"cuda:{i % cuda}" if cuda > 1 else device for i in range(int(parallel))]
    return names, max(1, threads // len(names))


def reason(code: int, last: str) -> str:
    """Why a process failed."""
    killed = f"killed by {signal.Signals(-code).name}, possibly out of memory" if code < 0 else ""
    return killed or printable(last).removeprefix("error: ") or f"exit code {code}"
