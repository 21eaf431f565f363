"""The display of a run: what is left of it, and what a terminal shows; how a command is broken into lines."""

import shlex
import time

import pytest

from darts_cli.runs.display import Display, Pace, _curve
from darts_cli.text import on_lines, sparkline


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_what_is_left_counts_evaluations_apart(capsys, clock):
    """3 epochs of 4 steps of 2 s, each followed by 10 s of evaluation."""
    display = Display(epochs=3, steps=4)
    display.begin(0, 0, [])
    for epoch in range(2):
        for step in range(4):
            clock[0] += 2
            display.step(epoch, step)
            if (epoch, step) == (1, 0):  # 7 steps and 2 evaluations
                assert display.pace.left() == pytest.approx(7 * 2 + 2 * 10)
        clock[0] += 10
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("2.00 s per step, about 34 s left; peak memory ")


def test_nothing_is_estimated_from_a_few_steps(clock):
    pace = Pace(epochs=2, steps=100)
    for step in range(1, 8):
        clock[0] += 30 if step == 1 else 1  # the first step is slow
        pace.step(0, step)
        assert (pace.left() is None) == (step <= 5)
    assert pace.in_words() == "at least 3 min left"
    assert pace.left() == 193


def test_a_run_that_resumes_at_the_end_of_an_epoch_estimates_when_it_knows_its_steps(capsys, clock):
    display = Display(epochs=8, steps=12)
    display.begin(5, 11, [])
    for epoch, step in ((5, 11), (6, 0), (6, 1)):
        clock[0] += 2 if step else 3
        display.step(epoch, step)
        assert (display.pace.left() is None) == (step != 1)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2  # that it resumes, and the figures
    assert said[1].startswith("2.00 s per step, about ")


def test_epochs_of_one_step_count_as_pauses(clock):
    pace = Pace(epochs=4, steps=1)
    for epoch in range(3):
        clock[0] += 5
        pace.step(epoch, 1)
    assert pace.left() == pytest.approx(2 * 5, abs=5)


def test_units_that_a_step_has_more_of_take_longer(clock):
    """Words of a text: steps of 10 and of 30 words."""
    pace = Pace(epochs=1, steps=1000)
    done = 0
    for words in (20, 10, 30, 10, 30, 20):
        done += words
        clock[0] += words / 10
        pace.step(0, done)
    assert pace.left() == pytest.approx((1000 - done) / 10)


def test_a_training_that_goes_back_is_not_timed_backwards(clock):
    pace = Pace(epochs=3, steps=2)
    for epoch, step in ((0, 1), (0, 2), (1, 1), (0, 1), (0, 2)):
        clock[0] += 3
        pace.step(epoch, step)
    assert (pace.timed, pace.stepping) == (2, 6)


def test_the_curve():
    records = [{"epoch": i + 1, "valid_accuracy": value, "lr": 0.02} for i, value in enumerate((0.0, 0.5, 1.0, 0.75))]
    assert _curve(records, "utf-8") == "valid accuracy ▁▅█▆ 75.00%  best 100.00% in epoch 3  learning rate 0.02"
    assert "▁" not in _curve(records, "ascii")
    perplexity = [{"epoch": i + 1, "valid_perplexity": value} for i, value in enumerate((90.0, 70.0, 80.0))]
    assert _curve(perplexity, "utf-8") == "valid perplexity █▁▅ 80.00  best 70.00 in epoch 2"
    assert sparkline([2.0, 2.0]) == "▁▁"


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_a_command_on_several_lines_is_the_same_to_a_shell(width):
    command = shlex.join([*"darts search cnn --dataset folder --data".split(), "my pictures/of cats", "--run", "a'b"])
    broken = on_lines(command, width)
    assert shlex.split(broken.replace("\\\n", "")) == shlex.split(command)
    assert all(len(line) <= width or len(line.split()) <= 4 for line in broken.splitlines())
    assert (broken == command) == (len(command) <= width)
