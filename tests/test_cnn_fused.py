"""The fast nodes of the search network against the plain ones, eqs. 1 and 2 as written; and what they are made of."""

import copy
import statistics

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from darts_cli.cnn import ops
from darts_cli.cnn.fused import depthwise, folded, node, stacked
from darts_cli.cnn.model import SearchNetwork
from darts_cli.cnn.ops import MixedOp
from darts_cli.spaces.space import default

SEARCHED = default("cnn").operations


@pytest.fixture(params=["one by one", "together"])
def form(request, monkeypatch):
    """The node as it is computed on CPUs, and as on other devices."""
    monkeypatch.setattr(node, "large_kernels", lambda device: request.param == "together")


def pair(dtype=torch.float64, channels=2, layers=3, **more):
    """A plain and a fast network with the same weights and alphas."""
    torch.manual_seed(0)
    plain = SearchNetwork(channels, 10, layers, fused=False, alpha_scale=1.0).to(dtype)
    ours = SearchNetwork(channels, 10, layers, **more).to(dtype)
    ours.load_state_dict(plain.state_dict())
    return plain, ours


def gradients(network, x, y):
    """The loss, and its gradients by all weights and alphas, by name."""
    parameters = dict(network.named_parameters())
    loss = F.cross_entropy(network(x), y)
    return {"loss": loss.detach()} | dict(zip(parameters, torch.autograd.grad(loss, parameters.values()), strict=True))


@pytest.mark.parametrize(
    ("side", "training", "recompute"), [(8, True, False), (12, True, True), (8, False, False), (12, False, True)]
)
def test_values_and_all_gradients_in_float64(form, side, training, recompute):
    """12 pixels become 3, an odd number, where a dilated convolution is not taken apart into phases."""
    plain, ours = pair(recompute=recompute)
    x, y = torch.randn(4, 3, side, side, dtype=torch.float64), torch.randint(0, 10, (4,))
    for network in (plain, ours):
        network(x)  # so that the running statistics are not those of the start
        network.train(training)
    expected, found = gradients(plain, x, y), gradients(ours, x, y)
    for name, value in found.items():
        assert (value - expected[name]).abs().max() <= 1e-11 * (1 + expected[name].abs().max()), name
    for (name, buffer), other in zip(ours.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(buffer, other, rtol=1e-11, atol=1e-13, msg=name)


def assert_the_same_node(strides, active, batch, training):
    """Eqs. 1 and 2 as written against the fast node, with all gradients: of states, operation weights and weights."""
    edges = [MixedOp(SEARCHED, 2, each).double().train(training) for each in strides]
    sides = [8 if stride == 2 else 4 for stride in strides]
    states = [torch.randn(batch, 2, side, side, dtype=torch.float64, requires_grad=True) for side in sides]
    weights = torch.randn(len(strides), 8, dtype=torch.float64, requires_grad=True)
    inputs = [*states, weights, *(parameter for edge in edges for parameter in edge.parameters())]
    buffers = [buffer for edge in edges for buffer in edge.buffers()]
    before, results = [buffer.clone() for buffer in buffers], []
    for compute in (
        lambda: sum(edge(*each) for edge, *each in zip(edges, states, weights, active, strict=True)),
        lambda: node.mixed_node(list(map(node.State, states, strides)), edges, weights, active),
    ):
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)
        y = compute()
        direction = torch.linspace(-1, 1, batch * 32, dtype=torch.float64).view(batch, 2, 4, 4)
        loss = (y * direction).sum() + 0 * states[0].sum()  # where nothing is active, y depends on nothing
        found = torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True)
        results.append([y.detach(), *found, *(buffer.clone() for buffer in buffers)])
    for plain, fused in zip(*results, strict=True):
        torch.testing.assert_close(fused, plain, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("names", [*([name] for name in SEARCHED), SEARCHED, []], ids=lambda names: "+".join(names))
def test_a_node_is_the_sum_of_its_mixed_operations(form, stride, training, names):
    """Every operation alone, all of them, and none."""
    torch.manual_seed(0)
    assert_the_same_node([stride, stride, 1], [list(names)] * 3, 3, training)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from([1, 2]), min_size=1, max_size=4),
    st.lists(st.sets(st.sampled_from(SEARCHED)), min_size=4, max_size=4),
    st.integers(1, 5),
    st.booleans(),
    st.booleans(),
)
def test_a_node_of_any_operations(strides, active, batch, training, together):
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(node, "large_kernels", lambda device: together)
        assert_the_same_node(strides, active[: len(strides)], batch, training)


