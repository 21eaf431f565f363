"""Search methods as people write them: NAME[:parameter=value,...][+PART[:...]...], such as pc-darts+beta-decay:30. No torch."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from darts_cli import DartsError
from darts_cli.methods.catalogue import METHODS, PARTS, Parameter
from darts_cli.methods.combinations import REFUSED
from darts_cli.text import exact, meant


@dataclass(frozen=True)
class Spec:
    """A method that was read: its name if it has one, its parts with their parameters, and its recipe."""

    name: str | None
    parts: Mapping[str, Mapping[str, float]]

    @property
    def recipe(self) -> Mapping[str, object]:
        return METHODS[self.name].recipe if self.name else {}

    @property
    def without_none(self) -> bool:
        return self.name is not None and METHODS[self.name].without_none

    def __str__(self) -> str:
        """The expanded form: every parameter of every part."""
        own = dict(_sum(METHODS[self.name].parts)) if self.name else {}
        first = {key: value for part in own if part in self.parts for key, value in self.parts[part].items()}
        words = [_written(self.name, first)] if self.name else []
        words += [
            _written(part, values)
            for part, values in self.parts.items()
            if part not in own and (part != "softmax" or not words)
        ]
        return "+".join(words)


@cache
def read(text: str, domain: str = "cnn") -> Spec:
    """The method that a text names. Raises DartsError with the word that is wrong, the rule and the remedy."""
    words = text.strip().lower().split("+")
    name = words[0].partition(":")[0].strip()
    if name in METHODS:
        optional = METHODS[name].optional
        own = {
            part: values for part, values in _sum(METHODS[name].parts) if domain in PARTS[part].domains or part not in optional
        }
        _set(words[0], name, own)
    else:
        name, own = None, {}
    for word in words[1 if name else 0 :]:
        part = word.partition(":")[0].strip()
        if not part:
            raise DartsError(f"--method: {text[:40]!r}: a name is missing; write one, such as darts, or more with + between", 2)
        if part in METHODS:
            added = METHODS[part].parts
            raise DartsError(f"--method: {part} is a method, the sum {added}; add parts of it to another", exit_code=2)
        if part not in PARTS:
            known = [*METHODS, *PARTS] if not own else list(PARTS)
            kind = "method or part" if not own else "part"
            there = f"{meant(part, known)}; darts method list shows all"
            raise DartsError(f"--method: {part[:40]!r}: there is no {kind} of this name{there}", exit_code=2)
        if part in own:
            raise DartsError(f"--method: {part} is in {name or text} already; give its parameters there", exit_code=2)
        taken = next((other for other in own if PARTS[other].axis == PARTS[part].axis and other != "softmax"), None)
        if taken:
            axis = PARTS[part].axis
            raise DartsError(f"--method: {part} and {taken} both decide the {axis}; leave one of them out", exit_code=2)
        if PARTS[part].axis == "mixture":
            own.pop("softmax", None)
        own[part] = _defaults(part)
        _set(word, part, {part: own[part]})
    if not any(PARTS[part].axis == "mixture" for part in own):
        own = {"softmax": {}, **own}
    _check(own, domain)
    return Spec(name, own)


def _sum(text: str) -> Iterator[tuple[str, dict[str, float]]]:
    """The parts of a named method, with their parameters."""
    for word in text.split("+"):
        part = word.partition(":")[0]
        values = _defaults(part)
        _set(word, part, {part: values})
        yield part, values


def _defaults(part: str) -> dict[str, float]:
    return {parameter.name: parameter.default for parameter in PARTS[part].parameters}


def _set(word: str, name: str, parts: dict[str, dict[str, float]]) -> None:
    """Set the parameters that follow the name of a method or part. A single value without a name is the first parameter."""
    _, colon, given = word.partition(":")
    if not colon:
        return
    parameters = {parameter.name: (parameter, part) for part in parts for parameter in PARTS[part].parameters}
    seen = set()
    for item in given.split(","):
        key, equals, value = (text.strip() for text in item.partition("="))
        if not equals and len(parameters) and "," not in given:
            key, value = next(iter(parameters)), key
        if key not in parameters:
            has = f"it has {', '.join(parameters)}" if parameters else "it has none"
            wrong = f"no parameter {key[:40]!r}{meant(key, parameters)}"
            raise DartsError(f"--method: {name}: {wrong}; {has}, written {name}:parameter=value", exit_code=2)
        if key in seen:
            raise DartsError(f"--method: {name}: {key} is given twice", exit_code=2)
        seen.add(key)
        parameter, part = parameters[key]
        parts[part][key] = _number(parameter, value, name)


def _number(parameter: Parameter, text: str, name: str) -> float:
    """The value of a parameter. Raises DartsError."""
    kind = "a whole number" if parameter.whole else "a number"
    rule = f"{parameter.name} must be {kind} from {parameter.low:g} to {parameter.high:g}, not {text[:40]!r}"
    try:
        value = int(text) if parameter.whole else float(text)
    except ValueError:
        value = float("nan")
    if not parameter.low <= value <= parameter.high:
        raise DartsError(f"--method: {name}: {rule}", exit_code=2)
    return value


def _check(parts: Mapping[str, object], domain: str) -> None:
    """Raises DartsError where parts have no meaning together, or in a domain."""
    for pair, reason in REFUSED.items():
        if pair <= parts.keys():
            one, other = sorted(pair)
            raise DartsError(f"--method: {one} and {other} do not combine: {reason}", exit_code=2)
    for part in parts:
        needs = PARTS[part].needs
        if needs and needs not in parts:
            raise DartsError(f"--method: {part} needs {needs}: write {needs}+{part}", exit_code=2)
        if domain not in PARTS[part].domains:
            kind = "recurrent cells" if domain == "rnn" else "convolutional cells"
            raise DartsError(f"--method: {part} has no meaning for {kind}", exit_code=2)


def _written(name: str, values: Mapping[str, float]) -> str:
    return name + (":" + ",".join(f"{key}={exact(value)}" for key, value in values.items()) if values else "")
