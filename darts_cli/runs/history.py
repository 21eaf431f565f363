"""A run folder, read without torch: the task, its settings, and the metrics of every finished epoch."""

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

from darts_cli import DartsError, files
from darts_cli.genotype import Genotype, load
from darts_cli.methods.catalogue import METHOD_NUMBERS
from darts_cli.runs.identity import Identity
from darts_cli.runs.task import Task
from darts_cli.schema import Config
from darts_cli.settings.shared import BENCHMARK_DATA
from darts_cli.spaces.rules import genotype_problems
from darts_cli.spaces.space import Space

MAX_LOG_SECONDS = 1e9  # that one entry of the log can stand for
LIMITS = {"loss": 1e15, "accuracy": 1e15, "perplexity": 1e305}  # a perplexity is at most exp(700)
MEASURES = {"cnn": ("loss", "accuracy"), "rnn": ("loss", "perplexity")}


@dataclass(frozen=True)
class History:
    """What a run folder says; each record of a search holds the cells, and the tables of alpha and of operation weights."""

    folder: Path
    task: Task
    config: Config
    records: list[dict]  # one per finished epoch, in order

    @property
    def command(self) -> str:
        return self.task.command

    @property
    def stage(self) -> str:
        return self.task.stage

    @property
    def domain(self) -> str:
        return self.task.domain

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def space(self) -> Space:
        """The space of a search."""
        return self.config.searched

    def genotypes(self) -> list[Genotype]:
        """The cells after each epoch of a search."""
        return [Genotype.from_dict(record["genotype"]) for record in self.records]

    def truth(self) -> list[dict[str, float]]:
        """By epoch, what NAS-Bench-201 knows of the cells on the data set that is shown; nothing in other spaces."""
        known = [record["truth"][self.config.benchmark_data] for record in self.records if "truth" in record]
        return known if len(known) == len(self.records) else []

    def skips(self) -> list[tuple[int, int]]:
        """Of a search, after each epoch: the skip connections of the first cell."""
        return [(r["epoch"], next(iter(r["skip_connections"].values()))) for r in self.records if r.get("skip_connections")]

    def eigenvalues(self) -> list[tuple[int, float]]:
        """The largest eigenvalues of the Hessian, each with its epoch."""
        return [(record["epoch"], record["eigenvalue"]) for record in self.records if "eigenvalue" in record]

    def method_numbers(self, name: str) -> list[tuple[int, float]]:
        """A number that the method adds to the records, each with its epoch."""
        return [(record["epoch"], record[name]) for record in self.records if name in record]

    def shares(self, cell: str) -> list[dict[tuple[int, int], float]]:
        """Of a search, after each epoch: the weight of the operation that each edge of a cell takes, by (input, node).

        As shares of the largest weight of any operation in any epoch.
        """
        edges, choices = self.space.edges(), self.space.choices(cell)
        largest = max(max(row) for record in self.records for row in record["operation_weights"][cell])
        found = []
        for record in self.records:
            rows = dict(zip(edges, zip(record["operation_weights"][cell], choices, strict=True), strict=True))
            nodes = enumerate(record["genotype"][cell]["nodes"], self.space.inputs)
            taken = [(op, (state, i)) for i, node in nodes for op, state in node if (state, i) in rows]
            weights = {place: dict(zip(rows[place][1], rows[place][0], strict=True)).get(op, 0.0) for op, place in taken}
            found.append({place: weight / largest if largest > 0 else 0.0 for place, weight in weights.items()})
        return found

    def __repr__(self) -> str:
        return f"<History of {self.folder}, darts {self.command}, {len(self.records)} of {self.config.epochs} epochs>"

    def _repr_html_(self) -> str:
        """How a notebook shows it: its curves."""
        from darts_cli.pictures.charts import chart
        from darts_cli.runs.shown import illustrations

        return chart.notebook(illustrations.charts(self.task, self.config, self.records))

    def repeat(self) -> str:
        """The command that repeats the run; nothing for a short training, which only its sweep can repeat."""
        if self.stage == "select":
            return ""
        cells = None if self.stage == "search" else load(self.folder / "genotype.yaml")
        return Identity.of(self.task, self.config, self.folder, cells).repeat()


