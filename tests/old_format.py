"""Checkpoints as PyTorch 0.3.1 wrote them from a GPU: five pickles, then the raw numbers of every storage."""

import pickle
import struct
import sys
import types

import torch

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
SYSTEM = {"protocol_version": PROTOCOL, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}


class _Storage:
    def __init__(self, tensor):
        self.tensor = tensor


class _Pickler(pickle.Pickler):
    def __init__(self, file):
        super().__init__(file, protocol=2)
        self.storages = []

    def persistent_id(self, value):
        if not isinstance(value, _Storage):
            return None
        self.storages.append(value)
        key = str(94464000000000 + 64 * len(self.storages))
        return ("storage", torch.cuda.FloatStorage, key, "cuda:0", value.tensor.numel(), None)

    def reducer_override(self, value):
        if not isinstance(value, torch.Tensor):
            return NotImplemented
        return torch._utils._rebuild_tensor, (_Storage(value), 0, tuple(value.shape), value.contiguous().stride())


def write(path, value):
    """Write containers of float32 tensors in that form."""
    with open(path, "wb") as file:
        _write(file, value, _Pickler(file))


def _write(file, value, pickler):
    for each in (MAGIC, PROTOCOL, SYSTEM):
        pickle.dump(each, file, protocol=2)
    pickler.dump(value)
    pickle.dump([str(94464000000000 + 64 * (i + 1)) for i in range(len(pickler.storages))], file, protocol=2)
    for storage in pickler.storages:
        file.write(struct.pack("<q", storage.tensor.numel()))
        file.write(storage.tensor.contiguous().numpy().tobytes())


# ---- a whole model, pickled


class _Parameter:
    def __init__(self, tensor):
        self.tensor = tensor


def _stand_in(module, name):
    """A class that pickles under another's name."""
    kind = type(name, (), {"__module__": module, "__qualname__": name})
    if module not in sys.modules:
        sys.modules[module] = types.ModuleType(module)
    setattr(sys.modules[module], name, kind)
    return kind


class _ModelPickler(_Pickler):
    """With the classes of modules as persistent ids, their source beside them, as PyTorch before 1.6 wrote them."""

    def __init__(self, file, kinds):
        super().__init__(file)
        self.kinds, self.begun = kinds, set()

    def persistent_id(self, value):
        if isinstance(value, type) and value in self.kinds and value not in self.begun:
            self.begun.add(value)
            return ("module", value, f"{value.__module__}.py", f"class {value.__name__}: ...")
        return super().persistent_id(value)

    def reducer_override(self, value):
        if isinstance(value, _Parameter):
            return torch.nn.parameter.Parameter, (value.tensor, True)
        return super().reducer_override(value)


def rnn_model(state, edges, **attributes):
    """Stand-ins for the original's RNNModel with that state dict (original names), and the classes that they are of."""
    names = {"model": ("RNNModel", "DARTSCell"), "utils": ("LockedDropout",)}
    kinds = {name: _stand_in(module, name) for module, group in names.items() for name in group}

    def module(kind, parameters=(), modules=(), **further):
        made = kind()
        made._parameters = {name: _Parameter(tensor) for name, tensor in parameters}
        made._buffers, made._modules, made.training = {}, dict(modules), False
        vars(made).update(further)
        return made

    plain, cell_kind = kinds["LockedDropout"], kinds["DARTSCell"]
    Ws = [(str(i), state[f"rnns.0._Ws.{i}"]) for i in range(len(state) - 3)]
    cell = module(cell_kind, [("_W0", state["rnns.0._W0"])], [("_Ws", module(plain, Ws))], genotype=None, edges=edges)
    modules = {
        "lockdrop": module(plain),
        "encoder": module(plain, [("weight", state["encoder.weight"])]),
        "rnns": module(plain, modules=[("0", cell)]),
        "decoder": module(plain, [("weight", state["encoder.weight"]), ("bias", state["decoder.bias"])]),
    }
    return module(kinds["RNNModel"], modules=modules.items(), **attributes), set(kinds.values())


def write_model(path, model, kinds):
    with open(path, "wb") as file:
        _write(file, model, _ModelPickler(file, kinds))
