"""What would change the memory and the time of a run: the same run with other settings."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from darts_cli import DartsError
from darts_cli.plans.measure import Kind
from darts_cli.schema import Config


@dataclass(frozen=True)
class Variant:
    """A run with another setting.

    name       the option
    steps      how many steps its epochs have, in steps of the run as it was given
    network    whether an evaluation takes another time too
    """

    name: str
    kind: Kind
    steps: float = 1.0
    network: bool = True


def variants(kind: Kind) -> Iterator[Variant]:
    """The variants of a run, the more useful first. A value that its configuration refuses is left out."""
    for name, changes, steps, network in _changes(kind.config):
        with suppress(DartsError):
            yield Variant(name, replace(kind, config=replace(kind.config, **changes)), steps, network)


def _changes(config: Config) -> Iterator[tuple[str, dict, float, bool]]:
    """By name, in the order of their use: settings, steps of an epoch, and whether the network is another one."""
    half, twice = config.batch_size // 2, 2 * config.batch_size
    if half:
        yield f"--batch-size {half}", {"batch_size": half}, config.batch_size / half, False
    if getattr(config, "recompute", True) is False:
        yield "--recompute", {"recompute": True}, 1, False
    for name in ("accumulate", "batch_chunks"):
        if hasattr(config, name):
            parts = 2 * getattr(config, name)
            yield f"--{name.replace('_', '-')} {parts}", {name: parts}, 1, False
    for name in ("channels", "dim", "layers"):
        if hasattr(config, name):
            fewer = getattr(config, name) // 2
            fewer += fewer % 2 if name == "channels" else 0
            yield f"--{name} {fewer}", {name: fewer}, 1, True
    if config.precision == "fp32":
        yield "--precision bf16", {"precision": "bf16"}, 1, True
    yield from _partial(config)
    if getattr(config, "unrolled", False):
        yield "--no-unrolled", {"unrolled": False}, 1, False
    yield f"--batch-size {twice}", {"batch_size": twice}, 0.5, False


def _partial(config: Config) -> Iterator[tuple[str, dict, float, bool]]:
    """Operations on half as many channels, where the method has partial channels."""
    spec = getattr(config, "spec", None)
    if spec is not None and "partial" in spec.parts:
        k = 2 * spec.parts["partial"]["k"]
        fewer = str(replace(spec, parts=spec.parts | {"partial": spec.parts["partial"] | {"k": k}}))
        yield f"--method with 1/{k} of the channels", {"method": fewer}, 1, True
