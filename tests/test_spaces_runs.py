"""Other search spaces from end to end: searched, killed and resumed, drawn, trained; published cells; another package's
operation."""

import random
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml
from conftest import TINY, assert_same_run, crash_and_resume, darts

from darts_cli.cnn import model
from darts_cli.describe import about
from darts_cli.formats import nasbench201
from darts_cli.formats.genotypes import parse, to_dict, to_python, to_string
from darts_cli.genotype import load, random_genotype
from darts_cli.pictures.cells.figure import scene
from darts_cli.pictures.cells.svg import svg
from darts_cli.pictures.cells.text import dot
from darts_cli.pictures.cells.text import text as drawn
from darts_cli.runs.history import read
from darts_cli.spaces import operations
from darts_cli.spaces import space as spaces

DATA = Path(__file__).parent / "data"
SEARCHES = {
    "s3": ["--space", "s3"],
    "s4": ["--space", "s4", "--unrolled"],  # with noise
    "nas-bench-201": ["--space", "nas-bench-201", "--layers", "1", "--unrolled"],
    "narrow": ["--operations", "skip_connect,sep_conv_3x3,max_pool_3x3", "--nodes", "2"],
}


@pytest.fixture(scope="module")
def tiny(images):
    """A search whose space is still to be said."""
    return ["search", "cnn", *TINY, "--data", images]


@pytest.fixture(params=[*SEARCHES, "rnn"])
def command(request, tiny, text):
    """A search of two epochs that takes seconds."""
    if request.param == "rnn":
        narrowed = "--operations tanh,relu,identity --nodes 4".split()
        sizes = "--epochs 2 --batch-size 4 --bptt 5 --dim 8 --seed 0".split()
        return ["search", "rnn", *narrowed, "--dataset", "text", "--data", text, *sizes]
    return [*tiny, *SEARCHES[request.param]]


