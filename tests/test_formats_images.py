"""Image files as people have them: every mode becomes the right bytes, and every usual folder the right part."""

import numpy as np
import pytest
import torch
from conftest import darts
from PIL import Image

from darts_cli import DartsError
from darts_cli.cnn import data
from darts_cli.cnn.datasets.batches import Dataset
from darts_cli.cnn.datasets.folder import SET_ASIDE
from darts_cli.formats.images import levels, parts, read, to_bytes

GREY = np.linspace(0.1, 0.9, 64).reshape(8, 8)  # the picture that every form below stores


def bytes_of(path):
    return to_bytes(read(str(path)))


def stored(form):
    """GREY as an image of a mode, and the ending of a format that keeps it."""
    if form == "8 bit":
        return Image.fromarray((GREY * 255).round().astype(np.uint8)), "png"
    if form == "16 bit":
        return Image.fromarray((GREY * 65535).round().astype(np.uint16)), "png"
    if form == "16 bit TIFF":
        return Image.fromarray((GREY * 65535).round().astype(np.uint16)), "tif"
    if form == "12 bit":
        return Image.fromarray((GREY * 4095).round().astype(np.uint16)), "tif"
    if form == "10 bit":
        return Image.fromarray((GREY * 1023).round().astype(np.uint16)), "png"
    if form == "32 bit":
        return Image.fromarray((GREY * (2**31 - 1)).round().astype(np.int32)), "tif"
    if form == "real numbers":
        return Image.fromarray(GREY.astype(np.float32)), "tif"
    if form == "real numbers to 255":
        return Image.fromarray((GREY * 255).astype(np.float32)), "tif"
    if form == "real numbers from -1":
        return Image.fromarray((GREY * 2 - 1).astype(np.float32)), "tif"
    grey = Image.fromarray((GREY * 255).round().astype(np.uint8))
    if form == "palette":
        return grey.convert("P"), "png"
    if form == "CMYK":
        return grey.convert("RGB").convert("CMYK"), "tif"
    if form == "opaque":
        return grey.convert("RGBA"), "png"
    assert form == "grey and opaque"
    return grey.convert("LA"), "png"


FORMS = [
    *("8 bit", "16 bit", "16 bit TIFF", "12 bit", "10 bit", "32 bit", "real numbers", "real numbers to 255"),
    *("real numbers from -1", "palette", "CMYK", "opaque", "grey and opaque"),
]


@pytest.mark.parametrize("form", FORMS)
def test_every_mode_is_converted_by_its_range(tmp_path, form):
    image, ending = stored(form)
    path = tmp_path / f"image.{ending}"
    image.save(path)
    expected = torch.from_numpy((GREY * 255).round()).expand(3, 8, 8)
    assert (bytes_of(path).double() - expected).abs().max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_becomes_white(tmp_path, mode):
    """Drawings are black ink on nothing: without this, all black."""
    ink = np.zeros((8, 8, 4), np.uint8)
    ink[2:4, :, 3] = 255
    image = Image.fromarray(ink)
    if mode == "LA":
        image = image.convert("LA")
    if mode == "P":
        image = Image.fromarray((ink[..., 3] > 0).astype(np.uint8))
        image.putpalette([9, 9, 9, 0, 0, 0])
        image.info["transparency"] = 0
        image.save(tmp_path / "image.png", transparency=0)
    else:
        image.save(tmp_path / "image.png")
    found = bytes_of(tmp_path / "image.png")
    assert (found[:, 2:4] == 0).all()
    assert (found[:, 4:] == 255).all()


