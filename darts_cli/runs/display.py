"""The progress of a run on stderr: a live display on a terminal, plain lines elsewhere, nothing when quiet."""

import importlib.util
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import zip_longest

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.text import Text

from darts_cli.genotype import Genotype
from darts_cli.methods.catalogue import METHOD_NUMBERS
from darts_cli.runtime import distributed
from darts_cli.runtime.device import peak_memory
from darts_cli.spaces.space import MACROS
from darts_cli.text import Unfailing, duration, harmless, size, sparkline, tell, tell_at_once

ESTIMATE_STEPS = 20  # after which the figures are printed
LEAST_STEPS = 5  # that an estimate of the time left is made from
READ_SECONDS = {"terminal": 5, "plain": 60}  # the metrics are read at least this often
MEASURES = ("valid_accuracy", "valid_perplexity", "train_accuracy", "train_perplexity")  # the first there is, is drawn
CURVE_EPOCHS = 40  # the newest, that are drawn


class Display:
    """Progress over `epochs` epochs of `steps` steps each; a context manager.

    Steps on a text differ in length, so there the words of a stream are counted in place of steps.
    """

    def __init__(self, epochs: int, steps: int, quiet: bool = False):
        self.epochs, self.steps = epochs, steps
        self.pace = Pace(epochs, steps)
        self.quiet = quiet or distributed.rank() > 0
        self.calls, self.unit = 0, "step"
        self.evaluations_known = False  # whether the figures that count them have been printed
        console, animated = terminal(self.quiet)
        self.reading, self.curve, self.notice = Text(), Text(), Text()
        wide = min(60, max(10, console.width - 60))
        name, facts = TextColumn("{task.description:>14}"), TextColumn("{task.fields[facts]}")
        self.bars = Progress(name, BarColumn(wide), TaskProgressColumn(), facts, console=console)
        self.epoch_bar = self.bars.add_task("", total=epochs * steps, facts="")
        self.step_bar = self.bars.add_task("first step", total=steps, facts="")
        shown = Group(self.bars, self.curve, self.reading, self.notice)
        self.live = Live(shown, console=console, transient=True) if animated else None
        self.started = self.read_at = time.monotonic()

    def __enter__(self) -> "Display":
        return self

    def __exit__(self, *_) -> None:
        if self.live:
            self.live.stop()

    def begin(self, epoch: int, step: int, opening: list[str], unit: str = "step", complete: bool | None = None) -> None:
        """The run starts, or resumes, after `step` steps of an epoch counted from 0; print what it is about to do."""
        done, self.unit = epoch * self.steps + step, unit
        self.started = self.read_at = time.monotonic()
        self.pace.begin()
        self.bars.update(self.epoch_bar, completed=done)
        self.bars.update(self.step_bar, completed=step)
        if self.live:
            self.live.start()
        for line in opening:
            self.say(line)
        complete = epoch == self.epochs if complete is None else complete
        if done:
            self.say("complete already" if complete else f"resuming after {unit} {done:,} of {self.epochs * self.steps:,}")

    def say(self, line: str) -> None:
        """Print a line that stays."""
        if self.live:
            self.live.console.print(Text(harmless(line)))
        elif not self.quiet:
            tell(harmless(line))

    def stopping(self, line: str) -> None:
        """Say that the run was asked to stop; called by a signal, between any two instructions."""
        if self.live and self.live.is_started:
            self.notice.plain = f"\n{line}"  # the thread that draws the display shows it
        else:
            tell_at_once(line)

    def step(self, epoch: int, step: int) -> None:
        """This step of the epoch, counted from 0, and all before it are done."""
        self.calls += 1
        self.pace.step(epoch, step + 1)
        if self.pace.pauses and not self.evaluations_known and self.pace.left() is not None:
            self.evaluations_known = True
            self.say(self._figures())
        if self.live:
            last = step + 1 == self.steps
            now = "evaluating" if last else f"{self.unit} {step + 1:,}/{self.steps:,}"
            elapsed = duration(time.monotonic() - self.started)
            facts = ", ".join(filter(None, (elapsed, self.pace.in_words())))
            done = epoch * self.steps + step + 1
            self.bars.update(self.epoch_bar, completed=done, description=f"epoch {epoch + 1}/{self.epochs}", facts=facts)
            self.bars.update(self.step_bar, completed=step + 1, description=now, facts=self._speed())

    def due(self, step: int, log_every: int) -> bool:
        """Whether to read the metrics now: every `log_every` steps of an epoch, after a while, and for the estimate."""
        waited = time.monotonic() - self.read_at >= READ_SECONDS["terminal" if self.live else "plain"]
        waited = waited and distributed.ranks() == 1  # ranks must agree, and their clocks differ
        return (step + 1) % log_every == 0 or self.calls == ESTIMATE_STEPS or waited

    def read(self, epoch: int, step: int, line: str, details: str) -> None:
        """Show a reading of the metrics: one line and, on a terminal, details below it."""
        self.read_at = time.monotonic()
        if self.live:
            self.reading.plain = f"\n{line}\n\n{details}"
        else:
            left = self.pace.in_words()
            self.say(f"epoch {epoch + 1}/{self.epochs}  {self.unit} {step + 1}/{self.steps}  {line}{left and '  ' + left}")
        if self.calls == ESTIMATE_STEPS:
            self.say(self._figures())

    def record(self, line: str, records: Sequence[Mapping]) -> None:
        """Print the line of a finished epoch; on a terminal, draw the curve of all epochs so far."""
        self.say(line)
        if self.live:
            self.curve.plain = _curve(records, self.live.console.encoding)
            self.bars.update(self.step_bar, description="saving")

    def _figures(self) -> str:
        """What the run takes, as far as it is known."""
        return "; ".join(filter(None, (", ".join(filter(None, (self._speed(), self.pace.in_words()))), _peak())))

    def _speed(self) -> str:
        return f"{self.pace.stepping / self.pace.timed:.2f} s per step" if self.pace.timed else ""


