"""The training from the command line and as a function: what a step computes, the data protocol, and going on after a stop."""

import contextlib
import json
import math
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml
from conftest import assert_same_run, darts, finish, kill_after, start

from darts_cli import DartsError
from darts_cli.cnn.evaluate import restore
from darts_cli.cnn.model import Network
from darts_cli.cnn.sizes import parameters
from darts_cli.cnn.train import learning_rate, train, training_step
from darts_cli.config import TrainCNN
from darts_cli.formats.genotypes import load as read_genotype
from darts_cli.genotype import Genotype, load
from darts_cli.runs.run import Run
from darts_cli.runs.task import Task

SMALL = ["train", "cnn", "--dataset", "folder", "--layers", "3", "--channels", "2", "--batch-size", "8", "--epochs", "3"]


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


# ---- what a step computes


def small_network(auxiliary=False):
    torch.manual_seed(0)
    network = Network(load("darts_v1", "cnn"), 2, 5, 3, auxiliary).double()
    return network, torch.optim.SGD(network.parameters(), 0.1, 0.9, weight_decay=1e-3)


def test_a_step_is_the_formula():
    """Smoothed cross-entropy, twice, clipped, then SGD with momentum and weight decay: two steps written out."""
    config = TrainCNN(label_smoothing=0.1, auxiliary_weight=0.4, grad_clip=0.7)
    network, optimizer = small_network(auxiliary=True)
    twin, _ = small_network(auxiliary=True)
    x, y = torch.randn(6, 3, 32, 32, dtype=torch.float64), torch.randint(0, 5, (6,))
    targets = 0.9 * F.one_hot(y, 5) + 0.1 / 5
    momentum = [torch.zeros_like(weight) for weight in twin.parameters()]
    norms = []
    for _ in range(2):
        sums, norm = training_step(network, optimizer, config, x, y)
        logits, auxiliary = twin(x)
        loss = sum(weight * -(targets * each.log_softmax(1)).sum(1).mean() for weight, each in ((1, logits), (0.4, auxiliary)))
        gradients = torch.autograd.grad(loss, list(twin.parameters()))
        norms.append(math.sqrt(sum(float(g.square().sum()) for g in gradients)))
        assert norm.item() == pytest.approx(norms[-1], rel=1e-6)
        factor = min(1.0, 0.7 / (norms[-1] + 1e-6))
        with torch.no_grad():
            for weight, gradient, moving in zip(twin.parameters(), gradients, momentum, strict=True):
                moving.mul_(0.9).add_(factor * gradient + 1e-3 * weight)
                weight.sub_(0.1 * moving)
        assert sums[0].item() == pytest.approx(6 * loss.item(), rel=1e-5)
        assert sums[1].item() == (logits.argmax(1) == y).sum()
        assert sums[2:].tolist() == [6, 6]  # there are five classes only
    assert max(norms) > 0.7
    for ours, theirs in zip(network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("parts", [2, 3, 4])
def test_accumulated_parts_make_the_gradient_of_the_whole_batch(parts):
    """Where BatchNorm does not tell them apart: with its running statistics."""
    x, y = torch.randn(7, 3, 8, 8, dtype=torch.float64), torch.randint(0, 5, (7,))
    weights, sums = [], []
    for accumulate in (1, parts):
        network, optimizer = small_network()
        sums.append(training_step(network.eval(), optimizer, TrainCNN(accumulate=accumulate, grad_clip=0.5), x, y)[0])
        weights.append([weight.detach() for weight in network.parameters()])
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(sums[0], sums[1], rtol=1e-5, atol=0)


def test_no_part_of_a_batch_is_a_single_image():
    seen = []
    network, optimizer = small_network()
    network.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    training_step(
        network, optimizer, TrainCNN(accumulate=4), torch.randn(5, 3, 8, 8).double(), torch.zeros(5, dtype=torch.long)
    )
    assert seen == [3, 2]


def test_learning_rates():
    cifar = [learning_rate(TrainCNN(epochs=100), epoch) for epoch in range(100)]
    assert cifar[0] == 0.025
    assert cifar[50] == pytest.approx(0.0125)
    assert cifar[99] == pytest.approx(0.025 * (1 + math.cos(math.pi * 0.99)) / 2)
    imagenet = TrainCNN(dataset="imagenet")
    assert [learning_rate(imagenet, epoch) for epoch in range(250)] == pytest.approx([0.1 * 0.97**e for e in range(250)])
    modern = TrainCNN(dataset="imagenet", schedule="cosine", lr=0.5)
    rates = [learning_rate(modern, epoch) for epoch in range(250)]
    assert rates[:6] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.5])
    assert rates[5 + 49] == pytest.approx(0.5 * (1 + math.cos(math.pi * 49 / 245)) / 2)


