"""ImageNet: files that processes read, the same bits with any number of them, and what is wrong with a folder."""

import shutil

import pytest
import torch
from conftest import darts

from darts_cli import DartsError
from darts_cli.cnn import data
from darts_cli.cnn.datasets import imagenet
from darts_cli.cnn.datasets.batches import normalised

CPU = torch.device("cpu")
JITTER = (0.4, 0.4, 0.4, 0.2)


def batches(photos, batch_size=5, seed=0, workers=0, train=True, **options):
    return imagenet.FileBatches(
        data.load("imagenet", str(photos), train), batch_size, seed, "train", CPU, workers=workers, **options
    )


def test_the_parts(photos):
    train, val = data.load("imagenet", str(photos)), data.load("imagenet", str(photos), train=False)
    assert (len(train.labels), len(val.labels), train.classes) == (12, 6, ["dark", "light"])
    assert train.labels.tolist() == [0] * 6 + [1] * 6
    about = train.about()
    assert (about["size"], about["classes"]) == ([224, 224], ["dark", "light"])
    assert about["fingerprint"] == train.about()["fingerprint"] != val.about()["fingerprint"]
    held_in, held_out = data.split(train, 0.75, 0)
    assert sorted(held_in.paths + held_out.paths) == sorted(train.paths)
    assert len(held_in.labels) == len(held_in.paths) == 9


@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_processes_changes_nothing(photos, workers):
    alone = list(batches(photos, color_jitter=JITTER, cutout=64).shuffled(3))
    helped = list(batches(photos, color_jitter=JITTER, cutout=64, workers=workers).shuffled(3))
    assert len(alone) == len(helped) == 3
    for (x, y), (other_x, other_y) in zip(alone, helped, strict=True):
        assert torch.equal(x, other_x)
        assert torch.equal(y, other_y)


def test_the_middle_of_an_epoch_is_the_same_when_begun_there(photos):
    whole = list(batches(photos, color_jitter=JITTER).shuffled(0))
    rest = list(batches(photos, color_jitter=JITTER).shuffled(0, first=1))
    assert [len(labels) for _, labels in whole] == [5, 5, 2]
    assert all(torch.equal(a[0], b[0]) for a, b in zip(whole[1:], rest, strict=True))


def test_augmented_batches(photos):
    first, again, next_epoch = (list(batches(photos).shuffled(epoch)) for epoch in (0, 0, 1))
    x, _ = first[0]
    assert (x.shape, x.dtype) == ((5, 3, 224, 224), torch.float32)
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(x, again[0][0])
    assert not torch.equal(x, next_epoch[0][0])
    assert sorted(torch.cat([labels for _, labels in first]).tolist()) == [0] * 6 + [1] * 6
    jittered = next(batches(photos, color_jitter=JITTER).shuffled(0))[0]
    assert not torch.equal(x, jittered)
    hole = next(batches(photos, cutout=100).shuffled(0))[0]
    assert torch.equal(hole[hole != 0], x[hole != 0])
    assert 5 * 50 * 50 * 3 <= (hole == 0).sum() <= 5 * 100 * 100 * 3 + (x == 0).sum()


def test_reading_leaves_the_random_numbers_alone(photos):
    """With no worker they are read in this process, whose numbers drop-path draws from."""
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    files = imagenet._Files(data.load("imagenet", str(photos)), imagenet._augmentation(JITTER), (0, "train", 0))
    torch.manual_seed(0)
    files[(0, 0)]
    assert torch.equal(torch.rand(3), expected)


def test_a_last_image_alone_joins_the_batch_before(photos):
    assert [len(labels) for _, labels in batches(photos, batch_size=11).in_order()] == [12]


def test_batches_for_evaluation_are_in_order_and_not_random(photos):
    one, two = (list(batches(photos, workers=workers, train=False).in_order()) for workers in (0, 2))
    assert torch.cat([labels for _, labels in one]).tolist() == [0, 0, 0, 1, 1, 1]
    assert all(torch.equal(a[0], b[0]) for a, b in zip(one, two, strict=True))


def test_normalisation():
    pixels = torch.tensor([[[[0, 128, 255]]]], dtype=torch.uint8)
    x = normalised(pixels, imagenet.MEAN, imagenet.DEVIATION)[0, :, 0, 0]
    torch.testing.assert_close(x, torch.tensor([-0.485 / 0.229, (128 / 255 - 0.456) / 0.224, (1 - 0.406) / 0.225]))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_corrupt_image_is_named(photos, tmp_path, workers):
    shutil.copytree(photos, tmp_path / "photos")
    corrupt = tmp_path / "photos" / "train" / "light" / "05.jpg"
    corrupt.write_bytes(corrupt.read_bytes()[:300])
    args = ["--dataset", "imagenet", "--data", tmp_path / "photos", "--layers", 3, "--channels", 2, "--epochs", 1]
    result = darts("train", "cnn", *args, "--batch-size", 4, "--workers", workers, "--run", tmp_path / "run", "--quiet")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [f"error: {corrupt}: cannot be read as an image (OSError); repair or remove it"]


def test_a_link_to_nothing_is_named(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos" / "train" / "dark" / "lost.jpg").symlink_to("nowhere.jpg")
    with pytest.raises(DartsError, match=r"lost\.jpg: cannot be read as an image \(No such file or directory\)"):
        data.load("imagenet", str(tmp_path / "photos")).about()


def test_what_is_wrong_with_a_folder(photos, tmp_path):
    with pytest.raises(DartsError, match="--dataset imagenet needs --data DIR: a folder with train and val"):
        data.load("imagenet", None)
    with pytest.raises(DartsError, match="train: is not a folder of images"):
        data.load("imagenet", str(tmp_path))
    shutil.copytree(photos, tmp_path / "photos")
    shutil.rmtree(tmp_path / "photos" / "val" / "light")
    shutil.copytree(tmp_path / "photos" / "val" / "dark", tmp_path / "photos" / "val" / "grey")
    args = ["--dataset", "imagenet", "--data", tmp_path / "photos", "--layers", 3, "--channels", 2, "--epochs", 1]
    result = darts("train", "cnn", *args, "--run", tmp_path / "run")
    assert result.exit_code == 1
    assert "val: its classes differ from those of the training: missing light; unexpected grey" in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_way_of_imagenet(photos, tmp_path):
    """Trained, evaluated by name, and taken up again as weights for another training."""
    args = ["--dataset", "imagenet", "--data", photos, "--layers", 3, "--channels", 4, "--batch-size", 4, "--workers", 2]
    first = darts("train", "cnn", *args, "--epochs", 2, "--run", tmp_path / "run")
    assert first.exit_code == 0, first.stderr
    evaluated = darts("eval", "--checkpoint", tmp_path / "run", "--json")
    assert evaluated.exit_code == 0, evaluated.stderr
    assert '"images": 6' in evaluated.stdout
    assert '"dataset": "imagenet"' in evaluated.stdout
    further = ["--epochs", 1, "--no-auxiliary", "--init-from", tmp_path / "run", "--run", tmp_path / "further"]
    second = darts("train", "cnn", *args, *further)
    assert second.exit_code == 0, second.stderr


def test_a_process_without_an_image_of_the_last_batch():
    images, labels = imagenet._stacked([])
    assert (images.shape, labels.shape) == ((0, 224, 224, 3), (0,))
    assert (images.dtype, labels.dtype) == (torch.uint8, torch.int64)
    assert normalised(images, (0.5,) * 3, (0.2,) * 3).shape == (0, 3, 224, 224)
