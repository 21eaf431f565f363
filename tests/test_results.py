"""The page of our own results says what its files say, and these follow from the cells in them."""

import pytest
import yaml

from benchmarks import results
from darts_cli.formats import nasbench201
from darts_cli.genotype import Genotype
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