def test_bf16_stays_near_fp32_over_twenty_steps():
    """It begins within a few roundings of bf16, and never strays further than a small part of what the training gains."""
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(16, 3, 16, 16, generator=g), torch.randint(0, 4, (16,), generator=g)
    losses = {}
    for precision in ("fp32", "bf16"):
        torch.manual_seed(0)
        network = Network(load("darts_v2", "cnn"), 8, 4, 3)
        optimizer = torch.optim.SGD(network.parameters(), 0.01, 0.9)
        config = TrainCNN(precision=precision)
        losses[precision] = [training_step(network, optimizer, config, x, y)[0][0].item() / 16 for _ in range(20)]
    assert losses["fp32"] != losses["bf16"]
    assert losses["bf16"][0] == pytest.approx(losses["fp32"][0], rel=2**-7)
    gained = losses["fp32"][0] - losses["fp32"][-1]
    assert gained > 0.2 * losses["fp32"][0]
    assert losses["bf16"] == pytest.approx(losses["fp32"], abs=0.05 * gained)


# ---- a run


def test_a_report_warns_of_cells_that_look_collapsed(parts, tmp_path):
    skips = [[["skip_connect", 0], ["skip_connect", 1]], [["skip_connect", 0], ["max_pool_3x3", 1]]]
    cells = {name: {"nodes": skips, "concat": [2, 3]} for name in ("normal", "reduce")}
    (tmp_path / "skips.yaml").write_text(yaml.safe_dump({"domain": "cnn", **cells}))
    for genotype, warned in ((tmp_path / "skips.yaml", True), ("nasnet", False)):
        args = ["--dataset", "folder", "--data", parts, "--epochs", 1, "--layers", 1, "--channels", 2, "--genotype", genotype]
        assert darts("train", "cnn", *args, "--run", tmp_path / str(warned)).exit_code == 0
        said = "**Warning:** the normal cell has 3 skip connections" in (tmp_path / str(warned) / "report.md").read_text()
        assert said is warned


def test_cells_of_a_run_are_trained_on_its_data(parts, tiny, tmp_path):
    """As the design has it: everything else is read from it, but for what is asked."""
    assert darts(*tiny, "--epochs", 1, "--run", tmp_path / "search").exit_code == 0
    data = yaml.safe_load((tmp_path / "search" / "config.yaml").read_text())["data"]
    train = ["train", "cnn", "--genotype", tmp_path / "search", "--epochs", 1, "--layers", 1, "--channels", 2]

    def trained_on(name, *more):
        result = darts(*train, *more, "--run", tmp_path / name)
        found = yaml.safe_load((tmp_path / name / "config.yaml").read_text()) if result.exit_code == 0 else result.stderr
        return (found["dataset"], found["data"]) if result.exit_code == 0 else found

    assert trained_on("else", "--data", parts) == ("folder", str(parts))
    assert trained_on("named", "--dataset", "folder", "--data", parts) == ("folder", str(parts))
    assert trained_on("digits", "--dataset", "digits") == ("digits", None)
    assert trained_on("same") == ("folder", data)  # of which a fifth is set aside


