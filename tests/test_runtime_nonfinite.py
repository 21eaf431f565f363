"""Numbers that stop being finite: the first step that had one is kept, said, and found; nothing of it is saved."""

import json
import math

import pytest
import torch
from conftest import TINY, darts
from torch import nn

from darts_cli import DartsError
from darts_cli.runtime.nonfinite import Watch, detection

GOOD, BAD = torch.tensor(1.0), torch.tensor(math.nan)


def with_gradient(alpha, gradient):
    parameter = nn.Parameter(torch.full((2,), alpha))
    parameter.grad = torch.tensor([0.0, gradient])
    return parameter


def test_good_numbers_are_no_news():
    watch = Watch()
    assert watch.first() is None
    watch.note(0, 0, GOOD, GOOD, GOOD, [with_gradient(1.0, 1.0)])
    assert watch.first() is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("numbers", "name"),
    [
        (lambda bad: (torch.tensor(bad), GOOD), "the training loss"),
        (lambda bad: (GOOD, torch.tensor(bad)), "the gradient of the weights"),
        (lambda bad: (GOOD, GOOD, torch.tensor([0.0, bad]), [with_gradient(1.0, 1.0)]), "the validation loss"),
        (lambda bad: (GOOD, GOOD, GOOD, [with_gradient(1.0, bad)]), "the gradient of alpha"),
        (lambda bad: (GOOD, GOOD, GOOD, [with_gradient(1.0, 0.0), with_gradient(bad, 0.0)]), "alpha"),
    ],
)
def test_the_first_bad_step_is_kept(numbers, name, bad):
    watch = Watch()
    watch.note(2, 6, *numbers(1.0))
    watch.note(2, 7, *numbers(bad))
    for later in (8, 9):
        watch.note(2, later, BAD, BAD)
    watch.note(3, 0, GOOD, GOOD)
    assert watch.first() == (2, 7, name)
    watch.forget()
    assert watch.first() is None


def test_of_one_step_the_first_number_is_named():
    watch = Watch()
    watch.note(0, 3, BAD, BAD, BAD, [with_gradient(math.nan, math.nan)])
    assert watch.first() == (0, 3, "the validation loss")


# ---- in a run


def test_a_search_stops_with_what_and_where(tiny, tmp_path):
    """The metrics are read every second step: the bad step is that before."""
    args = [*tiny, "--run", tmp_path / "run", "--lr", "1e30", "--momentum", 0, "--log-every", 2]
    result = darts(*args)
    assert result.exit_code == 1
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert error.startswith(
        "error: epoch 1, step 2: the validation loss is no longer finite; there is no checkpoint yet; try a lower"
    )
    assert error.endswith("or --detect-anomaly to find the source")
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_the_last_good_checkpoint_is_named_and_left_alone(parts, tmp_path, monkeypatch):
    """A training whose rate is spoilt after three good steps."""
    args = ["train", "cnn", *TINY, "--data", parts, "--run", tmp_path / "run", "--checkpoint-minutes", 0]
    steps, step = [], torch.optim.SGD.step

    def spoilt(self, *rest):
        steps.append(None)
        if len(steps) == 4:
            self.param_groups[0]["params"][0].grad.fill_(math.inf)
        return step(self, *rest)

    monkeypatch.setattr(torch.optim.SGD, "step", spoilt)
    result = darts(*args)
    assert result.exit_code == 1
    assert "epoch 1, step 4: network." in result.stderr
    assert "is no longer finite; the last good checkpoint is of epoch 1, step 3; try a lower --lr" in result.stderr
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert state["step"] == 3
    assert all(tensor.isfinite().all() for tensor in state["network"].values())


# ---- the source


class Root(nn.Module):
    def forward(self, x):
        return (x * 0).sqrt()  # whose gradient at 0 is infinite, and times 0 is NaN


def test_the_source_of_a_bad_gradient_is_found():
    network = nn.Sequential(nn.Linear(2, 2), Root())
    with pytest.raises(DartsError, match=r"--detect-anomaly: the gradient of Mul is NaN"), detection(network, True):
        network(torch.ones(1, 2)).sum().backward()


def test_the_line_of_a_bad_gradient_is_named():
    made = {}
    exec(compile("def root(x):\n    return (x * 0).sqrt()\n", "/somewhere/darts_cli/cnn/made.py", "exec"), made)
    with (
        pytest.raises(DartsError, match=r"Mul \(darts_cli/cnn/made\.py, line 2, in root\) is NaN"),
        detection(nn.Linear(1, 1), True),
    ):
        made["root"](torch.ones(1, requires_grad=True)).backward()


class Edge(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x + self.scale.sqrt()  # finite, but not its gradient


def test_an_infinite_gradient_is_named_by_its_parameter():
    network = nn.Sequential(nn.Linear(2, 2), Edge())
    with pytest.raises(DartsError, match=r"the gradient of 1\.scale is not finite"), detection(network, True):
        network(torch.ones(1, 2)).sum().backward()


def test_the_source_of_a_bad_output_is_found():
    network = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU(), nn.Linear(2, 1)))
    with torch.no_grad():
        network[1][1].weight.fill_(math.inf)
    with pytest.raises(DartsError, match=r"the output of 1\.1 \(Linear\) is not finite"), detection(network, True):
        network(torch.ones(1, 2))
    network(torch.ones(1, 2))  # nobody looks any longer
    with detection(network, False):
        network(torch.ones(1, 2))


def test_other_errors_pass_through_the_detection():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), detection(nn.Linear(2, 2), True):
        nn.Linear(2, 2)(torch.ones(1, 3))


def test_detection_changes_no_number(tiny, tmp_path):
    lines = []
    for options in ([], ["--detect-anomaly"]):
        folder = tmp_path / str(len(lines))
        result = darts(*tiny, "--epochs", 1, "--run", folder, *options)
        assert result.exit_code == 0, result.stderr
        lines.append(json.loads((folder / "metrics.jsonl").read_text()))
    assert lines[0] == lines[1]


def test_a_search_that_diverges_tells_the_module(tiny, tmp_path):
    result = darts(*tiny, "--run", tmp_path / "run", "--lr", "1e30", "--momentum", 0, "--detect-anomaly")
    assert result.exit_code == 1
    assert "error: --detect-anomaly: the " in result.stderr
    assert " is not finite" in result.stderr or " is NaN" in result.stderr
