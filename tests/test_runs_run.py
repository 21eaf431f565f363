"""The run folder: whose it is, what it keeps, and how it is repeated."""

import contextlib
import errno
import json
import multiprocessing
import os
import platform
import random
import shlex
import signal
import sys
import threading
import time
from functools import partial

import pytest
import torch
import yaml
from conftest import darts, finish, start
from made_runs import search_record

from darts_cli import DartsError, files
from darts_cli.config import SearchCNN, TrainCNN
from darts_cli.genotype import load
from darts_cli.runs import checkpoint
from darts_cli.runs.lock import locked
from darts_cli.runs.run import Run
from darts_cli.runs.task import Task

ENVIRONMENT = {"darts": "0", "torch": "0"}
DATA = {"fingerprint": "0123456789abcdef", "classes": ["a", "b"]}


def parts(value=1.0):
    layer = torch.nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight.fill_(value)
    return {"network": layer, "optimizer": torch.optim.SGD(layer.parameters(), 0.1, 0.9)}


FRESH = {"epoch": 0, "step": 0}


def state(progress, some=None):
    """What a loop saves: its progress, and the state dict of every part."""
    return progress | {name: part.state_dict() for name, part in (parts() if some is None else some).items()}


def record(epoch):
    """The record of an epoch of a search, and its cells."""
    return search_record("cnn", epoch, random.Random(epoch))


def started(folder, **settings):
    run = Run(Task("search", "cnn"), SearchCNN(**settings), folder)
    run.start(ENVIRONMENT, DATA)
    return run


def test_the_default_folder_has_the_hash_of_the_configuration():
    config = SearchCNN(dataset="digits", seed=7)
    assert str(Run(Task("search", "cnn"), config).folder) == f"runs/search-cnn-digits-seed7-{config.hash()}"


def test_nothing_is_written_before_the_start(tmp_path):
    run = Run(Task("search", "cnn"), SearchCNN(), tmp_path / "run")
    assert not run.folder.exists()
    run.start(ENVIRONMENT, DATA)
    assert [path.name for path in run.folder.iterdir()] == ["config.yaml"]
    data = yaml.safe_load((run.folder / "config.yaml").read_text())
    assert data["command"] == "search cnn"
    assert data["environment"] == ENVIRONMENT | {"data": DATA["fingerprint"]}
    assert SearchCNN.from_dict(data) == SearchCNN()


def test_another_configuration_is_an_error_naming_what_differs(tmp_path):
    started(tmp_path / "run", epochs=3)
    with pytest.raises(DartsError, match=r"--epochs was 3, now 4; --lr was 0\.025, now 0\.1.*choose another folder with --run"):
        Run(Task("search", "cnn"), SearchCNN(epochs=4, lr=0.1), tmp_path / "run")
    with pytest.raises(DartsError, match="is the run folder of darts search cnn"):
        Run(Task("train", "cnn"), SearchCNN(epochs=3), tmp_path / "run")
    Run(Task("search", "cnn"), SearchCNN(epochs=3, log_every=1, data="elsewhere", device="cpu"), tmp_path / "run")


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(DartsError, match=r"holds other files and no config\.yaml"):
        Run(Task("search", "cnn"), SearchCNN(), tmp_path)
    with pytest.raises(DartsError, match="is a file, not a run folder"):
        Run(Task("search", "cnn"), SearchCNN(), tmp_path / "thesis.tex")
    with pytest.raises(DartsError, match="cannot be used as run folder"):
        started(tmp_path / "thesis.tex" / "run")


def test_what_a_kill_before_the_first_file_leaves_is_no_obstacle(tmp_path):
    (tmp_path / ".config.yaml.tmp").write_text("comm")
    started(tmp_path)


