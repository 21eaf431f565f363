"""What a run folder tells, read without torch: the command, its settings and the metrics of every finished epoch."""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

from darts_cli import DartsError, files
from darts_cli.config import SearchCNN, SearchRNN, TrainCNN, TrainRNN
from darts_cli.genotype import Genotype, load
from darts_cli.schema import Config
from darts_cli.spaces import SPACES, problems

HUGE = {"loss": 1e15, "accuracy": 1e15, "perplexity": 1e305}  # which none reaches; the highest perplexity is exp(700)
CONFIGS = {"search cnn": SearchCNN, "search rnn": SearchRNN, "train cnn": TrainCNN, "train rnn": TrainRNN}
CONFIGS |= {"select cnn": TrainCNN, "select rnn": TrainRNN}  # a training that leaves the test part closed


@dataclass(frozen=True)
class History:
    """A run as its folder tells it; of a search every record of an epoch holds the cells and the tables of alpha."""

    folder: Path
    command: str  # such as "search cnn"
    config: Config
    records: list[dict]  # one a finished epoch, in order

    @property
    def stage(self) -> str:
        return self.command.split()[0]

    @property
    def domain(self) -> str:
        return self.command.split()[1]

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    def genotypes(self) -> list[Genotype]:
        """The cells after each epoch of a search."""
        return [Genotype.from_dict(record["genotype"]) for record in self.records]

    def repeat(self) -> str:
        """The command that repeats a search."""
        run = [] if self.name == self.config.folder_name(self.command) else [f"--run {shlex.quote(str(self.folder))}"]
        return " ".join([f"darts {self.command}", *self.config.arguments(), *run])


def is_run(path: str | Path) -> bool:
    """Whether the folder of a run is there; that of many, of --seeds or --repeats, is none. Raises DartsError as YAML does."""
    settings = Path(path) / "config.yaml"
    if not files.is_file(settings):
        return False
    data = files.read_yaml(settings)
    return not (isinstance(data, dict) and str(data.get("command")).endswith((" --seeds", " --repeats")))


def read(folder: str | Path) -> History:
    """The history of a run. Raises DartsError when the folder holds none, or no finished epoch, or something else is wrong."""
    folder = Path(folder)
    command, config = _config(folder / "config.yaml")
    path = folder / "metrics.jsonl"
    if not path.exists():
        raise DartsError(f"{folder}: this run has no finished epoch yet; darts {command} writes its metrics after the first")
    records = [_record(f"{path}: line {i}", line, i, command) for i, line in enumerate(files.read_lines(path), 1)]
    if not records:
        raise DartsError(f"{path}: is empty, so there is no finished epoch to show")
    return History(folder, command, config, records)


def _config(path: Path) -> tuple[str, Config]:
    data = files.read_yaml(path)
    kind = CONFIGS.get(data.get("command")) if isinstance(data, dict) and isinstance(data.get("command"), str) else None
    if kind is None:
        raise DartsError(f"{path}: is not the configuration of a run; its command must be one of {', '.join(CONFIGS)}")
    try:
        return data["command"], kind.from_dict(data)
    except DartsError as error:
        raise DartsError(f"{path}: {error}") from None


def complete(folder: Path) -> bool:
    """Whether a run has ended and its files tell all of it; what they lack the same command writes from its checkpoint."""
    try:
        found, cells = read(folder), load(folder)
    except DartsError:
        return False
    last, given = found.records[-1], files.read_yaml(folder / "config.yaml").get("genotype")
    ended = len(found.records) == found.config.epochs or (getattr(found.config, "patience", None) and "test_loss" in last)
    return bool(ended) and last.get("genotype", given) == cells.to_dict() and (folder / "report.md").exists()


def _record(place: str, line: str, epoch: int, command: str) -> dict:
    """The record of an epoch in a line of JSON."""

    def refuse(constant: str):
        raise ValueError(constant)

    try:
        record = json.loads(line, parse_constant=refuse)
    except (ValueError, RecursionError):
        raise DartsError(f"{place}: is not the record of an epoch") from None
    check_record(place, record, epoch, command)
    return record


def check_record(place: str, record: object, epoch: int, command: str) -> None:
    """Raises DartsError, naming the place, when this is not the record of that epoch, as far as it is shown."""
    if not isinstance(record, dict) or record.get("epoch") != epoch:
        raise DartsError(f"{place}: is not the record of epoch {epoch}")
    stage, domain = command.split()
    for part in ("train", "valid", "test", "best_test"):
        for measure in ("loss", "accuracy" if domain == "cnn" else "perplexity"):
            name, needed = f"{part}_{measure}", stage == "search" and part in ("train", "valid")
            value = record.get(name)
            fits = type(value) in (int, float) and abs(value) < HUGE[measure] and (measure != "perplexity" or value > 0)
            if (needed or name in record) and not fits:
                raise DartsError(f"{place}: {name} must be a number, and less than {HUGE[measure]:g}")
    if stage == "search":
        found = problems(record.get("genotype"))
        if found or record["genotype"]["domain"] != domain:
            raise DartsError(f"{place}: genotype: {found[0] if found else f'is not of the domain {domain}'}")
        for cell in SPACES[domain].cells:
            _check_table(f"{place}: alphas of {cell}", record.get("alphas"), cell, domain)
            _check_space(f"{place}: genotype: {cell}", record["genotype"][cell], domain)


def _check_table(place: str, alphas: object, cell: str, domain: str) -> None:
    space = SPACES[domain]
    rows, columns = space.edges_searched(space.nodes), len(space.searched)
    table = alphas.get(cell) if isinstance(alphas, dict) else None
    fits = isinstance(table, list) and len(table) == rows and all(isinstance(r, list) and len(r) == columns for r in table)
    if not fits or not all(isinstance(a, int | float) and abs(a) < 1e6 for row in table for a in row):
        raise DartsError(f"{place}: must be {rows} rows of {columns} numbers, a row an edge, a column an operation")


def _check_space(place: str, cell: dict, domain: str) -> None:
    if len(cell["nodes"]) != SPACES[domain].nodes:
        raise DartsError(f"{place}: a search finds {SPACES[domain].nodes} nodes, not {len(cell['nodes'])}")
