"""Candidates, ranked by the curves of their short trainings, and how far apart they are."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from darts_cli.genotype import Genotype

LAST = 5  # epochs that a curve is judged by
FEW = 2 * LAST  # epochs of a training; one with less is still learning in those that it is judged by
MEASURES = {"cnn": "valid_accuracy", "rnn": "valid_perplexity"}
RULES = {"cnn": "mean of the last {} epochs; the highest wins", "rnn": "lowest of all epochs; the lowest wins"}


@dataclass(frozen=True)
class Candidate:
    """Cells and how their short training went; without a curve where it, or the search, failed, or none was asked for."""

    name: str
    seed: int
    cells: Genotype | None
    curve: tuple[float, ...] = ()  # of every epoch: validation accuracy, or perplexity of a word
    failed: str | None = None


def judged(curve: Sequence[float], domain: str) -> Sequence[float]:
    """The part of a curve that tells its score and spread: five epochs, or half of all where that is fewer.

    cnn: the last ones, in which the learning rate is nearly zero; rnn: those around the lowest, whose network a training keeps.
    """
    count = min(LAST, -(-len(curve) // 2))
    if domain == "cnn":
        return curve[len(curve) - count :]
    start = curve.index(min(curve)) - count // 2
    start = max(0, min(start, len(curve) - count))
    return curve[start : start + count]


def score(curve: Sequence[float], domain: str) -> float:
    """What candidates are ranked by.

    cnn: the mean validation accuracy of the last five epochs, more is better; a mean is less noisy than the last. rnn: the
    lowest validation perplexity, less is better.
    """
    return statistics.mean(judged(curve, domain)) if domain == "cnn" else min(curve)


def spread(curve: Sequence[float], domain: str) -> float | None:
    """Sample deviation of the epochs that the curve is judged by; None of a single one."""
    part = judged(curve, domain)
    return statistics.stdev(part) if len(part) > 1 else None


def rank(candidates: Sequence[Candidate], domain: str) -> list[Candidate]:
    """The best first; ties in the order given; those without a curve, or with one that is not finite, last."""

    def key(candidate: Candidate) -> float:
        if not candidate.curve or not all(map(math.isfinite, candidate.curve)):
            return math.inf
        value = score(candidate.curve, domain)
        return -value if domain == "cnn" else value

    return sorted(candidates, key=key)


def compare(first: Candidate, second: Candidate, domain: str) -> dict:
    """How far apart two candidates are.

    The difference of their scores; the noise, which is the root of the mean of their squared spreads; and the ratio of the two,
    None where there is no noise to divide by.
    """
    difference = abs(score(first.curve, domain) - score(second.curve, domain))
    spreads = [spread(each.curve, domain) for each in (first, second)]
    noise = None if None in spreads else math.sqrt(statistics.mean(each**2 for each in spreads))
    return {"difference": difference, "noise": noise, "apart": difference / noise if noise else None}


def summary(candidates: Sequence[Candidate], domain: str) -> dict:
    """Mean and sample deviation of the scores of those that were trained."""
    scores = [score(each.curve, domain) for each in candidates if each.curve]
    mean = statistics.mean(scores) if scores else None
    return {"trained": len(scores), "mean": mean, "deviation": statistics.stdev(scores) if len(scores) > 1 else None}


def remarks(epochs: int, comparison: dict, domain: str) -> list[str]:
    """What keeps the first from having won, as far as these numbers tell."""
    found = []
    apart, searched, drawn = comparison["first_two"], comparison["searched"]["mean"], comparison["random"]["mean"]
    if apart is not None and apart["apart"] is not None and apart["apart"] < 1:
        found.append("The first two are less than the noise apart: neither has won.")
    if drawn is not None and (drawn >= searched if domain == "cnn" else drawn <= searched):
        found.append("The random cells are as good as those found: the searches have found nothing.")
    if epochs < FEW:
        found.append(f"In fewer than {FEW} epochs the spread is what was still being learnt rather than noise.")
    return found
