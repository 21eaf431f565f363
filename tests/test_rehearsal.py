"""Everything that runs on a GPU, rehearsed without one: on fake tensors, no two devices meet and no step reads a number.

`rehearsal.py` says what is fake. Backward passes are rehearsed on `meta`.
"""

import ast
import contextlib
import dataclasses
from pathlib import Path

import pytest
import rehearsal
import torch
from rehearsal import CUDA, META, NUMBER_READ, TwoDevices
from torch._subclasses.fake_tensor import FakeTensorDeviceMismatchError

import darts_cli
from darts_cli.cnn import evaluate as evaluate_cnn
from darts_cli.cnn import model as cnn
from darts_cli.cnn import step as step_cnn
from darts_cli.cnn import train as train_cnn
from darts_cli.cnn.data import Dataset
from darts_cli.cnn.datasets.batches import Batches
from darts_cli.config import SearchCNN, SearchRNN, TrainCNN, TrainRNN
from darts_cli.genotype import load
from darts_cli.methods import relaxation as relaxations
from darts_cli.methods.method import parse
from darts_cli.methods.value import Step
from darts_cli.rnn import evaluate as evaluate_rnn
from darts_cli.rnn import model as rnn
from darts_cli.rnn import step as step_rnn
from darts_cli.rnn import train as train_rnn
from darts_cli.runtime import nonfinite
from darts_cli.runtime.device import fused

METHODS = ["pc-darts", "gdas", "drnas", "sdarts-adv", "sdarts-rs", "darts-minus", "p-darts", "fair-darts", "beta-darts"]
DEVICES = [CUDA, META]
LAST = Step(epoch=2, epochs=3, seed=0, number=0)


@pytest.fixture(params=DEVICES, ids=str)
def device(request):
    return request.param


@pytest.fixture(autouse=True)
def without_choices(monkeypatch):
    """A method that computes one operation per edge reads which; without numbers it is the first."""

    def first(tables, space):
        return {cell: [{ops[0]} for ops in space.choices(cell)] for cell in relaxations.cells(tables)}

    monkeypatch.setattr(relaxations, "active", first)


def images(device, side=8, training=True):
    """Batches of fake images; made inside a rehearsal."""
    pixels, labels = torch.zeros(20, side, side, 3, dtype=torch.uint8), torch.zeros(20, dtype=torch.long)
    dataset = Dataset(pixels, labels, ["a", "b"], (0.5,) * 3, (0.2,) * 3, True)
    return Batches(dataset, 4, 0, "train", device, cutout=4 if training else 0)


# ---- searches


@pytest.mark.parametrize("graphs", [False, True])
def test_an_optimiser_of_alpha_that_is_recorded_knows_it(monkeypatch, graphs):
    """PyTorch refuses to record another one; and it keeps what it is, whatever state of a CPU it loads."""
    config = SearchCNN(nodes=1, channels=4, layers=3, cuda_graphs=graphs)
    network = cnn.SearchNetwork(4, 2, 3, space=config.searched)
    with rehearsal.rehearsal(CUDA, monkeypatch, network):
        optimizer = step_cnn.make_architect(network, config, CUDA)[1].optimizer
        state = optimizer.state_dict()
        state["param_groups"] = [group | {"fused": False, "capturable": False} for group in state["param_groups"]]
        optimizer.load_state_dict(state)
        (group,) = optimizer.param_groups
        assert (group["fused"], group["capturable"]) == (True, graphs)


def recorded_from(number, repeats=True):
    """Steps are recorded after the first; those that do not repeat never."""
    return rehearsal.Recorded() if number and repeats else contextlib.nullcontext()


