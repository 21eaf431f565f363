"""What a few numbers allow to say: means with intervals, and paired differences with a permutation test. No torch."""

import itertools
import math
import random
import statistics
from collections.abc import Sequence

LEVEL = 0.05  # of significance, after Holm's correction
EXACT_PAIRS = 16  # up to here all signs are tried
DRAWS = 100_000  # of signs, beyond


def summary(values: Sequence[float]) -> dict:
    """Their number, mean, sample deviation and 95 % interval of the mean by Student's t; None where one value says nothing."""
    n, mean = len(values), statistics.fmean(values)
    if n < 2:
        return {"n": n, "mean": mean, "deviation": None, "interval": None}
    deviation = statistics.stdev(values)
    half = student_t(0.975, n - 1) * deviation / math.sqrt(n)
    return {"n": n, "mean": mean, "deviation": deviation, "interval": [mean - half, mean + half]}


def student_t(probability: float, freedom: int) -> float:
    """The quantile of Student's t distribution, for a probability of at least 0.5."""
    low, high = 0.0, 1.0
    while _below(high, freedom) < probability:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _below(middle, freedom) < probability else (low, middle)
    return (low + high) / 2


def _below(t: float, freedom: int) -> float:
    """The probability of a value below t >= 0: Simpson's rule over the angle x, where t = sqrt(freedom) tan x."""
    steps, end = 400, math.atan(t / math.sqrt(freedom))
    values = [math.cos(end * i / steps) ** (freedom - 1) for i in range(steps + 1)]
    area = end / steps / 3 * (values[0] + values[-1] + 4 * sum(values[1:-1:2]) + 2 * sum(values[2:-1:2]))
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)
    return 0.5 + scale * area


def permutation_test(differences: Sequence[float]) -> float:
    """The two-sided p-value of paired differences: how often random signs give a mean at least as far from 0.

    All signs are tried for up to 16 pairs; beyond, 100,000 drawn ones, with the differences themselves counted among them. With
    n pairs it is at least 2 / 2^n.
    """
    observed = abs(math.fsum(differences)) * (1 - 1e-12)  # equal sums may differ by rounding
    n = len(differences)
    if n <= EXACT_PAIRS:
        tried = itertools.product((1, -1), repeat=n)
        extreme = sum(
            abs(math.fsum(map(float.__mul__, map(float, signs), map(float, differences)))) >= observed for signs in tried
        )
        return extreme / 2**n
    rng, extreme = random.Random(0), 1
    for _ in range(DRAWS):
        bits = rng.getrandbits(n)
        extreme += abs(math.fsum(d if bits >> i & 1 else -d for i, d in enumerate(differences))) >= observed
    return extreme / (DRAWS + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of several tests, corrected: below 0.05 they are so together (Holm, 1979)."""
    order, corrected, largest = sorted(range(len(p_values)), key=p_values.__getitem__), list(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = largest
    return corrected
