"""What a comparison of methods writes: comparison.yaml, the same for the same runs, and report.md, with the cost."""

import importlib
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from darts_cli import files
from darts_cli.config import SearchCNN, SearchRNN
from darts_cli.formats import nasbench201
from darts_cli.genotype import Genotype
from darts_cli.pictures.charts import methods as charts
from darts_cli.runs import history
from darts_cli.sweeps.ranking import MEASURES
from darts_cli.sweeps.significance import LEVEL, holm, permutation_test, summary
from darts_cli.sweeps.sweep import Sweep
from darts_cli.text import counted, duration

RANDOM = ("random", "random-search")  # what needs no search: a random cell, and the best of some by short trainings
Config = SearchCNN | SearchRNN


@dataclass(frozen=True)
class Entry:
    """What a method found in a space with a seed: a search, or random cells of which the first is taken or the best chosen."""

    space: str
    method: str
    seed: int
    config: Config | None  # of a search
    drawn: tuple[Genotype, ...] = ()

    @property
    def name(self) -> str:
        """Of its folder, below that of the sweep."""
        return f"{word(self.space)}/{word(self.method)}/seed-{self.seed}"


def word(text: str) -> str:
    """A text as part of a path."""
    return re.sub(r"[^A-Za-z0-9.=+-]+", "-", Path(text).stem if "/" in text else text)


# ---- comparison.yaml


