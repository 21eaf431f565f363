"""Measurements of a run, each in a process of its own, and what follows from them for the whole run."""

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from darts_cli import DartsError
from darts_cli.genotype import Genotype
from darts_cli.methods.method import parse
from darts_cli.methods.value import Step
from darts_cli.runs.task import Task
from darts_cli.schema import Config
from darts_cli.sweeps.engines.engine import process_of
from darts_cli.sweeps.estimate import COPIES
from darts_cli.sweeps.pool import reason
from darts_cli.sweeps.probe import measurement
from darts_cli.sweeps.worker import MEASURED


@dataclass(frozen=True)
class Kind:
    """Runs that differ only in their seeds: how many, their task, configuration and, for a training, cells."""

    task: Task
    config: Config
    genotype: Genotype | None = None
    runs: int = 1


@dataclass(frozen=True)
class Measured:
    """A kind of run: seconds and bytes of one of them."""

    counts: dict  # steps of an epoch, batches of its evaluation, and of that at the end
    segments: list[tuple[int, dict]]  # epochs whose steps do the same work, and what a probe of such steps measured
    epoch_end: dict  # what a probe of the end of an epoch measured

    @property
    def memory(self) -> int:
        return max(probe["memory"] for probe in (*self._probes(), self.epoch_end))

    @property
    def seconds_per_step(self) -> float:
        """The mean over the epochs."""
        epochs = sum(count for count, _ in self.segments)
        return sum(count * probe["seconds_per_step"] for count, probe in self.segments) / epochs

    @property
    def after_steps(self) -> float:
        """Seconds of an epoch after its steps: evaluation, records and a checkpoint."""
        end = self.epoch_end
        if end["after_epoch"] is not None:
            return end["evaluations"] + end["after_epoch"]
        return end["evaluation"] * self.counts["evaluation"] + end["saving"]

    @property
    def start_up(self) -> float:
        """Seconds before the first step, and what that takes longer than others."""
        return self.segments[0][1]["start_up"]

    @property
    def at_the_end(self) -> float:
        """Seconds of what only the end of a run evaluates."""
        return self.epoch_end["evaluation"] * self.counts["end"]

    def seconds(self) -> float:
        """Seconds of one run."""
        epochs = sum(count for count, _ in self.segments)
        each = self.counts["steps"] * self.seconds_per_step + self.after_steps
        return self.start_up + epochs * each + self.at_the_end

    def disk(self, task: Task) -> int:
        """Bytes of the checkpoints of one run."""
        checkpoint = max(probe["checkpoint"] for probe in self._probes())
        return round(COPIES["search" if task.stage == "search" else task.domain] * checkpoint)

    def _probes(self) -> list[dict]:
        return [probe for _, probe in self.segments]


def segments(kind: Kind) -> list[tuple[int, int]]:
    """The first epoch, from 0, and the number of the epochs whose steps do the same work.

    The steps of a search change when alpha's warm-up ends, and when a stage begins that has another network.
    """
    config = kind.config
    if kind.task.stage != "search":
        return [(0, config.epochs)]
    method, networks, works = parse(config.method, kind.task.domain), 0, []
    for epoch in range(config.epochs):
        stage, before = method.stage(epoch, config.epochs), method.stage(max(0, epoch - 1), config.epochs)
        networks += stage.another_network(before)
        works.append((networks, method.trains_alpha(Step(epoch, config.epochs, config.seed, 0))))
    return [(works.index(work), works.count(work)) for work in dict.fromkeys(works)]


def probe(
    kind: Kind, epoch: int, step: int, *, seconds: float, most: int = 30, end_of_epoch: bool = False, threads: int | None = None
) -> dict:
    """What a process measures that begins there; see `Probe`. Raises DartsError where the run would."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+", errors="replace") as errors:
        job = {
            "task": kind.task,
            "settings": kind.config.to_dict(),
            "genotype": kind.genotype and kind.genotype.to_dict(),
            "folder": folder,
            "measure": measurement(epoch, step, seconds=seconds, most=most, end_of_epoch=end_of_epoch, within=folder),
        }
        # In a session of its own: Ctrl-C reaches only this process, which then ends it.
        outputs = {"stdout": subprocess.DEVNULL, "stderr": errors}
        process = process_of("darts_cli.sweeps.worker", job, threads, **outputs, start_new_session=True)
        try:
            code = process.wait()
        finally:
            process.kill()
            process.wait()
            process.stdin.close()
        errors.seek(0)
        if code:
            last = ([""] + [line for line in errors.read().splitlines() if line.strip()])[-1]
            raise DartsError(reason(code, last), exit_code=2 if code == 2 else 1)
        return json.loads((Path(folder) / MEASURED).read_text(encoding="utf-8"))