@pytest.mark.parametrize("op", [torch.nn.Conv2d(2, 2, 3, padding=1), ops.PoolBN(torch.nn.MaxPool2d(5, 1, 2), 2)])
def test_an_operation_that_is_not_known_is_computed_as_it_is(op):
    """Also another pooling beside those of the space."""
    torch.manual_seed(0)
    edge = MixedOp(SEARCHED, 2, 1).double()
    edge["sep_conv_3x3"] = op.double()
    x, weights = torch.randn(3, 2, 4, 4, dtype=torch.float64), torch.randn(1, 8, dtype=torch.float64)
    torch.testing.assert_close(node.mixed_node([node.State(x, 1)], [edge], weights, [None]), edge(x, weights[0]))


@pytest.mark.parametrize("fused", [True, False])
def test_only_active_operations_are_computed(form, fused):
    """The others add nothing, get no gradient, and their running statistics do not move."""
    torch.manual_seed(0)
    network, x = SearchNetwork(2, 10, 3, fused=fused).double(), torch.randn(3, 3, 8, 8, dtype=torch.float64)
    masks = {kind: torch.rand(14, 8) < 0.5 for kind in network.alphas}
    active = {kind: [[SEARCHED[k] for k in row.nonzero()[:, 0].tolist()] for row in mask] for kind, mask in masks.items()}
    dense = {kind: torch.rand(14, 8, dtype=torch.float64, requires_grad=True) for kind in masks}
    logits = network(x, dense, active)
    for kind, gradient in zip(masks, torch.autograd.grad(logits.square().sum(), list(dense.values())), strict=True):
        assert (gradient[~masks[kind]] == 0).all()
    torch.testing.assert_close(logits, network(x, {kind: dense[kind] * masks[kind] for kind in masks}))
    other = SearchNetwork(2, 10, 3, fused=fused).double()
    other(x, dense, active)
    for cell in other.cells:
        for edge, names in zip(cell.edges, active[cell.kind], strict=True):
            for name, op in edge.items():
                moved = any(buffer.any() for key, buffer in op.named_buffers() if key.endswith("num_batches_tracked"))
                assert moved == (name in names and any(True for _ in op.buffers())), name


def test_recomputing_changes_no_bit(form):
    """So that a run may go on with or without --recompute."""
    x, y = torch.randn(4, 3, 8, 8), torch.randint(0, 10, (4,))
    found = []
    for recompute in (True, False):
        _, ours = pair(torch.float32, channels=4, recompute=recompute)
        found.append(gradients(ours, x, y))
    assert all(torch.equal(found[0][name], value) for name, value in found[1].items())


def test_float32_is_as_exact_as_the_plain_networks(form):
    """The median relative error of the gradients, against float64, is at most four times that of the plain network's.

    The median, since a ReLU whose input is nearly 0 may choose another side in either.
    """
    plain, ours = pair(torch.float32, channels=8, layers=3)
    exact = copy.deepcopy(plain).double()
    x, y = torch.randn(8, 3, 16, 16), torch.randint(0, 10, (8,))
    expected = gradients(exact, x.double(), y)
    errors = {}
    for side, network in (("plain", plain), ("ours", ours)):
        found = gradients(network, x, y)
        errors[side] = [float((g - expected[name]).norm() / expected[name].norm()) for name, g in found.items()]
    assert errors["ours"][0] < 1e-6  # the loss
    assert statistics.median(errors["ours"]) < 4 * statistics.median(errors["plain"])


