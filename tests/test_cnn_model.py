"""The search network and the bilevel steps against the numbers of the original code, to 1e-9 in float64."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from darts_cli import DartsError, legacy
from darts_cli.architect import Architect
from darts_cli.cnn.model import SearchNetwork
from darts_cli.cnn.ops import FactorizedReduce, MixedOp
from darts_cli.cnn.step import search_step
from darts_cli.methods.relaxation import Relaxation
from darts_cli.methods.value import Step
from darts_cli.spaces.space import default

REFERENCE = torch.load(Path(__file__).with_name("data") / "cnn_supernet_a.pt", weights_only=True)
TIGHT = {"rtol": 1e-9, "atol": 1e-12}


def original_state():
    """The original's state dict: drawn again, as the reference was, after torch.manual_seed(3)."""
    torch.manual_seed(3)
    state = {}
    for key, shape in zip(REFERENCE["keys"], REFERENCE["shapes"], strict=True):
        tensor = torch.zeros(shape, dtype=torch.float64)
        if key.endswith("num_batches_tracked"):
            tensor = tensor.long()
        elif key.endswith("running_var") or key == "stem.1.weight":
            tensor += 1
        elif key == "classifier.bias":
            tensor.uniform_(-1 / math.sqrt(64), 1 / math.sqrt(64))
        elif tensor.dim() > 1:
            nn.init.kaiming_uniform_(tensor, a=math.sqrt(5))
        state[key] = tensor
    return state


def reference_network():
    network = SearchNetwork(REFERENCE["channels"], REFERENCE["num_classes"], REFERENCE["layers"]).double()
    legacy.load_state(network, original_state())
    with torch.no_grad():
        network.alphas["normal"].copy_(REFERENCE["alphas_normal"])
        network.alphas["reduce"].copy_(REFERENCE["alphas_reduce"])
    return network


def in_original_order(network, values):
    """One value for each weight of the network, by name, in the order of the reference's names."""
    named = dict(zip([legacy.original_key(network, name) for name, _ in network.named_parameters()], values, strict=True))
    return torch.stack([named[key] for key in REFERENCE["weights"]])


def probe(tensor):
    return torch.arange(tensor.numel(), dtype=torch.float64).cos() @ tensor.flatten()


def test_logits_loss_and_all_gradients():
    network = reference_network()
    logits = network(REFERENCE["x"][0])
    loss = F.cross_entropy(logits, REFERENCE["y"][0])
    loss.backward()
    torch.testing.assert_close(logits, REFERENCE["logits"], **TIGHT)
    torch.testing.assert_close(loss, REFERENCE["loss"], **TIGHT)
    norms = in_original_order(network, [weight.grad.norm() for weight in network.parameters()])
    probes = in_original_order(network, [probe(weight.grad) for weight in network.parameters()])
    torch.testing.assert_close(norms, REFERENCE["weight_grad_norms"], **TIGHT)
    assert ((probes - REFERENCE["weight_grad_probes"]).abs() <= 1e-9 * norms).all()
    for kind, alpha in network.alphas.items():
        torch.testing.assert_close(alpha.grad, REFERENCE["alpha_grads"][kind], **TIGHT)


def test_the_derived_genotype():
    cells = reference_network().genotype().cells
    for kind, cell in cells.items():
        assert [list(edge) for node in cell.nodes for edge in node] == REFERENCE["genotype"][kind]
        assert list(cell.concat) == REFERENCE["genotype"][f"{kind}_concat"]


