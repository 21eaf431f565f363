"""The folder of a sweep: many runs by one command, each in a folder of its own below it."""

import contextlib
import importlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from darts_cli import DartsError, __version__, files
from darts_cli.config import RECIPES
from darts_cli.genotype import Genotype
from darts_cli.runs import history
from darts_cli.runs.identity import Identity, environment_of
from darts_cli.runs.shown import events, table
from darts_cli.runs.task import Task
from darts_cli.runtime import distributed
from darts_cli.runtime.device import resolve
from darts_cli.schema import Config, digest, option_name
from darts_cli.settings.search import SearchConfig
from darts_cli.spaces.space import Space
from darts_cli.sweeps.seeds import HERE, Placement

SHARED = (  # settings that a search and the trainings of its cells have in common
    *("dataset", "data", "tokens", "max_images", "subset", "train_portion", "split", "split_seed", "device", "precision"),
    *("image_size", "resize", "flip", "pad"),
    *("deterministic", "compile", "cuda_graphs", "checkpoint_minutes", "log_every", "tensorboard", "detect_anomaly"),
)


@dataclass(frozen=True)
class SweepConfig:
    """The configuration that all runs of a sweep share, and the sweep's own settings; what Identity needs of a Config."""

    config: Config
    name: str  # in the name of the folder: such as seeds3
    options: tuple[str, ...]  # the sweep's own, of the command that repeats it
    settings: dict  # the sweep's own, which change the result
    replaced: tuple[str, ...] = ()  # settings of the configuration that these stand for
    unsaid: tuple[str, ...] = ()  # settings that the sweep's own options give in place of those of the configuration

    @property
    def data(self) -> str | None:
        return self.config.data

    def to_dict(self) -> dict:
        return self._join(self.config.to_dict())

    def compared(self) -> dict:
        return self._join(self.config.compared())

    def completed(self, values: Mapping) -> dict:
        known = self.config.completed(values)
        return {name: known.get(name, values.get(name)) for name in self.compared()}

    def arguments(self, folder: str | Path) -> list[str]:
        unsaid = tuple(f"{option_name(name)} " for name in self.unsaid)
        return [*(words for words in self.config.arguments(folder) if not words.startswith(unsaid)), *self.options]

    def folder_name(self, command: str, genotype: Genotype | None = None) -> str:
        stem = f"{command.replace(' ', '-')}-{self.config.dataset}-{self.name}"
        return f"{stem}-{digest(self, genotype)}"

    def _join(self, values: dict) -> dict:
        return self.settings | {name: value for name, value in values.items() if name not in self.replaced}


class Sweep:
    """The folder of a sweep. Raises DartsError under torchrun, and as a Run does when the folder belongs to something else."""

    def __init__(
        self,
        task: Task,
        config: SweepConfig,
        folder: str | None,
        genotype: Genotype | None = None,
        placement: Placement = HERE,
    ):
        if distributed.launched():
            raise DartsError(f"--{task.sweep}: not under torchrun; use --parallel", exit_code=2)
        if placement.engine == "local":
            resolve(config.config.device)
        if config.config.tensorboard:
            events.check()
        self.identity = Identity.of(task, config, folder, genotype)
        self.task, self.config, self.genotype, self.folder = task, config.config, genotype, self.identity.folder
        self.identity.check()

    def start(self) -> None:
        """Write config.yaml, unless it is there. The runs compare their data themselves."""
        self.identity.write({"darts": __version__}, "that of the sub-runs")

    def load_data(self) -> None:
        """Load the data set before anything is written and, where it must be downloaded, only once. Raises DartsError."""
        if not (self.folder / "report.md").exists():
            load_data(self.task.domain, self.config)

    def show(self, rows: Sequence[table.Row]) -> None:
        """Write TensorBoard's table of the runs where it is asked for."""
        if self.config.tensorboard:
            table.write(self.folder, rows)

    def repeat(self) -> str:
        """The command that repeats this sweep in another folder."""
        return self.identity.repeat()

    def resume(self) -> str:
        """The command that resumes this sweep, or tries again what failed."""
        return self.identity.resume()

    def report(self, text: str) -> None:
        """Write report.md: the text, then program, machine and command."""
        runs = {path.parent for path in self.folder.rglob("config.yaml")} - {self.folder}
        environments = sorted({environment_of(run) for run in runs})
        lines = [f"Environment: {words}." for words in environments]
        given = self.identity.config.settings.get("select_settings")
        if given:
            shown = ", ".join(f"{name} {value}" for name, value in given.items())
            lines.insert(0, f"The short trainings have the recipe of the data set, but for {shown}.")
        text = "\n".join([text.rstrip(), "", *lines, "", "Repeat with:", "", f"    {self.repeat()}", ""])
        files.write(self.folder / "report.md", text)