def is_run(path: str | Path) -> bool:
    """Whether this is the folder of a single run, and not of a sweep. Raises DartsError when config.yaml is not YAML."""
    settings = Path(path) / "config.yaml"
    if not files.is_file(settings):
        return False
    data = files.read_yaml(settings)
    return not (isinstance(data, dict) and str(data.get("command")).endswith((" --seeds", " --repeats")))


def read(folder: str | Path) -> History:
    """The history of a run. Raises DartsError when the folder holds no run, no finished epoch, or a damaged file."""
    folder = Path(folder)
    if files.is_file(folder / "config.yaml") and not is_run(folder):
        inner = sorted(path.parent.relative_to(folder) for path in folder.rglob("config.yaml") if path.parent != folder)
        example = f", such as {folder / inner[0]}" if inner else ""
        raise DartsError(f"{folder}: holds the runs of a sweep; name one of them{example}")
    task, config = _read_config(folder / "config.yaml")
    path = folder / "metrics.jsonl"
    if not path.exists():
        raise DartsError(f"{folder}: this run has no finished epoch yet; darts {task} writes its metrics after the first")
    records = [_parse_record(f"{path}: line {i}", line, i, task, config) for i, line in enumerate(files.read_lines(path), 1)]
    if not records:
        raise DartsError(f"{path}: is empty, so there is no finished epoch to show")
    return History(folder, task, config, records)


def timings(folder: Path) -> dict[int, dict[str, float]]:
    """By epoch, when it ended and how long its steps took, as `time` and `seconds_per_step`: what the log says last of each.

    A process that was killed after the last step of an epoch leaves the second to the one before it, or to the epoch before.
    """
    path, found = folder / "log.jsonl", {}
    for line in path.read_text(errors="replace").splitlines() if files.is_file(path) else ():
        with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError, OverflowError):  # a kill may have cut a line
            entry = json.loads(line)
            numbers = {name: float(entry[name]) for name in ("time", "seconds_per_step") if name in entry}
            if "step" not in entry and all(0 <= number < MAX_LOG_SECONDS * 1e3 for number in numbers.values()):
                epoch = int(entry["epoch"])
                pace = found.get(epoch) or found.get(epoch - 1) or {}
                found[epoch] = {name: pace[name] for name in ("seconds_per_step",) if name in pace} | numbers
    return found


def seconds(folder: Path) -> float:
    """Time spent in a run so far, also before it was resumed, from the entries of its log."""
    path, total = folder / "log.jsonl", 0.0
    for line in path.read_text(errors="replace").splitlines() if files.is_file(path) else ():
        with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):  # a kill may have cut a line
            entry = json.loads(line)["seconds"]
            total += entry if 0 <= entry < MAX_LOG_SECONDS else 0
    return total


def complete(folder: Path) -> bool:
    """Whether a run has ended and all its files are there. (The same command writes missing ones from the checkpoint.)"""
    try:
        history, cells = read(folder), load(folder)
        last, trained = history.records[-1], files.read_yaml(folder / "config.yaml").get("genotype")
        stopped = history.config.stopped(history.records) if history.stage == "search" else None
        found = Genotype.from_dict((history.records[stopped[1]] if stopped else last).get("genotype", trained))
    except DartsError:
        return False
    patience = getattr(history.config, "patience", None)
    stopped_early = patience and (history.stage == "select" or "test_loss" in last)  # of which the last epoch tests
    ended = len(history.records) == history.config.epochs or stopped_early or stopped
    return bool(ended) and found == cells and (folder / "report.md").exists()


def _read_config(path: Path) -> tuple[Task, Config]:
    data = files.read_yaml(path)
    try:
        task = Task.parse(data.get("command") if isinstance(data, dict) else None)
    except DartsError as error:
        raise DartsError(f"{path}: is not the configuration of a run; {error}") from None
    try:
        return task, task.config.from_dict(data)
    except DartsError as error:
        raise DartsError(f"{path}: {error}") from None


def _parse_record(prefix: str, line: str, epoch: int, task: Task, config: Config) -> dict:
    """The record of an epoch, from a line of JSON."""

    def refuse(constant: str):
        raise ValueError(constant)

    try:
        record = json.loads(line, parse_constant=refuse)
    except (ValueError, RecursionError):
        raise DartsError(f"{prefix}: is not the record of an epoch") from None
    check_record(prefix, record, epoch, task, config)
    return record


