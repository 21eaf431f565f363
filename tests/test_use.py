"""Trained networks in use: `darts_cli.load` and `darts predict`."""

import csv
import io
import json
import re
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
from darts_cli.runs.history import read
from darts_cli.use.images import Preprocess


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


def test_what_is_no_image_is_named_and_the_others_are_classified(digits, tmp_path):
    paths = sorted((digits / "test").glob("*.png"))[:3]
    (tmp_path / "broken.png").write_bytes(b"x")
    usual = darts("predict", "--checkpoint", digits / "run", *paths)
    some = darts("predict", "--checkpoint", digits / "run", paths[0], tmp_path / "broken.png", *paths[1:], "--batch-size", 2)
    assert (some.exit_code, some.stdout) == (1, usual.stdout)
    assert some.stderr.startswith(f"error: {tmp_path / 'broken.png'}: cannot be read as an image")
    none = darts("predict", "--checkpoint", digits / "run", tmp_path)
    assert (none.exit_code, none.stdout, none.stderr) == (1, "", some.stderr)


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


def test_a_language_model_from_python(language_run):
    network = darts_cli.load(language_run)
    assert "<eos>" in network.vocab
    assert network.result["test_perplexity"] == read(language_run).records[-1]["test_perplexity"]  # measured after best.pt
    words = torch.zeros(3, 1, dtype=torch.long)
    log_probs, _ = network(words, network.initial(1))
    assert log_probs.shape == (3, 1, len(network.vocab))
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(3, 1))


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


def test_a_search_holds_no_trained_network(tiny, tmp_path):
    assert darts(*tiny, "--run", tmp_path / "a").exit_code == 0
    with pytest.raises(DartsError, match="a trained network is needed"):
        darts_cli.load(tmp_path / "a")


# ---- new networks


@pytest.mark.parametrize(
    ("genotype", "arguments", "kind"),
    [
        ("cnn/darts_v2", {"num_classes": 7, "channels": 4, "layers": 3}, "darts_cli.cnn.model"),
        ("nasnet", {"channels": 4, "layers": 3, "stem": "imagenet", "num_classes": 5}, "darts_cli.cnn.model"),
        ("darts_v1", {"vocab": 11, "dim": 8, "init_op": "relu"}, "darts_cli.rnn.model"),
        ("rnn/enas", {"vocab": 11, "dim": 8}, "darts_cli.rnn.model"),
    ],
)
def test_a_new_network(genotype, arguments, kind):
    network = darts_cli.create_model(genotype, **arguments)
    assert (type(network).__module__, network.training) == (kind, True)
    if "vocab" in arguments:
        log_probs, _ = network(torch.zeros(2, 3, dtype=torch.long), network.initial(3))
        assert log_probs.shape == (2, 3, 11)
    else:
        side = 64 if arguments.get("stem") == "imagenet" else 8
        assert network(torch.zeros(2, 3, side, side))[0].shape == (2, arguments["num_classes"])
    again = darts_cli.create_model(network.genotype, **arguments)  # a value in place of the name
    assert [p.shape for p in again.parameters()] == [p.shape for p in network.parameters()]


def test_a_new_network_of_a_file_and_of_other_cells(tmp_path):
    random_cells = darts("genotype", "random", "cnn", "--space", "nas-bench-201", "--seed", "1")
    (tmp_path / "cells.yaml").write_text(random_cells.stdout)
    network = darts_cli.create_model(tmp_path / "cells.yaml", channels=4, layers=1)
    assert network(torch.zeros(2, 3, 8, 8))[0].shape == (2, 10)


@pytest.mark.parametrize(
    ("genotype", "arguments", "error", "message"),
    [
        ("darts_v2", {"num_classes": 3}, DartsError, "cnn/darts_v2 or rnn/darts_v2"),
        ("darts_v3", {}, DartsError, "no genotype of this name"),
        ("cnn/darts_v2", {"vocab": 3}, DartsError, "its domain is cnn"),
        ("rnn/darts_v2", {}, TypeError, "vocab"),
        ("cnn/darts_v2", {"classes": 3}, TypeError, "classes"),
        ("cnn/darts_v2", {"stem": "large"}, DartsError, "stem"),
    ],
)
def test_mistakes_with_new_networks(genotype, arguments, error, message):
    with pytest.raises(error, match=message):
        darts_cli.create_model(genotype, **arguments)


def test_the_example_of_the_page_runs():
    page = (Path(__file__).parent.parent / "docs" / "python.md").read_text(encoding="utf-8")
    (example,) = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "create_model" in block]
    exec(compile(example, "docs/python.md", "exec"), {})
