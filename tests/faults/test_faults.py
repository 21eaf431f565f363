"""Runs that are killed anywhere, find the disk full, or their folder locked: nothing saved is lost, and no bit changes."""

import random
import signal
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import memory
import sessions
from conftest import TINY, assert_same_run

from darts_cli import DartsError
from darts_cli.config import TrainRNN
from darts_cli.genotype import load
from darts_cli.rnn.evaluate import restore
from darts_cli.runs import checkpoint
from darts_cli.runs.run import Run
from darts_cli.runs.task import Task

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="kills and limits are those of Linux")]

RANDOM_KILLS = 6  # of each job, besides those at the points of crash.py
OFTEN = ["--checkpoint-minutes", "0", "--log-every", "1"]
MOMENTS = ["half", "written", "renamed"]
JOBS = ["search cnn", "search rnn", "train cnn", "train rnn"]


@pytest.fixture
def tmp_path(tmp_path):
    with memory.folder(tmp_path) as folder:
        yield folder


@pytest.fixture(scope="module")
def jobs(images, parts, text):
    search = ["search", "cnn", *TINY, "--nodes", "2", "--batch-size", "12", "--data", images, *OFTEN]
    texts = ["--dataset", "text", "--dim", "6", "--eval-batch", "2", "--bptt", "10", "--data", text]
    cells = ["--dataset", "folder", "--layers", "3", "--channels", "2", "--batch-size", "12", "--epochs", "2", "--data", parts]
    return {
        "search cnn": search,
        "search cnn unrolled": [*search, "--unrolled"],  # takes twice as long, and keeps no more state
        "search rnn": ["search", "rnn", *texts, "--batch-size", "12", "--lr", "2", "--epochs", "2", "--unrolled", *OFTEN],
        "train cnn": ["train", "cnn", *cells, "--train-portion", "0.75", "--drop-path", "0.3", *OFTEN],
        "train rnn": ["train", "rnn", *texts, "--batch-size", "4", "--lr", "20", "--epochs", "4", "--asgd-after", "1", *OFTEN],
    }


@pytest.fixture(scope="module")
def undisturbed(jobs, tmp_path_factory):
    """Of each job the folder of a run that nothing disturbed, and the seconds it took."""
    finished = {}

    def once(job):
        if job not in finished:
            folder, output = tmp_path_factory.mktemp("undisturbed") / "run", tmp_path_factory.mktemp("output") / "output.txt"
            assert sessions.run(["genotype", "list"], output) == 0  # starts the server from which sessions are forked
            begun = time.monotonic()
            assert sessions.run([*jobs[job], "--run", folder], output) == 0, output.read_text()
            finished[job] = folder, time.monotonic() - begun
        return finished[job]

    return once


def points(folder, chance):
    """Every moment in the writing of every file of a run, in a random order; but what is written only once comes when it is
    written, at the start or at the end."""
    ends = [["config.yaml"], [*sorted(path.name for path in folder.glob("*.svg")), "report.md"]]
    others = ("config.yaml", "report.md", "log.jsonl", "previous.pt")
    names = [path.name for path in folder.iterdir() if path.name not in others and path.suffix != ".svg"]
    start, end = ([f"{name} {moment}" for name in group for moment in MOMENTS] for group in ends)
    between = [f"{name} {moment}" for name in sorted(names) for moment in MOMENTS] + ["log.jsonl half", "checkpoint.pt kept"]
    return [*start, *chance.sample(between, len(between)), *end]


@pytest.mark.parametrize("job", JOBS)
def test_killed_anywhere(job, jobs, undisturbed, tmp_path):
    """At every moment in the writing of each file, then at random moments; the same command goes on each time.

    A run that ends in between is compared, and another one begun.
    """
    args, output, chance = jobs[job], tmp_path / "output.txt", random.Random(job)
    expected, seconds = undisturbed(job)
    folders = (tmp_path / f"run{number}" for number in range(1000))
    folder = next(folders)

    def ended(code):
        nonlocal folder
        assert code in (0, -signal.SIGKILL), output.read_text()
        if code == 0:
            assert_same_run(expected, folder)
            folder = next(folders)
        return code == 0

    for point in points(expected, chance):
        count = 1 if point.startswith(("config.yaml", "report.md")) or ".svg " in point else chance.choice((1, 1, 2))
        if ended(sessions.run([*args, "--run", folder], output, crash_at=f"{point} {count}")):
            # In a fresh folder every file is written.
            assert sessions.run([*args, "--run", folder], output, crash_at=f"{point} 1") == -signal.SIGKILL, point
        for path in folder.glob("*.pt"):
            checkpoint.read(path)
    kills = 0
    while kills < RANDOM_KILLS:
        process = sessions.start([*args, "--run", folder], output)
        process.join(chance.uniform(0, seconds / 2))  # half: a run that goes on has less to do
        process.kill()
        process.join()
        kills += not ended(process.exitcode)
    assert sessions.run([*args, "--run", folder], output) == 0, output.read_text()
    assert_same_run(expected, folder)


