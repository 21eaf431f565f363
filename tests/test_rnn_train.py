"""The training and evaluation of recurrent cells: steps, averaging, the way back from NaN, going on, and old models."""

import json
import math
import os

import old_format
import pytest
import torch
from conftest import assert_same_run, darts, kill_after, start, unigram
from test_rnn_model import NETWORKS

from darts_cli import DartsError, legacy
from darts_cli.config import TrainRNN
from darts_cli.genotype import load
from darts_cli.rnn import data
from darts_cli.rnn.averaging import Averaging, stalled
from darts_cli.rnn.evaluate import restore
from darts_cli.rnn.model import Network
from darts_cli.rnn.train import _roll_back, train, training_step
from darts_cli.runs.run import Run
from darts_cli.runs.task import Task
from darts_cli.runtime.nonfinite import NotFinite

SMALL = ["--dim", "6", "--batch-size", "4", "--eval-batch", "2", "--bptt", "5", "--dropout", "0.2", "--dropoutx", "0.2"]
AVERAGING = ["--epochs", "6", "--lr", "20", "--asgd-after", "1"]


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def undisturbed(text, tmp_path_factory):
    """A finished training that begins to average on its way: its arguments, without --run, and its folder."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    args = ["train", "rnn", "--dataset", "text", "--data", str(text), *SMALL, *AVERAGING]
    result = darts(*args, "--run", folder)
    assert result.exit_code == 0, result.stderr
    return args, folder, result


# ---- what a step computes


@pytest.mark.parametrize("chunks", [2, 3])
def test_chunks_make_the_gradient_of_the_whole_batch(chunks):
    torch.manual_seed(0)
    x, y = torch.randint(0, 9, (6, 5)), torch.randint(0, 9, (6, 5))
    results = []
    for n in (1, chunks):
        torch.manual_seed(1)
        network = Network(load("rnn/darts_v2"), 9, 4).double()
        optimizer = torch.optim.SGD(network.parameters(), 1.0)
        config = TrainRNN(batch_chunks=n, ar=2.0, tar=0.5, lr=3.0)
        torch.manual_seed(2)  # the masks
        sums, hidden, norm = training_step(network, optimizer, config, x, y, network.initial(5))
        results.append((sums, hidden, norm, [weight.detach() for weight in network.parameters()]))
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-12)


def test_the_rate_is_scaled_with_the_length():
    network = Network(load("rnn/enas"), 9, 4)
    optimizer = torch.optim.SGD(network.parameters(), 1.0)
    x = torch.zeros(14, 2, dtype=torch.long)
    training_step(network, optimizer, TrainRNN(lr=20.0, bptt=35), x, x, network.initial(2))
    assert optimizer.param_groups[0]["lr"] == pytest.approx(8.0)


# ---- averaging


def test_when_to_average():
    """Rising above the least of all but the last five, with more than five recorded and, for ptb, below a perplexity of 78."""
    falling = [{"valid_loss": 5 - 0.1 * i} for i in range(6)]
    worse = [{"valid_loss": 4.0}] + [{"valid_loss": 4.1}] * 5
    anywhere, ptb = TrainRNN(dataset="wt2"), TrainRNN(dataset="ptb")
    assert (anywhere.asgd_below, ptb.asgd_below) == (None, 78.0)
    assert not stalled(anywhere, falling)
    assert not stalled(anywhere, worse)  # six recorded: only five before the last
    assert stalled(anywhere, [*worse, {"valid_loss": 4.05}])
    assert not stalled(anywhere, [*worse, {"valid_loss": 3.99}])
    assert stalled(ptb, [*worse, {"valid_loss": 4.05}])  # exp(4.05) = 57
    assert not stalled(ptb, [{"valid_loss": 4.4}] * 6 + [{"valid_loss": 4.5}])  # exp(4.5) = 90


def test_the_averages_are_means_and_those_of_torch():
    """Of all steps but the first, which torch's ASGD overwrites."""
    torch.manual_seed(0)
    network = Network(load("rnn/enas"), 9, 4).double()
    config = TrainRNN(lr=2.0, weight_decay=0.01)
    twin = Network(load("rnn/enas"), 9, 4).double()
    twin.load_state_dict(network.state_dict())
    ours = Averaging(network, config)
    assert ours.averaged() is network
    ours.average()
    theirs = torch.optim.ASGD(twin.parameters(), lr=2.0, t0=0, lambd=0.0, weight_decay=0.01)
    passed = []
    for _ in range(4):
        x, y = torch.randint(0, 9, (6, 5)), torch.randint(0, 9, (6, 5))
        torch.manual_seed(1)
        training_step(network, ours.optimizer, config, x, y, network.initial(5))
        torch.manual_seed(1)
        training_step(twin, theirs, config, x, y, twin.initial(5))
        passed.append([weight.detach().clone() for weight in network.parameters()])
    for i, (mean, weight) in enumerate(zip(ours.averaged().parameters(), twin.parameters(), strict=True)):
        torch.testing.assert_close(mean, torch.stack([step[i] for step in passed[1:]]).mean(0), rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(mean, theirs.state[weight]["ax"])
    mean = ours.averaged()
    assert mean.decoder.weight is mean.encoder.weight is not network.encoder.weight
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), passed[-1], strict=True))


