"""The command in surroundings that are not like home."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import darts, finish, on_terminal, start

ROOT = Path(__file__).parent.parent
FOLDER = "ein Lauf, Ωμέγα"  # with blanks, and letters that Latin-1 lacks


def bare(**changes):
    """This environment, with variables changed or, where None, left out."""
    merged = os.environ | {"PYTHONUNBUFFERED": "1"} | changes
    return {name: value for name, value in merged.items() if value is not None}


def command(*args, **options):
    return subprocess.run(
        [sys.executable, "-m", "darts_cli", *map(str, args)], capture_output=True, stdin=subprocess.DEVNULL, **options
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"HOME": None, "XDG_CACHE_HOME": None, "USER": None, "LOGNAME": None, "TERM": None, "COLUMNS": "20"}
        | {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
        {"HOME": "/nonexistent", "XDG_CACHE_HOME": "/dev/null", "TMPDIR": None, "TERM": "dumb", "COLUMNS": "300"}
        | {"PYTHONIOENCODING": "latin-1"},
    ],
    ids=lambda changes: " ".join(f"{name}={value}" for name, value in changes.items()),
)
def test_a_search_and_a_drawing_anywhere(tiny, tmp_path, changes):
    """Without a terminal, in a folder whose name has blanks and foreign letters; the next command accepts that folder."""
    run = tmp_path / FOLDER
    done = command(*tiny, "--epochs", 1, "--run", run, env=bare(**changes))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"domain: cnn\n")
    assert b"\x1b" not in done.stderr
    assert sorted(path.name for path in run.glob("*.yaml")) == ["config.yaml", "genotype.yaml"]
    drawn = command(
        "visualize", run, "--what", "cells", "--format", "dot", "--output", tmp_path / "Zeichnung é", env=bare(**changes)
    )
    assert drawn.returncode == 0, drawn.stderr
    assert len(drawn.stdout.splitlines()) == 2
    listed = command("genotype", "list", env=bare(**changes))
    assert listed.returncode == 0, listed.stderr
    assert len(listed.stdout.splitlines()) == 13


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such terminals")
@pytest.mark.parametrize("width", ["20", "300"])
def test_narrow_and_wide_terminals(tiny, tmp_path, width):
    code, out, shown = on_terminal(*tiny, "--epochs", 1, "--log-every", 1, "--run", tmp_path / "run", COLUMNS=width, LINES="40")
    assert code == 0, shown
    assert out.startswith("domain: cnn\n")
    assert "Traceback" not in shown
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    shown = [line for line in re.split(r"[\r\n]+", plain) if not line.startswith(("in ", "warning: "))]  # unwrapped, at the end
    assert max(map(len, shown)) <= int(width)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such terminals")
def test_no_colours_where_none_are_wanted(tiny, tmp_path):
    args = [*tiny, "--epochs", 1, "--log-every", 1, "--run"]
    colours = re.compile(r"\x1b\[[0-9;]*(3[0-7]|9[0-7]|4[0-7])m|\x1b\[[34]8;")
    _, _, shown = on_terminal(*args, tmp_path / "run", TERM="xterm-256color", COLUMNS="100", LINES="40")
    assert colours.search(shown)
    code, _, shown = on_terminal(*args, tmp_path / "other", TERM="xterm-256color", COLUMNS="100", LINES="40", NO_COLOR="1")
    assert code == 0
    assert not colours.search(shown)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such terminals")
def test_a_dumb_terminal_gets_plain_lines(tiny, tmp_path):
    code, _, shown = on_terminal(*tiny, "--epochs", 1, "--log-every", 1, "--run", tmp_path / "run", TERM="dumb")
    assert code == 0
    assert "\x1b" not in shown
    assert "epoch 1/1  step 3/3" in shown


@pytest.mark.skipif(shutil.which("head") is None, reason="there is no head")
@pytest.mark.parametrize(
    "args", ["genotype list", "genotype show nasnet", "visualize nasnet --format text", "search cnn --help"]
)
def test_output_into_head(args):
    line = f"{sys.executable} -m darts_cli {args} | head -n 1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


@pytest.mark.slow
def test_a_reader_of_the_progress_that_leaves(tiny, tmp_path):
    """The run goes on to its end."""
    process = start(*tiny, "--epochs", 1, "--run", tmp_path / "run")
    process.stderr.readline()
    process.stderr.close()
    assert process.stdout.read().startswith("domain: cnn\n")
    process.stdout.close()
    assert process.wait(120) == 0
    assert (tmp_path / "run" / "report.md").exists()


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no disk that is always full")
@pytest.mark.parametrize("end", ["2>/dev/full", "2>&-"])
def test_progress_that_cannot_be_written(tiny, tmp_path, end):
    """What is said is lost, and nothing else; stdout has the result only."""
    line = f"{sys.executable} -m darts_cli {' '.join(map(str, tiny))} --epochs 1 --run {tmp_path / 'run'} {end}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout == (tmp_path / "run" / "genotype.yaml").read_text()
    assert (tmp_path / "run" / "report.md").exists()
    wrong = subprocess.run(["bash", "-c", f"{line.replace('--epochs 1', '--epochs 0')}"], capture_output=True, text=True)
    assert (wrong.returncode, wrong.stdout) == (2, "")


@pytest.mark.slow
@pytest.mark.parametrize("term", ["xterm", "dumb"])
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such terminals")
def test_a_terminal_that_is_gone(tiny, tmp_path, term):
    """Closed in the first epoch; without a signal, as of a process that was started in a session of its own."""
    import pty

    ours, theirs = pty.openpty()
    args = [
        sys.executable,
        "-m",
        "darts_cli",
        *map(str, tiny),
        "--epochs",
        "2",
        "--log-every",
        "1",
        "--run",
        str(tmp_path / "run"),
    ]
    process = subprocess.Popen(
        args, stdout=subprocess.PIPE, stderr=theirs, stdin=subprocess.DEVNULL, env=bare(TERM=term), start_new_session=True
    )
    os.close(theirs)
    os.read(ours, 1)
    os.close(ours)
    out, _ = process.communicate(timeout=120)
    assert (process.returncode, out.decode()) == (0, (tmp_path / "run" / "genotype.yaml").read_text())


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no such signal")
def test_a_terminal_that_is_closed_lets_the_run_save(tiny, tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup may have started the tests, and ignored signals are inherited
    process = start(*tiny, "--epochs", 500, "--log-every", 1, "--run", tmp_path / "run")
    signal.signal(signal.SIGHUP, before)
    while "step" not in process.stderr.readline():
        assert process.poll() is None
    for _ in range(2):  # as a shell and the system may do, one after the other
        process.send_signal(signal.SIGHUP)
        time.sleep(0.01)
    code, _, err = finish(process)
    assert code == 128 + signal.SIGHUP
    assert "stopped by SIGHUP; the state is saved; to resume: " in err
    assert (tmp_path / "run" / "checkpoint.pt").exists()


@pytest.mark.slow
def test_what_lies_in_the_folder_is_no_module(tiny, tmp_path):
    """Sub-runs are processes of their own, and Python looks for modules where it is started."""
    for name in ("queue", "torch", "darts_cli"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('executed')")
    darts = shutil.which("darts", path=os.path.dirname(sys.executable))
    args = [darts, *map(str, tiny), "--epochs", "1", "--seeds", "1", "--select-epochs", "0", "--run", "run"]
    done = subprocess.run(args, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "executed" not in done.stderr


def runs(python):
    return shutil.which(python) and subprocess.run([python, "-c", ""], capture_output=True).returncode == 0


OTHERS = [name for name in ("python3.10", "python3.11", "python3.12", "python3.13") if runs(name)]


@pytest.mark.parametrize("python", OTHERS)
def test_every_python_there_is_reads_the_sources(python, tmp_path):
    shutil.copytree(ROOT / "darts_cli", tmp_path / "darts_cli", ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run([python, "-W", "error", "-m", "compileall", "-q", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# ---- memory


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
@pytest.mark.parametrize("more", [["search", "cnn"], ["train", "cnn", "--no-auxiliary"]], ids=" ".join)
def test_too_little_memory_is_one_line(more, tmp_path):
    """Six gigabytes of addresses, of which PyTorch takes some before it begins."""
    limited = f"ulimit -v 6000000; exec {sys.executable} -m darts_cli"
    args = [*more, "--dataset", "digits", "--channels", "4096", "--layers", "20", "--batch-size", "512", "--run", str(tmp_path)]
    done = subprocess.run(["bash", "-c", f"{limited} {' '.join(args)}"], capture_output=True, text=True)
    error = done.stderr.splitlines()[-1]
    assert done.returncode == 1, done.stderr
    assert error.startswith("error: out of memory"), error
    assert all(name in error for name in ("--batch-size", "--recompute", "--precision")), error
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_too_little_memory_for_repeats_is_a_line_for_each(tmp_path):
    limited = f"ulimit -v 6000000; exec {sys.executable} -m darts_cli"
    args = f"train cnn --no-auxiliary --dataset digits --channels 65536 --batch-size 512 --repeats 2 --run {tmp_path}/run"
    done = subprocess.run(["bash", "-c", f"{limited} {args}"], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    for name in ("seed-0", "seed-1"):
        assert re.search(rf"^{name} failed: out of memory.*--batch-size", done.stderr, re.MULTILINE), done.stderr


def test_out_of_memory_on_a_gpu_is_told_by_its_class():
    from darts_cli.text import out_of_memory

    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79 GiB")
    assert out_of_memory(error).startswith("out of memory when allocating 2.50 GiB; --fit-memory auto")
    assert out_of_memory(MemoryError())
    for text in (
        "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 B",
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "MPS backend out of memory (MPS allocated: 8.74 GB)",
        "std::bad_alloc",
        "could not create a memory object",
    ):
        assert out_of_memory(RuntimeError(text))
    assert out_of_memory(RuntimeError("shapes cannot be multiplied")) is None


@pytest.mark.parametrize(
    "broken",
    [
        "raise RuntimeError('operator torchvision::nms does not exist')",
        "raise ImportError('libcudart.so.12: cannot open')",
        "raise OSError('libc10.so: undefined symbol')",
        "import nothing_of_this_name",
    ],
)
@pytest.mark.parametrize("dataset", ["cifar10", "folder"])
def test_a_torchvision_that_does_not_fit_torch_is_said(broken, dataset, images, tmp_path, monkeypatch):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(broken)
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    done = darts("search", "cnn", "--dataset", dataset, "--data", images, "--run", tmp_path / "run")
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("error: torchvision cannot be loaded (")
    assert done.stderr.endswith("; reinstall versions that fit each other: pip install -U torch torchvision\n")
