"""Files in the on-disk form of PyTorch before 1.6: pickles, then raw numbers. Read without running anything that they name.

What a file names is looked up in a short list; tensors and containers are all that can come of it. Modules that were pickled
whole become plain objects which hold their attributes.
"""

import io
import math
import pickle
import struct
import sys
from collections import OrderedDict
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from darts_cli import DartsError

MAGIC = 0x1950A86A20F9469CFC6C
START = b"\x80"  # of every pickle since protocol 2
TOO_MANY = "it claims more numbers than it holds"
LONGEST = 1000  # numbers of a range; a cell's output joins a few nodes
DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
MODULES = {  # classes that were pickled whole with the original's recurrent model
    "model": ("RNNModel", "DARTSCell"),
    "utils": ("LockedDropout",),
    "genotypes": ("Genotype",),
    "torch.nn.modules.sparse": ("Embedding",),
    "torch.nn.modules.linear": ("Linear",),
    "torch.nn.modules.container": ("ModuleList", "ParameterList"),
    "torch.nn.modules.dropout": ("Dropout", "Dropout2d"),
}


class Plain:
    """What stands for an object of a class that is not loaded: its name, its arguments, and its attributes in `vars`."""

    kind = ""

    def __new__(cls, *arguments):
        plain = super().__new__(cls)
        plain.arguments = arguments
        return plain

    def __init__(self, *_):
        pass


def load(data: bytes) -> object:
    """The object in such a file. Raises DartsError naming what a file refers to without need, or that it is damaged."""
    file = io.BytesIO(data)
    reader = _Reader(file, len(data))
    try:
        if not data.startswith(START) or reader.load() != MAGIC:
            raise DartsError("is no checkpoint, or is damaged")
        _version, _system = (_Reader(file, len(data)).load() for _ in range(2))
        reader = _Reader(file, len(data))
        found = reader.load()
        for key in _Reader(file, len(data)).load():
            reader.storages[key] = _filled(reader.storages[key], file)
        return found
    except DartsError:
        raise
    except Exception as error:  # a damaged pickle ends in any exception
        raise DartsError(f"is no checkpoint, or is damaged ({type(error).__name__})") from None


def check(data: bytes, sizes: dict[str, int]) -> None:
    """Check the single pickle of the form since 1.6, whose numbers are in parts of these sizes in bytes ("data/0").

    Raises DartsError naming what it refers to without need, or that it claims more numbers than there are.
    """
    try:
        _Checker(io.BytesIO(data), sizes).load()
    except DartsError:
        raise
    except Exception as error:  # a damaged pickle ends in any exception
        raise DartsError(f"is no checkpoint, or is damaged ({error or type(error).__name__})") from None


class _Reader(pickle._Unpickler):
    """The unpickler written in Python, whose memory a file cannot exhaust by claiming large numbers."""

    dispatch: ClassVar = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: io.BytesIO, room: int):
        super().__init__(file)
        self.storages: dict[str, Tensor] = {}
        self.room = room  # bytes of numbers that the file can hold at most

    def find_class(self, module: str, name: str) -> object:
        if name in MODULES.get(module, ()):
            return type(name, (Plain,), {"kind": name})
        if (module, name) in _FUNCTIONS:
            return _FUNCTIONS[module, name]
        if module in ("torch", "torch.cuda") and name in DTYPES:
            return DTYPES[name]
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        raise DartsError(f"refers to {module}.{name}, which a checkpoint has no need of; nothing of it was read")

    def persistent_load(self, address: tuple) -> object:
        if address[0] == "module":  # class, and the text of its source
            return address[1]
        dtype, key, count = _storage(address)
        if key not in self.storages:
            self.room -= count * dtype.itemsize
            if self.room < 0:
                raise ValueError(TOO_MANY)
            self.storages[key] = torch.zeros(count, dtype=dtype)
        return self.storages[key]

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Tensor):  # a parameter's: whether it needs a gradient, and hooks
            return
        if not isinstance(target, Plain | OrderedDict) or not isinstance(state, dict):
            raise ValueError("state for what has none")
        vars(target).update({sys.intern(name): value for name, value in state.items()})

    def load_reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack[-1]
        if not isinstance(arguments, tuple):
            raise ValueError("arguments that are no tuple")
        if function not in _FUNCTIONS.values() and not (isinstance(function, type) and issubclass(function, Plain)):
            raise ValueError("a call of what is no function")
        self.stack[-1] = function(*arguments)

    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.REDUCE[0]] = load_reduce


