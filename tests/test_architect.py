"""The bilevel optimiser against closed forms, a real optimiser step, and exact differentiation."""

from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from darts_cli.architect import Architect
from darts_cli.cnn import model as cnn
from darts_cli.rnn import model as rnn

D = torch.float64


class Fine(Architect):
    """With a perturbation short enough to compare eq. 8 with the derivative it approximates."""

    RADIUS = 1e-4


def sgd(weights, **options):
    return torch.optim.SGD(weights, **({"lr": 0.1} | options))


def frozen(alphas):
    """An optimiser of alpha that leaves it where it is."""
    return torch.optim.SGD(alphas, lr=0.0)


def quadratic():
    """L_train = |A w - B alpha|^2 / 2 and L_val = |w - c|^2 / 2 + d . alpha, for which eq. 7 is exact and in closed form."""
    g = torch.Generator().manual_seed(0)
    A, B, c, d = (torch.randn(shape, generator=g, dtype=D) for shape in ((5, 3), (5, 4), (3,), (4,)))
    w = torch.randn(3, generator=g, dtype=D).requires_grad_()
    alpha = torch.randn(4, generator=g, dtype=D).requires_grad_()
    losses = {
        "train": lambda: ((A @ w - B @ alpha) ** 2).sum() / 2,
        "valid": lambda: ((w - c) ** 2).sum() / 2 + d @ alpha,
    }
    return A, B, c, d, w, alpha, lambda batch: (losses[batch](), None)


@pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.0), (0.9, 0.01)])
def test_second_order_on_a_quadratic_is_the_formula(momentum, decay):
    A, B, c, d, w, alpha, loss = quadratic()
    optimizer = sgd([w], momentum=momentum, weight_decay=decay)
    for _ in range(2):
        optimizer.zero_grad()
        loss("train")[0].backward()
        optimizer.step()
    buffer = optimizer.state[w]["momentum_buffer"] if momentum else 0
    Architect(loss, [w], [alpha], optimizer, frozen([alpha]), unrolled=True).step("train", "valid")

    xi = 0.1
    w_new = w - xi * (A.T @ (A @ w - B @ alpha) + decay * w + momentum * buffer)
    expected = d - xi * (-B.T @ A) @ (w_new - c)  # d2 L_train / d alpha d w = -B^T A
    torch.testing.assert_close(alpha.grad, expected.detach(), rtol=1e-9, atol=1e-12)


def test_first_order_is_the_partial_derivative():
    *_, d, w, alpha, loss = quadratic()
    Architect(loss, [w], [alpha], sgd([w]), frozen([alpha]), unrolled=False).step("train", "valid")
    torch.testing.assert_close(alpha.grad, d, rtol=0, atol=0)


class Observed(Exception):
    pass


@pytest.mark.parametrize("steps_before", [0, 3])
def test_virtual_step_is_the_next_step_of_the_optimiser(steps_before):
    """At the validation pass the weights are where a real torch.optim.SGD step would have put them."""
    *_, w, alpha, loss = quadratic()
    optimizer = sgd([w], lr=0.05, momentum=0.9, weight_decay=0.03)
    for _ in range(steps_before):
        optimizer.zero_grad()
        loss("train")[0].backward()
        optimizer.step()
    seen = {}

    def watched(batch):
        seen.setdefault(batch, []).append(w.detach().clone())
        return loss(batch)

    start = w.detach().clone()
    Architect(watched, [w], [alpha], optimizer, frozen([alpha]), unrolled=True).step("train", "valid")
    assert torch.equal(w, start)

    optimizer.zero_grad()
    loss("train")[0].backward()
    optimizer.step()
    torch.testing.assert_close(seen["valid"][0], w.detach(), rtol=1e-14, atol=1e-15)
    assert len(seen["train"]) == 3  # at w, w + eps v and w - eps v
    torch.testing.assert_close(seen["train"][1] + seen["train"][2], 2 * start, rtol=1e-14, atol=1e-15)


