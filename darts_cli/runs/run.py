"""The folder of one experiment: whose it is, its state, and its reports.

    config.yaml      the command, every setting, and the environment it started in
    metrics.jsonl    one line per epoch, without clock times: equal for equal runs
    log.jsonl        one line per reading of the metrics, with clock times
    genotype.yaml    the cells a search has derived so far, or the cells that are trained
    checkpoint.pt    everything that resuming needs; previous.pt is the one before
    best.pt          the network of a training's best epoch, where a validation part tells which that is
    *.pt.sha256      their checksums
    report.md        protocol, result and cost, at the end

Every file but the log is written completely or not at all, the checkpoint after the files it implies. A run killed at any
moment resumes from its last checkpoint and ends with the same bits.
"""

import contextlib
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from darts_cli import DartsError, files
from darts_cli import genotype as genotypes
from darts_cli.genotype import Genotype
from darts_cli.runs import checkpoint, history, signals
from darts_cli.runs.identity import Identity
from darts_cli.runs.lock import locked
from darts_cli.runs.task import Task
from darts_cli.runtime import distributed
from darts_cli.runtime.nonfinite import ADVICE, NotFinite, Watch, first_not_finite, named_tensors
from darts_cli.schema import Config

MAX_LOG_SECONDS = 1e9  # that one entry of the log can stand for


