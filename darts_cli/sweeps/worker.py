"""One run of a sweep, in a process of its own. The pool starts it and sends it the job on stdin."""

import importlib
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from darts_cli import DartsError, files
from darts_cli.genotype import Genotype
from darts_cli.runs import checkpoint
from darts_cli.runs.run import Run
from darts_cli.runs.state import State
from darts_cli.runs.task import Task
from darts_cli.runtime.nonfinite import Anomaly, NotFinite
from darts_cli.schema import Config
from darts_cli.sweeps.sweep import load_data
from darts_cli.text import out_of_memory, printable

MEASURED = "measured.json"
NOT_FINITE = 3  # exit code
STEPS = 3  # that a probe measures, after a first one


class Probe(State):
    """The state of a run that stops after a few steps, or when its first evaluation starts, as if it had been asked to."""

    def __init__(self, *args):
        super().__init__(*args)
        self.times = [time.monotonic()]  # after each step
        self.steps_done = 0
        self.enough = False  # whether the probe stopped itself

    def checkpoint(self, state: Callable[[], dict]) -> None:
        step = state()["step"]
        if step > self.steps_done:
            self.times.append(time.monotonic())
        if self.signal is None and (step == self.steps_done or step > STEPS):
            self.signal, self.enough = signal.SIGTERM, True
        self.steps_done = step
        super().checkpoint(state)

    def seconds_per_step(self) -> float:
        """Without the first step, which is slower, if there are others."""
        times = self.times[1:] if len(self.times) > 2 else self.times
        return (times[-1] - times[0]) / (len(times) - 1)


def _work(job: dict) -> None:
    task = Task(*job["task"])
    config = task.config.from_dict(job["settings"])
    genotype = job["genotype"] and Genotype.from_dict(job["genotype"])
    folder = Path(job["folder"])
    if not job["measure"]:
        return execute(Run(task, config, folder, genotype, sweep=job["sweep"]), job["quiet"])
    with tempfile.TemporaryDirectory() as temporary:
        run = Run(task, config, temporary, genotype)
        run.state = probe = Probe(run.identity, run.reports, run.identity.resume())
        try:
            execute(run, job["quiet"])
        except DartsError:
            if not probe.enough:
                raise
        size = (Path(temporary) / checkpoint.NEWEST).stat().st_size
    folder.mkdir(parents=True, exist_ok=True)
    measured = {"seconds_per_step": probe.seconds_per_step(), "steps": steps(task, config), "bytes": size}
    files.write(folder / MEASURED, json.dumps(measured))
    return None


def execute(run: Run, quiet: bool) -> None:
    """Search or train in that run folder."""
    stage, domain, _ = run.task
    if stage == "search":
        importlib.import_module(f"darts_cli.{domain}.search").search(run.config, run, quiet)
    else:
        train = importlib.import_module(f"darts_cli.{domain}.train").train
        train(run.genotype, run.config, run, quiet, test=stage != "select")


def steps(task: Task, config: Config) -> int:
    """About how many steps an epoch has."""
    dataset = load_data(task.domain, config)
    if task.domain == "cnn":
        images = min(len(dataset.labels), config.max_images or len(dataset.labels)) * (config.subset or 1)
        return max(1, round(images * config.train_portion / config.batch_size))
    return max(1, len(dataset.train) // config.batch_size // config.bptt)


def _follow_parent() -> None:
    """Stop, as if asked to, when the process that started this one is gone."""
    with open(0, "rb", buffering=0, closefd=False) as stdin:
        stdin.read(1)
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Do the job in the first line of stdin."""
    serve(_work)


def serve(work: Callable[[dict], None]) -> None:
    """Do the job in the first line of stdin; an error ends the process with one line and an exit code."""
    job = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_follow_parent, daemon=True).start()
    try:
        work(job)
    except DartsError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        sys.exit(NOT_FINITE if isinstance(error, NotFinite | Anomaly) else error.exit_code)
    except (MemoryError, RuntimeError) as error:
        message = out_of_memory(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        sys.exit(1)
