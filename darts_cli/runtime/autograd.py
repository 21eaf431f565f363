"""Gradients that are written out by hand, which have no gradient of their own."""

import functools
from collections.abc import Callable

import torch


def once_differentiable(backward: Callable) -> Callable:
    """Decorator of the `backward` of a Function: raises RuntimeError where its result is to be differentiated again.

    PyTorch's own of this name notices that in `backward()` only; `torch.autograd.grad` would go around it and return what is
    left of the second derivative, as if it were all.
    """

    @functools.wraps(backward)
    def refusing(ctx, *gradients):
        if torch.is_grad_enabled():  # what create_graph=True means here
            raise RuntimeError("this gradient is written out by hand and has none itself; leave create_graph out")
        return backward(ctx, *gradients)

    return refusing