def test_levels_are_those_of_the_whole_data_set():
    """A dark image of a 12-bit camera stays dark beside a bright one."""
    dark, bright = (torch.full((1, 8, 8), value, dtype=torch.float64) for value in (200.0, 4000.0))
    assert levels([dark, bright]) == (0.0, 4095.0)
    assert levels([torch.zeros(3, 8, 8, dtype=torch.uint8)]) is None
    assert to_bytes(dark, (0.0, 4095.0)).max() == round(200 / 4095 * 255)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_as_their_exif_orientation_says(tmp_path, orientation):
    upright = Image.fromarray(np.repeat(np.array([[200, 150], [100, 50]], np.uint8), 16, 0).repeat(16, 1))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transposition that a viewer undoes
    turned = upright.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned.save(tmp_path / "photo.png", exif=exif)
    found = to_bytes(read(str(tmp_path / "photo.png"), turn=True))
    assert found[0, ::16, ::16].tolist() == [[200, 150], [100, 50]]


NAMES = [
    ("train", "test"),
    ("Training", "Testing"),
    ("Train", "Test"),
    ("TRAIN", "val"),
    ("train", "valid"),
    ("train", "Validation"),
]
NAMES += [("seg_train", "seg_test"), ("trainset", "testset"), ("train_set", "dev")]
NAMES += [("train_images", "test_images"), ("birds-train", "birds-test"), ("train2017", "val2017"), ("TrainData", "Holdout")]


def folder(root, classes=("a", "b"), count=3):
    for i, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for k in range(count):
            Image.new("RGB", (8, 8), (100 * i, 10 * k, 0)).save(root / name / f"{k}.png")


@pytest.mark.parametrize(("train", "test"), NAMES)
@pytest.mark.parametrize("nested", [False, True])
def test_parts_are_found_by_their_usual_names(tmp_path, train, test, nested):
    for name, count in ((train, 3), (test, 2)):
        folder(tmp_path / name / name if nested else tmp_path / name, count=count)
    for part, count in ((True, 6), (False, 4)):
        found = data.load("folder", str(tmp_path), train=part)
        assert (found.classes, len(found.labels)) == (["a", "b"], count)


def test_a_test_part_is_preferred_to_a_validation_part(tmp_path):
    for name, count in (("train", 3), ("valid", 1), ("Test", 2)):
        folder(tmp_path / name, count=count)
    assert [path.name for path in parts(tmp_path, "val")] == ["valid"]
    assert len(data.load("folder", str(tmp_path), train=False).labels) == 4


@pytest.mark.parametrize("names", [("bus", "car", "train"), ("model_train", "test_bench"), ("train", "val_thorens")])
def test_a_class_may_have_the_name_of_a_part(tmp_path, names):
    folder(tmp_path, names)
    assert data.load("folder", str(tmp_path)).classes == sorted(names)


@pytest.mark.parametrize("part", ["train", "Training", "trainset"])
def test_a_training_part_alone_sets_a_fifth_of_each_class_aside(tmp_path, part):
    folder(tmp_path / part, count=5)
    kept, held = (data.load("folder", str(tmp_path), train, hold_out=train) for train in (True, False))
    assert [torch.bincount(found.labels).tolist() for found in (kept, held)] == [[4, 4], [1, 1]]
    assert SET_ASIDE in held.notes
    assert len(data.load("folder", str(tmp_path)).labels) == 10  # a search uses all


def test_a_folder_around_the_data_set_is_named(tmp_path):
    for part in ("train", "test"):
        folder(tmp_path / "birds" / part)
    with pytest.raises(DartsError, match="has one class, birds; .*; birds holds test, train: name it with --data instead"):
        data.load("folder", str(tmp_path))


def test_two_training_parts_are_refused(tmp_path):
    folder(tmp_path / "train")
    folder(tmp_path / "training")
    with pytest.raises(DartsError, match="train, training could each be its train part; leave one"):
        data.load("folder", str(tmp_path))


