"""The command `darts doctor`."""

import importlib
import json
import statistics
from dataclasses import replace
from itertools import islice
from pathlib import Path

import click

from darts_cli import DartsError
from darts_cli.commands.completion import DIR
from darts_cli.commands.options import option
from darts_cli.text import counted, hint, table


@click.command("doctor")
@click.argument("run", metavar="RUN", type=DIR)
@option("--steps", type=click.IntRange(1), default=4, show_default=True, help="Steps of the search to compute.")
@option("--batch-size", type=click.IntRange(2), show_default="that of the search", help="Images, or streams, of a batch.")
@option("--data", type=DIR, show_default="that of the search", help="Folder of the data set.")
@option("--device", metavar="DEVICE", default="auto", show_default=True, help="Device: auto, cpu, cuda, cuda:N or mps.")
@option("--precision", type=click.Choice(["fp32", "fp64"]), default="fp32", show_default=True, help="Arithmetic.")
@option("--json", "as_json", is_flag=True, help="Print JSON, with the numbers of every step.")
def doctor(run, steps, batch_size, data, device, precision, as_json):
    """Measure how exact the hypergradient of a search is.

    The gradient of alpha, of first order and by the finite difference of eq. 8, is compared with the exact one of eq. 7, on the
    batches that follow the newest checkpoint of the run; of a finished search on those of the last epoch. The run does not
    change. The network is computed in its plain form, and differentiated twice, which takes several times the memory of the
    search. In fp64 nothing but the finite difference itself is left to err.

    \b
    Example: darts doctor runs/first
    """
    import torch

    from darts_cli.guard.angles import compared, default_dtype, hypergradients
    from darts_cli.runs.history import read
    from darts_cli.runs.run import Run
    from darts_cli.runs.task import Task
    from darts_cli.runtime.device import prepare

    if not (Path(run) / "config.yaml").exists():
        raise DartsError(f"{run}: is no run folder; name that of a search", exit_code=2)
    history = read(run)
    if history.stage != "search":
        raise DartsError(f"{run}: is a run of darts {history.command}; name a search", exit_code=2)
    config, the_run = history.config, Run(Task("search", history.domain), history.config, run)
    if the_run.state.newest() is None:
        raise DartsError(f"{run}: holds no checkpoint; a search writes one after its first epoch")
    changed = {"batch_size": batch_size or config.batch_size, "data": data or config.data}
    examined = replace(config, unrolled="exact", precision="fp32", compile=False, **changed)
    reopened = importlib.import_module(f"darts_cli.{history.domain}.step").reopened
    with default_dtype(torch.float64 if precision == "fp64" else torch.float32):
        found = [
            {"step": position[2].number + 1, "compared": compared(hypergradients(*position))}
            for position in islice(reopened(examined, the_run, prepare(device)), steps)
        ]
    if len(found) < steps:
        hint(f"only {counted(len(found), 'step')} of {examined.batch_size} is left in the epoch")
    if as_json:
        return click.echo(json.dumps({"run": run, "epoch": len(history.records), "steps": found}))
    rows = [("hypergradient", "degrees off", "from, to", "length")]
    for name in found[0]["compared"]:
        angles, lengths = zip(*(step["compared"][name] for step in found), strict=True)
        between = f"{min(angles):.2f}, {max(angles):.2f}"
        rows.append((name, f"{statistics.mean(angles):.2f}", between, f"{statistics.mean(lengths):.3f}"))
    click.echo(f"{run} after epoch {len(history.records)} of {config.epochs}, mean of {counted(len(found), 'step')}")
    click.echo(table(rows))
