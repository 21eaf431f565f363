"""Data that is given in another way than the program expects, and searches that chose nothing."""

import itertools
import pickle

import pytest
import torch
from conftest import TINY, darts
from PIL import Image
from torchvision import datasets

from darts_cli import DartsError
from darts_cli.cnn import data
from darts_cli.methods.derive import undecided


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "fashion-mnist", "svhn"])
@pytest.mark.parametrize("with_parts", [False, True])
def test_a_forgotten_dataset_option_is_said(name, with_parts, images, parts):
    root = parts if with_parts else images
    if name == "svhn":
        pytest.importorskip("scipy")
    with pytest.raises(DartsError, match="holds folders of images, not .*; add --dataset folder"):
        data.load(name, str(root))


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("train", [False, True])
def test_the_folder_of_cifar_itself_is_understood(tmp_path, monkeypatch, inside, train):
    """torchvision's own reader, on files in its format; only their checksums are not those of the published ones."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        rows = torch.full((4, 3072), 9, dtype=torch.uint8).numpy()
        (folder / name).write_bytes(pickle.dumps({"data": rows, "labels": [0, 1, 2, 3]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [str(i) for i in range(10)]}))
    monkeypatch.setattr(datasets.CIFAR10, "_check_integrity", lambda _: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    found = data.load("cifar10", str(folder if inside else tmp_path), train=train)
    assert found.images.shape == (20 if train else 4, 32, 32, 3)


def test_a_file_that_exists_is_not_called_missing(tmp_path):
    (tmp_path / "photo.png").write_bytes(b"x")
    with pytest.raises(DartsError, match=r"photo\.png: is not a folder of images \(it is a file\)"):
        data.load("folder", str(tmp_path / "photo.png"))
    (tmp_path / "model.safetensors").mkdir()
    result = darts("predict", "--checkpoint", tmp_path / "model.safetensors", tmp_path / "photo.png")
    assert "model.safetensors: not a regular file" in result.stderr


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ([1 / 8] * 8, 2.079),
        ([0.126, 0.124, *[1 / 8] * 6], 2.079),
        ([0.15, 0.1, *[1 / 8] * 6], None),
        ([0.2] * 5, 1.609),
        ([1.0, 0.0], None),
        ([0.3, 0.3], 0.693),  # of sigmoids
    ],
)
def test_what_is_undecided(row, found):
    assert undecided({"normal": [row, row], "reduce": [row]}) == found


def test_a_search_that_decided_nothing_says_so(images, tmp_path):
    args = ["search", "cnn", *TINY, "--nodes", 2, "--data", images]
    result = darts(*args, "--run", tmp_path / "one")
    assert "warning: the search has decided nothing: the entropy of its operation weights, 2.079, is that" in result.stderr
    result = darts(*args, "--alpha-lr", 0.5, "--run", tmp_path / "two")
    assert "decided nothing" not in result.stderr


def test_a_folder_without_parts_is_searched_and_trained(images, tmp_path):
    """As the search says in the end: by the run folder alone."""
    assert darts("search", "cnn", *TINY, "--data", images, "--run", tmp_path / "search").exit_code == 0
    small = ["--layers", 3, "--channels", 4, "--epochs", 1, "--batch-size", 8, "--no-auxiliary"]
    result = darts("train", "cnn", "--genotype", tmp_path / "search", *small, "--run", tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    assert "test part: a fifth of each class was set aside for testing, as the folder has no test part" in result.stderr
    assert "train part: 38 images of 2 classes (dark 19, light 19)" in result.stderr
    assert "test part: 10 images of 2 classes (dark 5, light 5)" in result.stderr
    found = darts("eval", "--checkpoint", tmp_path / "run").stdout
    assert "images      10" in found
    assert "a fifth of each class was set aside" in found


def test_parts_inside_the_classes_are_said_to_be_read_together(tmp_path):
    for name, part, level in itertools.product(("dark", "light"), ("train", "test"), range(4)):
        path = tmp_path / name / part / f"{level}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (level * 20 + 150 * (name == "light"),) * 3).save(path)
    said = darts("data", "check", tmp_path).stderr
    assert "dark, light have parts within, such as train and test: they are read together" in " ".join(said.split())
