"""Reader of PyTorch's checkpoint format before 1.6 (pickles, then raw numbers) that executes nothing a file names.

Every name in a file is looked up in a short list; only tensors and containers can result. `torch.load(weights_only=True)` reads
this format too, but not the original's `ptb_model.pt`, a model pickled as an object. Its tensors must be read here in any case,
so a second path through torch.load for the original's other two checkpoints would only add code.
"""

import io
import math
import pickle
import re
import struct
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from darts_cli import DartsError

MAGIC = 0x1950A86A20F9469CFC6C
PICKLE_START = b"\x80"  # of every pickle since protocol 2
MAX_RANGE_NUMBERS = 1000  # a cell's output joins a few nodes
MAX_MODULE_DEPTH = 20
# The classes of the original's pickled model.
STAND_INS = ["model.RNNModel", "model.DARTSCell", "utils.LockedDropout", "genotypes.Genotype", "torch.nn.modules.linear.Linear"]
STAND_INS += ["torch.nn.modules.container.ModuleList", "torch.nn.modules.container.ParameterList"]
STAND_INS += ["torch.nn.modules.dropout.Dropout", "torch.nn.modules.dropout.Dropout2d", "torch.nn.modules.sparse.Embedding"]


class StandIn:
    """An object whose class is not loaded: the class's name, the constructor's arguments, and its attributes in `vars`."""

    kind = ""

    def __new__(cls, *arguments):
        stand_in = super().__new__(cls)
        stand_in.arguments = arguments
        return stand_in

    def __init__(self, *_):
        pass


def load(data: bytes) -> object:
    """The object in a file. Raises DartsError when it is damaged, or naming what it refers to that no checkpoint needs."""
    file = io.BytesIO(data)
    try:
        if not data.startswith(PICKLE_START) or _Reader(file, len(data)).load() != MAGIC:
            raise DartsError("is no checkpoint, or is damaged")
        _version, _system = (_Reader(file, len(data)).load() for _ in range(2))
        reader = _Reader(file, len(data))
        value = reader.load()
        for key in _Reader(file, len(data)).load():
            _fill(reader.storages[key], file)
        return value
    except DartsError:
        raise
    except Exception as error:  # a damaged pickle can raise any exception
        raise DartsError(f"is no checkpoint, or is damaged ({type(error).__name__})") from None


def check(data: bytes, sizes: dict[str, int]) -> None:
    """Check the pickle of the format since 1.6; `sizes`: of the file's other parts, in bytes, by name ("data/0").

    Raises DartsError when it claims more numbers than there are, or naming what it refers to that no checkpoint needs.
    """
    try:
        _Checker(io.BytesIO(data), sizes).load()
    except DartsError:
        raise
    except Exception as error:  # a damaged pickle can raise any exception
        raise DartsError(f"is no checkpoint, or is damaged ({error or type(error).__name__})") from None


class _Reader(pickle._Unpickler):
    """The unpickler written in Python: a file cannot exhaust its memory by claiming large numbers."""

    dispatch: ClassVar = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: io.BytesIO, room: int):
        super().__init__(file)
        self.storages: dict[str, Tensor] = {}
        self.room = room  # bytes that the storages can take at most

    def find_class(self, module: str, name: str) -> object:
        path = f"{module}.{name}"
        if path in STAND_INS:
            return type(name, (StandIn,), {"kind": name})
        if path in _NAMES:
            return _NAMES[path]
        raise DartsError(f"refers to {path}, which no checkpoint needs; nothing was loaded")

    def persistent_load(self, address: tuple) -> object:
        if address[0] == "module":  # a class, and the text of its source
            return address[1]
        kind, dtype, key, _device, count = address[:5]
        if kind != "storage" or not isinstance(dtype, torch.dtype) or address[5:] not in ((None,), ()) or count < 0:
            raise ValueError("not the address of a storage")
        return self.storage(key, count, dtype)

    def storage(self, key: str, count: int, dtype: torch.dtype) -> Tensor:
        """The storage with that key; its numbers come after the pickles."""
        if key not in self.storages:
            self.room -= count * dtype.itemsize
            _check_room(self.room)
            self.storages[key] = torch.zeros(count, dtype=dtype)
        return self.storages[key]

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Tensor):  # the state of a parameter: hooks, and whether it needs a gradient
            return
        if isinstance(target, _NumberType):  # the second value is the byte order
            _number_type(state[1] + target)
            return
        if not isinstance(target, StandIn | OrderedDict) or not isinstance(state, dict):
            raise ValueError("state for an object that has none")
        vars(target).update({sys.intern(name): value for name, value in state.items()})

    def load_reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack[-1]
        if not isinstance(arguments, tuple):
            raise ValueError("arguments that are not a tuple")
        self.stack[-1] = function(*arguments)  # which `find_class` has returned: nothing else here can be called

    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.REDUCE[0]] = load_reduce


class _Checker(_Reader):
    """Makes everything but the numbers."""

    def __init__(self, file: io.BytesIO, sizes: dict[str, int]):
        super().__init__(file, 0)
        self.sizes = sizes

    def storage(self, key: str, count: int, dtype: torch.dtype) -> Tensor:
        _check_room(self.sizes[f"data/{key}"] - count * dtype.itemsize)
        return torch.empty(count, dtype=dtype, device="meta")


