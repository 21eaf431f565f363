"""Networks and steps of search methods, against numbers of their authors' code (float64, tests/data)."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from authors import network_of

from darts_cli import legacy
from darts_cli.cnn.model import search_network
from darts_cli.cnn.step import make_architect, search_step
from darts_cli.config import SearchCNN
from darts_cli.methods.method import parse
from darts_cli.methods.papers import drnas, gdas
from darts_cli.methods.relaxation import active
from darts_cli.methods.value import Added, Step
from darts_cli.spaces.choose import choose
from darts_cli.spaces.space import default, load

DATA = Path(__file__).parent / "data"
REFERENCE, PAPERS = (torch.load(DATA / name, weights_only=True) for name in ("methods_networks.pt", "methods.pt"))
BENCHMARK = torch.load(DATA / "search_spaces.pt", weights_only=True)["nas-bench-201"]
X, Y = REFERENCE["x"], REFERENCE["y"]
WEIGHTS, PARTIAL = PAPERS["sdarts"]["weights"], PAPERS["pcdarts"]["network"]["weights"]
CLOSE = {"rtol": 1e-9, "atol": 1e-11}
SEVEN = choose("cnn", None, ",".join(op for op in default("cnn").operations if op != "none"), None)[1]


def named(network):
    return [(legacy.original_key(network, name), weight) for name, weight in network.named_parameters()]


def check_numbers(found, keys, expected):
    """Norm and product with cos(0), cos(1), ... of each tensor; none, where the authors have none or zeros."""
    for key, norm, probe in zip(keys, expected["norm"], expected["probe"], strict=True):
        if found[key] is None:
            assert norm.nan_to_num() == 0
            continue
        numbers = found[key].flatten()
        torch.testing.assert_close(numbers.norm(), norm, rtol=1e-9, atol=1e-10)
        cosines = torch.arange(len(numbers), dtype=torch.float64).cos()
        torch.testing.assert_close(numbers @ cosines, probe, rtol=1e-9, atol=1e-10)


def check_gradients(network, keys, expected):
    check_numbers({name: weight.grad for name, weight in named(network)}, keys, expected)


def check_cells(found, expected):
    assert {cell: [list(edge) for node in found.cells[cell].nodes for edge in node] for cell in found.cells} == expected


@pytest.mark.parametrize("index", [0, 2])  # of weight 1 and 0.02
def test_darts_minus(index):
    """Skip connections of every edge beside the mixture; those of stride 2 have weights of their own."""
    reference = REFERENCE["dartsminus"]
    keys = [
        key.replace("_ops", "skips").replace("auxiliary_op.", "") if "auxiliary" in key else key
        for key in reference["weights"]["keys"]
    ]
    given = {**reference, "weights": {**reference["weights"], "keys": keys}}
    network = network_of(given, default("cnn"), method=parse("darts-minus"))
    case = reference["networks"][index]
    network.added = Added(auxiliary_skip=float(case["decay"]))
    logits = network(X)
    torch.testing.assert_close(logits, case["logits"], **CLOSE)
    F.cross_entropy(logits, Y).backward()
    for cell, expected in case["dalphas"].items():
        torch.testing.assert_close(network.alphas[cell].grad, expected, **CLOSE)
    check_gradients(network, keys, case["dw"])
    check_cells(network.genotype(), reference["genotype"])


def test_the_schedule_of_darts_minus():
    for epoch, expected in enumerate(REFERENCE["dartsminus"]["schedules"]["linear"]):
        found = parse("darts-minus").added(Step(epoch, 50, 0, 0)).auxiliary_skip
        assert found == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.parametrize("order", ["first", "second"])
def test_steps_of_pc_darts(order):
    """Two bilevel steps on alpha and the numbers of edges."""
    reference = PAPERS["pcdarts"]["network"]
    network = network_of(reference, default("cnn"), method=parse("pc-darts:warmup=0"))
    for cell, betas in reference["betas"].items():
        network.alphas[f"{cell}_edges"].data.copy_(betas)
    config = SearchCNN(method="pc-darts:warmup=0", unrolled=order == "second", lr=0.1, alpha_lr=6e-4, epochs=2)
    architect, relaxation = make_architect(network, config, torch.device("cpu"))
    steps = REFERENCE["pcdarts"][f"steps_{order}_order"]
    for batch, expected in zip(REFERENCE["pcdarts"]["batches"], steps, strict=True):
        train, valid = ((batch[f"x_{half}"].double(), batch[f"y_{half}"]) for half in ("train", "valid"))
        sums, _ = search_step(architect, relaxation, Step(1, 2, 0, 0), train, valid, config.grad_clip)
        for cell in ("normal", "reduce"):
            alpha, betas = network.alphas[cell], network.alphas[f"{cell}_edges"]
            torch.testing.assert_close(alpha.grad, expected["dalphas"][cell], **CLOSE)
            torch.testing.assert_close(betas.grad, expected["dbetas"][cell], **CLOSE)
            torch.testing.assert_close(alpha.data, expected["alphas"][cell], **CLOSE)
            torch.testing.assert_close(betas.data, expected["betas"][cell], **CLOSE)
        torch.testing.assert_close(sums[0, 0] / len(batch["y_train"]), expected["train_loss"], **CLOSE)
    check_numbers({name: weight.data for name, weight in named(network)}, PARTIAL["keys"], expected["w"])


@pytest.mark.parametrize("partial", [1, 4])
def test_the_network_of_drnas(partial):
    """A sample of the Dirichlet distributions, the penalty, and the gradient of alpha through the sample."""
    reference = REFERENCE["drnas"]
    case = reference[f"network_k{partial}"]
    sizes = {"channels": case["channels"], "classes": 5, "layers": 3, "alphas": reference["alphas"]}
    kind = "dirichlet+partial:4+dirichlet-kl:0.001" if partial == 4 else "dirichlet"
    method = parse(kind)
    network = network_of({**sizes, "weights": PARTIAL if partial == 4 else WEIGHTS}, SEVEN, method=method)
    mixture = {
        cell: drnas.Sample.apply(drnas.concentration(alpha), None, reference["samples"][cell])
        for cell, alpha in network.alphas.items()
    }
    logits = network(X, mixture)
    torch.testing.assert_close(logits, case["logits"], **CLOSE)
    penalty = method.penalty(network.alphas, Step(0, 50, 0, 0))
    loss = F.cross_entropy(logits, Y) + (0 if penalty is None else penalty)
    torch.testing.assert_close(loss, case["loss_with_regulariser"], **CLOSE)
    loss.backward()
    for cell, expected in case["dalphas"].items():
        torch.testing.assert_close(network.alphas[cell].grad, expected, **CLOSE)
    check_gradients(network, (PARTIAL if partial == 4 else WEIGHTS)["keys"], case["dw"])
    check_cells(network.genotype(), case["genotype"])


def test_the_network_of_fair_darts():
    """Sigmoids, with the penalty in the gradient of alpha; then two steps of its Adam."""
    reference = REFERENCE["fairdarts"]
    case = reference["network"]
    method = parse("fair-darts")
    network = network_of({**case, "weights": WEIGHTS}, SEVEN, method=method)
    logits = network(X)
    torch.testing.assert_close(logits, case["logits"], **CLOSE)
    loss = F.cross_entropy(logits, Y) + method.penalty(network.alphas, Step(0, 50, 0, 0))
    torch.testing.assert_close(loss, torch.as_tensor(case["loss"]).double(), **CLOSE)
    loss.backward()
    for cell, expected in case["dalphas"].items():
        torch.testing.assert_close(network.alphas[cell].grad, expected, **CLOSE)
    check_gradients(network, WEIGHTS["keys"], case["dw"])
    optimizer = torch.optim.Adam(network.alphas.values(), 3e-3, (0.9, 0.999), weight_decay=1e-3)
    for step in reference["adam_steps"]:
        optimizer.zero_grad()
        cross_entropy = F.cross_entropy(network(step["x"].double()), step["y"])
        assert cross_entropy.item() == pytest.approx(float(step["cross_entropy"]), rel=1e-9)
        (cross_entropy + method.penalty(network.alphas, Step(0, 50, 0, 0))).backward()
        optimizer.step()
        for cell, expected in step["alphas"].items():
            torch.testing.assert_close(network.alphas[cell].data, expected, **CLOSE)


def test_the_network_of_gdas():
    """Every edge computes the operation that is drawn, and no other has a gradient."""
    case = REFERENCE["gdas"]["darts"]
    network = network_of({**case, "weights": WEIGHTS}, default("cnn"), method=parse("gdas"))
    mixture = {
        cell: gdas.one_hot(alpha, case["exponential"][cell], float(case["tau"])) for cell, alpha in network.alphas.items()
    }
    for table in mixture.values():
        table.retain_grad()
    logits = network(case["x"].double(), mixture, active(mixture, default("cnn")))
    expected = case["chosen_only"]
    torch.testing.assert_close(logits, expected["logits"], **CLOSE)
    F.cross_entropy(logits, case["y"]).backward()
    for cell in ("normal", "reduce"):
        torch.testing.assert_close(mixture[cell].grad, expected["dhard"][cell], **CLOSE)
        torch.testing.assert_close(network.alphas[cell].grad, expected["dalphas"][cell], **CLOSE)
    check_gradients(network, WEIGHTS["keys"], expected["dw"])


def of_the_benchmark(reference, weights, method):
    """The authors' weights in the search network of NAS-Bench-201; biases before BatchNorm, which some leave out, are zero."""
    space, start = load("nas-bench-201"), 0
    sizes = (reference[name] for name in ("channels", "classes", "cells_per_stage"))
    network = search_network(space)(*sizes, space=space, method=parse(method)).double()
    given = {}
    for key, shape in zip(weights["keys"], weights["shapes"], strict=True):
        given[key] = weights["values"][start : start + math.prod(shape)].view(shape).double()
        start += math.prod(shape)
    state = {legacy.original_key(network, key): tensor for key, tensor in network.state_dict().items()}
    for key in list(state):
        if key.endswith("bias") and "edges" in key:
            state[key] = torch.zeros_like(state[key])
        if key.startswith("alphas"):
            del state[key]
    legacy.load_state(network, state | given)
    return network


