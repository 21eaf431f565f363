"""The search of a recurrent cell from the command line: it learns, repeats to the bit, and goes on where it was stopped."""

import json
import math

import pytest
import torch
from conftest import assert_same_run, darts, unigram

from darts_cli.architect import Architect
from darts_cli.genotype import load
from darts_cli.methods.value import softmax
from darts_cli.rnn import data
from darts_cli.rnn.model import SearchNetwork
from darts_cli.runtime import device

SMALL = ["--dim", "6", "--batch-size", "4", "--eval-batch", "2", "--bptt", "5", "--epochs", "2", "--lr", "2"]


@pytest.fixture(scope="module", params=["--no-unrolled", "--unrolled"])
def undisturbed(request, text, tmp_path_factory):
    """A finished search of either order: its arguments, without --run, and its folder."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    args = ["search", "rnn", "--dataset", "text", "--data", str(text), *SMALL, request.param]
    result = darts(*args, "--run", folder)
    assert result.exit_code == 0, result.stderr
    return args, folder, result


def test_a_finished_search(undisturbed):
    args, folder, result = undisturbed
    assert {path.name for path in folder.iterdir()} == {
        "checkpoint.pt",
        "checkpoint.pt.sha256",
        "config.yaml",
        "curves.svg",
        "genotype.yaml",
        "log.jsonl",
        "metrics.jsonl",
        "previous.pt",
        "recurrent.svg",
        "report.md",
    }
    genotype = load(folder)
    assert genotype.domain == "rnn"
    assert result.stdout == genotype.to_yaml()
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [1, 2]
    assert records[-1]["genotype"] == genotype.to_dict()
    assert records[-1]["valid_perplexity"] == pytest.approx(math.exp(records[-1]["valid_loss"]))
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    assert records[-1]["alphas"]["recurrent"] == state["network"]["alphas.recurrent"].tolist()
    for said in ("cpu, fp32, ", "180 alphas", "2 epochs of 89 words in 4 streams", "next: darts train rnn --genotype"):
        assert said in result.stderr
    report = (folder / "report.md").read_text()
    assert ("Second order" if "--unrolled" in args else "First order") in report
    assert "\n\n\n" not in report


@pytest.mark.parametrize("unrolled", [False, True])
def test_an_epoch_is_the_algorithm_written_out(text, tmp_path, unrolled):
    """One draw of masks a batch for all passes, rates that follow the length, both hidden states carried, the validation's
    place taken from the training's."""
    args = ["--dim", 6, "--batch-size", 4, "--eval-batch", 2, "--bptt", 5, "--epochs", 1, "--lr", 2, "--seed", 5]
    order = "--unrolled" if unrolled else "--no-unrolled"
    result = darts("search", "rnn", "--dataset", "text", "--data", text, *args, order, "--run", tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    found = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["network"]

    corpus = data.Corpus(text)
    train, valid = (data.streams(part, 4, "") for part in (corpus.train, corpus.valid))
    torch.manual_seed(5)
    network = SearchNetwork(len(corpus.vocab), 6).train()
    weights, alpha = network.weights(), network.alphas["recurrent"]
    optimizer = torch.optim.SGD(weights, 2, weight_decay=5e-7)
    adam = torch.optim.Adam([alpha], 3e-3, (0.9, 0.999), weight_decay=1e-3)

    mixture = {"recurrent": torch.zeros(36, 5, requires_grad=True)}

    def nll(batch):
        _, loss, hidden = network.loss(*batch[:3], masks=batch[3], mixture=mixture)
        return loss, hidden

    architect = Architect(nll, weights, mixture, optimizer, None, unrolled=unrolled, clip=0.25, buffers=network.buffers())
    hidden = valid_hidden = torch.zeros(1, 4, 6)
    pieces = data.search_pieces(len(train), 5, 5, 0)
    assert {length for _, length in pieces} > {5}
    for step, (begin, length) in enumerate(pieces):
        device.seed(5, "masks", 0, step)
        masks, valid_masks = network.masks(4), network.masks(4)
        x, y = train[begin : begin + length], train[begin + 1 : begin + 1 + length]
        at = begin % (len(valid) - 1)
        valid_length = min(5, len(valid) - 1 - at)
        valid_x, valid_y = valid[at : at + valid_length], valid[at + 1 : at + 1 + valid_length]
        optimizer.param_groups[0]["lr"] = 2 * length / 5
        operation_weights = softmax(network.alphas)["recurrent"]
        mixture["recurrent"].data.copy_(operation_weights)
        valid_hidden = architect.hypergradient((x, y, hidden, masks), (valid_x, valid_y, valid_hidden, valid_masks))
        (alpha.grad,) = torch.autograd.grad(operation_weights, alpha, mixture["recurrent"].grad)
        adam.step()
        optimizer.zero_grad()
        loss, _, hidden = network.loss(x, y, hidden, tar=1e-3, masks=masks)
        loss.backward(inputs=weights)
        hidden = hidden.detach()
        torch.nn.utils.clip_grad_norm_(weights, 0.25)
        optimizer.step()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, found[name]), name


def test_the_same_seed_gives_the_same_bits_and_another_does_not(undisturbed, tmp_path):
    args, folder, _ = undisturbed
    darts(*args, "--run", tmp_path / "again", "--log-every", 1, "--checkpoint-minutes", 0)
    assert_same_run(folder, tmp_path / "again")
    darts(*args, "--run", tmp_path / "other", "--seed", 4)
    assert (folder / "metrics.jsonl").read_text() != (tmp_path / "other" / "metrics.jsonl").read_text()


def test_a_finished_run_is_not_repeated(undisturbed):
    args, folder, result = undisturbed
    again = darts(*args, "--run", folder)
    assert again.stdout == result.stdout
    assert "complete already" in again.stderr


@pytest.mark.slow
def test_pydoc_is_learnt(tmp_path):
    """Offline, below the perplexity of a unigram model of the same text."""
    result = darts("search", "rnn", "--dataset", "pydoc", "--dim", 48, "--nodes", 2, "--epochs", 1, "--run", tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    corpus = data.load("pydoc", None)
    assert last["valid_perplexity"] < unigram(corpus, corpus.valid)


def test_mistakes(text, tmp_path):
    for args, code, said in (
        (["--dataset", "ptb"], 2, "--dataset ptb needs --data DIR"),
        (["--dataset", "text", "--data", tmp_path / "none"], 1, "train.txt: no such file"),
        (["--dataset", "text", "--data", text, "--batch-size", 100], 1, "the validation text has 120 words, too few for 100"),
        (["--dataset", "text", "--data", text, "--dropout", "1.0"], 2, "--dropout': 1.0 is not in the range 0<=x<1"),
        (["--dataset", "text", "--data", text, "--dropouth", "-0.1"], 2, "--dropouth': -0.1 is not in the range 0<=x<1"),
        (["--dataset", "wikitext"], 2, "'wikitext' is not one of 'ptb', 'wt2', 'text', 'pydoc'"),
    ):
        result = darts("search", "rnn", *args, "--run", tmp_path / "run")
        assert result.exit_code == code
        assert len(result.stderr.splitlines()) == 1, result.stderr
        assert said in result.stderr
        assert not (tmp_path / "run").exists()
