"""The runs of a sweep, several at a time, each in a process of its own, on an engine."""

import contextlib
import signal
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from darts_cli import Stopped
from darts_cli.genotype import Genotype
from darts_cli.runs import history, signals
from darts_cli.runs.display import terminal
from darts_cli.runs.lock import locked
from darts_cli.runs.task import Task
from darts_cli.schema import Config
from darts_cli.sweeps.engines.engine import Engine
from darts_cli.sweeps.engines.local import Local
from darts_cli.sweeps.seeds import Placement
from darts_cli.sweeps.sweep import Sweep
from darts_cli.sweeps.worker import MEASURED, NOT_FINITE
from darts_cli.text import counted, duration, harmless, printable, tell

DIVERGED = "diverged: a number is no longer finite"  # stored; the step is only printed, as it depends on when one looked
EVENT_SECONDS = 0.2  # a signal is passed on within this time
FILES_SECONDS = 90  # after which the files of a run on another machine must be here
RETRIES = 3  # of a run whose machine is lost


@dataclass(frozen=True)
class Job:
    """A run in the folder of that name below the sweep's, or a measurement of a few of its steps."""

    name: str
    task: Task
    config: Config
    genotype: Genotype | None = None
    measure: dict | None = None  # what, where not all of it is done

    def done(self, sweep: Path) -> bool:
        """Whether all its files are there. A finished run that lacks some writes them again."""
        folder = sweep / self.name
        return (folder / MEASURED).exists() if self.measure else history.complete(folder)


class Pool:
    """Works on jobs below the folder of a sweep; a context manager that locks the folder and takes signals.

    Ctrl-C, SIGTERM and a closing terminal let the runs save and stop; a second Ctrl-C or SIGTERM ends them at once.
    """

    def __init__(self, sweep: Sweep, placement: Placement, quiet: bool):
        self.folder, self.quiet = sweep.folder, quiet
        self.resume, self.repeat = sweep.resume(), sweep.repeat()
        self.placement, self.device = placement, sweep.config.device
        self.board = Board(quiet)
        self.working: dict[str, Job] = {}
        self.last: dict[str, str] = {}  # the newest line of each
        self.lost: Counter[str] = Counter()  # how often the machine of a run was lost
        self.signal: int | None = None
        self.killed = False
        self.asked = 0  # how often the runs have been told to stop
        self.stack = contextlib.ExitStack()

    def __enter__(self) -> "Pool":
        with contextlib.ExitStack() as stack:
            stack.enter_context(locked(self.folder))
            self.engine = stack.enter_context(contextlib.closing(engine(self.placement, self.device, self.folder)))
            stack.enter_context(signals.noted(self._note))
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *_) -> None:
        self.stack.close()

    def say(self, line: str) -> None:
        self.board.say(line)

    def run(self, jobs: Sequence[Job]) -> dict[str, str]:
        """Do the unfinished jobs; returns the reason of each that failed, by its name. Raises Stopped when interrupted."""
        waiting = [job for job in jobs if not job.done(self.folder)]
        failed: dict[str, str] = {}
        with self.board.over(len(jobs), len(jobs) - len(waiting)):
            while self.working or (waiting and not self.signal):
                while waiting and not self.signal and self.engine.room():
                    self._start(waiting.pop(0))
                self._pass_on()
                for name, what in self.engine.events(EVENT_SECONDS):
                    if isinstance(what, str):
                        self._line(name, what)
                    elif what is None and self._again(name):
                        waiting.insert(0, self.working.pop(name))
                    else:
                        self._ended(name, what, failed)
        if self.signal:
            state = "stopped at once; the checkpoints stay" if self.killed else "the state is saved"
            name = signal.Signals(self.signal).name
            raise Stopped(f"stopped by {name}; {state}", self.resume, 128 + self.signal)
        return failed

    def _start(self, job: Job) -> None:
        content = {
            "task": job.task,
            "settings": job.config.to_dict(),
            "genotype": job.genotype and job.genotype.to_dict(),
            "folder": str(self.folder / job.name),
            "measure": job.measure,
            "quiet": self.quiet,
            "sweep": [self.resume, self.repeat],
        }
        self.engine.start(job.name, content)
        self.working[job.name], self.last[job.name] = job, ""
        self.board.started(job.name)

    def _line(self, name: str, line: str) -> None:
        self.last[name] = line.strip() or self.last[name]
        if not (line.startswith("error: ") or self.working[name].measure):  # `_ended` prints the errors
            self.board.line(name, harmless(line))

    def _again(self, name: str) -> bool:
        """Whether a run whose machine is lost starts again, from its checkpoint."""
        self.lost[name] += 1
        if self.signal is not None or self.lost[name] > RETRIES:
            return False
        self.board.say(f"{name}: its machine was lost; starting it on another, from its last checkpoint", error=True)
        return True

    def _ended(self, name: str, code: int | None, failed: dict[str, str]) -> None:
        job = self.working.pop(name)
        self.board.ended(name)
        if code in {number for stop in signals.STOPS for number in (-stop, 128 + stop)}:
            if self.signal is None:  # somebody stopped this run: stop the sweep
                self._note(abs(code) % 128)
            return
        why = reason(code, self.last[name])
        if code == 0 and not self._arrived(job):
            why = f"its files are not in {self.folder / name}, which must lie on storage that all machines mount"
        elif code == 0 or self.killed or (code is None and self.signal):
            return
        failed[name] = DIVERGED if code == NOT_FINITE else why
        if not job.measure:
            self.board.say(f"{name} failed: {why}", error=True)

    def _arrived(self, job: Job) -> bool:
        """Whether the files of a run that has ended are here: those of another machine may take a while to be seen."""
        until = time.monotonic() + FILES_SECONDS
        while not (self.signal or job.done(self.folder)):
            if time.monotonic() > until:
                return False
            time.sleep(1)
        return True

    def _note(self, number: int) -> None:
        first, self.signal = self.signal is None, self.signal or number
        if not first and signal.Signals(number).name == "SIGHUP":  # a closing terminal may send it twice
            return
        self.killed = not first

    def _pass_on(self) -> None:
        """Tell the runs to stop where signals have come since: here and not in their handler, which may interrupt an engine."""
        wanted = (self.signal is not None) + self.killed
        if wanted > self.asked:
            self.asked = wanted
            self.engine.stop(at_once=self.killed)