@pytest.mark.parametrize("name", [".ipynb_checkpoints", "__MACOSX", ".git"])
def test_hidden_folders_are_no_classes(tmp_path, name):
    folder(tmp_path)
    folder(tmp_path / name)
    (tmp_path / "a" / "._0.png").write_bytes(b"not an image")
    (tmp_path / "a" / ".ipynb_checkpoints").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "a" / ".ipynb_checkpoints" / "0.png")
    found = data.load("folder", str(tmp_path))
    assert (found.classes, len(found.labels)) == (["a", "b"], 6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_pixel_that_is_no_number_is_refused(tmp_path, value):
    """It would be any grey, and the range of its image would be left out of that of all."""
    pixels = GREY.astype(np.float32)
    pixels[3, 3] = value
    Image.fromarray(pixels).save(tmp_path / "depth.tif")
    with pytest.raises(DartsError, match=r"depth\.tif: cannot be read as an image \(a pixel is not a finite number\)"):
        read(str(tmp_path / "depth.tif"))


def test_images_of_one_colour_are_refused(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8), (5, 5, 5)).save(tmp_path / name / "0.png")
    with pytest.raises(DartsError, match="all of its images are of one and the same colour; there is nothing to learn"):
        data.check_varied(data.load("folder", str(tmp_path)))
    result = darts("search", "cnn", "--dataset", "folder", "--data", tmp_path, "--run", tmp_path / "run")
    assert result.exit_code == 1
    assert "of one and the same colour" in result.stderr


def test_the_test_part_has_the_levels_of_the_training_part(tmp_path):
    """Also where its own images are darker."""
    for part, top in (("train", 4000), ("test", 200)):
        for i, name in enumerate(("a", "b")):
            (tmp_path / part / name).mkdir(parents=True)
            Image.fromarray(np.full((8, 8), top - 100 * i, np.uint16)).save(tmp_path / part / name / "0.png")
    train = data.load("folder", str(tmp_path))
    assert train.levels == (0.0, 4095.0)
    test = data.load("folder", str(tmp_path), train=False, like=train.about())
    assert isinstance(test, Dataset)
    assert test.images[0].max() == round(200 / 4095 * 255)
    data.check_about(train.about())


def test_the_summary_counts_classes_and_names_what_was_left_out(tmp_path):
    folder(tmp_path / "Training", count=3)
    for name in ("x.gif", "notes.txt"):
        (tmp_path / "Training" / "a" / name).write_bytes(b"GIF89a")
    (tmp_path / "Training" / "b" / "2.png").unlink()
    found = data.summary("train part", data.load("folder", str(tmp_path)))
    assert found == (
        f"train part: 5 images of 2 classes (a 3, b 2), from {tmp_path / 'Training'}; "
        "2 files left out, in no format that is read (1 .txt, 1 .gif): a/notes.txt, a/x.gif"
    )
    assert data.summary("all", data.load("digits", None)).startswith("all: 1,438 images of 10 classes (0 1")


def test_a_training_says_what_it_took_for_what(tmp_path):
    for name, count in (("Training", 4), ("Testing", 2)):
        folder(tmp_path / "data" / name, count=count)
    size = ["--layers", 2, "--channels", 4, "--epochs", 1, "--batch-size", 4, "--no-auxiliary"]
    result = darts("train", "cnn", "--dataset", "folder", "--data", tmp_path / "data", *size, "--run", tmp_path / "run")
    assert f"train part: 8 images of 2 classes (a 4, b 4), from {tmp_path / 'data' / 'Training'}" in result.stderr
    assert f"test part: 4 images of 2 classes (a 2, b 2), from {tmp_path / 'data' / 'Testing'}" in result.stderr
    result = darts(
        "search",
        "cnn",
        "--dataset",
        "folder",
        "--data",
        tmp_path / "data",
        "--epochs",
        1,
        "--layers",
        3,
        "--channels",
        4,
        "--batch-size",
        4,
        "--run",
        tmp_path / "search",
    )
    assert f"both halves: 8 images of 2 classes (a 4, b 4), from {tmp_path / 'data' / 'Training'}" in result.stderr
