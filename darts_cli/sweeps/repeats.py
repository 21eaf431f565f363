"""The same training with several seeds: mean and deviation, as the paper reports its results (sec. 3.2)."""

import statistics
from collections.abc import Sequence
from dataclasses import replace

import yaml

from darts_cli import DartsError, files
from darts_cli.config import TrainCNN, TrainRNN
from darts_cli.genotype import Genotype
from darts_cli.runs import history
from darts_cli.sweeps.pool import Crew, Job
from darts_cli.sweeps.seeds import at_a_time
from darts_cli.sweeps.sweep import Asked, Whole, estimate

MEASURES = ("test_accuracy", "best_test_accuracy", "test_perplexity")  # a training ends with some of them


def repeat(
    cells: Genotype,
    config: TrainCNN | TrainRNN,
    domain: str,
    count: int,
    *,
    parallel: str | int = 1,
    folder: str | None = None,
    quiet: bool = False,
) -> tuple[dict, Whole]:
    """Train with `count` seeds, from that of the configuration on, or go on with it; returns what result.yaml holds, and the
    folder.

    A training that failed is reported and does not lose the others. Raises DartsError when all fail, and when interrupted.
    """
    asked = Asked(config, f"repeats{count}", (f"--repeats {count}", *at_a_time(parallel)), {"repeats": count})
    whole = Whole(f"train {domain} --repeats", asked, folder, cells)
    seeds = range(config.seed, config.seed + count)
    jobs = [Job(f"seed-{seed}", f"train {domain}", replace(config, seed=seed), cells) for seed in seeds]
    whole.check_data(domain)
    with Crew(whole.folder, whole.repeat(), parallel, config.device, quiet) as crew:
        whole.begin()
        estimate(crew, jobs)
        failed = crew.run(jobs)
        runs = []
        for job in jobs:
            run = {"seed": job.config.seed}
            if job.name in failed:
                run["failed"] = failed[job.name]
            else:
                last = history.read(whole.folder / job.name).records[-1]
                run |= {name: last[name] for name in MEASURES if name in last}
            runs.append(run)
        if len(failed) == count:
            raise DartsError(f"{whole.folder}: every training failed; the same command tries again: {whole.repeat()}")
        result = {"domain": domain, **_summary(runs), "runs": runs}
        text = yaml.safe_dump(result, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)
        files.write(whole.folder / "result.yaml", text)
        whole.report(_report(whole, result))
    return result, whole


def _summary(runs: Sequence[dict]) -> dict:
    """Number, mean and sample deviation of every measure; errors, as the paper has them, beside accuracies."""
    found = {}
    for name in MEASURES:
        values = [run[name] for run in runs if name in run]
        if not values:
            continue
        some = {name: values}
        if name.endswith("accuracy"):
            some = {name.replace("accuracy", "error"): [1 - value for value in values], name: values}
        for each, numbers in some.items():
            deviation = statistics.stdev(numbers) if len(numbers) > 1 else None
            found[each] = {"mean": statistics.mean(numbers), "deviation": deviation}
    return found


def shown(result: dict) -> dict[str, str]:
    """Such as `test error: 2.76 ± 0.09 %`."""
    found = {}
    for name, value in result.items():
        if isinstance(value, dict):
            share = not name.endswith("perplexity")
            numbers = [
                f"{(100 if share else 1) * value[part]:.2f}" for part in ("mean", "deviation") if value[part] is not None
            ]
            found[name] = " ± ".join(numbers) + (" %" if share else "")
    succeeded = sum("failed" not in run for run in result["runs"])
    return found | {"runs": f"{succeeded} of {len(result['runs'])}"}


def _report(whole: Whole, result: dict) -> str:
    lines = "\n".join(f"- {name.replace('_', ' ')}: {value}" for name, value in shown(result).items())
    names = [name for name in MEASURES if name in result]
    rows = "\n".join(
        f"| {run['seed']} | "
        + " | ".join(f"{run[name]:.4f}" if name in run else run.get("failed", "") for name in names)
        + " |"
        for run in result["runs"]
    )
    return f"""# {len(result["runs"])} trainings of {whole.genotype.name or "a cell"} on {whole.config.dataset}

Mean and sample deviation over the seeds; each training is in a folder of its own here, with its protocol.

{lines}

| seed | {" | ".join(name.replace("_", " ") for name in names)} |
| --- |{" --- |" * len(names)}
{rows}

Repeat with:

    {whole.repeat()}
"""
