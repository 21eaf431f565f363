"""Images: the data sets, their errors, and batches that depend on nothing but their address."""

import pickle
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from darts_cli import DartsError
from darts_cli.cnn import data
from darts_cli.cnn.datasets.batches import Batches, crop_and_flip, cut_out, normalised
from darts_cli.config import SearchCNN, TrainCNN

CPU = torch.device("cpu")


def batches(dataset, batch_size=64, seed=0, name="train", cutout=0):
    return Batches(dataset, batch_size, seed, name, CPU, cutout)


def picture(path: Path, colour, size=(16, 12)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def folder_of_two(root: Path):
    for i in range(4):
        picture(root / "red" / f"{i}.png", (255, 0, 0))
        picture(root / "blue" / f"{i}.png", (0, 0, 128))


def test_digits_are_the_real_ones():
    train, test = data.load("digits", None), data.load("digits", None, train=False)
    assert (len(train.labels), len(test.labels)) == (1438, 359)
    assert train.images.shape == (1438, 8, 8, 3)
    counts = torch.bincount(torch.cat([train.labels, test.labels]))
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # as UCI states them
    assert train.images.max() == 255
    assert (train.padding, train.classes) == (1, [str(i) for i in range(10)])
    pixels = train.images.double() / 255
    torch.testing.assert_close(pixels.mean((0, 1, 2)), torch.tensor(train.mean, dtype=torch.float64))
    torch.testing.assert_close(pixels.std((0, 1, 2), correction=0), torch.tensor(train.deviation, dtype=torch.float64))


def test_split_is_a_partition_by_its_seed_alone():
    whole = data.load("digits", None)
    numbered = whole._replace(labels=torch.arange(len(whole.labels)))
    first, second = data.split(numbered, 0.3, seed=0)
    assert len(first.labels) == int(0.3 * 1438)
    assert sorted([*first.labels.tolist(), *second.labels.tolist()]) == list(range(1438))
    assert torch.equal(first.pixels(slice(None)), whole.images[first.labels])
    assert torch.equal(first.labels, data.split(numbered, 0.3, seed=0)[0].labels)
    assert not torch.equal(first.labels, data.split(numbered, 0.3, seed=1)[0].labels)
    with pytest.raises(DartsError, match=r"--train-portion 0\.0001: of 1438 images"):
        data.split(whole, 0.0001, seed=0)


def test_an_epoch_has_every_image_once():
    whole = data.load("digits", None)
    numbered = batches(whole._replace(labels=torch.arange(1438)), batch_size=100)
    assert len(numbered) == 15
    seen = torch.cat([numbered.augmented(3, index)[1] for index in range(15)])
    assert sorted(seen.tolist()) == list(range(1438))


def test_a_batch_depends_on_its_address_alone():
    whole = data.load("digits", None)
    one, other = batches(whole, cutout=2), batches(whole, cutout=2)
    other.augmented(7, 3)
    other.augmented(1, 0)
    images, labels = one.augmented(1, 2)
    again, labels_again = other.augmented(1, 2)
    assert torch.equal(images, again)
    assert torch.equal(labels, labels_again)
    for different in (
        one.augmented(2, 2),
        batches(whole, seed=1, cutout=2).augmented(1, 2),
        batches(whole, name="valid", cutout=2).augmented(1, 2),
    ):
        assert not torch.equal(images, different[0])
    smaller = batches(whole, batch_size=32, cutout=2)
    assert torch.equal(images[:32], smaller.augmented(1, 4)[0])  # by position, not by batch


def test_batches_are_channels_last_and_normalised():
    whole = data.load("digits", None)
    images, labels = batches(whole, batch_size=1438).plain(0)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(labels, whole.labels)
    torch.testing.assert_close(images.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(images.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-4, rtol=0)


@pytest.mark.parametrize("flip", [False, True])
def test_crop_and_flip_against_torchvision(flip):
    """The same images, offsets and flips through torchvision's own transforms."""
    g = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, 12, 16, 3), generator=g, dtype=torch.uint8)
    uniform = torch.rand(40, 3, generator=g)
    ours = crop_and_flip(images, uniform, padding=4, flip=flip)
    tops, lefts = (uniform[:, :2] * 9).long().unbind(1)
    for image, top, left, u, our in zip(images, tops, lefts, uniform[:, 2], ours, strict=True):
        expected = v2.functional.pad(image.permute(2, 0, 1), [4])
        expected = v2.functional.crop(expected, int(top), int(left), 12, 16)
        if flip and u < 0.5:
            expected = v2.functional.hflip(expected)
        assert torch.equal(our.permute(2, 0, 1), expected)


