"""The progress of a run on stderr: a live display on a terminal, plain lines elsewhere, nothing when quiet."""

import sys
import time
from collections.abc import Mapping
from itertools import zip_longest

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.text import Text

from darts_cli.genotype import Genotype
from darts_cli.runtime import distributed
from darts_cli.spaces.space import MACROS
from darts_cli.text import Unfailing, counted, duration, harmless, tell

ESTIMATE_STEPS = 20  # steps that the estimate of the total time is made from
READ_SECONDS = {"terminal": 5, "plain": 60}  # the metrics are read at least this often


class Display:
    """Progress over `epochs` epochs of `steps` steps each; a context manager.

    Steps on a text differ in length, so there the words of a stream are counted in place of steps.
    """

    def __init__(self, epochs: int, steps: int, quiet: bool = False):
        self.epochs, self.steps, self.total = epochs, steps, epochs * steps
        self.quiet = quiet or distributed.rank() > 0
        self.calls = self.first = self.done = 0
        self.step_ends: list[float] = []  # when the epoch began or went on here, and when its first and its last step ended
        self.steps_made = 0  # of the epoch, here
        console = Console(file=Unfailing(sys.stderr), highlight=False)
        self.text = Text()
        self.bars = Progress(TextColumn("{task.description:>14}"), BarColumn(40), TaskProgressColumn(), console=console)
        self.epoch_bar = self.bars.add_task("", total=self.total)
        self.step_bar = self.bars.add_task("", total=steps)
        animated = console.is_terminal and not console.is_dumb_terminal and not self.quiet
        self.live = Live(Group(self.bars, self.text), console=console) if animated else None
        self.started = self.read_at = time.monotonic()

    def __enter__(self) -> "Display":
        return self

    def __exit__(self, *_) -> None:
        if self.live:
            self.live.stop()

    def begin(self, epoch: int, step: int, opening: list[str], unit: str = "step", complete: bool | None = None) -> None:
        """The run starts, or resumes, after `step` steps of an epoch counted from 0; print what it is about to do."""
        self.first = self.done = epoch * self.steps + step
        self.started = self.read_at = time.monotonic()
        self.step_ends = [self.started]
        self.bars.update(self.epoch_bar, completed=self.done)
        self.bars.update(self.step_bar, completed=step)
        if self.live:
            self.live.start()
        for line in opening:
            self.say(line)
        complete = epoch == self.epochs if complete is None else complete
        if self.done:
            self.say("complete already" if complete else f"resuming after {unit} {self.done:,} of {self.total:,}")

    def say(self, line: str) -> None:
        """Print a line that stays."""
        if self.live:
            self.live.console.print(Text(harmless(line)))
        elif not self.quiet:
            tell(harmless(line))

    def step(self, epoch: int, step: int) -> None:
        """This step of the epoch, counted from 0, and all before it are done."""
        self.calls += 1
        self.steps_made += 1
        self.step_ends[2 if len(self.step_ends) == 3 else len(self.step_ends) :] = [time.monotonic()]
        self.done = epoch * self.steps + step + 1
        if self.live:
            self.bars.update(self.epoch_bar, completed=self.done, description=f"epoch {epoch + 1}/{self.epochs}")
            self.bars.update(self.step_bar, completed=step + 1, description=f"step {step + 1}/{self.steps}")

    def pace(self) -> dict[str, float]:
        """The seconds that a step of this epoch took, for the log at its end; nothing where none was made since the start.

        The first step, which may have waited for more than itself, counts only where it is the only one.
        """
        ends, count = self.step_ends, self.steps_made
        self.step_ends, self.steps_made = [time.monotonic()], 0
        if not count:
            return {}
        seconds = ends[1] - ends[0] if count == 1 else (ends[2] - ends[1]) / (count - 1)
        return {"seconds_per_step": round(seconds, 6)}

    def due(self, step: int, log_every: int) -> bool:
        """Whether to read the metrics now: every `log_every` steps of an epoch, after a while, and for the estimate."""
        waited = time.monotonic() - self.read_at >= READ_SECONDS["terminal" if self.live else "plain"]
        waited = waited and distributed.ranks() == 1  # ranks must agree, and their clocks differ
        return (step + 1) % log_every == 0 or self.calls == ESTIMATE_STEPS or waited

    def read(self, epoch: int, step: int, line: str, details: str) -> None:
        """Show a reading of the metrics: one line and, on a terminal, details below it."""
        self.read_at = time.monotonic()
        seconds = self.read_at - self.started
        done = max(1, self.done - self.first)  # a training that went back may be where it started
        left = f"{duration(seconds / done * (self.total - self.done))} left"
        if self.live:
            self.text.plain = f"\n{line}  {left}\n\n{details}"
        else:
            self.say(f"epoch {epoch + 1}/{self.epochs}  step {step + 1}/{self.steps}  {line}  {left}")
        if self.calls == ESTIMATE_STEPS:
            total = duration(seconds / done * self.total)
            self.say(
                f"{seconds / self.calls:.2f} s per step: about {total} for {counted(self.epochs, 'epoch')}, without evaluation"
            )


def added(numbers: Mapping[str, float]) -> str:
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
