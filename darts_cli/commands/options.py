"""The command line of a configuration: its dataclass becomes Click options, a YAML file their defaults."""

import dataclasses
import typing
from collections.abc import Callable
from pathlib import Path

import click
from click.core import ParameterSource

from darts_cli import DartsError, __version__, files
from darts_cli.genotype import Genotype, checked, is_name, load
from darts_cli.runs.history import CONFIGS
from darts_cli.schema import Config, option_name
from darts_cli.sweeps.seeds import seed_options

_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_RUN = "darts_cli.commands.options.run"  # where a context keeps the run folder that cells come from
_NOT_SETTINGS = ("command", "environment")  # what the config.yaml of a run says besides the settings
_OF_THE_COMMAND = ("genotype", "seeds", "select_epochs", "random_cells", "repeats")  # ... and what are options all the same


class GenotypeType(click.ParamType):
    """A published name, a genotype file or a run folder, as the Genotype; also the plain form in the config.yaml of a run."""

    name = "NAME|FILE|RUN"

    def __init__(self, domain: str):
        self.domain = domain

    def convert(self, value, param, ctx) -> Genotype:
        if isinstance(value, Genotype):
            return value
        if isinstance(value, dict):
            return checked(value, "--config: genotype", self.domain)
        cells = load(str(value), self.domain)
        if ctx is not None and not is_name(str(value)) and files.is_file(Path(value) / "config.yaml"):
            ctx.meta[_RUN] = Path(value)
        return cells


def on_the_same_data(settings: dict) -> dict:
    """The settings of a training; of cells that were named by their run folder with the data of that run, unless it is asked
    for another data set."""
    context = click.get_current_context()
    if _RUN not in context.meta:
        return settings
    found = files.read_yaml(context.meta[_RUN] / "config.yaml")
    theirs = {name: found[name] for name in ("dataset", "data") if isinstance(found, dict) and isinstance(found.get(name), str)}
    asked = {name: settings[name] for name in theirs if context.get_parameter_source(name) is not ParameterSource.DEFAULT}
    if asked.get("dataset", theirs.get("dataset")) != theirs.get("dataset"):
        return settings
    return settings | theirs | asked


def version(ctx: click.Context, _param, wanted: bool) -> None:
    """What a report of a problem should tell: the versions, and the devices there are."""
    if not wanted or ctx.resilient_parsing:
        return
    import platform

    import torch

    from darts_cli.runtime.device import devices

    click.echo(f"darts {__version__}\ntorch {torch.__version__}\npython {platform.python_version()}")
    click.echo(f"devices {' '.join(devices())}")
    ctx.exit()


def run_options(name: str) -> Callable:
    """Decorator: what every run is asked besides its settings; `name` is what its folder's begins with."""

    def decorate(command: Callable) -> Callable:
        command = click.option("--quiet", is_flag=True, help="Say nothing but errors and the result.")(command)
        folder = f"Run folder. [default: runs/{name}-DATASET-seedN-HASH]"
        return click.option("--run", metavar="DIR", help=folder)(command)

    return decorate


def options(config: type[Config]) -> Callable:
    """Decorator: one option for every setting of the configuration, and --config FILE; the command gets them by name."""

    def decorate(command: Callable) -> Callable:
        for each in reversed(dataclasses.fields(config)):
            command = _option(each, _kinds(config)[each.name])(command)
        return click.option(
            "--config",
            metavar="FILE",
            is_eager=True,
            expose_value=False,
            callback=lambda ctx, _, path: _read_defaults(ctx, config, path),
            help="YAML file of settings, also the config.yaml of a run; options given on the command line win.",
        )(command)

    return decorate


def _kinds(config: type[Config]) -> dict[str, type]:
    """The type of every setting; of `int | None` it is int."""
    kinds = typing.get_type_hints(config)
    return {name: _optional(kind) or kind for name, kind in kinds.items()}


def _optional(kind: type) -> type | None:
    kinds = typing.get_args(kind)
    return kinds[0] if type(None) in kinds else None


