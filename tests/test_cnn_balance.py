"""Classes: a split that keeps their shares, what is said of uneven ones, and what each is worth in an evaluation."""

import json
from collections import Counter

import pytest
import torch
from conftest import darts
from PIL import Image

from darts_cli.cnn import data
from darts_cli.cnn.datasets.balance import balanced_accuracy, by_class, first_of_each, notes, unlike
from darts_cli.cnn.datasets.batches import Dataset
from darts_cli.config import SearchCNN, TrainCNN
from darts_cli.formats.images import of_left_out

TINY = ["--dataset", "folder", "--layers", 3, "--channels", 4, "--epochs", 1, "--batch-size", 8]


def of(*counts):
    """A data set whose classes a, b, ... have so many images."""
    labels = torch.tensor([k for k, count in enumerate(counts) for _ in range(count)])
    images = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 8, 8, 3)
    return Dataset(images, labels, "abcdefgh"[: len(counts)], [0.5] * 3, [0.5] * 3)


def counts(part):
    return torch.bincount(part.labels, minlength=len(part.classes)).tolist()


@pytest.mark.parametrize(
    ("whole", "portion", "first"),
    [
        ((30, 30, 2), 0.5, [15, 15, 1]),
        ((30, 30, 1), 0.5, [15, 15, 1]),
        ((95, 5), 0.9, [86, 4]),
        ((95, 5), 0.5, [48, 2]),
        ((3, 3, 3, 3), 0.5, [2, 2, 1, 1]),
        ((2, 2, 2), 0.9, [1, 1, 1]),
        ((100, 2), 0.01, [1, 1]),
        ((10, 0, 10), 0.5, [5, 0, 5]),
    ],
)
def test_a_stratified_split_keeps_the_shares(whole, portion, first):
    dataset = of(*whole)
    if portion == 0.01:
        assert torch.bincount(dataset.labels[first_of_each(dataset.labels, 1)]).tolist() == first
        return
    one, other = data.split(dataset, portion, 0, by_class=True)
    found = counts(one)
    assert found == first
    assert [a + b for a, b in zip(found, counts(other), strict=True)] == list(whole)
    seen = torch.cat([one.pixels(slice(None)), other.pixels(slice(None))])[:, 0, 0, 0].tolist()
    assert sorted(seen) == list(range(sum(whole)))  # a partition


def test_a_stratified_split_depends_on_its_seed_and_mixes_the_classes():
    dataset = of(40, 40)
    one, again, other = (data.split(dataset, 0.5, seed, by_class=True)[0] for seed in (0, 0, 1))
    assert torch.equal(one.rows, again.rows)
    assert not torch.equal(one.rows, other.rows)
    assert len(set(one.labels[:10].tolist())) == 2


def test_a_random_split_may_lose_a_class_and_a_stratified_one_does_not():
    lost = [bool(unlike(*data.split(of(30, 30, 2), 0.5, seed))) for seed in range(20)]
    assert 5 < sum(lost) < 15  # one in two
    assert not any(unlike(*data.split(of(30, 30, 2), 0.5, seed, by_class=True)) for seed in range(20))
    assert all(0 not in counts(data.limited(of(90, 3), 30, seed, by_class=True)) for seed in range(20))


def test_published_data_sets_keep_the_random_split():
    for config in (SearchCNN, TrainCNN):
        found = {name: config(dataset=name).split for name in ("cifar10", "svhn", "digits", "fashion-mnist", "folder")}
        assert {name for name, split in found.items() if split == "stratified"} == {"folder"}
        assert config(dataset="folder", split="random").split == "random"
    whole = data.load("digits", None)
    order = torch.randperm(1438, generator=data.generator(0, "split"))
    assert torch.equal(data.split(whole, 0.5, 0)[0].pixels(slice(None)), whole.images[order[:719]])


