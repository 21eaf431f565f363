"""About how long a sweep takes, and how much it writes: said before it starts, from a few steps of each kind of run."""

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from darts_cli import DartsError, files
from darts_cli.genotype import load
from darts_cli.sweeps.pool import Job, Pool
from darts_cli.sweeps.worker import MEASURED
from darts_cli.text import counted, duration

# The size of all checkpoints of a run, in first ones: two copies, and a training's best network, which has no momentum (0.5) or
# is as large as a checkpoint before the averages are in it.
COPIES = {"search": 2, "cnn": 2.5, "rnn": 5}


def estimate(pool: Pool, jobs: Sequence[Job]) -> None:
    """Say how long the unfinished jobs will take, and how much all of them write. If a measurement fails, say that instead."""
    left = Counter(job.task for job in jobs if not job.done(pool.folder))
    samples = {job.task: job for job in jobs if left[job.task]}
    probes = [_probe(job) for job in samples.values()]
    for reason in pool.run(probes).values():
        return pool.say(f"could not estimate the time: {reason}")
    at_a_time = max(1, min(pool.engine.at_a_time, sum(left.values())))
    seconds, size, parts = 0.0, 0, []
    for probe in probes:
        measured, task, epochs = _measured(pool.folder / probe.name), probe.task, probe.config.epochs
        rounds = -(-left[task] // at_a_time)
        seconds += rounds * measured["seconds_per_step"] * measured["steps"] * epochs
        copies = COPIES["search" if task.stage == "search" else task.domain]
        size += round(copies * measured["bytes"] * sum(job.task == task for job in jobs))
        one, many = ("search", "searches") if task.stage == "search" else ("training", "trainings")
        runs = f"{left[task]} {one if left[task] == 1 else many} of {counted(epochs, 'epoch')}"
        parts.append(f"{runs}, {measured['seconds_per_step']:.2g} s per step")
    if parts:
        free = shutil.disk_usage(pool.folder).free
        pool.say(
            f"about {duration(seconds)}, without evaluations and start-up, and {size / 1e6:,.0f} MB on a disk with "
            f"{free / 1e9:,.0f} GB free: {'; '.join(parts)}; {at_a_time} at a time"
        )
    return None


def _probe(job: Job) -> Job:
    """A few steps of such a job; a training whose cells are not known yet is measured with those of DARTS_V2."""
    genotype = None if job.task.stage == "search" else job.genotype or load("darts_v2", job.task.domain)
    return replace(job, name=f"measured/{job.task.stage}", genotype=genotype, measure=True)


def _measured(folder: Path) -> dict[str, float]:
    """The result of a probe. Raises DartsError when it is damaged."""
    try:
        measured = json.loads(files.read_text(folder / MEASURED))
        if all(0 <= measured[name] < 1e15 for name in ("seconds_per_step", "steps", "bytes")):
            return measured
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    raise DartsError(f"{folder / MEASURED}: is damaged; delete {folder} to measure again")
