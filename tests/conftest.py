"""What the tests share: a small image folder, and the command run for real."""

import contextlib
import gzip
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import sessions
import torch
from click.testing import CliRunner
from PIL import Image

import darts_cli
from darts_cli.cli import main
from darts_cli.plans import measure
from darts_cli.sweeps.engines import engine

SMALL = ["--epochs", "1", "--layers", "3", "--channels", "4", "--device", "cpu", "--seed", "0"]
TINY = ["--dataset", "folder", "--epochs", "2", "--layers", "3", "--channels", "2", "--batch-size", "8", "--seed", "0"]


SLOWEST = (
    "test_runtime_distributed",
    "test_faults",
    "test_sweeps_engines",
    "test_sweeps_selection",
    "test_hostile",
    "test_use_export",
)


def pytest_collection_modifyitems(items):
    """Run the slowest files first, so that no process is left alone with one of them at the end."""
    items.sort(key=lambda item: SLOWEST.index(item.path.stem) if item.path.stem in SLOWEST else len(SLOWEST))


@pytest.fixture(scope="session", autouse=True)
def forked_workers():
    """Workers of sweeps and plans that tests start in their own process need not load PyTorch again; those of `start` do."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (engine, measure):
            patch.setattr(module, "process_of", sessions.Worker)
        yield


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """48 noisy images of 8x8 pixels in two classes: three steps an epoch at batch size 8."""
    root = tmp_path_factory.mktemp("images")
    g = torch.Generator().manual_seed(0)
    for i in range(48):
        pixels = torch.randint(0, 128, (8, 8, 3), generator=g, dtype=torch.uint8) + 127 * (i % 2)
        path = root / ("dark", "light")[i % 2] / f"{i:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels.numpy()).save(path)
    return root


@pytest.fixture(scope="session")
def tiny(images):
    """Arguments of a search that takes seconds."""
    return ["search", "cnn", *TINY, "--nodes", "2", "--data", str(images)]


@pytest.fixture(scope="session")
def parts(tmp_path_factory):
    """48 noisy images of 8x8 pixels in two classes to train on, 10 to test on."""
    root = tmp_path_factory.mktemp("parts")
    g = torch.Generator().manual_seed(1)
    for i in range(58):
        pixels = torch.randint(0, 128, (8, 8, 3), generator=g, dtype=torch.uint8) + 127 * (i % 2)
        path = root / ("train" if i < 48 else "test") / ("dark", "light")[i % 2] / f"{i:02}.png"
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(pixels.numpy()).save(path)
    return root


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """ImageNet in small: photographs of two classes, of many sizes, below train and val."""
    root = tmp_path_factory.mktemp("photos")
    g = torch.Generator().manual_seed(2)
    for i in range(18):
        height, width = 40 + 5 * i, 90 - 3 * i
        pixels = torch.randint(0, 128, (height, width, 3), generator=g, dtype=torch.uint8) + 127 * (i % 2)
        path = root / ("train" if i < 12 else "val") / ("dark", "light")[i % 2] / f"{i:02}.jpg"
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(pixels.numpy()).convert("L" if i == 3 else "RGB").save(path)
    return root


@pytest.fixture(scope="session")
def text(tmp_path_factory):
    """A small text of three words that follow each other, mostly."""
    folder = tmp_path_factory.mktemp("text")
    g = torch.Generator().manual_seed(0)
    for part, lines in (("train", 60), ("valid", 20), ("test", 20)):
        rows = [" ".join("abc"[(i + int(torch.rand((), generator=g) < 0.1)) % 3] for i in range(5)) for _ in range(lines)]
        (folder / f"{part}.txt").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """A training on digits, and the images of its test part as files, named by position and class."""
    folder = tmp_path_factory.mktemp("digits")
    done = darts("train", "cnn", "--dataset", "digits", *SMALL, "--run", folder / "run")
    assert done.exit_code == 0, done.stderr
    (folder / "test" / ".hidden").mkdir(parents=True)
    with gzip.open(Path(darts_cli.__file__).parent / "cnn" / "datasets" / "digits.csv.gz", "rt") as file:
        rows = [[int(value) for value in line.split(",")] for line in file][4::5]
    for i, row in enumerate(rows):
        pixels = (np.array(row[:64]).reshape(8, 8) * 255 / 16).round().astype("uint8")
        Image.fromarray(pixels).save(folder / "test" / f"{i:03}_{row[64]}.png")
    (folder / "test" / ".hidden" / "no.png").write_text("no image")
    (folder / "test" / "notes.txt").write_text("no image")
    return folder


@pytest.fixture(scope="session")
def colours(parts, tmp_path_factory):
    """A training on a folder of colour images."""
    run = tmp_path_factory.mktemp("colours") / "run"
    done = darts("train", "cnn", "--dataset", "folder", "--data", parts, *SMALL, "--batch-size", "8", "--run", run)
    assert done.exit_code == 0, done.stderr
    return run


@pytest.fixture(scope="session")
def language_run(text, tmp_path_factory):
    """A training on the small text."""
    run = tmp_path_factory.mktemp("language") / "run"
    sizes = "--epochs 1 --batch-size 4 --bptt 5 --dim 8 --seed 0".split()
    done = darts("train", "rnn", "--dataset", "text", "--data", text, *sizes, "--run", run)
    assert done.exit_code == 0, done.stderr
    return run


def darts(*args, stdin=None):
    """The command in this process: a click.testing.Result with exit_code, stdout and stderr."""
    result = CliRunner().invoke(main, [str(arg) for arg in args], input=stdin, prog_name="darts")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def start(*args, **options):
    """The command in a process of its own, its output in pipes."""
    command = [sys.executable, "-m", "darts_cli", *(str(arg) for arg in args)]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, encoding="utf-8", **options
    )


def finish(process):
    """Wait for a process of `start`; returns its exit code, stdout and stderr."""
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def on_terminal(*args, **environment):
    """The command with its stderr on a terminal; returns its exit code, stdout and what the terminal was sent."""
    import pty

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "darts_cli", *(str(arg) for arg in args)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=os.environ | environment)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # raised when the process has closed its side
        while chunk := os.read(ours, 4096):
            shown += chunk
    os.close(ours)
    out, _ = process.communicate(timeout=60)
    return process.returncode, out.decode(), shown.decode()


def leaves(state, name=""):
    """Every tensor and number of a checkpoint, by name."""
    if isinstance(state, dict):
        return {key: leaf for k, value in state.items() for key, leaf in leaves(value, f"{name}/{k}").items()}
    if isinstance(state, list | tuple):
        return leaves(dict(enumerate(state)), name)
    return {name: state}


def assert_same_run(one, other):
    """Equal bits in every file that a result is read from."""
    names = {path.name for path in one.iterdir()} & {"checkpoint.pt", "best.pt", "metrics.jsonl", "genotype.yaml"}
    for name in sorted(names):
        if name.endswith(".pt"):  # tensor by tensor first, to name what differs
            a, b = (leaves(torch.load(folder / name, weights_only=True)) for folder in (one, other))
            assert list(a) == list(b)
            for key, leaf in a.items():
                assert torch.equal(leaf, b[key]) if isinstance(leaf, torch.Tensor) else leaf == b[key], key
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def kill_after(process, folder, count, delay=0.0):
    """SIGKILL once the process has replaced checkpoint.pt `count` times, and a delay more; returns the (epoch, step) saved."""
    path = folder / "checkpoint.pt"

    def version():
        with contextlib.suppress(FileNotFoundError):  # for a moment, while the one before is put aside
            return path.stat().st_ino, path.stat().st_mtime_ns
        return last

    last, written = None, 0
    last = version()
    while written < count and process.poll() is None:
        if version() != last:
            last, written = version(), written + 1
        time.sleep(0.001)
    time.sleep(delay)
    process.kill()
    code, _, err = finish(process)
    assert code == -signal.SIGKILL, err
    state = torch.load(path if path.exists() else folder / "previous.pt", weights_only=True)
    return state["epoch"], state["step"]


def crash_and_resume(command, folder, saves):
    """Kill the command just after it has saved its state for that time, and let it go on to its end in this process."""
    args, output = [*command, "--run", folder], folder.with_suffix(".txt")
    code = sessions.run([*args, "--checkpoint-minutes", "0"], output, crash_at=f"checkpoint.pt renamed {saves}")
    assert code == -signal.SIGKILL, output.read_text()
    done = darts(*args)
    assert done.exit_code == 0, done.stderr
    assert "resuming after" in done.stderr


def unigram(corpus, ids):
    """Perplexity of a text for the counts of the training text, each plus one."""
    counts = torch.bincount(corpus.train, minlength=len(corpus.vocab)).double() + 1
    return math.exp(-(counts / counts.sum())[ids].log().mean())
