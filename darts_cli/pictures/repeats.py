"""The trainings of one cell with several seeds, in the folder of `darts train --repeats`."""

from dataclasses import dataclass
from pathlib import Path

from darts_cli import DartsError, files
from darts_cli.runs import history
from darts_cli.runs.history import History
from darts_cli.runs.task import Task


@dataclass(frozen=True)
class Repeats:
    """The trainings that have finished, by the name of their folder; and the names of the others, which failed or go on."""

    folder: Path
    task: Task
    runs: dict[str, History]
    unfinished: tuple[str, ...]


def is_repeats(folder: str | Path) -> bool:
    """Whether this is the folder of repeated trainings. Raises DartsError when config.yaml is not YAML."""
    path = Path(folder) / "config.yaml"
    data = files.read_yaml(path) if files.is_file(path) else None
    return isinstance(data, dict) and str(data.get("command")).endswith(" --repeats")


def read(folder: str | Path) -> Repeats:
    """The trainings in a folder. Raises DartsError, naming the file, when its configuration is damaged."""
    path = Path(folder) / "config.yaml"
    data = files.read_yaml(path)
    task = Task.parse(data.get("command"))
    seed, count = data.get("seed"), data.get("repeats")
    if type(seed) is not int or type(count) is not int or not 0 < count <= 10_000:
        raise DartsError(f"{path}: is not the configuration of repeated trainings (its seed and repeats)")
    names = [f"seed-{number}" for number in range(seed, seed + count)]
    runs = {name: history.read(Path(folder) / name) for name in names if history.complete(Path(folder) / name)}
    return Repeats(Path(folder), task, runs, tuple(name for name in names if name not in runs))
