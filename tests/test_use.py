"""Trained networks in use: `darts_cli.load` and `darts predict`."""

import csv
import gzip
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import darts
from PIL import Image

import darts_cli
from darts_cli import DartsError
from darts_cli.cnn.data import load as load_data
from darts_cli.cnn.datasets import imagenet
from darts_cli.use.networks import Preprocess

TINY = ["--epochs", "1", "--layers", "3", "--channels", "4", "--device", "cpu", "--seed", "0"]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A training on digits, and the images of its test part as files, named by position and class."""
    folder = tmp_path_factory.mktemp("digits")
    done = darts("train", "cnn", "--dataset", "digits", *TINY, "--run", folder / "run")
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


def test_predictions_are_those_of_the_evaluation(digits):
    """Of all 359 images, from the files: the same accuracy."""
    done = darts("predict", "--checkpoint", digits / "run", digits / "test", "--csv", "--batch-size", "50")
    assert done.exit_code == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(rows) == 359
    right = sum(Path(row["image"]).stem.endswith(f"_{row['class']}") for row in rows)
    evaluated = json.loads(darts("eval", "--checkpoint", digits / "run", "--json").stdout)
    assert right / 359 == pytest.approx(evaluated["top1"], abs=1e-9)


def test_forms_of_the_answer(digits):
    paths = sorted((digits / "test").glob("*.png"))[:2]
    found = json.loads(darts("predict", "--checkpoint", digits / "run", *paths, "--json").stdout)
    assert [entry["image"] for entry in found] == list(map(str, paths))
    for entry in found:
        assert sum(entry["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert max(entry["probabilities"], key=entry["probabilities"].get) == entry["class"]
    table = darts("predict", "--checkpoint", digits / "run", *paths, "--top", "2").stdout.splitlines()
    assert [line.count("%") for line in table] == [2, 2]
    assert table[0].split()[1] == found[0]["class"]


def test_a_network_from_python(digits):
    """The images of the data set, from memory: bit for bit what the evaluation sees."""
    network = darts_cli.load(digits / "run")
    assert not network.training
    assert network.classes == [str(i) for i in range(10)]
    assert 0 <= network.result["test_accuracy"] <= 1
    assert network.genotype.domain == "cnn"
    part = load_data("digits", None, train=False)
    image = part.images[3]
    expected = (image.double() / 255 - torch.tensor(network.preprocess.mean)) / torch.tensor(network.preprocess.deviation)
    for given in (image.permute(2, 0, 1), Image.fromarray(image.numpy()), sorted((digits / "test").glob("003_*"))[0]):
        found = network.preprocess(given)
        torch.testing.assert_close(found.double(), expected.permute(2, 0, 1), rtol=1e-5, atol=1e-5)
    logits, auxiliary = network(found[None])
    assert (logits.shape, auxiliary) == ((1, 10), None)


def test_a_language_model_from_python(text, tmp_path):
    sizes = "--epochs 1 --batch-size 4 --bptt 5 --dim 8 --seed 0".split()
    done = darts("train", "rnn", "--dataset", "text", "--data", text, *sizes, "--run", tmp_path / "run")
    assert done.exit_code == 0, done.stderr
    network = darts_cli.load(tmp_path / "run")
    assert "<eos>" in network.vocab
    words = torch.zeros(3, 1, dtype=torch.long)
    log_probs, _ = network(words, network.initial(1))
    assert log_probs.shape == (3, 1, len(network.vocab))
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(3, 1))
    done = darts("predict", "--checkpoint", tmp_path / "run", __file__)
    assert (done.exit_code, "holds a language model" in done.stderr) == (2, True)


def test_how_images_are_prepared(tmp_path):
    """Scaled to the training's size; turned upright, but not for ImageNet; deep images by the training's levels; 28 padded."""
    about = {"size": (8, 8), "mean": (0.0, 0.0, 0.0), "deviation": (1.0, 1.0, 1.0)}
    half = np.zeros((16, 16, 3), dtype="uint8")
    half[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right by 90 degrees
    Image.fromarray(half).save(tmp_path / "turned.jpg", quality=100, exif=exif)
    found = Preprocess("folder", **about)(tmp_path / "turned.jpg")
    assert found.shape == (3, 8, 8)
    assert found[:, :, 5:].min() > 0.9 > 0.1 > found[:, :, :3].max()

    Image.fromarray(np.full((8, 8), 4095, dtype="uint16")).save(tmp_path / "deep.png")
    assert Preprocess("folder", **about, levels=(0.0, 65535.0))(tmp_path / "deep.png").unique().tolist() == [
        pytest.approx(round(4095 / 65535 * 255) / 255)
    ]
    padded = Preprocess("fashion-mnist", **about | {"size": (32, 32)})(torch.full((3, 28, 28), 255, dtype=torch.uint8))
    assert (padded.shape, padded.sum().item()) == ((3, 32, 32), 3 * 28 * 28)

    Image.fromarray(half.repeat(20, 0).repeat(30, 1)).save(tmp_path / "wide.jpg", quality=100, exif=exif)
    found = Preprocess("imagenet", (224, 224), imagenet.MEAN, imagenet.DEVIATION)(tmp_path / "wide.jpg")
    assert found.shape == (3, 224, 224)
    assert found[:, :100].min() > found[:, 124:].max()  # not turned


@pytest.mark.parametrize(
    ("given", "message", "code"),
    [
        (["missing.png"], "missing.png: no such file or folder", 1),
        (["notes.txt"], "notes.txt: cannot be read as an image", 1),
        ([".hidden"], "holds no images", 1),
        (["000_4.png", "--json", "--csv"], "choose one of them", 2),
        (["000_4.png", "--top", "0"], "--top", 2),
        ([], "Missing argument", 2),
    ],
)
def test_mistakes(digits, given, message, code, monkeypatch):
    monkeypatch.chdir(digits / "test")
    (digits / "test" / ".hidden" / "no.png").unlink(missing_ok=True)
    done = darts("predict", "--checkpoint", digits / "run", *given)
    assert (done.exit_code, message in done.stderr, done.stdout) == (code, True, ""), done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_search_holds_no_trained_network(tiny, tmp_path):
    assert darts(*tiny, "--run", tmp_path / "a").exit_code == 0
    with pytest.raises(DartsError, match="a trained network is needed"):
        darts_cli.load(tmp_path / "a")
