"""The network of a genotype: the original's numbers to 1e-9 in float64, the papers' sizes, and drop-path."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from darts_cli import DartsError, legacy
from darts_cli.cnn.model import AuxiliaryHead, Network, drop_path_
from darts_cli.cnn.sizes import multiply_adds, parameters
from darts_cli.genotype import Cell, Edge, Genotype, load

REFERENCES = torch.load(Path(__file__).with_name("data") / "cnn_networks.pt", weights_only=True)
TIGHT = {"rtol": 1e-9, "atol": 1e-12}


def draw_again(reference):
    """State dict (the original's names) and images of a reference: drawn as they were then, rounded to float32."""
    torch.manual_seed(reference["seed"])
    state = {
        key: torch.zeros(shape, dtype=torch.float64) for key, shape in zip(reference["keys"], reference["shapes"], strict=True)
    }
    for key, tensor in state.items():
        if tensor.dim() > 1:
            nn.init.kaiming_uniform_(tensor, a=math.sqrt(5))
        elif key.endswith("classifier.bias"):
            bound = 1 / math.sqrt(state[key.replace("bias", "weight")].shape[1])
            tensor.uniform_(-bound, bound)
    x = torch.randn(reference["x_shape"], dtype=torch.float64).float()
    torch.manual_seed(reference["seed"])
    for key in reference["keys"]:
        norm, _, what = key.rpartition(".")
        if what == "running_mean":
            state[key].normal_().mul_(0.1)
            state[f"{norm}.running_var"].uniform_(0.5, 1.5)
            state[f"{norm}.weight"].uniform_(0.5, 1.5)
            state[f"{norm}.bias"].normal_().mul_(0.1)
    return {key: tensor.float() for key, tensor in state.items()}, x


def network_of(reference):
    return Network(
        load(reference["genotype_name"], "cnn"),
        reference["channels"],
        reference["num_classes"],
        reference["layers"],
        reference["auxiliary"],
        reference["kind"],
    )


@pytest.mark.parametrize("name", REFERENCES)
def test_logits_loss_and_all_gradients(name):
    reference = REFERENCES[name]
    network, (state, x) = network_of(reference).double(), draw_again(reference)
    legacy.load_state(network, state)
    with torch.no_grad():
        logits, auxiliary = network.eval()(x.double())
    torch.testing.assert_close(logits, reference["eval_logits"], **TIGHT)
    assert auxiliary is None
    logits, auxiliary = network.train()(x.double())
    torch.testing.assert_close(logits, reference["train_logits"], **TIGHT)
    loss = F.cross_entropy(logits, reference["y"])
    if reference["auxiliary"]:
        torch.testing.assert_close(auxiliary, reference["train_aux_logits"], **TIGHT)
        loss = loss + reference["auxiliary_weight"] * F.cross_entropy(auxiliary, reference["y"])
    else:
        assert auxiliary is None
    loss.backward()
    torch.testing.assert_close(loss, reference["train_loss"], **TIGHT)
    norms = {legacy.original_key(network, key): weight.grad.norm().item() for key, weight in network.named_parameters()}
    assert norms == pytest.approx(reference["grad_norms"], rel=1e-9)
    assert parameters(network) == reference["num_params"]


@pytest.mark.parametrize("name", ["cifar_amoebanet", "cifar_darts_v2", "imagenet_darts_v2"])
def test_float32_gradients_are_those_of_float64(name):
    """Which also shows that the CPU's kernels can be trusted at these sizes: some cannot (see FactorizedReduce).

    A ReLU whose input is within rounding of 0 may take the other side, which changes what lies before it by some per cent on
    maps as small as these; so not every norm can be held to rounding.
    """
    reference = REFERENCES[name]
    network, (state, x) = network_of(reference), draw_again(reference)
    legacy.load_state(network, state)
    logits, auxiliary = network(x)
    loss = F.cross_entropy(logits, reference["y"])
    if reference["auxiliary"]:
        loss = loss + reference["auxiliary_weight"] * F.cross_entropy(auxiliary, reference["y"])
    loss.backward()
    norms = {legacy.original_key(network, key): weight.grad.norm().item() for key, weight in network.named_parameters()}
    errors = sorted(abs(norms[key] / norm - 1) for key, norm in reference["grad_norms"].items())
    assert errors[len(errors) // 2] < 1e-5
    assert errors[-1] < 0.1


# cell; CIFAR-10 at 36 channels, 20 layers: parameters, multiply-adds in millions; ImageNet at 48 channels, 14 layers: the same.
SIZES = [
    ("DARTS_V1", 3_169_414, 501.0, 4_510_432, 505.9),
    ("DARTS_V2", 3_349_342, 528.4, 4_718_752, 529.9),
    ("NASNet", 3_830_950, 603.5, 5_564_320, 604.0),
    ("AmoebaNet", 3_145_078, 488.9, 4_627_360, 526.7),
    ("PC_DARTS_cifar", 3_634_678, 556.7, 5_270_560, 571.1),
    ("PC_DARTS_image", 3_721_510, None, 5_342_464, 581.6),
    ("PDARTS", 3_433_798, 532.2, 4_944_352, 542.8),
    ("BANANAS", 3_583_054, 566.0, None, None),
    ("ASHA200", 2_243_206, None, None, None),
]


@pytest.mark.parametrize(("cell", "cifar", "cifar_macs", "imagenet", "imagenet_macs"), SIZES)
def test_the_published_sizes(cell, cifar, cifar_macs, imagenet, imagenet_macs):
    small = Network(load(cell, "cnn"), auxiliary=True)  # which is not counted
    assert parameters(small) == cifar
    if cifar_macs:
        assert round(multiply_adds(small, 32, 32) / 1e6, 1) == cifar_macs
    large = Network(load(cell, "cnn"), 48, 1000, 14, stem="imagenet")
    if imagenet:
        assert parameters(large) == imagenet
        assert round(multiply_adds(large, 224, 224) / 1e6, 1) == imagenet_macs


def test_multiply_adds_by_hand():
    layers = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1, groups=3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 4 * 3, 5))
    layers.train()
    assert multiply_adds(layers, 8, 6) == 4 * 3 * 6 * 9 + 72 * 5
    assert layers.training


