"""The commands `darts plan search cnn`, `darts plan train rnn` and so on."""

import json
from collections.abc import Callable
from functools import partial

import click

from darts_cli.commands.options import Sectioned, SectionedGroup, check_no_extension, on_the_same_data, only_with, option
from darts_cli.commands.search import check_single, search_cnn, search_rnn, seeds_of
from darts_cli.commands.train import TrainGroup, train_cnn, train_rnn
from darts_cli.runs.task import Task
from darts_cli.sweeps.seeds import HERE, Placement
from darts_cli.text import counted, duration, hint, size, table

_OPTIONS = (
    option("--seconds", type=click.IntRange(1, 3600), default=60, show_default=True, help="Seconds to measure for."),
    option("--json", "as_json", is_flag=True, help="Print JSON."),
)


@click.group("plan")
def plan():
    """Say what a search or a training will take.

    Put `plan` into the command: it takes the same options, and starts nothing.
    """


@plan.group("search", cls=SectionedGroup)
def plan_search():
    """Say what a search will take."""


@plan.group("train", cls=TrainGroup)
def plan_train():
    """Say what a training will take.

    The domain may be left out where the cells are named: darts plan train RUN.
    """


def _add(group: click.Group, planned: click.Command, domain: str, callback: Callable, noun: str) -> None:
    """Add the plan of a command, with its options."""
    help = f"""Say what {noun} will take on this device.

    Peak memory, seconds a step, time and disk of `{planned_name(group, domain)}` with the same options, from a few steps of the
    run itself, each measurement in a process of its own; and the same with other settings, as far as --seconds allow. Nothing
    is written.

    \b
    Example: darts plan {group.name} {domain} --dataset {"digits" if domain == "cnn" else "pydoc"}
    """
    command = Sectioned(
        domain,
        params=[param for param in planned.params if param.name != "fit_memory"],
        callback=partial(callback, domain),
        help=help,
    )
    for decorate in reversed(_OPTIONS):
        command = decorate(command)
    group.add_command(command)


def planned_name(group: click.Group, domain: str) -> str:
    """The command that is planned."""
    return f"darts {group.name} {domain}"


def _plan_search(
    domain,
    seconds,
    as_json,
    quiet,
    extend,
    seeds,
    select_epochs,
    select_settings,
    random_cells,
    parallel,
    engine,
    run,
    select_from_table=False,
    **settings,
):
    """Plan one search, or several with the trainings that choose among their cells."""
    task = Task("search", domain)
    config = task.config(**settings)
    choice = {
        "epochs": select_epochs,
        "settings": select_settings,
        "random_cells": random_cells,
        "from_table": select_from_table,
    }
    if seeds is None:
        check_single(choice, parallel, engine)
        from darts_cli.plans.measure import Kind

        return _show([Kind(task, config)], HERE, seconds, as_json, quiet)
    check_no_extension(extend, "--seeds")
    from darts_cli.genotype import load
    from darts_cli.plans.measure import Kind
    from darts_cli.sweeps.selection import short_training

    every, drawn = seeds_of(seeds, config.seed), random_cells or 0
    kinds = [Kind(task, config, None, len(every))]
    short = short_training(config, domain, **choice | {"random_cells": drawn})
    if short:
        kinds.append(Kind(Task("select", domain), short, load("darts_v2", domain), len(every) + drawn))
    return _show(kinds, Placement.of(parallel, engine), seconds, as_json, quiet)


def _plan_train(domain, seconds, as_json, quiet, extend, genotype, repeats, parallel, engine, run, **settings):
    """Plan one training, or several with other seeds."""
    task = Task("train", domain)
    if domain == "cnn":
        settings["recipe"] = genotype.macro
    config = task.config(**on_the_same_data(settings))
    if repeats == 1:
        only_with("--repeats", parallel=parallel, engine=engine)
    else:
        check_no_extension(extend, "--repeats")
    from darts_cli.plans.measure import Kind

    _show([Kind(task, config, genotype, repeats)], Placement.of(parallel, engine), seconds, as_json, quiet)


def _show(kinds, placement, seconds, as_json, quiet):
    """Measure, and print the figures."""
    from darts_cli.plans.plan import plan as measured

    found = measured(kinds, placement.parallel, seconds=seconds, say=(lambda line: None) if quiet else hint)
    if placement.engine != "local":
        found["notes"].append(f"the times are those of this machine alone, without --engine {placement.engine}")
    if as_json:
        return click.echo(json.dumps(found))
    click.echo(f"{found['dataset']}, {found['device']} with {counted(found['threads'], 'thread')}, {found['precision']}\n")
    click.echo(table(_figures(found)))
    if found["variants"]:
        click.echo(f"\n{table(_variants(found))}")
    for note in found["notes"]:
        click.echo(f"\nnote: {note}")


def _figures(found: dict) -> list[tuple[str, ...]]:
    """A row for each kind of run, and one for all."""
    rows = [("", "epochs", "steps", "seconds a step", "after an epoch", "time", "peak memory", "disk")]
    for figure in found["runs"]:
        rows.append(
            (
                "one short training" if figure["command"].startswith("select") else f"one {figure['command']}",
                f"{figure['epochs']:,}",
                f"{figure['steps_per_epoch']:,}",
                f"{figure['seconds_per_step']:.3g}",
                duration(figure["seconds_after_steps"]),
                duration(figure["seconds"]),
                size(figure["memory_bytes"]),
                size(figure["disk_bytes"]),
            )
        )
    total = found["total"]
    if total["runs"] > 1:
        name = f"all {total['runs']}, {total['at_a_time']} at a time"
        numbers = (duration(total["seconds"]), size(total["memory_bytes"]), size(total["disk_bytes"]))
        rows.append((name, "", "", "", "", *numbers))
    rows.append(("free on this disk", "", "", "", "", "", "", size(total["free_bytes"])))
    return rows


def _variants(found: dict) -> list[tuple[str, ...]]:
    """A row for each variant of the first run."""
    rows = [("with", "seconds a step", "time", "peak memory")]
    for row in found["variants"]:
        if "failed" in row:
            rows.append((row["option"], row["failed"], "", ""))
            continue
        numbers = (f"{row['seconds_per_step']:.3g}", duration(row["seconds"]), size(row["memory_bytes"]))
        rows.append((row["option"], *numbers))
    return rows


_add(plan_search, search_cnn, "cnn", _plan_search, "a search of images")
_add(plan_search, search_rnn, "rnn", _plan_search, "a search of text")
_add(plan_train, train_cnn, "cnn", _plan_train, "a training on images")
_add(plan_train, train_rnn, "rnn", _plan_train, "a training on text")
