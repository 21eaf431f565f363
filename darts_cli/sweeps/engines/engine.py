"""Where the runs of a sweep work: what the pool asks of an engine, and the process that every engine starts for a run."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

# Of a run, by its name: a line that it printed or, when it has ended, its exit code, which is None where its machine was lost.
Event = tuple[str, str | int | None]

# Starts a module of this very package, whose folder is the last argument. Files in the working folder are not its modules.
WORKER = """import importlib, sys
root, module = sys.argv.pop(), sys.argv.pop()
sys.path[:] = filter(None, sys.path)
root in sys.path or sys.path.insert(0, root)
importlib.import_module(module).main()"""


class Engine(Protocol):
    """Starts a worker for each run, on this machine or on others."""

    at_a_time: int  # runs that work side by side

    def room(self) -> bool:
        """Whether another run may be started now."""

    def start(self, name: str, job: dict) -> None:
        """Start a run. The job is what its worker reads; the engine replaces the device in its settings."""

    def events(self, seconds: float) -> list[Event]:
        """What has happened; waits that long for something to happen."""

    def stop(self, at_once: bool) -> None:
        """Ask all runs to save and stop, or end them at once. Their ends are events."""

    def close(self) -> None:
        """Let the runs that still work save and stop, and wait for them."""


class Worker:
    """The process of a run. It gets its job on stdin. When its stdin ends, as whoever started it is gone, it saves and stops.

    threads    on the CPU; None: as many as it likes
    folder     where it runs; None: here
    session    whether signals to the terminal or process group of whoever starts it leave it alone
    """

    def __init__(self, job: dict, threads: int | None = None, folder: str | None = None, session: bool = True):
        outputs = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        self.process = process_of("darts_cli.sweeps.worker", job, threads, **outputs, cwd=folder, start_new_session=session)

    def lines(self) -> Iterator[str]:
        """What it prints on stderr, until it ends."""
        with io.TextIOWrapper(self.process.stderr, errors="replace") as lines:
            for line in lines:
                yield line.rstrip()

    def stop(self, at_once: bool = False) -> None:
        """Ask it to save and stop, or end it at once."""
        self.process.send_signal(signal.SIGKILL if at_once else signal.SIGTERM)

    def end(self) -> int:
        """Wait for its end; returns the exit code."""
        code = self.process.wait()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        return code


def process_of(module: str, job: dict, threads: int | None, **options) -> subprocess.Popen:
    """A process that calls `main` of a module of this package, with the job in the first line of its stdin.

    threads    on the CPU; None: as many as it likes
    options    of Popen
    """
    command = [sys.executable, "-c", WORKER, module, str(Path(__file__).parents[3])]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"} | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
    process = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, **options)
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(json.dumps(job).encode() + b"\n")
        process.stdin.flush()
    return process
