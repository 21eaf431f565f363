"""What a configuration is made of: settings, each with its default, help and range in one place, and their checks."""

import dataclasses
import hashlib
import json
import operator
import reprlib
import shlex
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from darts_cli import DartsError
from darts_cli.text import meant

MAX_INT = 2**63 - 1  # PyTorch's integers have 64 bits
_TYPES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_RULES = {
    "ge": (operator.ge, "at least {}"),
    "gt": (operator.gt, "more than {}"),
    "le": (operator.le, "at most {}"),
    "lt": (operator.lt, "less than {}"),
    "multiple_of": (lambda value, factor: value % factor == 0, "a multiple of {}"),
}


@dataclass(frozen=True)
class Setting:
    """What is known of a setting. Its name and type are those of the field."""

    default: object
    help: str
    aliases: tuple[str, ...] = ()  # other spellings of the option
    flag_value: object = None  # what the option means without a value
    default_text: str | None = None  # what --help says of a default that depends on more than the data set
    choices: tuple[str, ...] | None = None
    words: tuple[str, ...] = ()  # that may stand in place of true or false
    mapping: bool = False  # True: what a file holds may be given too, as a mapping
    metavar: str | None = None
    recipes: Mapping[str, object] | None = None  # the default by data set, space or recipe, where it differs
    by_method: bool = False  # True: the recipe of a search method may change the default
    hidden: bool = False  # True: no option sets it, but what is trained
    changes_result: bool = True  # False: runs that differ in this only are the same run
    infinite: bool = False  # True: infinity is allowed
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    multiple_of: int | None = None
    name: str = ""
    type: type = str  # bool, int, float or str; of several numbers the type of one
    count: int | None = None  # how many numbers; None: a single value

    @property
    def optional(self) -> bool:
        """Whether None may be given; then the recipe of the data set decides, if there is one."""
        return self.default is None or self.depends

    @property
    def depends(self) -> bool:
        """Whether the default depends on a recipe."""
        return bool(self.recipes) or self.by_method

    def check(self, value: object) -> object:
        """The value, in the type of this setting; numbers may be text, because YAML reads 1e-3 as text.

        Raises ValueError with the rule that the value breaks.
        """
        if value is None and self.optional:
            return None
        if self.count is None:
            return self._check(value)
        if not isinstance(value, list | tuple) or len(value) != self.count:
            raise ValueError(f"must be {self.count} numbers")
        return tuple(map(self._check, value))

    def _check(self, value: object) -> object:
        try:
            value = self._typed(value)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"must be {' or '.join([_TYPES[self.type], *self.words])}") from None
        if type(value) is int and abs(value) > MAX_INT:
            raise ValueError(f"must be at most {MAX_INT}")
        if self.choices and value not in self.choices:
            raise ValueError(f"must be one of {', '.join(self.choices)}")
        for rule, (holds, words) in _RULES.items():
            bound = getattr(self, rule)
            if bound is not None and not holds(value, bound):  # NaN breaks every bound
                raise ValueError(f"must be {words.format(bound)}")
        if value == float("inf") and not self.infinite:
            raise ValueError("must be finite")
        return value

    def _typed(self, value: object) -> object:
        if (self.mapping and isinstance(value, dict)) or (isinstance(value, str) and value in self.words):
            return value
        if isinstance(value, bool) or self.type in (bool, str):
            if type(value) is not self.type:
                raise TypeError
            return value
        number = self.type(value)
        if self.type is int and isinstance(value, float):
            raise TypeError
        return number


def setting(default: object, help: str, **attributes) -> object:
    """A field of a configuration, which the command line offers as an option; the attributes are those of `Setting`."""
    described = Setting(default, help, **attributes)
    return dataclasses.field(default=None if described.depends else default, metadata={"setting": described})


def described(cls: type) -> type:
    """A configuration whose docstring, which `help` shows, also says what each setting is."""
    rows = [f"{name:<20}  {one.help}" for name, one in cls.settings().items() if not one.hidden]
    cls.__doc__ = "\n".join([f"{cls.__doc__}\n", *rows])
    return cls