def content_of(
    entries: Sequence[Entry], chosen: Sequence[Genotype], scores: Sequence[float], configs: Mapping, sweep: Sweep
) -> dict:
    """What comparison.yaml holds."""
    domain, found = sweep.task.domain, {}
    for entry, cells, value in zip(entries, chosen, scores, strict=True):
        content = {"seed": entry.seed, "score": value, "hash": cells.hash(), "genotype": cells.to_dict()}
        found.setdefault(entry.space, {}).setdefault(entry.method, []).append(content)
    spaces = {}
    for space, by_method in found.items():
        methods = {}
        for method, cells in by_method.items():
            config = configs[space, method]
            methods[method] = {"scores": [entry["score"] for entry in cells], **summary([entry["score"] for entry in cells])}
            if method.partition(":")[0] not in RANDOM:
                steps = importlib.import_module(f"darts_cli.{domain}.search").counts(config)["steps"]
                methods[method] |= {"epochs": config.epochs, "steps": config.epochs * steps}
                methods[method] |= _curve(sweep.folder, [e for e in entries if (e.space, e.method) == (space, method)])
            methods[method]["cells"] = cells
        config = configs[space, next(iter(by_method))]
        table = nasbench201.holds(config.searched)
        spaces[space] = {"measure": _measure(config, domain, table), "higher_is_better": MEASURES[domain].higher_is_better}
        if table:
            spaces[space]["best"] = nasbench201.load(200).best(config.benchmark_data)[1]
        differences = _differences(methods, MEASURES[domain].higher_is_better)
        spaces[space] |= {"conclusion": concluded(differences, len(cells)), "methods": methods, "differences": differences}
    return {
        "domain": domain,
        "dataset": sweep.config.dataset,
        "seeds": [e.seed for e in entries[: len(entries) // len(configs)]],
    } | {"spaces": spaces}


def _measure(config: Config, domain: str, table: bool) -> str:
    if table:
        return f"true test accuracy on {config.benchmark_data} after 200 epochs, in per cent"
    return (
        "validation accuracy of a short training, in per cent"
        if domain == "cnn"
        else "validation perplexity of a short training"
    )


def _curve(folder: Path, entries: Sequence[Entry]) -> dict:
    """The mean true accuracy after each epoch, where it is known."""
    curves = [[known["accuracy"] for known in history.read(folder / entry.name).truth()] for entry in entries]
    return {"curve": [statistics.fmean(values) for values in zip(*curves, strict=True)]} if all(curves) else {}


def comparisons(methods: Sequence[str]) -> list[tuple[str, str]]:
    """What is compared with what: every method with each random one, or with the first where there is none."""
    baselines = [name for name in methods if name.partition(":")[0] in RANDOM] or list(methods)[:1]
    return [(a, b) for a in methods for i, b in enumerate(baselines) if a not in baselines[: i + 1]]


def _differences(methods: Mapping[str, dict], higher_is_better: bool) -> list[dict]:
    """Of what is compared: mean, interval and p-value of the differences, paired by seed."""
    rows = []
    for name, baseline in comparisons(list(methods)):
        pairs = zip(methods[name]["scores"], methods[baseline]["scores"], strict=True)
        differences = [a - b for a, b in pairs]
        rows.append({"method": name, "to": baseline, **summary(differences), "p": permutation_test(differences)})
    for row, p in zip(rows, holm([row["p"] for row in rows]), strict=True):
        better = (row["mean"] > 0) == higher_is_better
        row |= {"p_holm": p, "conclusion": "no significant difference" if p >= LEVEL else "better" if better else "worse"}
    return rows


def concluded(differences: Sequence[Mapping], seeds: int) -> str:
    """What the differences of a space allow to say."""
    found = {
        kind: [f"{row['method']} than {row['to']}" for row in differences if row["conclusion"] == kind]
        for kind in ("better", "worse")
    }
    said = [f"Significantly {kind}: {', '.join(names)}." for kind, names in found.items() if names]
    return " ".join([*(said or ["No significant difference."]), *too_few(seeds, len(differences))])


def too_few(seeds: int, comparisons: int) -> list[str]:
    """A sentence where so few seeds can show nothing, whatever the scores are."""
    needed = next(n for n in range(1, 64) if comparisons * 2 / 2**n < LEVEL)
    if comparisons == 0 or seeds >= needed:
        return []
    return [
        f"With {counted(seeds, 'seed')} and {counted(comparisons, 'comparison')} nothing can be significant; "
        f"at least {needed} seeds are needed."
    ]


# ---- report.md


def report(content: dict, sweep: Sweep, seconds: Mapping[str, float]) -> str:
    """What report.md says; writes the pictures beside it. `seconds` has the time of every search, by name."""
    parts = []
    for space, found in content["spaces"].items():
        picture = f"{word(space)}.svg"
        files.write(sweep.folder / picture, charts.scores(found) + "\n")
        parts.append(space_report(space, found, seconds, picture))
    seeds = counted(len(content["seeds"]), "seed")
    return f"""# Comparison of search methods on {content["dataset"]}

Every method had {seeds}, the same data and the same number of epochs.

{chr(10).join(parts)}"""


def space_report(space: str, found: dict, seconds: Mapping[str, float], picture: str) -> str:
    """The tables of a space, and the picture of its scores."""
    rows = []
    for method, result in found["methods"].items():
        interval = "" if result["interval"] is None else "{:.2f} to {:.2f}".format(*result["interval"])
        deviation = "" if result["deviation"] is None else f"{result['deviation']:.2f}"
        names = [f"{word(space)}/{word(method)}/seed-{cell['seed']}" for cell in result["cells"]]
        cost = duration(statistics.fmean(seconds[name] for name in names)) if "steps" in result else "none"
        rows.append(
            f"| {method} | {result['mean']:.2f} | {deviation} | {interval} | {min(result['scores']):.2f} to "
            f"{max(result['scores']):.2f} | {result.get('steps', 0):,} | {cost} |"
        )
    compared = [
        f"| {row['method']} | {row['to']} | {row['mean']:+.2f} | "
        + ("" if row["interval"] is None else "{:+.2f} to {:+.2f}".format(*row["interval"]))
        + f" | {row['p']:.3g} | {row['p_holm']:.3g} | {row['conclusion']} |"
        for row in found["differences"]
    ]
    best = f" The best cell of all has {found['best']:.2f}." if "best" in found else ""
    return f"""## The space {space}

![Scores by method in {space}]({picture})

Score: {found["measure"]}.{best}

| method | mean | deviation | 95 % interval | range | steps | time of a search |
| --- | --- | --- | --- | --- | --- | --- |
{chr(10).join(rows)}

**{found["conclusion"]}**

Paired differences, by seed:

| method | to | difference | 95 % interval | p | p, corrected | |
| --- | --- | --- | --- | --- | --- | --- |
{chr(10).join(compared)}
"""
