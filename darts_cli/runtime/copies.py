"""Copy many tensors with few kernel launches."""

from collections.abc import Sequence

import torch
from torch import Tensor


@torch.no_grad()
def copy_into(source: Sequence[Tensor], target: Sequence[Tensor]) -> None:
    """Copy each source tensor into the target tensor at the same index, with one kernel for each dtype."""
    for dtype in {tensor.dtype for tensor in target}:
        places = [i for i, tensor in enumerate(target) if tensor.dtype == dtype]
        torch._foreach_copy_([target[i] for i in places], [source[i] for i in places])


def copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Copies of the tensors, without their gradients."""
    made = [torch.empty_like(tensor, requires_grad=False) for tensor in tensors]
    copy_into(tensors, made)
    return made
