"""The recurrent networks and the bilevel steps: the original's numbers to 1e-9 in float64, dropout, and the chunked loss."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from darts_cli import DartsError, legacy
from darts_cli.architect import Architect
from darts_cli.genotype import Cell, Edge, Genotype, load
from darts_cli.methods.relaxation import Relaxation
from darts_cli.methods.value import Step
from darts_cli.rnn import model
from darts_cli.rnn.fused import mixture, next_words
from darts_cli.rnn.fused.mixture import Mixture
from darts_cli.rnn.model import Network, SearchNetwork
from darts_cli.rnn.sizes import parameters
from darts_cli.runtime import device
from darts_cli.spaces.space import default

DATA = Path(__file__).with_name("data")
NETWORKS = torch.load(DATA / "rnn_networks.pt", weights_only=True)
SEARCH = torch.load(DATA / "rnn_supernet_a.pt", weights_only=True)
TIGHT = {"rtol": 1e-9, "atol": 1e-12}
NONE = {"dropout": 0.0, "dropouth": 0.0, "dropoutx": 0.0, "dropouti": 0.0, "dropoute": 0.0}


def probe(tensor):
    return torch.arange(tensor.numel(), dtype=torch.float64).cos() @ tensor.flatten()


def assert_gradients(network, gradients, expected):
    named = {legacy.original_key(network, name): g for (name, _), g in zip(network.named_parameters(), gradients, strict=True)}
    for key, (norm, product) in expected.items():
        assert named[key].norm().item() == pytest.approx(norm, rel=1e-9), key
        assert probe(named[key]).item() == pytest.approx(product, rel=1e-9, abs=1e-9 * norm), key


def network_of(name):
    reference = NETWORKS[name]
    network = Network(load(name, "rnn"), reference["vocab"], reference["dim"], **NONE).double()
    state = reference["state_dict"]
    legacy.load_state(network, state | {"decoder.weight": state["encoder.weight"]})
    return network, reference


@pytest.mark.parametrize("name", NETWORKS)
def test_log_probabilities_loss_and_all_gradients(name):
    network, reference = network_of(name)
    log_probs, hidden = network.eval()(reference["x"], reference["hidden"])
    torch.testing.assert_close(log_probs, reference["eval_log_prob"], **TIGHT)
    torch.testing.assert_close(hidden, reference["eval_hidden"], **TIGHT)
    loss, nll, _ = network.train().loss(reference["x"], reference["y"], reference["hidden"], ar=2.0, tar=1e-3)
    torch.testing.assert_close(nll, reference["train_raw_loss"], **TIGHT)
    torch.testing.assert_close(loss, reference["train_loss_alpha2_beta1e3"], **TIGHT)
    assert_gradients(network, torch.autograd.grad(loss, list(network.parameters())), reference["grads"])


def search_network():
    network = SearchNetwork(SEARCH["vocab"], SEARCH["dim"], **NONE).double()
    legacy.load_state(network, SEARCH["state_dict"])
    with torch.no_grad():
        network.alphas["recurrent"].copy_(SEARCH["alphas"])
    return network


def test_the_search_networks_loss_gradients_and_genotype():
    network = search_network()
    loss, _, _ = network.loss(SEARCH["x"][0], SEARCH["y"][0], network.initial(3))
    torch.testing.assert_close(loss, SEARCH["loss"], **TIGHT)
    alpha = network.alphas["recurrent"]
    *gradients, d_alpha = torch.autograd.grad(loss, [*network.weights(), alpha])
    torch.testing.assert_close(d_alpha, SEARCH["alpha_grads"], **TIGHT)
    assert_gradients(network, [*gradients, d_alpha], SEARCH["weight_grads"])
    (cell,) = network.genotype().cells.values()
    assert [list(edge) for (edge,) in cell.nodes] == SEARCH["genotype"]["recurrent"]
    assert list(cell.concat) == SEARCH["genotype"]["concat"]


@pytest.mark.parametrize("leaves", [False, True])
@pytest.mark.parametrize("order", ["first", "second"])
def test_four_bilevel_steps_with_carried_hidden_states(order, leaves):
    """With the hypergradient by alpha, and by operation weights with one chain rule."""
    network = search_network()
    weights = network.weights()
    w_optimizer = torch.optim.SGD(weights, SEARCH["lr"], weight_decay=SEARCH["weight_decay"])
    alpha_optimizer = torch.optim.Adam(network.alphas.values(), SEARCH["alpha_lr"], weight_decay=SEARCH["alpha_weight_decay"])

    relaxation = Relaxation(network, alpha_optimizer)
    mixture = relaxation.weights if leaves else None

    def loss(batch):
        _, nll, hidden = network.loss(*batch, mixture=mixture)
        return nll, hidden

    architect = Architect(
        loss,
        weights,
        mixture if leaves else network.alphas,
        w_optimizer,
        alpha_optimizer,
        unrolled=order == "second",
        clip=SEARCH["clip"],
        buffers=network.buffers(),
    )
    hidden, valid_hidden = network.initial(3), network.initial(3)
    batches = list(zip(SEARCH["x"], SEARCH["y"], strict=True))
    alpha = network.alphas["recurrent"]
    for step, expected in enumerate(SEARCH["trajectories"][order]):
        train, valid = batches[2 * step : 2 * step + 2]
        passes = (*train, hidden), (*valid, valid_hidden)
        if leaves:
            tables = relaxation.draw(Step(0, 1, 0, step))
            valid_hidden = architect.hypergradient(*passes)
            relaxation.step(tables, Step(0, 1, 0, step))
            relaxation.draw(Step(0, 1, 0, step))
        else:
            valid_hidden = architect.step(*passes)
        torch.testing.assert_close(alpha.grad, expected["alpha_grads"], **TIGHT)
        torch.testing.assert_close(alpha.detach(), expected["alphas"], **TIGHT)
        w_optimizer.zero_grad()
        train_loss, nll, hidden = network.loss(*train, hidden, tar=SEARCH["beta"])
        train_loss.backward(inputs=weights)
        hidden = hidden.detach()
        torch.nn.utils.clip_grad_norm_(weights, SEARCH["clip"])
        w_optimizer.step()
        assert min(abs(each.item() - expected["train_loss"]) for each in (train_loss, nll)) < 1e-9
    norms = {legacy.original_key(network, name): w.norm() for name, w in network.named_parameters()}
    for key, norm in SEARCH["final_weight_norms"][order].items():
        if key in norms:
            torch.testing.assert_close(norms[key].detach(), torch.as_tensor(norm, dtype=torch.float64), **TIGHT)


def test_the_published_sizes():
    assert parameters(Network(load("rnn/darts_v2"), 10_000)) == 22_960_000
    assert parameters(Network(load("rnn/darts_v2"), 33_278, 700)) == 33_127_878
    search = SearchNetwork(10_000)
    assert parameters(search) == sum(weight.numel() for weight in search.weights()) == 4_810_000
    assert search.alphas["recurrent"].shape == (36, 5)


def test_encoder_and_decoder_are_tied():
    network = Network(load("rnn/enas"), 11, 6)
    assert network.decoder.weight is network.encoder.weight
    state = network.state_dict()
    state["encoder.weight"] = state["encoder.weight"] + 1
    state["decoder.weight"] = state["encoder.weight"]
    legacy.load_state(network, {legacy.original_key(network, key): tensor for key, tensor in state.items()})
    assert network.decoder.weight is network.encoder.weight


def test_a_convolutional_genotype_is_refused():
    with pytest.raises(DartsError, match="domain rnn, not cnn"):
        Network(load("nasnet"), 11, 6)


# ---- the search cell, plainly


@pytest.fixture(params=[False, True], ids=["node by node", "large kernels"])
def kernels(request, monkeypatch):
    """Both forms of the fast search cell."""
    monkeypatch.setattr(mixture, "large_kernels", lambda device: request.param)


def test_the_gradient_of_the_fast_search_cell(kernels):
    torch.manual_seed(0)
    shapes = [(3, 5, 8), (5, 4), (5, 4), (7, 4), (4, 8), (4, 8), (4, 8), (4, 8)]  # T = 3, B = 5, D = 4, and three nodes
    x_gates, s, m, p, *Ws = (torch.randn(*shape).double().requires_grad_(i != 2) for i, shape in enumerate(shapes))
    norm = model.SearchCell(default("rnn"), 4).bn.double()
    assert torch.autograd.gradcheck(Mixture.apply, (norm, x_gates, s, m, p, *Ws))


@pytest.mark.parametrize("of", ["weights", "alphas", "both"])
def test_the_fast_search_cell_over_time_is_the_plain_one(of, kernels):
    """Outputs, gradients and running statistics; with weights or operation weights as constants, too."""
    torch.manual_seed(0)
    plain = model.SearchCell(default("rnn"), 4, fused=False).double()
    fast = model.SearchCell(default("rnn"), 4).double()
    fast.load_state_dict(plain.state_dict())
    x, s, weights = torch.randn(5, 6, 4).double(), torch.randn(6, 4).double(), torch.randn(36, 5).double().softmax(-1)
    masks, direction, found = SearchNetwork(3, 4).double().masks(6), torch.randn(5, 6, 4).double(), []
    weights.requires_grad_(of != "weights")
    for cell in (plain, fast):
        cell.requires_grad_(of != "alphas")
        out = cell(x, s, weights, masks, auxiliary=0.3)
        tensors = [t for t in (weights, *cell.parameters()) if t.requires_grad]
        found.append((out, torch.autograd.grad((out * direction).sum(), tensors), cell.state_dict()))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("fused", [True, False])
def test_the_search_cell_is_the_sum_over_states_and_operations(fused):
    """Every edge and operation by itself, as the reference page writes them; values and gradients."""
    torch.manual_seed(0)
    cell = model.SearchCell(default("rnn"), 4, fused).double()
    x, s = torch.randn(6, 4).double(), torch.randn(6, 4).double()
    masks = SearchNetwork(3, 4).double().masks(6)
    weights = torch.randn(36, 5).double().softmax(-1).requires_grad_()
    (got,) = cell(x[None], s, weights, masks)

    def normalised(state):
        return (state - state.mean(0)) / (state.var(0, correction=0) + cell.bn.eps).sqrt()

    c, h = (torch.cat([x * masks.x, s * masks.h], 1) @ cell.W0).chunk(2, 1)
    states = [normalised(s + c.sigmoid() * (h.tanh() - s))]
    row = 0
    functions = [torch.tanh, torch.relu, torch.sigmoid, lambda h: h]
    for W in cell.Ws:
        node = 0
        for state in states:
            c, h = ((state * masks.h) @ W).chunk(2, 1)
            for weight, f in zip(weights[row][1:], functions, strict=True):
                node = node + weight * (state + c.sigmoid() * (f(h) - state))
            row += 1
        states.append(normalised(node))
    expected = torch.stack(states[1:]).mean(0)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)
    tensors, direction = [weights, *cell.parameters()], torch.randn_like(got)
    ours, theirs = (torch.autograd.grad((out * direction).sum(), tensors) for out in (got, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-11)


FIRST = {"tanh": torch.tanh, "relu": F.relu, "sigmoid": torch.sigmoid, "identity": lambda h: h}


@pytest.mark.parametrize("name", FIRST)
def test_the_first_activation(name):
    """Where the other weights are zero, each node of a chain of identities is half of the state before."""
    torch.manual_seed(0)
    chain = Genotype("rnn", {"recurrent": Cell(tuple((Edge("identity", i),) for i in range(2)), (1, 2))})
    network = Network(chain, 5, 3, init_op=name).double().eval()
    with torch.no_grad():
        network.cell.W0.mul_(50)
        for W in network.cell.Ws:
            W.zero_()
    x, s = torch.randn(2, 3).double(), torch.randn(2, 3).double()
    c, h = (torch.cat([x, s], 1) @ network.cell.W0).chunk(2, 1)
    first = s + c.sigmoid() * (FIRST[name](h) - s)
    torch.testing.assert_close(network.cell(x[None], s, None)[0], (first / 2 + first / 4) / 2)


def test_perplexity_is_measured_with_the_statistics_of_the_batch():
    """On a copy: no dropout, no change of the network, not even of its running statistics."""
    torch.manual_seed(0)
    network = SearchNetwork(9, 8)
    x, hidden = torch.randint(0, 9, (5, 6)), network.initial(6)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    measured = network.measured()
    assert not measured.training
    plain = SearchNetwork(9, 8, **NONE).train()
    plain.load_state_dict(network.state_dict())
    torch.testing.assert_close(measured.loss(x, x, hidden), plain.loss(x, x, hidden))
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


# ---- dropout


def test_masks_keep_the_expectation():
    torch.manual_seed(0)
    network = Network(load("rnn/enas"), 4000, 50, dropout=0.75, dropouth=0.25, dropoutx=0.5, dropouti=0.2, dropoute=0.1)
    masks = network.masks(400)
    for mask, p in zip(masks, (0.1, 0.2, 0.5, 0.25, 0.75), strict=True):
        assert sorted(set(mask.flatten().tolist())) == pytest.approx([0, 1 / (1 - p)])
        deviation = math.sqrt(p / (1 - p) / mask.numel())
        assert mask.mean().item() == pytest.approx(1, abs=4 * deviation)
    assert masks.words.shape == (4000, 1)
    assert all(mask.shape == (400, 50) for mask in masks[1:])
    assert all((mask == 1).all() for mask in Network(load("rnn/enas"), 5, 3, **NONE).masks(2))


def test_masks_are_the_same_at_every_time_step():
    """Where the weights are zero, the hidden state is halved at every step, and all that varies is the output's mask."""
    network = Network(load("rnn/enas"), 5, 30, **NONE | {"dropout": 0.5}).double()
    with torch.no_grad():
        network.cell.W0.zero_()
        for W in network.cell.Ws:
            W.zero_()
    masks = network.masks(4)
    _, states, _ = network._states(torch.zeros(6, 4, dtype=torch.long), torch.ones(1, 4, 30).double(), masks)
    dropped = states == 0
    assert 0 < dropped[0].sum() < dropped[0].numel()
    assert all(torch.equal(step, dropped[0]) for step in dropped)
    assert torch.equal(dropped[0], masks.output == 0)


