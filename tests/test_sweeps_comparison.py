"""Methods compared: the statistics, and darts compare."""

import itertools
import json
import math
import re
import shlex
import signal
import time
from dataclasses import replace

import pytest
import torch
import yaml
from conftest import darts, finish, start
from hypothesis import given
from hypothesis import strategies as st

from darts_cli.config import SearchCNN, TrainCNN
from darts_cli.formats import nasbench201
from darts_cli.genotype import Genotype
from darts_cli.pictures.charts import methods as charts
from darts_cli.runs.task import Task
from darts_cli.sweeps.comparison import affordable, entry_of
from darts_cli.sweeps.estimate import estimate
from darts_cli.sweeps.pool import Job, Pool
from darts_cli.sweeps.reports import comparison as comparison_report
from darts_cli.sweeps.reports.comparison import word
from darts_cli.sweeps.seeds import Placement
from darts_cli.sweeps.significance import holm, permutation_test, student_t, summary
from darts_cli.sweeps.sweep import Sweep, SweepConfig
from darts_cli.sweeps.worker import counts

scipy_stats = pytest.importorskip("scipy.stats")
NUMBERS = st.lists(st.floats(-100, 100), min_size=2, max_size=9)


# ---- statistics


def test_a_mean_and_its_interval_by_hand():
    """Of 1, 2, 3: deviation 1, and the 97.5 % quantile of t with two degrees of freedom, 4.3027, in tables."""
    found = summary([1.0, 2.0, 3.0])
    half = 4.302652729911275 / math.sqrt(3)
    assert (found["n"], found["mean"], found["deviation"]) == (3, 2.0, 1.0)
    assert found["interval"] == pytest.approx([2 - half, 2 + half], rel=1e-9)
    assert summary([5.0]) == {"n": 1, "mean": 5.0, "deviation": None, "interval": None}


@pytest.mark.parametrize("freedom", [1, 2, 3, 5, 10, 29, 200])
@pytest.mark.parametrize("probability", [0.5, 0.9, 0.975, 0.995])
def test_quantiles_of_student_are_those_of_scipy(probability, freedom):
    expected = scipy_stats.t.ppf(probability, freedom)
    assert student_t(probability, freedom) == pytest.approx(expected, rel=1e-7, abs=1e-9)


@given(NUMBERS)
def test_intervals_are_those_of_scipy(values):
    found = summary(values)
    if found["deviation"] > 1e-6:
        scale = found["deviation"] / math.sqrt(len(values))
        expected = scipy_stats.t.interval(0.95, len(values) - 1, loc=found["mean"], scale=scale)
        assert found["interval"] == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_a_permutation_test_by_hand():
    """Of 1, 2, 3 the sum 6 is reached by two of the eight choices of signs; of -1, 2, 3 the sum 4, or more, by four."""
    assert permutation_test([1.0, 2.0, 3.0]) == 2 / 8
    assert permutation_test([-1.0, 2.0, 3.0]) == 4 / 8
    assert permutation_test([0.0, 0.0, 0.0, 0.0]) == 1
    assert permutation_test([0.1] * 6) == 2 / 64


@given(st.lists(st.integers(-50, 50).map(float), min_size=2, max_size=8))
def test_p_values_are_those_of_scipy(differences):
    expected = scipy_stats.permutation_test(
        (differences,), lambda x, axis: abs(x.sum(axis)), permutation_type="samples", alternative="greater", vectorized=True
    )
    assert permutation_test(differences) == pytest.approx(expected.pvalue)


def test_many_pairs_are_tried_by_drawing():
    """Close to the exact value: the sum of 20 signs is at least 10 in size with this probability."""
    exact = sum(math.comb(20, k) for k in range(21) if abs(2 * k - 20) >= 10) / 2**20
    assert permutation_test([1.0] * 15 + [-1.0] * 5) == pytest.approx(exact, abs=0.005)
    assert permutation_test([1.0] * 30) == 1 / 100_001


