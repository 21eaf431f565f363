"""Sweeps on a Ray cluster of two machines, both this one, and on a stand-in for Slurm: the same bits as on one machine."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import fake_slurm
import pytest
from conftest import assert_same_run, darts, finish, start

from darts_cli.runs.lock import HOLDER
from darts_cli.sweeps.engines.engine import process_of

MANY = ["search", "cnn", "--dataset", "digits", "--nodes", 2, "--epochs", 1, "--layers", 3, "--channels", 2]
MANY += ["--max-images", 480, "--batch-size", 24, "--select-epochs", 1, "--parallel", 2, "--checkpoint-minutes", 0]
MANY += ["--seeds", 2]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """The share of every run, on any machine that tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_worker_gets_its_job_and_its_number_of_threads():
    process = process_of("json.tool", {"job": 1}, 3, stdout=subprocess.PIPE)
    environment = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
    printed, _ = process.communicate()
    assert json.loads(printed) == {"job": 1}
    assert b"OMP_NUM_THREADS=3" in environment


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The sweep on this machine, never interrupted: what it prints, and its folder."""
    folder = tmp_path_factory.mktemp("local") / "run"
    done = darts(*MANY, "--run", folder)
    assert done.exit_code == 0, done.stderr
    return done.stdout, folder


@pytest.fixture
def cluster():
    """A Ray cluster: its process, which has printed its address."""
    pytest.importorskip("ray", reason="Ray is not installed")
    command = [sys.executable, Path(__file__).with_name("ray_cluster.py")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    yield process
    process.stdin.close()
    process.wait(60)
    process.stdout.close()


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """The folder of a stand-in for Slurm."""
    pytest.importorskip("submitit", reason="submitit is not installed")
    folder = tmp_path / "slurm"
    folder.mkdir()
    fake_slurm.install(folder)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(fake_slurm, "HOME", folder)
    return folder


def wait_for(process, what):
    """A file, or a condition."""
    while not (what() if callable(what) else what.exists()):
        assert process.poll() is None, finish(process)
        time.sleep(0.01)


@pytest.mark.slow
def test_a_cluster_that_loses_a_machine_ends_the_same(local, cluster, tmp_path):
    """Lost in the searches; stopped by Ctrl-C in the trainings, and gone on with, on the machine that is left."""
    run, address = tmp_path / "run", cluster.stdout.readline().strip()
    shutil.copytree(local[1] / "measured", run / "measured")  # which takes time, and is not what is tested
    shutil.copy(local[1] / "config.yaml", run)
    command = [*MANY, "--engine", f"ray:{address}", "--run", run]
    process = start(*command)
    wait_for(process, run / "seed-2" / "checkpoint.pt")
    cluster.stdin.write((run / "seed-2" / HOLDER).read_text().split()[1] + "\n")  # process NUMBER on MACHINE
    cluster.stdin.flush()
    wait_for(process, run / "select" / "seed-2" / "checkpoint.pt")
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
    assert (code, out) == (130, ""), err
    assert "seed-2: its machine was lost; starting it on another, from its last checkpoint\n" in err
    assert "seed-2: resuming after step " in err
    last = err.splitlines()[-1]
    assert last.startswith("stopped by SIGINT; the state is saved; to resume: darts search cnn"), err
    assert f"--engine ray:{address} " in last
    code, out, err = finish(start(*command))
    assert code == 0, err
    assert out == local[0]
    assert (run / "selection.yaml").read_bytes() == (local[1] / "selection.yaml").read_bytes()
    for name in (f"{part}seed-{seed}" for part in ("", "select/") for seed in (2, 3)):
        assert_same_run(local[1] / name, run / name)
    assert not (run / ".storage").exists()


@pytest.mark.slow
def test_slurm_ends_the_same(local, slurm, tmp_path):
    """The warning of a time limit in one search, which is queued again; Ctrl-C in both; then the same command again."""
    run, log = tmp_path / "run", tmp_path / "run" / "slurm" / "100_0_0_log.err"
    command = [*MANY, "--select-epochs", 0, "--engine", "slurm", "--run", run]
    shutil.copytree(local[1] / "measured", run / "measured")
    (run / "config.yaml").write_text((local[1] / "config.yaml").read_text().replace("select_epochs: 1", "select_epochs: 0"))
    process = start(*command)
    wait_for(process, run / "seed-2" / "checkpoint.pt")
    fake_slurm.scancel("--signal=USR2", "100_0")
    wait_for(process, lambda: "resuming after step " in log.read_text())
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
    assert (code, out) == (130, ""), err
    assert "failed" not in err
    assert f"seed-2: job 100_0 of Slurm, log {log}\n" in err
    assert "finishing this step, then saving\n" in log.read_text()
    done = darts(*command)
    assert (done.exit_code, done.stdout) == (0, ""), done.stderr
    for name in ("seed-2", "seed-3"):
        assert_same_run(local[1] / name, run / name)
    script = (slurm / "100.sh").read_text()
    assert "#SBATCH --array=0-1%" in script
    assert "#SBATCH --cpus-per-task=1\n" in script
    assert "gpus" not in script


def test_slurm_that_refuses_gives_one_line(slurm, tmp_path):
    (slurm / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition specified: gold' >&2; exit 1\n")
    result = darts(*MANY, "--engine", "slurm", "--run", tmp_path / "run")
    assert (result.exit_code, result.stdout) == (1, "")
    expected = "error: --engine slurm: cannot submit the runs: sbatch: error: invalid partition specified: gold\n"
    assert result.stderr == expected


SWEEP = ["search", "cnn", "--dataset", "digits", "--seeds", "2", "--engine"]


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ([*SWEEP, "foo"], 2, "--engine foo: must be local, ray, ray:HOST:PORT or slurm"),
        ([*SWEEP, "ray:"], 2, "--engine ray:: must be local, ray, ray:HOST:PORT or slurm"),
        ([*SWEEP, "slurm:gold"], 2, "--engine slurm:gold: must be local, ray, ray:HOST:PORT or slurm"),
        ([*SWEEP, "slurm"], 1, "--engine slurm: there is no sbatch here; run the command on a machine that submits to Slurm"),
        (["search", "rnn", "--engine", "ray"], 2, "--engine: only together with --seeds"),
        (["train", "cnn", "--dataset", "digits", "--engine", "ray"], 2, "--engine: only together with --repeats"),
    ],
)
def test_what_cannot_be_used_gives_one_line(args, code, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = darts(*args)
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", f"error: {message}\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("engine", "package"), [("ray", "Ray"), ("slurm", "submitit")])
def test_a_missing_package_is_named(engine, package, tmp_path, monkeypatch):
    fake_slurm.install(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setitem(sys.modules, {"slurm": "submitit"}.get(engine, engine), None)  # as if it were not installed
    result = darts(*SWEEP, engine, "--run", tmp_path / "run")
    assert result.stderr == f"error: --engine {engine}: needs {package}; install it with pip install {package.lower()}\n"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            "127.0.0.1:1",
            "nobody answers there ([Errno 111] Connection refused); start one with `ray start --head`, "
            "and this command on one of its machines",
        ),
        ("ray://head:10001", "must be HOST:PORT, as `ray start --head` prints it"),
        ("head", "must be HOST:PORT, as `ray start --head` prints it"),
    ],
)
def test_an_address_where_nobody_answers_gives_one_line(address, message, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed")
    done = darts(*SWEEP, f"ray:{address}", "--run", tmp_path / "run")
    assert (done.stdout, done.stderr) == ("", f"error: --engine ray:{address}: {message}\n")
    assert done.exit_code > 0
    assert list(tmp_path.iterdir()) == []