class _Checker(_Reader):
    """Makes everything but the numbers."""

    def __init__(self, file: io.BytesIO, sizes: dict[str, int]):
        super().__init__(file, 0)
        self.sizes = sizes

    def persistent_load(self, address: tuple) -> Tensor:
        dtype, key, count = _storage(address)
        if count * dtype.itemsize > self.sizes[f"data/{key}"]:
            raise ValueError(TOO_MANY)
        return torch.empty(count, dtype=dtype, device="meta")


def _storage(address: tuple) -> tuple[torch.dtype, str, int]:
    """Kind and number of the numbers in a storage, and where they are."""
    kind, dtype, key, _place, count = address[:5]
    if kind != "storage" or not isinstance(dtype, torch.dtype) or address[5:] not in ((None,), ()) or count < 0:
        raise ValueError("not the address of a storage")
    return dtype, key, count


def _tensor(storage: Tensor, offset: int, size: tuple, stride: tuple, *_) -> Tensor:
    if math.prod(size) > storage.numel():
        raise ValueError("a tensor larger than its storage")
    return torch.as_strided(storage, size, stride, offset)


def _parameter(tensor: Tensor, *_) -> Tensor:
    return tensor


def _nothing(*_) -> None:
    return None


def _range(*numbers: int) -> list[int]:
    found = range(*numbers)
    if len(found) > LONGEST:
        raise ValueError("a range longer than any cell")
    return list(found)


def _set(items: list = ()) -> set:
    return set(items) if isinstance(items, list | tuple) else set()


_FUNCTIONS: dict[tuple[str, str], Callable] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("__builtin__", "set"): _set,
    ("builtins", "set"): _set,
    ("__builtin__", "xrange"): _range,
    ("builtins", "range"): _range,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch.nn.parameter", "Parameter"): _parameter,
    ("torch", "Size"): tuple,
    ("torch.nn.backends.thnn", "_get_thnn_function_backend"): _nothing,
}


def _filled(storage: Tensor, file: io.BytesIO) -> Tensor:
    """Fill the storage, which tensors already look at, with the numbers that come next."""
    (count,) = struct.unpack("<q", file.read(8))
    size = storage.numel() * storage.dtype.itemsize
    numbers = file.read(size)
    if count != storage.numel() or len(numbers) != size:
        raise ValueError("numbers are missing")
    if count:
        storage.copy_(torch.frombuffer(bytearray(numbers), dtype=storage.dtype))
    return storage


def module_state(module: Plain, prefix: str = "", depth: int = 0) -> dict[str, Tensor]:
    """The flat state dict of a module that was pickled whole. Raises DartsError when it is none."""
    if depth > 20 or not isinstance(module, Plain):
        raise DartsError("holds no module")
    found = {}
    for kind in ("_parameters", "_buffers"):
        for name, tensor in dict(vars(module).get(kind, {})).items():
            if isinstance(tensor, Tensor):
                found[f"{prefix}{name}"] = tensor
    for name, inner in dict(vars(module).get("_modules", {})).items():
        found |= module_state(inner, f"{prefix}{name}.", depth + 1)
    return found


def plain_attributes(module: Plain) -> dict:
    """Its attributes that are numbers, text, or lists and tuples of such; a genotype as (edges, concat)."""
    found = {}
    for name, value in vars(module).items():
        if isinstance(value, Plain) and value.kind == "Genotype":
            found[name] = [list(part) for part in value.arguments]
        elif isinstance(value, bool | int | float | str) and not name.startswith("_"):
            found[name] = value
    return found
