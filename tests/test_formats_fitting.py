"""Images of many sizes become one: which size, how, and the same way wherever an image is read."""

import json

import numpy as np
import pytest
import torch
from conftest import darts
from PIL import Image
from torchvision.transforms import v2

import darts_cli
from darts_cli import DartsError
from darts_cli.cnn import data
from darts_cli.formats.fitting import Fit, chosen, fitted, notes
from darts_cli.formats.images import size
from darts_cli.formats.sizes import size_of

TINY = ["--layers", 2, "--channels", 4, "--epochs", 1, "--batch-size", 4, "--no-auxiliary", "--dataset", "folder"]


@pytest.mark.parametrize(
    ("sizes", "found"),
    [
        ([(12, 12)] + [(32, 32)] * 9, (32, 32)),  # a thumbnail comes first
        ([(32, 32)] * 9 + [(12, 12)], (32, 32)),
        ([(333, 500)] * 4, (336, 500)),
        ([(28, 28)] * 2 + [(30, 30)], (28, 28)),
        ([(100 + i, 200 - i) for i in range(9)], (64, 64)),
        ([(20 + i, 30 + i) for i in range(9)], (24, 24)),
        ([(3, 3), (4, 5), (5, 4)], (8, 8)),
        ([(32, 32)] * 2 + [(16, 16), (24, 24)], (32, 32)),
    ],
)
def test_the_size_that_is_chosen(sizes, found):
    assert chosen(sizes)[0] == found


def test_a_wanted_size_and_sizes_that_cannot_be():
    assert chosen([(9, 9)], (48, 64))[0] == (48, 64)
    for sides in ((4, 40), (40, 4), (40, 4098)):
        with pytest.raises(DartsError, match="choose a size with --image-size"):
            chosen([sides] * 3)


@pytest.mark.parametrize(
    ("text", "found"), [("64", (64, 64)), ("48x64", (48, 64)), ("48X64", (48, 64)), ("30", (32, 32)), ("9x4096", (12, 4096))]
)
def test_a_size_as_text(text, found):
    assert size_of(text) == found


@pytest.mark.parametrize("text", ["", "x", "64x", "x64", "1x2x3", "-8", "7", "8x7", "4097", "64.0", "²", "64 px", "9" * 99])
def test_what_is_no_size(text):
    with pytest.raises(DartsError, match="--image-size"):
        size_of(text)


WIDE = torch.arange(8 * 16, dtype=torch.uint8).view(1, 8, 16)


def test_squeeze_crop_and_pad_against_their_definitions():
    assert torch.equal(fitted(WIDE, (8, 8), "crop"), WIDE[:, :, 4:12])
    padded = fitted(WIDE, (16, 16), "pad")
    assert torch.equal(padded[:, 4:12], WIDE)
    assert (padded[:, :4].sum(), padded[:, 12:].sum()) == (0, 0)
    assert torch.equal(fitted(WIDE, (8, 8), "squeeze"), v2.functional.resize(WIDE, [8, 8], antialias=True))
    for resize in ("squeeze", "crop", "pad"):
        assert fitted(WIDE, (8, 16), resize) is WIDE
        for sides in ((8, 8), (12, 40), (64, 8), (100, 100)):
            assert fitted(WIDE, sides, resize).shape == (1, *sides)


def test_padding_is_black_also_where_black_is_negative():
    assert fitted(torch.full((1, 8, 16), -1.0).double(), (16, 16), "pad").unique().tolist() == [-1.0]
    assert fitted(torch.full((1, 8, 16), 300.0).double(), (16, 16), "pad").unique().tolist() == [0.0, 300.0]


def test_what_is_said_of_sizes():
    assert notes([(32, 32)] * 3, (32, 32), "the most common size", "squeeze") == []
    (note,) = notes([(12, 12), (32, 32), (32, 32)], (32, 32), "the most common size", "squeeze")
    assert note.startswith("1 of 3 images (of 12x12) is squeezed to 32x32 pixels, height x width, the most common size; ")
    (note,) = notes([(80, 90), (70, 99)], (64, 64), "the default", "crop")
    assert note.startswith("2 of 2 images (of 2 sizes, 70x99 to 80x90) are cropped to 64x64 pixels")
    assert "make every step slow" in notes([(300, 300)], (300, 300), "the most common size", "pad")[0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_of_a_turned_photograph(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", exif=exif)
    assert size(str(tmp_path / "a.jpg"), turn=True) == ((40, 20) if orientation > 4 else (20, 40))
    assert size(str(tmp_path / "a.jpg")) == (20, 40)


def folder(root, sizes, count=4):
    """Images of noise in two classes, the first ones of these sizes (height, width) in turn."""
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        for name in ("a", "b"):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (*sizes[i % len(sizes)], 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{i}.png")


@pytest.mark.parametrize("resize", ["squeeze", "crop", "pad"])
def test_a_trained_network_prepares_images_as_its_training_did(tmp_path, resize):
    """The test part, read by `data.load`, and each of its files, read by `preprocess` and by `darts predict`."""
    folder(tmp_path / "data", [(20, 30), (30, 20), (16, 50)])
    run = tmp_path / "run"
    size = ["--image-size", "16x24", "--resize", resize]
    result = darts("train", "cnn", *TINY, *size, "--data", tmp_path / "data", "--run", run)
    assert result.exit_code == 0, result.stderr
    assert "to 16x24 pixels, height x width, the size of --image-size" in result.stderr
    network = darts_cli.load(run)
    like = torch.load(run / "checkpoint.pt", weights_only=True)["data"]
    assert like.get("resize", "squeeze") == resize
    test = data.load("folder", str(tmp_path / "data"), train=False, like=like)
    paths = sorted((tmp_path / "data" / "test").rglob("*.png"))
    seen = torch.stack([network.preprocess.pixels(path) for path in paths])
    assert torch.equal(seen.permute(0, 2, 3, 1), test.images)
    assert torch.equal(network.preprocess.pixels(Image.open(paths[0])), seen[0])

    found = json.loads(darts("eval", "--checkpoint", run, "--json").stdout)
    predicted = json.loads(darts("predict", "--checkpoint", run, "--json", tmp_path / "data" / "test").stdout)
    right = [row["class"] == path.parent.name for row, path in zip(predicted, paths, strict=True)]
    assert found["top1"] == sum(right) / len(right)


def test_a_checkpoint_without_a_way_to_fit_squeezes(tmp_path):
    """As those of earlier versions are."""
    folder(tmp_path / "data", [(16, 16)])
    darts("train", "cnn", *TINY, "--data", tmp_path / "data", "--run", tmp_path / "run")
    assert "resize" not in torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["data"]
    image = torch.randint(0, 256, (3, 30, 40), dtype=torch.uint8)
    squeezed = v2.functional.resize(image, [16, 16], antialias=True)
    assert torch.equal(darts_cli.load(tmp_path / "run").preprocess.pixels(image), squeezed)


def test_the_size_of_another_data_set_stays():
    for given in (["--image-size", 64], ["--resize", "crop"]):
        result = darts("search", "cnn", "--dataset", "digits", *given)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
        assert f"{given[0]}: only for --dataset folder" in result.stderr


def test_a_folder_is_fitted_as_asked(tmp_path):
    folder(tmp_path, [(12, 12), (32, 32), (32, 32)], count=3)
    assert data.load("folder", str(tmp_path)).images.shape == (6, 32, 32, 3)
    found = data.load("folder", str(tmp_path), fit=Fit((16, 24), "pad"))
    assert found.images.shape == (6, 16, 24, 3)
    assert found.about()["resize"] == "pad"
    assert len(found.notes) == 1
