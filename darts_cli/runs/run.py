"""The folder of one experiment: its configuration, its state, and what it reports.

    config.yaml      the command, every setting, and the environment it started in
    metrics.jsonl    one line an epoch, without clock times: equal for equal runs
    log.jsonl        one line a reading, with clock times
    genotype.yaml    a search's cells so far, or the cells that are trained
    checkpoint.pt    everything that resuming needs; previous.pt, the one before
    best.pt          the network of the best epoch of a training, where a part of the data was held out to tell
    *.pt.sha256      their checksums
    report.md        protocol, result and cost, at the end

Every file but the log is written whole or not at all, the checkpoint after what it implies, so that a run killed at any moment
goes on from its last checkpoint and ends as if nothing had happened.
"""

import contextlib
import errno
import json
import os
import shlex
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from darts_cli import DartsError, files, genotype
from darts_cli.genotype import Genotype
from darts_cli.runs import checkpoint, history, signals
from darts_cli.runs.lock import locked
from darts_cli.runtime import distributed
from darts_cli.runtime.nonfinite import LOWER, NotFinite, Watch, check_finite, named_tensors
from darts_cli.schema import Config, option_name
from darts_cli.spaces import problems

LONGEST = 1e9  # seconds that an entry of the log can stand for


class Run:
    """The run folder of `command` (such as "search cnn") with that configuration; nothing is written before `start`.

    Without `folder` it is runs/COMMAND-DOMAIN-DATASET-seedN-HASH: the same configuration, of the same cells where a `genotype`
    is trained, finds the same folder again. One that is not `lasting` is interrupted like any other function. Of several
    processes the first one writes. Raises DartsError when the folder belongs to another configuration, naming what differs, or
    is no run folder.
    """

    def __init__(
        self,
        command: str,
        config: Config,
        folder: str | Path | None = None,
        genotype: Genotype | None = None,
        lasting: bool = True,
    ):
        self.folder = Path(folder) if folder is not None else Path("runs") / config.folder_name(command, genotype)
        self.command, self.config, self.named = command, config, folder is not None
        self.genotype, self.lasting = genotype, lasting
        self.data: dict = {}
        self.metrics: list[dict] = []  # the records of the finished epochs
        self.watch = Watch()  # over the numbers of every step
        self._saved = ""  # where the newest checkpoint is
        self._saved_at = self._logged_at = time.monotonic()
        self._signal: int | None = None
        distributed.join()
        self._check_folder()
        distributed.wait()  # or the first process would write what another has yet to check

    def start(self, environment: dict[str, str], data: dict) -> None:
        """Create the folder and write config.yaml, and the cells that are trained, unless it is there already.

        `data` says what the data set is; every checkpoint keeps it. Raises DartsError when config.yaml is there and names
        another data["fingerprint"].
        """
        self.data = data
        path = self.folder / "config.yaml"
        if not self._writes:
            return
        self._check_folder()  # once more: another run may have been here until now
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not os.access(self.folder, os.W_OK):
                raise PermissionError(errno.EACCES, "Permission denied")
            fresh = not path.exists()
        except OSError as error:
            raise DartsError(
                f"{self.folder}: cannot be used as run folder ({error.strerror}); name another with --run"
            ) from None
        place = self.config.data and os.path.abspath(self.config.data)  # so that eval finds it from anywhere
        if not fresh:
            before = files.read_yaml(path)
            known = before.get("environment") if isinstance(before, dict) else None
            if not isinstance(known, dict) or known.get("data") != data["fingerprint"]:
                raise DartsError(f"{self.folder}: is a run on other data of the same settings; name another with --run")
            if before.get("data") != place:
                files.write(path, yaml.safe_dump(before | {"data": place}, sort_keys=False))
        else:
            cells = {} if self.genotype is None else {"genotype": self.genotype.to_dict()}
            settings = {"command": self.command, **cells, **self.config.to_dict(), "data": place}
            settings["environment"] = environment | {"data": data["fingerprint"]}
            files.write(path, yaml.safe_dump(settings, sort_keys=False))
        if self.genotype is not None:
            genotype.save(self.genotype, self.folder / "genotype.yaml")

    def repeat(self) -> str:
        """The command that repeats this run."""
        given = [f"darts {self.command}"]
        if self.genotype is not None:
            given.append(f"--genotype {shlex.quote(self._genotype_name())}")
        given += self.config.arguments()
        if self.named:
            given.append(f"--run {shlex.quote(str(self.folder))}")
        return " ".join(given)

    # ---- state

    def save(self, progress: dict, parts: dict, name: str = checkpoint.NEWEST) -> None:
        """Write a checkpoint: the progress (epoch, step, ...), the state dict of every part, plain tensors and primitives, and
        the metrics; with the command, settings, cells and data set, so that the file can be evaluated on its own.

        A function in the progress is called for its value: what the processes hold in parts. Raises DartsError, and keeps the
        checkpoint there is, when a number in it is not finite, or not the same in all processes.
        """
        self.check_finite()
        state = {key: value() if callable(value) else value for key, value in progress.items()}
        state |= {name: part.state_dict() for name, part in parts.items()}
        bad = check_finite(state)
        if bad is not None:
            raise self.not_finite(f"{_place(progress)}: {bad}")
        distributed.check_equal(dict(named_tensors("", state)))
        if self._writes:
            checkpoint.write(self.folder / name, state | self._about() | {"metrics": self.metrics[: progress["epoch"]]})
        distributed.wait()
        if name == checkpoint.NEWEST:
            self._saved, self._saved_at = _place(progress), time.monotonic()

    def restore(self, parts: dict, fresh: dict, numbers: Sequence[str] = ()) -> dict:
        """Bring the parts to the state last saved and return the progress; in a fresh folder do nothing and return `fresh`, the
        progress at the beginning, whose form every later one has. `numbers` are in the record of every epoch.

        Where there are finished epochs, metrics and cells are written again as they were then. A kill may have left the
        checkpoint before that alone, and nothing is lost by it. Raises DartsError for a damaged or foreign checkpoint.
        """
        newest, previous = (self.folder / name for name in (checkpoint.NEWEST, checkpoint.PREVIOUS))
        path = newest if newest.exists() else previous
        if not path.exists():
            return fresh
        try:
            state = checkpoint.read(path)
        except DartsError as error:
            raise DartsError(f"{error}; {self._offer(path)}") from None
        afresh = _afresh(newest, previous)
        try:
            theirs = {key: state.pop(key) for key in self._about()}
            if not self._same_cells(theirs["genotype"]):
                raise DartsError(f"{path}: comes from a run of another genotype; {afresh}")
            if any(theirs[key] != self._about()[key] for key in ("command", "config")):
                raise DartsError(f"{path}: comes from a run with other settings; {afresh}")
            for name, part in parts.items():
                part.load_state_dict(state.pop(name))
            metrics = state.pop("metrics")
            self._check_progress(state, fresh, metrics, numbers)
            self.metrics, self._saved = metrics, _place(state)
        except DartsError:
            raise
        except Exception as error:  # a file that fits its checksum and is of another program
            reason = " ".join(str(error).split())[:80] or type(error).__name__
            raise DartsError(f"{path}: is damaged and cannot be read ({reason}); {self._offer(path)}") from None
        if self.metrics:
            self._write_metrics()
            cells = self.metrics[-1].get("genotype")
            if cells is not None and self._writes:
                genotype.save(Genotype.from_dict(cells), self.folder / "genotype.yaml")
        return state

    def _check_progress(self, state: dict, fresh: dict, metrics: list, numbers: Sequence[str]) -> None:
        """Raises ValueError when a progress has not the form of a fresh one, or the metrics are not those of its epochs."""
        for key, value in fresh.items():
            other = state[key]
            form = (value.shape, value.dtype) == (other.shape, other.dtype) if hasattr(value, "shape") else other >= 0
            if type(other) is not type(value) or not form:
                raise ValueError(f"its {key}")
        if type(metrics) is not list or not len(metrics) == state["epoch"] <= self.config.epochs:
            raise ValueError("its metrics are not of its epochs")
        for epoch, record in enumerate(metrics, 1):
            try:
                history.check_record("its metrics", record, epoch, self.command)
            except DartsError as error:
                raise ValueError(str(error)) from None
            if not all(isinstance(record.get(name), int | float) for name in numbers):
                raise ValueError("its metrics lack a number")

    def best(self) -> dict:
        """The checkpoint of the best epoch. Raises DartsError when it is damaged, or not of an epoch that is finished."""
        path = self.folder / checkpoint.BEST
        try:
            state = checkpoint.read(path)
            if not state.get("epoch", 0) <= len(self.metrics) + 1:
                raise DartsError(f"{path}: is of another run")
        except DartsError as error:
            raise DartsError(f"{error}; {_afresh(*self.folder.glob('*.pt'))}") from None
        return state

    def go_back(self, epoch: int) -> None:
        """Forget what came after that epoch."""
        self.watch.forget()
        self.metrics = self.metrics[:epoch]
        self._write_metrics()

    def _offer(self, path: Path) -> str:
        """What to do about a damaged checkpoint."""
        previous, state = path.with_name(checkpoint.PREVIOUS), checkpoint.spare(path)
        if state is None or not {"epoch", "step"} <= state.keys():
            return _afresh(path, previous)
        return f"delete it, and the same command goes on from {previous}, {_place(state)}"

    def check_finite(self) -> None:
        """Raise NotFinite when a number of a step was not, naming the first such step."""
        bad = self.watch.first()
        if bad is not None:
            epoch, step, name = bad
            raise self.not_finite(f"epoch {epoch + 1}, step {step + 1}: {name}")

    def not_finite(self, what: str) -> NotFinite:
        """The error that says so, where a good state is, and what to do."""
        return NotFinite(f"{what} is no longer finite; {self.remedy()}")

    def remedy(self) -> str:
        """Where a good state is, and what to do."""
        saved = f"the last good checkpoint is of {self._saved}" if self._saved else "there is no checkpoint yet"
        return f"{saved}; {LOWER}, or --detect-anomaly to find the source"

    def checkpoint(self, progress: dict, parts: dict) -> None:
        """Save when --checkpoint-minutes have passed; when asked to stop, save and raise the DartsError that ends the run.

        What is saved already, as between the batches of an evaluation, is not saved again.
        """
        due = time.monotonic() - self._saved_at >= 60 * self.config.checkpoint_minutes
        due, number = distributed.largest(due, self._signal or 0)  # what one process is asked, all do
        if (due or number) and _place(progress) != self._saved:
            self.save(progress, parts)
        if number:
            name = signal.Signals(number).name
            raise DartsError(f"stopped by {name}; all is saved, the same command goes on: {self.repeat()}", 128 + number)

    # ---- reports

    def record(self, metrics: dict, cells: Genotype | None = None) -> None:
        """Add the metrics of a finished epoch to metrics.jsonl; write the cells found so far to genotype.yaml."""
        self.metrics.append(metrics)
        self._write_metrics()
        if cells is not None and self._writes:
            genotype.save(cells, self.folder / "genotype.yaml")

    def log(self, **entry) -> None:
        """Append to log.jsonl, with the time of day and the seconds since the last entry."""
        now = time.monotonic()
        line = json.dumps({"time": round(time.time(), 3), "seconds": round(now - self._logged_at, 3), **entry})
        self._logged_at = now
        if self._writes:
            files.append(self.folder / "log.jsonl", line + "\n")

    def seconds(self) -> float:
        """Time spent in this run, over all its sittings, from the entries of the log."""
        path = self.folder / "log.jsonl"
        seconds = 0.0
        for line in path.read_text(errors="replace").splitlines() if files.is_file(path) else ():
            with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):  # a kill may have cut a line
                entry = json.loads(line)["seconds"]
                seconds += entry if 0 <= entry < LONGEST else 0
        return seconds

    def report(self, text: str) -> None:
        if self._writes:
            files.write(self.folder / "report.md", text)

    # ---- interruption

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Inside, the folder is this run's alone, and signals to stop are noted: the next `checkpoint` ends the run.

        A second one ends it at once, but under torchrun, which passes on what the terminal has sent already. Raises DartsError
        when another run is in the folder.
        """

        lock = locked(self.folder) if self._writes else contextlib.nullcontext()
        with lock, distributed.together(), signals.noted(self._note) if self.lasting else contextlib.nullcontext():
            yield

    def _note(self, number: int) -> None:
        self._signal = number
        if distributed.ranks() == 1:
            with contextlib.suppress(OSError):  # such as of a terminal that was closed
                os.write(2, b"finishing the step, then saving; once more stops at once\n")
            signals.obey()

    # ---- inside

    def _write_metrics(self) -> None:
        if self._writes:
            files.write(self.folder / "metrics.jsonl", "".join(json.dumps(each) + "\n" for each in self.metrics))

    @property
    def _writes(self) -> bool:
        return distributed.rank() == 0

    def _about(self) -> dict:
        """What every checkpoint says besides the state."""
        cells = None if self.genotype is None else self.genotype.to_dict()
        return {"command": self.command, "config": self.config.compared(), "genotype": cells, "data": self.data}

    def _same_cells(self, data: object) -> bool:
        """Whether this plain form, or the lack of one, is what this run trains."""
        if self.genotype is None:
            return data is None
        return not problems(data) and Genotype.from_dict(data) == self.genotype

    def _genotype_name(self) -> str:
        """A published name or, of any other cells, their file in this folder."""
        name = f"{self.genotype.domain}/{self.genotype.name}"
        known = name in genotype.names() and genotype.load(name) == self.genotype
        return name.lower() if known else str(self.folder / "genotype.yaml")

    def _check_folder(self) -> None:
        path = self.folder / "config.yaml"
        try:
            if self.folder.exists() and not self.folder.is_dir():
                raise DartsError(f"{self.folder}: is a file, not a run folder; name another with --run")
            if not path.exists():
                if self.folder.exists() and any(not each.name.startswith(".") for each in self.folder.iterdir()):
                    raise DartsError(
                        f"{self.folder}: holds other files and no config.yaml; name a new or empty folder with --run"
                    )
                above = next(each for each in (self.folder, *self.folder.absolute().parents) if each.exists())
                if not os.access(above, os.W_OK):
                    raise PermissionError(errno.EACCES, "Permission denied")
                return
        except OSError as error:
            raise DartsError(
                f"{self.folder}: cannot be used as run folder ({error.strerror}); name another with --run"
            ) from None
        data = files.read_yaml(path)
        if not isinstance(data, dict) or "command" not in data:
            raise DartsError(f"{path}: is not the configuration of a run; name another folder with --run")
        if data["command"] != self.command:
            raise DartsError(f"{self.folder}: is the run folder of darts {data['command']}; name another with --run")
        if not self._same_cells(data.get("genotype")):
            raise DartsError(f"{self.folder}: is a run of another --genotype; name another folder with --run")
        differing = [
            f"{option_name(key)} was {data.get(key)}, now {value}"
            for key, value in self.config.compared().items()
            if data.get(key) != value
        ]
        if differing:
            raise DartsError(f"{self.folder}: is a run with other settings ({'; '.join(differing)}); name another with --run")


def _afresh(*checkpoints: Path) -> str:
    present = dict.fromkeys(str(path) for path in checkpoints if path.exists())
    return f"delete {' and '.join(present)} to start this run afresh"


def _place(progress: dict) -> str:
    """What was done last, counted from 1."""
    epoch, step = progress["epoch"], progress["step"]
    return f"epoch {epoch + 1}, step {step}" if step else f"the end of epoch {epoch}"