class Board:
    """What the runs of a pool say: on a terminal a row for each that works and a bar for all, elsewhere every line."""

    def __init__(self, quiet: bool):
        self.quiet = quiet
        self.console, self.animated = terminal(quiet)
        self.live: Live | None = None
        self.rows: dict[str, tuple[float, str]] = {}  # of the runs that work: when it started, and its newest line
        self.lasted: list[float] = []  # seconds of the runs that have ended here
        self.total = self.done = 0

    @contextlib.contextmanager
    def over(self, total: int, done: int) -> Iterator[None]:
        """Inside, that many runs are worked on, of which some are done already."""
        self.total, self.done, self.lasted = total, done, []
        if not self.animated or total == done:
            yield
            return
        with Live(get_renderable=self._drawn, console=self.console, transient=True) as self.live:
            try:
                yield
            finally:
                self.live = None

    def say(self, line: str, error: bool = False) -> None:
        """Print a line that stays."""
        live = self.live
        if live:
            live.console.print(Text(line))
        elif error or not self.quiet:
            tell(line)

    def started(self, name: str) -> None:
        self.rows[name] = (time.monotonic(), "starting")

    def line(self, name: str, line: str) -> None:
        """A line of a run. On a terminal it stays only while it is the newest."""
        if self.live and name in self.rows:
            self.rows[name] = (self.rows[name][0], line) if line.startswith(("epoch ", "finishing ")) else self.rows[name]
        else:
            self.say(f"{name}: {line}")

    def ended(self, name: str) -> None:
        started, line = self.rows.pop(name)
        self.lasted.append(time.monotonic() - started)
        self.done += 1
        if self.live and line.startswith("epoch "):
            self.say(f"{name}: {line}")

    def _drawn(self) -> Group:
        now, rows = time.monotonic(), list(self.rows.items())
        width = max((len(name) for name, _ in rows), default=0)
        lines = [f"{name:{width}}  {duration(now - started):>6}  {line}" for name, (started, line) in rows]
        facts = f"  {self.done} of {counted(self.total, 'run')} done"
        if self.lasted:
            spent = sum(now - started for _, (started, _) in rows)
            seconds = max(0.0, statistics.mean(self.lasted) * (self.total - self.done) - spent)
            facts += f", about {duration(seconds / max(1, len(rows)))} left"
        bar = ProgressBar(self.total, self.done, width=40)
        return Group("", *(Text(line, overflow="ellipsis", no_wrap=True) for line in lines), bar, Text(facts))


def engine(placement: Placement, device: str, folder: Path) -> Engine:
    """The engine that the options name. Raises DartsError where it cannot be used."""
    kind, _, address = placement.engine.partition(":")
    if kind == "ray":
        from darts_cli.sweeps.engines.ray import Ray

        return Ray(address or None, placement.parallel, device, folder)
    if kind == "slurm":
        from darts_cli.sweeps.engines.slurm import Slurm

        return Slurm(placement.parallel, device, folder)
    return Local(placement.parallel, device)


def reason(code: int | None, last: str) -> str:
    """Why a process failed; code None: with its machine."""
    if code is None:
        return "its machine was lost"
    killed = f"killed by {signal.Signals(-code).name}, possibly out of memory" if code < 0 else ""
    return killed or printable(last).removeprefix("error: ") or f"exit code {code}"