def test_corrected_p_values_by_hand():
    """The smallest times 3, the next times 2, the largest as it is, none below the one before."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_worse_than_random_is_said():
    """Eight pairs; the smallest corrected p of one comparison is 2 / 2^8."""
    methods = {"darts": {"scores": [float(i) for i in range(8)]}, "random": {"scores": [i + 10.0 for i in range(8)]}}
    (row,) = comparison_report._differences(methods, True)
    assert (row["conclusion"], row["p"]) == ("worse", 2 / 2**8)
    assert comparison_report.concluded([row], 8) == "Significantly worse: darts than random."
    (row,) = comparison_report._differences(methods, False)  # perplexities
    assert comparison_report.concluded([row], 8) == "Significantly better: darts than random."


@pytest.mark.parametrize(("comparisons", "needed"), [(1, 6), (2, 7), (3, 7), (4, 8), (10, 9)])
def test_how_many_seeds_can_show_something(comparisons, needed):
    assert comparison_report.too_few(needed, comparisons) == []
    assert f"at least {needed} seeds" in comparison_report.too_few(needed - 1, comparisons)[0]
    assert max(holm([2 / 2**needed] * comparisons)) < 0.05 <= max(holm([2 / 2 ** (needed - 1)] * comparisons))


# ---- the command


def arguments(folder, *options, epochs=2):
    return [
        *("compare", "cnn", "--dataset", "digits", "--layers", "1", "--channels", "4", "--max-images", "32"),
        *("--batch-size", "16", "--epochs", str(epochs), "--space", "nas-bench-201", "--run", str(folder), *options),
    ]


def content(folder):
    return yaml.safe_load((folder / "comparison.yaml").read_text())


METHODS = ("--methods", "darts,gdas:tau_start=5,random,random-search:3", "--seeds", "2")


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared") / "run"
    done = darts(*arguments(folder, *METHODS))
    assert done.exit_code == 0, done.stderr
    return folder, done


def test_scores_are_the_true_accuracies_of_what_was_found(compared):
    folder, done = compared
    found = content(folder)
    space = found["spaces"]["nas-bench-201"]
    assert (found["seeds"], list(space["methods"])) == ([2, 3], ["darts", "gdas:tau_start=5", "random", "random-search:3"])
    assert space["best"] == 94.3733
    table = nasbench201.load(200)
    for method, result in space["methods"].items():
        for cell, score in zip(result["cells"], result["scores"], strict=True):
            cells = Genotype.from_dict(cell["genotype"])
            assert table.accuracy(nasbench201.cell_of(cells), "cifar10") == score == cell["score"]
            if not method.startswith("random"):
                run = folder / "nas-bench-201" / word(method) / f"seed-{cell['seed']}"
                assert darts("genotype", "show", run, "--json").stdout == json.dumps(cell["genotype"]) + "\n"
        assert result["mean"] == pytest.approx(sum(result["scores"]) / 2)
    curves = [
        [json.loads(line)["truth"]["cifar10"]["accuracy"] for line in path.read_text().splitlines()]
        for path in _metrics(folder, "darts")
    ]
    assert space["methods"]["darts"]["curve"] == pytest.approx([sum(pair) / 2 for pair in zip(*curves, strict=True)])
    assert space["methods"]["darts"]["steps"] == 2 * 1
    rows = {(row["method"], row["to"]): row for row in space["differences"]}
    assert set(rows) == {
        *itertools.product(("darts", "gdas:tau_start=5"), ("random", "random-search:3")),
        ("random-search:3", "random"),
    }
    row = rows["darts", "random"]
    pairs = zip(space["methods"]["darts"]["scores"], space["methods"]["random"]["scores"], strict=True)
    assert row["mean"] == pytest.approx(sum(a - b for a, b in pairs) / 2)
    assert row["conclusion"] == "no significant difference"
    said = "With 2 seeds and 5 comparisons nothing can be significant; at least 8 seeds are needed."
    assert space["conclusion"] == f"No significant difference. {said}"
    assert f"**{space['conclusion']}**" in done.stdout
    assert said in done.stderr  # before the searches
    assert done.stdout == (folder / "report.md").read_text()
    assert "![Scores by method in nas-bench-201](nas-bench-201.svg)" in done.stdout
    assert (folder / "nas-bench-201.svg").read_text().count("<circle") == 8
    assert f"torch {torch.__version__}" in re.search("^Environment: .*", done.stdout, re.MULTILINE)[0]
    again = darts(*shlex.split(done.stdout.splitlines()[-1])[1:], "--run", folder)  # "Repeat with"
    assert (again.exit_code, again.stdout) == (0, done.stdout)


def _metrics(folder, method):
    return sorted((folder / "nas-bench-201" / method).glob("seed-*/metrics.jsonl"))


def test_the_best_of_some_random_cells_is_chosen_by_validation_not_by_the_test(compared):
    folder, _ = compared
    config = SearchCNN(dataset="digits", space="nas-bench-201", layers=1, channels=4)
    for cell in content(folder)["spaces"]["nas-bench-201"]["methods"]["random-search:3"]["cells"]:
        drawn = entry_of("nas-bench-201", "random-search:3", cell["seed"], config, 12).drawn
        short = nasbench201.load(12)
        valid = {cells.hash(): short.accuracy(nasbench201.cell_of(cells), "cifar10", "valid") for cells in drawn}
        assert len(drawn) == 3
        assert cell["hash"] == max(valid, key=valid.get)


def test_a_random_search_costs_about_what_a_search_does():
    """Five operations an edge, 50 epochs, trainings of 12 epochs; eight operations, trainings of 100."""
    assert affordable(SearchCNN(space="nas-bench-201"), 100) == round(50 * 5 / 12)
    assert affordable(SearchCNN(), 100) == 50 * 8 // 100


def test_the_page_has_every_method_and_no_other_files(compared):
    folder, _ = compared
    page = (folder / "comparison.html").read_text()
    assert all(f">{method}<" in page for method in ("darts", "gdas:tau_start=5", "random", "random-search:3"))
    assert "No significant difference." in page
    means = {name: result["mean"] for name, result in content(folder)["spaces"]["nas-bench-201"]["methods"].items()}
    best = max(means, key=means.get)
    assert f"{best}, mean accuracy {means[best]:.2f}%" in darts("runs", folder.parent).stdout
    assert all(f"<td>{mean:.2f}</td>" in page for mean in means.values())
    assert len(re.findall("<circle", page)) == 8
    assert not re.search(r"""(src|href)=(?!"data:)|https?://(?!www.w3.org)""", page)


