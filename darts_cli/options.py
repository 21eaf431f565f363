"""The command line of a configuration: its dataclass becomes Click options, a YAML file their defaults."""

import dataclasses
import typing
from collections.abc import Callable

import click

from darts_cli import DartsError
from darts_cli.config import Config, option_name

_NOT_SETTINGS = ("command", "environment")  # what the config.yaml of a run says besides the settings


def options(config: type[Config]) -> Callable:
    """Decorator: one option for every setting of the configuration, and --config FILE; the command gets them by name."""

    def decorate(command: Callable) -> Callable:
        kinds = typing.get_type_hints(config)
        for each in reversed(dataclasses.fields(config)):
            command = _option(each, kinds[each.name])(command)
        return click.option(
            "--config",
            metavar="FILE",
            is_eager=True,
            expose_value=False,
            callback=lambda ctx, _, path: _read_defaults(ctx, config, path),
            help="YAML file of settings, also the config.yaml of a run; options given on the command line win.",
        )(command)

    return decorate


def _option(each: dataclasses.Field, kind: type) -> Callable:
    attributes = {"default": each.default, "help": each.metadata["help"], "metavar": each.metadata["metavar"]}
    if kind is bool:
        return click.option(f"{option_name(each.name)}/--no-{option_name(each.name)[2:]}", **attributes)
    if typing.get_origin(kind) is tuple:
        attributes |= {"type": typing.get_args(kind)[0], "nargs": len(typing.get_args(kind))}
    elif each.metadata["choices"]:
        attributes |= {"type": click.Choice(each.metadata["choices"])}
    else:
        attributes |= {"type": next((t for t in typing.get_args(kind) if t is not type(None)), kind)}
    return click.option(
        option_name(each.name), *each.metadata["also"], each.name, show_default=each.default is not None, **attributes
    )


def _read_defaults(ctx: click.Context, config: type[Config], path: str | None) -> None:
    """Make the file's settings the defaults of this command. Raises DartsError with file, key and remedy."""
    if path is None:
        return
    from darts_cli import files

    data = files.read_yaml(path)
    if not isinstance(data, dict):
        raise DartsError(f"{path}: must be a mapping of settings, such as `epochs: 50`", exit_code=2)
    settings = {each.name: each for each in dataclasses.fields(config)}
    ctx.default_map = {}
    for key, value in data.items():
        name = str(key).replace("-", "_")
        if name in _NOT_SETTINGS:
            continue
        if name not in settings:
            import difflib

            close = difflib.get_close_matches(name, settings, 1)
            meant = f"did you mean {close[0]}?" if close else f"there are {', '.join(settings)}"
            raise DartsError(f"{path}: unknown key {key!r}; {meant}", exit_code=2)
        ctx.default_map[name] = _plain(path, settings[name], value)


def _plain(path: str, each: dataclasses.Field, value: object) -> object:
    """The value, when its kind is that of the default; text is left to Click, which reads `1e-3` where YAML does not."""
    default = each.default
    if isinstance(default, tuple):
        fits = isinstance(value, list) and len(value) == len(default) and all(_is_number(v, float) for v in value)
    elif isinstance(default, bool):
        fits = isinstance(value, bool)
    elif isinstance(default, int | float):
        fits = isinstance(value, str) or _is_number(value, type(default))
    else:
        fits = isinstance(value, str) or value is default is None
    if not fits:
        raise DartsError(f"{path}: {each.name}: {value!r} is not of the kind of {default!r}", exit_code=2)
    return value


def _is_number(value: object, kind: type) -> bool:
    return isinstance(value, int | kind) and not isinstance(value, bool) and abs(value) < 2**64
