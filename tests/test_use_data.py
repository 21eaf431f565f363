"""A look at a data set of images: `darts data check` says what is wrong with it, `darts data show` what a training sees."""

import json

import numpy as np
import pytest
from conftest import darts
from PIL import Image

from darts_cli.cnn import data


@pytest.fixture
def folder(tmp_path):
    """Two classes of four images of 8x8 pixels to train on, and of two to test on."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 4), ("test", 2)):
        for name in ("a", "b"):
            (tmp_path / "data" / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / part / name / f"{i}.png")
    return tmp_path / "data"


def checked(folder, *options, code=0):
    result = darts("data", "check", folder, "--json", *options)
    assert result.exit_code == code, result.stderr
    return json.loads(result.stdout)


def test_a_check_finds_what_a_training_uses(folder):
    found = checked(folder)
    train = found["parts"]["train"]
    assert train["classes"] == {"a": 4, "b": 4}
    assert (train["sizes"], train["modes"], train["unreadable"]) == ({"8x8": 8}, {"RGB": 8}, [])
    assert found["parts"]["test"]["images"] == 4
    assert found["warnings"] == []
    about = data.load("folder", str(folder)).about()
    assert found["size"] == about["size"]
    for key in ("mean", "deviation"):
        assert found[key] == pytest.approx(about[key])
    lines = darts("data", "check", folder).stdout.splitlines()
    assert lines[0] == f"train: 8 images of 2 classes, from {folder / 'train'}"
    assert lines[1].split() == ["classes", "a", "4,", "b", "4"]


def leak(folder):
    """The same pixels in another format."""
    Image.open(folder / "train" / "a" / "0.png").save(folder / "test" / "a" / "copy.bmp")


def twice(folder):
    Image.open(folder / "train" / "a" / "0.png").save(folder / "train" / "a" / "copy.bmp")


def two_classes(folder):
    Image.open(folder / "train" / "a" / "0.png").save(folder / "train" / "b" / "copy.bmp")


def gif(folder):
    Image.new("RGB", (8, 8)).save(folder / "train" / "b" / "x.gif")


def other_size(folder):
    Image.new("RGB", (12, 8)).save(folder / "train" / "a" / "0.png")


def single(folder):
    for i in range(3):
        (folder / "test" / "b" / f"{i}.png").unlink(missing_ok=True)
    Image.new("L", (8, 8)).save(folder / "test" / "b" / "9.png")


def one_colour(folder):
    for path in folder.glob("*/*/*.png"):
        Image.new("RGB", (8, 8), (9, 9, 9)).save(path)


def other_class(folder):
    (folder / "test" / "b").rename(folder / "test" / "c")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (leak, "1 of the test images are training images too, pixel by pixel"),
        (twice, "1 of the training images occur more than once"),
        (two_classes, "1 of the training images occur in two classes"),
        (gif, "train: 1 file left out, in no format that is read (1 .gif): b/x.gif"),
        (other_size, "train: 1 of 8 images (of 8x12) is squeezed to 8x8 pixels"),
        (single, "test: b has a single image here"),
        (one_colour, "train: all images are of one and the same colour"),
        (other_class, "train and test have different classes: only one of them has b, c"),
    ],
)
def test_a_check_says_what_to_look_at(folder, spoil, said):
    spoil(folder)
    assert any(warning.startswith(said) for warning in checked(folder)["warnings"])
    assert f"warning: {said}" in darts("data", "check", folder).stderr


def test_an_unreadable_file_is_named_and_does_not_end_the_check(folder):
    for name in ("0.png", "1.png"):
        (folder / "train" / "a" / name).write_bytes(b"nothing")
    found = checked(folder, code=1)
    assert len(found["parts"]["train"]["unreadable"]) == 2
    assert "a/0.png: cannot be read as an image" in found["parts"]["train"]["unreadable"][0]
    assert found["parts"]["train"]["images"] == 6


def test_a_check_of_a_folder_without_parts(folder):
    found = checked(folder / "train")
    assert list(found["parts"]) == ["train"]
    assert found["duplicates"]["train_and_test"] == []
    assert [warning.split(":")[0] for warning in found["warnings"]] == ["there is no test part"]


def test_a_check_fits_as_asked_and_knows_data_sets_by_name(folder):
    assert checked(folder, "--image-size", "12x16", "--resize", "pad")["size"] == [12, 16]
    found = checked("digits")
    assert (found["parts"]["train"]["images"], found["parts"]["test"]["images"], found["size"]) == (1438, 359, [8, 8])
    for place in ("nowhere", "folder"):
        result = darts("data", "check", place)
        assert result.exit_code == 1
        assert "no such folder, and no data set of this name; there are cifar10" in result.stderr


def test_a_sheet_shows_an_image_of_each_class_and_what_becomes_of_it(folder, tmp_path):
    target = tmp_path / "sheet.png"
    result = darts("data", "show", folder, "--output", target, "--no-flip")
    assert (result.exit_code, result.stdout) == (0, f"{target}\n")
    picture = np.asarray(Image.open(target))
    assert picture.shape == (2 * 68, 8 * 68, 3)  # two classes, eight columns, eight times as large, a frame of two pixels
    assert (picture[2:66:8, 2:66:8] == np.asarray(Image.open(folder / "train" / "a" / "0.png"))).all()
    assert (picture[70:134:8, 9:66:8] == np.asarray(Image.open(folder / "train" / "b" / "0.png"))).all()
    cells = [picture[2:66, left + 2 : left + 66] for left in range(68, 544, 68)]
    assert len({cell.tobytes() for cell in cells}) > 3
    assert (picture[:2] == 255).all()


@pytest.mark.parametrize("options", [[], ["--no-flip"], ["--cutout", 4], ["--seed", 1], ["--image-size", 16]])
def test_a_sheet_depends_on_its_options(folder, tmp_path, options):
    one, two, other = (
        sheet_of(folder, tmp_path / f"{name}.png", *given)
        for name, given in (("one", options), ("two", options), ("other", ["--cutout", 6, "--seed", 5]))
    )
    assert one == two != other


def test_a_sheet_has_the_augmentation_of_a_training(tmp_path):
    """Digits are not mirrored."""
    usual, unflipped, flipped = (
        sheet_of("digits", tmp_path / f"{len(given)}{given[:1] == ['--flip']}.png", *given)
        for given in ([], ["--no-flip", "--cutout", 0], ["--flip", "--cutout", 0])
    )
    assert usual == unflipped != flipped


@pytest.mark.parametrize(
    ("place", "output", "said"),
    [
        ("digits", "sheet.jpg", "--output sheet.jpg: the sheet is a PNG file; name it sheet.png"),
        ("digits", ".", "--output .: the sheet is a PNG file; name it data.png"),
        ("pydoc", "sheet.png", "--output sheet.png: the lines of a text are printed; leave it out"),
    ],
)
def test_a_sheet_is_a_png_file_of_images(tmp_path, monkeypatch, place, output, said):
    monkeypatch.chdir(tmp_path)
    result = darts("data", "show", place, "--output", output)
    assert (result.exit_code, list(tmp_path.iterdir())) == (2, [])
    assert said in result.stderr


def sheet_of(place, target, *options):
    assert darts("data", "show", place, "--output", target, *options).exit_code == 0
    return target.read_bytes()


@pytest.mark.parametrize(
    ("counts", "said"), [([1, 0], "the class b has no image;"), ([0, 0], "the classes a, b have no images;")]
)
def test_a_class_without_images_is_named(tmp_path, counts, said):
    for name, count in zip("ab", counts, strict=True):
        (tmp_path / name).mkdir()
        for i in range(count):
            Image.new("RGB", (8, 8)).save(tmp_path / name / f"{i}.png")
    assert said in darts("data", "check", tmp_path).stderr