@pytest.fixture(scope="module", params=[[], ["--train-portion", "0.75"]], ids=["all", "held-out"])
def undisturbed(request, parts, tmp_path_factory):
    """A finished training, of all images or with a part held out: its arguments, without --run, and its folder."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    args = [*SMALL, "--data", str(parts), *request.param]
    result = darts(*args, "--run", folder)
    assert result.exit_code == 0, result.stderr
    return args, folder, result


def test_a_finished_training(undisturbed):
    args, folder, result = undisturbed
    held_out = "--train-portion" in args
    files = {"checkpoint.pt", "previous.pt", "config.yaml", "genotype.yaml", "log.jsonl", "metrics.jsonl", "report.md"}
    files |= {"curves.svg", "normal.svg", "reduce.svg"}
    files |= {"checkpoint.pt.sha256"} | ({"best.pt", "best.pt.sha256"} if held_out else set())
    assert {path.name for path in folder.iterdir()} == files
    assert load(folder) == load("darts_v2", "cnn")
    found = records(folder)
    assert [record["epoch"] for record in found] == [1, 2, 3]
    assert [record["drop_path"] for record in found] == pytest.approx([0, 0.2 / 3, 0.4 / 3])
    assert [record["lr"] for record in found] == pytest.approx([0.025, 0.01875, 0.00625])
    assert ["test_loss" in record for record in found] == ([False, False, True] if held_out else [True] * 3)
    assert all(("valid_loss" in record) == held_out for record in found)
    assert not any("time" in key or "second" in key for record in found for key in record)
    assert result.stdout.splitlines()[0].split() == ["test", "accuracy", f"{found[-1]['test_accuracy']:.2%}"]
    for said in ("training DARTS_V2 on folder, 2 classes", "cpu, fp32, ", "parameters", "multiply-adds", "3 epochs of"):
        assert said in result.stderr
    assert "next: darts eval " in result.stderr
    report = (folder / "report.md").read_text()
    assert ("75% of the training set, split by seed 0, trained the weights" in report) == held_out
    assert ("no part chose an epoch" in report) != held_out
    assert f"{found[-1]['test_accuracy']:.2%} | {1 - found[-1]['test_accuracy']:.2%}" in report


def test_the_best_epoch_is_chosen_by_what_was_held_out(undisturbed):
    args, folder, _ = undisturbed
    if "--train-portion" not in args:
        assert not (folder / "best.pt").exists()
        return
    found = records(folder)
    valid = [record["valid_accuracy"] for record in found]
    best = torch.load(folder / "best.pt", weights_only=True)
    assert best["epoch"] == valid.index(max(valid)) + 1
    evaluated = json.loads(darts("eval", "--checkpoint", folder / "best.pt", "--json").stdout)
    assert evaluated["top1"] == found[-1]["best_test_accuracy"]
    last = json.loads(darts("eval", "--checkpoint", folder / "checkpoint.pt", "--json").stdout)
    assert last["top1"] == found[-1]["test_accuracy"]
    assert json.loads(darts("eval", "--checkpoint", folder, "--json").stdout) == evaluated


def test_the_first_of_equally_good_epochs_is_the_best(parts, tmp_path):
    """At a learning rate of nearly nothing the epochs differ in their running statistics only."""
    still = ["--lr", "1e-30", "--momentum", 0, "--train-portion", "0.75", "--data", parts, "--run", tmp_path / "run"]
    assert darts(*SMALL, *still).exit_code == 0
    valid = [record["valid_accuracy"] for record in records(tmp_path / "run")]
    assert valid.count(max(valid)) > 1
    assert torch.load(tmp_path / "run" / "best.pt", weights_only=True)["epoch"] == valid.index(max(valid)) + 1


def test_the_same_seed_gives_the_same_bits_and_another_does_not(undisturbed, tmp_path):
    args, folder, _ = undisturbed
    darts(*args, "--run", tmp_path / "again", "--log-every", 1, "--checkpoint-minutes", 0)
    assert_same_run(folder, tmp_path / "again")
    darts(*args, "--run", tmp_path / "other", "--seed", 1)
    assert records(folder)[0]["train_loss"] != records(tmp_path / "other")[0]["train_loss"]


def test_a_finished_run_is_not_repeated(undisturbed):
    args, folder, result = undisturbed
    written = (folder / "checkpoint.pt").stat().st_mtime_ns
    again = darts(*args, "--run", folder)
    assert again.stdout == result.stdout
    assert "complete already" in again.stderr
    assert (folder / "checkpoint.pt").stat().st_mtime_ns == written


@pytest.mark.slow
def test_killed_while_other_processes_read_the_images(photos, tmp_path):
    """ImageNet: random crops, flips and colours come from worker processes, whose number changes nothing."""
    args = ["train", "cnn", "--dataset", "imagenet", "--data", photos, "--layers", 3, "--channels", 2, "--batch-size", 4]
    args += ["--epochs", 2, "--accumulate", 2, "--drop-path", 0.2]
    whole = darts(*args, "--run", tmp_path / "whole", "--workers", 0)
    assert whole.exit_code == 0, whole.stderr
    run = tmp_path / "killed"
    place = kill_after(start(*args, "--run", run, "--workers", 2, "--checkpoint-minutes", 0), run, 2)
    assert place == (0, 2)
    code, _, err = finish(start(*args, "--run", run, "--workers", 1))
    assert code == 0, err
    assert "resuming after step 2 of 6" in err
    assert_same_run(tmp_path / "whole", run)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_by_a_signal_to_all_processes(photos, tmp_path, number, code):
    """As Ctrl-C and a cluster's scheduler send it: to the run and to the processes that read for it."""
    args = ["train", "cnn", "--dataset", "imagenet", "--data", photos, "--layers", 3, "--channels", 2, "--batch-size", 4]
    args += ["--epochs", 200, "--workers", 2, "--log-every", 1, "--run", tmp_path / "run"]
    process = start(*args, start_new_session=True)
    for line in process.stderr:
        if "step 2/3" in line:
            break
    os.killpg(process.pid, number)
    exit_code, out, err = finish(process)
    assert exit_code == code, err
    assert out == ""
    assert f"stopped by {number.name}; the state is saved; to resume: darts train cnn --genotype" in err
    assert "Traceback" not in err
    assert (tmp_path / "run" / "checkpoint.pt").exists()


