"""Several processes as one: the same numbers as a single process, and what happens when one of them dies."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import distributed_jobs
import pytest
import sessions
import torch
from conftest import assert_same_run, darts
from PIL import Image

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
ENVIRONMENT = {key: value for key, value in os.environ.items() if "RANK" not in key and "WORLD" not in key}
ENVIRONMENT["OMP_NUM_THREADS"] = "1"


def torchrun(processes, *args, **more):
    command = [*TORCHRUN, "--nproc-per-node", str(processes), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, **{"env": ENVIRONMENT} | more)


UNEVEN = ["search-cnn-first", "search-rnn-second", "train-cnn", "train-rnn"]  # with three processes too, one a loop


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A small text in which a word depends on the one before."""
    folder, g = tmp_path_factory.mktemp("text"), random.Random(0)
    for part, lines in (("train", 60), ("valid", 25), ("test", 5)):
        words = [" ".join(str((7 * i + g.randrange(3)) % 11) for i in range(9)) for _ in range(lines)]
        (folder / f"{part}.txt").write_text("\n".join(words))
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """46 images to train and 20 to test, of three classes that differ in brightness."""
    folder, g = tmp_path_factory.mktemp("images"), torch.Generator().manual_seed(0)
    for part, count in (("train", 46), ("test", 20)):
        for i in range(count):
            path = folder / part / str(i % 3) / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = torch.randint(0, 100, (8, 8, 3), generator=g) + 70 * (i % 3)
            Image.fromarray(pixels.to(torch.uint8).numpy()).save(path)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory, text, images):
    """The run folders of all jobs, by the number of processes."""
    found = {}
    for processes in (1, 2, 3):
        found[processes] = tmp_path_factory.mktemp(f"processes{processes}")
        args = found[processes], text, images, *(UNEVEN if processes == 3 else distributed_jobs.jobs("", ""))
        output = tmp_path_factory.mktemp("output")
        codes = together(processes, output, *args, program="distributed_jobs")
        assert codes == [0] * processes, [file.read_text()[-3000:] for file in output.iterdir()]
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("job", "processes"), [*((job, 2) for job in distributed_jobs.jobs("", "")), *((job, 3) for job in UNEVEN)]
)
def test_several_processes_are_one(folders, job, processes):
    """Losses, alphas, weights, optimisers and cells; of batches whose last one is not divisible."""
    alone, together = (folders[each] / job for each in (1, processes))
    for one, other in zip(records(alone), records(together), strict=True):
        assert one.get("genotype") == other.get("genotype")
        torch.testing.assert_close(plain(other), plain(one), rtol=1e-9, atol=1e-10)
    one, other = (torch.load(each / "checkpoint.pt", weights_only=True) for each in (alone, together))
    assert one["config"] == other["config"]
    torch.testing.assert_close(plain(other), plain(one), rtol=1e-9, atol=1e-10)


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def plain(state, skip=("config", "command", "genotype", "data", "metrics")):
    """Its tensors and numbers, as tensors, by their place."""
    found = {}
    for key, value in state.items() if isinstance(state, dict) else enumerate(state):
        if key in skip:
            continue
        if isinstance(value, torch.Tensor):
            found[str(key)] = value
        elif isinstance(value, dict | list | tuple):
            found |= {f"{key}.{inner}": each for inner, each in plain(value, ()).items()}
        elif isinstance(value, int | float):
            found[str(key)] = torch.tensor(float(value), dtype=torch.float64)
    return found


SEARCH = ["search", "cnn", "--dataset", "digits", "--channels", 2, "--layers", 3, "--nodes", 2, "--epochs", 2]
SEARCH += ["--batch-size", 240]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"WORLD_SIZE": "2", "RANK": "0"}, "LOCAL_RANK is not set, LOCAL_WORLD_SIZE is not set, MASTER_PORT is not set"),
        ({"WORLD_SIZE": "two"}, "RANK is not set, LOCAL_RANK is not set, WORLD_SIZE is two"),
        ({"WORLD_SIZE": "2", "RANK": "first"}, "RANK is first"),
    ],
)
def test_a_world_that_nobody_set_up(monkeypatch, tmp_path, variables, message):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    done = darts(*SEARCH, "--run", tmp_path / "run")
    assert done.exit_code == 2
    assert done.stderr.startswith(f"error: WORLD_SIZE announces several processes, but {message}")
    assert done.stderr.endswith("; start them with torchrun\n")
    assert done.stderr.count("\n") == 1