@pytest.mark.parametrize("leaves", [False, True])
@pytest.mark.parametrize("order", ["first", "second"])
def test_four_bilevel_steps(order, leaves):
    """With the hypergradient by alpha; and as the search takes them, by operation weights with one chain rule."""
    network = reference_network()
    weights = network.weights()
    w_optimizer = torch.optim.SGD(weights, REFERENCE["lr"], REFERENCE["momentum"], weight_decay=REFERENCE["weight_decay"])
    alpha_optimizer = torch.optim.Adam(
        network.alphas.values(), REFERENCE["alpha_lr"], REFERENCE["alpha_betas"], weight_decay=REFERENCE["alpha_weight_decay"]
    )

    relaxation = Relaxation(network, alpha_optimizer)
    mixture = relaxation.weights if leaves else None

    def loss(batch):
        value = F.cross_entropy(network(batch[0], mixture), batch[1])
        return value, value.detach()

    batches = list(zip(REFERENCE["x"], REFERENCE["y"], strict=True))
    architect = Architect(
        loss,
        weights,
        mixture if leaves else network.alphas,
        w_optimizer,
        alpha_optimizer,
        unrolled=order == "second",
        buffers=network.buffers(),
    )
    for step, expected in enumerate(REFERENCE["trajectories"][order]):
        train, valid = batches[2 * step : 2 * step + 2]
        if leaves:
            (train_loss, _), _ = search_step(architect, relaxation, Step(0, 1, 0, step), train, valid, REFERENCE["grad_clip"])
        else:
            architect.step(train, valid)
            w_optimizer.zero_grad()
            train_loss = loss(train)[0]
            train_loss.backward(inputs=weights)
            nn.utils.clip_grad_norm_(weights, REFERENCE["grad_clip"])
            w_optimizer.step()
        for kind, alpha in network.alphas.items():
            torch.testing.assert_close(alpha.grad, expected["alpha_grads"][kind], **TIGHT)
            torch.testing.assert_close(alpha.detach(), expected["alphas"][kind], **TIGHT)
        torch.testing.assert_close(train_loss, expected["train_loss"], **TIGHT)
    norms = in_original_order(network, [weight.norm() for weight in network.parameters()])
    torch.testing.assert_close(norms.detach(), REFERENCE["final_weight_norms"][order], **TIGHT)


def test_sizes():
    """The search network of the paper, and its cells' own count from eq. 1: 14 edges of 8 operations, two tables."""
    network = SearchNetwork()
    assert sum(weight.numel() for weight in network.weights()) == 1_930_618
    assert {kind: tuple(alpha.shape) for kind, alpha in network.alphas.items()} == {"normal": (14, 8), "reduce": (14, 8)}
    assert [cell.kind for cell in network.cells] == [
        "normal",
        "normal",
        "reduce",
        "normal",
        "normal",
        "reduce",
        "normal",
        "normal",
    ]
    assert SearchNetwork(4, 7, 3)(torch.randn(2, 3, 8, 12)).shape == (2, 7)


def test_alphas_start_small_and_random():
    torch.manual_seed(0)
    alphas = torch.cat([alpha.flatten() for alpha in SearchNetwork(2, 2, 3).alphas.values()])
    assert 0.8e-3 < alphas.std() < 1.2e-3
    alphas = torch.cat([alpha.flatten() for alpha in SearchNetwork(2, 2, 3, alpha_scale=0.5).alphas.values()])
    assert 0.4 < alphas.std() < 0.6


def test_a_mixture_takes_the_place_of_the_softmax():
    network = SearchNetwork(4, 3, 3).double()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    softmax = {kind: alpha.softmax(-1) for kind, alpha in network.alphas.items()}
    torch.testing.assert_close(network(x, softmax), network(x))
    one = {kind: torch.eye(8, dtype=torch.float64)[torch.full((14,), 4)] for kind in network.alphas}
    assert (network(x, one) - network(x)).abs().max() > 1e-3


@pytest.mark.parametrize("stride", [1, 2])
def test_a_mixed_operation_is_the_weighted_sum_of_its_operations(stride):
    mixed = MixedOp(default("cnn").operations, 4, stride).double()
    x, weights = torch.randn(2, 4, 6, 6, dtype=torch.float64), torch.rand(8, dtype=torch.float64)
    terms = [weights[default("cnn").operations.index(name)] * op(x) for name, op in mixed.items()]
    assert len(terms) == 8
    torch.testing.assert_close(mixed(x, weights), torch.stack(terms).sum(0))