def search_of_images(device, monkeypatch, steps=1, **settings):
    """Steps of a search, with the metrics that its loop keeps."""
    config = SearchCNN(**{"nodes": 2, "channels": 8, "layers": 3, "epochs": 3} | settings)
    method = dataclasses.replace(parse(config.method), alpha_warmup=0)
    kwargs = {"space": config.searched, "method": method, "recompute": config.recompute, "fused": not config.exact}
    network = cnn.search_network(config.searched)(config.channels, 2, config.layers, **kwargs)
    with rehearsal.rehearsal(device, monkeypatch, network, back="dirichlet" in config.spec.parts):  # drawn on the CPU
        (architect, relaxation), watch = step_cnn.make_architect(network, config, device), nonfinite.Watch()
        train, sums = images(device), torch.zeros(2, 3).to(device)
        network.begin(LAST, config.drop_path)
        for number in range(steps):
            step = dataclasses.replace(LAST, number=number)
            batches = step_cnn.batches_of(step, train, train, network.draws)
            with recorded_from(number, network.repeats):
                step_sums, norm = step_cnn.search_step(architect, relaxation, step, *batches, config.grad_clip)
            sums += step_sums
            watch.note(0, 0, step_sums[0], norm, step_sums[1], list(network.alphas.values()))
    assert sums.device.type == device.type


def test_a_search_of_convolutional_cells(device, monkeypatch):
    search_of_images(device, monkeypatch, nodes=1, steps=2)


@pytest.mark.slow
def test_a_search_of_second_order_of_convolutional_cells(device, monkeypatch):
    search_of_images(device, monkeypatch, steps=2, unrolled=True)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_methods_of_a_search_of_convolutional_cells(device, monkeypatch, method):
    search_of_images(device, monkeypatch, nodes=1, method=method, steps=1 if parse(method).chance else 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"unrolled": True, "recompute": True},
        {"unrolled": "exact"},
        {"drop_path": 0.3},
        {"space": "nas-bench-201", "nodes": None},
    ],
    ids=str,
)
def test_settings_of_a_search_of_convolutional_cells(device, monkeypatch, settings):
    search_of_images(device, monkeypatch, **{"nodes": 1} | settings)


@pytest.mark.slow
def test_a_search_of_convolutional_cells_in_bf16(monkeypatch):
    search_of_images(CUDA, monkeypatch, nodes=1, unrolled=True, precision="bf16")


# ---- recurrent cells


def search_of_text(device, monkeypatch, steps=1, **settings):
    config = SearchRNN(**{"nodes": 2, "dim": 4, "epochs": 3, "ar": 1.0, "tar": 1.0} | settings)
    method = dataclasses.replace(parse(config.method, "rnn"), alpha_warmup=0)
    network = rnn.SearchNetwork(11, config.dim, space=config.searched, method=method, fused=not config.exact)
    with rehearsal.rehearsal(device, monkeypatch, network, back="dirichlet" in config.spec.parts):  # drawn on the CPU
        (architect, relaxation), watch = step_rnn.make_architect(network, config, device), nonfinite.Watch()
        texts, sums = [torch.zeros(9, 3, dtype=torch.long).to(device)] * 2, torch.zeros(2, 2, dtype=torch.double).to(device)
        hidden = network.initial(3), network.initial(3)
        network.begin(LAST)
        for number in range(steps):
            step = dataclasses.replace(LAST, number=number)
            batches = step_rnn.batches_of(step, config, network, texts, hidden, 0, 3)
            with recorded_from(number, network.repeats):
                added, norm, *hidden = step_rnn.search_step(architect, relaxation, step, network, config, *batches)
            sums += added
            watch.note(0, 0, added[0], norm, added[1], list(network.alphas.values()))
    assert sums.device.type == device.type


@pytest.mark.parametrize("settings", [{}, {"unrolled": True}], ids=["first", "second"])
def test_a_search_of_recurrent_cells(device, monkeypatch, settings):
    search_of_text(device, monkeypatch, steps=2, **settings)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["gdas", "drnas", "sdarts-adv", "darts-minus"])
def test_methods_of_a_search_of_recurrent_cells(device, monkeypatch, method):
    search_of_text(device, monkeypatch, method=method)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"unrolled": "exact"}, {"precision": "bf16"}], ids=str)
