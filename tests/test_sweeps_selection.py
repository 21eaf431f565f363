"""Many seeds: real tiny searches and trainings, stopped, killed and gone on with."""

import json
import math
import random
import re
import shutil
import signal
import time

import pytest
import torch
import yaml
from conftest import assert_same_run, darts, finish, start
from made_runs import record_training

from darts_cli import DartsError
from darts_cli.config import SearchCNN, SearchRNN, TrainCNN, TrainRNN
from darts_cli.genotype import load, random_genotype
from darts_cli.runs.task import Task
from darts_cli.spaces.choose import choose
from darts_cli.sweeps import worker
from darts_cli.sweeps.pool import Job
from darts_cli.sweeps.probe import measurement
from darts_cli.sweeps.repeats import _summary
from darts_cli.sweeps.reports.repeats import shown
from darts_cli.sweeps.seeds import seed_list, seed_options
from darts_cli.sweeps.sweep import short_options, short_settings, training

TINY = ["search", "cnn", "--dataset", "digits", "--nodes", 2, "--epochs", 1, "--layers", 3, "--channels", 2]
TINY += ["--batch-size", 240]
MANY = [*TINY, "--seeds", "4,1", "--select-epochs", 2, "--select-settings", "channels=4,layers=3", "--random-cells", 1]
MANY += ["--parallel", 2]


# ---- by hand


def test_repeats_are_shown_as_the_paper_has_them():
    runs = [{"seed": i, "test_accuracy": 1 - error} for i, error in enumerate((0.0267, 0.0276, 0.0285))]
    result = {"domain": "cnn", **_summary(runs), "runs": [*runs, {"seed": 3, "failed": "diverged"}]}
    assert shown(result) == {"test_error": "2.76 ± 0.09 %", "test_accuracy": "97.24 ± 0.09 %", "runs": "3 of 4"}
    runs = [{"seed": 0, "test_perplexity": 55.0}, {"seed": 1, "test_perplexity": 57.0}]
    assert shown({**_summary(runs), "runs": runs})["test_perplexity"] == "56.00 ± 1.41"
    assert shown({**_summary(runs[:1]), "runs": runs})["test_perplexity"] == "55.00"


def test_seeds_are_a_count_or_a_list():
    assert seed_list("3", 2) == (2, 3, 4)
    assert seed_list("0,3,7", 2) == (0, 3, 7)
    assert seed_list("7, 3", 2) == (7, 3)
    for seeds in ((2, 3, 4), (0, 3, 7), (5,), (4, 1)):
        assert seed_list(seed_options(seeds).split()[1], seeds[0]) == seeds


def test_the_short_training_is_the_recipe_on_the_searchs_halves():
    search = SearchCNN(train_portion=0.4, split_seed=3, data="images", precision="bf16", channels=8, detect_anomaly=True)
    expected = TrainCNN(epochs=100, train_portion=0.4, split_seed=3, data="images", precision="bf16", detect_anomaly=True)
    assert training(search, TrainCNN, epochs=100) == expected
    assert training(SearchCNN(batch_size=32), TrainCNN).batch_size == 32
    expected = TrainCNN(batch_size=48, channels=8, train_portion=0.5)
    assert training(SearchCNN(batch_size=32), TrainCNN, {"batch_size": 48, "channels": 8}) == expected
    assert training(SearchCNN(dataset="folder", data="images", split="random"), TrainCNN).split == "random"
    fitted = SearchCNN(dataset="folder", data="images", image_size="32", resize="crop", flip=False, pad=2)
    short = training(fitted, TrainCNN)
    assert (short.image_size, short.resize, short.flip, short.pad) == ("32x32", "crop", False, 2)
    given = short_settings({"channels": "8", "schedule": "cosine", "lr": "1e-3", "auxiliary": "false"}, TrainCNN)
    assert given == {"channels": 8, "schedule": "cosine", "lr": 1e-3, "auxiliary": False}
    (words,) = short_options(given)
    assert words == "--select-settings channels=8,schedule=cosine,lr=0.001,auxiliary=false"
    with pytest.raises(DartsError, match="--select-settings: --lr-min 0.1"):
        training(search, TrainCNN, short_settings({"lr": "0.001", "lr_min": "0.1"}, TrainCNN))
    assert training(SearchRNN(dataset="wt2", data="wt"), TrainRNN, epochs=300) == TrainRNN(dataset="wt2", data="wt", epochs=300)


