"""The names of operations: those of this program, and those that other packages add.

A package adds an operation for images as an entry point of the group `darts.operations`. Its name is that of the operation, its
object a function (C, stride, affine) -> torch.nn.Module that maps (B, C, H, W) to (B, C, H/stride, W/stride).
"""

import re
from collections.abc import Iterable
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from darts_cli import DartsError
from darts_cli.text import meant

GROUP = "darts.operations"
SHIPPED = {  # by domain, in the order of the original where it had them
    "cnn": (
        *("none", "max_pool_3x3", "avg_pool_3x3", "skip_connect"),
        *("sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5", "sep_conv_7x7", "conv_7x1_1x7"),
        *("nor_conv_1x1", "nor_conv_3x3", "noise"),
    ),
    "rnn": ("none", "tanh", "relu", "sigmoid", "identity"),
}


@cache
def of_packages() -> dict[str, EntryPoint]:
    """The operations for images of other installed packages, by name. Raises DartsError where two share a name."""
    points: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        if not re.fullmatch("[a-z][a-z0-9]*(_[a-z0-9]+)+", point.name):
            rule = "must be lower-case words and numbers, joined by _, such as blur_3x3"
            raise DartsError(f"{point.value}: the operation {point.name!r} {rule}; rename this entry point of {GROUP}")
        if point.name in SHIPPED["cnn"] or (point.name in points and points[point.name].value != point.value):
            raise DartsError(f"{point.value}: there is already an operation {point.name}; rename this entry point of {GROUP}")
        points[point.name] = point
    return points


def is_known(domain: str, op: object) -> bool:
    """Whether this is the name of an operation of the domain."""
    return isinstance(op, str) and (op in SHIPPED[domain] or (domain == "cnn" and op in of_packages()))


def known(domain: str) -> tuple[str, ...]:
    """The names of the operations of a domain."""
    return SHIPPED[domain] + (tuple(sorted(of_packages())) if domain == "cnn" else ())


def in_genotypes(domain: str) -> tuple[str, ...]:
    """Those that an edge of a genotype may have; no recurrent cell has `none`."""
    return known(domain) if domain == "cnn" else known(domain)[1:]


def meant_by(op: object, domain: str, allowed: Iterable[str]) -> str:
    """What is meant by an operation that a domain does not have, in parentheses: one of another domain, or an allowed one of
    similar spelling. Empty if neither."""
    others = [other for other in SHIPPED if is_known(other, op) and not is_known(domain, op)]
    return f" (it is an operation of the domain {others[0]})" if others else meant(op, allowed)
