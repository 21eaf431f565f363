"""What a run shows of itself: the pictures of its report."""

import re
from xml.etree import ElementTree

import pytest
from conftest import darts
from made_runs import record_search, record_training

from darts_cli.genotype import Genotype

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("domain", ["cnn", "rnn"])
@pytest.mark.parametrize("record", [record_search, record_training])
def test_a_report_shows_curves_and_cells(record, domain, tmp_path):
    """Every picture that the report names is there, and the second writing changes no byte."""
    run = record(domain, tmp_path / "run")
    cells = run.genotype or Genotype.from_dict(run.reports.metrics[-1]["genotype"])
    names = re.findall(r"!\[[^\]]+\]\((.+?)\)", run.illustrate(cells))
    assert names == ["curves.svg", *(f"{kind}.svg" for kind in cells.cells)]
    first = [(run.folder / name).read_bytes() for name in names]
    drawn = [ElementTree.fromstring(content) for content in first]
    for kind, root in zip(cells.cells, drawn[1:], strict=True):
        labels = [group.find(f"{SVG}text").text for group in root.iter(f"{SVG}g") if group.get("class") == "edge"]
        assert sorted(labels) == sorted(edge.op for node in cells.cells[kind].nodes for edge in node)
    run.illustrate(cells)
    assert [(run.folder / name).read_bytes() for name in names] == first


def test_the_report_of_a_real_run(tiny, tmp_path):
    assert darts(*tiny, "--run", tmp_path / "run").exit_code == 0
    report = (tmp_path / "run" / "report.md").read_text()
    for name in ("curves.svg", "normal.svg", "reduce.svg"):
        assert f"]({name})" in report
        assert (tmp_path / "run" / name).exists()