@pytest.mark.slow
def test_digits_are_learnt(tmp_path, monkeypatch):
    """Twelve of the thirty epochs of the documented command; at least 97 %."""
    monkeypatch.chdir(tmp_path)
    result = darts("train", "cnn", "--dataset", "digits", "--epochs", 12, "--channels", 8, "--layers", 5)
    assert result.exit_code == 0, result.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"train-cnn-digits-seed0-[0-9a-f]{8}", folder.name)
    assert records(folder)[-1]["test_accuracy"] >= 0.97


# ---- whose run it is


def test_the_cells_are_part_of_the_identity(undisturbed, tmp_path):
    args, folder, _ = undisturbed
    other = darts(*args, "--genotype", "nasnet", "--run", folder)
    assert other.exit_code == 1
    assert "is a run of another --genotype; choose another folder with --run" in other.stderr
    renamed = yaml.safe_load((folder / "genotype.yaml").read_text()) | {"name": "mine", "notes": "the same cells"}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(renamed))
    again = darts(*args, "--arch", tmp_path / "mine.yaml", "--run", folder)
    assert again.exit_code == 0, again.stderr
    assert "complete already" in again.stderr
    config = TrainCNN(dataset="digits")
    same = Genotype.from_dict(renamed)
    assert config.hash(same) == config.hash(load("darts_v2", "cnn")) != config.hash(load("nasnet"))


def test_the_config_of_a_run_repeats_it_with_its_cells(parts, tmp_path):
    first = darts(*SMALL, "--data", parts, "--genotype", "pdarts", "--no-auxiliary", "--run", tmp_path / "run")
    assert first.exit_code == 0, first.stderr
    again = darts("train", "cnn", "--config", tmp_path / "run" / "config.yaml", "--run", tmp_path / "run")
    assert "complete already" in again.stderr, again.stderr
    report = (tmp_path / "run" / "report.md").read_text()
    command = re.search(r"^    darts (.*)$", report, re.MULTILINE)[1].split()
    assert "complete already" in darts(*command, "--run", tmp_path / "run").stderr
    assert [word for word in command if word in ("--genotype", "cnn/pdarts", "--no-auxiliary")] == [
        "--genotype",
        "cnn/pdarts",
        "--no-auxiliary",
    ]