def test_every_mask_reaches_its_place():
    torch.manual_seed(0)
    network = SearchNetwork(9, 8).double()
    x, y, hidden = torch.randint(0, 9, (5, 3)), torch.randint(0, 9, (5, 3)), torch.randn(1, 3, 8).double()
    ones = network.masks(3)._replace(**{name: torch.ones_like(mask) for name, mask in network.masks(3)._asdict().items()})
    plain = network.loss(x, y, hidden, masks=ones)[0]
    losses = [plain]
    for name, mask in ones._asdict().items():
        changed = mask.clone()
        changed[{"words": int(x[0, 0]), "x": 1}.get(name, 0)] = 0
        losses.append(network.loss(x, y, hidden, masks=ones._replace(**{name: changed}))[0])
    assert len({round(loss.item(), 12) for loss in losses}) == 6


def test_given_masks_decide_and_evaluation_has_none():
    torch.manual_seed(0)
    network = Network(load("rnn/darts_v2"), 9, 8)
    x, y, hidden = torch.randint(0, 9, (5, 3)), torch.randint(0, 9, (5, 3)), network.initial(3)
    masks = network.masks(3)
    assert torch.equal(network.loss(x, y, hidden, masks=masks)[0], network.loss(x, y, hidden, masks=masks)[0])
    assert not torch.equal(network.loss(x, y, hidden)[0], network.loss(x, y, hidden)[0])
    network.eval()
    assert torch.equal(network.loss(x, y, hidden, masks=masks)[0], network.loss(x, y, hidden)[0])
    log_probs, after = network(x, hidden)
    assert (log_probs.shape, after.shape) == ((5, 3, 9), (1, 3, 8))
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(5, 3))
    loss, nll, same = network.loss(x, y, hidden)
    torch.testing.assert_close(nll, F.nll_loss(log_probs.flatten(0, 1), y.flatten()))
    assert torch.equal(loss, nll)
    assert torch.equal(same, after)


