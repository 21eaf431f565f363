"""Which kernels PyTorch may take, by the settings of a run."""

import pytest
import torch
import yaml
from conftest import darts

from darts_cli import DartsError
from darts_cli.config import SearchCNN, SearchRNN, TrainCNN, TrainRNN
from darts_cli.runtime import device


@pytest.fixture(autouse=True)
def restored():
    """PyTorch as it was before."""
    yield
    device.prepare("cpu")


def flags():
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    return torch.are_deterministic_algorithms_enabled(), cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32


def test_a_run_is_deterministic_and_in_float32_unless_it_says_otherwise():
    """Of PyTorch's own defaults none is: its convolutions on CUDA are in TF32."""
    torch.backends.cudnn.allow_tf32 = True
    device.prepare("cpu")
    assert flags() == (True, False, False, False)
    device.prepare("cpu", deterministic=False)
    assert flags() == (False, True, False, False)
    device.prepare("cpu", True, "bf16")
    assert flags() == (True, False, False, False)


def test_tf32_is_for_cuda():
    with pytest.raises(DartsError, match=r"--precision tf32: only on CUDA, not on cpu; use fp32 or bf16"):
        device.prepare("cpu", True, "tf32")
    device.set_kernels(torch.device("cuda"), deterministic=True, precision="tf32")
    assert flags() == (True, False, True, True)


@pytest.mark.parametrize("config", [SearchCNN, TrainCNN, SearchRNN, TrainRNN])
def test_both_are_part_of_what_a_run_is(config):
    assert len({config(**given).hash() for given in ({}, {"deterministic": False}, {"precision": "tf32"})}) == 3


def test_the_setting_is_recorded_and_compared(tiny, tmp_path):
    run = tmp_path / "run"
    done = darts(*tiny, "--epochs", 1, "--nodes", 1, "--no-deterministic", "--run", run)
    assert done.exit_code == 0, done.stderr
    assert yaml.safe_load((run / "config.yaml").read_text())["deterministic"] is False
    other = darts(*tiny, "--epochs", 1, "--nodes", 1, "--run", run)
    assert (other.exit_code, "--deterministic was False, now True" in other.stderr) == (1, True), other.stderr
    wrong = darts(*tiny, "--precision", "tf32", "--run", tmp_path / "other")
    assert wrong.stderr == "error: --precision tf32: only on CUDA, not on cpu; use fp32 or bf16\n"
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("of_text", [False, True])
def test_trained_networks_are_used_as_they_were_trained(of_text, request, parts):
    """PyTorch's own defaults are TF32 and not deterministic."""
    run = request.getfixturevalue("language_run" if of_text else "colours")
    image = next(parts.glob("test/*/*.png"))
    use = ("generate", "--checkpoint", run, "--words", 1) if of_text else ("predict", "--checkpoint", run, image)
    for command, expected in (
        (("eval", run), (True, False, False, False)),
        (("eval", run, "--no-deterministic", "--precision", "bf16"), (False, True, False, False)),
        (use, (True, False, False, False)),
    ):
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.allow_tf32 = True
        done = darts(*command, "--device", "cpu")
        assert (done.exit_code, flags()) == (0, expected), done.stderr
    wrong = darts("eval", run, "--precision", "tf32", "--device", "cpu")
    assert (wrong.exit_code, wrong.stderr) == (2, "error: --precision tf32: only on CUDA, not on cpu; use fp32 or bf16\n")


def test_a_precision_that_gains_nothing_is_noted(monkeypatch):
    monkeypatch.setattr(device.platform, "machine", lambda: "x86_64")
    for supported, count in ((False, 1), (True, 0)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda supported=supported: supported)
        assert len(device.precision_notes(torch.device("cpu"), "bf16")) == count
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    assert device.precision_notes(torch.device("cpu"), "fp32") == device.precision_notes(torch.device("cuda"), "bf16") == []


def test_momenta_that_begin_one_after_the_other():
    """As with one operation per edge: PyTorch's fused SGD takes the momenta of all weights that have a gradient, or none."""
    found = []
    for fused in (False, True):
        weights = [torch.full((2,), float(n)).requires_grad_() for n in range(3)]
        optimizer = device.keep_kind(torch.optim.SGD(weights, 0.1, 0.9, weight_decay=0.01, fused=fused))
        for computed in ([0], [0, 1], [1], [0, 1, 2], [2]):
            optimizer.zero_grad()
            sum((weights[i] ** 2).sum() for i in computed).backward()
            optimizer.step()
        found.append([weights, [optimizer.state[weight]["momentum_buffer"] for weight in weights]])
    torch.testing.assert_close(found[0], found[1])
