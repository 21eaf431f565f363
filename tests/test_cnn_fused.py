"""The mixed operations computed together, against the plain network of the benchmarks, which computes one after another."""

import copy
import statistics

import pytest
import torch
import torch.nn.functional as F

from benchmarks.plain.cnn import SearchNetwork as Plain
from darts_cli.cnn.fused import depthwise, folded, node
from darts_cli.cnn.model import MixedOp, SearchNetwork
from darts_cli.legacy import load_state, original_key


def pair(dtype=torch.float64, channels=2, layers=3, **more):
    """The plain network and ours with its weights and alphas."""
    torch.manual_seed(0)
    plain, ours = Plain(channels, 10, layers).to(dtype), SearchNetwork(channels, 10, layers, **more).to(dtype)
    load_state(ours, plain.state_dict())
    with torch.no_grad():
        for alpha, source in zip(ours.alphas.values(), plain.alphas, strict=True):
            source.normal_()
            alpha.copy_(source)
    plain.alphas = [alpha.detach().to(dtype).requires_grad_() for alpha in plain.alphas]
    return plain, ours


def gradients(network, x, y, alphas):
    """The loss, and its gradients by weights and alphas, by name."""
    weights = {name: weight for name, weight in network.named_parameters() if not name.startswith("alphas.")}
    loss = F.cross_entropy(network(x), y)
    found = torch.autograd.grad(loss, [*weights.values(), *alphas])
    return {"loss": loss.detach()} | dict(zip([*weights, "normal", "reduce"], found, strict=True))


@pytest.mark.parametrize(
    ("side", "training", "recompute"), [(8, True, False), (12, True, True), (8, False, False), (12, False, True)]
)
def test_values_and_all_gradients_in_float64(side, training, recompute):
    """12 pixels become 3, an odd number, where a dilated convolution is not taken apart into phases."""
    plain, ours = pair(recompute=recompute)
    x, y = torch.randn(4, 3, side, side, dtype=torch.float64), torch.randint(0, 10, (4,))
    if not training:
        for network in (plain, ours):
            network(x)  # so that the running statistics are not those of the start
    plain.train(training)
    ours.train(training)
    expected, found = gradients(plain, x, y, plain.alphas), gradients(ours, x, y, list(ours.alphas.values()))
    assert len(found) == len(expected)
    for name, value in found.items():
        other = expected[name if name in expected else original_key(ours, name)]
        assert (value - other).abs().max() <= 1e-11 * (1 + other.abs().max()), name
    theirs = dict(plain.named_buffers())
    for name, buffer in ours.named_buffers():
        torch.testing.assert_close(buffer, theirs[original_key(ours, name)], rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_node_is_the_sum_of_its_mixed_operations(stride, training):
    """Eqs. 1 and 2 as written, with all gradients: of states, operation weights and weights."""
    torch.manual_seed(0)
    strides = [stride, stride, 1]
    edges = [MixedOp(2, each).double().train(training) for each in strides]
    states = [torch.randn(3, 2, side, side, dtype=torch.float64, requires_grad=True) for side in (8, 8, 8 // stride)]
    weights = torch.randn(3, 8, dtype=torch.float64, requires_grad=True)
    inputs = [*states, weights, *(parameter for edge in edges for parameter in edge.parameters())]
    buffers = [buffer for edge in edges for buffer in edge.buffers()]
    before, results = [buffer.clone() for buffer in buffers], []
    for compute in (
        lambda: sum(edge(state, row) for edge, state, row in zip(edges, states, weights, strict=True)),
        lambda: node.mixed_node(list(map(node.Source, states, strides, [training] * 3)), edges, weights),
    ):
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)
        y = compute()
        direction = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
        gradients = torch.autograd.grad((y * direction).sum(), inputs, allow_unused=True, materialize_grads=True)
        results.append([y.detach(), *gradients, *(buffer.clone() for buffer in buffers)])
    for plain, fused in zip(*results, strict=True):
        torch.testing.assert_close(fused, plain, rtol=1e-10, atol=1e-12)


def test_recomputing_changes_no_bit():
    """So that a run may go on with or without --recompute."""
    x, y = torch.randn(4, 3, 8, 8), torch.randint(0, 10, (4,))
    found = []
    for recompute in (True, False):
        _, ours = pair(torch.float32, channels=4, recompute=recompute)
        found.append(gradients(ours, x, y, list(ours.alphas.values())))
    assert all(torch.equal(found[0][name], value) for name, value in found[1].items())


def test_float32_is_as_exact_as_the_plain_networks():
    """The median relative error of the gradients, against float64, is at most four times that of the plain network's.

    The median, since a ReLU whose input is nearly 0 may choose another side in either.
    """
    plain, ours = pair(torch.float32, channels=8, layers=3)
    exact = copy.deepcopy(plain).double()
    exact.alphas = [alpha.detach().double().requires_grad_() for alpha in plain.alphas]
    x, y = torch.randn(8, 3, 16, 16), torch.randint(0, 10, (8,))
    expected = gradients(exact, x.double(), y, exact.alphas)
    errors = {}
    for side, network, alphas in (("plain", plain, plain.alphas), ("ours", ours, list(ours.alphas.values()))):
        found = gradients(network, x, y, alphas)
        others = [expected[name if name in expected else original_key(ours, name)] for name in found]
        errors[side] = [float((g - e).norm() / e.norm()) for g, e in zip(found.values(), others, strict=True)]
    assert errors["ours"][0] < 1e-6  # the loss
    assert statistics.median(errors["ours"]) < 4 * statistics.median(errors["plain"])


def test_a_mean_far_from_zero_costs_no_precision():
    """The covariance in float32 of numbers whose mean is up to 100 deviations away."""
    torch.manual_seed(0)
    d = torch.randn(50_000, 4) + torch.tensor([0.0, 3.0, 30.0, 100.0])
    whole = d.double()
    m, S, _ = folded.centred([d])
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
    backward = node.depthwise_backward
    monkeypatch.setattr(node, "depthwise_backward", lambda *args, needs: asked.append(needs[1]) or backward(*args, needs=needs))
    found = torch.autograd.grad(F.cross_entropy(ours(x), y), alphas)
    assert asked
    assert not any(asked)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)
