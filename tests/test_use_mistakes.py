"""Mistakes with trained networks: each ends as one line on stderr, nothing on stdout, and an exit status."""

import json
import sys

import pytest
import torch
from conftest import darts
from safetensors import safe_open
from safetensors.torch import save_file

from darts_cli.use.networks import restore


@pytest.fixture(scope="module")
def place(digits, language_run, tiny, tmp_path_factory):
    """A folder with what people confuse: runs of both domains, a search, texts, files that are no checkpoints."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "digits").symlink_to(digits / "run")
    (folder / "language").symlink_to(language_run)
    assert darts(*tiny, "--epochs", "1", "--run", folder / "search").exit_code == 0
    (folder / "image.png").write_bytes((digits / "test" / "000_4.png").read_bytes())
    (folder / "notes.txt").write_text("a b c\n")
    (folder / "texts").mkdir()
    (folder / "texts" / "one.txt").write_text("a b\n")
    (folder / "empty.txt").write_text(" \n\n")
    (folder / "latin.txt").write_bytes("a \xe9\n".encode("latin-1"))
    (folder / "damaged.pt").write_bytes((digits / "run" / "checkpoint.pt").read_bytes()[:-2000])
    (folder / "text.safetensors").write_text("no tensors")
    save_file({"weight": torch.zeros(3)}, folder / "foreign.safetensors")
    (folder / "exists.onnx").write_text("mine")
    (folder / "exists.pt").write_text("mine")
    (folder / "folder.onnx").mkdir()
    trained, _ = restore(language_run)
    original = {"state_dict": trained.network.state_dict()}
    original["state_dict"] = {
        key.replace("cell.W", "rnns.0._W").replace("cell.", "rnns.0."): tensor for key, tensor in original["state_dict"].items()
    }
    torch.save(original, folder / "original.pt")
    return folder


ONNX, SOURCE = "export --format onnx --checkpoint", "export --format source --checkpoint"
MISTAKES = [
    # predict
    ("predict --checkpoint digits missing.png", 1, "missing.png: no such file or folder"),
    ("predict --checkpoint digits notes.txt", 1, "notes.txt: cannot be read as an image"),
    ("predict --checkpoint digits texts", 1, "texts: holds no images"),
    ("predict --checkpoint digits image.png --json --csv", 2, "choose one of them"),
    ("predict --checkpoint digits image.png --top 0", 2, "--top"),
    ("predict --checkpoint digits image.png --device tpu", 2, "--device tpu"),
    ("predict --checkpoint digits", 2, "Missing argument"),
    ("predict image.png", 2, "--checkpoint"),
    ("predict --checkpoint language image.png", 2, "language: holds a language model"),
    ("predict --checkpoint search image.png", 1, "a trained network is needed"),
    ("predict --checkpoint notes.txt image.png", 1, "notes.txt: "),
    ("predict --checkpoint damaged.pt image.png", 1, "damaged.pt: "),
    ("predict --checkpoint missing image.png", 1, "missing: no such file"),
    ("predict --checkpoint texts image.png", 1, "texts: holds no checkpoint"),
    ("predict --checkpoint text.safetensors image.png", 1, "text.safetensors: holds no network of darts export"),
    ("predict --checkpoint foreign.safetensors image.png", 1, "foreign.safetensors: holds no network of darts export"),
    ("predict --checkpoint missing.safetensors image.png", 1, "missing.safetensors: no such file"),
    # generate
    ("generate --checkpoint digits", 2, "digits: holds a network of images; darts generate needs a language model"),
    ("generate --checkpoint original.pt", 1, "original.pt: holds no vocabulary"),
    ("generate --checkpoint language --words 0", 2, "--words"),
    ("generate --checkpoint language --words many", 2, "--words"),
    ("generate --checkpoint language --temperature -1", 2, "--temperature"),
    ("generate --checkpoint language --temperature nan", 2, "--temperature"),
    ("generate --checkpoint language --seed -1", 2, "--seed"),
    ("generate --checkpoint search", 1, "a trained network is needed"),
    ("generate --checkpoint language a b", 2, "unexpected extra arguments"),
    # score
    ("score --checkpoint digits notes.txt", 2, "digits: holds a network of images; darts score needs a language model"),
    ("score --checkpoint original.pt notes.txt", 1, "original.pt: holds no vocabulary"),
    ("score --checkpoint language missing.txt", 1, "missing.txt: cannot be read (No such file or directory)"),
    ("score --checkpoint language texts", 1, "texts: cannot be read (Is a directory)"),
    ("score --checkpoint language empty.txt", 1, "empty.txt: holds no words"),
    ("score --checkpoint language latin.txt", 1, "latin.txt: not UTF-8 text (line 1, byte 3)"),
    ("score --checkpoint language image.png", 1, "image.png: not UTF-8 text"),
    ("score --checkpoint language -", 1, "stdin: holds no words"),
    ("score --checkpoint language", 2, "Missing argument"),
    # export
    ("export --checkpoint digits", 2, "--format"),
    ("export --checkpoint digits --format tflite", 2, "--format"),
    (f"{ONNX} digits --out exists.onnx", 2, "exists.onnx: exists; name another file with --out, or add --overwrite"),
    (f"{SOURCE} digits --out exists.py", 2, "exists.pt: exists"),
    (f"{ONNX} digits --out folder.onnx", 2, "--out folder.onnx: is a folder"),
    (f"{ONNX} digits --out folder.onnx --overwrite", 2, "--out folder.onnx: is a folder"),
    (f"{ONNX} digits --out new.pt", 2, "--out new.pt: a file of --format onnx must end in .onnx"),
    (f"{ONNX} digits --out nowhere/new.onnx", 2, "--out nowhere/new.onnx: there is no folder nowhere"),
    (f"{SOURCE} digits --out my-net.py", 2, "Python cannot import a file of this name"),
    (f"{SOURCE} digits --out class.py", 2, "Python cannot import a file of this name"),
    (f"{SOURCE} damaged.pt --out damaged.py --overwrite", 1, "damaged.pt: "),
    (f"{SOURCE} original.pt --out original.py --overwrite", 2, "original.pt: is the checkpoint itself"),
    (f"{ONNX} language --with-preprocessing", 2, "language holds a language model"),
    ("export --format safetensors --checkpoint digits --with-preprocessing", 2, "holds weights and no computation"),
    (f"{ONNX} search", 1, "a trained network is needed"),
    (f"{ONNX} missing.pt", 1, "missing.pt: no such file"),
]


@pytest.mark.parametrize(("line", "code", "message"), MISTAKES, ids=[line for line, *_ in MISTAKES])
def test_mistakes(place, monkeypatch, line, code, message):
    monkeypatch.chdir(place)
    before = {path: path.read_bytes() for path in place.iterdir() if path.is_file()}
    done = darts(*line.split())
    assert (done.exit_code, done.stdout) == (code, ""), done.stderr
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert {path: path.read_bytes() for path in place.iterdir() if path.is_file()} == before


@pytest.mark.parametrize(
    ("line", "absent", "message"),
    [
        ("--format onnx", "onnxruntime", "not installed: onnxruntime; run pip install onnx onnxruntime onnxscript, or"),
        ("--format onnx", "onnxscript", "or in a checkout pip install '.[onnx]'"),
        (
            "--format safetensors",
            "safetensors",
            "not installed: safetensors; run pip install safetensors, or in",
        ),
    ],
)
def test_a_missing_extra(place, monkeypatch, line, absent, message):
    monkeypatch.chdir(place)
    monkeypatch.setitem(sys.modules, absent, None)
    done = darts("export", "--checkpoint", "digits", *line.split())
    assert (done.exit_code, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert message in done.stderr


def test_an_exporter_that_fails(place, monkeypatch):
    """As that of PyTorch 2.6 does with a much newer onnxscript."""

    def fails(*args, **kwargs):
        raise torch.onnx.OnnxExporterError("Failed to convert\nthe exported program")

    monkeypatch.chdir(place)
    monkeypatch.setattr(torch.onnx, "export", fails)
    done = darts("export", "--checkpoint", "digits", "--format", "onnx")
    assert (done.exit_code, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert "do not work together" in done.stderr


def test_safetensors_read_without_the_package(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    done = darts("predict", "--checkpoint", place / "foreign.safetensors", place / "image.png")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.endswith("a safetensors file needs the package safetensors: pip install safetensors\n")


def test_overwrite_replaces_what_exists(place, monkeypatch, tmp_path):
    monkeypatch.chdir(place)
    out = tmp_path / "a.safetensors"
    out.write_text("mine")
    done = darts("export", "--checkpoint", "digits", "--format", "safetensors", "--out", out, "--overwrite")
    assert done.exit_code == 0, done.stderr
    assert darts("predict", "--checkpoint", out, "image.png").exit_code == 0


@pytest.mark.parametrize(
    "change",
    [
        {"layers": 10**9},
        {"layers": 4},
        {"channels": "many"},
        {"channels": 10**30},
        {"classes": ["a", "b"]},
        {"classes": 7},
        {"mean": [1.0]},
        {"size": [8, 10**9]},
        {"genotype": {"domain": "cnn"}},
        {"genotype": None},
        {"domain": "rnn"},
        {"stem": "large"},
        {"dataset": ["digits"]},
    ],
    ids=str,
)
def test_metadata_that_do_not_fit_the_tensors(place, tmp_path, monkeypatch, change):
    monkeypatch.chdir(place)
    good = tmp_path / "good.safetensors"
    darts("export", "--checkpoint", "digits", "--format", "safetensors", "--out", good)
    with safe_open(good, "pt") as file:
        metadata, state = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no dict)
    save_file(state, tmp_path / "bad.safetensors", metadata | {key: json.dumps(value) for key, value in change.items()})
    done = darts("predict", "--checkpoint", tmp_path / "bad.safetensors", "image.png")
    assert (done.exit_code, done.stdout, len(done.stderr.splitlines())) == (1, "", 1), done.stderr
    assert "holds no network of darts export" in done.stderr