class Run:
    """The run folder of a task with that configuration; nothing is written before `start`.

    task, config    what is run, with which settings
    folder          default: runs/STAGE-DOMAIN-DATASET-seedN-HASH
    genotype        the cells that are trained
    lasting         False: signals interrupt the run like any other function
    sweep           the command of the sweep that this run is part of: the run then waits until its folder is free

    Under torchrun only rank 0 writes. Raises DartsError when the folder belongs to another configuration, naming what differs,
    or is no run folder.
    """

    def __init__(
        self,
        task: Task,
        config: Config,
        folder: str | Path | None = None,
        genotype: Genotype | None = None,
        *,
        lasting: bool = True,
        sweep: str | None = None,
    ):
        self.identity = Identity.of(task, config, folder, genotype)
        self.task, self.config, self.genotype, self.folder = task, config, genotype, self.identity.folder
        self.lasting, self.sweep = lasting, sweep
        self.data: dict = {}
        self.metrics: list[dict] = []  # the records of the finished epochs
        self.watch = Watch()  # over the numbers of every step
        self._saved: dict | None = None  # epoch and step of the newest checkpoint
        self._saved_at = self._logged_at = time.monotonic()
        self._signal: int | None = None
        self.identity.check()

    def start(self, environment: dict[str, str], data: dict) -> None:
        """Create the folder and write config.yaml, unless it is there, and the cells that are trained.

        `data` describes the data set; every checkpoint keeps it. Raises DartsError when config.yaml names another
        data["fingerprint"].
        """
        self.data = data
        if distributed.rank() == 0:
            self.identity.write(environment, data["fingerprint"])

    def repeat(self) -> str:
        """The command that repeats this run."""
        return self.sweep if self.sweep and self.task.stage == "select" else self.identity.repeat()

    # ---- state

    def save(self, state: dict, name: str = checkpoint.NEWEST) -> None:
        """Write a checkpoint: the state (epoch, step, state dicts, plain tensors and primitives), and the metrics.

        The task, settings, cells and data set go with it, so that the file can be evaluated on its own. Raises DartsError, and
        keeps the checkpoint there is, when a number in the state is not finite or differs between ranks.
        """
        self.check_finite()
        bad = first_not_finite(state)
        if bad is not None:
            raise self.not_finite(f"{_position(state)}: {bad}")
        distributed.check_equal(dict(named_tensors("", state)))
        if distributed.rank() == 0:
            metrics = {"metrics": self.metrics[: state["epoch"]]}
            checkpoint.write(self.folder / name, state | self._about() | metrics)
        distributed.wait()
        if name == checkpoint.NEWEST:
            self._saved, self._saved_at = _epoch_and_step(state), time.monotonic()

    def checkpoint(self, state: Callable[[], dict]) -> None:
        """Save when --checkpoint-minutes have passed; when asked to stop, save and raise the DartsError that ends the run.

        `state` makes what is saved, and is called only then. A position that is saved already, as between the batches of an
        evaluation, is not saved again.
        """
        due = time.monotonic() - self._saved_at >= 60 * self.config.checkpoint_minutes
        due, number = distributed.largest(due, self._signal or 0)  # what one rank is asked to do, all do
        if due or number:
            now = state()
            if _epoch_and_step(now) != self._saved:
                self.save(now)
            self._saved_at = time.monotonic()
        if number:
            name = signal.Signals(number).name
            raise DartsError(f"stopped by {name}; the state is saved; to resume: {self.repeat()}", 128 + number)

    def restore(self, fresh: dict, **parts) -> tuple[dict, bool]:
        """The state last saved, and whether there is one; `fresh`, the state at the beginning, where there is none.

        parts    by their keys in the state: what has a `load_state_dict`; they are loaded
        fresh    also says which type and shape everything else in the state must have

        Metrics and cells of the finished epochs are written again. A kill may have left previous.pt alone, and nothing is lost
        by it. Raises DartsError for a damaged or foreign checkpoint.
        """
        newest, previous = (self.folder / name for name in (checkpoint.NEWEST, checkpoint.PREVIOUS))
        path = newest if newest.exists() else previous
        if not path.exists():
            return fresh, False
        try:
            state = checkpoint.read(path)
        except DartsError as error:
            raise DartsError(f"{error}; {self._remedy(path)}") from None
        try:
            self._load(path, state, fresh, parts)
        except DartsError:
            raise
        except Exception as error:  # a file with a valid checksum that another program has written
            reason = " ".join(str(error).split())[:80] or type(error).__name__
            raise DartsError(f"{path}: is damaged and cannot be read ({reason}); {self._remedy(path)}") from None
        if self.metrics:
            self._write_metrics()
            cells = self.metrics[-1].get("genotype")
            if cells is not None and distributed.rank() == 0:
                genotypes.save(Genotype.from_dict(cells), self.folder / "genotype.yaml")
        return state, True

    def _load(self, path: Path, state: dict, fresh: dict, parts: dict) -> None:
        saved = {key: state.pop(key) for key in self._about()}
        if not self.identity.same_cells(saved["genotype"]):
            raise DartsError(f"{path}: comes from a run of another genotype; {_start_over(path)}")
        if any(saved[key] != self._about()[key] for key in ("command", "config")):
            raise DartsError(f"{path}: comes from a run with other settings; {_start_over(path)}")
        for name, part in parts.items():
            part.load_state_dict(state.pop(name))
        metrics = state.pop("metrics")
        for key in fresh.keys() - parts.keys():
            if not _alike(fresh[key], state[key]):
                raise ValueError(f"its {key}")
        if type(metrics) is not list or not len(metrics) == state["epoch"] <= self.config.epochs:
            raise ValueError("its metrics are not of its epochs")
        for epoch, record in enumerate(metrics, 1):
            try:
                history.check_record("its metrics", record, epoch, self.task)
            except DartsError as error:
                raise ValueError(str(error)) from None
            if not all(isinstance(record.get(name), int | float) for name in history.numbers(self.task, self.config)):
                raise ValueError("its metrics lack a number")
        self.metrics, self._saved = metrics, _epoch_and_step(state)

    def best(self) -> dict:
        """The checkpoint of the best epoch. Raises DartsError when it is damaged, or not of a finished epoch."""
        path = self.folder / checkpoint.BEST
        try:
            state = checkpoint.read(path)
            if not state.get("epoch", 0) <= len(self.metrics) + 1:
                raise DartsError(f"{path}: is of another run")
        except DartsError as error:
            raise DartsError(f"{error}; {_start_over(*self.folder.glob('*.pt'))}") from None
        return state

    def go_back(self, epoch: int) -> None:
        """Forget what came after that epoch."""
        self.watch.forget()
        self.metrics = self.metrics[:epoch]
        self._write_metrics()

    def _about(self) -> dict:
        return self.identity.about() | {"data": self.data}

    def _remedy(self, path: Path) -> str:
        """What to do about a damaged checkpoint."""
        state = checkpoint.spare(path)
        if state is None or not {"epoch", "step"} <= state.keys():
            return _start_over(path, path.with_name(checkpoint.PREVIOUS))
        return f"delete it to resume from {path.with_name(checkpoint.PREVIOUS)}, {_position(state)}"

    # ---- numbers that are not finite

    def check_finite(self) -> None:
        """Raise NotFinite when a number of a step was not finite, naming the first such step."""
        bad = self.watch.first()
        if bad is not None:
            epoch, step, name = bad
            raise self.not_finite(f"epoch {epoch + 1}, step {step + 1}: {name}")

    def not_finite(self, number: str) -> NotFinite:
        return NotFinite(f"{number} is no longer finite; {self.advice()}")

    def advice(self) -> str:
        """Which checkpoint is good, and what to do about a number that is not finite."""
        saved = f"the last good checkpoint is of {_position(self._saved)}" if self._saved else "there is no checkpoint yet"
        return f"{saved}; {ADVICE}, or --detect-anomaly to find the source"

    # ---- reports

    def record(self, metrics: dict, cells: Genotype | None = None) -> None:
        """Add the metrics of a finished epoch to metrics.jsonl; write the cells derived so far to genotype.yaml."""
        self.metrics.append(metrics)
        self._write_metrics()
        if cells is not None and distributed.rank() == 0:
            genotypes.save(cells, self.folder / "genotype.yaml")

    def log(self, **entry) -> None:
        """Append to log.jsonl, with the time of day and the seconds since the last entry."""
        now = time.monotonic()
        line = json.dumps({"time": round(time.time(), 3), "seconds": round(now - self._logged_at, 3), **entry})
        self._logged_at = now
        if distributed.rank() == 0:
            files.append(self.folder / "log.jsonl", line + "\n")

    def seconds(self) -> float:
        """Time spent in this run so far, also before it was resumed, from the entries of the log."""
        path = self.folder / "log.jsonl"
        seconds = 0.0
        for line in path.read_text(errors="replace").splitlines() if files.is_file(path) else ():
            with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):  # a kill may have cut a line
                entry = json.loads(line)["seconds"]
                seconds += entry if 0 <= entry < MAX_LOG_SECONDS else 0
        return seconds

    def report(self, text: str) -> None:
        if distributed.rank() == 0:
            files.write(self.folder / "report.md", text)

    def _write_metrics(self) -> None:
        if distributed.rank() == 0:
            files.write(self.folder / "metrics.jsonl", "".join(json.dumps(record) + "\n" for record in self.metrics))

    # ---- interruption

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Inside, the folder is locked, and a signal to stop is noted: the next `checkpoint` saves and ends the run.

        A second signal ends the process at once; not under torchrun, which passes on what the terminal has sent already. Raises
        DartsError when another run holds the folder.
        """
        lock = locked(self.folder, wait=self.sweep is not None) if distributed.rank() == 0 else contextlib.nullcontext()
        with lock, distributed.together(), signals.noted(self._note) if self.lasting else contextlib.nullcontext():
            yield

    def _note(self, number: int) -> None:
        self._signal = number
        if distributed.ranks() == 1:
            with contextlib.suppress(OSError):  # such as of a terminal that was closed
                os.write(2, b"finishing this step, then saving; press Ctrl-C again to stop at once\n")
            signals.obey()


@contextlib.contextmanager
def ensure_run(run: Run | None, task: Task, config: Config, genotype: Genotype) -> Iterator[Run]:
    """That run or, without one, a run whose folder is deleted at the end. Raises DartsError when it is another's run."""
    if run is None:
        with tempfile.TemporaryDirectory() as folder:
            yield Run(task, config, folder, genotype, lasting=False)
        return
    if (run.genotype, run.config) != (genotype, config):
        raise DartsError(f"the run must have this genotype and configuration: Run({task!r}, config, folder, genotype)")
    yield run


def _alike(value: object, other: object) -> bool:
    """Whether both have one type and, as tensors, one shape and dtype; numbers are not negative."""
    if hasattr(value, "shape"):
        return type(other) is type(value) and (value.shape, value.dtype) == (other.shape, other.dtype)
    return type(other) is type(value) and other >= 0


def _start_over(*checkpoints: Path) -> str:
    present = dict.fromkeys(str(path) for path in checkpoints if path.exists())
    return f"delete {' and '.join(present)} to start this run from the beginning"


def _epoch_and_step(state: dict) -> dict:
    return {"epoch": state["epoch"], "step": state["step"]}


def _position(state: dict) -> str:
    """The last finished step or epoch, counted from 1."""
    epoch, step = state["epoch"], state["step"]
    return f"epoch {epoch + 1}, step {step}" if step else f"the end of epoch {epoch}"
