"""The folder of several sub-runs: what was asked of them all, and about what it will cost."""

import importlib
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from darts_cli import DartsError, __version__, files
from darts_cli.genotype import Genotype, load
from darts_cli.runs import history
from darts_cli.runs.display import duration
from darts_cli.runs.run import Run
from darts_cli.runtime import distributed
from darts_cli.runtime.device import resolve
from darts_cli.schema import Config, digest
from darts_cli.sweeps.pool import Crew, Job
from darts_cli.sweeps.worker import MEASURED


@dataclass(frozen=True)
class Asked:
    """What all sub-runs have in common, and what only the whole has: stands where a Run has its configuration."""

    config: Config
    name: str  # of the folder: such as seeds3
    options: tuple[str, ...]  # the further options of the command that repeats it
    further: dict  # further settings that change the result
    without: tuple[str, ...] = ()  # settings of the configuration that the further ones replace

    @property
    def dataset(self) -> str:
        return self.config.dataset

    @property
    def data(self) -> str | None:
        return self.config.data

    def to_dict(self) -> dict:
        return self.further | {name: value for name, value in self.config.to_dict().items() if name not in self.without}

    def compared(self) -> dict:
        return self.further | {name: value for name, value in self.config.compared().items() if name not in self.without}

    def arguments(self) -> list[str]:
        return [*self.config.arguments(), *self.options]

    def folder_name(self, command: str, genotype: Genotype | None = None) -> str:
        return f"{'-'.join(command.split()[:2])}-{self.config.dataset}-{self.name}-{digest(self.compared(), genotype)}"


class Whole(Run):
    """The run folder of a command with sub-runs in it, such as "search cnn --seeds". Raises DartsError like a Run, and under
    torchrun."""

    def __init__(self, command: str, asked: Asked, folder: str | None, genotype: Genotype | None = None):
        distributed.join()
        if distributed.ranks() > 1:
            raise DartsError(f"{command.split()[-1]}: not under torchrun; use --parallel", exit_code=2)
        resolve(asked.config.device)
        super().__init__(command, asked, folder, genotype)

    def begin(self) -> None:
        """Write config.yaml, unless it is there already. The sub-runs compare their data themselves."""
        self.start({"darts": __version__}, {"fingerprint": "that of the sub-runs"})

    def check_data(self, domain: str) -> None:
        """Load the data set, before anything is written and, where it must be downloaded, once. Raises DartsError."""
        if not (self.folder / "report.md").exists():
            importlib.import_module(f"darts_cli.{domain}.data").load(self.config.dataset, self.config.data)

    def repeat(self) -> str:
        return super().repeat().replace(self.command, " ".join(self.command.split()[:2]), 1)


def training(config: Config, kind: type[Config], **further) -> Config:
    """The configuration of a training by the recipe of a search's data set, with what the search has in common with it: data,
    split, device, precision, care, and the batch size where that is not the default."""
    taken = ["dataset", "data", "train_portion", "split_seed"]
    taken += ["device", "precision", "checkpoint_minutes", "log_every", "detect_anomaly"]
    if config.batch_size != type(config)(dataset=config.dataset).batch_size:
        taken.append("batch_size")
    both = {each.name for each in fields(kind)} & {each.name for each in fields(config)}
    return kind(**{name: getattr(config, name) for name in taken if name in both}, **further)


# What a run keeps, in checkpoints as they are at its beginning: two of them; of a training also the best network, which is half
# of one that holds a momentum, and all of one that later holds an average.
COPIES = {"train cnn": 2.5, "select cnn": 2.5, "train rnn": 5, "select rnn": 5}


def estimate(crew: Crew, jobs: Sequence[Job]) -> None:
    """Say about how long the jobs that are not done will take, and how much they all take on the disk; of each command a few
    steps are measured, once. Where these fail that is said, and there is no estimate.
    """
    left = Counter(job.command for job in jobs if not job.done(crew.folder))
    samples = {job.command: job for job in jobs if left[job.command]}
    probes = [_probe(job) for job in samples.values()]
    for reason in crew.run(probes).values():
        return crew.say(f"how long it takes could not be measured: {reason}")
    seconds, size, parts = 0.0, 0, []
    for probe in probes:
        command, epochs = probe.command, probe.config.epochs
        measured = _measured(crew.folder / probe.name)
        each = measured["seconds_a_step"] * measured["steps"] * epochs
        rounds = -(-left[command] // len(crew.devices))
        seconds += rounds * each
        size += round(COPIES.get(command, 2) * measured["bytes"] * sum(job.command == command for job in jobs))
        work = "searches" if command.startswith("search") else "trainings"
        parts.append(f"{left[command]} {work} of {epochs} epochs, {measured['seconds_a_step']:.2g} s a step")
    if parts:
        free = shutil.disk_usage(crew.folder).free
        crew.say(
            f"about {duration(seconds)}, evaluations and starts not counted, and {size / 1e6:,.0f} MB on the disk, "
            f"where {free / 1e9:,.0f} GB are free: {'; '.join(parts)}; {len(crew.devices)} at a time"
        )


def _probe(job: Job) -> Job:
    """A few steps of such a job; of a training whose cells are not known yet with those of DARTS_V2."""
    stage, domain = job.command.split()
    genotype = None if stage == "search" else job.genotype or load("darts_v2", domain)
    return replace(job, name=f"measured/{stage}", genotype=genotype, measure=True)


def _measured(folder: Path) -> dict[str, float]:
    """What a probe has found. Raises DartsError when that is damaged."""
    try:
        found = json.loads(files.read_text(folder / MEASURED))
        if all(0 <= found[name] < 1e15 for name in ("seconds_a_step", "steps", "bytes")):
            return found
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    raise DartsError(f"{folder / MEASURED}: is damaged; delete {folder} to measure anew")


def curve(folder: Path, measure: str) -> tuple[float, ...]:
    """A measure after every epoch of a finished run. Raises DartsError when its metrics are damaged."""
    found = tuple(record.get(measure) for record in history.read(folder).records)
    if None in found:
        raise DartsError(f"{folder / 'metrics.jsonl'}: has an epoch without {measure}; delete {folder} to repeat that run")
    return found
