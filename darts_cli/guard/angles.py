"""How far a hypergradient is from the exact one of eq. 7: in direction and in length."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

FORMS = {  # whether second order, whether exact, and the length of the perturbation, in that of eq. 8
    "first order": (False, False, 1),
    "second order, eq. 8": (True, False, 1),
    "eq. 8, a tenth as far": (True, False, 0.1),
    "exact, eq. 7": (True, True, 1),
}
EXACT = "exact, eq. 7"


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Within it, new tensors of real numbers have this type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def hypergradients(architect, relaxation, step, *batches) -> dict[str, Tensor]:
    """By form, the hypergradient of all alphas (n,) of one step of a search, which is not made.

    The network must be in its plain form, which can be differentiated twice. The batches are computed in its type.
    """
    dtype = architect.weights[0].dtype
    train, valid = (batch._make(x.to(dtype) if _is_real(x) else x for x in batch) for batch in batches)
    found, before = {}, (architect.unrolled, architect.exact, architect.radius)
    try:
        for name, (unrolled, exact, shorter) in FORMS.items():
            architect.unrolled, architect.exact, architect.radius = unrolled, exact, before[2] * shorter
            tables = relaxation.draw(step)
            architect.hypergradient(train, valid)
            relaxation.differentiate(tables, step)
            found[name] = torch.cat([alpha.grad.flatten() for alpha in relaxation.alphas.values()]).double()
    finally:
        architect.unrolled, architect.exact, architect.radius = before
    return found


def _is_real(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def compared(gradients: dict[str, Tensor]) -> dict[str, tuple[float, float]]:
    """By form, the angle to the exact hypergradient in degrees, and the length relative to it."""
    exact = gradients[EXACT]
    return {name: (angle(gradient, exact), float(gradient.norm() / exact.norm())) for name, gradient in gradients.items()}


def angle(a: Tensor, b: Tensor) -> float:
    """Between two vectors, in degrees; precise for small angles, too. NaN where one is 0."""
    a, b = a / a.norm(), b / b.norm()
    return math.degrees(2 * math.atan2(float((a - b).norm()), float((a + b).norm())))
