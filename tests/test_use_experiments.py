"""Searches and trainings from Python, and the table of runs."""

import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
import yaml
from conftest import darts

import darts_cli
import darts_cli.genotype
from darts_cli import DartsError, Stopped
from darts_cli.genotype import Genotype
from darts_cli.use import experiments

TINY = {"dataset": "digits", "epochs": 1, "layers": 3, "channels": 4, "max_images": 64, "batch_size": 16}
OPTIONS = [word for name, value in TINY.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def test_a_search_is_that_of_the_command(tmp_path, monkeypatch):
    """The same cells and records; in a folder it is complete already; without one nothing stays."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    assert darts("search", "cnn", *OPTIONS, "--run", tmp_path / "run").exit_code == 0
    found = darts_cli.search("cnn", **TINY)
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert (found.records, found.genotype.to_dict(), found.folder) == (records, records[-1]["genotype"], None)
    assert not list((tmp_path / "temporary").rglob("*.pt"))  # torch keeps a folder of its own there
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["network"]
    assert all(torch.equal(value, state[name]) for name, value in found.network.state_dict().items())
    assert not found.network.training
    again = darts_cli.search(run=tmp_path / "run", **TINY)
    assert (again.records, again.folder) == (records, tmp_path / "run")


def test_a_search_of_text():
    found = darts_cli.search("rnn", dataset="pydoc", epochs=1, dim=4, batch_size=256, bptt=35)
    assert found.genotype.domain == "rnn"
    assert found.network.alphas["recurrent"].shape == (36, 5)
    shown = found._repr_html_()  # in a notebook: its curves, and the cell
    assert shown.startswith('<div><img alt="loss (nats per token) over 1 epoch: training from')
    assert shown.endswith("</svg></div>")


def test_a_training_returns_the_network(tmp_path):
    """With its result, ready to use; the same with a run folder, where darts eval finds the same accuracy."""
    settings = TINY | {"max_images": 64, "batch_size": 32}
    network = darts_cli.train("cnn/darts_v2", **settings)
    kept = darts_cli.train("cnn/darts_v2", run=tmp_path / "run", **settings)
    assert network.result == kept.result
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), kept.parameters(), strict=True))
    evaluated = json.loads(darts("eval", "--checkpoint", tmp_path / "run", "--json").stdout)
    assert network.result["test_accuracy"] == pytest.approx(evaluated["top1"])
    assert isinstance(network.genotype, Genotype)
    assert len(network.classes) == 10


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: darts_cli.search("mlp"), "domain 'mlp': must be cnn or rnn"),
        (lambda: darts_cli.search("cnn", epoch=2), "unknown key 'epoch' (did you mean epochs?)"),
        (lambda: darts_cli.search("cnn", train_portion=2), "train_portion: must be less than 1, not 2"),
        (lambda: darts_cli.search("cnn", lr_min=1.0), "lr_min 1.0: must be at most the initial learning rate, lr 0.025"),
        (lambda: darts_cli.train("cnn/darts_v2", dataset="digits", auxiliary=True), "not 8x8; use auxiliary=False"),
        (lambda: darts_cli.train("darts_v2"), "both domains have a genotype of this name"),
        (lambda: darts_cli.train("cnn/nothing"), "nothing"),
        (lambda: darts_cli.train("cnn/darts_v2", dataset="folder", data="/nowhere"), "/nowhere: is not a folder"),
    ],
)
def test_errors_name_arguments(call, message):
    with pytest.raises(DartsError) as error:
        call()
    assert message in str(error.value)
    assert "--" not in str(error.value)


def test_an_interruption_keeps_the_command_that_goes_on():
    command = "darts search cnn --run a"
    with pytest.raises(Stopped, match=command) as error, experiments._named():
        raise Stopped("stopped by SIGINT; the state is saved", command, 130)
    assert (error.value.command, error.value.exit_code) == (command, 130)


# ---- the table


def test_the_table_of_runs(tmp_path):
    """A search, an unfinished training, a sweep, a damaged folder, and something else."""
    assert darts("search", "cnn", *OPTIONS, "--run", tmp_path / "a" / "search").exit_code == 0
    darts_cli.train("cnn/darts_v2", run=tmp_path / "trained", **TINY | {"batch_size": 32})
    sweep = ("--seeds", "2", "--select-epochs", "0")
    assert darts("search", "cnn", *OPTIONS, *sweep, "--run", tmp_path / "sweep").exit_code == 0
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "config.yaml").write_text("epochs: 3\n")
    (tmp_path / "other").mkdir()
    found = {Path(run["folder"]).name: run for run in json.loads(darts("runs", tmp_path, "--json").stdout)}
    assert set(found) == {"search", "trained", "sweep", "damaged"}
    records = [json.loads(line) for line in (tmp_path / "a" / "search" / "metrics.jsonl").read_text().splitlines()]
    assert (found["search"]["command"], found["search"]["done"], found["search"]["of"]) == ("search cnn", 1, 1)
    assert (found["search"]["measure"], found["search"]["value"]) == ("valid accuracy", records[-1]["valid_accuracy"])
    assert found["trained"]["measure"] == "test accuracy"
    assert (found["sweep"]["command"], found["sweep"]["done"], found["sweep"]["of"]) == ("search cnn --seeds", 2, 2)
    assert "is not that of a run" in found["damaged"]["problem"]
    lines = darts("runs", tmp_path).stdout.splitlines()
    assert lines[0].split() == ["run", "command", "data", "done", "result", "time", "changed"]
    assert len(lines) == 5
    assert sum("damaged" in line and "cannot be read: config.yaml is not that of a run" in line for line in lines) == 1
    assert len(json.loads(darts("runs", tmp_path / "sweep", "--json").stdout)) == 2
    assert darts("runs", tmp_path / "other").stdout == f"no runs below {tmp_path / 'other'}\n"
    assert (
        darts("runs", tmp_path / "none").stderr
        == f"error: {tmp_path / 'none'}: there is no such folder; name a folder with runs in it\n"
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("selection.yaml", {"protocol": {"measure": "valid_accuracy"}, "winner": "seed-2", "candidates": [{"score": "high"}]}),
        ("selection.yaml", {"protocol": {"measure": "beauty"}, "winner": "seed-2", "candidates": [{"score": 0.5}]}),
        ("result.yaml", {"test_accuracy": {"mean": None}}),
        ("result.yaml", [3]),
        ("comparison.yaml", {"spaces": {"s1": {"higher_is_better": False, "methods": {"darts": {"mean": math.inf}}}}}),
    ],
)
def test_a_damaged_result_of_a_sweep_is_said(tmp_path, name, content):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "config.yaml").write_text("command: search cnn --seeds\n")
    (tmp_path / "sweep" / name).write_text(yaml.safe_dump(content))
    listed = darts("runs", tmp_path)
    assert (listed.exit_code, f"cannot be read: {name} is damaged" in listed.stdout) == (0, True), listed.stderr


def test_a_genotype_in_a_notebook():
    """Drawn, both cells in one picture; a short text."""
    cells = darts_cli.genotype.load("cnn/darts_v2")
    assert repr(cells) == f"<Genotype DARTS_V2, cnn, normal: 4 nodes, reduce: 4 nodes, hash {cells.hash()}>"
    picture = ElementTree.fromstring(cells._repr_svg_())
    drawn = picture.findall("{http://www.w3.org/2000/svg}svg")
    heights = [float(svg.get("height")) for svg in drawn]
    assert float(picture.get("height")) == pytest.approx(sum(heights), abs=1)
    assert [svg.get("y") for svg in drawn] == ["0", f"{heights[0]:g}"]


# ---- names that may be left out


def test_a_training_and_an_evaluation_take_a_run_without_an_option(tmp_path):
    """darts train RUN finds the domain and the data; darts eval RUN is darts eval --checkpoint RUN."""
    assert darts("search", "cnn", *OPTIONS, "--run", tmp_path / "search").exit_code == 0
    settings = ("--epochs", "1", "--layers", "3", "--channels", "4", "--max-images", "64")
    done = darts("train", tmp_path / "search", *settings, "--run", tmp_path / "trained")
    assert done.exit_code == 0, done.stderr
    assert f"next: darts eval {tmp_path / 'trained'}" in done.stderr
    assert darts("eval", tmp_path / "trained").stdout == darts("eval", "--checkpoint", tmp_path / "trained").stdout
    message = "error: name one run folder or checkpoint to evaluate: darts eval RUN\n"
    assert darts("eval").stderr == message
    assert darts("eval", tmp_path / "trained", "--checkpoint", tmp_path / "trained").stderr == message
    assert darts("train", "cnn/darts_v2", "--help").stdout.startswith("Usage: darts train cnn")
    assert "darts_v2: both domains have a genotype of this name" in darts("train", "darts_v2").stderr
    assert "No such command 'nothing'" in darts("train", "nothing").stderr


SCRIPT = """
import multiprocessing
import darts_cli
if multiprocessing.current_process().name == "MainProcess":
    worker = multiprocessing.get_context("spawn").Process(target=print)
    worker.start()
    worker.join()
else:
    darts_cli.train("cnn/darts_v2", run="run", dataset="digits", epochs=1)
"""


def test_a_script_that_its_own_workers_run_again_says_what_to_do(tmp_path):
    """With spawn, as on Windows and macOS, a worker imports the script that started it."""
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("darts_cli.DartsError: a process that reads images runs the script that started it once more; put")
    assert 'below `if __name__ == "__main__":`, or pass workers=0' in last
    assert not (tmp_path / "run").exists()