def test_saved_state_comes_back(tmp_path):
    run, saved = started(tmp_path / "run"), parts(3.0)
    saved["network"](torch.ones(1, 2)).sum().backward()
    saved["optimizer"].step()
    for epoch in (1, 2):
        run.reports.record(*record(epoch))
    run.state.save(state({"epoch": 1, "step": 4, "sums": torch.arange(3.0)}, saved))

    again, fresh = Run(Task("search", "cnn"), SearchCNN(), tmp_path / "run"), parts(0.0)
    back = again.state.restore(FRESH | {"sums": torch.zeros(3)}, **fresh)
    assert (back["epoch"], back["step"], back["sums"].tolist()) == (1, 4, [0, 1, 2])
    assert torch.equal(fresh["network"].weight, saved["network"].weight)
    momentum = [optimizer.state[layer.weight]["momentum_buffer"] for layer, optimizer in (saved.values(), fresh.values())]
    assert torch.equal(*momentum)
    metrics, cells = record(1)
    assert again.reports.metrics == [metrics]  # the record of the unfinished epoch is cut off
    assert load(tmp_path / "run") == cells
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text()) == metrics


def test_a_fresh_folder_has_no_state(tmp_path):
    assert started(tmp_path / "run").state.restore(FRESH, **parts()) is FRESH


@pytest.mark.parametrize("length", [0, 10, 0.5, -1])
def test_a_truncated_checkpoint_is_refused(tmp_path, length):
    run = started(tmp_path / "run")
    run.state.save(state({"epoch": 0, "step": 1}, parts()))
    path = run.folder / "checkpoint.pt"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * length) if isinstance(length, float) else length])
    with pytest.raises(DartsError, match=r"checkpoint\.pt: is damaged: .*delete .*checkpoint\.pt to start"):
        Run(Task("search", "cnn"), SearchCNN(), run.folder).state.restore(FRESH, **parts())
    (run.folder / "checkpoint.pt.sha256").unlink()
    with pytest.raises(DartsError, match=r"checkpoint\.pt: is no checkpoint, or is damaged.*delete .*checkpoint\.pt to start"):
        Run(Task("search", "cnn"), SearchCNN(), run.folder).state.restore(FRESH, **parts())


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    run = started(tmp_path / "run")
    run.state.save(state({"epoch": 0, "step": 1}, parts()))
    other = started(tmp_path / "other", epochs=3)
    (other.folder / "checkpoint.pt").write_bytes((run.folder / "checkpoint.pt").read_bytes())
    with pytest.raises(DartsError, match="comes from a run with other settings"):
        other.state.restore(FRESH, **parts())


def test_a_checkpoint_that_would_execute_something_is_refused(tmp_path):
    run = started(tmp_path / "run")

    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    torch.save({"epoch": Payload()}, run.folder / "checkpoint.pt")
    with pytest.raises(DartsError, match=r"refers to posix\.mkdir, which no checkpoint needs"):
        run.state.restore(FRESH, **parts())
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("text", ["{", None])
def test_the_cells_of_a_training_are_written_again(tmp_path, text):
    for _ in range(2):
        run = Run(Task("train", "cnn"), TrainCNN(), tmp_path / "run", load("nasnet"))
        run.start(ENVIRONMENT, DATA)
        assert load(run.folder) == load("nasnet")
        path = run.folder / "genotype.yaml"
        path.unlink() if text is None else path.write_text(text)