class Pace:
    """How fast a run goes: the seconds of its steps, and of its pauses, the evaluations that lie between epochs."""

    def __init__(self, epochs: int, steps: int):
        self.epochs, self.steps = epochs, steps
        self.timed, self.units, self.stepping = 0, 0, 0.0  # steps that followed another at once, in number, units and seconds
        self.pauses: list[float] = []
        self.last: tuple[int, int, float] | None = None  # epoch and units of the newest step, and when it was done
        self.ends = [time.monotonic()]  # when the epoch began or went on here, and when each of its steps was done

    def begin(self) -> None:
        """The run starts or goes on."""
        self.ends = [time.monotonic()]

    def step(self, epoch: int, done: int) -> None:
        """So many units of the epoch are done."""
        now = time.monotonic()
        if self.last is not None:
            before, then, at = self.last
            if before == epoch and done > then:
                self.timed, self.units, self.stepping = self.timed + 1, self.units + done - then, self.stepping + now - at
            elif before + 1 == epoch:
                self.pauses.append(max(0.0, now - at - done * self._each()))
        self.last = epoch, done, now
        self.ends.append(now)

    def of_epoch(self) -> dict[str, float]:
        """The seconds that a step of the epoch took, for the log at its end; nothing where none was made here.

        The first step, which may have waited for more than itself, counts only where it is the only one.
        """
        began, *ends = self.ends
        self.begin()
        if not ends:
            return {}
        seconds = ends[0] - began if len(ends) == 1 else (ends[-1] - ends[0]) / (len(ends) - 1)
        return {"seconds_per_step": round(seconds, 6)}

    def left(self) -> float | None:
        """Seconds until the end of the run; None while too little is known. Evaluations count once one has been timed."""
        enough = self.timed >= LEAST_STEPS or (self.timed and self.pauses) or len(self.pauses) > 1  # epochs may be one step
        if self.last is None or not enough:
            return None
        epoch, done, _ = self.last
        epochs = self.epochs - epoch
        pause = statistics.mean(self.pauses) if self.pauses else 0.0
        return (epochs * self.steps - done) * self._each() + epochs * pause

    def in_words(self) -> str:
        """The time left; "" while too little is known."""
        left = self.left()
        return f"{'about' if self.pauses else 'at least'} {duration(left)} left" if left else ""

    def _each(self) -> float:
        """Seconds of a unit."""
        return self.stepping / self.units if self.units else 0.0


def terminal(quiet: bool) -> tuple[Console, bool]:
    """A console on stderr, or of a notebook, and whether it may show what moves: in a notebook rich needs ipywidgets."""
    console = Console(file=Unfailing(sys.stderr), highlight=False)
    if console.is_jupyter:
        return console, importlib.util.find_spec("ipywidgets") is not None and not quiet
    return console, console.is_terminal and not console.is_dumb_terminal and not quiet


def _peak() -> str:
    peak = peak_memory()
    return f"peak memory {size(peak)}" if peak else ""


def _curve(records: Sequence[Mapping], encoding: str) -> str:
    """The curve of a measure in one line, with its best value."""
    measure = next((name for name in MEASURES if name in records[-1]), None) if records else None
    if measure is None:
        return ""
    values, share = [record[measure] for record in records], measure.endswith("accuracy")
    best = (max if share else min)(values)
    form = ".2%" if share else ".2f"
    drawn = sparkline(values[-CURVE_EPOCHS:]) if encoding.startswith("utf") else ""
    parts = [f"{measure.replace('_', ' ')} {drawn} {values[-1]:{form}}".replace("  ", " ")]
    parts.append(f"best {best:{form}} in epoch {records[values.index(best)]['epoch']}")
    if "lr" in records[-1]:
        parts.append(f"learning rate {records[-1]['lr']:.3g}")
    return "  ".join(parts)


def last_numbers(record: Mapping) -> str:
    """The line of a report that says what the method added in the last epoch; nothing where it added nothing."""
    numbers = [f"{name.replace('_', ' ')} {record[name]:.3g}" for name in METHOD_NUMBERS if name in record]
    return f"The method added, in the last epoch: {', '.join(numbers)}.\n" if numbers else ""


def numbers_in_words(numbers: Mapping[str, float]) -> str:
    """What a method adds to a line, such as its temperature."""
    return "".join(f"  {name.replace('_', ' ')} {value:.3g}" for name, value in numbers.items())


def cell_table(genotype: Genotype) -> str:
    """The cells side by side, one line per node: its number, then each edge as operation and input."""
    columns = [
        [name, *("  ".join(f"{edge.op} {edge.input}" for edge in node) for node in cell.nodes)]
        for name, cell in genotype.cells.items()
    ]
    widths = [max(map(len, column)) for column in columns]
    first = MACROS[genotype.macro].inputs
    numbers = ["node", *(f"{first + i:>4}" for i in range(max(map(len, columns)) - 1))]
    rows = zip_longest(numbers, *columns, fillvalue="")  # nodes may be left out of a cell
    return "\n".join(
        "  ".join([row[0], *(text.ljust(width) for text, width in zip(row[1:], widths, strict=True))]).rstrip() for row in rows
    )
