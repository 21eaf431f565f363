"""The plain networks compute what ours compute, in float64; and the command measures."""

import json

import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner

from benchmarks import gpu, operators, profile, rows
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


def test_an_eigenvalue_is_measured_beside_a_step():
    function = rows.eigenvalue_rnn
    step, eigenvalue = (function(side, torch.device("cpu"), "fp32", **rows.TINY[function]) for side in ("plain", "ours"))
    step()
    assert isinstance(eigenvalue(), float)


def test_operators_are_counted():
    """By phase and name; not those that look at a tensor in another way, nor those that only reserve memory."""
    x = torch.ones(3, 2, requires_grad=True)
    optimizer = torch.optim.SGD([x], 0.1)
    with operators.Operators() as counted:
        (x[0] * torch.empty(2)).sum().backward()
        optimizer.step()
    assert counted.counts["forward"] == {"mul.Tensor": 1, "sum": 1, "ones_like": 1}
    assert counted.counts["backward"] == {"mul.Tensor": 1, "select_backward": 1}
    assert sum(counted.counts["SGD"].values()) == 1
    assert counted.by_phase() == [3, 2, 1, 0]


@pytest.mark.slow
@pytest.mark.parametrize("row", operators.ROWS)
def test_a_search_step_dispatches_at_most_a_third_of_the_operators_of_the_plain_network(row):
    plain, ours = (sum(operators.count(row, side).by_phase()) for side in ("plain", "ours"))
    assert 3 * ours <= plain


def test_the_kinds_of_operators_cover_a_step():
    step = rows.search_rnn("ours", torch.device("cpu"), "fp32", False, **rows.TINY[rows.search_rnn])
    found = profile.measure(step, torch.device("cpu"))
    lines = list(profile.table(found))
    assert {phase for phase, _ in found} == set(profile.PHASES)
    seconds = {kind: sum(taken for (_, each), (taken, _) in found.items() if each == kind) for _, kind in found}
    assert seconds.get("other", 0) < 0.2 * sum(seconds.values())
    assert lines[-1].startswith("| all |")


@pytest.mark.slow
def test_a_device_is_measured_in_every_way(tmp_path):
    """Without a card on the CPU, whose numbers are of no interest."""
    options = ["--device", "cpu", "--tiny", "--repeats", "1", "--warm-up", "0", "--no-tests", "--rows", "one-hot-cnn"]
    done = CliRunner().invoke(gpu.main, [*options, "--rows", "train-rnn", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    data = json.loads((tmp_path / "gpu.json").read_text())
    assert done.stdout == (tmp_path / "gpu.md").read_text()
    ways = {row: [each["way"] for each in data["rows"] if each["row"] == row] for row in ("one-hot-cnn", "train-rnn")}
    only_cuda = [way for way in gpu.WAYS if way.precision == "tf32" or way.recorded]
    assert len(ways["train-rnn"]) == len([way for way in gpu.WAYS if way not in only_cuda and not way.compiled])
    assert {way["side"] for way in ways["one-hot-cnn"]} == {"ours"}
    assert all(each["error"] is None for each in data["rows"])


def test_the_ways_of_a_row_on_a_card():
    """A row is not measured in a way that it cannot be computed in."""
    ways = {row: list(gpu.ways_of(row, torch.device("cuda"))) for row in gpu.ROWS}
    assert ways["search-cnn-first"] == list(gpu.WAYS)
    assert not [way for way in ways["eval-cnn"] if way.recorded]
    assert [way for way in ways["train-rnn"] if way.recorded]
    assert not [way for way in ways["train-rnn"] if way.compiled]


@pytest.mark.parametrize("row", [row for row in gpu.ROWS if row not in gpu.NOT_RECORDED])
def test_a_row_that_cannot_be_recorded_is_not_measured_as_if_it_were(row):
    function, arguments, _ = ROWS[row]
    with pytest.raises(RuntimeError, match="--cuda-graphs: there are none on cpu"):
        function("ours", torch.device("cpu"), "fp32", **arguments | rows.TINY[function], recorded=True)()


@pytest.mark.slow
def test_what_may_take_any_time_is_measured_in_a_process_of_its_own():
    cpu = torch.device("cpu")
    found = gpu.apart("train-rnn", gpu.DEFAULT, cpu, 2, 0, True, 100)
    assert (found.row, found.way, len(found.seconds), found.error) == ("train-rnn", gpu.DEFAULT, 2, None)
    assert gpu.apart("train-rnn", gpu.DEFAULT, cpu, 2, 0, True, 0.5).error == "not within 0 s"


def test_what_a_device_cannot_do_is_noted_and_the_rest_is_measured():
    cpu = torch.device("cpu")
    wrong = gpu.measure("train-rnn", gpu.Way("ours", "tf32"), cpu, 1, 0, True)
    assert wrong.error == "--precision tf32: only on CUDA, not on cpu; use fp32 or bf16"
    right = gpu.measure("train-rnn", gpu.DEFAULT, cpu, 2, 1, True)
    assert len(right.seconds) == 2
    lines = "\n".join(gpu.report({"device": "cpu"}, "not run", [wrong, right], "command"))
    assert "| train-rnn | ours, tf32 | --precision tf32: only on CUDA" in lines
    assert "| training of recurrent cells | 1,490,400 |" in lines
