"""The options --seeds, --parallel and --engine: what their values mean, and how a sweep is repeated."""

import importlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from darts_cli import DartsError

MAX_RUNS = 10_000  # seeds, random cells or repeats
MAX_PARALLEL = 1_000  # runs at a time


def seed_list(text: str, first: int) -> tuple[int, ...]:
    """The seeds of `--seeds`: a count, starting at the first, or a list such as 0,3,7. Raises DartsError."""
    rule = f"--seeds {text}: must be a count of at least 1, or a list of different seeds such as 0,3,7"
    words = text.split(",")
    if not all(word.strip().isascii() and word.strip().isdigit() for word in words):
        raise DartsError(rule, exit_code=2)
    numbers = [int(word) for word in words]
    if len(numbers) == 1:
        if not 1 <= numbers[0] <= MAX_RUNS:
            raise DartsError(rule, exit_code=2)
        return tuple(range(first, first + numbers[0]))
    twice = next((number for number in numbers if numbers.count(number) > 1), None)
    if twice is not None:
        raise DartsError(f"--seeds {text}: lists the seed {twice} twice; list every seed once", exit_code=2)
    return tuple(numbers)


def seed_options(seeds: Sequence[int]) -> str:
    """The option for these seeds, where --seed is the first of them."""
    consecutive = list(seeds) == list(range(seeds[0], seeds[0] + len(seeds)))
    return f"--seeds {len(seeds)}" if consecutive else f"--seeds {','.join(map(str, seeds))}"


@dataclass(frozen=True)
class Placement:
    """Where the runs of a sweep work, and how many of them share a machine. Neither is part of what a sweep is."""

    parallel: str | int = 1
    engine: str = "local"

    @classmethod
    def of(cls, parallel: str | None, engine: str | None) -> "Placement":
        """That of --parallel and --engine. Raises DartsError, also where the engine cannot be used on this machine."""
        return cls(_parallel(parallel or "1"), _engine(engine or "local"))

    def options(self) -> tuple[str, ...]:
        """Those that are not the defaults: the number of threads, and so the last bits of a result, depend on --parallel."""
        parallel = () if self.parallel == 1 else (f"--parallel {self.parallel}",)
        return parallel if self.engine == "local" else (*parallel, f"--engine {self.engine}")


HERE = Placement()


def _parallel(text: str) -> str | int:
    if text == "auto":
        return text
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_PARALLEL):
        raise DartsError(f"--parallel {text}: must be auto, or a number of runs from 1 to {MAX_PARALLEL:,}", exit_code=2)
    return int(text)


def _engine(text: str) -> str:
    kind, colon, address = text.partition(":")
    if kind not in ("local", "ray", "slurm") or (colon and not (kind == "ray" and address)):
        raise DartsError(f"--engine {text}: must be local, ray, ray:HOST:PORT or slurm", exit_code=2)
    if kind == "slurm" and shutil.which("sbatch") is None:
        raise DartsError("--engine slurm: there is no sbatch here; run the command on a machine that submits to Slurm")
    if kind != "local":
        _check_installed(kind)
    return text


def _check_installed(kind: str) -> None:
    name, module = {"ray": ("Ray", "ray"), "slurm": ("submitit", "submitit")}[kind]
    try:
        importlib.import_module(module)
    except ImportError:
        raise DartsError(f"--engine {kind}: needs {name}; install it with pip install {module}") from None
