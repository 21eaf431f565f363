"""The commands `darts method ...`: which search methods there are, and what each computes."""

import json
from collections.abc import Mapping

import click

from darts_cli import DartsError
from darts_cli.commands.options import option
from darts_cli.methods.catalogue import METHODS, PARTS, Part
from darts_cli.methods.combinations import REFUSED
from darts_cli.methods.results import COST, PUBLISHED
from darts_cli.methods.spec import read
from darts_cli.text import lines, meant, table


@click.group()
def method():
    """List and explain search methods."""


@method.command("list")
def list_():
    """List the methods of papers, and the parts that they are made of.

    A search takes --method NAME, with other parts added: --method pc-darts+beta-decay:30. Start with plain darts: in our
    measurements no other found better cells on a budget of minutes. In nas-bench-201 it finds better ones than chance, but none
    that are better than the best of a few trained random cells (docs/results.md).

    \b
    Example: darts method list
    """
    named = [(name, known.parts, known.idea) for name, known in METHODS.items()]
    parts = [(name, part.axis, part.formula) for name, part in PARTS.items()]
    click.echo(table([("method", "parts", "idea"), *named]))
    click.echo()
    click.echo(table([("part", "decides", "what it does"), *parts]))


@method.command("show")
@click.argument("name", metavar="METHOD|PART")
@option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(name, as_json):
    """Explain a method or a part: formula, parameters, recipe, paper, cost, and what it combines with.

    \b
    Example: darts method show gdas
    """
    about = _about(name.lower())
    if as_json:
        click.echo(json.dumps(about))
        return
    click.echo(lines({key: str(value) for key, value in about.items() if not isinstance(value, dict) and value}))
    for title in ("parameters", "recipe", "does not combine with"):
        if about.get(title):
            click.echo(f"\n{title}")
            click.echo(table([("", key, str(value)) for key, value in about[title].items()]))


def _about(name: str) -> dict:
    if name in METHODS:
        known, spec = METHODS[name], read(name)
        return {
            "method": name,
            "idea": known.idea,
            "paper": known.paper,
            "parts": "; ".join(f"{part}: {PARTS[part].formula}" for part in spec.parts),
            "written out": str(spec),
            "without": "the operation none" if known.without_none else "",
            "cost": COST[name],
            "error published": PUBLISHED[name],
            "combines with": _combining(name),
            "parameters": {
                key: text for part, own in spec.parts.items() for key, text in _parameters(PARTS[part], own).items()
            },
            "recipe": {key.replace("_", "-"): value for key, value in known.recipe.items()},
            "does not combine with": {other: why for part in spec.parts for other, why in _refused(part).items()},
        }
    if name in PARTS:
        part = PARTS[name]
        return {
            "part": name,
            "decides": part.axis,
            "formula": part.formula,
            "paper": part.paper,
            "needs": part.needs or "",
            "domains": ", ".join(part.domains),
            "combines with": _combining(f"{part.needs}+{name}" if part.needs else name),
            "parameters": _parameters(part, {}),
            "does not combine with": _refused(name),
        }
    there = meant(name, (*METHODS, *PARTS)) or "; darts method list shows all"
    raise DartsError(f"{name[:40]}: there is no method or part of this name{there}")


def _parameters(part: Part, own: Mapping[str, float]) -> dict[str, str]:
    """What the parameters mean; `own` are the defaults of a method that differ from those of the part."""
    return {p.name: f"{p.help}; default {own.get(p.name, p.default):g}, {p.low:g} to {p.high:g}" for p in part.parameters}


def _combining(text: str) -> str:
    """The parts that can be added."""

    def fits(part: str) -> bool:
        try:
            return bool(read(f"{text}+{part}"))
        except DartsError:
            return False

    return ", ".join(filter(fits, PARTS))


def _refused(part: str) -> dict[str, str]:
    """The parts that this one does not combine with, each with the reason."""
    return {other: why for pair, why in REFUSED.items() if part in pair for other in pair - {part}}
