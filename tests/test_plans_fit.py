"""A batch in parts: the gradients of the whole where images do not depend on each other; --fit-memory chooses the parts."""

import copy

import pytest
import torch
from conftest import darts

from darts_cli import DartsError, files
from darts_cli.architect import Architect
from darts_cli.cnn import step as cnn
from darts_cli.cnn.model import search_network
from darts_cli.config import SearchCNN, SearchRNN, TrainRNN
from darts_cli.methods.method import parse
from darts_cli.methods.value import Step
from darts_cli.plans.fit import _candidates, bytes_of
from darts_cli.plans.measure import Kind, probe
from darts_cli.rnn import step as rnn
from darts_cli.rnn.model import SearchNetwork
from darts_cli.runs.task import Task

CPU = torch.device("cpu")


def rows_of(batch, count):
    return [(len(part) / len(batch), part) for part in batch.tensor_split(count)]


@pytest.mark.parametrize(("unrolled", "exact"), [(False, False), (True, False), (True, True)])
def test_the_hypergradient_in_parts_is_that_of_the_batch(unrolled, exact):
    """A smooth loss, the mean over the rows of a batch; rows of 7 in three parts of unequal size."""
    torch.manual_seed(0)
    train, valid = torch.randn(2, 7, 5, dtype=torch.float64)
    found = []
    for count in (1, 3):
        torch.manual_seed(1)
        w, alpha = (torch.randn(5, dtype=torch.float64, requires_grad=True) for _ in range(2))

        def loss(rows, w=w, alpha=alpha):
            value = ((rows @ (w * alpha)).sin() + (rows * w).square().mean(-1)).mean()
            return value, value

        architect = Architect(
            loss,
            [w],
            [alpha],
            torch.optim.SGD([w], 0.1, momentum=0.9),
            unrolled=unrolled,
            exact=exact,
            split=lambda batch, count=count: rows_of(batch, count),
            join=lambda carries: sum(share * value for share, value in carries),
        )
        carry = architect.hypergradient(train, valid)
        weights = architect.backward(train)
        found.append((alpha.grad, carry, w.grad, weights))
        (whole,) = torch.autograd.grad(architect.whole_loss(train), [alpha])
        found[-1] += (whole,)
    for one, parts in zip(*found, strict=True):
        torch.testing.assert_close(parts, one, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("unrolled", [False, True])
def test_a_search_step_of_images_in_parts_is_that_of_the_batch(unrolled):
    """In evaluation mode, where BatchNorm does not see the batch: alphas and weights after the step, and the sums."""
    found = []
    for accumulate in (1, 3):
        config = SearchCNN(dataset="digits", accumulate=accumulate, unrolled=unrolled, channels=4)
        torch.manual_seed(0)
        network = search_network(config.searched)(4, 10, 3, space=config.searched, method=parse("darts")).double().eval()
        architect, relaxation = cnn.make_architect(network, config, CPU)
        images = torch.randn(2, 7, 3, 8, 8, dtype=torch.float64)
        batches = [cnn.Batch(x, torch.arange(7), (0, i)) for i, x in enumerate(images)]
        sums, norm = cnn.search_step(architect, relaxation, Step(20, 50, 0, 3), *batches, 5.0)
        found.append([sums.double(), norm, *network.alphas.values(), *network.weights()])
    for one, parts in zip(*found, strict=True):
        torch.testing.assert_close(parts, one, rtol=1e-6 if unrolled else 1e-9, atol=1e-9)


def test_a_search_step_of_a_text_in_parts_is_the_mean_of_theirs():
    """BatchNorm sees a part at a time, so each part is a batch; hidden states and masks stay with their streams."""
    config = SearchRNN(dataset="pydoc", dim=6, batch_size=7, batch_chunks=3)
    torch.manual_seed(0)
    network = SearchNetwork(20, 6, space=config.searched, method=parse("darts", "rnn")).double()
    x, y = torch.randint(20, (2, 4, 7))
    batch = rnn.Batch(x, y, network.initial(7).normal_(), network.masks(7))

    def gradients(count, batch):
        given = SearchRNN(dataset="pydoc", dim=6, batch_size=7, batch_chunks=count)
        architect, relaxation = rnn.make_architect(copy.deepcopy(network), given, CPU)
        relaxation.draw(Step(0, 1, 0, 0))
        carry = architect.hypergradient(batch, batch)
        return [alpha.grad for alpha in architect.alphas], carry

    whole, (nll, hidden) = gradients(3, batch)
    cuts = [slice(0, 3), slice(3, 5), slice(5, 7)]
    alone = [gradients(1, rnn.Batch(x[:, cut], y[:, cut], batch.hidden[:, cut], batch.masks.part(cut))) for cut in cuts]
    shares = [3 / 7, 2 / 7, 2 / 7]
    for i, gradient in enumerate(whole):
        torch.testing.assert_close(gradient, sum(s * part[0][i] for s, part in zip(shares, alone, strict=True)))
    torch.testing.assert_close(nll, sum(s * part[1][0] for s, part in zip(shares, alone, strict=True)))
    torch.testing.assert_close(hidden, torch.cat([part[1][1] for part in alone], dim=1))


def test_parts_have_at_least_two_images_and_draw_apart():
    batch = cnn.Batch(torch.randn(7, 3, 8, 8), torch.arange(7), (0, "train"))
    parts = cnn.parts_of(batch, 100)
    assert [len(part.labels) for _, part in parts] == [3, 2, 2]
    assert sum(share for share, _ in parts) == pytest.approx(1)
    assert len({part.chance for _, part in parts}) == 3
    assert cnn.parts_of(batch, 1) == [(1, batch)]


@pytest.mark.parametrize(
    ("limit", "count"),
    [
        *[("8GiB", 8 * 2**30), ("500 MB", 5 * 10**8), ("1.5g", 15 * 10**8), ("2000000", 2 * 10**6)],
        *[(bad, None) for bad in ("64KiB", "-1GB", "much", "", "8GiBs", "nan", "1e9")],
    ],
)
def test_limits(limit, count):
    if count is None:
        with pytest.raises(DartsError, match="must be auto or a size"):
            bytes_of(limit, CPU)
    else:
        assert bytes_of(limit, CPU) == count


def test_auto_is_less_than_what_is_free():
    with open("/proc/meminfo") as lines:
        total = 1024 * int(next(line.split()[1] for line in lines if line.startswith("MemTotal:")))
    assert 0 < bytes_of("auto", CPU) < 0.91 * total


def test_what_is_tried_in_which_order():
    """Ever more parts, and only then tensors that are recomputed."""
    tried = [(config.accumulate, config.recompute) for row in _candidates(SearchCNN(batch_size=10)) for config in row]
    assert tried == [(1, False), (2, False), (4, False), (1, True), (2, True), (4, True)]
    (row,) = _candidates(TrainRNN(batch_size=64, batch_chunks=8))
    assert [config.batch_chunks for config in row] == [8, 16, 32]
    (row,) = _candidates(SearchCNN(batch_size=64, recompute=True))
    assert [config.accumulate for config in row] == [1, 2, 4, 8, 16, 32]


@pytest.mark.slow
def test_the_choice_fits_and_stays(tmp_path, monkeypatch):
    """A limit between what the batch and its smallest parts need; the run keeps the choice, whatever is given later."""
    monkeypatch.chdir(tmp_path)
    settings = {"dataset": "digits", "layers": 3, "channels": 16, "nodes": 1, "batch_size": 256, "epochs": 1}
    task = Task("search", "cnn")
    whole, least = (probe(Kind(task, SearchCNN(**settings, accumulate=parts)), 0, 0, seconds=0)["memory"] for parts in (1, 16))
    assert least < 0.95 * whole
    limit = str((whole + least) // 2)
    words = [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", value)]
    chosen = []
    for again in (limit, "900GiB"):
        done = darts("search", "cnn", *words, "--fit-memory", again, "--run", "run", "--quiet")
        assert (done.exit_code, done.stderr) == (0, "")
        chosen.append(files.read_yaml(tmp_path / "run" / "config.yaml")["accumulate"])
    assert 1 < chosen[0] == chosen[1] <= 16
    done = darts("search", "cnn", *words, "--batch-size", 4, "--fit-memory", "100MB", "--run", "other")
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1].startswith("error: --fit-memory 100MB: no part of a batch fits into 100 MB, the least")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["search", "cnn", "--dataset", "digits", "--fit-memory", "lots"], "must be auto or a size"),
        (
            ["search", "cnn", "--dataset", "digits", "--fit-memory", "8GiB", "--seeds", "2"],
            "a single run only, not with --seeds",
        ),
        (["train", "rnn", "--dataset", "pydoc", "--fit-memory", "8GiB", "--repeats", "2"], "not with --repeats"),
        (["search", "rnn", "--dataset", "pydoc", "--batch-chunks", "0"], "--batch-chunks"),
    ],
)
def test_mistakes(command, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = darts(*command)
    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
    assert said in done.stderr