def check_record(prefix: str, record: object, epoch: int, task: Task, config: Config) -> None:
    """Check the parts of a record that are shown. Raises DartsError, beginning with the prefix."""
    if not isinstance(record, dict) or record.get("epoch") != epoch:
        raise DartsError(f"{prefix}: is not the record of epoch {epoch}")
    required = [f"{part}_{name}" for part in ("train", "valid") for name in MEASURES[task.domain]]
    for part in ("train", "valid", "test", "best_test"):
        for measure in MEASURES[task.domain]:
            name = f"{part}_{measure}"
            if name in record or (task.stage == "search" and name in required):
                _check_number(f"{prefix}: {name}", record.get(name), LIMITS[measure], positive=measure == "perplexity")
    watched = ("mixed_accuracy", "discrete_accuracy", "discrete_loss", "parameter_free", "eigenvalue")
    for name in ("lr", "entropy", *watched, *METHOD_NUMBERS):
        if name in record:
            _check_number(f"{prefix}: {name}", record[name], 1e9, positive=False)
    if task.stage == "search":
        broken_rules = genotype_problems(record.get("genotype"))
        if not broken_rules and record["genotype"]["domain"] != task.domain:
            broken_rules = [f"is not of the domain {task.domain}"]
        space = config.searched
        if not broken_rules and record["genotype"].get("space") != space.genotype_space:
            broken_rules = [f"is not of the space {space.name}"]
        if broken_rules:
            raise DartsError(f"{prefix}: genotype: {broken_rules[0]}")
        if "operation_weights" not in record:
            raise DartsError(f"{prefix}: has no operation weights; an earlier version of darts wrote it: search again")
        if "truth" in record:
            _check_truth(f"{prefix}: truth", record["truth"])
        for cell in space.cells:
            for tables in ("alphas", "operation_weights"):
                _check_table(f"{prefix}: {tables} of {cell}", record.get(tables), cell, space)
            fewer = "threshold" in config.spec.parts  # which leaves nodes out
            _check_nodes(f"{prefix}: genotype: {cell}", record["genotype"][cell], space, fewer)


def numbers(task: Task, config: Config) -> list[str]:
    """The numbers that every record of such a run has, besides those of `check_record`."""
    if task.stage == "search":
        return ["entropy"]
    if task.domain == "rnn":
        return [f"{part}_{measure}" for part in ("train", "valid") for measure in MEASURES["rnn"]] + ["averages"]
    held_out = "valid" if config.train_portion < 1 else "test"
    return [f"{part}_{measure}" for part in ("train", held_out) for measure in (*MEASURES["cnn"], "top5")]


def _check_number(prefix: str, value: object, limit: float, positive: bool) -> None:
    if type(value) not in (int, float) or not abs(value) < limit or (positive and value <= 0):
        raise DartsError(f"{prefix} must be a number, and less than {limit:g}")


def _check_truth(prefix: str, truth: object) -> None:
    for dataset in BENCHMARK_DATA:
        known = truth.get(dataset) if isinstance(truth, dict) else None
        for name in ("accuracy", "rank", "best"):
            _check_number(f"{prefix}: {name} on {dataset}", known.get(name) if isinstance(known, dict) else None, 1e6, True)


def _check_table(prefix: str, tables: object, cell: str, space: Space) -> None:
    rows, columns = len(space.edges()), len(space.choices(cell)[0])
    table = tables.get(cell) if isinstance(tables, dict) else None
    fits = isinstance(table, list) and len(table) == rows and all(isinstance(r, list) and len(r) == columns for r in table)
    if not fits or not all(isinstance(a, int | float) and abs(a) < 1e6 for row in table for a in row):
        raise DartsError(f"{prefix}: must be {rows} rows of {columns} numbers, one row per edge and one column per operation")


def _check_nodes(prefix: str, cell: dict, space: Space, fewer: bool) -> None:
    if len(cell["nodes"]) > space.nodes or (len(cell["nodes"]) < space.nodes and not fewer):
        raise DartsError(f"{prefix}: a search finds {space.nodes} nodes, not {len(cell['nodes'])}")
