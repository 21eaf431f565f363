"""What a run reports: metrics.jsonl, log.jsonl, genotype.yaml and report.md. Under torchrun only rank 0 writes."""

import json
import time
from pathlib import Path

from darts_cli import files
from darts_cli import genotype as genotypes
from darts_cli.genotype import Genotype
from darts_cli.runs import history
from darts_cli.runs.shown.events import Events
from darts_cli.runtime import distributed


class Reports:
    """The reports in a run folder; with events also those for TensorBoard."""

    def __init__(self, folder: Path, events: Events | None = None):
        self.folder, self.events = folder, events
        self.metrics: list[dict] = []  # the records of the finished epochs
        self._logged_at = time.monotonic()

    def record(self, metrics: dict, cells: Genotype | None = None) -> None:
        """Add the record of a finished epoch to metrics.jsonl; write the cells derived so far to genotype.yaml."""
        self.replace([*self.metrics, metrics])
        if cells is not None and distributed.rank() == 0:
            genotypes.save(cells, self.folder / "genotype.yaml")

    def replace(self, metrics: list[dict]) -> None:
        """Make these the records of the finished epochs."""
        self.metrics = metrics
        if distributed.rank() == 0:
            files.write(self.folder / "metrics.jsonl", "".join(json.dumps(record) + "\n" for record in metrics))
            if self.events is not None:
                self.events.follow(metrics)

    def log(self, **entry) -> None:
        """Append to log.jsonl, with the time of day and the seconds since the last entry."""
        now = time.monotonic()
        line = json.dumps({"time": round(time.time(), 3), "seconds": round(now - self._logged_at, 3), **entry})
        self._logged_at = now
        if distributed.rank() == 0:
            files.append(self.folder / "log.jsonl", line + "\n")

    def seconds(self) -> float:
        """Time spent in this run so far, also before it was resumed, from the entries of the log."""
        return history.seconds(self.folder)

    def write(self, report: str) -> None:
        """Write report.md."""
        if distributed.rank() == 0:
            files.write(self.folder / "report.md", report)
