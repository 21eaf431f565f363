"""The command `python -m benchmarks`, and those of other modules: operators, gpu, profile."""

import json
import statistics
import subprocess
import sys

import click
import torch

from benchmarks import gpu, operators, profile
from benchmarks.rows import ROWS, SCALING, processor


@click.command()
@click.argument("names", nargs=-1, type=click.Choice([*ROWS, "scaling"]))
@click.option("--repeats", type=click.IntRange(1), default=5, show_default=True, help="Steps measured, after the warm-up.")
@click.option("--warm-up", type=click.IntRange(0), default=2, show_default=True, help="Steps before.")
@click.option("--quick", is_flag=True, help="Smaller batches and fewer steps: within five minutes on two cores.")
@click.option("--device", default="cuda" if torch.cuda.is_available() else "cpu", show_default=True, help="cpu or cuda.")
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True, help="Arithmetic.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(names, repeats, warm_up, quick, device, precision, as_json):
    """Measure time and peak memory of a step, the plain network and ours in turn, each in a process of its own.

    Medians; the ratios are the result. NAMES: rows, all but scaling if none is given.
    """
    rows = [row for name in names or ROWS for row in (SCALING if name == "scaling" else [name])]
    options = {"device": device, "precision": precision, "quick": quick, "warm_up": 1 if quick else warm_up}
    found = []
    for row in rows:
        found.append({"row": row, **measure(row, options, 2 if quick else repeats)})
        if not as_json:
            click.echo(line(found[-1]) if len(found) > 1 else f"{machine(options)}\n\n{HEADER}\n{line(found[-1])}")
    if as_json:
        click.echo(json.dumps({"machine": machine(options), "rows": found}, indent=2))


HEADER = "| row | plain | ours | times faster | plain peak | ours | of plain |\n| --- | --- | --- | --- | --- | --- | --- |"


def line(found: dict) -> str:
    plain, ours = found["plain"], found["ours"]
    return (
        f"| {found['row']} | {plain['seconds']:.3g} s | {ours['seconds']:.3g} s | {plain['seconds'] / ours['seconds']:.2f} "
        f"| {plain['peak'] / 1e9:.2f} GB | {ours['peak'] / 1e9:.2f} GB | {ours['peak'] / plain['peak']:.2f} |"
    )


def measure(row: str, options: dict, repeats: int) -> dict:
    """Median seconds of a step, and peak bytes, of both sides."""
    workers = {side: _start(row, side, options) for side in ("plain", "ours")}
    seconds: dict[str, list[float]] = {side: [] for side in workers}
    for _ in range(repeats):
        for side, worker in workers.items():
            worker.stdin.write("step\n")
            worker.stdin.flush()
            seconds[side].append(float(_answer(worker)))
    found = {}
    for side, worker in workers.items():
        worker.stdin.close()
        found[side] = {"seconds": statistics.median(seconds[side]), "all": seconds[side], "peak": float(_answer(worker))}
        worker.stdout.close()
        worker.wait()
    return found


def _start(row: str, side: str, options: dict) -> subprocess.Popen:
    command = [sys.executable, "-m", "benchmarks.worker", row, side, json.dumps(options)]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    _answer(worker)  # warm: one after another, so that none disturbs the other
    return worker


def _answer(worker: subprocess.Popen) -> str:
    answer = worker.stdout.readline()
    if not answer:
        raise click.ClickException("a measurement ended early; its error stands above")
    return answer.strip()


def machine(options: dict) -> str:
    name = processor() if options["device"] == "cpu" else torch.cuda.get_device_name(options["device"])
    size = ", small batches" if options["quick"] else ""
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}, {options['precision']}{size}"


COMMANDS = {"operators": operators.main, "gpu": gpu.main, "profile": profile.main}


if __name__ == "__main__":
    command = COMMANDS.get(sys.argv[1]) if len(sys.argv) > 1 else None
    if command is None:
        main()
    else:
        command(sys.argv[2:], prog_name=f"python -m benchmarks {sys.argv[1]}")