def test_gdas_in_nas_bench_201():
    """The authors' own network adds the weights of the other operations, which are 0: their gradient is a sum of g."""
    case = REFERENCE["gdas"]["nb201"]
    network = of_the_benchmark(case, BENCHMARK["weights"], "gdas")
    alpha = network.alphas["cell"]
    alpha.data.copy_(case["alphas"])
    mixture = {"cell": gdas.one_hot(alpha, case["exponential"], float(case["tau"]))}
    logits = network(X, mixture, active(mixture, load("nas-bench-201")))
    torch.testing.assert_close(logits, case["logits"], **CLOSE)


@pytest.mark.parametrize("index", [0, 1])
def test_beta_darts_in_nas_bench_201(index):
    """The gradient of alpha with the penalty of an epoch, and alpha after a step of Adam."""
    reference = REFERENCE["betadarts"]
    case = reference["steps"][index]
    network = of_the_benchmark(reference, reference["weights"], "beta-darts")
    alpha = network.alphas["cell"]
    alpha.data.copy_(case["alphas_before"])
    cross_entropy = F.cross_entropy(network(case["x"].double()), case["y"])
    torch.testing.assert_close(cross_entropy, case["cross_entropy"], **CLOSE)
    penalty = network.method.penalty(network.alphas, Step(int(case["epoch"]), 100, 0, 0))
    (cross_entropy + penalty).backward()
    torch.testing.assert_close(alpha.grad, case["dalphas"], **CLOSE)