def test_a_process_that_waits_for_others_says_so(tmp_path):
    variables = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "3", "MASTER_ADDR": "localhost"}
    command = [sys.executable, "-m", "darts_cli", *map(str, SEARCH)]
    environment = ENVIRONMENT | variables | {"MASTER_PORT": "29876"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment) as process:
        assert process.stderr.readline() == "process 0 is waiting for all 3 at localhost\n"
        process.kill()


@pytest.mark.slow
def test_a_process_is_killed_and_the_job_goes_on(tmp_path):
    """Bit-equal with as many processes as before; and with another number (equal to rounding then, as shown above)."""
    args = [*SEARCH, "--checkpoint-minutes", 0]
    assert together(2, tmp_path, *args, "--run", tmp_path / "undisturbed") == [0, 0]
    kill_one(tmp_path, ["-m", "--", "darts_cli", *args, "--run", "same"])
    shutil.copytree(tmp_path / "same", tmp_path / "other")
    done = torchrun(2, "-m", "--", "darts_cli", *args, "--run", "same", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("domain: cnn") == 1  # the first process speaks, the other does not
    assert done.stderr.count("next: darts train cnn") == 1
    alone = darts(*args, "--run", tmp_path / "other")
    assert alone.exit_code == 0, alone.stderr
    for name, said in (("same", done.stderr), ("other", alone.stderr)):
        assert "resuming after step" in said
        for one, other in zip(records(tmp_path / name), records(tmp_path / "undisturbed"), strict=True):
            assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-4)
    undisturbed, same = (torch.load(tmp_path / each / "checkpoint.pt", weights_only=True) for each in ("undisturbed", "same"))
    torch.testing.assert_close(plain(same), plain(undisturbed), rtol=0, atol=0)
    assert records(tmp_path / "same") == records(tmp_path / "undisturbed")


@pytest.mark.slow
@pytest.mark.parametrize("domain", ["cnn", "rnn"])
def test_a_training_of_three_processes_is_killed_and_goes_on(tmp_path, text, domain):
    """To the same bits: the gradients of three are summed in an order, which must not depend on where the run began."""
    data = ["--dataset", "text", "--data", text, "--dim", 4, "--eval-batch-size", 2, "--batch-size", 12]
    if domain == "cnn":
        data = ["--dataset", "digits", "--channels", 2, "--layers", 2, "--batch-size", 240]
    args = ["train", domain, *data, "--epochs", 2, "--checkpoint-minutes", 0]
    assert together(3, tmp_path, *args, "--run", tmp_path / "undisturbed") == [0, 0, 0]
    first, *others = together(3, tmp_path, *args, "--run", tmp_path / "killed", crash_at="checkpoint.pt renamed 3")
    assert (first, 0 in others) == (-signal.SIGKILL, False)
    assert (tmp_path / "killed" / "previous.pt").exists()
    assert together(3, tmp_path, *args, "--run", tmp_path / "killed") == [0, 0, 0]
    assert "resuming after" in (tmp_path / "0.txt").read_text()
    assert_same_run(tmp_path / "undisturbed", tmp_path / "killed")
    assert together(3, tmp_path, *args, "--epochs", 3, "--extend", "--run", tmp_path / "killed") == [0, 0, 0]
    assert len(records(tmp_path / "killed")) == 3


def together(count, folder, *args, **options):
    """The exit codes of a program in processes that work together; the outputs are in 0.txt, 1.txt, and so on."""
    variables = sessions.ranks(count)
    jobs = [sessions.start(args, folder / f"{i}.txt", variables=variables[i], **options) for i in range(count)]
    return [sessions.ended(job) for job in jobs]


def kill_one(folder, args):
    """Start the job with two processes, and kill the second one at a moment after the first step."""
    name = args[-1]
    command = [*TORCHRUN, "--nproc-per-node", "2", *map(str, args)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=folder, env=ENVIRONMENT) as job:
        while not (folder / name / "checkpoint.pt").exists():
            assert job.poll() is None, job.stderr.read()
            time.sleep(0.05)
        time.sleep(random.Random(name).random())
        os.kill(ranks_of(job.pid)[1], signal.SIGKILL)
        errors = job.stderr.read()
    assert job.returncode != 0
    assert "rank" in errors
    assert re.search(r"exitcode\s*: -9", errors)  # torchrun names who died, and of what


def ranks_of(launcher):
    """The processes that torchrun has started, in the order of their ranks."""
    found = {}
    for each in Path("/proc").glob("[0-9]*"):
        try:
            parent = (each / "stat").read_text().rsplit(")", 1)[1].split()[1]
            variables = dict(v.split("=", 1) for v in (each / "environ").read_text().split("\0") if "=" in v)
        except OSError:
            continue
        if int(parent) == launcher and "RANK" in variables:
            found[int(variables["RANK"])] = int(each.name)
    return [found[rank] for rank in sorted(found)]
