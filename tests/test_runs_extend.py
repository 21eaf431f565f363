"""A run that goes on for more epochs: --extend."""

import json
import shlex
import shutil

import pytest
import yaml
from conftest import assert_same_run, crash_and_resume, darts

from darts_cli.pictures.pages.skeleton import repeated_by

SEARCH = (
    "search",
    "cnn",
    "--dataset",
    "digits",
    "--layers",
    "3",
    "--channels",
    "4",
    "--nodes",
    "2",
    "--max-images",
    "64",
    "--batch-size",
    "16",
)
TRAIN = ("train", "cnn", "--dataset", "digits", "--layers", "3", "--channels", "4", "--max-images", "64", "--batch-size", "32")
TEXT = ("--dataset", "text", "--dim", "6", "--batch-size", "4", "--eval-batch", "2", "--lr", "2")


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_report_alone_is_enough_to_repeat_a_run(tmp_path, monkeypatch):
    """Also where it trained cells of another run: neither folder has to be there."""
    search, train = tmp_path / "my search", tmp_path / "my training"
    assert darts(*SEARCH, "--epochs", "1", "--run", search).exit_code == 0
    assert darts(*TRAIN, "--epochs", "1", "--genotype", search, "--run", train).exit_code == 0
    known = {folder: (records(folder), repeated_by(folder)) for folder in (search, train)}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    for folder, (recorded, command) in known.items():
        shutil.rmtree(folder)
        assert darts(*shlex.split(command)[1:]).exit_code == 0
        (again,) = elsewhere.glob(f"runs/{shlex.split(command)[1]}-*")
        assert records(again) == recorded


@pytest.mark.parametrize(
    ("command", "constant"), [(SEARCH, ("--lr-min", "0.025")), (TRAIN, ("--lr-min", "0.025", "--drop-path", "0"))]
)
def test_a_run_goes_on(command, constant, tmp_path, monkeypatch):
    """With a constant learning rate, 2 + 1 epochs are 3; the former ones stay, and config.yaml and report.md say it."""
    whole, extended = tmp_path / "whole", tmp_path / "extended"
    for folder, epochs in ((whole, "3"), (extended, "2")):
        assert darts(*command, *constant, "--epochs", epochs, "--run", folder).exit_code == 0
    refused = darts(*command, *constant, "--epochs", "3", "--run", extended)
    assert "epochs was 2, now 3" in refused.stderr
    assert "add --extend to go on from its last epoch" in refused.stderr
    done = darts(*command, *constant, "--epochs", "3", "--run", extended, "--extend")
    assert done.exit_code == 0, done.stderr
    assert records(extended) == records(whole)
    settings = yaml.safe_load((extended / "config.yaml").read_text())
    assert (settings["epochs"], settings["extended"]) == (3, [2])
    monkeypatch.chdir(tmp_path)
    printed = repeated_by(extended)
    assert printed.endswith("--run again --extend")
    for said in printed.split(" && "):
        assert darts(*shlex.split(said)[1:]).exit_code == 0
    assert records(tmp_path / "again") == records(extended)
    again = darts(*command, *constant, "--epochs", "3", "--run", extended)
    assert (again.exit_code, "complete already" in again.stderr) == (0, True)


def test_the_schedule_is_that_of_the_longer_run(tmp_path):
    folder, whole = tmp_path / "extended", tmp_path / "whole"
    for epochs, extend in (("2", ()), ("4", ("--extend",))):
        assert darts(*SEARCH, "--epochs", epochs, "--run", folder, *extend).exit_code == 0
    assert darts(*SEARCH, "--epochs", "4", "--run", whole).exit_code == 0
    assert [record["lr"] for record in records(folder)[2:]] == [record["lr"] for record in records(whole)[2:]]


@pytest.mark.slow
def test_killed_after_the_extension_it_resumes_to_the_bit(tmp_path):
    """Also where it is repeated with --extend."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        assert darts(*SEARCH, "--epochs", "2", "--run", folder).exit_code == 0
    longer = (*SEARCH, "--epochs", "5", "--checkpoint-minutes", "0")
    assert darts(*longer, "--run", whole, "--extend").exit_code == 0
    crash_and_resume((*longer, "--extend"), killed, 3)
    assert_same_run(whole, killed)


def test_text_too(text, tmp_path):
    for stage in ("search", "train"):
        folder = tmp_path / stage
        for epochs, extend in (("1", ()), ("2", ("--extend",))):
            done = darts(stage, "rnn", "--data", text, *TEXT, "--epochs", epochs, "--run", folder, *extend)
            assert done.exit_code == 0, done.stderr
        assert len(records(folder)) == 2


def test_what_cannot_be_extended(tmp_path):
    folder = tmp_path / "run"
    assert darts(*TRAIN, "--epochs", "2", "--run", folder).exit_code == 0
    before = (folder / "config.yaml").read_bytes()

    def refused(*options):
        done = darts(*options)
        assert done.exit_code > 0
        assert done.stderr.count("\n") == 1
        return done.stderr

    assert "has 2 epochs; give more with --epochs" in refused(*TRAIN, "--epochs", "1", "--run", folder, "--extend")
    assert "name the folder" in refused(*TRAIN, "--epochs", "3", "--extend")
    assert "holds no run that could go on" in refused(*TRAIN, "--epochs", "3", "--run", tmp_path / "new", "--extend")
    message = refused(*TRAIN, "--epochs", "3", "--run", folder, "--extend", "--lr", "0.1")
    assert "--lr was 0.025, now 0.1" in message
    assert f"to begin with its weights --init-from {folder}" in message
    assert "not with --repeats" in refused(*TRAIN, "--epochs", "3", "--repeats", "2", "--extend")
    assert "not with --seeds" in refused(*SEARCH, "--epochs", "3", "--seeds", "2", "--extend")
    assert "other stages" in refused("search", "cnn", "--dataset", "digits", "--method", "p-darts", "--extend")
    assert (folder / "config.yaml").read_bytes() == before
