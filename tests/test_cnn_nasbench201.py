"""The networks of other search spaces, against the code of their authors; and of NAS-Bench-201 in particular."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from darts_cli import DartsError, legacy
from darts_cli.cnn import model, nasbench201
from darts_cli.formats.genotypes import parse
from darts_cli.genotype import Genotype, load
from darts_cli.spaces import space as spaces

REFERENCE = torch.load(Path(__file__).parent / "data" / "search_spaces.pt", weights_only=True)
CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|skip_connect~2|"


def of_the_authors(name, fused):
    """Their weights in our network, float64, and the reference."""
    reference = REFERENCE[name]
    space = spaces.load(name)
    layers = reference.get("layers", reference.get("cells_per_stage"))
    network = model.search_network(space)(
        reference["channels"], reference["classes"], layers, fused=fused, space=space
    ).double()
    weights, state, start = reference["weights"], {}, 0
    for key, shape in zip(weights["keys"], weights["shapes"], strict=True):
        state[key] = weights["values"][start : start + math.prod(shape)].view(shape).double()
        start += math.prod(shape)
    for key, tensor in network.state_dict().items():
        if "running" in key:
            state[legacy.original_key(network, key)] = tensor
    legacy.load_state(network, state)
    alphas = reference["alphas"]
    for cell, alpha in network.alphas.items():
        alpha.data.copy_(alphas[cell] if isinstance(alphas, dict) else alphas)
    return network, reference


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", REFERENCE)
def test_the_search_network_is_that_of_the_authors(name, fused):
    """Logits, loss, gradients of alpha and of every weight, and the cells, to 1e-9."""
    network, reference = of_the_authors(name, fused)
    close = {"rtol": 1e-9, "atol": 1e-10}
    logits = network(reference["x"].double())
    loss = F.cross_entropy(logits, reference["y"])
    loss.backward()
    torch.testing.assert_close(logits, reference["logits"], **close)
    torch.testing.assert_close(loss, reference["loss"], **close)
    for cell, alpha in network.alphas.items():
        expected = reference["dalphas"]
        torch.testing.assert_close(alpha.grad, expected[cell] if isinstance(expected, dict) else expected, **close)
    gradients = {legacy.original_key(network, key): weight.grad for key, weight in network.named_parameters()}
    for key, norm, probe in zip(reference["weights"]["keys"], *(reference["dw"][k] for k in ("norm", "probe")), strict=True):
        gradient = gradients[key].flatten()
        torch.testing.assert_close(gradient.norm(), norm, **close)
        torch.testing.assert_close(gradient @ torch.arange(len(gradient), dtype=torch.float64).cos(), probe, **close)
    found, expected = network.genotype(), reference["genotype"]
    if name == "nas-bench-201":
        expected = {"cell": [edge for node in expected for edge in node]}
        assert found == parse(reference["genotype_string"], "the authors")
        evaluated = network.eval()(reference["x"].double())
        torch.testing.assert_close(evaluated, reference["logits_eval_after_one_train_forward"], **close)
    assert {cell: [list(edge) for node in found.cells[cell].nodes for edge in node] for cell in found.cells} == expected


def test_the_size_of_the_search_network():
    """As the authors' has it."""
    assert sum(weight.numel() for weight in nasbench201.SearchNetwork(16, 10, 5).weights()) == 1_692_826


def test_a_cell_is_the_search_cell_at_its_one_hot_weights():
    genotype = parse(CELL, "here")
    network = nasbench201.Network(genotype, 4, 10, 1).double().eval()
    search = nasbench201.SearchNetwork(4, 10, 1).double().eval()
    state = search.state_dict()
    for key, tensor in network.state_dict().items():
        path = key.split(".")
        if "edges" in path:
            at = path.index("edges") + 1
            node_edges = [edge.op for node in genotype.cells["cell"].nodes for edge in node]
            path.insert(at + 1, node_edges[int(path[at])])
        if ".".join(path) in state:
            state[".".join(path)].copy_(tensor)
    for key, tensor in search.state_dict().items():
        if key.endswith("conv.bias"):
            tensor.zero_()
    space = spaces.load("nas-bench-201")
    one_hot = torch.zeros(6, 5, dtype=torch.float64)
    for row, op in zip(one_hot, (edge.op for node in genotype.cells["cell"].nodes for edge in node), strict=True):
        row[space.operations.index(op)] = 1
    x = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    logits, auxiliary = network(x)
    assert auxiliary is None
    torch.testing.assert_close(search(x, {"cell": one_hot}), logits)


@pytest.mark.parametrize("fused", [True, False])
def test_only_the_active_operations_are_computed(fused):
    network = nasbench201.SearchNetwork(4, 10, 1, fused=fused).double()
    active = [{"skip_connect"}, {"nor_conv_3x3"}, set(), {"avg_pool_3x3"}, {"nor_conv_1x1", "none"}, {"skip_connect"}]
    space = spaces.load("nas-bench-201")
    mixture = torch.rand(6, 5, dtype=torch.float64)
    masked = mixture * torch.tensor([[op in names for op in space.operations] for names in active])
    x = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(network(x, {"cell": mixture}, {"cell": active}), network(x, {"cell": masked}))


@pytest.mark.parametrize(
    ("genotype", "kwargs", "message"),
    [
        ("cnn/darts_v2", {}, "needs a genotype of its space, not of darts"),
        (CELL, {"auxiliary": True}, "has no auxiliary head"),
        (CELL, {"stem": "imagenet"}, "has no stem for imagenet"),
    ],
)
def test_what_its_network_refuses(genotype, kwargs, message):
    genotype = parse(genotype, "here") if genotype.startswith("|") else load(genotype)
    with pytest.raises(DartsError, match=message):
        nasbench201.Network(genotype, **kwargs)


def test_its_cells_are_no_cells_of_darts():
    with pytest.raises(DartsError, match="with the cells normal and reduce, not nas-bench-201"):
        model.Network(parse(CELL, "here"))
    broken = parse(CELL, "here").to_dict()
    for nodes, concat, rule in (
        ([[["none", 0]], [["none", 1], ["none", 0]]], [2], r"nodes\[1\]\[0\]: .*in their order: here that from state 0, not 1"),
        ([[["none", 0]], [["none", 0]]], [2], r"nodes\[1\]: in the space nas-bench-201 node 1 has 2 edges"),
        ([[["none", 0]], [["none", 0], ["none", 1]]], [1, 2], r"the output is the last node, \[2\], not \[1, 2\]"),
    ):
        with pytest.raises(DartsError, match=rule):
            Genotype.from_dict(broken | {"cell": {"nodes": nodes, "concat": concat}})