def test_a_search_is_resumed_drawn_and_trained(command, parts, text, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert darts(*command, "--run", whole).exit_code == 0
    crash_and_resume(command, killed, 4)
    assert_same_run(whole, killed)
    cells, history = load(whole), read(whole)
    assert history.space == history.config.searched
    assert {len(cell.nodes) for cell in cells.cells.values()} == {history.space.nodes}
    for what in ("cells", "alphas", "curves"):
        result = darts("visualize", whole, "--what", what, "--format", "svg", "--output", tmp_path / what)
        assert result.exit_code == 0, result.stderr
    assert darts("visualize", whole, "--html", tmp_path / "page.html").exit_code == 0
    assert "nas-bench-201" not in command or "true on cifar10" in (tmp_path / "page.html").read_text()
    domain = command[1]
    sizes = ["--batch-size", "8"] if domain == "cnn" else "--batch-size 4 --bptt 5 --dim 8".split()
    sizes += ["--layers", "2", "--channels", "2"] if domain == "cnn" else []
    data = parts if domain == "cnn" else text
    trained = darts(
        "train", domain, "--genotype", whole, "--epochs", "1", *sizes, "--data", data, "--run", tmp_path / "trained"
    )
    assert trained.exit_code == 0, trained.stderr
    first, second = (darts("eval", "--checkpoint", tmp_path / "trained").stdout for _ in range(2))
    assert first == second != ""


def test_a_space_file_stays_with_its_run(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("domain: cnn\nnodes: 1\nkeep: all\noperations: [none, skip_connect, sep_conv_3x3]\n")
    assert darts(*tiny, "--space", "mine.yaml", "--run", "first").exit_code == 0
    Path("mine.yaml").unlink()
    assert darts(*tiny, "--space", "first", "--run", "second").exit_code == 0
    assert load("first") == load("second")
    assert Path("first/metrics.jsonl").read_bytes() == Path("second/metrics.jsonl").read_bytes()
    assert [len(node) for node in load("first").cells["normal"].nodes] == [2]
    assert "--space first" in Path("first/report.md").read_text()
    assert (
        darts(*tiny, "--space", "s3", "--operations", "skip_connect,sep_conv_3x3", "--nodes", "2", "--run", "third").exit_code
        == 0
    )
    shown = yaml.safe_load(darts("space", "show", "third").stdout)
    assert (shown["nodes"], shown["operations"]) == (2, ["skip_connect", "sep_conv_3x3"])
    refused = darts(*tiny, "--space", "small", "--run", "first")
    assert refused.exit_code == 1
    assert "is a run with other settings (--space was" in refused.stderr


def test_the_truth_of_a_search_is_recorded_and_chooses_nothing(tiny, tmp_path):
    command = [*tiny, "--space", "nas-bench-201", "--layers", "1", "--alpha-lr", "0.3"]
    shown = darts(*command, "--run", tmp_path / "a")
    assert "true test accuracy of this cell on cifar10:" in shown.stderr
    assert darts(*command, "--run", tmp_path / "b", "--benchmark-data", "imagenet16-120").exit_code == 0
    assert (tmp_path / "a" / "metrics.jsonl").read_bytes() == (tmp_path / "b" / "metrics.jsonl").read_bytes()
    history = read(tmp_path / "b")
    for record, known in zip(history.records, history.truth(), strict=True):
        cell = nasbench201.cell_of(parse(yaml.safe_dump(record["genotype"]), "here"))
        assert known == nasbench201.truth(cell)["imagenet16-120"] == record["truth"]["imagenet16-120"]
    assert "the true test accuracy of this cell on imagenet16-120: " in (tmp_path / "b" / "report.md").read_text()


def test_a_selection_from_the_table(tiny, tmp_path):
    command = [*tiny, "--space", "nas-bench-201", "--layers", "1", "--seeds", "2", "--random-cells", "2", "--alpha-lr", "0.3"]
    done = darts(*command[:1], *command[1:], "--select-from-table", "--run", tmp_path / "a")
    assert done.exit_code == 0, done.stderr
    selection = yaml.safe_load((tmp_path / "a" / "selection.yaml").read_text())
    table = nasbench201.load(12)
    entries = selection["candidates"] + selection["random_cells"]
    assert len(entries) == 4
    for entry in entries:
        cell = nasbench201.cell_of(parse(yaml.safe_dump(entry["genotype"]), "here"))
        assert entry["valid_accuracy"] == [table.accuracy(cell, "cifar10", "valid") / 100]
    scores = [entry["score"] for entry in selection["candidates"]]
    assert scores == sorted(scores, reverse=True)
    assert not (tmp_path / "a" / "select").exists()
    other = darts(*command[:-4], "--random-cells", "0", "--alpha-lr", "0.3", "--select-epochs", "0", "--run", tmp_path / "a")
    assert "is a run with other settings" in other.stderr
    assert "which were not used for any choice" in (tmp_path / "a" / "report.md").read_text()
    for given, message in (
        (["--select-from-table", "--select-epochs", "3"], "leave --select-epochs out"),
        (["--select-from-table", "--space", "s3"], "the cells of --space nas-bench-201 only"),
        (["--select-from-table", "--space", "nas-bench-201", "--nodes", "2"], "the cells of --space nas-bench-201 only"),
    ):
        refused = darts(*tiny, "--seeds", "2", *given)
        assert (refused.exit_code, message in refused.stderr) == (2, True)
    assert "only together with --seeds" in darts(*tiny, "--space", "nas-bench-201", "--select-from-table").stderr


def test_info_of_a_cell_says_the_truth(tmp_path):
    (tmp_path / "best.txt").write_text(nasbench201.load().best("cifar10")[0])
    cells = darts("genotype", "convert", tmp_path / "best.txt").stdout
    (tmp_path / "best.yaml").write_text(cells)
    shown = darts("genotype", "info", tmp_path / "best.yaml").stdout
    assert "94.37 %, rank 1 of 15,625; the best cell has 94.37 %" in shown
    back = darts("genotype", "convert", tmp_path / "best.yaml", "--to", "string").stdout
    assert back.strip() == (tmp_path / "best.txt").read_text()


def test_the_recipe_of_the_benchmark(parts, tmp_path):
    (tmp_path / "g.yaml").write_text(darts("genotype", "random", "cnn", "--space", "nas-bench-201").stdout)
    command = ["train", "cnn", "--genotype", tmp_path / "g.yaml", "--dataset", "folder", "--data", parts, "--epochs", "1"]
    small = ["--layers", "1", "--channels", "2"]
    assert darts(*command, *small, "--run", tmp_path / "a").exit_code == 0
    settings = yaml.safe_load((tmp_path / "a" / "config.yaml").read_text())
    expected = {"lr": 0.1, "lr_min": 0.0, "nesterov": True, "weight_decay": 5e-4, "momentum": 0.9, "batch_size": 256}
    expected |= {"drop_path": 0.0, "cutout": 0, "grad_clip": float("inf"), "recipe": "nas-bench-201"}
    assert {key: settings[key] for key in expected} == expected
    repeat = shlex.split((tmp_path / "a" / "report.md").read_text().splitlines()[-1])
    again = darts(*repeat[1:], "--run", tmp_path / "a")  # the same run
    assert "complete already" in again.stderr
    refused = darts(*command, *small, "--drop-path", "0.2", "--run", tmp_path / "c")
    assert "are trained with --no-auxiliary and --drop-path 0, and not on imagenet" in refused.stderr


# ---- published cells


def published():
    """(name, literal, space) of the cells that come with papers on other spaces."""
    for file in ("robustdarts", "fairdarts"):
        for name, cells in yaml.safe_load((DATA / f"{file}.yaml").read_text()).items():
            fields = [f"{kind}={[tuple(edge) for edge in edges]}, {kind}_concat=range(2, 6)" for kind, edges in cells.items()]
            yield name, f"{name} = Genotype({', '.join(fields)})", f"s{name[7]}" if file == "robustdarts" else None


PUBLISHED = list(published())


def test_there_are_enough_published_cells():
    assert sum(space is not None for *_, space in PUBLISHED) >= 60


@pytest.mark.parametrize(("name", "literal", "space"), PUBLISHED, ids=[name for name, *_ in PUBLISHED])
def test_published_cells_convert_train_a_step_and_draw(name, literal, space):
    genotype = parse(literal, "here")
    assert genotype.name == name
    for written in (to_python(genotype), to_dict(genotype), genotype.to_yaml()):
        assert parse(written, "back") == genotype
    if space:
        assert parse(genotype.to_yaml() + f"space: {space}\n", "named").space == space
    network = model.Network(genotype, 2, 10, 3)
    network.drop_path = 0.1
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    loss = F.cross_entropy(network(torch.randn(4, 3, 8, 8))[0], torch.arange(4))
    loss.backward()
    optimizer.step()
    assert all(torch.isfinite(weight).all() for weight in network.parameters())
    assert len(drawn(genotype).splitlines()) >= 4
    for cell in genotype.cells.values():
        assert dot(cell, genotype.macro).count("->") == sum(map(len, cell.nodes)) + len(cell.concat)
    assert about(genotype)["cells"]["normal"]["nodes"] == len(genotype.cells["normal"].nodes)


def test_a_node_without_edges_does_not_exist():
    """FairDARTS_c has no node 3; what reads it is ignored, and the nodes after it move up."""
    literal = next(literal for name, literal, _ in PUBLISHED if name == "FairDARTS_c")
    cell = parse(literal, "here").cells["normal"]
    assert [[tuple(edge) for edge in node] for node in cell.nodes] == [
        [("max_pool_3x3", 0), ("sep_conv_5x5", 1)],
        [("dil_conv_3x3", 0), ("dil_conv_5x5", 2)],
        [("sep_conv_3x3", 0)],
    ]
    assert cell.concat == (2, 3, 4)


@pytest.mark.parametrize("name", spaces.names())
def test_random_cells_of_every_space_are_drawn(name):
    genotype = random_genotype(spaces.load(name), random.Random(0))
    for cell in genotype.cells.values():
        assert svg(scene(cell, genotype.macro)).rstrip().endswith("</svg>")
    assert parse(to_string(genotype), "here") == genotype


# ---- an operation of another package

PLUGIN = """
from torch import nn

def blur(C, stride, affine):
    conv = nn.Conv2d(C, C, 3, stride, padding=1, groups=C, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(C, affine=affine), nn.ReLU())  # which needs its result in the backward pass

def wrong_size(C, stride, affine):
    return nn.Conv2d(C, C, 3)

def broken(C, stride):
    return None
"""
PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "blur"
version = "1.0"
[project.entry-points."darts.operations"]
blur_3x3 = "blur:blur"
wrong_size = "blur:wrong_size"
broken_3x3 = "blur:broken"
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The environment of processes that have a small package with operations."""
    source, target = tmp_path_factory.mktemp("blur"), tmp_path_factory.mktemp("installed")
    (source / "blur.py").write_text(PLUGIN)
    (source / "pyproject.toml").write_text(PROJECT + '[tool.hatch.build.targets.wheel]\nonly-include = ["blur.py"]\n')
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", target, source], check=True)
    return target


def run_with(installed, *args, cwd):
    command = [sys.executable, "-m", "darts_cli", *map(str, args)]
    environment = {"PYTHONPATH": f"{installed}:{Path(__file__).parent.parent}", "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd)


def test_an_operation_of_another_package_is_searched_trained_and_drawn(installed, images, parts, tmp_path, monkeypatch):
    form = "domain: cnn\nnodes: 1\nkeep: 2\noperations: [{}]\n"
    (tmp_path / "mine.yaml").write_text(form.format("blur_3x3, skip_connect"))
    search = ["search", "cnn", *TINY, "--data", images]
    searched = run_with(
        installed, *search, "--space", "mine.yaml", "--operations", "blur_3x3", "--run", tmp_path / "a", cwd=tmp_path
    )
    assert searched.returncode == 0, searched.stderr
    assert "[blur_3x3, 0]" in searched.stdout
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(installed)  # what follows is done in this process, which is faster
    operations.of_packages.cache_clear()
    sizes = "--epochs 2 --layers 3 --channels 2 --batch-size 8 --drop-path 0.5".split()
    trained = darts("train", "cnn", "--genotype", "a", "--data", parts, "--dataset", "folder", *sizes, "--run", "b")
    assert trained.exit_code == 0, trained.stderr
    assert "blur_3x3" in darts("visualize", "a", "--format", "text").stdout
    assert "valid" in darts("space", "validate", "mine.yaml").stdout
    for name, message in (
        (
            "wrong_size",
            "operation wrong_size: blur:wrong_size must map (2, 2, 4, 4) to (2, 2, 4, 4) with stride 1, not to (2, 2, 2, 2)",
        ),
        (
            "broken_3x3",
            "operation broken_3x3: blur:broken does not make a usable module (TypeError: broken() takes 2 positional",
        ),
    ):
        (tmp_path / "bad.yaml").write_text(form.format(name))
        refused = darts(*search, "--space", "bad.yaml")
        assert refused.exit_code == 1
        assert message in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
    assert "multiply-adds" in darts("genotype", "info", "a").stdout
    monkeypatch.undo()
    operations.of_packages.cache_clear()
    missing = darts("eval", "--checkpoint", tmp_path / "b")
    assert "its cells have blur_3x3; install the package that provides this operation" in missing.stderr
    elsewhere = darts("space", "validate", tmp_path / "mine.yaml")
    assert "operations: unknown operation 'blur_3x3'" in elsewhere.stderr