class Config:
    """What the configurations share: the recipe of the data set, the check of every value, and the comparison of two runs."""

    def __post_init__(self):
        for setting in self.settings().values():
            if getattr(self, setting.name) is None:
                self._set(setting.name, self.default(setting))
            self._check_one(setting)

    def _check_one(self, setting: Setting) -> None:
        value = getattr(self, setting.name)
        try:
            self._set(setting.name, setting.check(value))
        except ValueError as error:
            raise DartsError(f"{' '.join(_option(setting.name, value))}: {error}", exit_code=2) from None

    def _set(self, name: str, value: object) -> None:
        """The only place that sets a value of a frozen configuration."""
        object.__setattr__(self, name, value)

    @classmethod
    @cache
    def settings(cls) -> dict[str, Setting]:
        """The settings by name, in their order."""
        settings = {}
        for field in dataclasses.fields(cls):
            types = typing.get_args(field.type) or (field.type,)  # of int | None it is int
            count = len(types) if typing.get_origin(field.type) is tuple else None
            settings[field.name] = dataclasses.replace(field.metadata["setting"], name=field.name, type=types[0], count=count)
        return settings

    def default(self, setting: Setting) -> object:
        """The value of a setting that is not given. It may depend on the settings before it."""
        recipes = setting.recipes or {}
        return next((recipes[name] for name in self.recipe_names() if name in recipes), setting.default)

    def recipe_names(self) -> list[str]:
        """What brings defaults of its own, the more important first."""
        return [self.dataset]

    @classmethod
    def check(cls, values: dict) -> dict:
        """The values of some settings by name, as a file holds them, in their types. Raises DartsError: key, rule, value."""
        checked = {}
        for key, value in values.items():
            setting = cls.settings().get(str(key).replace("-", "_"))
            if setting is None:
                names = cls.settings()
                there = meant(key, names) or f"; there are {', '.join(names)}"
                raise DartsError(f"unknown key {key!r}{there}", exit_code=2)
            try:
                checked[setting.name] = setting.check(value)
            except ValueError as error:
                raise DartsError(f"{setting.name}: {error}, not {reprlib.repr(value)}", exit_code=2) from None
        return checked

    @classmethod
    def from_dict(cls, values: dict) -> "Config":
        """The configuration that the config.yaml of a run holds, beside other things. Raises DartsError."""
        try:
            return cls(**cls.check({name: values[name] for name in cls.settings() if name in values}))
        except DartsError as error:
            raise DartsError(f"is not the configuration of a run ({error})") from None

    def to_dict(self) -> dict:
        """The values as plain data, as config.yaml holds them."""
        values = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def compared(self) -> dict:
        """The values that change the result; two runs with the same ones are the same run."""
        return {name: value for name, value in self.to_dict().items() if self.settings()[name].changes_result}

    def completed(self, values: Mapping) -> dict:
        """What a run compares, with today's defaults where a run of an earlier version knew no such setting."""
        known = {name: values.get(name, self.default(self.settings()[name])) for name in self.compared()}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in known.items()}

    def arguments(self, folder: str | Path) -> list[str]:
        """The options that a command line needs: those whose values are not the defaults.

        folder    of the run, which keeps what a file held
        """
        values = [(setting, getattr(self, setting.name)) for setting in self.settings().values()]
        given = [(setting.name, value) for setting, value in values if value != self.default(setting) and not setting.hidden]
        return [shlex.join(_option(name, str(folder) if isinstance(value, dict) else value)) for name, value in given]

    def folder_name(self, command: str, genotype=None) -> str:
        """The default name of a run folder: search-cnn-DATASET-seedN-HASH for "search cnn"."""
        return f"{command.replace(' ', '-')}-{self.dataset}-seed{self.seed}-{self.hash(genotype)}"

    def hash(self, genotype=None) -> str:
        """Eight hexadecimal digits of what changes the result: these values and, where cells are trained, the cells."""
        return digest(self, genotype)


def digest(config, genotype=None) -> str:
    """Eight hexadecimal digits of a configuration, or of that of a sweep, and of the cells where some are trained.

    Only values that are not the defaults count, so that a setting that a later version adds leaves the digits as they are.
    """
    usual = config.completed({})
    values = {name: value for name, value in config.compared().items() if value != usual[name]}
    cells = {} if genotype is None else {name: genotype.to_dict()[name] for name in genotype.cells}
    return hashlib.sha256(json.dumps(values | cells, sort_keys=True).encode()).hexdigest()[:8]


def option_name(name: str) -> str:
    return "--" + name.replace("_", "-")


def _option(name: str, value: object) -> list[str]:
    """The words that give this value on a command line."""
    if isinstance(value, bool):
        return [option_name(name if value else f"no_{name}")]
    return [option_name(name), *map(str, value if isinstance(value, list | tuple) else [value])]
