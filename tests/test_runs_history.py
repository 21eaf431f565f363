"""What a run folder tells without torch, and what is said of one that is damaged."""

import json
import math
import shlex

import pytest
import yaml
from conftest import darts
from made_runs import EPOCHS, record_search, record_training

from darts_cli import DartsError
from darts_cli.config import SearchCNN
from darts_cli.genotype import Genotype
from darts_cli.runs.history import complete, is_run, read
from darts_cli.runs.run import Run
from darts_cli.runs.task import Task


def test_a_history_is_what_the_run_wrote(tmp_path):
    run = record_search("cnn", tmp_path / "run")
    history = read(tmp_path / "run")
    assert (history.command, history.stage, history.domain, history.name) == ("search cnn", "search", "cnn", "run")
    assert history.config == run.config
    assert history.records == run.reports.metrics
    assert history.genotypes() == [Genotype.from_dict(record["genotype"]) for record in run.reports.metrics]
    assert is_run(tmp_path / "run")
    assert not is_run(tmp_path)
    assert len(read(record_training("rnn", tmp_path / "other").folder).records) == EPOCHS


def test_the_highest_perplexity_is_read_and_drawn(tmp_path):
    """exp(700), which stands for all above; of an epoch that has all but diverged."""
    run = record_training("rnn", tmp_path / "run")
    last = {"epoch": EPOCHS + 1, "train_perplexity": 100.0, "valid_loss": 800.0, "valid_perplexity": math.exp(700)}
    run.reports.record(last)
    assert read(run.folder).records[-1] == last
    drawn = darts("visualize", run.folder, "--what", "curves", "--format", "svg", "--output", tmp_path)
    assert (drawn.exit_code, drawn.stderr) == (0, "")


def test_the_command_that_repeats_a_run_is_the_one_in_its_report(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = SearchCNN(dataset="digits", epochs=3, unrolled=True, alpha_betas=(0.5, 0.9), data="my data")
    for folder in (None, "named run"):
        run = Run(Task("search", "cnn"), config, folder)
        run.start({}, {"fingerprint": "none"})
        run.reports.record(record_search("cnn", tmp_path / f"other {folder}", epochs=1).reports.metrics[0])
        history = read(run.folder)
        said = shlex.split(history.repeat())
        assert said[:3] == ["darts", "search", "cnn"]
        place = said.index("--data") + 1
        assert said[place] == str(tmp_path / "my data")  # absolute in the folder, so that it holds anywhere
        said[place] = "my data"
        assert said == shlex.split(run.repeat())


BROKEN = [
    (lambda record: record | {"epoch": 7}, "is not the record of epoch 2"),
    (lambda record: [record], "is not the record of epoch 2"),
    (lambda record: record | {"train_loss": "low"}, "train_loss must be a number"),
    (lambda record: record | {"train_loss": float("nan")}, "is not the record of an epoch"),
    (lambda record: record | {"train_loss": 1e308}, "train_loss must be a number, and less than"),
    (lambda record: record | {"train_loss": 10**400}, "train_loss must be a number, and less than"),
    (lambda record: record | {"valid_accuracy": True}, "valid_accuracy must be a number"),
    (lambda record: {k: v for k, v in record.items() if k != "valid_loss"}, "valid_loss must be a number"),
    (lambda record: {k: v for k, v in record.items() if k != "genotype"}, "genotype: a genotype is a mapping"),
    (lambda record: record | {"genotype": {"domain": "cnn"}}, "genotype: normal: this cell is missing"),
    (lambda record: record | {"alphas": {"normal": []}}, "alphas of normal: must be 14 rows of 8 numbers"),
    (lambda record: record | {"alphas": 3}, "alphas of normal: must be 14 rows of 8 numbers"),
    (lambda record: record | {"alphas": {k: [[1e9] * 8] * 14 for k in ("normal", "reduce")}}, "alphas of normal: must be"),
    (lambda record: record | {"genotype": shorter(record["genotype"])}, "genotype: normal: a search finds 4 nodes, not 1"),
]


def shorter(genotype):
    return genotype | {"normal": {"nodes": genotype["normal"]["nodes"][:1], "concat": [2]}}


@pytest.mark.parametrize(("change", "said"), BROKEN, ids=[said for _, said in BROKEN])
def test_a_damaged_record_names_file_and_line(change, said, tmp_path):
    record_search("cnn", tmp_path / "run")
    path = tmp_path / "run" / "metrics.jsonl"
    lines = path.read_text().splitlines()
    lines[1] = json.dumps(change(json.loads(lines[1])))
    path.write_text("\n".join(lines))
    with pytest.raises(DartsError, match=f"metrics.jsonl: line 2: .*{said}|metrics.jsonl: line 2: {said}"):
        read(tmp_path / "run")
    result = darts("visualize", tmp_path / "run", "--format", "text")
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)


def test_a_number_that_overflows(tmp_path):
    run = record_search("rnn", tmp_path / "run")
    path = run.folder / "metrics.jsonl"
    text = path.read_text()
    path.write_text(text.replace(f'"train_loss": {run.reports.metrics[0]["train_loss"]}', '"train_loss": 1e999', 1))
    with pytest.raises(DartsError, match="line 1: train_loss must be a number"):
        read(run.folder)
    path.write_text(
        text.replace(f'"train_perplexity": {run.reports.metrics[0]["train_perplexity"]}', '"train_perplexity": 0', 1)
    )
    with pytest.raises(DartsError, match="line 1: train_perplexity must be a number"):
        read(run.folder)


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 100_000, b'{"epoch": 1e999}', b"\n"])
def test_metrics_that_are_none(content, tmp_path):
    record_search("cnn", tmp_path / "run")
    (tmp_path / "run" / "metrics.jsonl").write_bytes(content)
    with pytest.raises(DartsError, match=r"metrics\.jsonl: "):
        read(tmp_path / "run")


@pytest.mark.parametrize(
    "change",
    [
        {"command": "eval"},
        {"command": ["a"]},
        {"epochs": "x"},
        {"epochs": -1},
        {"epochs": [3]},
        {"dataset": ["digits"]},
        {"dataset": "none"},
    ],
)
def test_a_configuration_that_is_none(change, tmp_path):
    record_search("cnn", tmp_path / "run")
    path = tmp_path / "run" / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | change))
    with pytest.raises(DartsError, match=r"config\.yaml: is not the configuration of a run"):
        read(tmp_path / "run")


def test_a_run_without_an_epoch(tmp_path):
    Run(Task("search", "cnn"), SearchCNN(dataset="digits"), tmp_path / "run").start({}, {"fingerprint": "none"})
    with pytest.raises(DartsError, match="run: this run has no finished epoch yet; darts search cnn writes its metrics after"):
        read(tmp_path / "run")
    (tmp_path / "run" / "metrics.jsonl").write_text("")
    with pytest.raises(DartsError, match="is empty"):
        read(tmp_path / "run")


def test_a_training_whose_settings_lost_its_cells_is_not_complete(tmp_path):
    folder = record_training("cnn", tmp_path / "run").folder
    (folder / "report.md").write_text("# Training")
    assert complete(folder)
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump({k: v for k, v in settings.items() if k != "genotype"}))
    assert not complete(folder)
