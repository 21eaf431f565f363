"""Operation weights as leaves: one draw a step, and the chain rule that leads back to alpha."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from darts_cli.architect import Architect
from darts_cli.methods.relaxation import Relaxation
from darts_cli.methods.value import DARTS, Method, Step, softmax


def problem(seed=0):
    """Losses that are quadratic in weights w and operation weights m, with a closed form of the hypergradient."""
    torch.manual_seed(seed)
    A, B = torch.randn(6, 4, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
    w = torch.randn(4, dtype=torch.float64, requires_grad=True)
    alpha = torch.nn.Parameter(torch.randn(2, 3, dtype=torch.float64))
    return A, B, w, alpha


def train_loss(A, w, m):
    return ((A @ w) * m.flatten()).sum() + w.square().sum() / 2


def valid_loss(B, w, m):
    return (m.flatten() * (B @ w)).sum() + m.square().sum()


@pytest.mark.parametrize("unrolled", [False, True])
def test_the_hypergradient_through_operation_weights_has_its_closed_form(unrolled):
    """w' = w - xi (A^T m + w), so that d L_val(w', m) / dm = B w' + 2 m - xi A B^T m; times dm / d alpha."""
    A, B, w, alpha = problem()
    optimizer = torch.optim.SGD([alpha], 0.0)
    relaxation = Relaxation(SimpleNamespace(method=DARTS, alphas={"normal": alpha}, decisions=None), optimizer)

    def loss(batch):
        m = relaxation.weights["normal"]
        return (train_loss(A, w, m) if batch == "train" else valid_loss(B, w, m)), None

    xi = 0.1
    architect = Architect(loss, [w], relaxation.weights, torch.optim.SGD([w], xi), None, unrolled=unrolled)
    tables = relaxation.draw(Step(0, 1, 0, 0))
    architect.hypergradient("train", "valid")
    relaxation.step(tables, Step(0, 1, 0, 0))

    m = alpha.detach().softmax(-1)
    moved = w.detach() - xi * (A.T @ m.flatten() + w.detach()) if unrolled else w.detach()
    by_m = B @ moved + 2 * m.flatten() - (xi * A @ B.T @ m.flatten() if unrolled else 0)
    by_m = by_m.view(2, 3)
    expected = m * (by_m - (m * by_m).sum(-1, keepdim=True))
    torch.testing.assert_close(alpha.grad, expected, rtol=1e-9, atol=1e-11)


def test_every_pass_of_a_step_sees_the_same_draw():
    """The training and validation passes, both perturbed ones, and after alpha has moved the weight step too."""
    A, B, w, alpha = problem(1)
    drawn = []

    def mixture(tables, step):
        noise = torch.rand(2, 3, generator=torch.Generator().manual_seed(1000 * step.seed + step.number), dtype=torch.float64)
        drawn.append(noise)
        return softmax({"normal": tables["normal"] + noise})

    relaxation = Relaxation(
        SimpleNamespace(method=Method("noisy", mixture=mixture), alphas={"normal": alpha}, decisions=None),
        torch.optim.SGD([alpha], 0.1),
    )
    seen = []

    def loss(batch):
        m = relaxation.weights["normal"]
        seen.append(m.detach().clone())
        return (train_loss(A, w, m) if batch == "train" else valid_loss(B, w, m)), None

    architect = Architect(loss, [w], relaxation.weights, torch.optim.SGD([w], 0.1), None, unrolled=True)
    before = alpha.detach().clone()
    tables = relaxation.draw(Step(0, 1, 3, 7))
    architect.hypergradient("train", "valid")
    relaxation.step(tables, Step(0, 1, 0, 0))
    relaxation.draw(Step(0, 1, 3, 7))
    assert len(seen) == 4
    assert all(torch.equal(m, seen[0]) for m in seen)
    assert torch.equal(seen[0], softmax({"normal": before + drawn[0]})["normal"])
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(relaxation.weights["normal"], softmax({"normal": alpha.detach() + drawn[0]})["normal"])
    relaxation.draw(Step(0, 1, 3, 8))
    assert not torch.equal(drawn[2], drawn[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(st.lists(st.floats(-5, 5), min_size=8, max_size=8), st.randoms(use_true_random=False))
def test_the_softmax_does_not_depend_on_the_order_of_a_row(dtype, row, random):
    """To the bit: two rows with the same numbers in another order have the same strongest weight."""
    order = random.sample(range(8), 8)
    first, second = softmax({"normal": torch.tensor([row, [row[k] for k in order]], dtype=dtype)})["normal"]
    assert torch.equal(second, first[order])
    torch.testing.assert_close(first, torch.tensor(row, dtype=dtype).softmax(0))


def test_the_gradient_of_the_softmax():
    alpha = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    direction = torch.randn(3, 5, dtype=torch.float64)
    found, expected = (
        torch.autograd.grad((table * direction).sum(), alpha) for table in (softmax({"a": alpha})["a"], alpha.softmax(-1))
    )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
