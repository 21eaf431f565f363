"""Candidates ranked by the curves of their short trainings, and how far apart they are."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from darts_cli.genotype import Genotype

JUDGED_EPOCHS = 5  # of a curve
FEW_EPOCHS = 2 * JUDGED_EPOCHS  # a shorter training still learns in the epochs that it is judged by


class Measure(NamedTuple):
    """What the candidates of a domain are ranked by, after every epoch of their training."""

    name: str
    higher_is_better: bool
    keeps_best: bool  # a training keeps the network of its best epoch, not that of the last
    rule: str
    form: str  # how a value is printed

    def show(self, value: float | None) -> str:
        return "none" if value is None else self.form.format(value)


MEASURES = {
    "cnn": Measure("valid_accuracy", True, False, "mean of the last {}; the highest wins", "{:.2%}"),
    "rnn": Measure("valid_perplexity", False, True, "lowest of all epochs; the lowest wins", "{:.2f}"),
}


@dataclass(frozen=True)
class Candidate:
    """Cells, and the curve of their short training; none where it or the search failed, or nothing was trained."""

    name: str
    seed: int
    cells: Genotype | None
    curve: tuple[float, ...] = ()  # the measure after every epoch
    failed: str | None = None  # the reason


def judged(curve: Sequence[float], measure: Measure) -> Sequence[float]:
    """The epochs of a curve that score and spread are computed from: five, or half of a curve with fewer than ten.

    They are the last ones, in which the learning rate is nearly zero or, where a training keeps its best network, those around
    the best.
    """
    count = min(JUDGED_EPOCHS, -(-len(curve) // 2))
    start = len(curve) - count
    if measure.keeps_best:
        best = max(curve) if measure.higher_is_better else min(curve)
        start = max(0, min(curve.index(best) - count // 2, start))
    return curve[start : start + count]


def score(curve: Sequence[float], measure: Measure) -> float:
    """What candidates are ranked by: the best epoch if a training keeps it, or else the mean of the last, which is less noisy
    than the last one alone."""
    if measure.keeps_best:
        return max(curve) if measure.higher_is_better else min(curve)
    return statistics.mean(judged(curve, measure))


def spread(curve: Sequence[float], measure: Measure) -> float | None:
    """Sample deviation of the epochs that the curve is judged by; None if that is only one."""
    epochs = judged(curve, measure)
    return statistics.stdev(epochs) if len(epochs) > 1 else None


def rank(candidates: Sequence[Candidate], measure: Measure) -> list[Candidate]:
    """The best first; ties in the order given; candidates without a curve, or with one that is not finite, last."""

    def key(candidate: Candidate) -> float:
        if not candidate.curve or not all(map(math.isfinite, candidate.curve)):
            return math.inf
        value = score(candidate.curve, measure)
        return -value if measure.higher_is_better else value

    return sorted(candidates, key=key)


def compare(first: Candidate, second: Candidate, measure: Measure) -> dict:
    """How far apart two candidates are.

    `difference` of their scores; `noise`, the root of the mean of their squared spreads; `apart`, the ratio of the two, None
    where there is no noise.
    """
    difference = abs(score(first.curve, measure) - score(second.curve, measure))
    spreads = [spread(candidate.curve, measure) for candidate in (first, second)]
    noise = None if None in spreads else math.sqrt(statistics.mean(value**2 for value in spreads))
    return {"difference": difference, "noise": noise, "apart": difference / noise if noise else None}


def summary(candidates: Sequence[Candidate], measure: Measure) -> dict:
    """Mean and sample deviation of the scores of the candidates that were trained."""
    scores = [score(candidate.curve, measure) for candidate in candidates if candidate.curve]
    mean = statistics.mean(scores) if scores else None
    return {"trained": len(scores), "mean": mean, "deviation": statistics.stdev(scores) if len(scores) > 1 else None}


def remarks(epochs: int, comparison: dict, measure: Measure) -> list[str]:
    """Reasons not to trust that the first candidate is the best."""
    reasons = []
    first_two, searched, drawn = comparison["first_two"], comparison["searched"]["mean"], comparison["random"]["mean"]
    if first_two is not None and first_two["apart"] is not None and first_two["apart"] < 1:
        reasons.append("The first two differ by less than the noise: they cannot be told apart.")
    if drawn is not None and (drawn >= searched if measure.higher_is_better else drawn <= searched):
        reasons.append("The random cells are as good as those of the searches: searching gained nothing.")
    if epochs < FEW_EPOCHS:
        reasons.append(f"In fewer than {FEW_EPOCHS} epochs the spread shows what was still being learnt rather than noise.")
    return reasons
