"""Several processes as one, started by torchrun: which one this is, its share of a batch, and what they compute together.

Every process computes its rows of each batch. Sums over the batch, BatchNorm's among them, and the means of gradients go over
all processes, so that each takes the same step, the one that a single process with the whole batch would take. Without torchrun
there is one process, and nothing here does anything.
"""

import atexit
import contextlib
import datetime
import gc
import hashlib
import os
import threading
import warnings
from collections.abc import Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

from darts_cli import DartsError

VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # set by torchrun
SILENT = 20  # seconds after which a process that waits for the others says so
LONGEST = datetime.timedelta(minutes=10)  # that the others may take, to come and in each collective
communicated = {"bytes": 0, "calls": 0}  # what this process has put into collectives so far


def join() -> None:
    """Find the other processes, where torchrun has started several. Raises DartsError when they cannot be found."""
    if os.environ.get("WORLD_SIZE", "1") == "1" or dist.is_initialized():
        return
    numbers = [name for name in VARIABLES if name != "MASTER_ADDR" and not os.environ.get(name, "").isdecimal()]
    wrong = numbers + ["MASTER_ADDR"] * (not os.environ.get("MASTER_ADDR"))
    if wrong:
        found = ", ".join(f"{name} is {os.environ.get(name) or 'not set'}" for name in wrong)
        raise DartsError(
            f"WORLD_SIZE says that there are several processes, but {found}; start them with torchrun", exit_code=2
        )
    waiting = f"process {os.environ['RANK']} waits for all {os.environ['WORLD_SIZE']} at {os.environ['MASTER_ADDR']}\n"
    patience = threading.Timer(SILENT, lambda: os.write(2, waiting.encode()))
    patience.daemon = True
    patience.start()
    try:
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
        dist.init_process_group(backend, timeout=LONGEST)
    except (RuntimeError, ValueError) as error:
        raise DartsError(f"the {os.environ['WORLD_SIZE']} processes found no way to each other ({_reason(error)})") from None
    finally:
        patience.cancel()
    atexit.register(_leave)


def _leave() -> None:
    """End the threads of the process group, which would abort a process that ends with them: so that nothing holds it any more,
    a network within DistributedDataParallel goes first."""
    gc.collect()
    dist.destroy_process_group()


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def ranks() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def local_device(name: str, present: int) -> str:
    """The device of this process where `present` CUDA devices are to be shared out: one each. Raises DartsError if too few."""
    processes, own = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["LOCAL_RANK"])
    if name != "cuda":
        raise DartsError(f"--device {name}: torchrun gives every process a device of its own; use auto, cuda or cpu", 2)
    if processes > present:
        raise DartsError(
            f"torchrun started {processes} processes here for {present} CUDA devices; use --nproc-per-node {present}", 2
        )
    return f"cuda:{own}"


# ---- shares


def check_batch(size: int) -> None:
    """Raises DartsError when a batch of that size has no equal parts for all processes."""
    if size % ranks():
        raise DartsError(f"--batch-size {size}: must be a multiple of the number of processes, {ranks()}", exit_code=2)


def check_whole(option: str, parts: int) -> None:
    """Raises DartsError when a batch that several processes share is to be computed in parts besides."""
    if parts > 1 and ranks() > 1:
        raise DartsError(f"{option} {parts}: not under torchrun; more processes compute smaller parts as well", exit_code=2)


def share(count: int) -> slice:
    """The rows of this process, of so many: the first processes have one more where it does not come out even."""
    each, more = divmod(count, ranks())
    start = rank() * each + min(rank(), more)
    return slice(start, start + each + (rank() < more))


# ---- what is computed together


def total(tensor: Tensor) -> Tensor:
    """The sum of every process' tensor; not differentiable."""
    if ranks() == 1:
        return tensor
    tensor = tensor.detach().clone(memory_format=torch.contiguous_format)
    _collect(lambda: dist.all_reduce(tensor), tensor)
    return tensor


def first(tensor: Tensor) -> Tensor:
    """The tensor of the first process, for all: what each computes alone, and then decides by."""
    return total(tensor if rank() == 0 else torch.zeros_like(tensor))


