"""What a command would need on this device: peak memory, seconds a step, hours and disk, from a few measured steps."""

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from darts_cli import DartsError
from darts_cli.methods.method import parse
from darts_cli.plans.measure import Kind, Measured, probe, segments
from darts_cli.plans.variants import variants
from darts_cli.runtime import distributed
from darts_cli.runtime.device import resolve
from darts_cli.sweeps.engines.local import devices
from darts_cli.sweeps.worker import counts

SHARES = {"steps": 0.2, "epoch_end": 0.15, "variant": 0.05}  # of the time, that a measurement may take where that suffices
VARIANT_STEPS = 5


def plan(
    kinds: Sequence[Kind], parallel: str | int = 1, *, seconds: float = 60, say: Callable[[str], None] = lambda line: None
) -> dict:
    """The figures of a command that makes these kinds of runs, the first of which is looked at more closely, and its variants.

    seconds    that measuring may take; the least that is needed is measured all the same
    say        shows progress

    Nothing is written. Raises DartsError as the command would, such as where its data is missing.
    """
    if distributed.launched():
        raise DartsError("darts plan: not under torchrun; a plan is for one process", exit_code=2)
    started, first = time.monotonic(), kinds[0]
    device = resolve(first.config.device)
    names, threads = devices(parallel, first.config.device)
    options = {"threads": threads if len(names) > 1 else None}
    figures, measured = [], []
    for kind in kinds:
        say(f"measuring steps of darts {kind.task.command}")
        share = seconds / len(kinds)
        measured.append(measure(kind, share, options))
        figures.append(_figures(kind, measured[-1]))
    total = _total(figures, len(names))
    rows = _variants(first, measured[0], started + seconds, options, say)
    return {
        "device": str(device),
        "threads": threads,
        "precision": first.config.precision,
        "dataset": first.config.dataset,
        "runs": figures,
        "total": total,
        "variants": rows,
        "notes": _notes(kinds, measured, len(names)),
    }


def measure(kind: Kind, seconds: float, options: dict) -> Measured:
    """Measure steps and the end of an epoch. Raises DartsError."""
    count, works = counts(kind.task, kind.config), segments(kind)
    within = seconds * SHARES["steps"] / len(works)
    steps = [(epochs, probe(kind, epoch, 0, seconds=within, **options)) for epoch, epochs in works]
    last = count["steps"] - 1
    end = probe(kind, 0, last, seconds=seconds * SHARES["epoch_end"], end_of_epoch=True, **options)
    return Measured(count, steps, end)


def _figures(kind: Kind, measured: Measured) -> dict:
    """Those of one kind of run."""
    return {
        "command": kind.task.command,
        "runs": kind.runs,
        "epochs": kind.config.epochs,
        "steps_per_epoch": measured.counts["steps"],
        "seconds_per_step": measured.seconds_per_step,
        "seconds_per_epoch": measured.counts["steps"] * measured.seconds_per_step + measured.after_steps,
        "seconds_after_steps": measured.after_steps,
        "seconds": measured.seconds(),
        "memory_bytes": measured.memory,
        "disk_bytes": measured.disk(kind.task),
    }


def _total(figures: Sequence[dict], at_a_time: int) -> dict:
    """Those of all runs, so many of them at a time."""
    side_by_side = max(figure["memory_bytes"] * min(at_a_time, figure["runs"]) for figure in figures)
    return {
        "runs": sum(figure["runs"] for figure in figures),
        "at_a_time": at_a_time,
        "seconds": sum(-(-figure["runs"] // at_a_time) * figure["seconds"] for figure in figures),
        "memory_bytes": side_by_side,
        "disk_bytes": sum(figure["runs"] * figure["disk_bytes"] for figure in figures),
        "free_bytes": shutil.disk_usage(Path.cwd()).free,
    }


def _variants(kind: Kind, measured: Measured, until: float, options: dict, say: Callable[[str], None]) -> list[dict]:
    """The figures of the variants that can be measured until then, each in a process of its own."""
    longest = max(range(len(measured.segments)), key=lambda i: measured.segments[i][0])
    epoch, given = segments(kind)[longest][0], measured.segments[longest][1]
    rows = []
    for variant in variants(kind):
        remaining = until - time.monotonic()
        if remaining < given["start_up"] + 4 * given["seconds_per_step"] / variant.steps:
            continue
        say(f"measuring {variant.name}")
        try:
            found = probe(variant.kind, epoch, 0, seconds=0.05 * remaining, most=VARIANT_STEPS, **options)
        except DartsError as error:
            rows.append({"option": variant.name, "failed": str(error)})
            continue
        of_steps = variant.steps * found["seconds_per_step"] / given["seconds_per_step"]
        rest = measured.after_steps * (of_steps if variant.network else 1)
        each = measured.counts["steps"] * measured.seconds_per_step * of_steps + rest
        rows.append(
            {
                "option": variant.name,
                "memory_bytes": found["memory"],
                "seconds_per_step": found["seconds_per_step"],
                "seconds": measured.start_up + kind.config.epochs * each + measured.at_the_end,
            }
        )
    return rows


def _notes(kinds: Sequence[Kind], measured: Sequence[Measured], at_a_time: int) -> list[str]:
    """What the figures leave out."""
    notes = []
    for kind, of_kind in zip(kinds, measured, strict=True):
        config, command = kind.config, kind.task.command
        if kind.task.stage == "search" and parse(config.method, kind.task.domain).conclude is not None:
            notes.append(f"{command}: the evaluations by which {config.method} decides are left out")
        if getattr(config, "stop", "never") != "never" or getattr(config, "patience", None) is not None:
            notes.append(f"{command}: the time is that of all epochs; the run may stop earlier")
        if getattr(config, "eigenvalue_every", 0) and of_kind.epoch_end["after_epoch"] is None:
            notes.append(f"{command}: the time of the eigenvalues is left out")
    if at_a_time > 1:
        notes.append(f"{at_a_time} runs at a time are taken to be as fast as one with its share of the threads")
    return notes