def test_a_mean_far_from_zero_costs_no_precision():
    """The covariance in float32 of numbers whose mean is up to 100 deviations away."""
    torch.manual_seed(0)
    d = torch.randn(50_000, 4) + torch.tensor([0.0, 3.0, 30.0, 100.0])
    whole = d.double()
    m, S, *_ = folded.centre([d])
    torch.testing.assert_close(m[0].double(), whole.mean(0), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(S[0].double(), whole.T.cov(correction=0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(d.double(), whole - whole.mean(0), rtol=1e-4, atol=1e-4)


def test_phases_and_back():
    x = torch.randn(2, 3, 4, 6).to(memory_format=torch.channels_last)
    phases = depthwise.to_phases(x)
    assert torch.equal(phases[:2], x[:, :, ::2, ::2])
    assert torch.equal(phases[-2:], x[:, :, 1::2, 1::2])
    assert torch.equal(depthwise.from_phases(depthwise.rows(phases), 2, 4, 6), x)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 4), (5, 2), (8, 8)])
def test_the_gradients_of_a_depthwise_convolution(kernel, dilation, height, width):
    x = torch.randn(2, 3, height, width, dtype=torch.float64, requires_grad=True)
    w = torch.randn(3, 1, kernel, kernel, dtype=torch.float64, requires_grad=True)
    y = depthwise.depthwise(x, w, dilation=dilation)
    g = torch.randn_like(y)
    expected = torch.autograd.grad(y, (x, w), g)
    found = depthwise.depthwise_backward(g, x.detach(), w.detach(), 1, dilation, needs=(True, True))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_the_weights_gradients_are_not_computed_where_nobody_reads_them(monkeypatch):
    """Of frozen weights no kernel gradient is asked for; those of alpha are the same."""
    _, ours = pair()
    x, y = torch.randn(4, 3, 8, 8, dtype=torch.float64), torch.randint(0, 10, (4,))
    alphas = list(ours.alphas.values())
    expected = torch.autograd.grad(F.cross_entropy(ours(x), y), alphas)
    for weight in ours.weights():
        weight.requires_grad_(False)
    asked = []
    backward = folded.depthwise_backward
    spy = lambda *args, needs: asked.append(needs[1]) or backward(*args, needs=needs)  # noqa: E731
    monkeypatch.setattr(folded, "depthwise_backward", spy)
    found = torch.autograd.grad(F.cross_entropy(ours(x), y), alphas)
    assert asked
    assert not any(asked)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("recompute", [False, True])
def test_two_ranks_with_equal_rows_compute_together_what_one_does(monkeypatch, recompute):
    """All means over both are those of one; but for the unbiased variance, whose divisor is N - 1."""
    monkeypatch.setattr(node, "large_kernels", lambda device: True)
    x, y, found = torch.randn(4, 3, 8, 8, dtype=torch.float64), torch.randint(0, 10, (4,)), []
    for ranks in (1, 2):
        _, ours = pair(recompute=recompute)
        monkeypatch.setattr(stacked.distributed, "ranks", lambda ranks=ranks: ranks)
        monkeypatch.setattr(stacked.distributed, "total", lambda tensor, ranks=ranks: tensor * ranks)
        monkeypatch.setattr(stacked.distributed, "gather", lambda tensor, dim, ranks=ranks: torch.cat([tensor] * ranks, dim))
        found.append(gradients(ours, x, y))
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize(("stride", "dilation"), [(2, 1), (1, 2)])
def test_bfloat16_gradients_of_strided_and_dilated_convolutions_are_those_of_float32_rounded(stride, dilation):
    torch.manual_seed(0)
    x, w = torch.randn(2, 3, 8, 8).bfloat16(), torch.randn(3, 1, 5, 5).bfloat16()
    g = torch.randn_like(depthwise.depthwise(x, w, stride, dilation))
    found = depthwise.depthwise_backward(g, x, w, stride, dilation, needs=(True, True))
    exactly = depthwise.depthwise_backward(g.float(), x.float(), w.float(), stride, dilation, needs=(True, True))
    assert all(torch.equal(one, other.bfloat16()) for one, other in zip(found, exactly, strict=True))


@pytest.mark.parametrize("rows", [0, 7, 64, 192])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_many_rows_are_subtracted_from_as_one(rows, dtype):
    d, m = torch.randn(rows, 3).to(dtype), torch.randn(3).to(dtype)
    assert torch.equal(folded.minus(d, m), d - m)
    expected = d - m
    assert torch.equal(folded.minus(d, m, d), expected)
    assert torch.equal(d, expected)