def test_a_measurement_that_is_stopped_is_not_kept(tmp_path, monkeypatch):
    """Ctrl-C during the estimate stops the sweep."""
    config = SearchCNN(dataset="digits")
    job = {
        "task": ["search", "cnn", None],
        "settings": config.to_dict(),
        "genotype": None,
        "folder": str(tmp_path / "measured"),
    }

    def execute(run, quiet):
        run.state.signal = signal.SIGTERM  # as a signal sets it
        run.start({}, {"fingerprint": "0"})
        run.state.checkpoint(lambda: {"epoch": 0, "step": 1, "sums": torch.zeros(1)})

    monkeypatch.setattr(worker, "execute", execute)
    with pytest.raises(DartsError, match="stopped by SIGTERM"):
        worker._work(job | {"measure": measurement(0, 0, seconds=1, most=3), "quiet": True, "sweep": None})
    assert list(tmp_path.iterdir()) == []


# ---- for real


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Two seeds and a random cell, never interrupted: the result, and the folder."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    result = darts(*MANY, "--run", folder)
    assert result.exit_code == 0, result.stderr
    return result, folder


def listed(sweep):
    """What darts runs says of its result."""
    (run,) = json.loads(darts("runs", sweep.parent, "--json").stdout)
    return {name: run[name] for name in ("measure", "value")}


@pytest.mark.slow
def test_a_selection_tells_everything(whole):
    result, folder = whole
    selection = yaml.safe_load((folder / "selection.yaml").read_text())
    assert [each["rank"] for each in selection["candidates"]] == [1, 2]
    assert {each["seed"] for each in selection["candidates"]} == {4, 1}
    first, second = selection["candidates"]
    assert first["score"] == first["valid_accuracy"][-1]  # of two epochs the last half
    assert selection["protocol"]["rule"] == "mean of the last epoch; the highest wins"
    assert selection["remarks"][-1].startswith("In fewer than 10 epochs the spread shows what was still being learnt")
    assert all(f"**{each}**" in (folder / "report.md").read_text() for each in selection["remarks"])
    assert first["score"] >= second["score"]
    assert selection["winner"] == first["name"]
    assert listed(folder) == {"measure": f"{first['name']}, valid accuracy", "value": first["score"]}
    assert selection["random_cells"][0]["name"] == "random-0"
    drawn = load(folder / "select" / "random-0")
    assert drawn == random_genotype(choose("cnn", None, None, 2)[1], random.Random(0))
    assert selection["first_two"]["difference"] == pytest.approx(first["score"] - second["score"])
    assert load(folder) == load(folder / first["name"])
    assert result.stdout == (folder / "genotype.yaml").read_text()
    command = (folder / "report.md").read_text().splitlines()[-1]
    assert "--select-settings channels=4,layers=3" in command
    assert (folder / "select" / "random-0" / "report.md").read_text().splitlines()[-1] == command
    other = [word if word != "channels=4,layers=3" else "channels=2" for word in MANY]
    assert "--select-settings was channels=4,layers=3, now channels=2" in darts(*other, "--run", folder).stderr
    assert "about " in result.stderr
    assert "MB on a disk" in result.stderr
    assert f"next: darts train cnn --genotype {folder}\n" in result.stderr
    report = (folder / "report.md").read_text()
    assert re.findall(r"!\[.+?\]\((.+?)\)", report) == ["trainings.svg", "curves.svg", "normal.svg", "reduce.svg"]
    assert f">{first['name']} {first['score']:.1%}<" in (folder / "trainings.svg").read_text()
    assert (folder / "curves.svg").read_bytes() == (folder / first["name"] / "curves.svg").read_bytes()
    assert (folder / "normal.svg").read_bytes() == (folder / first["name"] / "normal.svg").read_bytes()
    for path in folder.rglob("metrics.jsonl"):
        assert "test_" not in path.read_text()
    assert not list(folder.rglob(".*.tmp"))


