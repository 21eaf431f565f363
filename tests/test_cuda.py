"""What a GPU computes, beside a CPU: the same, up to rounding. `python -m benchmarks gpu` runs this file on a card."""

import copy
import dataclasses
import inspect
import json
import statistics
from functools import partial

import pytest
import test_graphs
import torch
import torch.nn.functional as F
from conftest import assert_same_run, crash_and_resume, darts

from darts_cli.cnn import model as cnn
from darts_cli.cnn import step as step_cnn
from darts_cli.cnn import train as train_cnn
from darts_cli.config import SearchCNN, SearchRNN, TrainCNN, TrainRNN
from darts_cli.genotype import load
from darts_cli.methods.method import parse
from darts_cli.methods.value import Step
from darts_cli.rnn import model as rnn
from darts_cli.rnn import step as step_rnn
from darts_cli.rnn import train as train_rnn
from darts_cli.runtime import device as devices
from darts_cli.runtime import graphs

DEVICE = "cuda"
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="there is no GPU"),
    pytest.mark.filterwarnings("default"),  # PyTorch warns of kernels that are not deterministic
]
PRECISIONS = {  # dtype, precision of the run, and the largest median of relative errors against float64 on the CPU
    "float64": (torch.float64, "fp32", 1e-9),
    "float32": (torch.float32, "fp32", 1e-4),
    "tf32": (torch.float32, "tf32", 0.05),
    "bf16": (torch.float32, "bf16", 0.3),
}
STEP = Step(epoch=0, epochs=1, seed=0, number=0)


@pytest.fixture(autouse=True)
def restored():
    yield
    devices.prepare("cpu")


def errors(found, expected):
    """The relative error of every tensor."""
    return [
        float((one.cpu().double() - other).norm() / (other.norm() + 1e-12)) for one, other in zip(found, expected, strict=True)
    ]


def to(batch, device, dtype):
    """A batch on a device, its real numbers in that type."""
    return tuple(x.to(device, dtype) if x.is_floating_point() else x.to(device) for x in batch)


def after_steps_of_images(network, device, precision, dtype, unrolled, batches):
    """What two steps of a search leave: gradients of alpha, weights and metrics."""
    network = copy.deepcopy(network).to(device, dtype)
    config = SearchCNN(unrolled=unrolled, precision=precision, channels=4, layers=3, nodes=2)
    devices.set_kernels(torch.device(device), True, precision)
    architect, relaxation = step_cnn.make_architect(network, config, torch.device(device))
    network.begin(STEP)
    for _ in range(2):
        sums, norm = step_cnn.search_step(architect, relaxation, STEP, *(to(each, device, dtype) for each in batches), 5.0)
    tensors = [*(alpha.grad for alpha in network.alphas.values()), sums, norm[None], *network.weights(), *network.buffers()]
    return [tensor.detach() for tensor in tensors if tensor.is_floating_point()]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("unrolled", [False, True], ids=["first", "second"])
@pytest.mark.parametrize("method", ["darts", "pc-darts", "drnas", "sdarts-adv"])
def test_a_search_of_convolutional_cells(precision, unrolled, method):
    dtype, name, most = PRECISIONS[precision]
    if DEVICE == "cpu" and name == "tf32":
        pytest.skip("CPUs have no TF32")
    torch.manual_seed(0)
    space = SearchCNN(nodes=2).searched
    network = cnn.SearchNetwork(8, 10, 3, space=space, method=dataclasses.replace(parse(method), alpha_warmup=0))
    batches = [(torch.randn(8, 3, 16, 16), torch.randint(0, 10, (8,))) for _ in range(2)]
    expected = after_steps_of_images(network, "cpu", "fp32", torch.float64, unrolled, batches)
    found = after_steps_of_images(network, DEVICE, name, dtype, unrolled, batches)
    assert statistics.median(errors(found, expected)) < most


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_the_node_of_few_large_kernels_is_the_sum_of_its_operations(dtype):
    torch.manual_seed(0)
    plain, ours = (cnn.SearchNetwork(4, 10, 3, fused=fused).to(DEVICE, dtype) for fused in (False, True))
    ours.load_state_dict(plain.state_dict())
    x, y = torch.randn(8, 3, 16, 16, dtype=dtype, device=DEVICE), torch.randint(0, 10, (8,), device=DEVICE)
    found = [torch.autograd.grad(F.cross_entropy(network(x), y), network.weights()) for network in (ours, plain)]
    assert statistics.median(errors(found[0], [g.cpu().double() for g in found[1]])) < (
        1e-10 if dtype == torch.float64 else 1e-3
    )