@pytest.mark.parametrize("text", ["{", "", None])
def test_damaged_or_missing_metrics_and_cells_are_written_again(tmp_path, text):
    """The checkpoint has both too."""
    run = started(tmp_path / "run")
    run.reports.record(*record(1))
    run.state.save(state({"epoch": 1, "step": 0}, parts()))
    for path in (run.folder / "metrics.jsonl", run.folder / "genotype.yaml"):
        path.unlink() if text is None else path.write_text(text)
    again = Run(Task("search", "cnn"), SearchCNN(), run.folder)
    again.state.restore(FRESH, **parts())
    assert load(run.folder) == record(1)[1]
    again.reports.record(*record(2))
    assert [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()] == [
        record(1)[0],
        record(2)[0],
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop("sums"), "sums"),
        (lambda state: state.update(sums=torch.zeros(2)), "its sums"),
        (lambda state: state.update(sums=[0.0]), "its sums"),
        (lambda state: state.update(epoch="x"), "its epoch"),
        (lambda state: state.update(epoch=-1), "its epoch"),
        (lambda state: state.update(epoch=True), "its epoch"),
        (lambda state: state.update(step=-3), "its step"),
        (lambda state: state.update(epoch=2), "its metrics are not of its epochs"),
        (lambda state: state.update(metrics=[]), "its metrics are not of its epochs"),
        (lambda state: state.update(metrics="x"), "its metrics are not of its epochs"),
        (lambda state: state.update(metrics=["x"]), "not the record of epoch 1"),
        (lambda state: state["metrics"][0].update(train_loss="x"), "train_loss must be a number"),
        (lambda state: state["metrics"][0].update(temperature="x"), "temperature must be a number"),
        (lambda state: state["metrics"][0].pop("genotype"), "genotype"),
        (lambda state: state["metrics"][0].pop("entropy"), "lack a number"),
        (lambda state: state.update(network={}), "Missing key"),
        (lambda state: state.update(optimizer=[]), "indices"),
    ],
)
def test_a_whole_checkpoint_with_another_state_is_refused(tmp_path, change, said):
    """It fits its checksum: somebody has written it so."""
    run, fresh = started(tmp_path / "run"), FRESH | {"sums": torch.zeros(3)}
    metrics, cells = record(1)
    run.reports.record(metrics, cells)
    run.state.save(state(fresh | {"epoch": 1}, parts()))
    saved = torch.load(run.folder / "checkpoint.pt", weights_only=True)
    assert Run(Task("search", "cnn"), SearchCNN(), run.folder).state.restore(fresh, **parts())["epoch"] == 1
    change(saved)
    checkpoint.write(run.folder / "checkpoint.pt", saved)
    with pytest.raises(DartsError, match=rf"checkpoint\.pt: is damaged and cannot be read .*{said}.*delete it to resume from"):
        Run(Task("search", "cnn"), SearchCNN(), run.folder).state.restore(fresh, **parts())


def test_a_log_of_nonsense_ends_no_run(tmp_path):
    run = started(tmp_path / "run")
    run.reports.log(epoch=1, step=2)
    seconds = run.reports.seconds()
    with open(run.folder / "log.jsonl", "ab") as file:
        file.write(b"\xff\n[]\n" + b'{"seconds": "x"}\n')
    assert run.reports.seconds() == seconds
    (run.folder / "log.jsonl").unlink()
    os.mkfifo(run.folder / "log.jsonl")
    assert run.reports.seconds() == 0


def test_a_run_that_another_one_overtook(tmp_path):
    """Both found the folder empty; what the first has begun there is not taken over by the second."""
    late = Run(Task("search", "cnn"), SearchCNN(epochs=4), tmp_path / "run")
    started(tmp_path / "run", epochs=3)
    with pytest.raises(DartsError, match="--epochs was 3, now 4"):
        late.start(ENVIRONMENT, DATA)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_bad_state_is_never_saved(tmp_path, bad):
    run = started(tmp_path / "run")
    run.state.save(state({"epoch": 0, "step": 1}, parts()))
    before = (run.folder / "checkpoint.pt").read_bytes()
    with pytest.raises(DartsError, match=r"epoch 1, step 2: network\.weight is no longer finite"):
        run.state.save(state({"epoch": 0, "step": 2}, parts(bad)))
    assert (run.folder / "checkpoint.pt").read_bytes() == before


def test_a_bad_step_is_noticed_before_a_save(tmp_path):
    """Also where every tensor of the state is still finite, as after a gradient that was clipped to nothing."""
    run = started(tmp_path / "run")
    run.state.save(state({"epoch": 0, "step": 1}, parts()))
    before = (run.folder / "checkpoint.pt").read_bytes()
    run.state.watch.note(0, 1, torch.tensor(1.0), torch.tensor(float("inf")))
    with pytest.raises(
        DartsError, match=r"epoch 1, step 2: the gradient of the weights is .*good checkpoint is of epoch 1, step 1;"
    ):
        run.state.save(state({"epoch": 0, "step": 2}, parts()))
    assert (run.folder / "checkpoint.pt").read_bytes() == before


