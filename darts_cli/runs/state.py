"""The state of a run: when it is saved, what is refused, and where a run resumes."""

import contextlib
import copy
import signal
import time
import traceback
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from torch import nn
from torch.optim import Optimizer

from darts_cli import DartsError, Stopped
from darts_cli import genotype as genotypes
from darts_cli.genotype import Genotype
from darts_cli.runs import checkpoint, history
from darts_cli.runs.identity import Identity
from darts_cli.runs.reports import Reports
from darts_cli.runtime import distributed
from darts_cli.runtime.copies import copies, copy_into
from darts_cli.runtime.nonfinite import ADVICE, NotFinite, Watch, first_not_finite, named_tensors
from darts_cli.text import out_of_memory


class State:
    """The checkpoints of a run, which a command resumes. Under torchrun only rank 0 writes."""

    def __init__(self, identity: Identity, reports: Reports, resume: str):
        self.identity, self.reports, self.resume = identity, reports, resume
        self.folder, self.config = identity.folder, identity.config
        self.data: dict = {}  # what describes the data set
        self.watch = Watch()  # over the numbers of every step
        self.signal: int | None = None  # that asked the run to stop
        self._saved: dict | None = None  # epoch and step of the newest checkpoint
        self._saved_at = time.monotonic()

    # ---- saving

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
            metrics = {"metrics": self.reports.metrics[: state["epoch"]]}
            checkpoint.write(self.folder / name, state | self._about() | metrics)
        distributed.wait()
        if name == checkpoint.NEWEST:
            self._saved, self._saved_at = _epoch_and_step(state), time.monotonic()

    def checkpoint(self, state: Callable[[], dict]) -> None:
        """Save when --checkpoint-minutes have passed; when asked to stop, save and raise Stopped.

        `state` makes what is saved, and is called only then. A position that is saved already, as between the batches of an
        evaluation, is not saved again.
        """
        due = time.monotonic() - self._saved_at >= 60 * self.config.checkpoint_minutes
        due, number = distributed.largest(due, self.signal or 0)  # what one rank is asked to do, all do
        if due or number:
            now = state()
            if _epoch_and_step(now) != self._saved:
                self.save(now)
            self._saved_at = time.monotonic()
        if number:
            name = signal.Signals(number).name
            raise Stopped(f"stopped by {name}; the state is saved", self.resume, 128 + number)

    @contextlib.contextmanager
    def saved_without_memory(
        self, state: Callable[[], dict], network: nn.Module, alpha_optimizer: Optimizer | None = None
    ) -> Iterator[None]:
        """Around a step: where memory runs out in a pass of it, save the state before the step, and raise DartsError.

        What a step changes before its last pass is copied for that: the buffers of the network, alpha, and its optimiser. The
        weights change after it. Several ranks save nothing: the others do not know of it.
        """
        alphas = [alpha for group in alpha_optimizer.param_groups for alpha in group["params"]] if alpha_optimizer else []
        changing = [*network.buffers(), *alphas]
        before = copies(changing)
        of_alpha = copy.deepcopy(alpha_optimizer.state_dict()) if alpha_optimizer else None
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            message = out_of_memory(error)
            modules = {frame.f_globals.get("__name__") for frame, _ in traceback.walk_tb(error.__traceback__)}
            if message is None or distributed.ranks() > 1 or "torch.optim.optimizer" in modules:
                raise
            traceback.clear_frames(error.__traceback__)  # and with them the tensors of the pass
        else:
            return
        copy_into(before, changing)
        if alpha_optimizer:
            alpha_optimizer.load_state_dict(of_alpha)
        now = state()
        if _epoch_and_step(now) != self._saved:
            self.save(now)
        raise DartsError(f"{message}; the state before this step is saved; to resume once there is memory: {self.resume}")

    def extend(self) -> None:
        """Give the newest checkpoint the number of epochs of this configuration, which is not that of its run."""
        path = self.newest()
        if path is not None:
            saved = checkpoint.read(path)
            saved["config"] = saved["config"] | {"epochs": self.config.epochs}
            checkpoint.write(self.folder / checkpoint.NEWEST, saved)

    # ---- resuming

    def newest(self) -> Path | None:
        """The checkpoint to resume from. A kill may have left previous.pt alone, and nothing is lost by it."""
        paths = [self.folder / name for name in (checkpoint.NEWEST, checkpoint.PREVIOUS)]
        return next((path for path in paths if path.exists()), None)

    def finished(self) -> list[dict]:
        """The records of the epochs that are in the checkpoint; none where it cannot be read, which `restore` then says."""
        path = self.newest()
        try:
            records = checkpoint.read(path).get("metrics") if path else []
        except DartsError:
            return []
        return records if type(records) is list and all("operation_weights" in record for record in records) else []

    def restore(self, fresh: dict, **parts) -> dict:
        """The state last saved or, in a fresh folder, `fresh`, the state at the beginning.

        parts    by their keys in the state: what has a `load_state_dict`; they are loaded
        fresh    also says which type and shape everything else in the state must have

        Metrics and cells of the finished epochs are written again. Raises DartsError for a damaged or foreign checkpoint.
        """
        path = self.newest()
        if path is None:
            return fresh
        try:
            state = checkpoint.read(path)
        except DartsError as error:
            raise DartsError(f"{error}; {self._remedy(path)}") from None
        try:
            metrics = self._load(path, state, fresh, parts)
        except DartsError:
            raise
        except Exception as error:  # a file with a valid checksum that another program has written
            reason = " ".join(str(error).split())[:80] or type(error).__name__
            raise DartsError(f"{path}: is damaged and cannot be read ({reason}); {self._remedy(path)}") from None
        self._saved = _epoch_and_step(state)
        if metrics:
            self.reports.replace(metrics)
            cells = metrics[-1].get("genotype")
            if cells is not None and distributed.rank() == 0:
                genotypes.save(Genotype.from_dict(cells), self.folder / "genotype.yaml")
        return state

    def _load(self, path: Path, state: dict, fresh: dict, parts: dict) -> list[dict]:
        """Load the parts and check the rest of the state, which is left in it; returns the metrics."""
        about = self._about()
        saved = {key: state.pop(key) for key in about}
        saved["config"] = self.config.completed(saved["config"])
        if not self.identity.same_cells(saved["genotype"]):
            raise DartsError(f"{path}: comes from a run of another genotype; {_start_over(path)}")
        if any(saved[key] != about[key] for key in ("command", "config")):
            raise DartsError(f"{path}: comes from a run with other settings; {_start_over(path)}")
        for name, part in parts.items():
            part.load_state_dict(state.pop(name))
        metrics = state.pop("metrics")
        for key in fresh:
            if key not in parts and not _alike(fresh[key], state[key]):
                raise ValueError(f"its {key}")
        if type(metrics) is not list or not len(metrics) == state["epoch"] <= self.config.epochs:
            raise ValueError("its metrics are not of its epochs")
        for epoch, record in enumerate(metrics, 1):
            try:
                history.check_record("its metrics", record, epoch, self.identity.task, self.config)
            except DartsError as error:
                raise ValueError(str(error)) from None
            if not all(isinstance(record.get(name), int | float) for name in history.numbers(self.identity.task, self.config)):
                raise ValueError("its metrics lack a number")
        return metrics

    def best(self) -> dict:
        """The checkpoint of the best epoch. Raises DartsError as `finished_epoch` does."""
        return self.finished_epoch(checkpoint.BEST)

    def finished_epoch(self, name: str) -> dict:
        """The checkpoint of that name, of the end of an epoch. Raises DartsError when it is damaged, or of another run."""
        path = self.folder / name
        try:
            state = checkpoint.read(path)
            if not state.get("epoch", 0) <= len(self.reports.metrics) + 1:
                raise DartsError(f"{path}: is of another run")
        except DartsError as error:
            raise DartsError(f"{error}; {_start_over(*self.folder.glob('*.pt'))}") from None
        return state

    def go_back(self, epoch: int) -> None:
        """Forget what came after that epoch."""
        self.watch.forget()
        self.reports.replace(self.reports.metrics[:epoch])

    def keep(self, epochs: Collection[int]) -> None:
        """After an epoch: keep a copy of its checkpoint if it is one of these, counted from 0; delete the other copies."""
        if distributed.rank() > 0:
            return
        last = len(self.reports.metrics) - 1
        if last in epochs:
            checkpoint.write(self.folder / _of_epoch(last), checkpoint.read(self.folder / checkpoint.NEWEST))
        names = set(map(_of_epoch, epochs))
        for path in self.folder.glob(_of_epoch("*")):
            if path.name not in names:
                path.unlink()
                path.with_name(f"{path.name}.sha256").unlink(missing_ok=True)

    def return_to(self, epoch: int, note: dict, **parts) -> dict:
        """Go back to the end of an epoch, counted from 0, that was kept; returns its state, with the parts loaded.

        `note` is added to the record of that epoch.
        """
        state = self.finished_epoch(_of_epoch(epoch))
        for name, part in parts.items():
            part.load_state_dict(state[name])
        self.go_back(epoch + 1)
        self.reports.replace([*self.reports.metrics[:-1], self.reports.metrics[-1] | note])
        self.save({name: value for name, value in state.items() if name not in {*self._about(), "metrics"}})
        return state

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


def _alike(value: object, other: object) -> bool:
    """Whether both have one type and, as tensors, one shape and dtype; numbers are not negative."""
    if hasattr(value, "shape"):
        return type(other) is type(value) and (value.shape, value.dtype) == (other.shape, other.dtype)
    return type(other) is type(value) and other >= 0


def _of_epoch(epoch: int | str) -> str:
    """The name of the checkpoint of an epoch, counted from 0."""
    return f"epoch-{epoch if epoch == '*' else epoch + 1}.pt"


def _start_over(*checkpoints: Path) -> str:
    present = dict.fromkeys(str(path) for path in checkpoints if path.exists())
    return f"delete {' and '.join(present)} to start this run from the beginning"


def _epoch_and_step(state: dict) -> dict:
    return {"epoch": state["epoch"], "step": state["step"]}


def _position(state: dict) -> str:
    """The last finished step or epoch, counted from 1."""
    epoch, step = state["epoch"], state["step"]
    return f"epoch {epoch + 1}, step {step}" if step else f"the end of epoch {epoch}"