def _check_room(left: int) -> None:
    if left < 0:
        raise ValueError("it claims more numbers than it holds")


def _fill(storage: Tensor, file: io.BytesIO) -> None:
    """Fill a storage, which tensors already view, with the numbers that come next in the file."""
    (count,) = struct.unpack("<q", file.read(8))
    size = storage.numel() * storage.dtype.itemsize
    numbers = file.read(size)
    if count != storage.numel() or len(numbers) != size:
        raise ValueError("numbers are missing")
    if count:
        storage.copy_(torch.frombuffer(bytearray(numbers), dtype=storage.dtype))


# ---- what a file may name


def _tensor(storage: Tensor, offset: int, size: tuple, stride: tuple, *_) -> Tensor:
    if math.prod(size) > storage.numel():
        raise ValueError("a tensor larger than its storage")
    return torch.as_strided(storage, size, stride, offset)


def _range(*limits: int) -> list[int]:
    numbers = range(*limits)
    if len(numbers) > MAX_RANGE_NUMBERS:
        raise ValueError("a range longer than any cell")
    return list(numbers)


def _container(kind: type) -> Callable:
    """Its constructor, of nothing that could be large in memory but small in the file, such as a tensor."""
    return lambda items=(): kind(items) if isinstance(items, list | tuple) else kind()


class _NumberType(str):
    """A dtype of NumPy, as its letter and size: f8."""


def _number_type(code: str, *_) -> _NumberType:
    """Raises ValueError unless it is that of a number in this machine's byte order."""
    if not re.fullmatch(r"[<=|]?[biuf][1248]", code):
        raise ValueError("a type that is no number's")
    return _NumberType(code)


def _number(kind: _NumberType, data: bytes) -> bool | int | float:
    """A scalar of NumPy, such as the best accuracy that scripts write beside the weights."""
    return np.frombuffer(data, _number_type(kind), count=1).item()


def _bytes(text: str, encoding: str) -> bytes:
    """How pickles before protocol 3 write bytes."""
    if encoding != "latin1":
        raise ValueError("text that is no bytes")
    return text.encode("latin1")


_STORAGES = {"Float": torch.float32, "Double": torch.float64, "Half": torch.float16, "BFloat16": torch.bfloat16}
_STORAGES |= {"Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8}
_STORAGES |= {"Bool": torch.bool}
_NAMES: dict[str, object] = {
    **{f"{module}.{name}Storage": dtype for module in ("torch", "torch.cuda") for name, dtype in _STORAGES.items()},
    **{f"torch.{name}": dtype for name, dtype in vars(torch).items() if isinstance(dtype, torch.dtype)},
    **{f"numpy.{core}.multiarray.scalar": _number for core in ("core", "_core")},
    "numpy.dtype": _number_type,
    "_codecs.encode": _bytes,
    "__builtin__.set": _container(set),
    "__builtin__.xrange": _range,
    "builtins.set": _container(set),
    "builtins.range": _range,
    "collections.OrderedDict": _container(OrderedDict),
    "torch.Size": _container(tuple),
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
    "torch.nn.parameter.Parameter": lambda tensor, *_: tensor,
    "torch.nn.backends.thnn._get_thnn_function_backend": lambda *_: None,
}


# ---- a model pickled as an object


def model_state(model: StandIn) -> dict[str, dict]:
    """Its flat state dict as "state_dict"; as "config" its plain attributes and those of its recurrent cell.

    Raises DartsError when it is no module.
    """
    modules = dict(_modules(model))
    state = {
        f"{prefix}{name}": tensor
        for prefix, module in modules.items()
        for kind in ("_parameters", "_buffers")
        for name, tensor in _entries(module, kind)
        if isinstance(tensor, Tensor)
    }
    cell = modules.get("rnns.0.", model)
    return {"state_dict": state, "config": _plain_attributes(cell) | _plain_attributes(model)}


def _modules(module: object, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, StandIn]]:
    """A module and those inside it, each with the prefix of its keys in the state dict."""
    if depth > MAX_MODULE_DEPTH or not isinstance(module, StandIn):
        raise DartsError("holds no module")
    yield prefix, module
    for name, inner in _entries(module, "_modules"):
        yield from _modules(inner, f"{prefix}{name}.", depth + 1)


def _entries(module: StandIn, kind: str) -> Iterable[tuple[str, object]]:
    entries = vars(module).get(kind, {})
    if not isinstance(entries, dict):
        raise DartsError(f"is no checkpoint, or is damaged (its {kind})")
    return entries.items()


def _plain_attributes(module: StandIn) -> dict:
    """Its attributes that are numbers or text; a genotype as [edges, concat]."""
    attributes = {}
    for name, value in vars(module).items():
        if isinstance(value, StandIn) and value.kind == "Genotype":
            attributes[name] = [list(part) if isinstance(part, list | tuple) else part for part in value.arguments]
        elif isinstance(value, bool | int | float | str) and not name.startswith("_"):
            attributes[name] = value
    return attributes
