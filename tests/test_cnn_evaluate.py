"""The evaluation: its numbers, what it takes from a checkpoint, and what it refuses."""

import json
import shutil

import old_format
import pytest
import torch
import torch.nn.functional as F
from conftest import darts
from PIL import Image
from test_cnn_network import REFERENCES
from test_legacy import old_state
from torchvision.transforms import v2

from darts_cli.cnn import data
from darts_cli.cnn.datasets import imagenet
from darts_cli.cnn.evaluate import measure, metrics, restore, scores
from darts_cli.cnn.sizes import parameters
from darts_cli.runs import checkpoint

TRAIN = ["train", "cnn", "--dataset", "folder", "--layers", 3, "--channels", 2, "--batch-size", 8, "--epochs", 1]


@pytest.fixture(scope="module")
def trained(parts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    result = darts(*TRAIN, "--data", parts, "--genotype", "darts_v1", "--run", folder)
    assert result.exit_code == 0, result.stderr
    return folder


def evaluated(*args):
    result = darts("eval", *args, "--json")
    assert result.exit_code == 0, result.stderr
    assert len(result.stdout.splitlines()) == 1
    return json.loads(result.stdout)


def images_of(root, names, count, side):
    """A folder of noise with a class of each name; the images (N, 3, H, W) and labels as an ImageFolder orders them."""
    g = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (len(names) * count, 3, side, side), generator=g, dtype=torch.uint8)
    for i, image in enumerate(pixels):
        path = root / names[i // count] / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return pixels, torch.arange(len(names)).repeat_interleave(count)


def test_scores():
    logits = torch.tensor([[3.0, 2, 1, 0, -1, -2, -3], [3.0, 2, 1, 0, -1, -2, -3], [3.0, 2, 1, 0, -1, -2, -3]])
    sums = scores(torch.tensor(7.5), logits, torch.tensor([0, 4, 6]))
    assert sums.tolist() == [7.5, 1, 2, 3]
    assert metrics("test", sums) == {
        "test_loss": 2.5,
        "test_accuracy": pytest.approx(1 / 3),
        "test_top5": pytest.approx(2 / 3),
    }
    assert scores(torch.tensor(3.0), logits[:, :2], torch.tensor([1, 1, 0])).tolist() == [3, 1, 3, 3]


def test_the_numbers_are_those_of_the_whole_test_part(trained, parts):
    """One plain forward pass of all images, normalised by the training images' statistics."""
    found = evaluated("--checkpoint", trained, "--batch-size", 3)
    network = restore(trained).network.eval()
    train = data.load("folder", str(parts))
    test = data.load("folder", str(parts), train=False)
    assert test.mean != train.mean
    mean, deviation = (torch.tensor(each).view(3, 1, 1) for each in (train.mean, train.deviation))
    with torch.no_grad():
        logits = network((test.images.permute(0, 3, 1, 2) / 255 - mean) / deviation)[0]
    assert found["loss"] == pytest.approx(F.cross_entropy(logits, test.labels).item(), rel=1e-5)
    assert found["top1"] == pytest.approx((logits.argmax(1) == test.labels).float().mean().item())
    assert (found["images"], found["parameters"]) == (10, parameters(network))
    assert (found["genotype"], found["dataset"]) == ("DARTS_V1", "folder")


def test_a_run_its_checkpoint_and_a_copy_elsewhere_say_the_same(trained, parts, tmp_path):
    shutil.copy(trained / "checkpoint.pt", tmp_path / "copy.pt")
    results = [
        evaluated("--checkpoint", trained),
        evaluated("--checkpoint", trained / "checkpoint.pt"),
        evaluated("--checkpoint", tmp_path / "copy.pt", "--data", parts),
        evaluated("--checkpoint", trained, "--genotype", "cnn/darts_v1", "--dataset", "folder"),
    ]
    assert len({json.dumps(result | {"checkpoint": ""}) for result in results}) == 1


def test_the_result_as_text(trained):
    result = darts("eval", "--checkpoint", trained)
    lines = dict(line.split(None, 1) for line in result.stdout.splitlines())
    assert list(lines) == ["checkpoint", "genotype", "dataset", "images", "top1", "loss", "parameters"]
    assert result.stderr == ""


def test_other_images_than_those_of_the_training(trained, tmp_path):
    images_of(tmp_path / "test", ["dark", "light"], 4, 16)  # larger: scaled to the size of the training
    assert evaluated("--checkpoint", trained, "--data", tmp_path)["images"] == 8


def test_the_data_is_found_from_anywhere(parts, tmp_path, monkeypatch):
    """Although its place was given from where the training ran, and after it has moved in the middle of a run."""
    shutil.copytree(parts, tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    assert darts(*TRAIN, "--data", "images", "--run", "run").exit_code == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert evaluated("--checkpoint", "../run")["images"] == 10
    (tmp_path / "images").rename(tmp_path / "moved")
    assert "images: is not a folder of images (No such file or directory); name it" in one_line("--checkpoint", "../run")
    assert darts(*TRAIN, "--data", "../moved", "--run", "../run").exit_code == 0
    assert evaluated("--checkpoint", "../run")["images"] == 10


# ---- checkpoints of the original


@pytest.mark.parametrize("name", ["cifar_darts_v2", "cifar_nasnet"])
def test_a_cifar_checkpoint_of_the_original(tmp_path, name):
    """Normalised with the original's constants; loss and accuracy of a plain forward pass; logits of the reference to 1e-5."""
    state, x = old_state(name)
    old_format.write(tmp_path / "cifar10_model.pt", state)
    cells = REFERENCES[name]["genotype_name"]
    trained = restore(tmp_path / "cifar10_model.pt", None if cells == "DARTS_V2" else data_cells(cells))
    with torch.no_grad():
        logits = trained.network.eval()(x)[0]
    torch.testing.assert_close(logits.double(), REFERENCES[name]["eval_logits"], rtol=0, atol=1e-5)

    names = ["airplane", *"bcdefghij"]
    pixels, labels = images_of(tmp_path / "images" / "test", names, 2, 32)
    (tmp_path / "images" / "train").mkdir()
    args = ["--checkpoint", tmp_path / "cifar10_model.pt", "--dataset", "folder", "--data", tmp_path / "images"]
    found = evaluated(*args, *([] if cells == "DARTS_V2" else ["--arch", cells]))
    mean, deviation = (torch.tensor(each).view(3, 1, 1) for each in data.CIFAR10)
    with torch.no_grad():
        logits = trained.network((pixels / 255 - mean) / deviation)[0]
    assert found["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert found["top5"] == (logits.topk(5).indices == labels[:, None]).sum().item() / 20
    assert found["parameters"] == REFERENCES[name]["num_params"]


def data_cells(name):
    from darts_cli.genotype import load

    return load(name, "cnn")


def test_an_imagenet_checkpoint_of_the_original(tmp_path):
    """Scaled to 256, cropped to 224 in the middle, normalised: as torchvision does it on each image."""
    state, x = old_state("imagenet_darts_v2")
    old_format.write(tmp_path / "imagenet_model.pt", {"epoch": 250, "state_dict": state, "best_acc_top1": 73.3})
    network = restore(tmp_path / "imagenet_model.pt").network.eval()
    with torch.no_grad():
        logits = network(x)[0]
    torch.testing.assert_close(logits.double(), REFERENCES["imagenet_darts_v2"]["eval_logits"], rtol=0, atol=1e-5)

    pixels, labels = images_of(tmp_path / "images" / "val", [f"{i:02}" for i in range(17)], 1, 240)
    found = evaluated("--checkpoint", tmp_path / "imagenet_model.pt", "--data", tmp_path / "images", "--workers", 0)
    plain = v2.Compose(
        [
            v2.Resize(256, antialias=True),
            v2.CenterCrop(224),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(imagenet.MEAN, imagenet.DEVIATION),
        ]
    )
    with torch.no_grad():
        logits = network(torch.stack([plain(image) for image in pixels]))[0]
    assert found["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert (found["dataset"], found["images"], found["parameters"]) == ("imagenet", 17, 11_823)
    again = evaluated("--checkpoint", tmp_path / "imagenet_model.pt", "--data", tmp_path / "images", "--workers", 2)
    assert again == found


def test_measuring_evaluates_and_changes_nothing(trained, parts):
    network = restore(trained).network.train()
    from darts_cli.cnn.datasets.batches import Batches

    test = data.load("folder", str(parts), train=False)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    calls = []
    sums = measure(network, Batches(test, 4, 0, "test", torch.device("cpu")), "fp32", lambda: calls.append(None))
    assert (int(sums[3]), len(calls)) == (10, 3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_the_command_reads_the_file_once(trained, monkeypatch):
    read, verified = [], checkpoint.verified
    monkeypatch.setattr(checkpoint, "verified", lambda path: read.append(path) or verified(path))
    assert darts("eval", "--checkpoint", trained).exit_code == 0
    assert read == [checkpoint.file(trained)]


# ---- mistakes


def one_line(*args, code=1):
    result = darts("eval", *args)
    assert result.exit_code == code
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1, result.stderr
    return result.stderr


def test_mistakes(trained, parts, photos, tiny, tmp_path):
    state, _ = old_state("cifar_darts_v2")
    old = tmp_path / "cifar10_model.pt"
    old_format.write(old, state)
    darts(*tiny, "--epochs", 1, "--run", tmp_path / "search")
    (tmp_path / "empty").mkdir()
    damaged = torch.load(trained / "checkpoint.pt", weights_only=True)
    del damaged["network"]["classifier.bias"]
    torch.save(damaged, tmp_path / "damaged.pt")
    images_of(tmp_path / "three" / "test", ["dark", "light", "red"], 2, 8)

    torch.save({0: torch.zeros(1)}, tmp_path / "numbered.pt")
    torch.save(state | {"classifier.weight": torch.tensor(1.0)}, tmp_path / "scalar.pt")
    lacking = torch.load(trained / "checkpoint.pt", weights_only=True)
    del lacking["data"]["mean"]
    torch.save(lacking, tmp_path / "lacking.pt")
    torch.save(lacking | {"genotype": None}, tmp_path / "cells.pt")

    for args, said in (
        (["--checkpoint", tmp_path / "numbered.pt"], "numbered.pt: is not a checkpoint but a dict"),
        (["--checkpoint", tmp_path / "scalar.pt"], "scalar.pt: it has no stem, no cells or no classifier"),
        (["--checkpoint", tmp_path / "lacking.pt"], "lacking.pt: is damaged and cannot be read (KeyError: 'mean')"),
        (["--checkpoint", tmp_path / "cells.pt"], "cells.pt: is damaged and cannot be read"),
        (
            ["--checkpoint", old, "--dataset", "digits"],
            "digits: its images are 8x8 pixels, but the network was trained on 32x32",
        ),
        (["--checkpoint", tmp_path / "absent"], "absent: no such file"),
        (["--checkpoint", tmp_path / "empty"], "empty: holds no checkpoint, neither best.pt nor checkpoint.pt"),
        (["--checkpoint", tmp_path / "search"], "comes from darts search cnn; a trained network is needed: darts train cnn"),
        (["--checkpoint", trained, "--genotype", "nasnet"], "was trained with another genotype, DARTS_V1"),
        (["--checkpoint", trained, "--genotype", "enas"], "its domain is rnn, but cells of the domain cnn are needed here"),
        (["--checkpoint", tmp_path / "damaged.pt"], "damaged.pt: is damaged and cannot be read"),
        (["--checkpoint", old, "--genotype", "nasnet"], "is no network of NASNet; name its --genotype"),
        (["--checkpoint", old, "--dataset", "folder", "--data", parts], "has 10 classes, but"),
        (
            ["--checkpoint", trained, "--dataset", "digits"],
            "digits: its classes differ from those of the training: missing dark",
        ),
        (
            ["--checkpoint", trained, "--dataset", "imagenet", "--data", photos],
            "its images are 224x224 pixels, but",
        ),
        (
            ["--checkpoint", trained, "--data", tmp_path / "three"],
            "its classes differ from those of the training: unexpected red",
        ),
        (
            ["--checkpoint", trained, "--data", tmp_path / "none"],
            "none: is not a folder of images (No such file or directory); name it with --data",
        ),
    ):
        assert said in one_line(*args), said
    assert "name one run folder or checkpoint to evaluate" in one_line(code=2)
    assert "there is no such device" in one_line("--checkpoint", trained, "--device", "cuda:77", code=2)


@pytest.mark.parametrize("operation", ["skip_connect", "avg_pool_3x3", "nor_conv_1x1"])
def test_cells_of_nas_bench_201_without_weights(operation, tmp_path):
    """The network of the collapsed cell has weights only between its stages."""
    cell = "+".join("|" + "".join(f"{operation}~{j}|" for j in range(i)) for i in (1, 2, 3))
    settings = ("--dataset", "digits", "--layers", "1", "--channels", "4", "--max-images", "64", "--batch-size", "32")
    done = darts("train", "cnn", *settings, "--epochs", "1", "--genotype", cell, "--run", tmp_path / "run")
    assert done.exit_code == 0, done.stderr
    assert 0 <= evaluated(tmp_path / "run")["top1"] <= 1