def test_groups_keep_their_own_weight_decay():
    *_, w, alpha, _ = quadratic()
    other = torch.ones(2, dtype=D, requires_grad=True)
    seen = []

    def loss(batch):
        seen.append(other.detach().clone())
        return (w.sum() + other.sum()) * alpha.sum() * 0 + (w**2).sum() + alpha.sum(), None

    optimizer = torch.optim.SGD([{"params": [w], "weight_decay": 0.0}, {"params": [other], "weight_decay": 0.5}], lr=0.1)
    Architect(loss, [w, other], [alpha], optimizer, frozen([alpha]), unrolled=True).step("t", "v")
    torch.testing.assert_close(seen[1], torch.full((2,), 1 - 0.1 * 0.5, dtype=D))


def network(alpha, w1, w2, x):
    return torch.tanh(x @ w1 * alpha.softmax(0)[0] + torch.sin(x @ w1) * alpha.softmax(0)[1]) @ w2


def smooth(seed=1):
    g = torch.Generator().manual_seed(seed)
    w1, w2 = (torch.randn(shape, generator=g, dtype=D).requires_grad_() for shape in ((3, 4), (4, 2)))
    alpha = torch.tensor([0.3, -0.2], dtype=D).requires_grad_()
    batches = {
        name: (torch.randn(16, 3, generator=g, dtype=D), torch.randn(16, 2, generator=g, dtype=D))
        for name in ("train", "valid")
    }

    def loss(name, alpha=alpha, w1=w1, w2=w2):
        x, y = batches[name]
        return ((network(alpha, w1, w2, x) - y) ** 2).mean(), None

    return loss, [w1, w2], alpha


def exact_hypergradient(loss, weights, alpha, xi, decay, clip=None):
    """grad_alpha L_val(w - xi (c grad_w L_train(w, alpha) + decay w), alpha) by double backward, the factor c held constant."""
    gradients = torch.autograd.grad(loss("train", alpha, *weights)[0], weights, create_graph=True)
    norm = torch.cat([g.flatten() for g in gradients]).norm().item()
    factor = 1.0 if clip is None else min(1.0, clip / (norm + 1e-6))
    moved = [w - xi * (factor * g + decay * w) for w, g in zip(weights, gradients, strict=True)]
    return torch.autograd.grad(loss("valid", alpha, *moved)[0], alpha)[0]


def relative(a, b):
    return ((a - b).norm() / b.norm()).item()


def test_second_order_against_double_backward():
    loss, weights, alpha = smooth()
    optimizer = sgd(weights, lr=0.5, weight_decay=0.01)
    exact = exact_hypergradient(loss, weights, alpha, 0.5, 0.01)
    first = torch.autograd.grad(loss("valid")[0], alpha)[0]
    assert relative(first, exact) > 0.05  # the second-order term matters here
    Fine(loss, weights, [alpha], optimizer, frozen([alpha]), unrolled=True).step("train", "valid")
    assert relative(alpha.grad, exact) < 1e-5


def test_clip_scales_both_gradients_and_the_implicit_term():
    """The virtual step takes the clipped gradient; the implicit term carries that factor and the one that shortens v."""
    loss, weights, alpha = smooth()
    gradients = torch.autograd.grad(loss("train")[0], weights)
    clip = 0.5 * torch.cat([g.flatten() for g in gradients]).norm().item()
    optimizer = sgd(weights, lr=0.5, weight_decay=0.01)
    exact = exact_hypergradient(loss, weights, alpha, 0.5, 0.01, clip)

    seen = []

    def watched(batch):
        value, _ = loss(batch)
        if batch == "valid":
            seen.extend(torch.autograd.grad(value, [alpha, *weights], retain_graph=True))
        return value, None

    Fine(watched, weights, [alpha], optimizer, frozen([alpha]), unrolled=True, clip=clip).step("train", "valid")
    norm = torch.cat([v.flatten() for v in seen[1:]]).norm().item()
    factor = min(1.0, clip / (norm + 1e-6))
    expected = seen[0] + factor * (exact - seen[0])
    assert factor < 1
    assert relative(alpha.grad, expected) < 1e-6


def test_no_direction_gives_no_second_term():
    """v = 0, where eps = 0.01 / ||v|| has no value: the hypergradient is then the first-order one, not NaN."""
    *_, w, alpha, loss = quadratic()
    only_alpha = {"train": lambda: loss("train")[0], "valid": lambda: (alpha**2).sum()}
    architect = Architect(lambda b: (only_alpha[b](), None), [w], [alpha], sgd([w]), frozen([alpha]), unrolled=True)
    architect.step("train", "valid")
    torch.testing.assert_close(alpha.grad, 2 * alpha.detach())