def test_settings_of_a_search_of_recurrent_cells(monkeypatch, settings):
    search_of_text(CUDA, monkeypatch, **settings)


def training_of_text(device, monkeypatch, steps=2, **settings):
    config = TrainRNN(**{"dim": 4, "ar": 1.0, "tar": 1.0, "batch_chunks": 3} | settings)
    network = rnn.Network(load("rnn/darts_v2"), 11, config.dim)
    with rehearsal.rehearsal(device, monkeypatch, network):
        optimizer, watch, hidden = train_rnn.Averaging(network, config).optimizer, nonfinite.Watch(), network.initial(3)
        source, sums = torch.zeros(9, 3, dtype=torch.long).to(device), torch.zeros(2, dtype=torch.double).to(device)
        for number in range(steps):
            x, y = train_rnn.data.piece(source, 0, 4)
            with recorded_from(number):
                added, hidden, norm = train_rnn.training_step(network, optimizer, config, x, y, hidden)
            sums += added
            watch.note(0, 0, added[0], norm)
    assert sums.device.type == device.type


def test_a_training_of_recurrent_cells(device, monkeypatch):
    training_of_text(device, monkeypatch)


def test_a_training_of_recurrent_cells_in_bf16(monkeypatch):
    training_of_text(CUDA, monkeypatch, precision="bf16")


# ---- trainings of convolutional cells


def training_of_images(device, monkeypatch, steps=2, side=32, stem="cifar", genotype="cnn/darts_v2", **settings):
    config = TrainCNN(**{"channels": 4, "layers": 3, "cutout": 4, "accumulate": 2} | settings)
    cells = load(genotype)
    auxiliary = {"auxiliary": True, "stem": stem} if cells.macro == "darts" else {}
    network = cnn.network(cells)(cells, config.channels, 2, config.layers, **auxiliary)
    network.drop_path = config.drop_path
    with rehearsal.rehearsal(device, monkeypatch, network):
        kwargs = {"weight_decay": config.weight_decay, "nesterov": config.nesterov, "fused": fused(device)}
        optimizer, watch = torch.optim.SGD(network.parameters(), config.lr, config.momentum, **kwargs), nonfinite.Watch()
        train, sums = images(device, side), torch.zeros(4).to(device)
        for step in range(steps):
            batch = train.augmented(1, step)
            with recorded_from(step):
                step_sums, norm = train_cnn.training_step(network, optimizer, config, *batch, train.share(step))
            sums += step_sums
            watch.note(0, 0, step_sums[0], norm)
    assert sums.device.type == device.type


def test_a_training_of_convolutional_cells(device, monkeypatch):
    training_of_images(device, monkeypatch)


@pytest.mark.slow
def test_a_training_of_convolutional_cells_in_bf16(monkeypatch):
    training_of_images(CUDA, monkeypatch, precision="bf16")


@pytest.mark.slow
def test_a_training_for_large_images(device, monkeypatch):
    training_of_images(device, monkeypatch, side=224, stem="imagenet")


# ---- evaluations


@pytest.mark.parametrize("training", [False, True])
def test_an_evaluation_of_convolutional_cells(device, monkeypatch, training):
    network = cnn.Network(load("cnn/darts_v2"), 4, 2, 3)
    with rehearsal.rehearsal(device, monkeypatch, network), torch.no_grad():
        confusion = torch.zeros(2, 2, dtype=torch.long, device=device)
        batches = images(device, training=False)
        sums = evaluate_cnn.measure(network, batches, "fp32", training=training, confusion=confusion)
    assert sums.device.type == device.type


def test_an_evaluation_of_recurrent_cells(device, monkeypatch):
    network = rnn.Network(load("rnn/darts_v2"), 11, 4).eval()
    with rehearsal.rehearsal(device, monkeypatch, network):
        sums = evaluate_rnn.measure(network, torch.zeros(9, 3, dtype=torch.long).to(device), 4, "fp32")
    assert sums.device.type == device.type