def test_a_cell_without_a_name_is_repeated_from_the_report(parts, tmp_path):
    plain = load("pdarts").to_dict()
    plain = {key: plain[key] for key in ("domain", "normal", "reduce")}
    (tmp_path / "found.yaml").write_text(yaml.safe_dump(plain))
    darts(*SMALL, "--epochs", 1, "--data", parts, "--genotype", tmp_path / "found.yaml", "--run", tmp_path / "run")
    words = shlex.split((tmp_path / "run" / "report.md").read_text().splitlines()[-1])
    assert read_genotype(words[words.index("--genotype") + 1]) == load("pdarts")


def test_the_recipe_of_the_data_set():
    """Every number of the reference's two columns."""
    cifar, imagenet = TrainCNN(), TrainCNN(dataset="imagenet")
    columns = {
        "epochs": (600, 250),
        "batch_size": (96, 128),
        "layers": (20, 14),
        "channels": (36, 48),
        "lr": (0.025, 0.1),
        "schedule": ("cosine", "exponential"),
        "lr_decay": (0.97, 0.97),
        "momentum": (0.9, 0.9),
        "weight_decay": (3e-4, 3e-5),
        "grad_clip": (5, 5),
        "seed": (0, 0),
        "cutout": (16, 0),
        "auxiliary": (True, True),
        "auxiliary_weight": (0.4, 0.4),
        "drop_path": (0.2, 0),
        "label_smoothing": (0, 0.1),
        "color_jitter": ((0, 0, 0, 0), (0.4, 0.4, 0.4, 0.2)),
        "train_portion": (1, 1),
        "warmup": (0, 0),
    }
    assert {name: (getattr(cifar, name), getattr(imagenet, name)) for name in columns} == columns
    digits = TrainCNN(dataset="digits")
    assert (digits.cutout, digits.auxiliary, digits.epochs) == (0, False, 30)
    assert TrainCNN(dataset="imagenet", epochs=3).epochs == 3


# ---- weights to start from


def test_weights_to_start_from(undisturbed, parts, tmp_path):
    """One step at a learning rate of nearly nothing leaves them where they were."""
    args, folder, _ = undisturbed
    still = ["--epochs", 1, "--lr", "1e-30", "--momentum", 0, "--init-from", folder, "--run", tmp_path / "run"]
    result = darts(*args, *still)
    assert result.exit_code == 0, result.stderr
    before, after = (dict(restore(each).network.named_parameters()) for each in (folder, tmp_path / "run"))
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())


def test_weights_that_do_not_fit(undisturbed, parts, tmp_path):
    args, folder, _ = undisturbed
    for options, said in (
        (["--genotype", "nasnet"], "was trained with another genotype, DARTS_V2"),
        (["--channels", 4, "--layers", 5], "its network has channels 2, not 4; layers 3, not 5"),
    ):
        result = darts(*args, "--init-from", folder / "checkpoint.pt", *options, "--run", tmp_path / "run")
        assert result.exit_code == 1
        assert len(result.stderr.splitlines()) == 1
        assert said in result.stderr
        assert not (tmp_path / "run").exists()


# ---- for outer loops


