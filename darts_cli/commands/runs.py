"""The command `darts runs`."""

import contextlib
import json
import math
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
    written to. The result of a sweep is the score of its winner, or the mean. Its runs are in its own folder: darts runs SWEEP.

    \b
    Example: darts runs
    """
    if not Path(folder).is_dir():
        there = "is a file" if Path(folder).exists() else "there is no such folder"
        raise DartsError(f"{folder}: {there}; name a folder with runs in it")
    found = [described(path) for path in _run_folders(Path(folder))]
    found.sort(key=lambda run: (run["changed"], run["folder"]))
    if as_json:
        return click.echo(json.dumps(found))
    if not found:
        itself = "; it is the folder of one" if (Path(folder) / "config.yaml").exists() else ""
        return click.echo(f"no runs below {folder}{itself}")
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
            return about | {"done": sum(map(history.complete, parts)), "of": len(parts)} | _of_sweep(folder)
        about["of"] = settings.get("epochs")
        if (folder / "metrics.jsonl").exists():
            run = history.read(folder)
            about |= {"done": len(run.records)} | _result(run.records[-1])
            if run.stage == "search" and run.config.stopped(run.records) and run.config.then == "end":
                about["of"] = len(run.records)  # a rule has ended it
    except DartsError as error:
        about["problem"] = f"cannot be read: {error}"
    return about


def _of_sweep(folder: Path) -> dict:
    """The result of a sweep that has ended: the score of the winner, the mean of repeated trainings, or the best mean of the
    compared methods."""
    for name, read in SWEEPS.items():
        if (folder / name).exists():
            try:
                found = read(files.read_yaml(folder / name))
                if found and not (found["measure"].split()[-1] in SHOWN and math.isfinite(found["value"])):
                    raise ValueError
            except (LookupError, TypeError, AttributeError, ValueError):
                raise DartsError(f"{name} is damaged") from None
            return found
    return {}


def _selected(content: dict) -> dict:
    if not content["protocol"]:
        return {}
    first, measure = content["candidates"][0], content["protocol"]["measure"].replace("_", " ")
    return {"measure": f"{content['winner']}, {measure}", "value": first["score"]}


def _repeated(content: dict) -> dict:
    found = _result({name: value["mean"] for name, value in content.items() if isinstance(value, dict)})
    return {"measure": f"mean {found['measure']}", "value": found["value"]} if found else {}


def _compared(content: dict) -> dict:
    if len(content["spaces"]) > 1:
        return {}
    (found,) = content["spaces"].values()
    means = {name: result["mean"] for name, result in found["methods"].items()}
    if found["higher_is_better"]:
        best = max(means, key=means.get)
        return {"measure": f"{best}, mean accuracy", "value": means[best] / 100}
    best = min(means, key=means.get)
    return {"measure": f"{best}, mean perplexity", "value": means[best]}


SWEEPS = {"selection.yaml": _selected, "result.yaml": _repeated, "comparison.yaml": _compared}


def _result(record: dict) -> dict:
    """The result that counts most: on the test part, of the best epoch, or else on the validation part."""
    for part in ("best_test", "test", "valid"):
        for measure in SHOWN:
            if f"{part}_{measure}" in record:
                return {"measure": f"{part.replace('_', ' ')} {measure}", "value": record[f"{part}_{measure}"]}
    return {}