def test_pooling_is_normalised_and_does_not_count_the_padding():
    mixed = MixedOp(default("cnn").operations, 1, 1)
    x = torch.ones(1, 1, 4, 4)
    assert torch.equal(mixed["avg_pool_3x3"][0](x), x)
    assert isinstance(mixed["max_pool_3x3"][1], nn.BatchNorm2d)
    assert not mixed["max_pool_3x3"][1].affine


def test_factorized_reduce_sees_every_pixel():
    reduce = FactorizedReduce(1, 2, affine=False).eval()
    with torch.no_grad():
        reduce.conv_1.weight.fill_(1)
        reduce.conv_2.weight.fill_(1)
    x = torch.arange(16.0).view(1, 1, 4, 4)
    even, odd = reduce(x)[0]
    torch.testing.assert_close(even, x[0, 0, ::2, ::2], rtol=1e-4, atol=0)
    torch.testing.assert_close(odd, x[0, 0, 1::2, 1::2], rtol=1e-4, atol=0)


@pytest.mark.parametrize(("channels", "size", "batch"), [(2, 8, 8), (2, 16, 5), (4, 8, 3), (6, 8, 16)])
def test_float32_gradients_are_those_of_float64(channels, size, batch):
    """Which also shows that the CPU's kernels can be trusted at these sizes: some cannot (see FactorizedReduce)."""
    torch.manual_seed(0)
    network = SearchNetwork(channels, 3, 3)
    x, y = torch.randn(batch, 3, size, size), torch.randint(0, 3, (batch,))
    single = torch.autograd.grad(F.cross_entropy(network(x), y), list(network.parameters()))
    again = torch.autograd.grad(F.cross_entropy(network(x), y), list(network.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(single, again, strict=True))
    network.double()
    double = torch.autograd.grad(F.cross_entropy(network(x.double()), y), list(network.parameters()))
    for a, b in zip(single, double, strict=True):
        assert (a - b).norm() <= 1e-3 * b.norm() + 1e-7


def test_channels_last_all_the_way():
    network = SearchNetwork(4, 3, 3)
    seen = []
    for cell in network.cells:
        cell.register_forward_hook(lambda module, inputs, output: seen.append(output))
    network(torch.randn(2, 3, 8, 8))
    assert len(seen) == 3
    assert all(output.is_contiguous(memory_format=torch.channels_last) for output in seen)


# ---- legacy.load_state


def test_load_state_copies_in_the_models_dtype_and_leaves_alphas():
    network = SearchNetwork(4, 10, 5)
    alpha = network.alphas["normal"].detach().clone()
    state = original_state()
    legacy.load_state(network, state)
    expected = state["cells.0._ops.3._ops.7.op.2.weight"].float()
    torch.testing.assert_close(network.cells[0].edges[3]["dil_conv_5x5"].point.weight.detach(), expected, rtol=0, atol=0)
    assert torch.equal(network.alphas["normal"], alpha)


def test_load_state_tolerates_a_missing_batch_count_only():
    network, state = SearchNetwork(4, 10, 5), original_state()
    legacy.load_state(network, {key: tensor for key, tensor in state.items() if not key.endswith("num_batches_tracked")})

    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    del state["classifier.bias"], state["cells.0._ops.3._ops.7.op.2.weight"], state["cells.1.preprocess0.op.1.weight"]
    state["cells.9.extra"] = torch.zeros(1)
    state["stem.0.weight"] = torch.zeros(3, 3, 3, 3)
    with pytest.raises(DartsError) as error:
        legacy.load_state(network, state)
    for said in (
        "missing: cells.0._ops.3._ops.7.op.2.weight, cells.1.preprocess0.op.1.weight, classifier.bias",
        "left over: cells.9.extra",
        "stem.0.weight (3, 3, 3, 3) instead of (12, 3, 3, 3)",
    ):
        assert said in str(error.value)
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())


def test_load_state_of_another_size_is_refused():
    with pytest.raises(DartsError, match="left over: cells.3"):
        legacy.load_state(SearchNetwork(4, 10, 3), original_state())