@pytest.mark.parametrize("layers", [1, 2, 3, 4, 7])
def test_any_depth_and_size(layers):
    network = Network(load("darts_v2", "cnn"), 4, 6, layers)
    assert network(torch.randn(2, 3, 8, 12))[0].shape == (2, 6)


def test_every_operation_in_both_cells():
    """Of either stride: a node of each operation."""
    ops = ["none", "conv_7x1_1x7", "sep_conv_7x7", "dil_conv_3x3", "avg_pool_3x3", "skip_connect"]
    cell = Cell(tuple((Edge(op, 0), Edge(op, 1)) for op in ops), (2, 3, 7))
    network = Network(Genotype("cnn", {"normal": cell, "reduce": cell}), 4, 3, 3)
    out = network.cells[1](*(torch.randn(2, 12, 8, 8),) * 2)
    assert out.shape == (2, 3 * 8, 4, 4)
    assert (out[:, :8] == 0).all()
    assert out[:, 8:].abs().sum() > 0


def test_the_auxiliary_heads():
    torch.manual_seed(0)
    for stem, size, count in (("cifar", 8, 8), ("imagenet", 7, 7)):
        head = AuxiliaryHead(16, 10, stem)
        assert head(torch.randn(2, 16, size, size)).shape == (2, 10)
        assert len(head.features) == count
    network = Network(load("darts_v2", "cnn"), 4, 10, 6, auxiliary=True)
    seen = []
    network.auxiliary_head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape))
    network(torch.randn(2, 3, 32, 32))
    network.eval()(torch.randn(2, 3, 32, 32))
    assert seen == [(2, 4 * 4 * 4, 8, 8)]  # behind the second reduction, while training only


