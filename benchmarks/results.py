"""Our own results: comparisons that are kept in docs/results, and the page that is made from them.

python -m benchmarks.results keep FOLDER NAME    a finished comparison becomes docs/results/NAME.yaml
python -m benchmarks.results                     write the tables and figures of docs/results.md again
"""

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
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.yaml").write_text(text, encoding="utf-8")


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
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(page(text), encoding="utf-8")
    for name in BLOCK.findall(text):
        for file, drawn in figures(name).items():
            (RESULTS / file).write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