def test_ar_is_of_the_dropped_output_and_tar_of_the_raw_one():
    torch.manual_seed(0)
    network = Network(load("rnn/darts_v2"), 9, 8).double()
    x, hidden, masks = torch.randint(0, 9, (5, 3)), network.initial(3), network.masks(3)
    raw, dropped, _ = network._states(x, hidden, masks)
    assert not torch.equal(raw, dropped)
    loss, nll, _ = network.loss(x, x, hidden, ar=2.0, tar=3.0, masks=masks)
    change = (raw[1:] - raw[:-1]).square().mean()
    torch.testing.assert_close(loss, nll + 2 * dropped.square().mean() + 3 * change, rtol=1e-9, atol=0)


# ---- the loss in chunks


@pytest.mark.parametrize("rows", [1, 4, 7, 100])
def test_the_loss_in_chunks_is_the_plain_one(monkeypatch, rows):
    torch.manual_seed(0)
    network = SearchNetwork(50, 16)
    x, y, hidden = torch.randint(0, 50, (7, 3)), torch.randint(0, 50, (7, 3)), torch.randn(1, 3, 16)
    masks = network.masks(3)
    tensors = [*network.weights(), network.alphas["recurrent"]]
    log_probs, _ = network(x, hidden, masks)
    plain = F.nll_loss(log_probs.flatten(0, 1), y.flatten())
    expected = torch.autograd.grad(plain, tensors)
    monkeypatch.setattr(next_words, "MAX_LOGITS", 50 * rows)
    loss, nll, _ = network.loss(x, y, hidden, masks=masks)
    torch.testing.assert_close(nll, plain, rtol=1e-6, atol=0)
    for ours, theirs in zip(torch.autograd.grad(loss, tensors), expected, strict=True):
        assert (ours - theirs).norm() <= 1e-6 * theirs.norm() + 1e-8