def test_what_is_saved_is_not_saved_again(tmp_path):
    """So that previous.pt stays the state before, however long an evaluation takes."""
    run = started(tmp_path / "run", checkpoint_minutes=0.0)
    for step in (1, 2, 2, 2):
        run.state.checkpoint(partial(state, {"epoch": 0, "step": step}))
    again = Run(Task("search", "cnn"), SearchCNN(), run.folder)
    again.state.restore(FRESH, **parts())
    again.state.checkpoint(lambda: state({"epoch": 0, "step": 2}))
    (run.folder / "checkpoint.pt").unlink()
    assert Run(Task("search", "cnn"), SearchCNN(), run.folder).state.restore(FRESH, **parts())["step"] == 1


def test_a_checkpoint_inside_an_epoch_waits_its_time(tmp_path):
    patient, eager = started(tmp_path / "patient"), started(tmp_path / "eager", checkpoint_minutes=0.0)
    for run in (patient, eager):
        run.state.checkpoint(lambda: state({"epoch": 0, "step": 1}))
    assert not (patient.folder / "checkpoint.pt").exists()
    assert (eager.folder / "checkpoint.pt").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_ends(tmp_path, number, code):
    run = started(tmp_path / "run")
    before = signal.getsignal(number)
    with run.interruptible():
        os.kill(os.getpid(), number)
        with pytest.raises(DartsError, match="the state is saved; to resume: darts search cnn --run") as error:
            run.state.checkpoint(lambda: state({"epoch": 0, "step": 1}))
        assert signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL)  # a second one does not wait
    assert error.value.exit_code == code
    assert signal.getsignal(number) is before
    assert (run.folder / "checkpoint.pt").exists()


def test_two_runs_in_one_folder(tmp_path):
    run = started(tmp_path / "run")
    (run.folder / ".lock").touch()  # what a killed run leaves locks nothing
    (run.folder / ".holder").write_text("process 1 on another machine\n")
    with run.interruptible():
        holder = f"is in use by process {os.getpid()} on {platform.node()}; wait"
        with pytest.raises(DartsError, match=holder), started(tmp_path / "run").interruptible():
            pytest.fail("two runs held the folder")
    assert not (run.folder / ".lock").exists()
    with started(tmp_path / "run").interruptible():
        pass


def test_runs_that_wait_come_one_after_another(tmp_path, capfd):
    """Also where a holder removes the folder that it made; each waiting run says for whom, once."""
    inside, most, folder = [], [], tmp_path / "new" / "run"

    def hold():
        with locked(folder, wait=True):
            inside.append(None)
            most.append(len(inside))
            time.sleep(0.3)
            inside.pop()

    threads = [threading.Thread(target=hold) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == [1] * 4
    assert capfd.readouterr().err.count(f"{folder}: waiting for ") == 3


@pytest.mark.skipif(sys.platform == "win32", reason="flock is of Unix")
def test_a_file_system_without_locks_keeps_nobody_out(tmp_path, monkeypatch):
    import fcntl

    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path / "run"), locked(tmp_path / "run"):
        pass


@pytest.mark.slow
def test_a_second_command_meets_the_first_at_work(tiny, tmp_path):
    """It is told who is there, and neither reads nor writes anything."""
    args = [*tiny, "--epochs", 20, "--checkpoint-minutes", 0, "--run", tmp_path / "run"]
    first = start(*args)
    while not (tmp_path / "run" / "previous.pt").exists():
        assert first.poll() is None, finish(first)
        time.sleep(0.01)
    for _ in range(3):
        second = darts(*args)
        assert second.exit_code == 1
        assert second.stderr.splitlines()[-1].startswith(f"error: {tmp_path / 'run'}: is in use by process {first.pid} on ")
    first.terminate()
    code, _, err = finish(first)
    assert code == 143
    assert "the state is saved" in err


def test_what_a_mistake_leaves_behind_is_nothing(tmp_path):
    run = Run(Task("search", "cnn"), SearchCNN(), tmp_path / "runs" / "a")
    with contextlib.suppress(DartsError), run.interruptible():
        assert (tmp_path / "runs" / "a" / ".lock").exists()
        raise DartsError("a mistake")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "line",
    ['{"seconds": 1e999}', '{"seconds": -5}', '{"seconds": "1"}', '{"seconds": ' + "9" * 400 + "}", "[" * 5000, "[1]", "3"],
)
def test_a_log_that_somebody_has_written_in(tmp_path, line):
    run = started(tmp_path / "run")
    run.reports.log(epoch=1)
    own = run.reports.seconds()
    with open(run.folder / "log.jsonl", "a") as file:
        file.write(line + "\n")
    assert run.reports.seconds() == own