def after_steps_of_text(network, device, precision, dtype, unrolled, words, masks):
    network = copy.deepcopy(network).to(device, dtype)
    config = SearchRNN(unrolled=unrolled, precision=precision, nodes=3, dim=16)
    devices.set_kernels(torch.device(device), True, precision)
    architect, relaxation = step_rnn.make_architect(network, config, torch.device(device))
    masks = type(masks)(*to(masks, device, dtype))
    batches = [step_rnn.Batch(*to(each, device, dtype), network.initial(6), masks) for each in words]
    network.begin(STEP)
    for _ in range(2):
        sums, norm, hidden, _ = step_rnn.search_step(architect, relaxation, STEP, network, config, *batches)
    tensors = [network.alphas["recurrent"].grad, sums, norm[None], hidden, *network.weights()]
    return [tensor.detach() for tensor in tensors]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("unrolled", [False, True], ids=["first", "second"])
def test_a_search_of_recurrent_cells(precision, unrolled):
    dtype, name, most = PRECISIONS[precision]
    if DEVICE == "cpu" and name == "tf32":
        pytest.skip("CPUs have no TF32")
    torch.manual_seed(0)
    network = rnn.SearchNetwork(30, 16, space=SearchRNN(nodes=3).searched)
    words, masks = [tuple(torch.randint(0, 30, (2, 5, 6))) for _ in range(2)], network.masks(6)
    expected = after_steps_of_text(network, "cpu", "fp32", torch.float64, unrolled, words, masks)
    found = after_steps_of_text(network, DEVICE, name, dtype, unrolled, words, masks)
    assert statistics.median(errors(found, expected)) < most


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_training_of_convolutional_cells(precision):
    """Without drop-path, whose random numbers are those of the device."""
    dtype, name, most = PRECISIONS[precision]
    if DEVICE == "cpu" and name == "tf32":
        pytest.skip("CPUs have no TF32")
    torch.manual_seed(0)
    network, found = cnn.Network(load("cnn/darts_v2"), 4, 10, 3, auxiliary=True), []
    batch = torch.randn(8, 3, 32, 32), torch.randint(0, 10, (8,))
    for device, kind, way in (("cpu", torch.float64, "fp32"), (DEVICE, dtype, name)):
        ours = copy.deepcopy(network).to(device, kind)
        devices.set_kernels(torch.device(device), True, way)
        optimizer = torch.optim.SGD(ours.parameters(), 0.025, 0.9, fused=devices.fused(torch.device(device)))
        for _ in range(2):
            sums, norm = train_cnn.training_step(ours, optimizer, TrainCNN(precision=way), *to(batch, device, kind))
        found.append([tensor.detach() for tensor in (sums, norm[None], *ours.parameters())])
    assert statistics.median(errors(found[1], found[0])) < most


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_training_of_recurrent_cells(precision):
    """Without dropout, likewise."""
    dtype, name, most = PRECISIONS[precision]
    if DEVICE == "cpu" and name == "tf32":
        pytest.skip("CPUs have no TF32")
    torch.manual_seed(0)
    dropouts = dict.fromkeys(("dropout", "dropouth", "dropoutx", "dropouti", "dropoute"), 0.0)
    network, found = rnn.Network(load("rnn/darts_v2"), 30, 16, **dropouts), []
    x, y = torch.randint(0, 30, (2, 5, 6))
    for device, kind, way in (("cpu", torch.float64, "fp32"), (DEVICE, dtype, name)):
        ours = copy.deepcopy(network).to(device, kind)
        devices.set_kernels(torch.device(device), True, way)
        optimizer, hidden = torch.optim.SGD(ours.parameters(), 1.0), ours.initial(6)
        for _ in range(2):
            config = TrainRNN(precision=way, dim=16, lr=1.0)
            sums, hidden, norm = train_rnn.training_step(ours, optimizer, config, x.to(device), y.to(device), hidden)
        found.append([tensor.detach() for tensor in (sums, hidden, norm[None], *ours.parameters())])
    assert statistics.median(errors(found[1], found[0])) < most


