"""The ranking of candidates against numbers worked out by hand."""

import math

import pytest

from darts_cli.genotype import load
from darts_cli.sweeps.ranking import Candidate, compare, judged, rank, remarks, score, spread, summary

CELLS = load("cnn/darts_v2")


def candidates(**curves):
    return [Candidate(name, i, CELLS, tuple(curve)) for i, (name, curve) in enumerate(curves.items())]


def names(ranked):
    return [each.name for each in ranked]


def test_accuracies_are_ranked_by_the_mean_of_the_last_five():
    """a: (0.5 + 0.6 + 0.7 + 0.8 + 0.9) / 5 = 0.7, whatever came before; b has a better last epoch, and 0.68."""
    a = [0.99] * 5 + [0.5, 0.6, 0.7, 0.8, 0.9]
    b = [0.1] * 5 + [0.5, 0.5, 0.7, 0.75, 0.95]
    assert math.isclose(score(a, "cnn"), 0.7)
    assert math.isclose(score(b, "cnn"), 0.68)
    assert math.isclose(spread(a, "cnn"), math.sqrt(0.1 / 4))  # deviations -0.2 -0.1 0 0.1 0.2
    assert names(rank(candidates(b=b, a=a), "cnn")) == ["a", "b"]


def test_a_short_curve_is_judged_by_its_last_half():
    """Where it begins says how fast, not how far a cell learns: (0.6 + 0.8) / 2 beats (0.6 + 0.65) / 2."""
    assert names(rank(candidates(fast=[0.5, 0.6, 0.65], far=[0.3, 0.6, 0.8]), "cnn")) == ["far", "fast"]
    assert [len(judged([0.5] * n, "cnn")) for n in (1, 2, 3, 8, 9, 10, 100)] == [1, 1, 2, 4, 5, 5, 5]
    assert spread([0.5, 0.6], "cnn") is None
    assert math.isclose(spread([0.1, 0.6, 0.8], "cnn"), 0.2 / math.sqrt(2))


def test_perplexities_are_ranked_by_the_lowest():
    """The spread is that of the epochs around it: 112, 110, 111 are a first, a lowest and a third; 180 and 300 tell nothing."""
    curves = candidates(a=[200, 120, 130], b=[180, 112, 110, 111, 250, 300], c=[115, 116])
    assert names(rank(curves, "rnn")) == ["b", "c", "a"]
    assert judged(curves[1].curve, "rnn") == (112, 110, 111)
    assert spread(curves[1].curve, "rnn") == pytest.approx(1.0)
    falling, rising = list(range(20, 0, -1)), list(range(1, 21))
    assert judged(falling, "rnn") == [5, 4, 3, 2, 1]
    assert judged(rising, "rnn") == [1, 2, 3, 4, 5]


def test_ties_go_to_the_earlier():
    same = candidates(x=[0.5, 0.5, 0.75], y=[0.5, 0.75, 0.5], z=[0.5, 0.625, 0.625])
    assert names(rank(same, "cnn")) == ["x", "y", "z"]
    assert names(rank(same[::-1], "cnn")) == ["z", "y", "x"]


@pytest.mark.parametrize("domain", ["cnn", "rnn"])
@pytest.mark.parametrize("curve", [(), (0.99, math.nan), (0.99, math.inf)])
def test_one_that_diverged_is_last(domain, curve):
    lost = Candidate("lost", 0, CELLS, curve, "diverged")
    assert names(rank([lost, *candidates(worse=[0.1], better=[0.1])], domain)) == ["worse", "better", "lost"]


def test_how_far_apart_the_first_two_are():
    """Scores 0.75 and 0.5; spreads sqrt(0.02) and sqrt(0.08), so the noise is sqrt(0.05)."""
    a, b = candidates(a=[0, 0.65, 0.85], b=[0, 0.3, 0.7])
    found = compare(a, b, "cnn")
    assert found["difference"] == pytest.approx(0.25)
    assert found["noise"] == pytest.approx(math.sqrt(0.05))
    assert found["apart"] == pytest.approx(0.25 / math.sqrt(0.05))
    assert compare(*candidates(a=[0.5] * 3, b=[0.4] * 3), "cnn")["apart"] is None  # no noise
    assert compare(*candidates(a=[0.5], b=[0.4] * 3), "cnn")["noise"] is None  # unknown


def test_mean_and_deviation_over_the_cells():
    some = [*candidates(a=[0.2], b=[0.4], c=[0.6]), Candidate("lost", 3, CELLS, failed="diverged")]
    assert summary(some, "cnn") == {"trained": 3, "mean": pytest.approx(0.4), "deviation": pytest.approx(0.2)}
    assert summary(some[:1], "cnn")["deviation"] is None
    assert summary([], "cnn")["mean"] is None


def compared(searched, drawn, apart=2.0):
    return {"searched": {"mean": searched}, "random": {"mean": drawn}, "first_two": {"apart": apart}}


@pytest.mark.parametrize(
    ("epochs", "comparison", "domain", "said"),
    [
        (100, compared(0.9, 0.8), "cnn", []),
        (100, compared(0.9, None), "cnn", []),
        (100, compared(80.0, 90.0), "rnn", []),
        (100, compared(0.9, 0.8) | {"first_two": None}, "cnn", []),
        (100, compared(0.9, 0.8, apart=None), "cnn", []),
        (100, compared(0.9, 0.8, apart=0.99), "cnn", ["neither has won"]),
        (100, compared(0.9, 0.9), "cnn", ["found nothing"]),
        (100, compared(90.0, 80.0), "rnn", ["found nothing"]),
        (9, compared(0.8, 0.9, apart=0.5), "cnn", ["neither has won", "found nothing", "still being learnt"]),
    ],
)
def test_what_keeps_the_first_from_having_won_is_said(epochs, comparison, domain, said):
    found = remarks(epochs, comparison, domain)
    assert len(found) == len(said)
    assert all(part in remark for part, remark in zip(said, found, strict=True))
