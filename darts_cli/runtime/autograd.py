"""Gradients written by hand, which cannot be differentiated again."""

import functools
from collections.abc import Callable

import torch


def once_differentiable(backward: Callable) -> Callable:
    """Decorator of the `backward` of a Function: raises RuntimeError when its result would be differentiated again.

    PyTorch's decorator of this name notices that only in `backward()`. `torch.autograd.grad` would bypass it, and silently
    return an incomplete second derivative.
    """

    @functools.wraps(backward)
    def refusing(ctx, *gradients):
        if torch.is_grad_enabled():  # what create_graph=True means here
            raise RuntimeError("this gradient is written by hand and cannot be differentiated again; leave create_graph out")
        return backward(ctx, *gradients)

    return refusing
