"""--fit-memory: the largest part of a batch whose steps fit into memory, from measured steps of the run itself."""

import math
import re
from collections.abc import Iterator
from dataclasses import replace

import torch

from darts_cli import DartsError, files
from darts_cli.genotype import Genotype
from darts_cli.plans.measure import Kind, probe, segments
from darts_cli.runs.identity import Identity
from darts_cli.runs.task import Task
from darts_cli.runtime import distributed
from darts_cli.runtime.device import available_memory, resolve
from darts_cli.schema import Config, option_name
from darts_cli.text import counted, hint, size

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
LEAST_GAIN = 0.97  # parts that need more of what twice as large ones need save nothing
AUTO_SHARE = 0.9  # of the memory that is free now, that `auto` takes
PARTS = ("accumulate", "batch_chunks")  # the setting of the parts of a batch, by its name in the domains


def fit(
    limit: str,
    task: Task,
    config: Config,
    folder: str | None = None,
    genotype: Genotype | None = None,
    quiet: bool = False,
) -> Config:
    """The configuration with the fewest parts of a batch whose steps need at most `limit`.

    limit     bytes, such as 8GiB or 500MB; auto: most of what is free on the device now
    folder    of the run; where it is a run already, its choice is kept

    The parts are computed one after the other. If even the smallest do not fit, some tensors are recomputed too, where the
    network can. Raises DartsError where nothing fits.
    """
    if distributed.launched():
        raise DartsError("--fit-memory: not under torchrun; use more processes, or smaller batches", exit_code=2)
    most = bytes_of(limit, resolve(config.device))
    rows = list(_candidates(config))
    known = _chosen_before(task, [candidate for row in rows for candidate in row], folder, genotype)
    if known is not None:
        return known
    least = math.inf
    for row in rows:
        needs: list[float] = []
        for candidate in row:
            needs.append(_peak(Kind(task, candidate, genotype), most))
            if not quiet:
                hint(f"--fit-memory {limit}: {_words(candidate)} needs {size(needs[-1]) if needs[-1] < math.inf else 'more'}")
            if needs[-1] <= most:
                return candidate
            if len(needs) > 1 and needs[-1] > LEAST_GAIN * needs[-2]:  # the rest is not the batch
                break
        least = min(least, *needs)
    found = "" if least == math.inf else f", the least that was tried needs {size(least)}"
    raise DartsError(f"--fit-memory {limit}: no part of a batch fits into {size(most)}{found}; use {_smaller(config)}")


def bytes_of(limit: str, device: torch.device) -> int:
    """The bytes of a limit. Raises DartsError."""
    if limit.strip().lower() == "auto":
        free = available_memory(device)
        if not free:
            raise DartsError(
                f"--fit-memory auto: the free memory of {device} is unknown here; give it, as in 8GiB", exit_code=2
            )
        return int(AUTO_SHARE * free)
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?\s*", limit.lower())
    if match is None or match[2] not in UNITS or not 10**6 <= float(match[1]) * UNITS[match[2]] < 10**15:
        raise DartsError(f"--fit-memory {limit}: must be auto or a size, such as 8GiB or 500MB", exit_code=2)
    return int(float(match[1]) * UNITS[match[2]])


def _candidates(config: Config) -> Iterator[list[Config]]:
    """The batch whole, then in ever more parts; then the same with tensors that are recomputed."""
    name = _setting(config)
    counts = [getattr(config, name)]
    while config.batch_size // (2 * counts[-1]) >= 2:  # BatchNorm needs two
        counts.append(2 * counts[-1])
    for settings in ({}, {"recompute": True}) if getattr(config, "recompute", None) is False else ({},):
        yield [replace(config, **settings, **{name: count}) for count in counts]


def _chosen_before(task: Task, candidates: list[Config], folder: str | None, genotype: Genotype | None) -> Config | None:
    """The configuration of the run that is in the folder, where there is one."""
    for candidate in candidates:
        path = Identity.of(task, candidate, folder, genotype).folder / "config.yaml"
        if files.is_file(path):
            content = files.read_yaml(path)
            names = {_setting(candidate), "recompute"} & {*candidate.settings()}
            kept = {name: content[name] for name in names if isinstance(content, dict) and name in content}
            return replace(candidate, **kept)
    return None


def _peak(kind: Kind, most: int) -> float:
    """The peak of the steps of a run, whatever they compute in its epochs; infinite where memory ran out."""
    peak = 0
    for epoch, _ in segments(kind):
        try:
            peak = max(peak, probe(kind, epoch, 0, seconds=0)["memory"])
        except DartsError as error:
            if "out of memory" not in str(error):
                raise
            return math.inf
        if peak > most:
            break
    return peak


def _setting(config: Config) -> str:
    return next(name for name in PARTS if hasattr(config, name))


def _smaller(config: Config) -> str:
    return "fewer --channels" if hasattr(config, "channels") else "a smaller --dim"


def _words(config: Config) -> str:
    """Such as `--accumulate 4 --recompute (4 parts of 24)`."""
    name = _setting(config)
    count = getattr(config, name)
    parts = f"{option_name(name)} {count}" + (" --recompute" if getattr(config, "recompute", False) else "")
    return f"{parts} ({counted(count, 'part')} of {-(-config.batch_size // count)})"