def test_no_accuracy_is_drawn_beyond_100_per_cent():
    """Of two seeds an interval is wide."""
    found = {
        "measure": "accuracy, in per cent",
        "methods": {"a": {"scores": [90.0, 99.0], "mean": 94.5, "interval": [37.3, 151.7]}},
    }
    drawing = charts.scores(found)
    assert max(float(label) for label in re.findall(r">(\d+)</text>", drawing)) == 100
    left, width = (float(re.search(rf'<rect.* {name}="([\d.]+)"', drawing)[1]) for name in ("x", "width"))
    assert left + width <= charts.WIDTH


def test_the_true_accuracy_of_one_epoch_is_a_dot():
    found = {"methods": {"a": {}, "b": {}}}
    assert charts.truths({"a": [90.0], "b": [91.0]}, found).count("<circle") == 2
    assert "<circle" not in charts.truths({"a": [90.0, 91.0], "b": [91.0, 92.0]}, found)


@pytest.mark.slow
def test_killed_twice_it_ends_with_the_same_file(compared, tmp_path):
    folder, _ = compared
    again = tmp_path / "run"
    for method in ("darts", "gdas:tau_start=5"):
        process = start(*arguments(again, *METHODS))
        while not _metrics(again, word(method)):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        finish(process)
    done = darts(*arguments(again, *METHODS))
    assert done.exit_code == 0, done.stderr
    assert (again / "comparison.yaml").read_bytes() == (folder / "comparison.yaml").read_bytes()


TRAINED = [  # a comparison whose cells are judged by trainings, of one epoch
    *("compare", "cnn", "--dataset", "digits", "--layers", "3", "--channels", "4", "--max-images", "32", "--batch-size", "16"),
    *("--epochs", "1", "--seeds", "1", "--select-epochs", "1", "--select-settings", "layers=3,channels=4"),
]


def test_equal_methods_do_not_differ(tmp_path):
    """max-skips changes nothing where the cells have fewer skip connections; the scores are those of trainings of one epoch."""
    done = darts(*TRAINED, "--methods", "darts,darts+max-skips:8", "--run", tmp_path / "run")
    assert done.exit_code == 0, done.stderr
    assert "--select-epochs 1 --select-settings layers=3,channels=4" in (tmp_path / "run" / "report.md").read_text()
    (trained,) = (tmp_path / "run" / "trainings").glob("*/config.yaml")
    assert [yaml.safe_load(trained.read_text())[name] for name in ("layers", "channels")] == [3, 4]
    space = content(tmp_path / "run")["spaces"]["darts"]
    (row,) = space["differences"]
    assert (row["mean"], row["p"], row["conclusion"]) == (0, 1, "no significant difference")
    assert space["measure"] == "validation accuracy of a short training, in per cent"
    assert len(list((tmp_path / "run" / "trainings").iterdir())) == 1  # equal cells are trained once


def test_all_cells_are_trained_alike(tmp_path):
    """Also where the batch size is the default of one method and not of the other."""
    done = darts(
        *("compare", "cnn", "--dataset", "digits", "--layers", "3", "--channels", "8", "--max-images", "256", "--epochs", "1"),
        *("--nodes", "1", "--batch-size", "64", "--methods", "darts,pc-darts,random", "--seeds", "1", "--select-epochs", "1"),
        *("--select-settings", "layers=3,channels=2", "--run", tmp_path / "run"),
    )
    assert done.exit_code == 0, done.stderr
    trained = [yaml.safe_load(path.read_text()) for path in (tmp_path / "run" / "trainings").glob("*/config.yaml")]
    assert len(trained) > 1
    assert all(settings | {"genotype": None} == trained[0] | {"genotype": None} for settings in trained)


