"""Where and how it is computed: device, precision, and randomness that depends on nothing but seed and position."""

import ctypes
import hashlib
import os
import platform
import sys

import torch

from darts_cli import DartsError, __version__
from darts_cli.runtime import distributed


def resolve(name: str) -> torch.device:
    """The device of that name; "auto" takes CUDA, then MPS, then the CPU. Raises DartsError naming the devices there are."""
    present = devices()
    if name == "auto":
        return torch.device(present[0])
    if name not in present:
        raise DartsError(f"--device {name}: there is no such device here; use auto or one of {', '.join(present)}", exit_code=2)
    return torch.device(name)


def devices() -> list[str]:
    """The names of the devices there are, the first choice first."""
    present = ["cpu"]
    if torch.backends.mps.is_available():
        present.insert(0, "mps")
    if torch.cuda.is_available():
        present = ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count())), *present]
    return present


def prepare(name: str) -> torch.device:
    """The device of that name, PyTorch set to compute the same there for the same seed, and memory kept; under torchrun the
    device of this process, which has then found the others."""
    distributed.join()
    where = resolve(name)
    if distributed.ranks() > 1 and where.type != "cpu":
        where = torch.device(distributed.local_device(name if name != "auto" else where.type, torch.cuda.device_count()))
        torch.cuda.set_device(where)
    _deterministic()
    keep_memory()
    return where


def _deterministic() -> None:
    """Same seed, same machine, same settings: same bits. Where CUDA has no deterministic kernel, PyTorch warns and goes on."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # every buffer here is written before it is read
    torch.backends.cudnn.benchmark = False


def keep_memory() -> None:
    """Keep what is freed for the next step, which allocates the same again.

    With glibc large blocks would go back to the system, and come again page by page, filled with zeros.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(-4, 0)  # M_MMAP_MAX: no block is mapped by itself
        mallopt(-1, -1)  # M_TRIM_THRESHOLD: the heap does not shrink


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context that a forward pass of that precision runs in; outside it everything stays float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def exact(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in float32 at least: what is summed over a batch needs more digits than autocast gives."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def fused(device: torch.device) -> bool:
    """Whether an optimiser updates all tensors in one kernel: on CUDA, where starting one for each would take the time."""
    return device.type == "cuda"


def generator(*position: int | str) -> torch.Generator:
    """A CPU generator that depends on its position alone, such as (seed, "train", epoch): nothing to save or to resume."""
    return torch.Generator().manual_seed(_number(position))


def seed(*position: int | str) -> None:
    """Begin the random numbers of all devices anew, at that position."""
    torch.manual_seed(_number(position))


def _number(position: tuple) -> int:
    return int.from_bytes(hashlib.sha256(repr(position).encode()).digest()[:8], "little") >> 1


def environment(device: torch.device) -> dict[str, str]:
    """What a result may depend on besides the settings; config.yaml keeps it."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "darts": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "device": f"{device} ({name})",
        "threads": str(torch.get_num_threads()),
    }
