"""One run, or a measurement of one, in a process of its own, which gets its job on stdin."""

import contextlib
import importlib
import json
import math
import os
import signal
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

from darts_cli import DartsError, files
from darts_cli.genotype import Genotype
from darts_cli.runs.run import Run
from darts_cli.runs.task import Task
from darts_cli.runtime.nonfinite import Anomaly, NotFinite
from darts_cli.schema import Config
from darts_cli.sweeps.probe import Enough, Probe
from darts_cli.text import out_of_memory, printable

MEASURED = "measured.json"
NOT_FINITE = 3  # exit code


def _work(job: dict) -> None:
    task = Task(*job["task"])
    config = task.config.from_dict(job["settings"])
    genotype = job["genotype"] and Genotype.from_dict(job["genotype"])
    folder = Path(job["folder"])
    if job["measure"]:
        measured = _measure(task, config, genotype, job["measure"])
        folder.mkdir(parents=True, exist_ok=True)
        files.write(folder / MEASURED, json.dumps(measured))
    else:
        execute(Run(task, config, folder, genotype, sweep=job["sweep"]), job["quiet"])


def _measure(task: Task, config: Config, genotype: Genotype | None, job: dict) -> dict:
    """What a probe measures, in a temporary folder."""
    config = replace(config, checkpoint_minutes=math.inf, epochs=max(2, config.epochs))  # the last epoch ends otherwise
    with tempfile.TemporaryDirectory(dir=job["within"]) as temporary:
        run = Run(task, config, temporary, genotype)
        run.state = probe = Probe(run, job)
        with contextlib.suppress(Enough):
            execute(run, quiet=True)
        return probe.result()


def execute(run: Run, quiet: bool) -> None:
    """Search or train in that run folder."""
    stage, domain, _ = run.task
    if stage == "search":
        importlib.import_module(f"darts_cli.{domain}.search").search(run.config, run, quiet)
    else:
        train = importlib.import_module(f"darts_cli.{domain}.train").train
        train(run.genotype, run.config, run, quiet, test=stage != "select")


def counts(task: Task, config: Config) -> dict[str, int]:
    """Steps and batches of a run; see `counts` of its domain. Raises DartsError, as the run does, where its data is missing."""
    stage = "search" if task.stage == "search" else "train"
    count = importlib.import_module(f"darts_cli.{task.domain}.{stage}").counts
    return count(config) if stage == "search" else count(config, test=task.stage != "select")


def _follow_parent() -> None:
    """Stop, as if asked to, when the process that started this one is gone."""
    with open(0, "rb", buffering=0, closefd=False) as stdin:
        stdin.read(1)
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Do the job in the first line of stdin; an error ends the process with one line and an exit code."""
    job = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_follow_parent, daemon=True).start()
    try:
        _work(job)
    except DartsError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        sys.exit(NOT_FINITE if isinstance(error, NotFinite | Anomaly) else error.exit_code)
    except (MemoryError, RuntimeError) as error:
        message = out_of_memory(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        sys.exit(1)