# ---- checkpoints


def test_a_checkpoint_of_the_cpu_goes_on_on_cuda(monkeypatch):
    """With fused optimisers, although the file names those of the CPU. What is saved is read at the end only."""

    def made(network, where):
        architect, relaxation = step_cnn.make_architect(network, config, where)
        return {"network": network, "w_optimizer": architect.w_optimizer, "alpha_optimizer": relaxation.optimizer}

    config = SearchCNN(nodes=1, channels=4, layers=3)
    networks = [cnn.SearchNetwork(4, 2, 3, space=config.searched) for _ in range(2)]
    parts = made(networks[0], torch.device("cpu"))
    for parameter in networks[0].parameters():
        parameter.grad = torch.zeros_like(parameter)
    for name in ("w_optimizer", "alpha_optimizer"):
        parts[name].step()
    saved = {name: part.state_dict() for name, part in parts.items()}

    with rehearsal.rehearsal(CUDA, monkeypatch, networks[1], back=True):
        parts = made(networks[1], CUDA)
        for name, part in parts.items():
            part.load_state_dict(rehearsal.faked(saved[name]))
        for parameter in networks[1].parameters():
            parameter.grad = torch.empty_like(parameter)
        for name in ("w_optimizer", "alpha_optimizer"):
            parts[name].step()
            assert parts[name].param_groups[0]["fused"] is True
        state = {name: part.state_dict() for name, part in parts.items()} | {"sums": torch.zeros(2, 3)}
        with pytest.raises(NUMBER_READ):
            nonfinite.first_not_finite(state)
    steps = [slots["step"] for slots in state["alpha_optimizer"]["state"].values()]
    assert {tensor.device.type for tensor in (*state["network"].values(), *steps)} == {"cuda"}


# ---- what the rehearsal catches


class Planted:
    """A constant of the CPU: the ones that a careless `torch.ones(n)` makes."""

    def __rmul__(self, tensor):
        return tensor * torch.ones(tensor.shape[-1])


def test_a_constant_of_the_cpu_in_a_forward_pass_is_noticed(device, monkeypatch):
    forward = cnn.SearchCell.forward
    monkeypatch.setattr(cnn.SearchCell, "forward", lambda *args: forward(*args) * Planted())
    with pytest.raises((TwoDevices, FakeTensorDeviceMismatchError)):
        search_of_images(device, monkeypatch, nodes=1)


def test_a_constant_of_the_cpu_in_a_backward_pass_is_noticed(monkeypatch):
    backward = rnn.NextWords.backward
    monkeypatch.setattr(rnn.NextWords, "backward", staticmethod(lambda ctx, g: backward(ctx, g[None] * Planted())))
    with pytest.raises((TwoDevices, FakeTensorDeviceMismatchError)):
        training_of_text(META, monkeypatch)


@pytest.mark.parametrize("where", ["a_training", "an_evaluation"])
def test_a_constant_of_the_cpu_in_the_metrics_is_noticed(device, monkeypatch, where):
    module = train_cnn if where == "a_training" else evaluate_cnn
    scores = module.scores
    monkeypatch.setattr(module, "scores", lambda *args: scores(*args) * Planted())
    with pytest.raises((TwoDevices, FakeTensorDeviceMismatchError)):
        training_of_images(device, monkeypatch) if where == "a_training" else test_an_evaluation_of_convolutional_cells(
            device, monkeypatch, False
        )


def test_a_constant_of_the_cpu_in_an_optimiser_is_noticed(device, monkeypatch):
    """Moments that a resume has left on the CPU, as PyTorch's own loading would not."""
    network = cnn.Network(load("cnn/darts_v2"), 4, 2, 3)
    with rehearsal.rehearsal(device, monkeypatch, network):
        optimizer = torch.optim.SGD(network.parameters(), 0.1, 0.9, fused=fused(device))
        for weight in network.parameters():
            weight.grad = torch.empty_like(weight)
            optimizer.state[weight]["momentum_buffer"] = torch.zeros(weight.shape)
        with pytest.raises((TwoDevices, FakeTensorDeviceMismatchError)):
            optimizer.step()


