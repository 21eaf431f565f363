"""Device, precision, and randomness that depends only on a seed and a position."""

import ctypes
import hashlib
import os
import platform
import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

from darts_cli import DartsError, __version__
from darts_cli.runtime import distributed

try:
    import resource
except ImportError:  # Windows has none
    resource = None


def resolve(name: str) -> torch.device:
    """The device of that name; "auto" takes CUDA, then MPS, then the CPU. Raises DartsError naming the available devices."""
    available = devices()
    if name == "auto":
        return torch.device(available[0])
    if name not in available:
        raise DartsError(f"--device {name}: there is no such device here; use auto or one of {', '.join(available)}", 2)
    return torch.device(name)


def devices() -> list[str]:
    """The names of the available devices, the first choice first."""
    available = ["cpu"]
    if torch.backends.mps.is_available():
        available.insert(0, "mps")
    if torch.cuda.is_available():
        available = ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count())), *available]
    return available


def prepare(name: str, deterministic: bool = True, precision: str = "fp32") -> torch.device:
    """The device of that name, with PyTorch set to be deterministic or fast, to that precision, and to keep memory.

    Under torchrun it is this rank's device, and the process group is joined. Raises DartsError where there is no such device,
    or where it has no TF32.
    """
    distributed.join()
    if name == "auto" and distributed.ranks() > 1:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = resolve(name)
    if distributed.ranks() > 1 and device.type != "cpu":
        device = torch.device(distributed.local_device(name, torch.cuda.device_count()))
    if device.index is not None:
        torch.cuda.set_device(device)
    set_kernels(device, deterministic, precision)
    keep_memory()
    return device


def chosen(name: str, deterministic: bool = True, precision: str = "fp32") -> torch.device:
    """The device of that name for a trained network, with PyTorch set as for a run. Raises DartsError as `prepare` does."""
    device = resolve(name)
    set_kernels(device, deterministic, precision)
    return device


def set_kernels(device: torch.device, deterministic: bool, precision: str) -> None:
    """Which kernels PyTorch may take.

    Deterministic: same seed, same machine, same settings, same bits. If CUDA has no deterministic kernel, PyTorch warns and
    goes on. Otherwise cuDNN tries its kernels and takes the fastest. TF32 rounds the factors of products and convolutions to 10
    bits; for convolutions PyTorch would do so by default. Raises DartsError where there is no TF32.
    """
    tf32 = precision == "tf32"
    if tf32 and device.type != "cuda":
        raise DartsError(f"--precision tf32: only on CUDA, not on {device}; use fp32 or bf16", exit_code=2)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # every buffer here is written before it is read
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32


def keep_memory() -> None:
    """Keep freed memory for the next step, which allocates the same sizes again.

    Otherwise glibc returns large blocks to the system, and gets them back page by page, filled with zeros.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(-4, 0)  # M_MMAP_MAX: no block gets a mapping of its own
        mallopt(-1, -1)  # M_TRIM_THRESHOLD: the heap does not shrink


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """The context for a forward pass in that precision; everything outside it stays float32."""
    if precision != "bf16":
        return no_autocast(device)
    return torch.autocast(device.type, dtype=torch.bfloat16)


def precision_notes(device: torch.device, precision: str) -> list[str]:
    """What a run says at its start of a precision that gains nothing on its device."""
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    if precision != "bf16" or device.type != "cpu" or platform.machine() != "x86_64" or supported is None or supported():
        return []
    return ["--precision bf16: this CPU has no instructions for bfloat16; fp32 is faster"]


def no_autocast(device: torch.device) -> AbstractContextManager:
    """The context in which every operation computes in the dtype of its arguments."""
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """The dtype of products under autocast; None outside of it."""
    if not (torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)):
        return None
    return torch.get_autocast_dtype(device.type)


def exact(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in at least float32: sums over a batch need more digits than autocast gives."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def fused(device: torch.device) -> bool:
    """Whether an optimiser updates all tensors in one kernel: on CUDA, where one launch per tensor would be slow."""
    return device.type == "cuda"


def large_kernels(device: torch.device) -> bool:
    """Whether few large kernels are to be preferred to many small ones: everywhere but on CPUs, which launch nothing."""
    return device.type != "cpu"


def keep_kind(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The optimiser, which keeps its values of `fused` and `capturable` when it loads a state dict, which may be from another
    device."""
    kind = {name: value for name, value in optimizer.defaults.items() if name in ("fused", "capturable")}

    def of_this_device(_, state: dict) -> dict:
        return state | {"param_groups": [group | kind for group in state["param_groups"]]}

    optimizer.register_load_state_dict_pre_hook(of_this_device)
    if kind["fused"] and optimizer.defaults.get("momentum"):
        optimizer.register_step_pre_hook(_begin_momenta)
    return optimizer