def test_the_switch_happens_and_the_averages_are_evaluated_and_saved(undisturbed):
    _, folder, result = undisturbed
    found = records(folder)
    kinds = [record["averages"] for record in found]
    assert kinds == sorted(kinds)
    assert {True, False} == set(kinds)
    assert "averaging the weights from here on" in result.stderr
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    assert state["optimizer"]["averages"]
    best = torch.load(folder / "best.pt", weights_only=True)
    losses = [record["valid_loss"] for record in found]
    assert best["epoch"] == losses.index(min(losses)) + 1
    evaluated = json.loads(darts("eval", "--checkpoint", folder, "--json").stdout)
    assert evaluated["perplexity"] == pytest.approx(found[-1]["test_perplexity"], rel=1e-6)


def test_the_newest_checkpoint_is_evaluated_with_its_averages_too(undisturbed):
    _, folder, _ = undisturbed
    last = records(folder)[-1]
    evaluated = json.loads(darts("eval", "--checkpoint", folder / "checkpoint.pt", "--json").stdout)
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    mean = restore(folder / "checkpoint.pt").network.state_dict()["cell.W0"]
    assert last["averages"]
    assert not torch.equal(mean, state["network"]["cell.W0"])
    averages = [about["ax"] for about in state["optimizer"]["optimizer"]["state"].values()]
    assert any(torch.equal(mean, average) for average in averages)
    assert evaluated["perplexity"] > 1


def test_a_finished_training(undisturbed):
    _, folder, result = undisturbed
    files = {"best.pt", "checkpoint.pt", "config.yaml", "genotype.yaml", "log.jsonl", "metrics.jsonl", "report.md"}
    files |= {"curves.svg", "recurrent.svg"}
    files |= {"best.pt.sha256", "checkpoint.pt.sha256", "previous.pt"}
    assert {path.name for path in folder.iterdir()} == files
    assert load(folder) == load("rnn/darts_v2")
    found = records(folder)
    assert [record["epoch"] for record in found] == [1, 2, 3, 4, 5, 6]
    assert ["test_loss" in record for record in found] == [False] * 5 + [True]
    assert result.stdout.splitlines()[0].split() == ["test", "perplexity", f"{found[-1]['test_perplexity']:.2f}"]
    assert "training DARTS_V2 on text, 4 different words" in result.stderr
    assert f"| test | {found[-1]['test_loss']:.4f} | {found[-1]['test_perplexity']:.2f} |" in (folder / "report.md").read_text()


def test_the_same_seed_gives_the_same_bits(undisturbed, tmp_path):
    args, folder, _ = undisturbed
    darts(*args, "--run", tmp_path / "again", "--log-every", 1, "--checkpoint-minutes", 0)
    assert_same_run(folder, tmp_path / "again")


