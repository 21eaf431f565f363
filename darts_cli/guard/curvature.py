"""The curvature of the validation loss in alpha, whose largest eigenvalue tells that a search collapses.

Zela et al., Understanding and Robustifying Differentiable Architecture Search, arXiv 1909.09656. Products with the Hessian are
exact: the gradient of alpha is differentiated again. Finite differences of it are useless, because ReLU and max-pooling switch
within the step.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

PRODUCTS = 20  # of Lanczos' method: a relative error of about 1e-6


def hessian_product(loss: Tensor, tensors: Sequence[Tensor]) -> Callable[[Tensor], Tensor]:
    """The function v -> H v, where H is the Hessian of a loss with respect to all the tensors, flattened one after another."""
    gradients = torch.autograd.grad(loss, tensors, create_graph=True, materialize_grads=True, allow_unused=True)
    gradient = torch.cat([g.flatten() for g in gradients])

    def product(v: Tensor) -> Tensor:
        found = torch.autograd.grad(
            gradient @ v.to(gradient), tensors, retain_graph=True, materialize_grads=True, allow_unused=True
        )
        return torch.cat([h.flatten() for h in found]).detach()

    return product


def start_of(alphas: Sequence[Tensor]) -> Tensor:
    """The first vector of Lanczos' method (n,), always the same."""
    drawn = torch.randn(sum(map(torch.numel, alphas)), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return drawn.to(alphas[0].device)


def largest_eigenvalue(product: Callable[[Tensor], Tensor], start: Tensor, products: int = PRODUCTS) -> float:
    """The largest (algebraic) eigenvalue of a symmetric matrix, by Lanczos' method with reorthogonalisation, in float64.

    product    v -> H v
    start      the first vector (n,)
    """
    basis = [start.double() / start.double().norm()]
    diagonal, beside = [], []
    for _ in range(min(products, len(start))):
        w = product(basis[-1]).double()
        diagonal.append(float(w @ basis[-1]))
        for _ in range(2):  # twice is enough
            Q = torch.stack(basis)
            w = w - Q.t() @ (Q @ w)
        norm = float(w.norm())
        if norm < 1e-12 * max(map(abs, diagonal)) or norm == 0:
            break  # the basis spans an invariant subspace
        beside.append(norm)
        basis.append(w / norm)
    beside = beside[: len(diagonal) - 1]
    T = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    if beside:
        off = torch.tensor(beside, dtype=torch.float64)
        T = T + torch.diag(off, 1) + torch.diag(off, -1)
    return float(torch.linalg.eigvalsh(T)[-1])
