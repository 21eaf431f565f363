"""The search from the command line: it finishes, repeats to the bit, and goes on where it was stopped."""

import json
import shutil
import signal

import pytest
import torch
from conftest import assert_same_run, darts, finish, kill_after, on_terminal, start
from PIL import Image

from darts_cli.genotype import load
from darts_cli.runtime.schedules import cosine
from darts_cli.spaces.space import default


@pytest.fixture(scope="module", params=["--no-unrolled", "--unrolled"])
def undisturbed(request, tiny, tmp_path_factory):
    """A finished search of either order: its arguments, without --run, and its folder."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    args = [*tiny, request.param]
    result = darts(*args, "--run", folder)
    assert result.exit_code == 0, result.stderr
    return args, folder, result


def test_a_finished_search(undisturbed):
    args, folder, result = undisturbed
    genotype = load(folder)
    assert genotype.domain == "cnn"
    assert result.stdout == genotype.to_yaml()
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoint.pt",
        "checkpoint.pt.sha256",
        "config.yaml",
        "curves.svg",
        "genotype.yaml",
        "log.jsonl",
        "metrics.jsonl",
        "normal.svg",
        "previous.pt",
        "reduce.svg",
        "report.md",
    ]
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [1, 2]
    assert records[-1]["genotype"] == genotype.to_dict()
    assert records[0]["lr"] == 0.025
    assert records[1]["lr"] == pytest.approx(0.013)
    assert not any("time" in key or "second" in key for record in records for key in record)
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    assert records[-1]["alphas"]["normal"] == state["network"]["alphas.normal"].tolist()
    assert (state["epoch"], state["step"]) == (2, 0)
    for said in ("cpu, fp32", "weights, 80 alphas", "2 epochs of 3 steps", "next: darts train cnn --genotype"):
        assert said in result.stderr
    report = (folder / "report.md").read_text()
    assert "search cnn --dataset folder" in report
    assert ("Second order" if "--unrolled" in args else "First order") in report


def test_the_same_seed_gives_the_same_bits_and_another_does_not(undisturbed, tmp_path):
    args, folder, _ = undisturbed
    darts(*args, "--run", tmp_path / "again", "--log-every", 1, "--checkpoint-minutes", 0)
    assert_same_run(folder, tmp_path / "again")
    assert darts(*args, "--run", tmp_path / "other", "--seed", 1, "--epochs", 1).exit_code == 0
    first = (folder / "metrics.jsonl").read_text().splitlines()[0]
    other = (tmp_path / "other" / "metrics.jsonl").read_text().splitlines()[0]
    assert json.loads(first)["train_loss"] != json.loads(other)["train_loss"]


def test_a_finished_run_is_not_repeated(undisturbed):
    args, folder, result = undisturbed
    written = (folder / "checkpoint.pt").stat().st_mtime_ns
    again = darts(*args, "--run", folder)
    assert again.stdout == result.stdout
    assert "complete already" in again.stderr
    assert (folder / "checkpoint.pt").stat().st_mtime_ns == written


@pytest.mark.slow
@pytest.mark.parametrize("undisturbed", ["--no-unrolled"], indirect=True)
def test_killed_between_checkpoints(undisturbed, tmp_path):
    """With the default of ten minutes, the epoch that was broken off is done again."""
    args, folder, _ = undisturbed
    run = tmp_path / "killed"
    assert kill_after(start(*args, "--run", run), run, 1, delay=0.3) == (1, 0)
    again = darts(*args, "--run", run)
    assert again.exit_code == 0, again.stderr
    assert "resuming after step 3 of 6" in again.stderr
    assert_same_run(folder, run)


@pytest.mark.slow
@pytest.mark.parametrize("undisturbed", ["--unrolled"], indirect=True)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_by_a_signal(undisturbed, tmp_path, number, code):
    args, folder, _ = undisturbed
    run = tmp_path / "stopped"
    process = start(*args, "--run", run, "--log-every", 1)
    for line in process.stderr:
        if "step 1/3" in line:
            break
    process.send_signal(number)
    exit_code, out, err = finish(process)
    assert exit_code == code
    assert out == ""
    assert f"stopped by {number.name}; the state is saved; to resume: darts search cnn --dataset folder" in err
    assert "Traceback" not in err
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    assert (state["epoch"], state["step"]) in [(0, 1), (0, 2)]
    again = darts(*args, "--run", run)
    assert again.exit_code == 0, again.stderr
    assert_same_run(folder, run)


@pytest.mark.slow
def test_digits_from_a_fresh_folder(tmp_path, monkeypatch):
    """Offline, with the default run folder, both orders; the first order learns something in two epochs."""
    monkeypatch.chdir(tmp_path)
    common = ["search", "cnn", "--dataset", "digits", "--nodes", 2, "--layers", 3, "--channels", 4]
    first = darts(*common, "--epochs", 2)
    assert first.exit_code == 0, first.stderr
    second = darts(*common, "--epochs", 1, "--batch-size", 360, "--unrolled")
    assert second.exit_code == 0, second.stderr
    folders = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert len(folders) == 2
    assert all(name.startswith("search-cnn-digits-seed2-") for name in folders)
    folder = next(f for f in (tmp_path / "runs").iterdir() if load(f).to_yaml() == first.stdout)
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["train_accuracy"] > 0.3


def test_the_report_warns_of_a_collapsed_cell(tiny, tmp_path):
    """Alphas that prefer skip connections on the first edge of some nodes, and pooling elsewhere; too strong to move."""
    folder, command = tmp_path / "run", [*tiny, "--nodes", 4, "--epochs", 1]
    assert darts(*command, "--run", folder).exit_code == 0
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    (folder / "checkpoint.pt.sha256").unlink()
    for skips in (2, 3, 4):
        alphas = torch.zeros(14, 8)
        alphas[:, default("cnn").operations.index("avg_pool_3x3")] = 5
        alphas[[0, 2, 5, 9][:skips], default("cnn").operations.index("skip_connect")] = 9
        state["network"]["alphas.normal"] = alphas
        again = tmp_path / str(skips)
        shutil.copytree(folder, again)
        torch.save(state, again / "checkpoint.pt")
        assert darts(*command, "--run", again).exit_code == 0
        report = (again / "report.md").read_text()
        assert ("**Warning:**" in report) == (skips >= 3)
        assert f"Skip connections: {skips} in normal" in report


def test_a_loss_that_is_not_finite_ends_the_run(tiny, tmp_path):
    result = darts(*tiny, "--run", tmp_path / "run", "--lr", "1e30", "--momentum", 0)
    assert result.exit_code == 1
    assert "no longer finite" in result.stderr.splitlines()[-1]
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_bf16_stays_near_fp32(tiny, tmp_path):
    losses = []
    for precision in ("fp32", "bf16"):
        assert darts(*tiny, "--epochs", 1, "--precision", precision, "--run", tmp_path / precision).exit_code == 0
        losses.append(json.loads((tmp_path / precision / "metrics.jsonl").read_text())["train_loss"])
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_the_learning_rate_starts_at_its_first_value():
    rates = [cosine(0.025, 0.001, epoch, 50) for epoch in range(51)]
    assert rates[0] == 0.025
    assert rates[25] == pytest.approx((0.025 + 0.001) / 2)
    assert rates[50] == pytest.approx(0.001)
    optimizer = torch.optim.SGD([torch.zeros(1)], 0.025)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50, 0.001)
    for rate in rates:
        assert schedule.get_last_lr()[0] == pytest.approx(rate)
        optimizer.step()
        schedule.step()


def test_other_images_are_not_taken_for_the_same_run(undisturbed, tmp_path):
    """Not even by a finished run: the data folder is no setting, but what is in it changes the result."""
    args, folder, result = undisturbed
    for name in ("a", "b", "c"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(16):
            Image.new("RGB", (8, 8), (i, i, i)).save(tmp_path / "images" / name / f"{i}.png")
    other = darts(*args, "--data", tmp_path / "images", "--run", folder)
    assert other.exit_code == 1
    assert other.stdout == ""
    assert "is a run on other data with the same settings; choose another folder with --run" in other.stderr
    assert load(folder).to_yaml() == result.stdout


def test_the_display_on_a_terminal(tiny, tmp_path):
    """Bars, the reading of the metrics, the cells, skip connections, entropy, speed."""
    args = [*tiny, "--epochs", "1", "--log-every", "1", "--run", tmp_path / "run"]
    code, out, shown = on_terminal(*args, TERM="xterm", COLUMNS="110", LINES="40")
    assert code == 0
    assert out.startswith("domain: cnn")
    for said in (
        "epoch 1/1",
        "saving",  # what is drawn last
        "train loss",
        "s per step",
        "node  normal",
        "entropy 2.0",
        "skip connections: ",
    ):
        assert said in shown


def test_quiet_says_nothing_but_the_result(tiny, tmp_path):
    result = darts(*tiny, "--epochs", 1, "--quiet", "--run", tmp_path / "run")
    assert result.stderr == ""
    assert result.stdout.startswith("domain: cnn")