@pytest.mark.slow
def test_what_is_finished_is_not_repeated(whole):
    result, folder = whole
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.parent != folder}
    begun = time.monotonic()
    again = darts(*MANY, "--run", folder)
    assert time.monotonic() - begun < 2  # no process was started
    assert (again.exit_code, again.stdout) == (0, result.stdout)
    repeated = darts("search", "cnn", "--config", folder / "config.yaml", "--run", folder)
    assert (repeated.exit_code, repeated.stdout) == (0, result.stdout), repeated.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.slow
def test_the_folder_of_many_is_cells_and_its_parts_are_runs(whole, tmp_path):
    folder = whole[1]
    trained = darts("train", "cnn", "--genotype", folder, "--epochs", 1, "--channels", 2, "--layers", 1, "--run", tmp_path)
    assert (trained.exit_code, yaml.safe_load((tmp_path / "config.yaml").read_text())["dataset"]) == (0, "digits")
    drawn = darts("visualize", folder, "--format", "text")
    assert (drawn.exit_code, drawn.stderr) == (0, ""), drawn.stderr
    assert drawn.stdout == darts("visualize", folder / "genotype.yaml", "--format", "text").stdout
    assert f"name one of its runs, such as {folder / 'select' / 'seed-1'}" in darts("eval", "--checkpoint", folder).stderr
    assert re.search(r"^images +359$", darts("eval", folder / "select" / "seed-1").stdout, re.MULTILINE)


@pytest.mark.slow
def test_what_the_files_of_a_finished_part_lack_is_written_again(whole, tmp_path):
    """From its checkpoint: a curve that was cut short would change the ranking without a word."""
    run = tmp_path / "run"
    shutil.copytree(whole[1], run)
    curve, cells = run / "select" / "seed-4" / "metrics.jsonl", run / "seed-1" / "genotype.yaml"
    curve.write_text(curve.read_text().splitlines(keepends=True)[0])
    cells.unlink()
    result = darts(*MANY, "--run", run)
    assert (result.exit_code, result.stdout) == (0, whole[0].stdout), result.stderr
    assert curve.read_bytes() == (whole[1] / "select" / "seed-4" / "metrics.jsonl").read_bytes()
    assert cells.read_bytes() == (whole[1] / "seed-1" / "genotype.yaml").read_bytes()
    assert (run / "selection.yaml").read_bytes() == (whole[1] / "selection.yaml").read_bytes()