def test_every_offset_and_both_flips_occur_alike():
    uniform = torch.rand(90_000, 3, generator=torch.Generator().manual_seed(0))
    image = torch.arange(1, 5, dtype=torch.uint8).view(1, 1, 4, 1).expand(1, 4, 4, 1).expand(90_000, 4, 4, 1)
    rows = crop_and_flip(image, uniform, padding=1, flip=True)[:, 1, :, 0]
    found, counts = rows.unique(dim=0, return_counts=True)
    expected = [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 0], [3, 2, 1, 0], [4, 3, 2, 1], [0, 4, 3, 2]]
    assert sorted(found.tolist()) == sorted(expected)
    assert ((counts - 15_000).abs() < 5 * (15_000 * 5 / 6) ** 0.5).all()


def test_cut_out_area_and_borders():
    images = torch.ones(3, 2, 10, 10)
    uniform = torch.tensor([[0.55, 0.55], [0.0, 0.0], [0.99, 0.5]])
    covered = cut_out(images, uniform, 4) == 0
    assert covered.sum((1, 2, 3)).tolist() == [2 * 16, 2 * 4, 2 * 3 * 4]  # whole, in a corner, at the lower border
    assert covered[0, 0, 3:7, 3:7].all()
    assert covered[1, 0, :2, :2].all()
    assert covered[2, 1, 7:, 3:7].all()


def test_cutout_makes_zeros_after_normalisation():
    whole = data.load("digits", None)
    with_hole, _ = batches(whole, batch_size=200, cutout=4).augmented(0, 0)
    without, _ = batches(whole, batch_size=200).augmented(0, 0)
    changed = (with_hole != without).any(1)
    assert (with_hole[:, 0][changed] == 0).all()
    assert 0 < changed.float().mean() < 16 / 64


# ---- data sets of the user


def test_an_image_folder_tells_its_own_classes_and_size(tmp_path):
    folder_of_two(tmp_path)
    found = data.load("folder", str(tmp_path))
    assert (found.images.shape, found.classes, found.labels.tolist()) == ((8, 12, 16, 3), ["blue", "red"], [0] * 4 + [1] * 4)
    assert found.mean == pytest.approx([0.5, 0, 64 / 255])
    assert found.deviation[0] == pytest.approx(0.5)


def test_parts_of_an_image_folder(tmp_path):
    folder_of_two(tmp_path / "train")
    picture(tmp_path / "val" / "blue" / "a.png", (0, 0, 128))
    picture(tmp_path / "val" / "red" / "a.png", (255, 0, 0))
    assert len(data.load("folder", str(tmp_path)).labels) == 8
    assert len(data.load("folder", str(tmp_path), train=False).labels) == 2
    (tmp_path / "train").rename(tmp_path / "other")
    with pytest.raises(DartsError, match="has a test part, but no folder train"):
        data.load("folder", str(tmp_path))


def numbered(root, **counts):
    """An image of its own shade for every class and number."""
    for k, (name, count) in enumerate(counts.items()):
        for i in range(count):
            picture(root / name / f"{i}.png", (100 * k, i, 0))


@pytest.mark.parametrize(
    ("counts", "test"),
    [
        ({"a": 10, "b": 10}, [2, 2]),
        ({"a": 100, "b": 5}, [20, 1]),
        ({"a": 2, "b": 2}, [1, 1]),
        ({"a": 10, "b": 1}, [2, 0]),
        ({"a": 5, "b": 5, "c": 5}, [1, 1, 1]),
    ],
)
def test_a_folder_without_parts_sets_a_fifth_of_each_class_aside(tmp_path, counts, test):
    numbered(tmp_path, **counts)
    kept, held = (data.load("folder", str(tmp_path), train, hold_out=train) for train in (True, False))
    assert torch.bincount(held.labels, minlength=len(counts)).tolist() == test
    shades = [{tuple(image[0, 0].tolist()) for image in part.pixels(slice(None))} for part in (kept, held)]
    assert not shades[0] & shades[1]
    assert len(shades[0] | shades[1]) == sum(counts.values())
    assert torch.equal(held.images, data.load("folder", str(tmp_path), train=False).images)  # always the same ones
    assert len(data.load("folder", str(tmp_path)).labels) == sum(counts.values())  # a search uses all


def test_other_sizes_and_grey_images_are_fitted(tmp_path):
    folder_of_two(tmp_path)
    Image.new("L", (30, 30), 77).save(tmp_path / "red" / "z.png")
    found = data.load("folder", str(tmp_path))
    assert (found.images[-1] == 77).all()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda root: None, "Couldn't find any class folder"),
        (lambda root: root.rmdir(), "No such file or directory"),
        (lambda root: picture(root / "only" / "a.png", 0), "has one class, only; there must be two or more"),
        (lambda root: [folder_of_two(root), (root / "green").mkdir()], "green"),
        (
            lambda root: [folder_of_two(root), (root / "red" / "9.png").write_bytes(b"nothing")],
            r"9\.png: cannot be read as an image",
        ),
        (lambda root: [picture(root / "a" / "a.png", 0, (6, 32)), picture(root / "b" / "b.png", 0, (6, 32))], "32x6 pixels"),
    ],
    ids=["empty", "absent", "one class", "empty class", "corrupt image", "size"],
)
def test_what_can_be_wrong_with_a_folder(tmp_path, make, said):
    root = tmp_path / "images"
    root.mkdir()
    make(root)
    with pytest.raises(DartsError, match=said):
        data.load("folder", str(root))