@pytest.mark.parametrize("unrolled", [False, True])
def test_weights_buffers_and_gradients_are_left_alone(unrolled):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))
    alpha = torch.nn.Parameter(torch.randn(1))
    optimizer = sgd(model.parameters(), momentum=0.9)
    before = {key: value.clone() for key, value in model.state_dict().items()}

    def loss(x):
        out = model(x) * alpha
        return (out**2).mean(), {"out": out, "pair": (out.sum(), "text")}

    alpha_optimizer = torch.optim.Adam([alpha], lr=0.1)
    architect = Architect(
        loss, model.parameters(), {"a": alpha}, optimizer, alpha_optimizer, unrolled=unrolled, buffers=model.buffers()
    )
    start = alpha.detach().clone()
    carry = architect.step(torch.randn(8, 3), torch.randn(8, 3))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())
    assert not carry["out"].requires_grad
    assert not carry["pair"][0].requires_grad
    assert carry["pair"][1] == "text"
    torch.testing.assert_close((start - alpha).abs(), torch.tensor([0.1]), rtol=1e-4, atol=0)  # one step of Adam


class Carry(NamedTuple):
    hidden: torch.Tensor
    length: int


@pytest.mark.parametrize("unrolled", [False, True])
def test_a_carry_of_any_form_comes_back_detached(unrolled):
    *_, w, alpha, loss = quadratic()

    def carrying(batch):
        value, _ = loss(batch)
        return value, [Carry(value * 2, 7), (value, None)]

    (named, pair) = Architect(carrying, [w], [alpha], sgd([w]), frozen([alpha]), unrolled=unrolled).step("train", "valid")
    assert isinstance(named, Carry)
    assert (named.hidden.requires_grad, named.length) == (False, 7)
    assert pair == (named.hidden / 2, None)


@pytest.mark.parametrize("unrolled", [False, True])
def test_the_hypergradient_is_the_same_where_no_gradient_is_wanted(unrolled):
    found = []
    for wanted in (True, False):
        *_, w, alpha, loss = quadratic()
        with torch.set_grad_enabled(wanted):
            Architect(loss, [w], [alpha], sgd([w]), frozen([alpha]), unrolled=unrolled).step("train", "valid")
        found.append(alpha.grad)
    assert torch.equal(*found)
    assert found[0].abs().max() > 0


def test_frozen_weights_stay_frozen_and_take_no_virtual_step():
    *_, w, alpha, loss = quadratic()
    w.requires_grad_(False)
    Architect(loss, [w], [alpha], sgd([w]), frozen([alpha]), unrolled=False).step("train", "valid")
    assert not w.requires_grad
    with pytest.raises(ValueError, match="none may be frozen"):
        Architect(loss, [w], [alpha], sgd([w]), frozen([alpha]), unrolled=True)


