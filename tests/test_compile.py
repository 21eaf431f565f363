"""`--compile`: the same numbers up to rounding, and the network as it is where nothing can be compiled."""

import json

import pytest
import torch
import yaml
from conftest import darts

from darts_cli.cnn import model as cnn
from darts_cli.config import SearchCNN, SearchRNN, TrainCNN, TrainRNN
from darts_cli.genotype import load
from darts_cli.rnn import model as rnn
from darts_cli.runtime import compiling

CPU = torch.device("cpu")
SIZES = "--epochs 1 --batch-size 4 --bptt 5 --dim 8 --nodes 1 --seed 0 --device cpu".split()


@pytest.fixture(autouse=True)
def tried_again():
    """What can be compiled is tried once in a process."""
    compiling.failure.cache_clear()
    yield
    compiling.failure.cache_clear()
    torch._dynamo.reset()


@pytest.fixture
def no_compiler(monkeypatch):
    def broken(graph, inputs):
        raise RuntimeError("there is no compiler\nand much more")

    monkeypatch.setattr(compiling, "BACKEND", broken)


def gradients(network, *given, **more):
    torch.manual_seed(1)
    found = network(*given, **more) if not hasattr(network, "loss") else network.loss(*given, **more)
    loss = found[0].square().mean() if isinstance(found, tuple) else found.square().mean()
    return [loss.detach(), *torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)]


def assert_same(plain, compiled, *given, **more):
    for _ in range(2):
        expected, found = gradients(plain, *given, **more), gradients(compiled, *given, **more)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(dict(compiled.named_buffers()), dict(plain.named_buffers()), rtol=1e-5, atol=1e-6)
    assert list(compiled.state_dict()) == list(plain.state_dict())


def pair(make):
    """A network, and the same one compiled."""
    networks = []
    for _ in range(2):
        torch.manual_seed(0)
        networks.append(make())
    compiling.compile_regions(networks[1].regions(), CPU)
    assert all(region._compiled_call_impl is not None for region in networks[1].regions())
    return networks


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_recurrent_search_network():
    """By the compiler that runs use, where this machine has one."""
    if compiling.failure(CPU) is not None:
        pytest.skip(compiling.failure(CPU))
    plain, compiled = pair(lambda: rnn.SearchNetwork(20, 8, space=SearchRNN(nodes=2).searched))
    x, y = torch.randint(0, 20, (2, 5, 4))
    assert_same(plain, compiled, x, y, plain.initial(4), masks=plain.masks(4))


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_convolutional_network(monkeypatch, recwarn):
    """Traced and differentiated as for the compiler, which would take minutes. Drop-path draws the same numbers. The user is
    not told of what PyTorch's compiler thinks of the code."""
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")
    plain, compiled = pair(lambda: cnn.Network(load("cnn/darts_v2"), 2, 10, 3))
    plain.drop_path = compiled.drop_path = 0.2
    assert_same(plain, compiled, torch.randn(4, 3, 8, 8))
    assert not [warning for warning in recwarn if "Dynamo" in str(warning.message)]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_convolutional_search_network(monkeypatch):
    """Its edges, of which those of one size and stride share what is compiled."""
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")
    plain, compiled = pair(lambda: cnn.SearchNetwork(2, 10, 3, fused=False, space=SearchCNN(nodes=1).searched))
    assert_same(plain, compiled, torch.randn(4, 3, 8, 8))


def test_without_a_compiler_a_run_is_the_run_that_it_is_without_the_option(no_compiler, text, tmp_path):
    command = ["search", "rnn", "--dataset", "text", "--data", text, *SIZES]
    done = darts(*command, "--run", tmp_path / "plain")
    assert done.exit_code == 0, done.stderr
    assert "--compile" not in done.stderr
    done = darts(*command, "--compile", "--run", tmp_path / "compiled")
    assert done.exit_code == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if "--compile" in line]
    assert len(lines) == 1
    assert "--compile: PyTorch cannot compile here (" in lines[0]
    assert "there is no compiler" in lines[0]
    records = [json.loads((tmp_path / name / "metrics.jsonl").read_text()) for name in ("plain", "compiled")]
    assert records[0] == records[1]
    assert yaml.safe_load((tmp_path / "compiled" / "config.yaml").read_text())["compile"] is True
    other = darts(*command, "--run", tmp_path / "compiled")
    assert (other.exit_code, "--compile was True, now False" in other.stderr) == (1, True), other.stderr


def test_a_network_is_differentiated_twice_as_it_is(monkeypatch):
    """As the eigenvalue of the Hessian needs it."""
    monkeypatch.setattr(compiling, "BACKEND", "eager")
    _, compiled = pair(lambda: cnn.Network(load("cnn/darts_v2"), 2, 10, 3))
    regions = compiled.regions()
    with compiling.not_compiled(compiled):
        assert all(region._compiled_call_impl is None for region in regions)
    assert all(region._compiled_call_impl is not None for region in regions)


def test_what_cannot_be_compiled_has_no_such_setting():
    """The exact second order; the training of a recurrent cell, whose time steps are one function with its own gradient."""
    wrong = darts("search", "cnn", "--dataset", "digits", "--unrolled=exact", "--compile")
    assert (wrong.exit_code, wrong.stderr) == (2, "error: --unrolled exact: needs --precision fp32 and --no-compile\n")
    assert "compile" not in TrainRNN.settings()
    assert all("compile" in kind.settings() for kind in (SearchCNN, SearchRNN, TrainCNN))