def test_a_recurrent_genotype_is_refused():
    with pytest.raises(DartsError, match="one of cifar, imagenet"):
        Network(load("cnn/darts_v2"), 4, 3, 3, stem="mnist")
    with pytest.raises(DartsError, match="domain cnn, not rnn"):
        Network(load("rnn/darts_v2"))


# ---- drop-path


def test_drop_path_keeps_the_expectation_and_drops_whole_images():
    torch.manual_seed(0)
    x = torch.rand(20_000, 2, 2, 2) + 1
    dropped = drop_path_(x.clone(), 0.3)
    kept = (dropped != 0).flatten(1)
    assert (kept.all(1) | ~kept.any(1)).all()
    share = kept.any(1).double().mean().item()
    assert share == pytest.approx(0.7, abs=4 * math.sqrt(0.3 * 0.7 / 20_000))
    torch.testing.assert_close(dropped[kept.any(1)], x[kept.any(1)] / 0.7)
    torch.testing.assert_close(dropped.mean(0), x.mean(0), rtol=0.03, atol=0)
    assert drop_path_(x, 0.0) is x


def one_edge(op):
    """A network in whose cells both edges of the only node carry the operation."""
    cell = Cell(((Edge(op, 0), Edge(op, 1)),), (2,))
    return Network(Genotype("cnn", {"normal": cell, "reduce": cell}), 4, 3, 3).double()


@pytest.mark.parametrize(
    ("op", "cell", "exempt"), [("skip_connect", 0, True), ("skip_connect", 1, False), ("max_pool_3x3", 0, False)]
)
def test_drop_path_exempts_the_skip_connection_of_stride_1_only(op, cell, exempt):
    torch.manual_seed(0)
    tested = one_edge(op).cells[cell]
    inputs = [torch.randn(64, C, 8, 8, dtype=torch.float64) for C in (12, 12 if cell == 0 else 4)]
    plain, dropped = tested(*inputs), tested(*inputs, drop_path=0.5)
    whole = (dropped == 0).flatten(1).all(1)  # both edges of an image
    assert torch.equal(plain, dropped) is exempt
    assert (4 < whole.sum() < 32) is not exempt  # a quarter of 64
    assert torch.equal(tested.eval()(*inputs, drop_path=0.5), tested(*inputs))


def test_drop_path_is_drawn_for_each_edge():
    torch.manual_seed(0)
    cell = one_edge("max_pool_3x3").cells[0]
    x = torch.randn(200, 12, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        pooled = [op(state) for op, state in zip(cell.edges, (cell.preprocess0(x), cell.preprocess1(x)), strict=True)]
        out = cell(x.relu(), x.relu(), drop_path=0.5)
    kinds = {
        (a, b): sum(torch.allclose(out[i], 2 * (a * pooled[0][i] + b * pooled[1][i])) for i in range(200))
        for a in (0, 1)
        for b in (0, 1)
    }
    assert sum(kinds.values()) == 200
    assert all(25 < count < 75 for count in kinds.values())


def test_the_network_passes_its_drop_path_to_the_cells():
    torch.manual_seed(0)
    network, x = one_edge("max_pool_3x3"), torch.randn(8, 3, 8, 8, dtype=torch.float64)
    assert torch.equal(network(x)[0], network(x)[0])
    network.drop_path = 0.4
    assert not torch.equal(network(x)[0], network(x)[0])
    network.eval()
    assert torch.equal(network(x)[0], network(x)[0])


def test_channels_last_all_the_way():
    network = Network(load("amoebanet", "cnn"), 4, 3, 3)
    seen = []
    for cell in network.cells:
        cell.register_forward_hook(lambda module, inputs, output: seen.append(output))
    network(torch.randn(2, 3, 8, 8))
    assert len(seen) == 3
    assert all(output.is_contiguous(memory_format=torch.channels_last) for output in seen)


def test_every_normalisation_counts_its_batches():
    network = Network(load("darts_v2", "cnn"), 4, 10, 3)
    network(torch.randn(4, 3, 8, 8))
    counts = {int(each) for name, each in network.named_buffers() if name.endswith("num_batches_tracked")}
    assert counts == {1}