class Called(TorchDispatchMode):
    """The names of all operations inside."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.names.add(operation.name())
        return operation(*args, **kwargs or {})


@pytest.mark.parametrize("needed", [False, True])
def test_an_evaluation_computes_no_gradient_of_the_logits(needed):
    """softmax - onehot(y), though the decoder's parameters ask for one also where gradients are off."""
    network = Network(load("enas"), 50, 16, **NONE).eval()
    words = torch.randint(0, 50, (7, 3))
    with Called() as called, torch.set_grad_enabled(needed):
        network.loss(words, words, torch.zeros(1, 3, 16))
    assert ("aten::scatter_add_" in called.names) == needed


def test_one_step_has_no_change_over_time():
    network = Network(load("rnn/enas"), 5, 3)
    loss, nll, _ = network.loss(
        torch.zeros(1, 2, dtype=torch.long), torch.zeros(1, 2, dtype=torch.long), network.initial(2), tar=1
    )
    assert torch.equal(loss, nll)


# ---- the second order under dropout


def error_of_the_implicit_term(fresh_masks):
    """The implicit term of a small smooth search network against double backward, relative to its norm."""
    torch.manual_seed(1)
    network = SearchNetwork(12, 6, dropout=0.5, dropouth=0.25, dropoutx=0.5, dropouti=0.2, fused=False).double()
    weights, alpha = network.weights(), network.alphas["recurrent"]
    with torch.no_grad():
        alpha.normal_()
    batches = [(torch.randint(0, 12, (5, 8)), torch.randint(0, 12, (5, 8)), network.initial(8)) for _ in range(2)]
    masks = [network.masks(8), network.masks(8)]
    xi = 0.1

    def loss(batch):
        x, y, hidden, drawn = batch
        return network.loss(x, y, hidden, masks=None if fresh_masks else drawn)[1], None

    train, valid = ((*batch, mask) for batch, mask in zip(batches, masks, strict=True))
    optimizer = torch.optim.SGD(weights, xi)
    alpha_optimizer = torch.optim.SGD([alpha], 0.0)
    Architect(loss, weights, network.alphas, optimizer, alpha_optimizer, unrolled=True, buffers=network.buffers()).step(
        train, valid
    )

    names = [name for name, _ in network.named_parameters() if not name.startswith("alphas.")]

    def functional(values, batch):
        return torch.func.functional_call(network, dict(zip(names, values, strict=True)), (batch[0], batch[2], batch[3]))

    def nll(values, batch):
        log_probs, _ = functional(values, batch)
        return F.nll_loss(log_probs.flatten(0, 1), batch[1].flatten())

    values = list(weights)
    gradients = torch.autograd.grad(nll(values, train), values, create_graph=True)
    moved = [w - xi * g for w, g in zip(values, gradients, strict=True)]
    (exact,) = torch.autograd.grad(nll(moved, valid), alpha)
    (direct,) = torch.autograd.grad(nll([m.detach() for m in moved], valid), alpha)
    return ((alpha.grad - exact).norm() / (exact - direct).norm()).item()