def test_patience_ends_it_sooner(text, tmp_path):
    args = ["train", "rnn", "--dataset", "text", "--data", text, *SMALL, "--epochs", 50, "--lr", 20, "--patience", 2]
    result = darts(*args, "--run", tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    losses = [record["valid_loss"] for record in records(tmp_path / "run")]
    assert len(losses) < 50
    assert losses.index(min(losses)) == len(losses) - 3
    assert "complete already" in darts(*args, "--run", tmp_path / "run").stderr


# ---- the way back from NaN


def test_a_loss_that_is_not_finite_goes_back_to_the_best_epoch(text, tmp_path):
    """After two good epochs a weight in the checkpoint is made NaN; a line says so, the rest is trained with other masks."""
    args = ["train", "rnn", "--dataset", "text", "--data", text, *SMALL, "--lr", 2, "--epochs", 4]
    run = tmp_path / "run"
    process = start(*args, "--run", run, "--checkpoint-minutes", 1000)
    kill_after(process, run, 2)
    path = run / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    best = torch.load(run / "best.pt", weights_only=True)["epoch"]
    state["network"]["cell.W0"][0, 0] = math.nan
    torch.save(state, path)
    (run / "checkpoint.pt.sha256").unlink()
    result = darts(*args, "--run", run)
    assert result.exit_code == 0, result.stderr
    assert f"back to the best epoch, {best} (roll-back 1)" in result.stderr
    assert "epoch 3, step 1: the training loss is no longer finite" in result.stderr
    assert [record["epoch"] for record in records(run)] == [1, 2, 3, 4]
    assert torch.load(path, weights_only=True)["roll_backs"] == 1

    state["roll_backs"] = 3
    torch.save(state, path)
    (run / "checkpoint.pt.sha256").unlink()
    result = darts(*args, "--run", run)
    assert result.exit_code == 1
    assert "no longer finite" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("averages", [False, True])
def test_the_way_back_leads_to_the_optimiser_of_the_best_epoch(tmp_path, averages):
    """Which is SGD when averaging began only after it."""
    cells, config = load("rnn/enas"), TrainRNN(dataset="pydoc", dim=4)
    run = Run(Task("train", "rnn"), config, tmp_path / "run", cells)
    run.start({}, {"fingerprint": "", "vocab": list("abcdefghi")})
    network = Network(cells, 9, 4)
    optimizer = Averaging(network, config)
    run.reports.metrics = [{"averages": averages}, {"averages": True}]
    run.state.save({"epoch": 1, "step": 0, "network": network.state_dict()}, "best.pt")
    optimizer.average()
    training_step(network, optimizer.optimizer, config, *torch.zeros(2, 3, 2, dtype=torch.long), network.initial(2))
    assert _roll_back(NotFinite("lost"), run, network, optimizer, roll_backs=1) == 1
    assert run.reports.metrics == [{"averages": averages}]
    assert optimizer.averages is averages
    assert not optimizer.optimizer.state
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), restore(run.folder).network.parameters(), strict=True))


def test_there_is_no_way_back_to_an_epoch_that_was_lost_itself(tmp_path):
    """Its best.pt is written before its record: going on after it would leave a record out."""
    cells, config = load("rnn/enas"), TrainRNN(dataset="pydoc", dim=4)
    run = Run(Task("train", "rnn"), config, tmp_path / "run", cells)
    run.start({}, {"fingerprint": "", "vocab": list("abcdefghi")})
    network = Network(cells, 9, 4)
    optimizer = Averaging(network, config)
    run.reports.metrics = [{"averages": False}]
    run.state.save({"epoch": 2, "step": 0, "network": network.state_dict()}, "best.pt")
    with pytest.raises(NotFinite, match="lost"):
        _roll_back(NotFinite("lost"), run, network, optimizer, roll_backs=0)
    assert len(run.reports.metrics) == 1


# ---- evaluation


def test_another_corpus_counts_and_names_what_is_unknown(undisturbed, tmp_path):
    _, folder, _ = undisturbed
    for part in ("train", "valid", "test"):
        (tmp_path / f"{part}.txt").write_text("a b c d\n" * 5 + "e d a\n")
    found = json.loads(darts("eval", "--checkpoint", folder, "--data", tmp_path, "--json").stdout)
    assert (found["unknown"], found["unknown_words"]) == (7, ["d", "e"])
    assert found["words"] == 29 - 7 - 1  # of 29 with <eos>
    assert "unknown words  d e" in darts("eval", "--checkpoint", folder, "--data", tmp_path).stdout


