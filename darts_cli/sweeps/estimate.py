"""About how long a sweep takes, and how much it writes: said before it starts, from a few steps of each kind of run."""

import heapq
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from darts_cli import DartsError, files
from darts_cli.genotype import load
from darts_cli.sweeps.pool import Job, Pool
from darts_cli.sweeps.probe import measurement
from darts_cli.sweeps.worker import MEASURED, counts
from darts_cli.text import counted, duration

# The size of all checkpoints of a run, in first ones: two copies, and a training's best network, which has no momentum (0.5) or
# is as large as a checkpoint before the averages are in it.
COPIES = {"search": 2, "cnn": 2.5, "rnn": 5}
STEPS, SECONDS = 3, 20  # that are measured of each kind of run; fewer steps after these seconds


def estimate(pool: Pool, jobs: Sequence[Job]) -> None:
    """Say how long the unfinished jobs will take, and how much they will write. If a measurement fails, say that instead.

    Jobs that differ only in their seeds, names and cells take equally long. Those of one task are done before the next.
    """
    unfinished = [job for job in jobs if not job.done(pool.folder)]
    if not unfinished:
        return None
    probes = {_kind(job): _probe(job) for job in unfinished}
    for reason in pool.run(list(probes.values())).values():
        return pool.say(f"could not estimate the time: {reason}")
    measured = {kind: _measured(pool.folder / probe.name) for kind, probe in probes.items()}
    at_a_time = max(1, min(pool.engine.at_a_time, len(unfinished)))
    seconds, parts, steps = 0.0, [], {}
    for task in dict.fromkeys(job.task for job in unfinished):
        left = [job for job in unfinished if job.task == task]
        for job in left:  # their data is the same
            of = (task, job.config.batch_size)
            steps[of] = steps.get(of) or counts(task, job.config)["steps"]
        each = [measured[_kind(job)]["seconds_per_step"] for job in left]
        epochs = left[0].config.epochs
        seconds += _together(
            [job.config.epochs * steps[task, job.config.batch_size] * of_step for job, of_step in zip(left, each, strict=True)],
            at_a_time,
        )
        one, many = ("search", "searches") if task.stage == "search" else ("training", "trainings")
        runs = f"{len(left)} {one if len(left) == 1 else many}"
        per_step = " to ".join(dict.fromkeys(f"{value:.2g}" for value in (min(each), max(each))))
        parts.append(f"{runs} of {counted(epochs, 'epoch')}, {per_step} s per step")
    size = sum(_copies(job) * measured[_kind(job)]["checkpoint"] for job in unfinished)
    free = shutil.disk_usage(pool.folder).free
    pool.say(
        f"about {duration(seconds)}, without evaluations and start-up, and {size / 1e6:,.0f} MB on a disk with "
        f"{free / 1e9:,.0f} GB free: {'; '.join(parts)}; {at_a_time} at a time"
    )
    return None


def _kind(job: Job) -> str:
    return f"{job.task.stage}-{replace(job.config, seed=0).hash()}"


def _copies(job: Job) -> float:
    return COPIES["search" if job.task.stage == "search" else job.task.domain]


def _together(seconds: Iterable[float], at_a_time: int) -> float:
    """Seconds until all are done, each started, in order, when there is room."""
    ends = [0.0] * at_a_time
    for one in seconds:
        heapq.heapreplace(ends, ends[0] + one)
    return max(ends)


def _probe(job: Job) -> Job:
    """A few steps of such a job; a training whose cells are not known yet is measured with those of DARTS_V2."""
    genotype = None if job.task.stage == "search" else job.genotype or load("darts_v2", job.task.domain)
    return replace(
        job, name=f"measured/{_kind(job)}", genotype=genotype, measure=measurement(0, 0, seconds=SECONDS, most=STEPS)
    )


def _measured(folder: Path) -> dict[str, float]:
    """The result of a probe. Raises DartsError when it is damaged."""
    try:
        measured = json.loads(files.read_text(folder / MEASURED))
        if all(0 <= measured[name] < 1e15 for name in ("seconds_per_step", "checkpoint")):
            return measured
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    raise DartsError(f"{folder / MEASURED}: is damaged; delete {folder} to measure again")
