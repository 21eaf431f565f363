"""A few steps of a run, by the loop of the run itself, and how long each part of it takes."""

import random
import statistics
import time
from collections.abc import Callable

from darts_cli.runs.checkpoint import NEWEST
from darts_cli.runs.run import Run
from darts_cli.runs.state import State
from darts_cli.runtime.device import peak_memory, synchronize

LEAST_STEPS = 2  # that are measured, after a first one
LEAST_EVALUATIONS = 3


def measurement(
    epoch: int, step: int, *, seconds: float, most: int, end_of_epoch: bool = False, within: str | None = None
) -> dict:
    """What a process, which starts now, is to measure.

    epoch, step     where to begin
    end_of_epoch    whether to measure what follows the steps of an epoch, or the steps
    most            steps at most
    seconds         that may be spent, where they suffice for the least that is needed
    within          folder for temporary files; None: that of the system
    """
    return {
        "epoch": epoch,
        "step": step,
        "end_of_epoch": end_of_epoch,
        "seconds": seconds,
        "most": most,
        "within": within,
        "started": time.time(),
    }


class Enough(Exception):
    """Everything is measured."""


class Probe(State):
    """The state of a run that begins where a `measurement` says, notes how long everything takes, and raises Enough."""

    def __init__(self, run: Run, job: dict):
        super().__init__(run.identity, run.reports, run.state.resume)
        self.job = job
        self.steps: list[float] = []  # seconds of each, from where the run began
        self.evaluations: list[float] = []  # of each batch, of the first epoch
        self.after_epoch: float | None = None  # seconds from the last batch of the first evaluation to the next epoch
        self.saving = 0.0  # seconds of the last checkpoint
        self._step = 0
        self._begun = self._last = time.time()

    def finished(self) -> list[dict]:
        """Records in place of those of the epochs before; a search that narrows its space then keeps random operations."""
        if self.identity.task.stage != "search":
            return []
        space, chance = self.config.searched, random.Random(0)
        weights = {cell: [[chance.random() for _ in ops] for ops in space.choices(cell)] for cell in space.cells}
        return [{"operation_weights": weights}] * self.job["epoch"]

    def restore(self, fresh: dict, **parts) -> dict:
        """The state where the job begins."""
        self._begun = self._last = time.time()
        self._step = self.job["step"]
        return fresh | {"epoch": self.job["epoch"], "step": self._step}

    def checkpoint(self, state: Callable[[], dict]) -> None:
        """A step, or a batch of an evaluation, is done. Raises Stopped when asked to stop."""
        if self.signal:
            super().checkpoint(state)
        step, seconds = state()["step"], self._lap()
        if step != self._step:
            self.steps.append(seconds)
        elif self.after_epoch is None:
            self.evaluations.append(seconds)
        self._step = step
        if self._is_enough():
            self.save(state())
            raise Enough
        self._last = time.time()  # without what this function takes

    def save(self, state: dict, name: str = NEWEST) -> None:
        """Save, as the run does; an epoch ends with it."""
        before = time.time()
        super().save(state, name)
        self.saving = time.time() - before
        if name == NEWEST and state["step"] == 0:
            self._step, seconds = 0, self._lap()
            self.after_epoch = seconds if self.after_epoch is None else self.after_epoch
            if self.job["end_of_epoch"]:
                raise Enough

    def result(self) -> dict:
        """What was measured, in seconds and bytes."""
        later = self.steps[1:] or self.steps
        step = statistics.median(later) if later else 0.0
        return {
            "seconds_per_step": step,
            "steps": len(later),
            "start_up": self._begun - self.job["started"] + max(0.0, self.steps[0] - step if self.steps else 0.0),
            "evaluation": statistics.median(self.evaluations) if self.evaluations else 0.0,
            "evaluations": sum(self.evaluations),
            "after_epoch": self.after_epoch,
            "saving": self.saving,
            "checkpoint": (self.folder / NEWEST).stat().st_size,
            "memory": peak_memory(),
        }

    def _lap(self) -> float:
        synchronize()
        before, self._last = self._last, time.time()
        return self._last - before

    def _is_enough(self) -> bool:
        over = time.time() - self._begun >= self.job["seconds"]
        if self.job["end_of_epoch"]:
            return over and len(self.evaluations) >= LEAST_EVALUATIONS
        return len(self.steps) > (LEAST_STEPS if over else self.job["most"])