@pytest.mark.slow
def test_pydoc_is_learnt(tmp_path):
    """Offline, within a minute, below the perplexity of a unigram model of the same text."""
    result = darts("train", "rnn", "--dataset", "pydoc", "--epochs", 3, "--run", tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    corpus = data.load("pydoc", None)
    assert records(tmp_path / "run")[-1]["test_perplexity"] < 0.9 * unigram(corpus, corpus.test)


def test_the_function_for_outer_loops(tmp_path):
    config = TrainRNN(dataset="pydoc", epochs=1, dim=4, bptt=500, batch_size=64)
    result = train(load("rnn/enas"), config, quiet=True)
    assert result.best_epoch == 1
    assert result.valid_perplexity[0] > 1
    assert result.test_perplexity > 1
    with pytest.raises(DartsError, match="must have this genotype and configuration"):
        train(load("rnn/enas"), config, Run(Task("train", "rnn"), config, tmp_path / "run"))


# ---- the original's pickled model


def old_model(tmp_path, name="darts_v2", **attributes):
    reference = NETWORKS[name]
    state = {key: tensor.float() for key, tensor in reference["state_dict"].items()}
    edges = [("sigmoid", 0)]
    model, kinds = old_format.rnn_model(state, edges, ntoken=23, ninp=12, dropout=0.75, **attributes)
    old_format.write_model(tmp_path / "ptb_model.pt", model, kinds)
    return tmp_path / "ptb_model.pt", reference, state


def test_a_whole_pickled_model_is_read_as_plain_containers(tmp_path):
    path, _, state = old_model(tmp_path)
    found = legacy.read_checkpoint(path)
    assert set(found["state_dict"]) == set(state) | {"decoder.weight"}
    assert all(torch.equal(found["state_dict"][key], tensor) for key, tensor in state.items())
    assert found["config"]["ntoken"] == 23
    assert found["config"]["dropout"] == 0.75


@pytest.mark.parametrize("name", ["darts_v2", "enas"])
def test_an_old_model_is_evaluated(tmp_path, name):
    path, reference, _ = old_model(tmp_path, name)
    trained = restore(path, load(name, "rnn"))
    with torch.no_grad():
        log_probs, hidden = trained.network.eval()(reference["x"], reference["hidden"].float())
    torch.testing.assert_close(log_probs.double(), reference["eval_log_prob"], rtol=0, atol=1e-5)
    torch.testing.assert_close(hidden.double(), reference["eval_hidden"], rtol=0, atol=1e-5)

    words = [f"w{i}" for i in range(22)]  # and <eos>
    for part in ("train", "valid", "test"):
        (tmp_path / f"{part}.txt").write_text("\n".join(" ".join(words[i:]) for i in range(22)) + "\n")
    result = darts("eval", "--checkpoint", path, "--genotype", name, "--data", tmp_path, "--json")
    assert result.exit_code == 0, result.stderr
    corpus = data.Corpus(tmp_path)
    with torch.no_grad():
        log_probs, _ = trained.network(corpus.test[:-1, None], trained.network.initial(1))
    nll = -log_probs[torch.arange(len(corpus.test) - 1), 0, corpus.test[1:]].mean().item()
    assert json.loads(result.stdout)["loss"] == pytest.approx(nll, rel=1e-5)


def test_a_vocabulary_of_another_size_is_said_with_both(tmp_path, text):
    path, _, _ = old_model(tmp_path)
    result = darts("eval", "--checkpoint", path, "--data", text)
    assert result.exit_code == 1
    assert result.stderr.strip().endswith(f"ptb_model.pt: knows 23 words, but {text} has 4")


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_model_that_calls_anything_is_refused_without_running_it(tmp_path):
    path, _, _ = old_model(tmp_path, extra=Payload(tmp_path / "executed"))
    for args in (["eval", "--checkpoint", path], ["train", "rnn", "--dataset", "pydoc", "--init-from", path, "--dim", 12]):
        result = darts(*args)
        assert result.exit_code == 1
        assert len(result.stderr.splitlines()) == 1
        assert "mkdir, which no checkpoint needs; nothing was loaded" in result.stderr
    assert not (tmp_path / "executed").exists()


def test_mistakes(undisturbed, text, tmp_path):
    args, folder, _ = undisturbed
    torch.save({"state_dict": 5}, tmp_path / "five.pt")
    made, kinds = old_format.rnn_model(
        {key: tensor.float() for key, tensor in NETWORKS["enas"]["state_dict"].items()}, [("tanh", 0)]
    )
    made._parameters = 5
    old_format.write_model(tmp_path / "odd.pt", made, kinds)
    for command, code, said in (
        (["eval", "--checkpoint", tmp_path / "five.pt"], 1, "it holds no state dict"),
        (["eval", "--checkpoint", tmp_path / "odd.pt"], 1, "odd.pt: is no checkpoint, or is damaged (its _parameters)"),
        (["train", "rnn", "--dataset", "pydoc", "--data", text], 2, "pydoc is built in and has no folder; use --dataset text"),
        (["eval", "--checkpoint", folder, "--dataset", "digits"], 2, "holds a network of the domain rnn"),
        (["eval", "--checkpoint", folder, "--genotype", "enas"], 1, "was trained with another genotype, DARTS_V2"),
        (["eval", "--checkpoint", folder, "--genotype", "nasnet"], 1, "nasnet: its domain is cnn"),
        ([*args, "--genotype", "nasnet"], 1, "nasnet: its domain is cnn, but cells of the domain rnn are needed here"),
        ([*args, "--batch-chunks", 5, "--run", tmp_path / "x"], 2, "--batch-chunks 5: must be at most --batch-size 4"),
        ([*args, "--init-from", folder, "--dim", 8, "--run", tmp_path / "x"], 1, "its network has dim 6, not 8"),
        (["train", "rnn", "--dataset", "wt2"], 2, "--dataset wt2 needs --data DIR"),
        (["train", "rnn", "--dataset", "text", "--data", tmp_path], 1, "train.txt: no such file"),
    ):
        result = darts(*command)
        assert result.exit_code == code, result.stderr
        assert len(result.stderr.splitlines()) == 1, result.stderr
        assert said in result.stderr