def _begin_momenta(optimizer: torch.optim.Optimizer, *_) -> None:
    """Begin the momenta of weights that have their first gradient. PyTorch's fused SGD does so for all weights at once only,
    but an operation that a step leaves out has no gradient."""
    for weight in (weight for group in optimizer.param_groups for weight in group["params"] if weight.grad is not None):
        if optimizer.state[weight].get("momentum_buffer") is None:
            optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)


def generator(*position: int | str) -> torch.Generator:
    """A CPU generator that depends only on its position, such as (seed, "train", epoch): nothing to save or to resume."""
    return torch.Generator().manual_seed(_number(position))


def seed(*position: int | str) -> None:
    """Reseed the random numbers of all devices for a position."""
    torch.manual_seed(_number(position))


def seed_stage(number: int, start: int) -> None:
    """Seed the weights of a search's network: by the seed itself or, in a later stage, by the epoch where it begins too."""
    if start == 0:
        torch.manual_seed(number)
    else:
        seed(number, "stage", start)


def _number(position: tuple) -> int:
    return int.from_bytes(hashlib.sha256(repr(position).encode()).digest()[:8], "little") >> 1


def synchronize() -> None:
    """Wait until the device of this run has done what it was given, so that a clock can be read."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    elif torch.backends.mps.is_available():
        torch.mps.synchronize()


def available_memory(device: torch.device) -> int:
    """The bytes that are free on a device now, within the limit of a container; 0 where unknown."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    if sys.platform != "linux":
        return 0
    free = _kibibytes("/proc/meminfo", "MemAvailable:")
    try:
        with open("/sys/fs/cgroup/memory.max") as limit, open("/sys/fs/cgroup/memory.current") as used:
            return min(free, int(limit.read()) - int(used.read()))
    except (OSError, ValueError):  # no container, or one without a limit
        return free


def peak_memory() -> int:
    """The most bytes that this process has held so far: on its GPUs or, where it uses none, in main memory; 0 where unknown."""
    if torch.cuda.is_initialized():
        return sum(torch.cuda.max_memory_allocated(i) for i in range(torch.cuda.device_count()))
    if sys.platform == "linux":  # getrusage also counts the process that started this one
        return _kibibytes("/proc/self/status", "VmHWM:")
    if resource is None:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def environment(device: torch.device) -> dict[str, str]:
    """The properties of the machine that a result may depend on; config.yaml keeps them."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "darts": __version__,
        **_commit(),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "device": f"{device} ({name})",
        "threads": str(torch.get_num_threads()),
    }


def _commit() -> dict[str, str]:
    """The git commit of the checkout that the package runs from, -dirty where files differ; nothing where it is installed."""
    checkout = Path(__file__).parents[2]
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=12"]
    if not (checkout / ".git").exists():
        return {}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"git": done.stdout.strip()} if done.returncode == 0 else {}


def _kibibytes(path: str, name: str) -> int:
    """The bytes of an entry that Linux gives in units of 1024."""
    with open(path) as lines:
        return next((1024 * int(line.split()[1]) for line in lines if line.startswith(name)), 0)
