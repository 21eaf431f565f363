"""The ranking of candidates against numbers worked out by hand."""

import math

import pytest

from darts_cli.genotype import load
from darts_cli.sweeps.ranking import MEASURES, Candidate, compare, judged, rank, remarks, score, spread, summary

CELLS = load("cnn/darts_v2")
CNN, RNN = MEASURES["cnn"], MEASURES["rnn"]


def candidates(**curves):
    return [Candidate(name, i, CELLS, tuple(curve)) for i, (name, curve) in enumerate(curves.items())]


def names(ranked):
    return [each.name for each in ranked]


def test_accuracies_are_ranked_by_the_mean_of_the_last_five():
    """a: (0.5 + 0.6 + 0.7 + 0.8 + 0.9) / 5 = 0.7, whatever came before; b has a better last epoch, and 0.68."""
    a = [0.99] * 5 + [0.5, 0.6, 0.7, 0.8, 0.9]
    b = [0.1] * 5 + [0.5, 0.5, 0.7, 0.75, 0.95]
    assert math.isclose(score(a, CNN), 0.7)
    assert math.isclose(score(b, CNN), 0.68)
    assert math.isclose(spread(a, CNN), math.sqrt(0.1 / 4))  # deviations -0.2 -0.1 0 0.1 0.2
    assert names(rank(candidates(b=b, a=a), CNN)) == ["a", "b"]


def test_a_short_curve_is_judged_by_its_last_half():
    """Where it begins says how fast, not how far a cell learns: (0.6 + 0.8) / 2 beats (0.6 + 0.65) / 2."""
    assert names(rank(candidates(fast=[0.5, 0.6, 0.65], far=[0.3, 0.6, 0.8]), CNN)) == ["far", "fast"]
    assert [len(judged([0.5] * n, CNN)) for n in (1, 2, 3, 8, 9, 10, 100)] == [1, 1, 2, 4, 5, 5, 5]
    assert spread([0.5, 0.6], CNN) is None
    assert math.isclose(spread([0.1, 0.6, 0.8], CNN), 0.2 / math.sqrt(2))


def test_perplexities_are_ranked_by_the_lowest():
    """The spread is that of the epochs around it: 112, 110, 111 are a first, a lowest and a third; 180 and 300 tell nothing."""
    curves = candidates(a=[200, 120, 130], b=[180, 112, 110, 111, 250, 300], c=[115, 116])
    assert names(rank(curves, RNN)) == ["b", "c", "a"]
    assert judged(curves[1].curve, RNN) == (112, 110, 111)
    assert spread(curves[1].curve, RNN) == pytest.approx(1.0)
    falling, rising = list(range(20, 0, -1)), list(range(1, 21))
    assert judged(falling, RNN) == [5, 4, 3, 2, 1]
    assert judged(rising, RNN) == [1, 2, 3, 4, 5]


def test_ties_go_to_the_earlier():
    same = candidates(x=[0.5, 0.5, 0.75], y=[0.5, 0.75, 0.5], z=[0.5, 0.625, 0.625])
    assert names(rank(same, CNN)) == ["x", "y", "z"]
    assert names(rank(same[::-1], CNN)) == ["z", "y", "x"]


@pytest.mark.parametrize("measure", [CNN, RNN])
@pytest.mark.parametrize("curve", [(), (0.99, math.nan), (0.99, math.inf)])
def test_one_that_diverged_is_last(measure, curve):
    lost = Candidate("lost", 0, CELLS, curve, "diverged")
    assert names(rank([lost, *candidates(worse=[0.1], better=[0.1])], measure)) == ["worse", "better", "lost"]


def test_how_far_apart_the_first_two_are():
    """Scores 0.75 and 0.5; spreads sqrt(0.02) and sqrt(0.08), so the noise is sqrt(0.05)."""
    a, b = candidates(a=[0, 0.65, 0.85], b=[0, 0.3, 0.7])
    found = compare(a, b, CNN)
    assert found["difference"] == pytest.approx(0.25)
    assert found["noise"] == pytest.approx(math.sqrt(0.05))
    assert found["apart"] == pytest.approx(0.25 / math.sqrt(0.05))
    assert compare(*candidates(a=[0.5] * 3, b=[0.4] * 3), CNN)["apart"] is None  # no noise
    assert compare(*candidates(a=[0.5], b=[0.4] * 3), CNN)["noise"] is None  # unknown


def test_mean_and_deviation_over_the_cells():
    some = [*candidates(a=[0.2], b=[0.4], c=[0.6]), Candidate("lost", 3, CELLS, failed="diverged")]
    assert summary(some, CNN) == {"trained": 3, "mean": pytest.approx(0.4), "deviation": pytest.approx(0.2)}
    assert summary(some[:1], CNN)["deviation"] is None
    assert summary([], CNN)["mean"] is None


def compared(searched, drawn, apart=2.0):
    return {"searched": {"mean": searched}, "random": {"mean": drawn}, "first_two": {"apart": apart}}


@pytest.mark.parametrize(
    ("epochs", "comparison", "measure", "said"),
    [
        (100, compared(0.9, 0.8), CNN, []),
        (100, compared(0.9, None), CNN, []),
        (100, compared(80.0, 90.0), RNN, []),
        (100, compared(0.9, 0.8) | {"first_two": None}, CNN, []),
        (100, compared(0.9, 0.8, apart=None), CNN, []),
        (100, compared(0.9, 0.8, apart=0.99), CNN, ["cannot be told apart"]),
        (100, compared(0.9, 0.9), CNN, ["gained nothing"]),
        (100, compared(90.0, 80.0), RNN, ["gained nothing"]),
        (9, compared(0.8, 0.9, apart=0.5), CNN, ["cannot be told apart", "gained nothing", "still being learnt"]),
    ],
)
def test_what_keeps_the_first_from_having_won_is_said(epochs, comparison, measure, said):
    found = remarks(epochs, comparison, measure)
    assert len(found) == len(said)
    assert all(part in remark for part, remark in zip(said, found, strict=True))