@pytest.mark.parametrize("read", [torch.Tensor.item, float, bool, torch.nonzero])
def test_a_number_that_is_read_in_a_step_is_noticed(device, monkeypatch, read):
    norm = torch.nn.utils.clip_grad_norm_

    def reading(*args):
        read(norm(*args))

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", reading)
    with pytest.raises(NUMBER_READ):
        training_of_text(device, monkeypatch)


def test_a_copy_from_the_cpu_in_a_recorded_step_is_noticed(device, monkeypatch):
    """Which any other step may make."""
    norm = torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *args: norm(*args) * torch.ones(3).to(device).sum())
    training_of_text(device, monkeypatch, steps=1)
    with pytest.raises(TwoDevices, match="from the CPU to"):
        training_of_text(device, monkeypatch, steps=2)


def test_numbers_of_the_cpu_are_noticed(monkeypatch):
    """A tensor that is not fake, such as a constant of a module, comes from outside the device."""
    network, table = rnn.Network(load("rnn/darts_v2"), 11, 4), torch.ones(4)
    states = network._states
    monkeypatch.setattr(network, "_states", lambda *args: (*states(*args)[:1], states(*args)[1] * table, states(*args)[2]))
    with rehearsal.rehearsal(CUDA, monkeypatch, network), pytest.raises(AssertionError, match="Please convert all Tensors"):
        evaluate_rnn.measure(network.eval(), torch.zeros(9, 3, dtype=torch.long).to(CUDA), 4, "fp32")


# ---- by construction

FACTORIES = {"arange", "as_tensor", "empty", "eye", "from_numpy", "full", "linspace", "ones", "rand", "randn", "randint"}
FACTORIES |= {"randperm", "scalar_tensor", "tensor", "zeros"}  # of torch; what makes a tensor on the CPU unless it is told
PACKAGE = Path(darts_cli.__file__).parent


def without_device(source):
    """The lines of a Function, or of the functions of its module that it calls, which make a tensor on the default device."""
    functions = {node.name: node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)}
    waiting = [
        method
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base).endswith("Function") for base in node.bases)
        for method in node.body
    ]
    found, seen = [], set()
    while waiting:
        for call in [node for node in ast.walk(waiting.pop()) if isinstance(node, ast.Call)]:
            name = ast.unparse(call.func)
            if name.removeprefix("torch.") in FACTORIES and name.startswith("torch."):
                found += [ast.unparse(call)] * all(keyword.arg != "device" for keyword in call.keywords)
            elif name in functions and name not in seen:
                seen.add(name)
                waiting.append(functions[name])
    return found


def test_functions_make_no_tensor_on_the_default_device():
    """A backward pass cannot be rehearsed on a fake device of CUDA, so that it must be right by construction."""
    sources = {path: path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    assert sum("(Function):" in source for source in sources.values()) >= 6
    assert {path: found for path, source in sources.items() if (found := without_device(source))} == {}


def test_such_a_tensor_would_be_found():
    source = (
        "class A(Function):\n    @staticmethod\n    def backward(ctx, g):\n        return help(g)\n\n"
        "def help(g):\n    return g * torch.ones(3)\n\ndef other():\n    return torch.zeros(1)\n"
    )
    assert without_device(source) == ["torch.ones(3)"]
    assert without_device(source.replace("torch.ones(3)", "torch.ones(3, device=g.device)")) == []


def test_no_function_has_a_default_device():
    """But the commands, whose default is `auto`, and what evaluates for them."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                named = [*zip(node.args.args[::-1], node.args.defaults[::-1], strict=False)]
                named += zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
                found += [
                    (node.name, ast.literal_eval(default))
                    for arg, default in named
                    if arg.arg == "device" and default is not None
                ]
    assert set(found) <= {("evaluate", "auto")}, found