@pytest.mark.parametrize("text", ["", '{"epoch": 1', '{"epoch": 1}\n', '{"epoch": 1}\n{"epoch": 2, "test_loss": "x"}\n', None])
def test_a_part_without_all_of_its_record_is_not_done(tmp_path, text):
    run = record_training("cnn", tmp_path / "seed-0", epochs=2)
    job = Job("seed-0", Task("train", "cnn"), run.config, run.genotype)
    assert not job.done(tmp_path)
    run.reports.write("the end")
    assert job.done(tmp_path)
    path = tmp_path / "seed-0" / "metrics.jsonl"
    path.unlink() if text is None else path.write_text(text)
    assert not job.done(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("text", ["[]", '{"seconds_a_step": NaN, "steps": 1, "bytes": 1}'])
def test_a_damaged_measurement_gives_one_line(whole, tmp_path, text):
    run = tmp_path / "run"
    shutil.copytree(whole[1], run)
    (path,) = (run / "measured").glob("search-*/measured.json")
    path.write_text(text)
    shutil.rmtree(run / "seed-4")  # it is read while something is left to do
    result = darts(*MANY, "--run", run)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {path}: "), result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.slow
def test_another_command_on_the_folder_is_told_what_differs(whole):
    _, folder = whole
    other = darts(*MANY, "--random-cells", 0, "--seeds", "4", "--run", folder)
    assert other.exit_code == 1
    assert "--seeds was [4, 1], now [2, 3, 4, 5]; --random-cells was 1, now 0" in " ".join(other.stderr.split())
    assert len(other.stderr.splitlines()) == 1
    assert "is the run folder of darts search cnn --seeds" in darts(*TINY, "--run", folder).stderr


@pytest.mark.slow
def test_killed_twice_it_ends_the_same(whole, tmp_path):
    """Once in a search, with SIGKILL; once in a training, with SIGTERM, of another process a moment later."""
    _, folder = whole
    run = tmp_path / "run"
    for part in ("measured", "select/random-0"):  # which take time, and are not what is killed
        shutil.copytree(folder / part, run / part)
    shutil.copy(folder / "config.yaml", run)
    process = start(*MANY, "--checkpoint-minutes", 0, "--run", run)
    wait_for(process, run / "seed-4" / "checkpoint.pt")
    process.kill()
    finish(process)
    process = start(*MANY, "--checkpoint-minutes", 0, "--run", run)
    wait_for(process, run / "select" / "seed-4" / "checkpoint.pt")
    busy = darts(*MANY, "--run", run)
    assert busy.exit_code == 1
    assert f"is in use by process {process.pid} on " in busy.stderr
    process.send_signal(signal.SIGTERM)
    code, out, err = finish(process)
    assert (code, out) == (143, "")
    assert err.splitlines()[-1].startswith("stopped by SIGTERM; the state is saved; to resume: darts search cnn")
    result = darts(*MANY, "--run", run)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == (folder / "genotype.yaml").read_text()
    assert (run / "selection.yaml").read_bytes() == (folder / "selection.yaml").read_bytes()
    for part in ("seed-4", "seed-1", "select/seed-4", "select/seed-1"):
        assert_same_run(folder / part, run / part)


def wait_for(process, path):
    while not path.exists():
        assert process.poll() is None, finish(process)
        time.sleep(0.01)


@pytest.mark.slow
def test_one_that_fails_does_not_lose_the_others(whole, tmp_path):
    """One search cannot begin, and one training: the other is chosen."""
    _, folder = whole
    run = tmp_path / "run"
    shutil.copytree(folder, run)
    (run / "selection.yaml").unlink()
    for lost in ("seed-4", "select/random-0"):
        shutil.rmtree(run / lost)
        (run / lost).mkdir()
        (run / lost / "mine").touch()
    result = darts(*MANY, "--run", run, "--quiet")
    assert result.exit_code == 0, result.stderr
    assert [line.split(": ")[0] for line in result.stderr.splitlines()] == ["seed-4 failed", "select/random-0 failed"]
    selection = yaml.safe_load((run / "selection.yaml").read_text())
    assert selection["winner"] == "seed-1"
    assert "holds other files and no config.yaml" in selection["candidates"][1]["failed"]
    assert selection["random"]["trained"] == 0


@pytest.mark.slow
def test_recurrent_seeds_without_a_selection(text, tmp_path):
    args = ["--dataset", "text", "--data", text, "--batch-size", 4, "--dim", 4, "--epochs", 1, "--run", tmp_path / "run"]
    result = darts("search", "rnn", *args, "--seeds", 2, "--select-epochs", 0, "--parallel", 2)
    assert (result.exit_code, result.stdout) == (0, ""), result.stderr
    selection = yaml.safe_load((tmp_path / "run" / "selection.yaml").read_text())
    assert [each["name"] for each in selection["candidates"]] == ["seed-3", "seed-4"]
    assert selection["winner"] is None
    assert not (tmp_path / "run" / "genotype.yaml").exists()


@pytest.mark.slow
def test_a_recurrent_selection(text, tmp_path):
    """The lowest validation perplexity wins; a training that patience ends is complete without a test."""
    args = ["--dataset", "text", "--data", text, "--batch-size", 4, "--dim", 4, "--nodes", 2, "--epochs", 1]
    args += ["--seeds", "3,5", "--select-epochs", 40, "--select-settings", "patience=1", "--parallel", 2]
    result = darts("search", "rnn", *args, "--run", tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    selection = yaml.safe_load((tmp_path / "run" / "selection.yaml").read_text())
    first, second = selection["candidates"]
    assert first["score"] == min(first["valid_perplexity"]) <= second["score"]
    assert len(first["valid_perplexity"]) < 40
    assert load(tmp_path / "run") == load(tmp_path / "run" / selection["winner"])
    short = tmp_path / "run" / "select" / "seed-3"
    assert "test_" not in (short / "metrics.jsonl").read_text()
    assert "perplexity" in darts("eval", "--checkpoint", short).stdout
    (tmp_path / "run" / "seed-3" / "gone").symlink_to("nowhere")
    assert darts("runs", tmp_path / "run").stdout.count("search rnn") == 2


@pytest.mark.slow
def test_nothing_is_left_when_all_searches_fail(tmp_path):
    """The random cells are not trained then; a measurement that fails loses nothing but the estimate."""
    args = [*TINY, "--seeds", 1, "--select-epochs", 1, "--random-cells", 1, "--lr", "1e30", "--log-every", 1, "--momentum", 0]
    result = darts(*args, "--run", tmp_path / "run")
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.search("seed-2 failed: epoch 1.* is no longer finite; .*--detect-anomaly", result.stderr), result.stderr
    first, *_, last = [line for line in result.stderr.splitlines() if not line.startswith("seed-")]
    assert first.startswith("could not estimate the time: diverged")
    assert "every candidate failed (seed-2: the search failed: diverged" in last
    assert not (tmp_path / "run" / "select").exists()


@pytest.mark.slow
def test_epochs_of_a_single_step_are_measured(tmp_path):
    settings = SearchCNN(dataset="digits", nodes=2, epochs=1, layers=3, channels=2, batch_size=1000).to_dict()
    job = {"task": ["search", "cnn", None], "settings": settings, "genotype": None, "folder": str(tmp_path), "sweep": ""}
    worker._work(job | {"measure": measurement(0, 0, seconds=1, most=3), "quiet": True})
    measured = json.loads((tmp_path / worker.MEASURED).read_text())
    assert measured["steps"] == 1
    assert measured["seconds_per_step"] > 0
    assert measured["checkpoint"] > 1000
    assert [path.name for path in tmp_path.iterdir()] == [worker.MEASURED]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signals", "said"), [(1, "stopped by SIGINT; the state is saved;"), (2, "stopped by SIGINT; stopped at once")]
)
def test_interrupted_once_and_twice(whole, tmp_path, signals, said):
    """In a folder of as many searches, which are measured already."""
    run = tmp_path / "run"
    shutil.copytree(whole[1] / "measured", run / "measured")
    config = yaml.safe_load((whole[1] / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(config | {"epochs": 50}))
    process = start("search", "cnn", "--config", run / "config.yaml", "--run", run, "--checkpoint-minutes", 0)
    wait_for(process, run / "seed-4" / "checkpoint.pt")
    for _ in range(signals):
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    code, out, err = finish(process)
    assert (code, out) == (130, "")
    assert err.splitlines()[-1].startswith(said)
    assert "failed" not in err


@pytest.mark.slow
def test_recurrent_repeats(text, tmp_path):
    args = ["--dataset", "text", "--data", text, "--batch-size", 4, "--dim", 4, "--epochs", 2, "--run", tmp_path / "run"]
    result = darts("train", "rnn", *args, "--repeats", 2, "--seed", 5)
    assert result.exit_code == 0, result.stderr
    content = yaml.safe_load((tmp_path / "run" / "result.yaml").read_text())
    assert listed(tmp_path / "run") == {"measure": "mean test perplexity", "value": content["test_perplexity"]["mean"]}
    values = [run["test_perplexity"] for run in content["runs"]]
    assert [run["seed"] for run in content["runs"]] == [5, 6]
    mean, deviation = sum(values) / 2, abs(values[0] - values[1]) / math.sqrt(2)
    assert content["test_perplexity"] == {"mean": pytest.approx(mean), "deviation": pytest.approx(deviation)}
    assert result.stdout.splitlines()[0] == f"test perplexity  {mean:.2f} ± {deviation:.2f}"
    assert "](curves.svg)" in (tmp_path / "run" / "report.md").read_text()
    assert "mean (of 2) " in (tmp_path / "run" / "curves.svg").read_text()
    assert "</svg>" in (tmp_path / "run" / "recurrent.svg").read_text()
    drawn = darts("visualize", tmp_path / "run", "--format", "png", "--output", tmp_path / "pictures")
    assert [path.name for path in sorted((tmp_path / "pictures").iterdir())] == ["run-curves.png", "run-recurrent.png"], (
        drawn.stderr
    )
