"""Line charts: where values stand, what is marked, and that the file says it all."""

import math
import re
from xml.etree import ElementTree

import pytest
from made_runs import record_search, record_training

from darts_cli.pictures.charts import chart, many, measures
from darts_cli.pictures.charts.axis import epochs, linear, logarithmic
from darts_cli.runs.history import read
from darts_cli.spaces.space import load


@pytest.mark.parametrize("values", [(0.1, 0.9), (3, 3), (0, 0), (-5, 2), (1e-9, 2e-9), (0, 1e15), (97.2, 97.3)])
def test_round_values_are_marked_within_the_axis(values):
    axis = linear(values, 100, 0)
    assert all(0 <= axis.place(value) <= 100 for value in values)
    assert 2 <= len(axis.ticks) <= 8
    assert all(0 <= axis.place(tick) <= 100 for tick, _ in axis.ticks)
    assert len({label for _, label in axis.ticks}) == len(axis.ticks)


def test_counts_are_marked_by_whole_numbers_from_zero():
    assert [label for _, label in linear((1, 4), 100, 0, whole=True).ticks] == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("values", [(60, 900), (2, 1e6), (1, 1e300)])
def test_a_logarithmic_axis_takes_equal_room_for_equal_ratios(values):
    axis = logarithmic(values, 0, 100)
    low, high = values
    middle = math.sqrt(low) * math.sqrt(high)
    assert axis.place(middle) == pytest.approx((axis.place(low) + axis.place(high)) / 2)
    assert 2 <= len(axis.ticks) <= 8


@pytest.mark.parametrize("last", [1, 2, 8, 12, 50, 600, 8000])
def test_epochs_are_marked_from_the_first(last):
    axis = epochs(last, 0, 300)
    assert axis.ticks[0] == (1, "1")
    assert all(1 <= epoch <= last for epoch, _ in axis.ticks)
    assert len(axis.ticks) <= 8


def test_lines_go_through_the_values(tmp_path):
    """Read back from the path, with the place of each value on both axes."""
    record_search("cnn", tmp_path / "run", epochs=6)
    records = read(tmp_path / "run").records
    loss = measures.charts("cnn", records)[0]
    path = re.findall(r'<path d="M([\d.L ]+)"', chart.svg(loss))[0]
    points = [tuple(map(float, point.split())) for point in path.split("L")]
    values = [record["train_loss"] for record in records]
    (x0, y0), (x1, y1) = points[0], points[-1]
    for i, ((x, y), value) in enumerate(zip(points, values, strict=True)):
        assert x == pytest.approx(x0 + i * (x1 - x0) / 5, abs=0.1)
        assert y == pytest.approx(y0 + (value - values[0]) / (values[-1] - values[0]) * (y1 - y0), abs=0.2)


def test_where_all_operations_weigh_the_same(tmp_path):
    record_search("cnn", tmp_path / "run")
    history = read(tmp_path / "run")
    entropy, skips = measures.of_search(history.space, history.records)
    assert entropy.level == (pytest.approx(math.log(8)), "all operations weigh the same")
    counts = [genotype.cells["normal"].count("skip_connect") for genotype in history.genotypes()]
    assert skips.series[0].values == counts
    assert skips.level[0] == 2
    assert measures.of_search(load("nas-bench-201"), [])[1].level is None


@pytest.mark.parametrize(
    ("domain", "titles"), [("cnn", ["loss (nats)", "accuracy (%)"]), ("rnn", ["loss (nats per token)", "perplexity"])]
)
def test_a_file_names_axes_units_and_lines(domain, titles, tmp_path):
    record_training(domain, tmp_path / "run")
    source = chart.file(measures.charts(domain, read(tmp_path / "run").records), "a <title>")
    texts = [element.text for element in ElementTree.fromstring(source).iter("{http://www.w3.org/2000/svg}text")]
    assert texts[0] == "a <title>"
    assert [text for text in texts if text in titles] == titles
    assert texts.count("epoch") == 2
    assert any(text.startswith("training ") for text in texts)


def test_the_mean_of_repeated_runs_and_its_band():
    """By hand: of 40 and 60 the mean 50 and the sample deviation 14.1. A run that ends early ends the mean."""
    curves = {"seed-0": [100.0, 40.0], "seed-1": [100.0, 60.0, 50.0]}
    runs = {
        name: [{"epoch": i, "valid_perplexity": value} for i, value in enumerate(values, 1)] for name, values in curves.items()
    }
    (drawn,) = many.of_repeats("rnn", runs)
    mean = drawn.series[-1]
    assert (drawn.title, [series.name for series in drawn.series]) == (
        "validation perplexity",
        ["seed-0", "seed-1", "mean (of 2)"],
    )
    assert (mean.values, mean.last) == ([100, 50, None], "50.00 ± 14.14")
    assert drawn.band == [(100, 100), (pytest.approx(50 - 200**0.5), pytest.approx(50 + 200**0.5))]
    ElementTree.fromstring(chart.file([drawn]))
    (alone,) = many.of_repeats("rnn", {"seed-0": runs["seed-0"]})
    assert (len(alone.series), alone.band) == (1, ())


def test_a_band_below_zero_on_a_logarithmic_axis_ends_where_the_lines_do():
    runs = {
        f"seed-{i}": [{"epoch": 1, "train_perplexity": 3.0}, {"epoch": 2, "train_perplexity": value}]
        for i, value in enumerate((2.0, 1e6))
    }
    (drawn,) = many.of_repeats("rnn", runs)
    assert drawn.band[1][0] < 0
    path = re.search(r'class="band" d="M([\d.L ]+)Z"', chart.svg(drawn))[1]
    assert all(chart.TOP <= float(point.split()[1]) <= chart.BOTTOM for point in path.split("L"))