def test_a_search_resumes_to_the_bit(tiny, tmp_path):
    command = [*tiny, "--device", DEVICE, "--nodes", "1"]
    assert darts(*command, "--run", tmp_path / "whole").exit_code == 0
    crash_and_resume(command, tmp_path / "killed", 3)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_a_training_of_text_resumes_to_the_bit(text, tmp_path):
    sizes = "--epochs 2 --batch-size 4 --bptt 5 --dim 8 --seed 0".split()
    command = ["train", "rnn", "--dataset", "text", "--data", text, *sizes, "--device", DEVICE]
    assert darts(*command, "--run", tmp_path / "whole").exit_code == 0
    crash_and_resume(command, tmp_path / "killed", 3)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.parametrize(
    ("after", "given"),
    [
        (test_graphs.after_search_of_images, ("darts", False)),
        (test_graphs.after_search_of_images, ("darts", True)),
        (test_graphs.after_search_of_images, ("pc-darts", False)),
        (test_graphs.after_search_of_text, (False,)),
        (test_graphs.after_search_of_text, (True,)),
        (test_graphs.after_training_of_images, ()),
        (test_graphs.after_training_of_text, ()),
    ],
)
def test_steps_recorded_as_graphs_are_those_steps(after, given, recorded_times):
    """To the bit."""
    devices.set_kernels(torch.device(DEVICE), True, "fp32")
    plain, recorded = (after(*given, recorded, device=torch.device(DEVICE)) for recorded in (False, True))
    assert test_graphs.same(plain, recorded)
    assert recorded_times


@pytest.fixture
def recorded_times(monkeypatch):
    """What is recorded; its tensors must live as long as the graph."""
    record, found = graphs.CudaRecorder.record, []

    def noted(recorder, call):
        found.append(call)
        return record(recorder, call)

    monkeypatch.setattr(graphs.CudaRecorder, "record", noted)
    if "check_input_liveness" in inspect.signature(torch.cuda.graph).parameters:
        monkeypatch.setattr(torch.cuda, "graph", partial(torch.cuda.graph, check_input_liveness=True))
    return found


def test_a_run_with_graphs_is_the_run_without(tiny, tmp_path, recorded_times):
    for name, more in (("plain", []), ("recorded", ["--cuda-graphs"])):
        done = darts(*tiny, "--batch-size", "4", "--device", DEVICE, "--nodes", "1", "--run", tmp_path / name, *more)
        assert done.exit_code == 0, done.stderr
        assert "--cuda-graphs" not in done.stderr
    assert recorded_times
    assert test_graphs.records(tmp_path / "plain") == test_graphs.records(tmp_path / "recorded")


@pytest.mark.parametrize("run", ["colours", "language_run"])
def test_an_evaluation_finds_what_a_cpu_finds(request, run):
    results = []
    for device in ("cpu", DEVICE):
        done = darts("eval", request.getfixturevalue(run), "--device", device, "--json")
        assert done.exit_code == 0, done.stderr
        results.append(json.loads(done.stdout))
    assert results[1]["loss"] == pytest.approx(results[0]["loss"], rel=1e-4)
    assert results[1].get("top1") == pytest.approx(results[0].get("top1"))


def test_a_run_moves_from_a_cpu_to_the_device(tiny, tmp_path):
    command = [*tiny, "--nodes", "1", "--run", tmp_path / "run"]
    assert darts(*command, "--epochs", "1", "--device", "cpu").exit_code == 0
    done = darts(*command, "--extend", "--device", DEVICE)
    assert done.exit_code == 0, done.stderr
    assert "resuming after" in done.stderr
