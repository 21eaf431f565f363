"""What a configuration is made of: settings, each with default, help and range in one place, and their checks."""

import dataclasses
import operator
from dataclasses import field

from darts_cli import DartsError

_BOUNDS = {
    "ge": (operator.ge, "at least {}"),
    "gt": (operator.gt, "more than {}"),
    "le": (operator.le, "at most {}"),
    "lt": (operator.lt, "less than {}"),
    "multiple_of": (lambda value, factor: value % factor == 0, "a multiple of {}"),
}


def setting(default, help, *, also=(), alone=None, choices=None, changes_result=True, metavar=None, recipes=None, **bounds):
    """A dataclass field, which is also an option.

    `also`: further spellings of the option; `alone`: what it means without a value; `recipes`: the default where a data set has
    another one, by its name; `bounds`: ge, gt, le, lt, multiple_of.
    """
    metadata = {"default": default, "help": help, "also": also, "alone": alone, "choices": choices}
    metadata |= {"changes_result": changes_result, "metavar": metavar, "recipes": recipes or {}, "bounds": bounds}
    return field(default=None if recipes else default, metadata=metadata)


class Config:
    """What the configurations share: the recipe of the data set, the check of every value, and the comparison of two runs."""

    decisive = ("dataset",)  # the settings that defaults of others depend on, each also on those before it

    def __post_init__(self):
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            if value is None and each.metadata["recipes"]:
                value = each.metadata["recipes"].get(self.dataset, each.metadata["default"])
                object.__setattr__(self, each.name, value)  # the one moment in which a frozen configuration is not
            numbers = value if isinstance(value, tuple) else (value,)
            count = len(each.metadata["default"]) if isinstance(each.metadata["default"], tuple) else 1
            if len(numbers) != count:
                raise DartsError(f"{option_name(each.name)} {numbers}: must be {count} numbers", exit_code=2)
            for number in numbers:
                _check(each, number)

    @classmethod
    def from_dict(cls, values: dict) -> "Config":
        """The configuration of those values, in the form of `to_dict`; what is no setting is left out. Raises DartsError."""
        several = {each.name for each in dataclasses.fields(cls) if isinstance(each.metadata["default"], tuple)}
        known = {each.name: values[each.name] for each in dataclasses.fields(cls) if each.name in values}
        try:
            config = cls(**{name: tuple(value) if name in several else value for name, value in known.items()})
            config.hash()
        except (DartsError, TypeError, ValueError, OverflowError) as error:
            raise DartsError(f"is not the configuration of a run ({error})") from None
        return config

    def to_dict(self) -> dict:
        """The values as plain data, as config.yaml holds them."""
        values = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def compared(self) -> dict:
        """The values that change the result; two runs with the same ones are the same run."""
        values = self.to_dict()
        return {each.name: values[each.name] for each in dataclasses.fields(self) if each.metadata["changes_result"]}

    def arguments(self) -> list[str]:
        """The options that a command line needs to say: those that differ from the data set's defaults."""
        import shlex

        decided, decisive = {}, {}  # the decisive settings so far, and their defaults beside these
        for name in self.decisive:
            decisive[name] = getattr(type(self)(**decided), name)
            decided[name] = getattr(self, name)
        default = type(self)(**decided).to_dict() | decisive
        given = []
        for key, value in self.to_dict().items():
            if value == default[key]:
                continue
            if isinstance(value, bool):
                given.append(option_name(key if value else f"no_{key}"))
            else:
                values = value if isinstance(value, list) else [value]
                given.append(" ".join([option_name(key), *(shlex.quote(str(v)) for v in values)]))
        return given

    def folder_name(self, command: str, genotype=None) -> str:
        """The name of a run folder, unless it is given another: of "search cnn" such as search-cnn-DATASET-seedN-HASH."""
        return f"{command.replace(' ', '-')}-{self.dataset}-seed{self.seed}-{self.hash(genotype)}"

    def hash(self, genotype=None) -> str:
        """Eight hexadecimal digits of what changes the result: these values and, where cells are trained, the cells."""
        return digest(self.compared(), genotype)


def digest(values: dict, genotype=None) -> str:
    """Eight hexadecimal digits of settings and, where cells are trained, of the cells."""
    import hashlib
    import json

    cells = {} if genotype is None else {name: genotype.to_dict()[name] for name in genotype.cells}
    return hashlib.sha256(json.dumps(values | cells, sort_keys=True).encode()).hexdigest()[:8]


def option_name(name: str) -> str:
    return "--" + name.replace("_", "-")


def _check(each: dataclasses.Field, value) -> None:
    choices = each.metadata["choices"]
    if choices and value not in choices:
        raise DartsError(f"{option_name(each.name)} {value}: must be one of {', '.join(choices)}", exit_code=2)
    for name, bound in each.metadata["bounds"].items():
        holds, words = _BOUNDS[name]
        if value is not None and not holds(value, bound):  # NaN holds nowhere
            raise DartsError(f"{option_name(each.name)} {value}: must be {words.format(bound)}", exit_code=2)
