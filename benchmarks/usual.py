"""Where trainings usually end: several seeds of published cells, kept in genotypes/measured.yaml, which reports of later
trainings with the same settings compare themselves with.

python -m benchmarks.usual keep FOLDER NAME    finished trainings (darts train --repeats 5) become the entry NAME
python -m benchmarks.usual                     draw docs/results/usual-NAME.svg of all entries again
"""

import math
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml

from benchmarks.rows import processor
from darts_cli import genotype as genotypes
from darts_cli.pictures.charts import chart, many
from darts_cli.runs import history
from darts_cli.sweeps import significance

HEAD = """\
# Where trainings of published cells with this program ended: several seeds of each, made by benchmarks/usual.py.
# usual: the 95 % prediction interval of one more result, if all are of the same normal distribution.
"""
ROOT = Path(__file__).parents[1]
MEASURED, FIGURES = ROOT / "genotypes" / "measured.yaml", ROOT / "docs" / "results"
KEPT = {  # by domain: the measures of every epoch that are kept, what the results are, and how they follow from the last record
    "cnn": (("train_accuracy", "test_accuracy"), "test error", " %", lambda record: 100 * (1 - record["test_accuracy"])),
    "rnn": (("train_perplexity", "valid_perplexity"), "test perplexity", "", lambda record: record["test_perplexity"]),
}


def keep(folder: Path, name: str) -> None:
    """Put finished trainings of one cell with several seeds into genotypes/measured.yaml, in place of an entry of that name."""
    runs = [history.read(path.parent) for path in sorted(folder.glob("*/metrics.jsonl"))]
    first = runs[0]
    config, cells = first.config, genotypes.load(first.folder / "genotype.yaml")
    curves, what, unit, result = KEPT[first.domain]
    results = [round(result(run.records[-1]), 3) for run in runs]
    default = type(config)(config.dataset, data=config.data, seed=config.seed).compared()
    entry = {
        "name": name,
        "settings": {"dataset": config.dataset} | {k: value for k, value in config.compared().items() if value != default[k]},
        "machine": f"one thread of {processor()}, torch {torch.__version__.partition('+')[0]}, {platform.system()}",
        "what": what,
        "unit": unit,
        "results": results,
        "usual": [round(end, 3) for end in one_more(results)],
        "curves": {key: [[round(record[key], 5) for record in run.records] for run in runs] for key in curves},
    }
    known = entries()
    rows = known.setdefault(f"{cells.domain}/{cells.name}", [])
    rows[:] = [row for row in rows if row["name"] != name] + [entry]
    MEASURED.write_text(HEAD + yaml.safe_dump(known, sort_keys=False, default_flow_style=None, width=120), encoding="utf-8")


def one_more(results: Sequence[float]) -> list[float]:
    """The 95 % prediction interval of one more result, mean -+ t s sqrt(1 + 1/n), as far as it is above 0."""
    found = significance.summary(results)
    half = significance.student_t(0.975, found["n"] - 1) * found["deviation"] * math.sqrt(1 + 1 / found["n"])
    return [max(0.0, found["mean"] - half), found["mean"] + half]


def entries() -> dict[str, list[dict]]:
    """By cell, what is kept."""
    return (yaml.safe_load(MEASURED.read_text(encoding="utf-8")) if MEASURED.exists() else None) or {}


def figures() -> dict[str, str]:
    """By name of a file, the curves of all seeds of an entry with their mean and deviation."""
    found = {}
    for cells, rows in entries().items():
        for row in rows:
            runs = {
                f"run {i + 1}": [dict(zip(row["curves"], values, strict=True)) for values in zip(*curves, strict=True)]
                for i, curves in enumerate(zip(*row["curves"].values(), strict=True))
            }
            found[f"usual-{row['name']}.svg"] = chart.file(many.of_repeats(cells.partition("/")[0], runs))
    return found


def main(args: list[str]) -> None:
    if args[:1] == ["keep"]:
        keep(Path(args[1]), args[2])
    for file, drawn in figures().items():
        (FIGURES / file).write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
