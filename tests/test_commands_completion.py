"""What the shell completes, asked as the shell asks: the installed command, in a process of its own."""

import os
import shutil
import subprocess
import sys

import pytest

DARTS = shutil.which("darts", path=os.path.dirname(sys.executable))
SEARCH, TRAIN = "runs/search-cnn-digits-seed2-1a2b3c4d", "runs/train-cnn-digits-seed0-5e6f7a8b"
CNN = "asha200 amoebanet bananas darts_v1 darts_v2 nasnet pc_darts_cifar pc_darts_image pdarts".split()

pytestmark = pytest.mark.skipif(DARTS is None, reason="the command darts is not installed beside Python")


@pytest.fixture
def folder(tmp_path):
    for run, names in ((SEARCH, ["genotype.yaml", "checkpoint.pt"]), (TRAIN, ["best.pt"]), ("exps/mine", ["genotype.yaml"])):
        (tmp_path / run).mkdir(parents=True)
        for name in ["config.yaml", *names]:
            (tmp_path / run / name).touch()
    for name in ("my-cell.yaml", "model.pt", "notes.txt"):
        (tmp_path / name).touch()
    return tmp_path


def completed(line, folder, **environment):
    """The (type, value) pairs that Bash gets for a line with the cursor at its end."""
    words = line.split(" ")
    asked = {"_DARTS_COMPLETE": "bash_complete", "COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run([DARTS], env=os.environ | asked | environment, cwd=folder, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return [tuple(row.split(",")) for row in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("darts train cnn --genotype ", [*CNN, "my-cell.yaml", SEARCH]),
        ("darts train cnn --genotype pd", ["pdarts"]),
        ("darts train cnn --genotype PC_", ["PC_DARTS_cifar", "PC_DARTS_image"]),
        ("darts train rnn --arch ", ["darts_v1", "darts_v2", "enas", "my-cell.yaml", SEARCH]),
        ("darts train cnn --genotype ru", [SEARCH]),
        ("darts train cnn --genotype exps/", ["exps/mine"]),
        ("darts train cnn --dataset digits --genotype nas", ["nasnet"]),
        ("darts train cnn --init-from ", ["model.pt", SEARCH, TRAIN]),
        ("darts eval --checkpoint ", ["model.pt", SEARCH, TRAIN]),
        ("darts eval --checkpoint runs/t", [TRAIN]),
        ("darts eval --genotype rnn/e", ["rnn/enas"]),
        ("darts visualize nas", ["nasnet"]),
        ("darts visualize nasnet cnn/d", ["cnn/darts_v1", "cnn/darts_v2"]),
        ("darts visualize r", ["rnn/darts_v1", "rnn/darts_v2", "rnn/enas", SEARCH, TRAIN]),
        ("darts genotype show my", ["my-cell.yaml"]),
        ("darts genotype diff nasnet en", ["enas"]),
        ("darts genotype convert enas --to t", ["tuples"]),
        ("darts search cnn --dataset s", ["svhn"]),
        ("darts search cnn --alpha-b", ["--alpha-betas"]),
        ("darts geno", ["genotype"]),
    ],
)
def test_names_run_folders_and_files(line, expected, folder):
    assert completed(line, folder) == [("plain", value) for value in expected]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("darts eval --checkpoint no", ("file", "no")),
        ("darts genotype validate ", ("file", "")),
        ("darts search cnn --config ", ("file", "")),
        ("darts search cnn --run ", ("dir", "")),
        ("darts train rnn --data te", ("dir", "te")),
    ],
)
def test_the_shell_completes_the_rest(line, expected, folder):
    assert completed(line, folder) == [expected]


def test_completion_does_not_import_torch(folder):
    """A module that raises stands in front of the real one."""
    (folder / "torch.py").write_text("raise SystemExit('imported')")
    path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    for line in ("darts train cnn --genotype pd", "darts eval --checkpoint mo", "darts visualize pd"):
        assert len(completed(line, folder, PYTHONPATH=path)) == 1


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_script_for_the_shell(shell, tmp_path):
    done = subprocess.run([DARTS], env=os.environ | {"_DARTS_COMPLETE": f"{shell}_source"}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "_darts_completion" in done.stdout
