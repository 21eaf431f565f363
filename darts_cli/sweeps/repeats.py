"""The same training with several seeds: mean and deviation, as the paper reports its results (sec. 3.2)."""

import statistics
from collections.abc import Sequence
from dataclasses import replace

import yaml

from darts_cli import DartsError, files
from darts_cli.config import TrainCNN, TrainRNN
from darts_cli.genotype import Genotype
from darts_cli.runs import history
from darts_cli.runs.shown.table import Row
from darts_cli.runs.task import Task
from darts_cli.sweeps.estimate import estimate
from darts_cli.sweeps.pool import Job, Pool
from darts_cli.sweeps.reports.repeats import MEASURES, report
from darts_cli.sweeps.seeds import HERE, Placement
from darts_cli.sweeps.sweep import Sweep, SweepConfig


def repeat(
    cells: Genotype,
    config: TrainCNN | TrainRNN,
    domain: str,
    count: int,
    *,
    placement: Placement = HERE,
    folder: str | None = None,
    quiet: bool = False,
) -> tuple[dict, Sweep]:
    """Train with `count` seeds, starting at the configuration's, or resume; returns what result.yaml holds, and the sweep.

    A training that fails is reported and does not lose the others. Raises DartsError when all fail, and when interrupted.
    """
    options = (f"--repeats {count}", *placement.options())
    settings = SweepConfig(config, name=f"repeats{count}", options=options, settings={"repeats": count})
    sweep = Sweep(Task("train", domain, "repeats"), settings, folder, cells, placement=placement)
    seeds = range(config.seed, config.seed + count)
    jobs = [Job(f"seed-{seed}", Task("train", domain), replace(config, seed=seed), cells) for seed in seeds]
    sweep.load_data()
    with Pool(sweep, placement, quiet) as pool:
        sweep.start()
        estimate(pool, jobs)
        failed = pool.run(jobs)
        runs = [_result(sweep, job, failed) for job in jobs]
        if len(failed) == count:
            raise DartsError(f"{sweep.folder}: every training failed; to retry: {sweep.resume()}")
        result = {"domain": domain, **_summary(runs), "runs": runs}
        text = yaml.safe_dump(result, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)
        files.write(sweep.folder / "result.yaml", text)
        sweep.show([_row(run) for run in runs])
        sweep.report(report(sweep, result))
    return result, sweep


def _result(sweep: Sweep, job: Job, failed: dict[str, str]) -> dict:
    if job.name in failed:
        return {"seed": job.config.seed, "failed": failed[job.name]}
    last = history.read(sweep.folder / job.name).records[-1]
    return {"seed": job.config.seed} | {name: last[name] for name in MEASURES if name in last}


def _row(run: dict) -> Row:
    """A training in TensorBoard's table."""
    return Row(f"seed-{run['seed']}", {"seed": run["seed"]}, {name: run[name] for name in MEASURES if name in run})


def _summary(runs: Sequence[dict]) -> dict:
    """Mean and sample deviation of every measure; beside accuracies also errors, which the paper reports."""
    summary = {}
    for name in MEASURES:
        values = [run[name] for run in runs if name in run]
        if values and name.endswith("accuracy"):
            summary[name.replace("accuracy", "error")] = _mean_and_deviation([1 - value for value in values])
        if values:
            summary[name] = _mean_and_deviation(values)
    return summary


def _mean_and_deviation(values: Sequence[float]) -> dict:
    return {"mean": statistics.mean(values), "deviation": statistics.stdev(values) if len(values) > 1 else None}
