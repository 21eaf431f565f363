"""The plain networks compute what ours compute, in float64; and the command measures."""

import json

import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner

from benchmarks.__main__ import main
from benchmarks.plain import bilevel
from benchmarks.plain import cnn as plain_cnn
from benchmarks.plain import rnn as plain_rnn
from benchmarks.rows import ROWS
from darts_cli.architect import Architect
from darts_cli.cnn import model as cnn
from darts_cli.genotype import load
from darts_cli.legacy import load_state, original_key
from darts_cli.rnn import model as rnn


def assert_same_gradients(ours, plain):
    expected = {name: weight.grad for name, weight in plain.named_parameters()}
    for name, weight in ours.named_parameters():
        if not name.startswith("alphas."):
            torch.testing.assert_close(weight.grad, expected[original_key(ours, name)], rtol=1e-9, atol=1e-12)


def test_the_plain_network_of_a_genotype():
    torch.manual_seed(0)
    genotype = load("pdarts")
    plain = plain_cnn.Network(genotype, 4, 10, 4, auxiliary=True).double()
    ours = cnn.Network(genotype, 4, 10, 4, auxiliary=True).double()
    load_state(ours, plain.state_dict())
    x, y = torch.randn(3, 3, 32, 32).double(), torch.randint(0, 10, (3,))
    for network in (ours, plain):
        logits, auxiliary = network(x)
        (F.cross_entropy(logits, y) + 0.4 * F.cross_entropy(auxiliary, y)).backward()
    assert_same_gradients(ours, plain)


@pytest.mark.parametrize("search", [True, False])
def test_the_plain_recurrent_networks(search):
    torch.manual_seed(0)
    if search:
        plain, ours = plain_rnn.SearchNetwork(30, 6).double(), rnn.SearchNetwork(30, 6).double()
        plain.alphas["recurrent"].data.normal_()
        ours.alphas["recurrent"].data.copy_(plain.alphas["recurrent"])
    else:
        genotype = load("rnn/darts_v1")
        plain, ours = plain_rnn.Network(genotype, 30, 6).double(), rnn.Network(genotype, 30, 6).double()
    copy_recurrent(plain, ours)
    x, y = torch.randint(0, 30, (2, 5, 4))
    masks, hidden = ours.masks(4), torch.randn(1, 4, 6).double()
    loss, _, last = ours.loss(x, y, hidden, tar=0.1, masks=masks)
    loss.backward()
    plain_loss, plain_last = plain.loss(x, y, hidden[0], tuple(masks), 0.1)
    plain_loss.backward()
    torch.testing.assert_close(loss, plain_loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(last[0], plain_last, rtol=1e-12, atol=1e-14)
    names = {"W0": (ours.cell.W0, plain.W0), "encoder": (ours.encoder.weight, plain.encoder.weight)}
    names |= {f"W{i + 1}": pair for i, pair in enumerate(zip(ours.cell.Ws, plain.Ws, strict=True))}
    if search:
        names["alphas"] = (ours.alphas["recurrent"], plain.alphas["recurrent"])
    for one, other in names.values():
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-9, atol=1e-13)


def copy_recurrent(plain, ours):
    with torch.no_grad():
        for one, other in ((ours.encoder, plain.encoder), (ours.decoder, plain.decoder)):
            one.load_state_dict(other.state_dict())
        for one, other in zip((ours.cell.W0, *ours.cell.Ws), (plain.W0, *plain.Ws), strict=True):
            one.copy_(other)


@pytest.mark.parametrize("unrolled", [True, False])
def test_the_plain_step_of_the_search(unrolled):
    """Two steps: the second has momentum."""
    torch.manual_seed(0)
    plain, ours = cnn.SearchNetwork(2, 10, 3, fused=False).double(), cnn.SearchNetwork(2, 10, 3).double()
    ours.load_state_dict(plain.state_dict())
    train, valid = ((torch.randn(4, 3, 8, 8).double(), torch.randint(0, 10, (4,))) for _ in range(2))

    def loss(network, batch):
        return F.cross_entropy(network(batch[0]), batch[1])

    weights, alphas = ours.weights(), list(ours.alphas.values())
    steps = []
    for network in (ours, plain):
        steps.append(torch.optim.SGD(network.weights(), 0.025, 0.9, weight_decay=3e-4))
        steps.append(torch.optim.Adam(network.alphas.values(), 3e-4, (0.5, 0.999), weight_decay=1e-3))
    architect = Architect(
        lambda batch: (loss(ours, batch), None), weights, alphas, *steps[:2], unrolled=unrolled, buffers=ours.buffers()
    )
    for _ in range(2):
        architect.step(train, valid)
        if unrolled:
            bilevel.second_order(loss, plain, steps[3], steps[2], train, valid)
        else:
            bilevel.first_order(loss, plain, steps[3], valid)
        for one, other in zip(alphas, plain.alphas.values(), strict=True):
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-7, atol=1e-11)
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
        steps[0].zero_grad()
        loss(ours, train).backward(inputs=weights)
        torch.nn.utils.clip_grad_norm_(weights, 5.0)
        steps[0].step()
        bilevel.weight_step(loss, plain, steps[2], train, 5.0)


@pytest.mark.slow
def test_the_command_measures(monkeypatch):
    """A row of the smallest size, in processes of their own."""
    assert {"search-cnn-first", "search-cnn-second", "train-cnn", "search-rnn-first", "search-rnn-second"} < set(ROWS)
    done = CliRunner().invoke(main, ["train-rnn", "--quick", "--json", "--device", "cpu"])
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)["rows"]
    assert row["row"] == "train-rnn"
    for side in ("plain", "ours"):
        assert len(row[side]["all"]) == 2
        assert row[side]["peak"] > 1e8
