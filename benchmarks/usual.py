"""Where trainings usually end: several seeds of published cells, kept in genotypes/measured.yaml, which reports of later
trainings with the same settings compare themselves with.

python -m benchmarks.usual keep FOLDER NAME    finished trainings (darts train --repeats 5) become the entry NAME
python -m benchmarks.usual                     draw docs/results/usual-NAME.svg of all entries, and write their part of
                                               docs/results.md again
"""

import math
import platform
import re
import statistics
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml

from benchmarks.rows import processor
from darts_cli import genotype as genotypes
from darts_cli.config import TrainCNN, TrainRNN
from darts_cli.pictures.charts import chart, many
from darts_cli.runs import history
from darts_cli.sweeps import significance

HEAD = """\
# Where trainings of published cells with this program ended: several seeds of each, made by benchmarks/usual.py.
# usual: the 95 % prediction interval of one more result, if all are of the same normal distribution.
"""
ROOT = Path(__file__).parents[1]
MEASURED, FIGURES, PAGE = ROOT / "genotypes" / "measured.yaml", ROOT / "docs" / "results", ROOT / "docs" / "results.md"
BLOCK = re.compile("<!-- usual -->\n.*?<!-- end -->", re.DOTALL)
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


def page(text: str) -> str:
    """The page with the part of all entries made again: what repeats them, where they ended, and their curves."""
    parts = []
    for cells, rows in entries().items():
        domain, name = cells.split("/")
        for row in rows:
            config = {"cnn": TrainCNN, "rnn": TrainRNN}[domain](**row["settings"], data="DIR")
            options = " ".join(words for words in config.arguments("") if config.dataset != "digits" or "DIR" not in words)
            numbers, unit = row["results"], row["unit"]
            mean, deviation, (low, high) = statistics.fmean(numbers), statistics.stdev(numbers), row["usual"]
            parts += [
                f"```sh\ndarts train {domain} --genotype {name.lower()} {options} --repeats {len(numbers)}\n```",
                textwrap.fill(
                    f"{row['what'].capitalize()} {mean:.2f} ± {deviation:.2f}{unit}, from {min(numbers):.2f} to "
                    f"{max(numbers):.2f}{unit}; of further runs 95 % should lie between {low:.2f} and {high:.2f}{unit} "
                    f"({row['machine']}).",
                    120,
                ),
                f"![The curves of {len(numbers)} runs on {config.dataset}](results/usual-{row['name']}.svg)",
            ]
    body = "\n\n".join(parts)
    return BLOCK.sub(lambda _: f"<!-- usual -->\n\n{body}\n\n<!-- end -->", text)


def main(args: list[str]) -> None:
    if args[:1] == ["keep"]:
        keep(Path(args[1]), args[2])
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    for file, drawn in figures().items():
        (FIGURES / file).write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