def test_an_environment_that_is_none(tmp_path):
    run = started(tmp_path / "run")
    path = run.folder / "config.yaml"
    path.write_text(path.read_text().replace("environment:", "environment: hello\nother:"))
    with pytest.raises(DartsError, match="is a run on other data with the same settings"):
        run.start(ENVIRONMENT, DATA)


@pytest.mark.parametrize("name", [".lock", ".config.yaml.tmp", ".checkpoint.pt.tmp"])
def test_nothing_is_written_through_a_link(tmp_path, name):
    (tmp_path / "precious").write_text("mine")
    run = started(tmp_path / "run")
    (run.folder / name).symlink_to(tmp_path / "precious")
    (run.folder / "config.yaml").unlink()
    with contextlib.suppress(DartsError), run.interruptible():
        run.start(ENVIRONMENT, DATA)
        run.state.save(state({"epoch": 0, "step": 1}, parts()))
    assert (tmp_path / "precious").read_text() == "mine"


def test_the_best_of_another_run_is_not_taken(tmp_path):
    run = started(tmp_path / "run")
    run.reports.metrics = [{}] * 9
    run.state.save(state({"epoch": 9, "step": 0}, parts()), "best.pt")
    run.reports.metrics = []
    with pytest.raises(DartsError, match=r"best\.pt: is of another run; delete .*best\.pt to start this run from"):
        run.state.best()
    (run.folder / "best.pt").unlink()
    with pytest.raises(DartsError, match=r"best\.pt: cannot be read"):
        run.state.best()


def test_what_is_given_up_leaves_the_metrics(tmp_path):
    run = started(tmp_path / "run")
    for epoch in (1, 2, 3):
        run.reports.record({"epoch": epoch})
    run.state.go_back(1)
    assert (run.folder / "metrics.jsonl").read_text() == '{"epoch": 1}\n'


def test_the_command_that_repeats_it():
    config = SearchCNN(dataset="folder", data="my images", unrolled=True, alpha_betas=(0.1, 0.2), lr=1e-05, lr_min=0.0)
    words = shlex.split(Run(Task("search", "cnn"), config, "the run").repeat())
    assert words[:3] == ["darts", "search", "cnn"]
    expected = "--dataset folder --unrolled --lr 1e-05 --lr-min 0.0 --alpha-betas 0.1 0.2".split()
    assert words[3:] == [*expected, "--data", "my images"]


def test_the_log_has_times_and_the_metrics_have_none(tmp_path):
    run = started(tmp_path / "run")
    run.reports.log(epoch=1, step=2)
    run.reports.log(epoch=1, step=3)
    entries = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries] == [2, 3]
    assert run.reports.seconds() == pytest.approx(sum(entry["seconds"] for entry in entries))
    with open(run.folder / "log.jsonl", "a") as file:
        file.write('{"time": 1')  # a kill in the middle of a line
    assert run.reports.seconds() == pytest.approx(sum(entry["seconds"] for entry in entries))


def test_a_write_is_whole_or_not_at_all(tmp_path):
    files.write(tmp_path / "a", "old")
    with pytest.raises(DartsError, match="cannot be written"):
        files.write(tmp_path / "a" / "b", "new")
    files.write(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="nothing tells which files a process has open")
def test_a_copy_of_the_process_does_not_keep_the_lock(tmp_path):
    """One that reads images outlives a run that is killed, for a while."""
    context, run = multiprocessing.get_context("fork"), started(tmp_path / "run")
    ours, theirs = context.Pipe()
    with run.interruptible():
        assert str(run.folder / ".lock") in open_files()
        child = context.Process(target=lambda: theirs.send(open_files()))
        child.start()
        assert ours.poll(60)
        assert str(run.folder / ".lock") not in ours.recv()
        child.join()
        with pytest.raises(DartsError, match="is in use by"), locked(run.folder):  # this process has it still
            pass


def open_files():
    found = []
    for each in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the folder itself was one of them
            found.append(os.readlink(f"/proc/self/fd/{each}"))
    return found
