"""Data sets of people's own that can be learned only if nothing about them is silently wrong."""

import json
import shutil
import tempfile
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import darts
from PIL import Image

from darts_cli.cnn.datasets import folder

pytestmark = pytest.mark.slow


def grey(rng, k):
    """Bright or dark by a fifth of the range: stored with 16 bits, and once read as 8 bits all white."""
    return Image.fromarray((rng.uniform(0.2, 0.5, (8, 8)) * 65535 + 13107 * k).astype(np.uint16))


def ink(rng, k):
    """A stroke on transparent ground, horizontal or vertical: once all black."""
    pixels = np.zeros((8, 8, 4), np.uint8)
    at = rng.integers(1, 6)
    pixels[(slice(at, at + 2), slice(None)) if k else (slice(None), slice(at, at + 2))] = 0, 0, 0, 255
    return Image.fromarray(pixels)


def left_or_right(rng, k):
    """Each class is the mirror image of the other."""
    pixels = rng.integers(0, 60, (8, 8, 3), dtype=np.uint8)
    pixels[:, slice(5, 7) if k else slice(1, 3)] += 150
    return Image.fromarray(pixels)


def turned(rng, k):
    """Light above or below. Half of the photographs are stored upside down, and their EXIF orientation says so."""
    pixels = rng.integers(0, 60, (8, 8, 3), dtype=np.uint8)
    pixels[slice(5, 7) if k else slice(1, 3)] += 150
    image = Image.fromarray(pixels)
    if rng.random() < 0.5:
        exif = Image.Exif()
        exif[0x0112] = 3
        image = image.transpose(Image.Transpose.ROTATE_180)
        image.info["exif"] = exif.tobytes()
    return image


def stripes(rng, k):
    """Horizontal or vertical, one pixel wide: grey all over where they are scaled to half their size."""
    pixels, first = np.zeros((16, 16), np.uint8), rng.integers(2)
    pixels[(slice(first, None, 2), slice(None)) if k else (slice(None), slice(first, None, 2))] = 255
    return Image.fromarray(pixels)


def accuracy(tmp_path, make, *options, size=None):
    """Of a short training, on the test part, where the parts have names as people give them."""
    rng = np.random.default_rng(0)
    for part, count in (("Training", 60), ("Testing", 30)):
        for k, name in enumerate(("a", "b")):
            (tmp_path / "data" / part / name).mkdir(parents=True)
            for i in range(count):
                image = make(rng, k)
                image.save(tmp_path / "data" / part / name / f"{i}.png", exif=image.info.get("exif", b""))
    if size is not None:
        Image.new("RGB", size).save(tmp_path / "data" / "Training" / "a" / "!.png")  # before all others
    size = ["--layers", 3, "--channels", 4, "--epochs", 6, "--batch-size", 16, "--no-auxiliary", "--quiet"]
    trained = darts(
        "train", "cnn", "--dataset", "folder", "--data", tmp_path / "data", *size, *options, "--run", tmp_path / "run"
    )
    assert trained.exit_code == 0, trained.stderr
    return json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])["test_accuracy"]


@pytest.mark.parametrize("make", [grey, ink, turned])
def test_what_is_in_the_images_is_learned(tmp_path, make):
    assert accuracy(tmp_path, make) >= 0.97


@pytest.mark.parametrize(("option", "learned"), [("--no-flip", True), ("--flip", False)])
def test_left_and_right_are_told_apart_only_without_mirroring(tmp_path, option, learned):
    assert (accuracy(tmp_path, left_or_right, option) >= 0.97) == learned


@pytest.mark.parametrize("size", [(8, 8), (9, 7), (12, 12), (64, 8), (40, 40)])
def test_the_size_of_the_first_image_does_not_matter(tmp_path, size):
    assert accuracy(tmp_path, stripes, size=size) >= 0.97


@pytest.mark.parametrize("command", ["search", "train"])
def test_images_that_do_not_fit_into_memory_give_the_same_bits(command, parts, tmp_path, monkeypatch):
    """They are read once, and kept in a file that no folder shows."""
    size = "--layers 3 --channels 2 --epochs 1 --batch-size 8".split()
    given = [command, "cnn", "--dataset", "folder", "--data", parts, *size]
    assert darts(*given, "--run", tmp_path / "memory").exit_code == 0
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(folder, "MEMORY_BYTES", 1000)
    done = darts(*given, "--run", tmp_path / "file")
    assert "48 images of 8x8 pixels are 9 kB: they are kept in a file in" in done.stderr
    assert list((tmp_path / "temporary").iterdir()) == []
    for name in ("metrics.jsonl", "genotype.yaml"):  # a training keeps its genotype too
        assert (tmp_path / "file" / name).read_text() == (tmp_path / "memory" / name).read_text()


def test_a_disk_that_is_too_small_for_the_images_is_one_line(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "MEMORY_BYTES", 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=5000))
    done = darts("search", "cnn", "--dataset", "folder", "--data", parts, "--run", tmp_path / "run")
    assert done.exit_code == 1
    message = "has 5 kB free, but 48 images of 8x8 pixels need 9 kB; choose a smaller --image-size, or another disk"
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
