"""Our own results: comparisons that are kept in docs/results, and the page that is made from them.

python -m benchmarks.results keep FOLDER NAME           a finished comparison becomes docs/results/NAME.yaml
python -m benchmarks.results beside NAME LSTM RUN...    trainings of benchmarks.lstm are put beside it
python -m benchmarks.results                            write the tables and figures of docs/results.md again
"""

import dataclasses
import platform
import re
import sys
from datetime import date
from pathlib import Path

import torch
import yaml

from benchmarks.rows import processor
from darts_cli import __version__
from darts_cli.pictures.charts.methods import scores
from darts_cli.runs import history
from darts_cli.sweeps import significance
from darts_cli.sweeps.reports.comparison import space_report
from darts_cli.text import duration

PAGE = Path(__file__).parents[1] / "docs" / "results.md"
RESULTS = PAGE.parent / "results"
BLOCK = re.compile(r"<!-- result (\S+) -->\n.*?<!-- end -->", re.DOTALL)


def keep(folder: Path, name: str) -> None:
    """Write docs/results/NAME.yaml: the settings, the scores of all seeds, the cost, and the command that repeats it."""
    comparison = yaml.safe_load((folder / "comparison.yaml").read_text(encoding="utf-8"))
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    command = (folder / "report.md").read_text(encoding="utf-8").rstrip().splitlines()[-1].strip()
    command = re.sub(r" --(data|run) \S+", "", command)  # of the machine that it was made on
    seconds = {str(path.parent.relative_to(folder)): round(history.seconds(path.parent)) for path in folder.rglob("log.jsonl")}
    content = {
        "command": command,
        "machine": f"one thread of {processor()}, torch {torch.__version__.partition('+')[0]}, {platform.system()}",
        "darts": __version__,
        "kept": date.today().isoformat(),
        "settings": {key: value for key, value in config.items() if key not in ("command", "data", "environment", "device")},
        "seconds": dict(sorted(seconds.items())),
        "comparison": comparison,
    }
    _write(name, content)


def _write(name: str, content: dict) -> None:
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.yaml").write_text(text, encoding="utf-8")


def beside(name: str, what: str, runs: list[Path]) -> None:
    """Put the validation perplexities of finished trainings, with several seeds, beside a comparison that is kept."""
    read = [history.read(run) for run in runs]
    config = read[0].config
    options = " ".join(dataclasses.replace(config, seed=type(config)(config.dataset).seed, data="DIR").arguments(""))
    entry = {
        "what": what,
        "command": f"python -m benchmarks.{what.lower()} --dataset {config.dataset} {options} --seed N --run {what.lower()}-N",
        "seeds": [run.config.seed for run in read],
        "scores": [run.records[-1]["valid_perplexity"] for run in read],
    }
    kept = load(name)
    kept["beside"] = [each for each in kept.get("beside", []) if each["what"] != what] + [entry]
    _write(name, kept)


def load(name: str) -> dict:
    return yaml.safe_load((RESULTS / f"{name}.yaml").read_text(encoding="utf-8"))


def block(name: str) -> str:
    """The command, figure and tables of a result, as they stand on the page."""
    kept = load(name)
    parts = [f"```sh\n{kept['command']}\n```"]
    for space, found in kept["comparison"]["spaces"].items():
        parts.append("#" + space_report(space, found, kept["seconds"], f"results/{name}-{space}.svg").strip())
    total = sum(kept["seconds"].values())
    parts.append(f"All searches together took {duration(total)} on {kept['machine']}.")
    for each in kept.get("beside", []):
        found, scores = significance.summary(each["scores"]), ", ".join(f"{score:.2f}" for score in each["scores"])
        low, high = found["interval"]
        parts.append(f"```sh\n{each['command']}\n```")
        parts.append(
            f"{each['what']}, seeds {', '.join(map(str, each['seeds']))}: {scores}; mean {found['mean']:.2f}, deviation "
            f"{found['deviation']:.2f}, 95 % interval {low:.2f} to {high:.2f}."
        )
    return "\n\n".join(parts)


def figures(name: str) -> dict[str, str]:
    """The SVG of every space of a result, by file name."""
    return {f"{name}-{space}.svg": scores(found) + "\n" for space, found in load(name)["comparison"]["spaces"].items()}


def page(text: str) -> str:
    """The page with the blocks of all results made again."""
    return BLOCK.sub(lambda match: f"<!-- result {match[1]} -->\n\n{block(match[1])}\n\n<!-- end -->", text)


def main(args: list[str]) -> None:
    if args[:1] == ["keep"]:
        keep(Path(args[1]), args[2])
        return
    if args[:1] == ["beside"]:
        beside(args[1], args[2], [Path(run) for run in args[3:]])
        return
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(page(text), encoding="utf-8")
    for name in BLOCK.findall(text):
        for file, drawn in figures(name).items():
            (RESULTS / file).write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
