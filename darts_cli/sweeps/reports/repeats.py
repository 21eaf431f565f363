"""What report.md of repeated trainings says and shows."""

from darts_cli.pictures.charts import many
from darts_cli.runs import history
from darts_cli.runs.shown import illustrations
from darts_cli.sweeps.sweep import Sweep

MEASURES = ("test_accuracy", "best_test_accuracy", "test_perplexity")  # the result of a training has some of them


def shown(result: dict) -> dict[str, str]:
    """Such as `test error: 2.76 ± 0.09 %`."""
    lines = {}
    for name, value in result.items():
        if isinstance(value, dict):
            scale, unit = (1, "") if name.endswith("perplexity") else (100, " %")
            numbers = [f"{scale * value[part]:.2f}" for part in ("mean", "deviation") if value[part] is not None]
            lines[name] = " ± ".join(numbers) + unit
    succeeded = sum("failed" not in run for run in result["runs"])
    return lines | {"runs": f"{succeeded} of {len(result['runs'])}"}


def report(sweep: Sweep, result: dict) -> str:
    """What report.md says; writes the pictures beside it."""
    lines = "\n".join(f"- {name.replace('_', ' ')}: {value}" for name, value in shown(result).items())
    names = [name for name in MEASURES if name in result]
    rows = "\n".join(
        f"| {run['seed']} | "
        + " | ".join(f"{run[name]:.4f}" if name in run else run.get("failed", "") for name in names)
        + " |"
        for run in result["runs"]
    )
    return f"""# {len(result["runs"])} trainings of {sweep.genotype.name or "a cell"} on {sweep.config.dataset}

Mean and sample deviation over the seeds. Each training has a folder of its own here, with its own report.

{lines}

| seed | {" | ".join(name.replace("_", " ") for name in names)} |
| --- |{" --- |" * len(names)}
{rows}

{_illustrate(sweep, result)}
"""


def _illustrate(sweep: Sweep, result: dict) -> str:
    """Write the curves of all trainings, and the cells; returns the Markdown that shows them."""
    names = [f"seed-{run['seed']}" for run in result["runs"] if "failed" not in run]
    runs = {name: history.read(sweep.folder / name).records for name in names}
    illustrations.write(sweep.folder, many.of_repeats(sweep.task.domain, runs), sweep.genotype)
    return illustrations.markdown(sweep.genotype)