@pytest.mark.parametrize("job", ["search cnn unrolled", *JOBS[1:]])
def test_a_full_disk(job, jobs, undisturbed, tmp_path):
    """No file may grow to more than half of a checkpoint: one line, and what was saved before is untouched."""
    args, output, folder = jobs[job], tmp_path / "output.txt", tmp_path / "run"
    assert sessions.run([*args, "--run", folder], output, crash_at="checkpoint.pt renamed 4") == -signal.SIGKILL
    before = {path.name: path.read_bytes() for path in folder.glob("*.pt")}
    assert sessions.run([*args, "--run", folder], output, max_file_bytes=len(before["checkpoint.pt"]) // 2) == 1
    error = output.read_text().splitlines()[-1]
    assert error == f"error: {folder / 'checkpoint.pt'}: cannot be written (File too large); what was there before is untouched"
    assert {path.name: path.read_bytes() for path in folder.glob("*.pt")} == before
    for name in before:
        checkpoint.read(folder / name)
    assert not list(folder.glob(".*.tmp"))
    assert sessions.run([*args, "--run", folder], output) == 0, output.read_text()
    assert_same_run(undisturbed(job)[0], folder)


@pytest.mark.parametrize("job", ["search cnn", "train rnn"])
def test_a_folder_made_read_only_in_mid_run(job, jobs, undisturbed, tmp_path):
    args, output, folder = jobs[job], tmp_path / "output.txt", tmp_path / "run"
    process = sessions.start([*args, "--run", folder], output, without_privileges=True)
    while not (folder / "previous.pt").exists() and process.is_alive():
        time.sleep(0.001)
    folder.chmod(0o555)
    process.join(60)
    assert process.exitcode == 1, output.read_text()
    error = output.read_text().splitlines()[-1]
    assert error.startswith(f"error: {folder}/"), error
    assert "cannot be written (Permission denied)" in error, error
    folder.chmod(0o755)
    assert sessions.run([*args, "--run", folder], output) == 0, output.read_text()
    assert_same_run(undisturbed(job)[0], folder)


def test_any_byte_of_a_checkpoint_flipped(jobs, undisturbed, text, tmp_path):
    """200 positions: the run refuses it and offers the one before, from which it goes on to the same end; eval refuses it."""
    args, output, folder = jobs["train rnn"], tmp_path / "output.txt", tmp_path / "run"
    assert sessions.run([*args, "--run", folder], output, crash_at="checkpoint.pt renamed 2") == -signal.SIGKILL
    path, chance = folder / "checkpoint.pt", random.Random(0)
    content, offer = path.read_bytes(), f"delete it to resume from {folder / 'previous.pt'}, epoch 1, step 1"
    settings = {"dataset": "text", "dim": 6, "batch_size": 4, "eval_batch_size": 2, "bptt": 10, "lr": 20.0, "epochs": 4}
    run = Run(Task("train", "rnn"), TrainRNN(**settings, asgd_after=1, data=str(text)), folder, load("darts_v2", "rnn"))
    for position in chance.sample(range(len(content)), 200):
        flipped = bytearray(content)
        flipped[position] ^= 1 << chance.randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(DartsError) as refused:
            run.state.restore({})
        assert str(refused.value).startswith(f"{path}: is damaged: it is not what was written"), refused.value
        assert str(refused.value).endswith(offer), refused.value
        with pytest.raises(DartsError, match="is damaged: it is not what was written"):
            restore(path)
    assert sessions.run([*args, "--run", folder], output) == 1
    assert output.read_text().splitlines()[-1].endswith(offer)
    path.unlink()
    assert sessions.run([*args, "--run", folder], output) == 0, output.read_text()
    assert_same_run(undisturbed("train rnn")[0], folder)
