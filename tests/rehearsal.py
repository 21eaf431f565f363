"""A step on a device that is not there: fake tensors, which have a size, a type and a device, and no numbers.

On the fake device `cuda` every operation is checked but those of backward passes, whose threads belong to a real device: there
gradients are empty tensors. On `meta` the backward passes run as well. What is noticed: two devices that meet, a number that is
read or copied to the CPU, and a tensor that is not fake.
"""

import contextlib

import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from darts_cli.cnn.datasets import batches

CUDA, META = torch.device("cuda"), torch.device("meta")
NUMBER_READ = (DataDependentOutputException, DynamicOutputShapeException)


COPIES = {"aten::copy_", "aten::_to_copy", "aten::_foreach_copy_"}


class TwoDevices(AssertionError):
    """Tensors of two devices have met, or a tensor has left its device."""


class Devices(TorchDispatchMode):
    """Looks at the tensors of every operation, those in lists too, which fake tensors only do of some operations.

    A number on the CPU may meet any device, as in PyTorch, but not in a fused optimiser. Copies may lead to a device, and back
    to the CPU where `back` says so.
    """

    def __init__(self, back):
        super().__init__()
        self.back = back

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name, tensors = func.name().partition(".")[0], [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        found = func(*args, **kwargs or {})
        if name in COPIES:
            to = args[0] if name == "aten::copy_" else found
            source = args[1] if name == "aten::copy_" else args[0]
            if isinstance(to, torch.Tensor) and to.device.type == "cpu" != source.device.type and not self.back:
                raise TwoDevices(f"{name}: from {source.device} to the CPU")
        else:
            devices = {t.device.type for t in tensors if t.dim() or t.device.type != "cpu" or "fused" in name}
            if len(devices) > 1:
                raise TwoDevices(f"{name}: tensors on {' and '.join(sorted(devices))}")
        return found


class Recorded(TorchDispatchMode):
    """Inside, as while CUDA records a graph, nothing may be copied from the CPU: its memory may be another's when the graph is
    replayed."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name, found = func.name().partition(".")[0], func(*args, **kwargs or {})
        if name in COPIES:
            to, source = (args[0], args[1]) if name.endswith("copy_") and name != "aten::_to_copy" else (found, args[0])
            for one, other in zip(tree_leaves(to), tree_leaves(source), strict=True):
                if other.device.type == "cpu" != one.device.type:
                    raise TwoDevices(f"{name}: from the CPU to {one.device}")
        return found


@contextlib.contextmanager
def rehearsal(device, monkeypatch, network, back=False):
    """Inside, every new tensor is fake, and the network's tensors are fake ones on that device.

    back    whether tensors may be copied to the CPU
    """
    batches._in_bytes.cache_clear()  # of numbers that earlier tests have put on a device
    with FakeTensorMode(allow_non_fake_inputs=False), Devices(back), monkeypatch.context() as patched:
        move(network, device)
        patched.setattr(torch.Tensor, "exponential_", lambda tensor, generator=None: tensor)  # PyTorch has no rule for it
        if device.type == "cuda":
            patched.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
            patched.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
            patched.setattr(torch.autograd, "grad", _empty_gradients)
            patched.setattr(torch.Tensor, "backward", lambda loss, *_: _leave_empty_gradients(loss, network))
        with _fused_optimisers():
            yield
    batches._in_bytes.cache_clear()


def move(network, device):
    """Replace the parameters and buffers of a network by fake ones on that device; parameters that are shared stay shared."""
    moved = {}
    for module in network.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    if id(tensor) not in moved:
                        moved[id(tensor)] = tensor, _like(tensor, device)  # the first keeps the id from being used again
                    tensors[name] = moved[id(tensor)][1]


def _like(tensor, device):
    fake = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)
    return nn.Parameter(fake) if isinstance(tensor, nn.Parameter) else fake


def _empty_gradients(outputs, inputs, *_, **__):
    for output in outputs if isinstance(outputs, list | tuple) else [outputs]:
        assert output.requires_grad
    return tuple(torch.empty_like(tensor) for tensor in inputs)


def _leave_empty_gradients(loss, network):
    assert loss.requires_grad
    for weight in network.parameters():
        if weight.requires_grad:
            weight.grad = torch.empty_like(weight)


@contextlib.contextmanager
def _fused_optimisers():
    """PyTorch has no rule for fake tensors in these; they change their arguments and return nothing."""
    with contextlib.ExitStack() as stack:
        library = stack.enter_context(torch.library._scoped_library("aten", "IMPL"))
        for name in ("_fused_sgd_", "_fused_sgd_.tensor_lr", "_fused_adam_", "_fused_adam_.tensor_lr"):
            if not torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{name}", "Meta"):
                library.impl(name, lambda *_, **__: None, "Meta")
        yield


def faked(state):
    """A state dict with fake tensors of the CPU in place of its own; call it inside a rehearsal."""
    if isinstance(state, torch.Tensor):
        return torch.empty_strided(state.shape, state.stride(), dtype=state.dtype)
    if isinstance(state, dict):
        return type(state)((key, faked(value)) for key, value in state.items())
    return [faked(value) for value in state] if isinstance(state, list) else state
