"""Runs that are killed anywhere, find the disk full, or their folder locked: nothing saved is lost, and no bit changes."""

import random
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from conftest import TINY, assert_same_run
from sitting import sat, sit

from darts_cli import DartsError
from darts_cli.config import TrainRNN
from darts_cli.genotype import load
from darts_cli.rnn.evaluate import restore
from darts_cli.runs import checkpoint
from darts_cli.runs.run import Run
from darts_cli.runs.task import Task

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="kills and limits are those of Linux")]

RANDOM_KILLS = 25  # of each job, besides those aimed into a file
OFTEN = ["--checkpoint-minutes", "0", "--log-every", "1"]
TEXT = "--dataset text --dim 6 --batch-size 4 --eval-batch 2 --bptt 10".split()
POINTS = ["half", "written", "renamed"]  # inside the writing of a file; "kept" only where the one before is kept


@pytest.fixture(scope="module")
def jobs(images, parts, text):
    cells = ["--dataset", "folder", "--layers", "3", "--channels", "2", "--batch-size", "12", "--epochs", "2", "--data", parts]
    return {
        "search cnn": ["search", "cnn", *TINY, "--batch-size", "12", "--unrolled", "--data", images, *OFTEN],
        "search rnn": ["search", "rnn", *TEXT, "--lr", "2", "--epochs", "2", "--unrolled", "--data", text, *OFTEN],
        "train cnn": ["train", "cnn", *cells, "--train-portion", "0.75", "--drop-path", "0.3", *OFTEN],
        "train rnn": ["train", "rnn", *TEXT, "--lr", "20", "--epochs", "4", "--asgd-after", "1", "--data", text, *OFTEN],
    }


def aimed(folder):
    """Every point inside the writing of every file of a run."""
    names = [path.name for path in folder.iterdir() if path.name not in ("log.jsonl", "previous.pt")]
    return [f"{name} {point}" for name in sorted(names) for point in POINTS] + ["log.jsonl half", "checkpoint.pt kept"]


@pytest.mark.parametrize("job", ["search cnn", "search rnn", "train cnn", "train rnn"])
def test_killed_anywhere(job, jobs, tmp_path):
    """At random moments, and inside the writing of each file; the same command goes on each time. A run that ends meanwhile is
    compared, and another one begun."""
    args, said, chance = jobs[job], tmp_path / "said.txt", random.Random(job)
    undisturbed = tmp_path / "undisturbed"
    sat([*args, "--run", undisturbed], said)  # what is loaded once is loaded then
    shutil.rmtree(undisturbed)
    begun = time.monotonic()
    assert sat([*args, "--run", undisturbed], said) == 0, said.read_text()
    lasts = time.monotonic() - begun
    folders = (tmp_path / f"run{number}" for number in range(1000))
    folder = next(folders)

    def ended(code):
        nonlocal folder
        assert code in (0, -signal.SIGKILL), said.read_text()
        if code == 0:
            assert_same_run(undisturbed, folder)
            folder = next(folders)
        return code == 0

    points = aimed(undisturbed)
    chance.shuffle(points)
    for point in points:
        crash = f"{point} {chance.choice((1, 1, 2))}"
        if ended(sat([*args, "--run", folder], said, crash=crash)):  # in a fresh folder every file is written
            assert sat([*args, "--run", folder], said, crash=f"{point} 1") == -signal.SIGKILL, point
        for path in folder.glob("*.pt"):
            checkpoint.read(path)
    kills = 0
    while kills < RANDOM_KILLS:
        process = sit([*args, "--run", folder], said)
        process.join(chance.uniform(0, lasts))
        process.kill()
        process.join()
        kills += not ended(process.exitcode)
    assert sat([*args, "--run", folder], said) == 0, said.read_text()
    assert_same_run(undisturbed, folder)


@pytest.mark.parametrize("job", ["search cnn", "search rnn", "train cnn", "train rnn"])
def test_a_full_disk(job, jobs, tmp_path):
    """No file may grow to more than half of a checkpoint: one line, and what was saved before is untouched."""
    args, said, folder = jobs[job], tmp_path / "said.txt", tmp_path / "run"
    assert sat([*args, "--run", tmp_path / "undisturbed"], said) == 0
    assert sat([*args, "--run", folder], said, crash="checkpoint.pt renamed 4") == -signal.SIGKILL
    before = {path.name: path.read_bytes() for path in folder.glob("*.pt")}
    assert sat([*args, "--run", folder], said, largest=len(before["checkpoint.pt"]) // 2) == 1
    error = said.read_text().splitlines()[-1]
    assert error == f"error: {folder / 'checkpoint.pt'}: cannot be written (File too large); what was there before is untouched"
    assert {path.name: path.read_bytes() for path in folder.glob("*.pt")} == before
    for name in before:
        checkpoint.read(folder / name)
    assert not list(folder.glob(".*.tmp"))
    assert sat([*args, "--run", folder], said) == 0, said.read_text()
    assert_same_run(tmp_path / "undisturbed", folder)


@pytest.mark.parametrize("job", ["search cnn", "train rnn"])
def test_a_folder_made_read_only_in_mid_run(job, jobs, tmp_path):
    args, said, folder = jobs[job], tmp_path / "said.txt", tmp_path / "run"
    assert sat([*args, "--run", tmp_path / "undisturbed"], said) == 0
    process = sit([*args, "--run", folder], said, powerless=True)
    while not (folder / "previous.pt").exists() and process.is_alive():
        time.sleep(0.001)
    folder.chmod(0o555)
    process.join(60)
    assert process.exitcode == 1, said.read_text()
    error = said.read_text().splitlines()[-1]
    assert error.startswith(f"error: {folder}/"), error
    assert "cannot be written (Permission denied)" in error, error
    folder.chmod(0o755)
    assert sat([*args, "--run", folder], said) == 0, said.read_text()
    assert_same_run(tmp_path / "undisturbed", folder)


def test_any_byte_of_a_checkpoint_flipped(jobs, text, tmp_path):
    """200 positions: the run refuses it and offers the one before, from which it goes on to the same end; eval refuses it."""
    args, said, folder = jobs["train rnn"], tmp_path / "said.txt", tmp_path / "run"
    assert sat([*args, "--run", tmp_path / "undisturbed"], said) == 0
    assert sat([*args, "--run", folder], said, crash="checkpoint.pt renamed 2") == -signal.SIGKILL
    path, chance = folder / "checkpoint.pt", random.Random(0)
    whole, offer = path.read_bytes(), f"delete it to resume from {folder / 'previous.pt'}, epoch 1, step 1"
    settings = {"dataset": "text", "dim": 6, "batch_size": 4, "eval_batch_size": 2, "bptt": 10, "lr": 20.0, "epochs": 4}
    run = Run(Task("train", "rnn"), TrainRNN(**settings, asgd_after=1, data=str(text)), folder, load("darts_v2", "rnn"))
    for position in chance.sample(range(len(whole)), 200):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << chance.randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(DartsError) as refused:
            run.state.restore({})
        assert str(refused.value).startswith(f"{path}: is damaged: it is not what was written"), refused.value
        assert str(refused.value).endswith(offer), refused.value
        with pytest.raises(DartsError, match="is damaged: it is not what was written"):
            restore(path)
    assert sat([*args, "--run", folder], said) == 1
    assert said.read_text().splitlines()[-1].endswith(offer)
    path.unlink()
    assert sat([*args, "--run", folder], said) == 0, said.read_text()
    assert_same_run(tmp_path / "undisturbed", folder)
