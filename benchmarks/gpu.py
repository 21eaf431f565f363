"""What is to be known of a GPU, in ten minutes: whether it computes what a CPU does, how fast, and in how much memory.

python -m benchmarks gpu --out DIR                    on CUDA
python -m benchmarks gpu --out DIR --device cpu --tiny    to try it without a card, within a minute or two
"""

import gc
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import click
import torch

from benchmarks.rows import ROWS, TINY
from benchmarks.worker import timed
from darts_cli import DartsError
from darts_cli.runtime import device as devices
from darts_cli.runtime.graphs import WARM_UP_STEPS

ROOT = Path(__file__).parent.parent
APART_SECONDS = 150  # that a row may take which is compiled or recorded


@dataclass(frozen=True)
class Way:
    """How a row is computed."""

    side: str
    precision: str
    deterministic: bool = False
    compiled: bool = False
    recorded: bool = False  # as a CUDA graph

    def __str__(self) -> str:
        words = [name for name in ("deterministic", "compiled", "recorded") if getattr(self, name)]
        return ", ".join([self.side, self.precision, *words])


DEFAULT = Way("ours", "fp32", deterministic=True)  # that of the commands
WAYS = (  # the most important first: what is left when the time is over is not measured
    Way("plain", "fp32"),
    DEFAULT,
    Way("ours", "fp32"),
    Way("ours", "bf16"),
    Way("ours", "fp32", recorded=True),
    Way("ours", "bf16", recorded=True),
    Way("ours", "fp32", deterministic=True, recorded=True),
    Way("plain", "bf16"),
    Way("ours", "tf32"),
    Way("ours", "bf16", deterministic=True),
    Way("ours", "fp32", compiled=True),
    Way("ours", "bf16", compiled=True),
    Way("ours", "bf16", compiled=True, recorded=True),
)
EIGENVALUES = ("eigenvalue-cnn", "eigenvalue-rnn")
NOT_PLAIN = ("one-hot-cnn", *EIGENVALUES)  # whose plain side is not the plain network
NOT_COMPILED = ("one-hot-cnn", "train-rnn", *EIGENVALUES)  # which have nothing that --compile compiles
NOT_RECORDED = ("one-hot-cnn", "eval-cnn", *EIGENVALUES)  # which are no steps that --cuda-graphs records
SEARCHES = {  # the steps of what the paper publishes, as the defaults of the commands have them
    "search of convolutional cells, first order": ("search-cnn-first", 50 * (25_000 // 64)),
    "search of convolutional cells, second order": ("search-cnn-second", 50 * (25_000 // 64)),
    "training of convolutional cells": ("train-cnn", 600 * (50_000 // 96)),
    "search of recurrent cells, first order": ("search-rnn-first", 50 * (929_589 // 256 // 35)),
    "search of recurrent cells, second order": ("search-rnn-second", 50 * (929_589 // 256 // 35)),
    "training of recurrent cells": ("train-rnn", 3600 * (929_589 // 64 // 35)),
}


@dataclass(frozen=True)
class Measured:
    """A row, computed in one way: seconds of every step, and the most bytes on the device; or why there is nothing."""

    row: str
    way: Way
    seconds: tuple[float, ...] = ()
    peak: int = 0
    error: str | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.seconds) if self.seconds else float("nan")


def measure(row: str, way: Way, device: torch.device, repeats: int, warm_up: int, tiny: bool) -> Measured:
    """The steps of a row; an error of the device is noted, so that the others are measured."""
    function, arguments, _ = ROWS[row]
    more = TINY[function] if tiny else {}
    try:
        devices.set_kernels(device, way.deterministic, way.precision)
        torch.manual_seed(0)
        given = {name: True for name in ("compiled", "recorded") if getattr(way, name)}
        step = function(way.side, device, way.precision, **arguments | more | given)
        for _ in range(warm_up):
            step()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds = tuple(timed(step, device) for _ in range(repeats))
        return Measured(row, way, seconds, _peak(way) if device.type == "cuda" else 0)
    except (RuntimeError, DartsError, TypeError) as error:
        return Measured(row, way, error=" ".join(str(error).split())[:200] or type(error).__name__)
    finally:
        step = None
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _peak(way: Way) -> int:
    """The most bytes of a way; the memory of a graph is reserved, not allocated, while it is replayed."""
    return torch.cuda.max_memory_reserved() if way.recorded else torch.cuda.max_memory_allocated()


def apart(row: str, way: Way, device: torch.device, repeats: int, warm_up: int, tiny: bool, limit: float) -> Measured:
    """The same in a process of its own, which is stopped after `limit` seconds: a compiler may take any time."""
    given = {"row": row, "way": asdict(way), "device": str(device), "repeats": repeats, "warm_up": warm_up, "tiny": tiny}
    command = [sys.executable, "-m", "benchmarks.gpu", json.dumps(given)]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return Measured(row, way, error=f"not within {limit:.0f} s")
    if done.returncode:
        return Measured(row, way, error=(done.stderr.strip().splitlines() or ["no output"])[-1][:200])
    found = json.loads(done.stdout.splitlines()[-1])
    return Measured(row, way, tuple(found["seconds"]), found["peak"], found["error"])


def ways_of(row: str, device: torch.device) -> Iterator[Way]:
    """How a row can be computed on a device."""
    for way in WAYS:
        only_cuda = way.precision == "tf32" or way.recorded
        rows = (NOT_PLAIN, way.side == "plain"), (NOT_COMPILED, way.compiled), (NOT_RECORDED, way.recorded)
        if (device.type == "cuda" or not only_cuda) and not any(asked and row in without for without, asked in rows):
            yield way


def check(device: torch.device, out: Path, limit: float) -> str:
    """Run the tests that need a card; returns their last line."""
    command = [sys.executable, "-m", "pytest", "-q", "-rfE", "-p", "no:cacheprovider", "-m", "cuda", "tests/test_cuda.py"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired as error:
        text = error.stdout.decode() if isinstance(error.stdout, bytes) else error.stdout or ""
        (out / "tests.txt").write_text(text)
        return f"stopped after {limit:.0f} s; what had passed is in tests.txt"
    (out / "tests.txt").write_text(done.stdout + done.stderr)
    return (done.stdout.strip().splitlines() or ["no output"])[-1].strip("= ")


def machine(device: torch.device) -> dict[str, str]:
    """What the numbers depend on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    versions = {"torch": torch.__version__, "cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version())}
    return {"device": name, **versions, "python": platform.python_version(), "date": date.today().isoformat()}


def report(about: dict[str, str], tests: str, found: list[Measured], command: str) -> Iterator[str]:
    """The lines of the page in Markdown."""
    yield f"`{command}`: {', '.join(f'{name} {value}' for name, value in about.items())}"
    yield f"\nTests on the device: {tests}"
    yield "\n| row | way | a step | times faster than plain | noise | peak |\n| --- | --- | --- | --- | --- | --- |"
    plain = {(each.row, each.way.precision): each.median for each in found if each.way.side == "plain" and each.seconds}
    for each in found:
        if each.error is not None:
            yield f"| {each.row} | {each.way} | {each.error} | | | |"
            continue
        reference = plain.get((each.row, each.way.precision), plain.get((each.row, "fp32"), float("nan")))
        noise = (max(each.seconds) - min(each.seconds)) / each.median
        peak = f"{each.peak / 1e9:.2f} GB" if each.peak else "-"
        faster = f"{reference / each.median:.2f}"
        yield f"| {each.row} | {each.way} | {1000 * each.median:.2f} ms | {faster} | {noise:.0%} | {peak} |"
    yield "\nEstimates, without evaluations:\n"
    yield "| published | steps | by default | fastest | in which way |\n| --- | --- | --- | --- | --- |"
    for name, (row, steps) in SEARCHES.items():
        ours = [each for each in found if each.row == row and each.way.side == "ours" and each.seconds]
        if ours:
            best = min(ours, key=lambda each: each.median)
            default = next((each.median for each in ours if each.way == DEFAULT), float("nan"))
            hours, least = (steps * seconds / 3600 for seconds in (default, best.median))
            yield f"| {name} | {steps:,} | {hours:.2f} h | {least:.2f} h | {best.way} |"


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default="gpu", show_default=True, help="Folder to write to.")
@click.option("--device", default="cuda", show_default=True, help="cuda, cuda:N or cpu.")
@click.option("--minutes", type=float, default=10.0, show_default=True, help="What the whole may take.")
@click.option("--repeats", type=click.IntRange(1), default=10, show_default=True, help="Steps measured, after the warm-up.")
@click.option("--warm-up", type=click.IntRange(0), default=WARM_UP_STEPS + 1, show_default=True, help="Steps before.")
@click.option("--rows", "names", multiple=True, type=click.Choice(list(ROWS)), help="Rows to measure.  [default: all]")
@click.option("--tests/--no-tests", default=True, show_default=True, help="Run the tests that need a card first.")
@click.option("--tiny", is_flag=True, help="The smallest sizes, to try the command.")
def main(out, device, minutes, repeats, warm_up, names, tests, tiny):
    """Test a GPU against the CPU, and measure every row in every way; writes gpu.md and gpu.json."""
    start, where = time.monotonic(), devices.resolve(device)
    out.mkdir(parents=True, exist_ok=True)
    result = check(where, out, 60 * minutes / 3) if tests else "not run"
    found: list[Measured] = []
    command = "python -m benchmarks gpu " + " ".join(sys.argv[2:])

    def left() -> float:
        return 60 * minutes - (time.monotonic() - start)

    positions = [(number, row, way) for row in names or ROWS for number, way in enumerate(ways_of(row, where))]
    for _, row, way in sorted(positions, key=lambda each: each[0]):  # the first way of all rows, then the second
        if left() < 10:
            found.append(Measured(row, way, error="no time was left"))
        elif way.compiled or way.recorded:  # a compiler may take any time, a graph that fails may take the device along
            limit = min(left() - 5, APART_SECONDS)
            found.append(apart(row, way, where, repeats, warm_up, tiny, limit))
        else:
            found.append(measure(row, way, where, repeats, warm_up, tiny))
        page = "\n".join(report(machine(where), result, sorted(found, key=lambda each: list(ROWS).index(each.row)), command))
        data = {"machine": machine(where), "command": command, "tests": result, "rows": [asdict(each) for each in found]}
        (out / "gpu.md").write_text(page + "\n")
        (out / "gpu.json").write_text(json.dumps(data, indent=2) + "\n")
    click.echo(page)


if __name__ == "__main__":  # of `apart`
    given = json.loads(sys.argv[1])
    way, device = Way(**given.pop("way")), torch.device(given.pop("device"))
    print(json.dumps(asdict(measure(way=way, device=device, **given))))
