"""One sub-run, in a process of its own, which jobs.py starts and tells on stdin what to do."""

import contextlib
import importlib
import io
import json
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch

from darts_cli import DartsError, files
from darts_cli.genotype import Genotype
from darts_cli.runs.history import CONFIGS
from darts_cli.runs.run import Run
from darts_cli.runtime.nonfinite import Anomaly, NotFinite
from darts_cli.schema import Config
from darts_cli.text import out_of_memory, printable

MEASURED = "measured.json"
NOT_FINITE = 3  # exit code: a number was no longer finite
STEPS = 3  # that are measured, after a first one


class _SubRun(Run):
    """A sub-run that no command of its own repeats, only that of the whole."""

    def __init__(self, *args, repeat: str):
        super().__init__(*args)
        self.whole = repeat

    def repeat(self) -> str:
        return self.whole


class _Enough(Exception):
    pass


class _Measured(Run):
    """A run that saves nothing and ends after a few steps, of which it keeps the times, or after its first epoch."""

    def __init__(self, *args):
        super().__init__(*args)
        self.times: list[float] = [time.monotonic()]
        self.step, self.size = 0, 0  # how many steps were done; bytes of a checkpoint

    def checkpoint(self, progress: dict, parts: dict) -> None:
        if self.step == progress["step"] or progress["epoch"]:  # in the evaluation of the epoch, or behind it
            self._measure(parts)
        self.times.append(time.monotonic())
        self.step = progress["step"]
        if self.step > STEPS:
            self._measure(parts)

    def _measure(self, parts: dict) -> None:
        buffer = io.BytesIO()
        torch.save({name: part.state_dict() for name, part in parts.items()}, buffer)
        self.size = buffer.tell()
        raise _Enough

    def seconds_a_step(self) -> float:
        """Without the first one, which is slower, where there are others."""
        times = self.times[1:] if len(self.times) > 2 else self.times
        return (times[-1] - times[0]) / (len(times) - 1)

    def save(self, progress: dict, parts: dict, name: str = "checkpoint.pt") -> None:
        pass


def _work(task: dict) -> None:
    stage, domain = task["command"].split()
    config = CONFIGS[task["command"]].from_dict(task["settings"])
    genotype = task["genotype"] and Genotype.from_dict(task["genotype"])
    folder = Path(task["folder"])

    def do(run: Run) -> None:
        if stage == "search":
            importlib.import_module(f"darts_cli.{domain}.search").search(config, run, task["quiet"])
        else:
            module = importlib.import_module(f"darts_cli.{domain}.train")
            module.train(genotype, config, run, task["quiet"], test=stage != "select")

    if not task["measure"]:
        make = _SubRun if stage == "select" else Run
        more = {"repeat": task["repeat"]} if stage == "select" else {}
        do(make(task["command"], config, folder, genotype, **more))
        return
    with tempfile.TemporaryDirectory() as temporary:
        run = _Measured(task["command"], config, temporary, genotype)
        with contextlib.suppress(_Enough):
            do(run)
    folder.mkdir(parents=True, exist_ok=True)
    measured = {"seconds_a_step": run.seconds_a_step(), "steps": _steps(domain, config), "bytes": run.size}
    files.write(folder / MEASURED, json.dumps(measured))


def _steps(domain: str, config: Config) -> int:
    """About how many steps an epoch has."""
    whole = importlib.import_module(f"darts_cli.{domain}.data").load(config.dataset, config.data)
    if domain == "cnn":
        return max(1, round(len(whole.labels) * config.train_portion / config.batch_size))
    return max(1, len(whole.train) // config.batch_size // config.bptt)


def _follow_parent() -> None:
    """Stop as if asked to when the process that started this one is gone."""
    with contextlib.suppress(OSError):
        os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Do the job that a line on stdin describes."""
    task = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_follow_parent, daemon=True).start()
    try:
        _work(task)
    except DartsError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        sys.exit(NOT_FINITE if isinstance(error, NotFinite | Anomaly) else error.exit_code)
    except (MemoryError, RuntimeError) as error:
        message = out_of_memory(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        sys.exit(1)
