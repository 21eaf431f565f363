"""The page of our own results says what its files say, and these follow from the cells in them."""

import numpy as np
import pytest
import yaml

from benchmarks import results, usual
from darts_cli.config import TrainCNN, TrainRNN
from darts_cli.formats import nasbench201
from darts_cli.genotype import Genotype, load
from darts_cli.runs.identity import Identity
from darts_cli.runs.shown.known import known
from darts_cli.runs.task import Task
from darts_cli.sweeps.reports.comparison import comparisons
from darts_cli.sweeps.significance import holm, permutation_test, summary

TEXT = results.PAGE.read_text(encoding="utf-8")
NAMES = sorted(path.stem for path in results.RESULTS.glob("*.yaml"))


def test_every_result_is_on_the_page():
    assert sorted(results.BLOCK.findall(TEXT)) == NAMES != []


def test_the_page_is_made_from_the_files():
    assert results.page(TEXT) == TEXT


@pytest.mark.parametrize("name", NAMES)
def test_the_figures_are_made_from_the_files(name):
    for file, drawn in results.figures(name).items():
        assert (results.RESULTS / file).read_text(encoding="utf-8") == drawn


@pytest.mark.parametrize("name", NAMES)
def test_the_numbers_follow_from_the_cells(name):
    """Means, intervals and p-values from the scores; in NAS-Bench-201 the scores from its table."""
    kept = results.load(name)
    for found in kept["comparison"]["spaces"].values():
        for result in found["methods"].values():
            scores = [cell["score"] for cell in result["cells"]]
            assert result["scores"] == scores
            assert {key: result[key] for key in summary(scores)} == summary(scores)
            if "best" in found:
                table, dataset = nasbench201.load(200), kept["settings"]["benchmark_data"]
                cells = [Genotype.from_dict(cell["genotype"]) for cell in result["cells"]]
                assert scores == [table.accuracy(nasbench201.cell_of(cell), dataset, "test") for cell in cells]
        pairs = comparisons(list(found["methods"]))
        scores = {method: result["scores"] for method, result in found["methods"].items()}
        p = [permutation_test([a - b for a, b in zip(scores[x], scores[y], strict=True)]) for x, y in pairs]
        assert [(row["method"], row["to"], row["p"]) for row in found["differences"]] == [
            (*pair, value) for pair, value in zip(pairs, p, strict=True)
        ]
        assert [row["p_holm"] for row in found["differences"]] == pytest.approx(holm(p))


def test_every_search_has_its_cost():
    for name in NAMES:
        kept = results.load(name)
        for found in kept["comparison"]["spaces"].values():
            searched = [result for result in found["methods"].values() if "steps" in result]
            assert len(kept["seconds"]) >= len(searched) * len(kept["comparison"]["seeds"])
        assert all(seconds > 0 for seconds in kept["seconds"].values())


def test_no_file_names_a_machine():
    for path in results.RESULTS.glob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        assert "/" not in yaml.safe_load(text)["command"]
        assert str(results.PAGE.parents[1]) not in text


# ---- where trainings usually end

MEASURED = [(cells, row) for cells, rows in usual.entries().items() for row in rows]


@pytest.mark.parametrize(("cells", "row"), MEASURED, ids=[row["name"] for _, row in MEASURED])
def test_the_report_says_where_a_training_lies(cells, row, tmp_path):
    """Whatever its seed and folder of data; nothing where a setting differs, or where it was extended."""
    kind = {"cnn": TrainCNN, "rnn": TrainRNN}[cells.partition("/")[0]]
    task, genotype = Task("train", cells.partition("/")[0]), load(cells)
    identity = Identity.of(task, kind(**row["settings"], seed=77, data="elsewhere"), "run", genotype)
    low, high = row["usual"]
    among = f"between {low:.2f} and {high:.2f}{row['unit']}"
    assert known(identity, (low + high) / 2).endswith(f"{among}; this one does.")
    assert f"{among}; this one, with {high + 1:.2f}{row['unit']}, does not." in known(identity, high + 1)
    assert known(identity, None).endswith(f"{among}.")
    other = Identity.of(task, kind(**row["settings"], grad_clip=4.0), "run", genotype)
    assert known(other, low) == ""
    (tmp_path / "config.yaml").write_text("extended: [2]")
    assert known(Identity.of(task, identity.config, tmp_path, genotype), low) == ""


@pytest.mark.parametrize(("cells", "row"), MEASURED, ids=[row["name"] for _, row in MEASURED])
def test_the_interval_follows_from_the_results(cells, row):
    """The quantiles of Student's t distribution are from a table."""
    mean, deviation, n = np.mean(row["results"]), np.std(row["results"], ddof=1), len(row["results"])
    assert n == 5
    half = 2.7764 * deviation * np.sqrt(1 + 1 / n)
    assert row["usual"] == pytest.approx([max(0, mean - half), mean + half], abs=2e-3)
    last = [curve[-1] for curve in list(row["curves"].values())[-1]]
    if cells.startswith("cnn/"):
        assert row["results"] == pytest.approx([100 * (1 - accuracy) for accuracy in last], abs=2e-3)


def test_the_curves_are_drawn_from_the_file():
    for file, drawn in usual.figures().items():
        assert (usual.FIGURES / file).read_text(encoding="utf-8") == drawn
    assert usual.page(TEXT) == TEXT