def test_second_order_under_dropout_is_exact_when_the_passes_share_their_masks(monkeypatch):
    """And drowned where each pass draws its own, as in the original."""
    assert error_of_the_implicit_term(fresh_masks=False) < 0.1  # of eps, with the kinks of relu
    assert error_of_the_implicit_term(fresh_masks=True) > 1
    monkeypatch.setattr(Architect, "RADIUS", 1e-6)
    assert error_of_the_implicit_term(fresh_masks=False) < 1e-6


# ---- the recurrence


@pytest.mark.parametrize("make", [lambda: Network(load("rnn/darts_v2"), 50, 16), lambda: SearchNetwork(50, 16)])
def test_bf16_stays_near_fp32(make):
    torch.manual_seed(0)
    network, (x, y) = make(), torch.randint(0, 50, (2, 7, 4))
    masks, found = network.masks(4), []
    for precision in ("fp32", "bf16"):
        with device.autocast(torch.device("cpu"), precision):
            loss, _, hidden = network.loss(x, y, network.initial(4), tar=1e-3, masks=masks)
        gradients = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True, materialize_grads=True)
        found.append((loss.item(), torch.cat([each.flatten() for each in gradients])))
        assert {loss.dtype, hidden.dtype, *(each.dtype for each in gradients)} == {torch.float32}
    (exact, of_exact), (near, of_near) = found
    assert exact != near
    assert near == pytest.approx(exact, rel=1e-3)
    assert (of_near - of_exact).norm() < 0.05 * of_exact.norm()


def test_a_second_backward_pass_is_refused():
    """The first one overwrites the gates; silently wrong gradients would be worse."""
    network = Network(load("rnn/darts_v2"), 9, 4)
    x = torch.randint(0, 9, (3, 2))
    loss, _, _ = network.loss(x, x, network.initial(2))
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="has one backward pass"):
        loss.backward()


@pytest.mark.parametrize("options", [{"dropout": 1.0}, {"dropouth": -0.1}, {"dropoute": float("nan")}, {"init_op": "zork"}])
def test_what_no_network_can_have_is_refused_when_it_is_made(options):
    with pytest.raises(DartsError, match="must be"):
        Network(load("rnn/darts_v2"), 9, 4, **options)


def test_a_network_without_words_is_refused():
    with pytest.raises(DartsError, match="a vocabulary of 0 words; it must have at least one"):
        Network(load("rnn/darts_v2"), 0, 4)


def test_words_without_as_many_after_them_are_refused():
    network = Network(load("rnn/darts_v2"), 9, 4)
    x = torch.randint(0, 9, (3, 2))
    with pytest.raises(DartsError, match="must be as many"):
        network.loss(x, x[:2], network.initial(2))
