"""When a search stops because its cells collapse, and which epoch's cells it then takes. Plain data: no torch.

Epochs are counted from 0 here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from darts_cli import DartsError
from darts_cli.text import exact, meant

WINDOW, DELTA, FIRST_EPOCH = 5, 4, 10  # of RobustDARTS (Zela et al., arXiv 1909.09656)
MOST_TIMES = 4  # that a search is regularised more: 81 times the weight decay


@dataclass(frozen=True)
class Rule:
    """A rule of `--stop`: its name and, where it has one, its limit."""

    name: str
    limit: float | None = None

    def __str__(self) -> str:
        return self.name if self.limit is None else f"{self.name}:{exact(self.limit)}"

    def stopped(self, records: Sequence[Mapping], every: int) -> tuple[int, int] | None:
        """The epoch after which the search stops and the one whose cells it takes; None while it goes on.

        records    of the finished epochs
        every      epochs between two eigenvalues
        """
        return _RULES[self.name].stopped(records, self.limit, every)

    def candidates(self, records: Sequence[Mapping], every: int) -> set[int]:
        """The epochs, of those that have finished, whose cells the rule may still take."""
        return _RULES[self.name].candidates(records, self.limit, every)


@dataclass(frozen=True)
class _Kind:
    limit: float | None
    low: float
    high: float
    whole: bool
    stopped: Callable
    candidates: Callable = lambda records, limit, every: set()


def parse(text: str) -> Rule:
    """The rule that a text names, such as "skips:2" or "eigenvalue". Raises DartsError."""
    name, colon, limit = text.strip().lower().partition(":")
    if name not in _RULES:
        there = meant(name, _RULES) or f"; there are {', '.join(_RULES)}"
        raise DartsError(f"--stop {text[:40]}: there is no rule {name[:30]!r}{there}", exit_code=2)
    kind = _RULES[name]
    if not colon:
        return Rule(name, kind.limit)
    if kind.limit is None:
        raise DartsError(f"--stop {text[:40]}: {name} takes no number", exit_code=2)
    try:
        value = int(limit) if kind.whole else float(limit)
    except ValueError:
        value = float("nan")
    if not kind.low <= value <= kind.high:
        number = "a whole number" if kind.whole else "a number"
        raise DartsError(f"--stop {text[:40]}: {name} takes {number} from {kind.low:g} to {kind.high:g}", exit_code=2)
    return Rule(name, value)


def first_stop(rule: Rule, every: int) -> int:
    """The first epoch, counted from 1, after which the rule can end a search."""
    return FIRST_EPOCH + (DELTA + 2) * every + 1 if rule.name == "eigenvalue" else 2


def averages(values: Sequence[float]) -> list[float]:
    """The mean of the last five values, or of all, from the third value on."""
    return [sum(values[max(0, i - WINDOW) : i]) / min(WINDOW, i) for i in range(3, len(values) + 1)]


def _eigenvalue(records: Sequence[Mapping], factor: float, every: int) -> tuple[int, int] | None:
    """RobustDARTS: the mean of the last five eigenvalues exceeds by a factor that of four evaluations before."""
    known = [(epoch, record["eigenvalue"]) for epoch, record in enumerate(records) if "eigenvalue" in record]
    means = averages([value for _, value in known])
    for i, (epoch, _) in enumerate(known[2:]):
        grown = i >= DELTA and means[i - DELTA] > 0 and means[i] / means[i - DELTA] > factor
        if grown and epoch - (DELTA + 2) * every >= FIRST_EPOCH:
            return epoch, epoch - (DELTA + 2) * every
    return None


def _window(records: Sequence[Mapping], factor: float, every: int) -> set[int]:
    return set(range(max(0, len(records) - 1 - (DELTA + 2) * every), len(records)))


def _skips(records: Sequence[Mapping], most: float, every: int) -> tuple[int, int] | None:
    """DARTS+ (Liang et al., arXiv 1909.06035): the first cell has so many skip connections, after an epoch with fewer."""
    good = None
    for epoch, record in enumerate(records):
        if next(iter(record["skip_connections"].values())) < most:
            good = epoch
        elif good is not None:
            return epoch, good
    return None


def _last_two(records: Sequence[Mapping], most: float, every: int) -> set[int]:
    return set(range(max(0, len(records) - 2), len(records)))


def _discretisation(records: Sequence[Mapping], points: float, every: int) -> tuple[int, int] | None:
    """The gap between the accuracies of the network and of its discrete cells, on the same images, has grown by points."""
    gaps = _gaps(records)
    for epoch, (gap, least) in enumerate(zip(gaps, accumulate(gaps, min), strict=True)):
        if gap - least > points:
            return epoch, gaps.index(least)
    return None


def _gaps(records: Sequence[Mapping]) -> list[float]:
    """In points; searches of earlier versions measured the network on the whole validation half only."""
    mixed = [record.get("mixed_accuracy", record["valid_accuracy"]) for record in records]
    return [100 * (found - record.get("discrete_accuracy", found)) for found, record in zip(mixed, records, strict=True)]


def _least_gap(records: Sequence[Mapping], points: float, every: int) -> set[int]:
    gaps = _gaps(records)
    return {gaps.index(min(gaps))} if gaps else set()


def times_regularised(records: Sequence[Mapping]) -> int:
    """How many times a search has gone back and on with more regularisation (RobustDARTS-ADA)."""
    return max((record["regularised"]["times"] for record in records if "regularised" in record), default=0)


def regularises(weight_decay: float, drop_path: float, times: int) -> bool:
    """Whether there is something left to strengthen after that many times."""
    return times < MOST_TIMES and regularised(weight_decay, drop_path, times + 1) != regularised(weight_decay, drop_path, times)


def regularised(weight_decay: float, drop_path: float, times: int) -> tuple[float, float]:
    """Weight decay and drop-path after that many times: drop-path rises by 0.2, to 0.6 at most, where there is any, else the
    weight decay by a factor of 3."""
    if drop_path:
        return weight_decay, max(drop_path, min(0.6, drop_path + 0.2 * times))
    return weight_decay * 3**times, drop_path


_RULES = {
    "never": _Kind(None, 0, 0, False, lambda records, limit, every: None),
    "skips": _Kind(2, 1, 100, True, _skips, _last_two),
    "eigenvalue": _Kind(1.3, 1, 100, False, _eigenvalue, _window),
    "discretisation": _Kind(20, 0, 100, False, _discretisation, _least_gap),
}