def test_a_random_search_of_three_candidates():
    """What BANANAS does with this network, and docs/python.md shows."""
    random.seed(0)

    def cell():
        return [(state, random.randrange(1, 8)) for node in range(4) for state in random.sample(range(2 + node), 2)]

    config = TrainCNN(dataset="digits", epochs=2, channels=4, layers=3, batch_size=180, train_portion=0.75)
    candidates = [Genotype.from_tuples([cell(), cell()]) for _ in range(3)]
    results = [train(candidate, config, quiet=True) for candidate in candidates]
    for candidate, result in zip(candidates, results, strict=True):
        assert len(result.valid_accuracy) == 2
        assert result.last_five == result.valid_accuracy
        assert len(result.test_accuracy) == 1
        assert result.best_epoch == result.valid_accuracy.index(max(result.valid_accuracy)) + 1
        assert result.parameters == parameters(Network(candidate, 4, 10, 3))
        assert result.seconds > 0
    assert len({tuple(result.valid_accuracy) for result in results}) > 1
    assert train(candidates[0], config, quiet=True).valid_accuracy == results[0].valid_accuracy


def test_a_run_of_something_else_is_refused(tmp_path):
    """Rather than recording what was not trained."""
    cells, config = load("darts_v1", "cnn"), TrainCNN(dataset="digits", epochs=1, channels=2, layers=3)
    for other in (
        Run(Task("train", "cnn"), config, tmp_path / "run"),
        Run(Task("train", "cnn"), config, tmp_path / "run", load("nasnet")),
        Run(Task("train", "cnn"), TrainCNN(dataset="digits"), tmp_path / "run", cells),
    ):
        with pytest.raises(DartsError, match="must have this genotype and configuration"):
            train(cells, config, other)
    assert not (tmp_path / "run").exists()


def test_ctrl_c_ends_a_training_without_a_run_like_any_function():
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background may ignore\n"
        "from darts_cli.cnn.train import train; from darts_cli.config import TrainCNN; from darts_cli.genotype import load\n"
        "try: train(load('darts_v1', 'cnn'), TrainCNN(dataset='digits', epochs=600, channels=2, layers=3, log_every=1))\n"
        "except KeyboardInterrupt: print('interrupted')"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "step 2/" in line:
            break
    for _ in range(3):  # Python drops an interrupt that comes inside a destructor
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            assert process.communicate(timeout=20)[0] == "interrupted\n"
            return
    pytest.fail("not interrupted")


def test_nothing_is_left_of_a_training_without_a_run(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    config = TrainCNN(dataset="digits", epochs=1, channels=2, layers=3, batch_size=720)
    result = train(load("darts_v1", "cnn"), config, quiet=True)
    assert (result.valid_accuracy, result.best_epoch, len(result.test_accuracy)) == ([], None, 1)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_a_loss_that_is_not_finite_ends_the_run(parts, tmp_path):
    result = darts(*SMALL, "--data", parts, "--run", tmp_path / "run", "--lr", "1e30")
    assert result.exit_code == 1
    assert (
        "epoch 1, step 2: the training loss is no longer finite; there is no checkpoint yet" in result.stderr.splitlines()[-1]
    )
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_other_classes_to_test_on(parts, tmp_path):
    shutil.copytree(parts, tmp_path / "parts")
    shutil.rmtree(tmp_path / "parts" / "test" / "light")
    (tmp_path / "parts" / "test" / "lights").mkdir()
    shutil.copy(parts / "test" / "light" / "49.png", tmp_path / "parts" / "test" / "lights")
    result = darts(*SMALL, "--data", tmp_path / "parts", "--run", tmp_path / "run")
    assert result.exit_code == 1
    assert "its classes differ from those of the training: missing light; unexpected lights" in result.stderr
    assert not (tmp_path / "run").exists()


def test_the_documented_random_search_is_the_tested_one():
    text = (Path(__file__).parent.parent / "docs" / "python.md").read_text(encoding="utf-8")
    code = next(code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "from_tuples" in code)
    assert "Genotype.from_tuples" in code
    assert len(code.splitlines()) <= 14
    names = {"TrainCNN": lambda **settings: TrainCNN(**settings | {"epochs": 1, "batch_size": 360, "layers": 3, "channels": 2})}
    shown = []
    code = code.replace("from darts_cli.config import TrainCNN\n", "")
    exec(compile(code, "python.md", "exec"), names | {"print": shown.append})
    assert len(shown) == 1
    with pytest.raises(DartsError):
        Genotype.from_tuples([[], []])