def test_the_estimate_is_of_every_method_and_of_the_short_trainings(tmp_path, capsys):
    """Measured already: 1 s a step for DARTS, 3 for GDAS, 2 for a training; epochs are of 12 steps and of 30. Three at a time
    are done with searches of 12, 12, 36 and 36 s after 48 s, and with four trainings of 1200 s after 2400 s: 40 min 48 s."""
    each = {"darts": 1, "gdas": 3}
    jobs = [
        Job(f"{method}/{seed}", Task("search", "cnn"), SearchCNN(dataset="digits", method=method, epochs=1, seed=seed))
        for method in each
        for seed in (2, 3)
    ]
    short = TrainCNN(dataset="digits", epochs=20, batch_size=24, train_portion=0.5)
    jobs += [Job(f"trainings/{n}", Task("select", "cnn"), replace(short, seed=n)) for n in range(4)]
    sweep = Sweep(Task("compare", "cnn", "seeds"), SweepConfig(jobs[0].config, name="x", options=(), settings={}), tmp_path)
    for job, seconds in ((jobs[0], 1), (jobs[2], 3), (jobs[-1], 2)):
        folder = tmp_path / "measured" / f"{job.task.stage}-{replace(job.config, seed=0).hash()}"
        folder.mkdir(parents=True)
        (folder / "measured.json").write_text(json.dumps({"seconds_per_step": seconds, "checkpoint": 2_000_000}))
    steps = [counts(job.task, job.config)["steps"] for job in (jobs[0], jobs[-1])]
    assert steps == [12, 30]
    with Pool(sweep, Placement(parallel=3), quiet=False) as pool:
        estimate(pool, jobs)
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith("about 41 min"), said
    assert "4 searches of 1 epoch, 1 to 3 s per step; 4 trainings of 20 epochs, 2 s per step; 3 at a time" in said
    assert f"and {4 * 2 * 2 + 4 * 2.5 * 2:.0f} MB on a disk" in said


def test_nothing_is_measured_for_a_comparison_that_has_ended(tmp_path):
    """Of random-search no job says which of its cells is trained at last."""
    args = (*TRAINED, "--methods", "random,random-search:2", "--nodes", "1", "--run", tmp_path / "run")
    first, again = darts(*args), darts(*args)
    assert (first.exit_code, again.exit_code) == (0, 0), again.stderr
    assert "s per step" in first.stderr
    assert "s per step" not in again.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--methods", "darts,darts"], "--methods darts,darts: must be different names"),
        (["--methods", ","], "--methods ,: must be different names"),
        (["--methods", "dart"], "dart"),
        (["--methods", "darts,random:3"], "write random, random-search, or random-search:N"),
        (["--methods", "darts,random-search:1"], "write random, random-search, or random-search:N"),
        (["--methods", "p-darts,random", "--epochs", "2"], "--methods: narrow keeps 5, then 3 operations of 5"),
        (["--space", "nas-bench"], "nas-bench"),
        (["--seeds", "0"], "--seeds 0"),
        (["--method", "gdas"], "--method"),
        (["--methods", "gdas,nonsense"], "--methods: 'nonsense'"),
        (["--methods", "darts,DARTS"], "--methods: darts and DARTS are the same"),
        (["--methods", "random"], "--methods random: a comparison needs at least two, such as darts,random"),
        (["--select-epochs", "7"], "--select-epochs: the table judges the cells"),
        (["--select-settings", "layers=3"], "--select-settings: the table judges the cells"),
        (["--config", "SETTINGS"], "method: is no setting of darts compare cnn"),
    ],
)
def test_mistakes(tmp_path, monkeypatch, options, message):
    (tmp_path / "SETTINGS").write_text("method: gdas\n")
    monkeypatch.chdir(tmp_path)
    done = darts(*arguments(tmp_path / "run"), *options)
    assert done.exit_code in (1, 2)
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_spaces_whose_folders_would_have_one_name_are_refused(tmp_path):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "s.yaml").write_text(darts("space", "show", "s2").stdout)
    spaces = f"{tmp_path / 'x' / 's.yaml'},{tmp_path / 'y' / 's.yaml'}"
    done = darts("compare", "cnn", "--dataset", "digits", "--spaces", spaces, "--run", tmp_path / "run")
    assert (done.exit_code, "have one name" in done.stderr) == (2, True)