def _option(each: dataclasses.Field, kind: type) -> Callable:
    attributes = {"default": each.default, "help": each.metadata["help"], "metavar": each.metadata["metavar"]}
    if each.metadata["recipes"]:
        attributes["help"] += f" [default: {_defaults(each)}]"
    elif not isinstance(each.default, bool | None):
        attributes["show_default"] = True
    if kind is bool:
        return click.option(f"{option_name(each.name)}/--no-{option_name(each.name)[2:]}", **attributes)
    if typing.get_origin(kind) is tuple:
        attributes |= {"type": typing.get_args(kind)[0], "nargs": len(typing.get_args(kind))}
    elif each.metadata["choices"]:
        attributes |= {"type": click.Choice(each.metadata["choices"])}
    else:
        attributes |= {"type": kind}
    if each.metadata["alone"] is not None:
        attributes |= {"is_flag": False, "flag_value": each.metadata["alone"]}
    return click.option(option_name(each.name), *each.metadata["also"], each.name, **attributes)


def _defaults(each: dataclasses.Field) -> str:
    """Such as `600; imagenet: 250`."""
    recipes: dict[str, list[str]] = {}  # the data sets of each default
    for dataset, value in each.metadata["recipes"].items():
        recipes.setdefault(_shown(each, value), []).append(dataset)
    return "; ".join([_shown(each, each.metadata["default"]), *(f"{', '.join(names)}: {v}" for v, names in recipes.items())])


def _shown(each: dataclasses.Field, value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None:
        return "where it fits" if isinstance(each.metadata["default"], bool) else "off"
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _read_defaults(ctx: click.Context, config: type[Config], path: str | None) -> None:
    """Make the file's settings the defaults of this command. Raises DartsError with file, key and remedy."""
    if path is None:
        return
    data = files.read_yaml(path)
    if not isinstance(data, dict):
        raise DartsError(f"{path}: must be a mapping of settings, such as `epochs: 50`", exit_code=2)
    command = str(data.get("command")).partition(" --")[0]
    if CONFIGS.get(command, config) is not config:
        raise DartsError(f"{path}: holds the settings of darts {command}; name those of another run", exit_code=2)
    settings = {each.name: each for each in dataclasses.fields(config)}
    ctx.default_map = {}
    for key, value in data.items():
        name = str(key).replace("-", "_")
        if name in _NOT_SETTINGS:
            continue
        if name in _OF_THE_COMMAND and any(each.name == name for each in ctx.command.params):
            ctx.default_map |= _seeds(value) if name == "seeds" else {name: value}
            continue
        if name not in settings:
            import difflib

            close = difflib.get_close_matches(name, settings, 1)
            meant = f"did you mean {close[0]}?" if close else f"there are {', '.join(settings)}"
            raise DartsError(f"{path}: unknown key {key!r}; {meant}", exit_code=2)
        ctx.default_map[name] = _plain(path, settings[name], _kinds(config)[name], value)
        option = next(each for each in ctx.command.params if each.name == name)
        try:
            option.type_cast_value(ctx, ctx.default_map[name])
        except click.BadParameter as error:
            raise DartsError(
                f"{path}: {name}: {error.message.rstrip('.')}; see {ctx.command_path} --help", exit_code=2
            ) from None


def _seeds(value: object) -> dict:
    """The options of a list of seeds, as the config.yaml of several searches has it, or of what `--seeds` takes."""
    if isinstance(value, list) and value and all(type(seed) is int for seed in value):
        return {"seed": value[0], "seeds": seed_options(value).split()[1]}
    return {"seeds": str(value)}


def _plain(path: str, each: dataclasses.Field, kind: type, value: object) -> object:
    """The value, when it is of that kind; text is left to Click, which reads `1e-3` where YAML does not."""
    numbers = typing.get_args(kind)
    if value is None:
        fits = each.default is None
    elif numbers:
        fits = isinstance(value, list) and len(value) == len(numbers) and all(_is_number(v, float) for v in value)
    elif kind is bool:
        fits = isinstance(value, bool)
    else:
        fits = isinstance(value, str) or (kind is not str and _is_number(value, kind))
    if not fits:
        name = f"{len(numbers)} numbers" if numbers else _KINDS[kind]
        raise DartsError(f"{path}: {each.name}: must be {name}, not {value!r}", exit_code=2)
    return value


def _is_number(value: object, kind: type) -> bool:
    return isinstance(value, int | kind) and not isinstance(value, bool) and (isinstance(value, float) or abs(value) < 2**64)
