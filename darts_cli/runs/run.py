"""The folder of one experiment: whose it is (`identity`), its state (`state`), and what it reports (`reports`).

    config.yaml      the command, every setting, and the environment it started in
    metrics.jsonl    one line per epoch, without clock times: equal for equal runs
    log.jsonl        one line per reading of the metrics, with clock times
    genotype.yaml    the cells a search has derived so far, or the cells that are trained
    checkpoint.pt    everything that resuming needs; previous.pt is the one before
    epoch-N.pt       the state after an epoch to which --then regularise may go back
    best.pt          the network of a training's best epoch, where a validation part tells which that is
    *.pt.sha256      their checksums
    tensorboard/     with --tensorboard: an event file that follows from the metrics
    report.md        protocol, result and cost, at the end; curves.svg and a picture of each cell, which it shows

Every file but the log is written completely or not at all, the checkpoint after the files it implies. A run killed at any
moment resumes from its last checkpoint and ends with the same bits.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from darts_cli import DartsError
from darts_cli import genotype as genotypes
from darts_cli.genotype import Genotype
from darts_cli.pictures.charts import chart
from darts_cli.runs import signals
from darts_cli.runs.identity import Identity, environment_of
from darts_cli.runs.lock import locked
from darts_cli.runs.reports import Reports
from darts_cli.runs.shown import illustrations
from darts_cli.runs.shown.events import Events
from darts_cli.runs.state import State
from darts_cli.runs.task import Task
from darts_cli.runtime import distributed
from darts_cli.schema import Config
from darts_cli.text import duration, tell_at_once


class Run:
    """The run folder of a task with that configuration; nothing is written before `start`.

    task, config    what is run, with which settings
    folder          default: runs/STAGE-DOMAIN-DATASET-seedN-HASH
    genotype        the cells that are trained
    lasting         False: signals interrupt the run like any other function
    extend          whether the run in the folder is to go on for more epochs, with the schedule of a run that long
    sweep           the commands that resume and repeat the sweep of which this run is a part; it then waits until its folder is
                    free

    Raises DartsError when the folder belongs to another configuration, naming what differs, or is no run folder.
    """

    def __init__(
        self,
        task: Task,
        config: Config,
        folder: str | Path | None = None,
        genotype: Genotype | None = None,
        *,
        lasting: bool = True,
        sweep: Sequence[str] | None = None,
        extend: bool = False,
    ):
        self.identity = Identity.of(task, config, folder, genotype)
        self.extend = extend
        if extend:
            self.identity.check_extension()
        else:
            self.identity.check()
        self.task, self.config, self.genotype, self.folder = task, config, genotype, self.identity.folder
        self.lasting, self.sweep = lasting, sweep
        events = Events(self.folder, task, config, genotype) if config.tensorboard else None
        self.reports = Reports(self.folder, events)
        self.state = State(self.identity, self.reports, self._resume())

    def start(self, environment: dict[str, str], data: dict) -> None:
        """Create the folder and write config.yaml, unless it is there, and the cells that are trained.

        `data` describes the data set; every checkpoint keeps it. Raises DartsError when config.yaml names another
        data["fingerprint"].
        """
        self.state.data = data
        if distributed.rank() == 0:
            if self.extend:
                self.state.extend()
                self.identity.extend()
            self.identity.write(environment, data["fingerprint"])
        if self.extend:
            distributed.wait()  # for the checkpoint, which all ranks read

    def taken(self) -> Genotype | None:
        """The cells of the earlier epoch that a search takes which `--stop` has ended; None where it has not."""
        stopped = self.config.stopped(self.reports.metrics)
        if stopped is None:
            return None
        source = f"epoch {stopped[1] + 1} of a search that --stop {self.config.stop} ended after epoch {stopped[0] + 1}"
        cells = Genotype.from_dict(self.reports.metrics[stopped[1]]["genotype"] | {"source": source})
        if distributed.rank() == 0:
            genotypes.save(cells, self.folder / "genotype.yaml")
        return cells

    def illustrate(self, cells: Genotype) -> str:
        """Write the curves and the drawn cells; returns the Markdown by which the report shows them."""
        if distributed.rank() == 0:
            illustrations.write(self.folder, self._charts(), cells)
        return illustrations.markdown(cells)

    def cost(self, device) -> str:
        """What a report says of time, machine and program."""
        spent = f"Cost: {duration(self.reports.seconds())} on {device}, {self.config.precision}."
        return f"{spent}\nEnvironment: {environment_of(self.folder)}."

    def _repr_html_(self) -> str | None:
        """How a notebook shows it: its curves so far."""
        return chart.notebook(self._charts()) if self.reports.metrics else None

    def _charts(self) -> list[chart.Chart]:
        return illustrations.charts(self.task, self.config, self.reports.metrics)

    def repeat(self) -> str:
        """The command that repeats this run; a run that only ranks a candidate is repeated by its sweep."""
        return self.sweep[1] if self.sweep and self.task.stage == "select" else self.identity.repeat()

    def _resume(self) -> str:
        """The command that resumes this run, likewise."""
        return self.sweep[0] if self.sweep and self.task.stage == "select" else self.identity.resume()

    @contextlib.contextmanager
    def interruptible(self, say: Callable[[str], None] = tell_at_once) -> Iterator[None]:
        """Inside, the folder is locked, and a signal to stop is noted: the next `state.checkpoint` saves and ends the run.

        say    what tells the user so, from within the handler of the signal

        A second signal ends the process at once; not under torchrun, which passes on what the terminal has sent already. Raises
        DartsError when another run holds the folder.
        """
        lock = locked(self.folder, wait=self.sweep is not None) if distributed.rank() == 0 else contextlib.nullcontext()
        noted = signals.noted(partial(self._note, say)) if self.lasting else contextlib.nullcontext()
        with lock, distributed.together(), noted:
            yield

    def _note(self, say: Callable[[str], None], number: int) -> None:
        self.state.signal = number
        if distributed.ranks() == 1:
            say(f"finishing this step, then saving{'' if self.sweep else '; a second signal stops at once'}")
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
