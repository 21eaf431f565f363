"""The command `darts runs`."""

import contextlib
import json
import os
import time
from pathlib import Path

import click

from darts_cli import DartsError, files
from darts_cli.commands.completion import DIR
from darts_cli.commands.options import option
from darts_cli.runs import history
from darts_cli.text import duration, table

SHOWN = {"accuracy": lambda value: f"{value:.2%}", "perplexity": lambda value: f"{value:.2f}"}


@click.command("runs")
@click.argument("folder", metavar="[DIR]", type=DIR, default="runs")
@option("--json", "as_json", is_flag=True, help="Print JSON.")
def runs(folder, as_json):
    """List the runs and sweeps below a folder, the newest last.

    What was run on which data, the finished epochs (of a sweep: runs), the last result, the time spent, and when it was last
    written to. The runs of a sweep are in its own folder: darts runs SWEEP.

    \b
    Example: darts runs
    """
    if not Path(folder).is_dir():
        raise DartsError(f"{folder}: there is no such folder; name one with runs in it")
    found = [described(path) for path in _run_folders(Path(folder))]
    found.sort(key=lambda run: (run["changed"], run["folder"]))
    if as_json:
        return click.echo(json.dumps(found))
    if not found:
        return click.echo(f"no runs below {folder}")
    rows = [("run", "command", "data", "done", "result", "time", "changed")]
    for run in found:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(run["changed"]))
        done = f"{run['done']}/{run['of']}" if run["of"] else str(run["done"])
        result = run.get("problem", "")
        if "value" in run:
            result = f"{run['measure']} {SHOWN[run['measure'].split()[-1]](run['value'])}"
        rows.append((run["folder"], run["command"], run["dataset"], done, result, duration(run["seconds"]), when))
    return click.echo(table(rows))


def _run_folders(folder: Path) -> list[Path]:
    """The folders of runs and sweeps below a folder, without those of the runs in a sweep."""
    found = []
    for path, below, names in os.walk(folder):
        below.sort()
        if "config.yaml" in names and Path(path) != folder:
            found.append(Path(path))
            below.clear()
    return found


def described(folder: Path) -> dict:
    """What is said of a run or a sweep: folder, command, dataset, done, of, and where there is one the last result."""
    newest = folder.stat().st_mtime
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # a run that goes on removes files
            newest = max(newest, path.lstat().st_mtime)
    about = {"folder": str(folder), "command": "", "dataset": "", "done": 0, "of": None, "changed": newest}
    about["seconds"] = sum(history.seconds(path.parent) for path in folder.rglob("log.jsonl"))
    try:
        settings = files.read_yaml(folder / "config.yaml")
        if not isinstance(settings, dict) or "command" not in settings:
            raise DartsError("config.yaml is not that of a run")
        about |= {"command": str(settings["command"]), "dataset": str(settings.get("dataset", ""))}
        if not history.is_run(folder):
            parts = [path.parent for path in folder.rglob("config.yaml") if path.parent != folder]
            return about | {"done": sum(map(history.complete, parts)), "of": len(parts)}
        about["of"] = settings.get("epochs")
        if (folder / "metrics.jsonl").exists():
            run = history.read(folder)
            about |= {"done": len(run.records)} | _result(run.records[-1])
            if run.stage == "search" and run.config.stopped(run.records) and run.config.then == "end":
                about["of"] = len(run.records)  # a rule has ended it
    except DartsError as error:
        about["problem"] = f"cannot be read: {error}"
    return about


def _result(record: dict) -> dict:
    """The result that counts most: on the test part, of the best epoch, or else on the validation part."""
    for part in ("best_test", "test", "valid"):
        for measure in SHOWN:
            if f"{part}_{measure}" in record:
                return {"measure": f"{part.replace('_', ' ')} {measure}", "value": record[f"{part}_{measure}"]}
    return {}