def load_data(domain: str, config: Config):
    """The data set of a configuration, or the corpus. Raises DartsError."""
    data = importlib.import_module(f"darts_cli.{domain}.data")
    return data.training_set(config) if domain == "cnn" else data.load(config.dataset, config.data, tokens=config.tokens)


def short_settings(given: Mapping[str, object] | None, kind: type[Config]) -> dict:
    """The settings that --select-settings gives the short trainings, checked; a text is read as JSON where the setting is none.

    Raises DartsError.
    """
    known, typed = kind.settings(), {}
    for name, value in (given or {}).items():
        setting = known.get(str(name).replace("-", "_"))
        typed[name] = value
        if isinstance(value, str) and setting is not None and setting.type is not str:
            with contextlib.suppress(ValueError, RecursionError):
                typed[name] = json.loads(value)
    try:
        settings = kind.check(typed)
    except DartsError as error:
        raise DartsError(f"--select-settings: {error}", exit_code=2) from None
    for name in settings:
        if name in SHARED:
            raise DartsError(f"--select-settings: {name} is that of the search for all trainings; leave it out", exit_code=2)
        if name in ("seed", "recipe", "init_from"):
            raise DartsError(f"--select-settings: {name} cannot be set for them; leave it out", exit_code=2)
        if name == "epochs":
            raise DartsError("--select-settings: leave epochs out, which --select-epochs gives", exit_code=2)
    return settings


def short_options(settings: Mapping[str, object]) -> list[str]:
    """The option that gives these settings."""
    words = [
        f"{name.replace('_', '-')}={value if isinstance(value, str) else json.dumps(value)}" for name, value in settings.items()
    ]
    return [shlex.join(["--select-settings", ",".join(words)])] if settings else []


def training(
    config: Config, kind: type[Config], given: Mapping[str, object] | None = None, space: Space | None = None, **settings
) -> Config:
    """The configuration of a training by the recipe of a search's data set, but for the `short_settings` that are given.

    space    of the cells, where it is not that of the search

    It shares with the search the data, split, device, precision and care, and the batch size if that is not the default.
    Raises DartsError where the given settings do not fit each other.
    """
    shared = list(SHARED)
    if config.batch_size != config.default(config.settings()["batch_size"]):
        shared.append("batch_size")
    if isinstance(config, SearchConfig):
        macro = (space or config.searched).macro
        settings |= {"recipe": macro} if macro in RECIPES else {}
    both = {field.name for field in fields(kind)} & {field.name for field in fields(config)}
    settings = {name: getattr(config, name) for name in shared if name in both} | settings
    try:
        return kind(**settings | (given or {}))
    except DartsError as error:
        raise (DartsError(f"--select-settings: {error}", error.exit_code) if given else error) from None


def curve(folder: Path, measure: str) -> tuple[float, ...]:
    """A measure after every epoch of a finished run. Raises DartsError when its metrics are damaged."""
    values = tuple(record.get(measure) for record in history.read(folder).records)
    if None in values:
        raise DartsError(f"{folder / 'metrics.jsonl'}: has an epoch without {measure}; delete {folder} to repeat that run")
    return values
