"""Training on several ranks, the processes that torchrun starts: this rank's share of a batch, and what all compute together.

Every rank computes its rows of each batch. Sums over the batch, those of BatchNorm included, and means of gradients are taken
over all ranks, so every rank takes the step that a single process with the same batch would take. Without torchrun there is one
rank, and nothing here does anything.
"""

import atexit
import contextlib
import datetime
import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from darts_cli import DartsError

VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # set by torchrun
SILENT_SECONDS = 20  # after these a rank that waits for the others says so
TIMEOUT = datetime.timedelta(minutes=10)  # for the ranks to connect, and for each collective
_alone = False  # see `alone`
_batch = 0  # see `batch_of`
communicated = {"bytes": 0, "calls": 0}  # what this rank has put into collectives so far


def launched() -> bool:
    """Whether torchrun has started several processes."""
    return os.environ.get("WORLD_SIZE", "1") != "1"


def join() -> None:
    """Connect to the other ranks, if torchrun has started any. Raises DartsError when that fails."""
    if not launched() or dist.is_initialized():
        return
    wrong = [name for name in VARIABLES if name != "MASTER_ADDR" and not os.environ.get(name, "").isdecimal()]
    wrong += ["MASTER_ADDR"] * (not os.environ.get("MASTER_ADDR"))
    if wrong:
        values = ", ".join(f"{name} is {os.environ.get(name) or 'not set'}" for name in wrong)
        raise DartsError(f"WORLD_SIZE announces several processes, but {values}; start them with torchrun", exit_code=2)
    size = os.environ["WORLD_SIZE"]
    message = f"process {os.environ['RANK']} is waiting for all {size} at {os.environ['MASTER_ADDR']}\n"
    reminder = threading.Timer(SILENT_SECONDS, lambda: os.write(2, message.encode()))
    reminder.daemon = True
    reminder.start()
    try:
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
        dist.init_process_group(backend, timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise DartsError(f"the {size} processes could not connect to each other ({_reason(error)})") from None
    finally:
        reminder.cancel()
    atexit.register(dist.destroy_process_group)  # or its threads abort the process as it exits


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() and not _alone else 0


def ranks() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() and not _alone else 1


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Within it, every process computes as if it were the only one."""
    global _alone
    _alone = True
    try:
        yield
    finally:
        _alone = False


def local_device(name: str, present: int) -> str:
    """The CUDA device of this rank, where the machine has `present`: one each. Raises DartsError when there are too few."""
    if name != "cuda":
        raise DartsError(f"--device {name}: torchrun gives every process its own device; use auto, cuda or cpu", 2)
    processes = int(os.environ["LOCAL_WORLD_SIZE"])
    if processes > present:
        raise DartsError(
            f"torchrun started {processes} processes here for {present} CUDA devices; use --nproc-per-node {present}", 2
        )
    return f"cuda:{os.environ['LOCAL_RANK']}"


# ---- shares


def check_batch(size: int) -> None:
    """Raises DartsError when a batch of that size cannot be split evenly between the ranks."""
    if size % ranks():
        raise DartsError(f"--batch-size {size}: must be a multiple of the number of processes, {ranks()}", exit_code=2)


def check_alone(options: Mapping[str, bool]) -> None:
    """Raises DartsError when one of these options is given, and there are several ranks."""
    given = [option for option, value in options.items() if value]
    if given and ranks() > 1:
        raise DartsError(f"{given[0]}: runs in one process only, not in {ranks()}", exit_code=2)


def check_unsplit(option: str, parts: int) -> None:
    """Raises DartsError when the share of each rank would be computed in parts."""
    if parts > 1 and ranks() > 1:
        raise DartsError(f"{option} {parts}: not under torchrun; use more processes instead", exit_code=2)


def share(count: int) -> slice:
    """The rows of this rank, of `count` rows; if they cannot be split evenly, the first ranks have one more."""
    size, rest = divmod(count, ranks())
    start = rank() * size + min(rank(), rest)
    return slice(start, start + size + (rank() < rest))


@contextlib.contextmanager
def batch_of(size: int) -> Iterator[None]:
    """Within it, `drawn` draws for a batch of so many rows, those of all ranks."""
    global _batch
    before, _batch = _batch, size
    try:
        yield
    finally:
        _batch = before


def drawn(draw: Callable[[int], Tensor], rows: int) -> Tensor:
    """What `draw` gives for so many rows of a batch: of several ranks, this rank's part of what it gives for all rows."""
    return draw(rows) if ranks() == 1 or not _batch else draw(_batch)[share(_batch)]


# ---- what is computed together


def total(tensor: Tensor) -> Tensor:
    """The sum of the tensor over the ranks; not differentiable."""
    if ranks() == 1:
        return tensor
    tensor = tensor.detach().clone(memory_format=torch.contiguous_format)
    _collect(lambda: dist.all_reduce(tensor), tensor)
    return tensor


def first(tensor: Tensor) -> Tensor:
    """The tensor of rank 0, for all ranks: every rank has computed it, and decisions must not differ by rounding."""
    return total(tensor if rank() == 0 else torch.zeros_like(tensor))


def totals(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The sum of each tensor over the ranks, sent in one message; not differentiable."""
    if ranks() == 1:
        return list(tensors)
    sums = total(torch.cat([tensor.flatten() for tensor in tensors])).split([tensor.numel() for tensor in tensors])
    return [each.view(tensor.shape) for each, tensor in zip(sums, tensors, strict=True)]


def average(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The mean of each tensor over the ranks, sent in one message."""
    return list(tensors) if ranks() == 1 else [tensor / ranks() for tensor in totals(tensors)]


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace the gradients by their means over the ranks. A parameter that the loss does not depend on has none anywhere."""
    if ranks() > 1:
        parameters = [parameter for parameter in parameters if parameter.grad is not None]
        for parameter, mean in zip(parameters, average([parameter.grad for parameter in parameters]), strict=True):
            parameter.grad.copy_(mean)  # in place: fused optimisers want gradients that lie in memory as their parameters


def gather(tensor: Tensor, dim: int) -> Tensor:
    """The tensors of all ranks, of equal size, side by side."""
    if ranks() == 1:
        return tensor
    parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(ranks())]
    _collect(lambda: dist.all_gather(parts, tensor.contiguous()), tensor)
    return torch.cat(parts, dim)


def gathered(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Each tensor of all ranks, of equal shape, (ranks, ...), sent in one message."""
    rows = gather(torch.cat([tensor.flatten() for tensor in tensors])[None], 0)
    sizes = [tensor.numel() for tensor in tensors]
    return [each.reshape(-1, *tensor.shape) for each, tensor in zip(rows.split(sizes, 1), tensors, strict=True)]


def largest(*numbers: int) -> list[int]:
    """The largest of each number over the ranks."""
    if ranks() == 1:
        return list(numbers)
    tensor = torch.tensor(numbers)
    _collect(lambda: dist.all_reduce(tensor, dist.ReduceOp.MAX), tensor)
    return tensor.tolist()


def wait() -> None:
    """Until all ranks are here."""
    largest(0)


def check_equal(tensors: dict[str, Tensor]) -> None:
    """Raises DartsError when a tensor does not have the same bits on all ranks."""
    if ranks() == 1:
        return
    digests = bytearray(b"".join(_digest(tensor.detach()) for tensor in tensors.values()))
    ours = torch.frombuffer(digests, dtype=torch.uint8).view(-1, 32)
    for other, theirs in enumerate(gather(ours[None], 0)):
        for name, same in zip(tensors, (theirs == ours).all(1).tolist(), strict=True):
            if not same:
                raise DartsError(f"{name} of process {other} differs from that of process {rank()}: nothing was saved")


def _digest(tensor: Tensor) -> bytes:
    return hashlib.sha256(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy()).digest()


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Inside, a lost rank becomes a DartsError. PyTorch raises a plain RuntimeError for gloo, so its text is what tells."""
    try:
        yield
    except RuntimeError as error:
        if ranks() > 1 and any(word in str(error).lower() for word in ("gloo", "nccl", "connection", "processgroup")):
            raise DartsError(
                f"process {rank()} of {ranks()} lost the others ({_reason(error)}); "
                "the same command resumes from the last checkpoint"
            ) from None
        raise


def _collect(collective: Callable[[], object], tensor: Tensor) -> None:
    communicated["bytes"] += tensor.numel() * tensor.element_size()
    communicated["calls"] += 1
    with together():
        collective()


def _reason(error: Exception) -> str:
    return " ".join(str(error).split("\n")[0].split())[-80:]
