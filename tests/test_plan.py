"""`darts plan`: figures that a run then meets, from real processes; totals of many runs; one line for a mistake."""

import json
import re
import time

import pytest
from conftest import darts

from darts_cli.config import SearchCNN, TrainRNN
from darts_cli.plans.measure import Kind, Measured, segments
from darts_cli.plans.variants import variants
from darts_cli.runs.task import Task
from darts_cli.sweeps.worker import counts

DIGITS = ["cnn", "--dataset", "digits", "--layers", "3", "--channels", "4", "--nodes", "2", "--batch-size", "120"]
PYDOC = ["rnn", "--dataset", "pydoc", "--dim", "16", "--batch-size", "160"]
SEARCH = Task("search", "cnn")


def planned(*args, seconds=3):
    done = darts("plan", *args, "--seconds", seconds, "--json", "--quiet")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("args", [["search", *DIGITS, "--epochs", "3"], ["train", *PYDOC, "--epochs", "2"]])
def test_a_run_takes_what_was_planned(args, tmp_path, monkeypatch):
    """The steps are counted exactly. Time is only held against a wide range here, as tests run beside others."""
    monkeypatch.chdir(tmp_path)
    found = planned(*args)
    (figure,) = found["runs"]
    assert list(tmp_path.iterdir()) == []
    begun = time.monotonic()
    assert darts(*args, "--run", "run", "--log-every", "1", "--checkpoint-minutes", "0").exit_code == 0
    seconds = time.monotonic() - begun
    logged = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    last = [line["step"] for line in logged if line["epoch"] == 1 and "step" in line][-1]
    if args[1] == "cnn":
        assert figure["steps_per_epoch"] == last
    assert seconds / 5 < figure["seconds"] < 10 + 5 * seconds
    checkpoints = sum(path.stat().st_size for path in (tmp_path / "run").glob("*.pt"))
    assert checkpoints / 2 < figure["disk_bytes"] < 2 * checkpoints
    assert figure["memory_bytes"] > 10**8
    assert figure["epochs"] == int(args[-1])


@pytest.mark.slow
def test_the_whole_of_several_searches(tmp_path, monkeypatch):
    """Three searches two at a time, and short trainings of their cells and of two random ones."""
    monkeypatch.chdir(tmp_path)
    extra = ["--seeds", "3", "--parallel", "2", "--epochs", "2", "--select-epochs", "4", "--random-cells", "2"]
    found = planned("search", *DIGITS, *extra)
    search, short = found["runs"]
    assert [(each["command"], each["runs"], each["epochs"]) for each in found["runs"]] == [
        ("search cnn", 3, 2),
        ("select cnn", 5, 4),
    ]
    total = found["total"]
    assert (total["runs"], total["at_a_time"]) == (8, 2)
    assert total["seconds"] == pytest.approx(2 * search["seconds"] + 3 * short["seconds"])
    assert total["disk_bytes"] == 3 * search["disk_bytes"] + 5 * short["disk_bytes"]
    assert total["memory_bytes"] == 2 * max(search["memory_bytes"], short["memory_bytes"])


@pytest.mark.slow
def test_the_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = darts("plan", "search", *DIGITS, "--epochs", "3", "--seconds", "10")
    assert done.exit_code == 0, done.stderr
    for said in ("digits, cpu with", "one search cnn", "seconds a step", "peak memory", "--batch-size 60"):
        assert said in done.stdout
    assert "measuring steps of darts search cnn" in done.stderr


def test_epochs_whose_steps_differ_are_measured_apart():
    """While alpha warms up, and in each stage of a search that narrows its space."""
    assert segments(Kind(SEARCH, SearchCNN(epochs=9))) == [(0, 9)]
    assert segments(Kind(SEARCH, SearchCNN(epochs=9, method="pc-darts:warmup=4"))) == [(0, 4), (4, 5)]
    assert sum(count for _, count in segments(Kind(SEARCH, SearchCNN(epochs=30, method="p-darts")))) == 30


def test_variants_are_other_runs():
    kind = Kind(SEARCH, SearchCNN(unrolled=True, method="pc-darts", channels=16))
    found = {variant.name: variant for variant in variants(kind)}
    assert len(found) >= 6
    assert all(variant.kind.config != kind.config for variant in found.values())
    half = found[f"--batch-size {kind.config.batch_size // 2}"]
    assert (half.kind.config.batch_size, half.steps) == (kind.config.batch_size // 2, 2)


def test_counts_are_those_of_the_data():
    """1,438 digits to train on, of which half; a pass over the other half, and four batches twice for the discrete cells."""
    assert counts(Task("search", "cnn"), SearchCNN(dataset="digits")) == {"steps": 12, "evaluation": 20, "end": 0}
    config = TrainRNN(dataset="pydoc")
    assert counts(Task("select", "rnn"), config)["end"] == 0
    assert counts(Task("train", "rnn"), config)["end"] > 0


def test_the_time_of_a_run_is_that_of_its_parts():
    slow, fast = ({"seconds_per_step": s, "start_up": 3.0, "memory": m, "checkpoint": 10} for s, m in ((2.0, 5), (1.0, 9)))
    end = {"evaluation": 0.5, "evaluations": 1.0, "after_epoch": None, "saving": 0.25, "memory": 7}
    measured = Measured({"steps": 10, "evaluation": 8, "end": 6}, [(3, fast), (1, slow)], end)
    assert measured.seconds_per_step == 1.25
    assert measured.after_steps == 8 * 0.5 + 0.25
    assert measured.seconds() == 3 + 4 * (10 * 1.25 + 4.25) + 6 * 0.5
    assert measured.memory == 9
    complete = Measured(measured.counts, measured.segments, end | {"after_epoch": 2.0})
    assert complete.after_steps == 1 + 2


@pytest.mark.slow
def test_a_run_says_what_it_takes(tmp_path):
    """After 20 steps, and after its first epoch."""
    done = darts(
        "train", "rnn", "--dataset", "pydoc", "--dim", "16", "--batch-size", "100", "--epochs", "2", "--run", tmp_path / "run"
    )
    assert done.exit_code == 0, done.stderr
    figures = r"\d+\.\d\d s per step, (about|at least) \d+ s left; peak memory [\d.]+ .B"
    said = [re.fullmatch(figures, line) for line in done.stderr.splitlines()]
    assert [line[1] for line in said if line] == ["at least", "about"]


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["search", "rnn"], 2, "--dataset ptb needs --data DIR"),
        (["search", "cnn", "--dataset", "folder", "--data", "/nowhere"], 1, "/nowhere: is not a folder of images"),
        (["search", "cnn", "--parallel", "2"], 2, "--parallel"),
        (["search", "cnn", "--seconds", "0"], 2, "--seconds"),
        (["train", "cnn", "--genotype", "darts_v3"], 1, "darts_v3"),
        (["train", "rnn", "--dataset", "pydoc", "--parallel", "2"], 2, "--parallel"),
        (["search", "cnn", "--epochs", "0"], 2, "--epochs"),
    ],
)
def test_mistakes(args, code, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = darts("plan", *args, "--quiet") if "--seconds" in args else darts("plan", *args, "--seconds", 1, "--quiet")
    assert (done.exit_code, len(done.stderr.splitlines()), done.stdout) == (code, 1, ""), done.stderr
    assert said in done.stderr
    assert list(tmp_path.iterdir()) == []