def test_a_folder_must_be_named():
    with pytest.raises(DartsError, match="--dataset folder needs --data DIR"):
        data.load("folder", None)


@pytest.mark.parametrize(
    ("name", "called"), [("cifar10", "CIFAR-10"), ("cifar100", "CIFAR-100"), ("fashion-mnist", "Fashion-MNIST")]
)
def test_a_missing_data_set_says_how_to_get_it(name, called, tmp_path):
    with pytest.raises(DartsError, match=f"{called} is missing here or incomplete; leave --data out to download it"):
        data.load(name, str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_half_downloaded_data_set_is_refused(tmp_path):
    batch = tmp_path / "cifar-10-batches-py" / "data_batch_1"
    batch.parent.mkdir()
    batch.write_bytes(pickle.dumps({"data": [], "labels": []}))
    with pytest.raises(DartsError, match="CIFAR-10 is missing here or incomplete"):
        data.load("cifar10", str(tmp_path))


def test_fashion_mnist_is_padded_to_32_pixels_and_three_channels(tmp_path):
    """Read by torchvision from files in the data set's own format (IDX), which carry no checksum."""
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    pixels = torch.randint(0, 256, (20, 28, 28), dtype=torch.uint8)
    for part in ("train", "t10k"):
        header = b"".join(number.to_bytes(4, "big") for number in (0x803, 20, 28, 28))
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + pixels.numpy().tobytes())
        header = b"".join(number.to_bytes(4, "big") for number in (0x801, 20))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(header + bytes(i % 10 for i in range(20)))
    found = data.load("fashion-mnist", str(tmp_path))
    assert found.images.shape == (20, 32, 32, 3)
    assert torch.equal(found.images[:, 2:30, 2:30, 1], pixels)
    assert found.images[:, :2].sum() == 0
    assert found.about() == data.load("fashion-mnist", str(tmp_path)).about()
    assert found.about()["fingerprint"] != found.part(torch.arange(19)).about()["fingerprint"]
    assert (found.labels.tolist(), found.padding) == ([i % 10 for i in range(20)], 4)

    (raw / "train-images-idx3-ubyte").write_bytes((raw / "train-images-idx3-ubyte").read_bytes()[:-1000])
    with pytest.raises(DartsError, match="Fashion-MNIST is missing here or incomplete"):
        data.load("fashion-mnist", str(tmp_path))


def test_the_padding_is_an_option():
    """An image that is not padded is not moved; the same draws with N pixels move it by at most N."""
    whole = data.load("digits", None)
    device = torch.device("cpu")
    still = Batches(whole._replace(flip=False, pad=0), 16, 0, "train", device)
    images, _ = still.augmented(3, 1)
    order = still._draw(3)[0][16:32]
    assert torch.equal(images, normalised(whole.images[order], whole.mean, whole.deviation))
    assert whole.padding == 1
    moved, _ = Batches(whole._replace(flip=False, pad=3), 16, 0, "train", device).augmented(3, 1)
    assert not torch.equal(moved, images)


@pytest.mark.parametrize(("share", "count"), [(0.1, 144), (0.5, 719), (1.0, 1438)])
def test_a_share_of_the_images_is_that_many_of_them(share, count):
    """The same ones as that number of images takes."""
    whole = data.load("digits", None)
    for split in ("random", "stratified"):
        found = data.used(whole, SearchCNN(dataset="digits", subset=share, split=split))
        expected = data.used(whole, SearchCNN(dataset="digits", max_images=count, split=split))
        assert len(found.labels) == count
        assert torch.equal(found.images, expected.images)


def test_what_is_wrong_with_a_share_or_a_padding():
    with pytest.raises(DartsError, match=r"--subset 0.001: leaves 1 image of 1,438, too few"):
        data.used(data.load("digits", None), SearchCNN(dataset="digits", subset=0.001))
    with pytest.raises(DartsError, match=r"--subset 0.5: not together with --max-images 9"):
        SearchCNN(dataset="digits", subset=0.5, max_images=9)
    with pytest.raises(DartsError, match=r"--pad 2: not for imagenet"):
        TrainCNN(dataset="imagenet", pad=2)
    for value in (0, 1.5, -1):
        with pytest.raises(DartsError, match="--subset"):
            SearchCNN(subset=value)