class NoRead(TorchDispatchMode):
    """Fails when a number leaves a tensor, for which a GPU would have to be waited for."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not torch.ops.aten._local_scalar_dense.default, "a tensor was read by the host"
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("unrolled", [False, True])
def test_no_number_is_read_by_the_host(unrolled):
    loss, weights, alpha = smooth()
    architect = Architect(loss, weights, [alpha], sgd(weights, momentum=0.9), frozen([alpha]), unrolled=unrolled, clip=0.25)
    with NoRead():
        architect.step("train", "valid")
    with pytest.raises(AssertionError), NoRead():
        alpha.sum().item()


def test_weights_come_back_when_the_loss_fails():
    *_, w, alpha, loss = quadratic()
    before = w.detach().clone()

    def failing(batch):
        if batch == "valid":
            raise Observed
        return loss(batch)

    with pytest.raises(Observed):
        Architect(failing, [w], [alpha], sgd([w]), frozen([alpha]), unrolled=True).step("train", "valid")
    assert torch.equal(w, before)


def test_only_an_optimiser_it_can_mirror():
    w, alpha, other = (torch.ones(2, requires_grad=True) for _ in range(3))

    def build(optimizer):
        Architect(lambda b: (w.sum(), None), [w], [alpha], optimizer, frozen([alpha]), unrolled=True)

    with pytest.raises(ValueError, match="all of them and no others"):
        build(sgd([other]))
    with pytest.raises(ValueError, match="not Adam"):
        build(torch.optim.Adam([w]))
    with pytest.raises(ValueError, match="without nesterov"):
        build(sgd([w], momentum=0.9, nesterov=True))
    with pytest.raises(ValueError, match="without dampening"):
        build(sgd([w], momentum=0.9, dampening=0.1))
    with pytest.raises(ValueError, match="one learning rate"):
        Architect(
            lambda b: (w.sum(), None),
            [w, other],
            [alpha],
            torch.optim.SGD([{"params": [w]}, {"params": [other], "lr": 0.2}], lr=0.1),
            frozen([alpha]),
            unrolled=True,
        )


@pytest.mark.parametrize(("unrolled", "read"), [(False, [False]), (True, [True, True, False, False])])
def test_passes_whose_weight_gradients_nobody_reads_compute_none(unrolled, read):
    """First order, and both perturbed passes of the second: the weights are constants there, and no longer afterwards."""
    w, alpha = torch.ones(2, dtype=torch.float64, requires_grad=True), torch.ones(2, dtype=torch.float64, requires_grad=True)
    seen = []

    def loss(batch):
        seen.append(w.requires_grad)
        return (batch * (w * alpha).square()).sum(), None

    optimizers = torch.optim.SGD([w], 0.1), torch.optim.Adam([alpha], 0.1)
    architect = Architect(loss, [w], [alpha], *optimizers, unrolled=unrolled)
    architect.step(torch.tensor(1.0), torch.tensor(2.0))
    assert seen == read
    assert w.requires_grad


def test_a_loss_that_depends_on_no_alpha():
    w, alpha = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    optimizers = torch.optim.SGD([w], 0.1), torch.optim.SGD([alpha], 0.1)
    Architect(lambda batch: (w.sum(), None), [w], [alpha], *optimizers, unrolled=False).step(None, None)
    assert torch.equal(alpha.grad, torch.zeros(2))


@pytest.mark.parametrize("unrolled", [False, True])
def test_the_gradients_of_every_pass_are_averaged(unrolled):
    """The mean of two processes that see half of the loss each, scaled twice: the step of one that sees it all."""
    *_, w, alpha, loss = quadratic()
    sizes = []

    def doubled(gradients):
        sizes.append([tuple(each.shape) for each in gradients])
        return [2 * each for each in gradients]

    def half(batch):
        return loss(batch)[0] / 2, None

    found = []
    for function, more in ((loss, {}), (half, {"average": doubled})):
        Architect(function, [w], [alpha], sgd([w]), frozen([alpha]), unrolled=unrolled, **more).step("train", "valid")
        found.append(alpha.grad)
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-12)
    assert sizes == ([[(3,)], [(4,), (3,)], [(4,)], [(4,)]] if unrolled else [[(4,)]])


@pytest.mark.parametrize("unrolled", [False, True])
def test_fused_optimisers_take_the_same_steps(unrolled):
    """What is used on CUDA, here on the CPU: weights in channels-last, momentum, both orders; equal but for rounding."""
    from darts_cli.cnn.model import SearchNetwork

    found = []
    for fused in (False, True):
        torch.manual_seed(0)
        network = SearchNetwork(2, 10, 3).double()
        weights, alphas = network.weights(), list(network.alphas.values())
        w_optimizer = torch.optim.SGD(weights, 0.025, 0.9, weight_decay=3e-4, fused=fused)
        alpha_optimizer = torch.optim.Adam(alphas, 3e-4, (0.5, 0.999), weight_decay=1e-3, fused=fused)

        def loss(batch, network=network):
            return torch.nn.functional.cross_entropy(network(batch[0]), batch[1]), None

        architect = Architect(loss, weights, alphas, w_optimizer, alpha_optimizer, unrolled=unrolled, buffers=network.buffers())
        g = torch.Generator().manual_seed(1)
        for _ in range(3):
            batch = torch.randn(4, 3, 8, 8, generator=g, dtype=torch.float64), torch.randint(0, 10, (4,), generator=g)
            architect.step(batch, batch)
            w_optimizer.zero_grad()
            loss(batch)[0].backward()
            w_optimizer.step()
        found.append([tensor.detach() for tensor in (*weights, *alphas)])
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-12)


# ---- exactly


@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_exact_second_order_is_double_backward_through_a_step(momentum, clip):
    """Clipping scales both gradients by constants; see `test_clip_scales_both_gradients_and_the_implicit_term`."""
    loss, weights, alpha = smooth()
    optimizer = sgd(weights, lr=0.5, momentum=momentum, weight_decay=0.01)
    if momentum:
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(5), dtype=D)
        optimizer.step()
    gradients = torch.autograd.grad(loss("train")[0], weights, create_graph=True)
    buffers = [optimizer.state[weight].get("momentum_buffer", torch.zeros(())) for weight in weights]
    factor = 1.0 if clip is None else min(1.0, clip / (torch.cat([g.flatten() for g in gradients]).norm().item() + 1e-6))
    moved = [w - 0.5 * (factor * g + 0.01 * w + momentum * b) for w, g, b in zip(weights, gradients, buffers, strict=True)]
    there = [w.detach().requires_grad_() for w in moved]
    direct, *v = torch.autograd.grad(loss("valid", alpha, *there)[0], [alpha, *there])
    whole = torch.autograd.grad(loss("valid", alpha, *moved)[0], alpha)[0]
    shortened = 1.0 if clip is None else min(1.0, clip / (torch.cat([u.flatten() for u in v]).norm().item() + 1e-6))
    expected = direct + shortened * (whole - direct)
    assert (factor < 1) == (shortened < 1) == (clip is not None)
    before = [weight.detach().clone() for weight in weights]
    Architect(loss, weights, [alpha], optimizer, frozen([alpha]), unrolled=True, exact=True, clip=clip).step("train", "valid")
    torch.testing.assert_close(alpha.grad, expected, rtol=1e-12, atol=1e-14)
    assert all(torch.equal(weight, old) for weight, old in zip(weights, before, strict=True))


def image_loss():
    """Of a small plain network of images, in training mode."""
    network = cnn.SearchNetwork(4, 3, 3, fused=False, alpha_scale=1.0).double()
    batches = {name: (torch.randn(4, 3, 8, 8, dtype=D), torch.randint(3, (4,))) for name in ("train", "valid")}

    def loss(batch):
        x, y = batches[batch]
        return F.cross_entropy(network(x), y), None

    return network, loss


def text_loss():
    """Of a small plain network of text, with the masks of a step."""
    network = rnn.SearchNetwork(20, 4, alpha_scale=1.0, fused=False).double()
    masks = network.masks(3)
    batches = {name: torch.randint(20, (2, 5, 3)) for name in ("train", "valid")}

    def loss(batch):
        return network.loss(*batches[batch], network.initial(3), masks=masks)[0], None

    return network, loss


@pytest.mark.parametrize("make", [image_loss, text_loss])
def test_exact_second_order_of_the_search_networks(make):
    """Against exact differentiation through the step."""
    torch.manual_seed(3)
    network, loss = make()
    alphas, weights = list(network.alphas.values()), network.weights()
    names = [name for name, _ in network.named_parameters() if not name.startswith("alphas.")]
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    optimizer = sgd(weights, lr=0.5, weight_decay=0.01)

    gradients = torch.autograd.grad(loss("train")[0], weights, create_graph=True, materialize_grads=True, allow_unused=True)
    moved = [w - 0.5 * (g + 0.01 * w) for w, g in zip(weights, gradients, strict=True)]
    with torch.nn.utils.stateless._reparametrize_module(network, dict(zip(names, moved, strict=True)), tie_weights=True):
        expected = torch.autograd.grad(loss("valid")[0], alphas)
    network.load_state_dict(buffers, strict=False)

    architect = Architect(loss, weights, alphas, optimizer, unrolled=True, exact=True, buffers=network.buffers())
    architect.hypergradient("train", "valid")
    for alpha, gradient in zip(alphas, expected, strict=True):
        torch.testing.assert_close(alpha.grad, gradient, rtol=1e-9, atol=1e-12)
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in network.named_buffers())