@pytest.mark.parametrize(
    ("whole", "said"),
    [
        ((10, 10), []),
        ((9, 1), ["warning: b has a single image here"]),
        ((9, 1, 1), ["warning: b, c have a single image here"]),
        ((9, 0, 5), ["warning: b has no image here"]),
        ((95, 5), ["warning: a has 19 times the images of b; always to answer a is right for 95%"]),
        ((9, 2), []),
    ],
)
def test_what_is_said_of_classes(whole, said):
    found = notes(of(*whole))
    assert len(found) == len(said)
    assert all(note.startswith(start) for note, start in zip(found, said, strict=True))


def test_what_the_classes_are_worth():
    confusion = torch.tensor([[90, 0, 0], [5, 5, 0], [0, 0, 0]])
    assert by_class(confusion, ["a", "b", "c"]) == {
        "a": {"images": 90, "accuracy": 1.0},
        "b": {"images": 10, "accuracy": 0.5},
        "c": {"images": 0, "accuracy": None},
    }
    assert balanced_accuracy(confusion) == 0.75


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a.gif"], "1 file left out, in no format that is read (1 .gif): a.gif"),
        (["a.GIF", "b.gif", "c.txt"], "3 files left out, in no format that is read (2 .gif, 1 .txt): a.GIF, b.gif, c.txt"),
        (["README"], "1 file left out, in no format that is read (1 no ending): README"),
        ([f"{i}.gif" for i in range(7)], "(7 .gif): 0.gif, 1.gif, 2.gif, 3.gif, 4.gif and 2 more"),
        (["a/x.svg", "a/x.heic"], "(1 .svg, 1 .heic): a/x.svg, a/x.heic"),
    ],
)
def test_files_left_out_are_counted_and_named(names, said):
    assert of_left_out(names).endswith(said)


def folder(root, **counts):
    for part, of_classes in counts.items():
        for k, (name, count) in enumerate(of_classes.items()):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (8, 8), (200 * (k == 0), 20 * k + i, 200 * (k == 1))).save(root / part / name / f"{i}.png")


def test_an_evaluation_of_uneven_classes(tmp_path):
    """The numbers of each class are those of `darts predict`, image by image."""
    folder(tmp_path / "data", train={"a": 20, "b": 4, "c": 1}, test={"a": 20, "b": 3, "c": 2})
    run = tmp_path / "run"
    result = darts("train", "cnn", *TINY, "--data", tmp_path / "data", "--run", run)
    assert "train part: warning: c has a single image here" in result.stderr
    assert "train part: warning: a has 20 times the images of c" in result.stderr
    assert "top-5" not in (run / "report.md").read_text()
    found = json.loads(darts("eval", "--checkpoint", run, "--per-class", "--json").stdout)
    rows = json.loads(darts("predict", "--checkpoint", run, "--json", tmp_path / "data" / "test").stdout)
    taken = Counter((row["image"].split("/")[-2], row["class"]) for row in rows)
    assert found["confusion"] == [[taken[true, predicted] for predicted in "abc"] for true in "abc"]
    assert found["per_class"]["b"] == {"images": 3, "accuracy": taken["b", "b"] / 3}
    assert found["top1"] == sum(taken[name, name] for name in "abc") / 25
    balanced = sum(entry["accuracy"] for entry in found["per_class"].values()) / 3
    assert found.get("balanced_accuracy", found["top1"]) == pytest.approx(balanced, abs=0.005)
    assert "top5" not in found
    shown = darts("eval", "--checkpoint", run, "--per-class").stdout.split("\n\n")[1].splitlines()
    assert shown[0].split() == ["class", "images", "accuracy", "as", "0", "as", "1", "as", "2"]
    assert shown[2].split()[:3] == ["1", "b", "3"]


def test_a_search_says_which_class_a_half_lacks(tmp_path):
    folder(tmp_path / "data", train={"a": 16, "b": 16, "c": 1})
    args = ["search", "cnn", *TINY, "--data", tmp_path / "data"]
    result = darts(*args, "--run", tmp_path / "run")
    assert "both halves: warning: the validation half has no image of c" in result.stderr
