"""The options --seeds and --parallel: what their values mean, and how a sweep is repeated."""

from collections.abc import Sequence

import click
from click.core import ParameterSource

from darts_cli import DartsError

MAX_RUNS = 10_000  # seeds, random cells or repeats
MAX_PARALLEL = 1_000  # runs at a time


def seed_list(text: str, first: int) -> tuple[int, ...]:
    """The seeds of `--seeds`: a count, starting at the first, or a list such as 0,3,7.

    Raises DartsError, also when `--seed` was given too and is not the first of the list.
    """
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
    context = click.get_current_context(silent=True)
    given = context is not None and context.get_parameter_source("seed") is ParameterSource.COMMANDLINE
    if given and numbers[0] != first:
        raise DartsError(f"--seed {first}: is not the first of --seeds {text}; leave --seed out", exit_code=2)
    return tuple(numbers)


def seed_options(seeds: Sequence[int]) -> str:
    """The option for these seeds, where --seed is the first of them."""
    consecutive = list(seeds) == list(range(seeds[0], seeds[0] + len(seeds)))
    return f"--seeds {len(seeds)}" if consecutive else f"--seeds {','.join(map(str, seeds))}"


def parallel_options(parallel: str | int) -> tuple[str, ...]:
    """The option, if it is not the default: the number of threads, and so the last bits of a result, depend on it."""
    return () if parallel == 1 else (f"--parallel {parallel}",)


def parallel_count(text: str) -> str | int:
    """The value of `--parallel`. Raises DartsError."""
    if text == "auto":
        return text
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_PARALLEL):
        raise DartsError(f"--parallel {text}: must be auto, or a number of runs from 1 to {MAX_PARALLEL:,}", exit_code=2)
    return int(text)
