"""`--compile`: parts of a network through torch.compile, or as they are where PyTorch cannot compile."""

import contextlib
import logging
from collections.abc import Iterable, Iterator
from functools import cache

import torch
from torch import nn

from darts_cli.text import first_line

BACKEND = "inductor"
RECOMPILE_LIMIT = 128  # of the code of one region: cells differ in size, and the passes in what they differentiate by


def compile_regions(regions: Iterable[nn.Module], device: torch.device) -> None:
    """Compile each region when it is first called; names in state dicts stay. Does nothing where nothing can be compiled.

    Every size is compiled on its own. What PyTorch cannot compile of a region, such as a gradient written by hand, is
    computed as it is. Random numbers are those of the network that is not compiled.
    """
    if failure(device) is not None:
        return
    from torch._dynamo import config as dynamo
    from torch._inductor import config as inductor

    inductor.fallback_random = dynamo.suppress_errors = True
    setattr(dynamo, "recompile_limit" if hasattr(dynamo, "recompile_limit") else "cache_size_limit", RECOMPILE_LIMIT)
    logging.getLogger("torch._dynamo").setLevel(logging.ERROR)
    for region in regions:
        region.compile(dynamic=False, backend=BACKEND)


@cache
def failure(device: torch.device) -> str | None:
    """Why PyTorch cannot compile for a device; None where it can. A small function is tried, with its gradient."""
    from torch._dynamo import config as dynamo

    x = torch.ones(8, device=device, requires_grad=True)
    try:
        with dynamo.patch(suppress_errors=False):
            torch.compile(lambda x: (2 * x.sin()).sum(), backend=BACKEND)(x).backward()
    except Exception as error:  # each backend and compiler raises its own
        reason = str(getattr(error, "inner_exception", error))
        return first_line(reason) or type(error).__name__
    return None


def notes(wanted: bool, device: torch.device) -> list[str]:
    """What a run with `--compile` says at its start."""
    if not wanted:
        return []
    reason = failure(device)
    if reason is not None:
        return [f"--compile: PyTorch cannot compile here ({reason}); the network is computed as it is"]
    return ["--compile: the first steps take minutes"]


def is_compiled(region: nn.Module) -> bool:
    """Whether `compile_regions` compiles this region."""
    return region._compiled_call_impl is not None


@contextlib.contextmanager
def not_compiled(network: nn.Module) -> Iterator[None]:
    """Inside, the network is computed as it is: what is compiled cannot be differentiated twice."""
    compiled = {module: module._compiled_call_impl for module in network.modules()}
    for module in compiled:
        module._compiled_call_impl = None
    try:
        yield
    finally:
        for module, call in compiled.items():
            module._compiled_call_impl = call