def totals(sums: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Sums over rows, of any shape, and the number of rows, both over all processes."""
    own = sums.new_full((), count)
    if ranks() == 1:
        return sums, own
    joined = total(torch.cat([sums.flatten(), own[None]]))
    return joined[:-1].view(sums.shape), joined[-1]


def average(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The mean of each tensor over the processes, sent in one message."""
    if ranks() == 1:
        return list(tensors)
    means = total(torch.cat([tensor.flatten() for tensor in tensors])) / ranks()
    return [mean.view(t.shape) for mean, t in zip(means.split([t.numel() for t in tensors]), tensors, strict=True)]


def average_gradients(parameters: Sequence[Tensor]) -> None:
    """Replace the gradients by their means over the processes."""
    if ranks() > 1:
        for parameter, mean in zip(parameters, average([each.grad for each in parameters]), strict=True):
            parameter.grad = mean


def parallel(network: nn.Module) -> nn.Module:
    """The network within DistributedDataParallel, where there are several processes. Its output need not depend on all of its
    parameters."""
    if ranks() == 1:
        return network
    warnings.filterwarnings("ignore", "Grad strides do not match")  # of 1x1 kernels, which lie the same in any order
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`broadcast_buffers`")  # which later versions call by another name
        wrapped = nn.parallel.DistributedDataParallel(_Idle(network), broadcast_buffers=False, find_unused_parameters=True)
    wrapped.register_comm_hook(None, _all_reduce)
    return wrapped


class _Idle(nn.Module):
    """The network, and a parameter that nothing depends on.

    DistributedDataParallel then looks for such parameters in every step, with a small message of its own, and keeps the other
    messages as they are. Otherwise it would put them together anew after the first step, and a run that goes on would add up in
    another order than one that never stopped.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network, self.idle = network, nn.Parameter(next(network.parameters()).new_zeros(()))

    def forward(self, *args, **keywords):
        return self.network(*args, **keywords)


def _all_reduce(_, bucket: dist.GradBucket):
    _count(bucket.buffer())
    return default_hooks.allreduce_hook(None, bucket)


def gather(tensor: Tensor, dim: int) -> Tensor:
    """The tensors of all processes, of equal size, side by side."""
    if ranks() == 1:
        return tensor
    parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(ranks())]
    _collect(lambda: dist.all_gather(parts, tensor.contiguous()), tensor)
    return torch.cat(parts, dim)


def largest(*numbers: int) -> list[int]:
    """The largest of each number over the processes."""
    if ranks() == 1:
        return list(numbers)
    tensor = torch.tensor(numbers)
    _collect(lambda: dist.all_reduce(tensor, dist.ReduceOp.MAX), tensor)
    return tensor.tolist()


def wait() -> None:
    """Until all processes are here."""
    largest(0)


def check_equal(tensors: dict[str, Tensor]) -> None:
    """Raises DartsError when a tensor has not the same bits in all processes."""
    if ranks() == 1:
        return
    digests = bytearray(b"".join(_digest(tensor.detach()) for tensor in tensors.values()))
    own = torch.frombuffer(digests, dtype=torch.uint8).view(-1, 32)
    for other, theirs in enumerate(gather(own[None], 0)):
        for name, same in zip(tensors, (theirs == own).all(1).tolist(), strict=True):
            if not same:
                raise DartsError(f"{name} of process {other} is not that of process {rank()}: nothing was saved")


def _digest(tensor: Tensor) -> bytes:
    return hashlib.sha256(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy()).digest()


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Within it, the loss of another process becomes a DartsError."""
    try:
        yield
    except RuntimeError as error:
        if ranks() > 1 and any(word in str(error).lower() for word in ("gloo", "nccl", "connection", "processgroup")):
            raise _lost(error) from None
        raise


def _collect(collective, tensor: Tensor) -> None:
    _count(tensor)
    with together():
        collective()


def _count(tensor: Tensor) -> None:
    communicated["bytes"] += tensor.numel() * tensor.element_size()
    communicated["calls"] += 1


def _lost(error: Exception) -> DartsError:
    return DartsError(
        f"process {rank()} of {ranks()} lost the others ({_reason(error)}); the same command goes on from the last checkpoint"
    )


def _reason(error: Exception) -> str:
    return " ".join(str(error).split("\n")[0].split())[-80:]
