"""Checkpoints of the original code (quark0/darts): reading them, and loading their tensors into our models."""

import re
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from darts_cli import DartsError
from darts_cli.formats import unpickle
from darts_cli.runs import checkpoint
from darts_cli.spaces.space import default

STATE_DICTS = ("state_dict", "model_state_dict", "model", "net", "network")  # where training scripts keep one
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")
COUNTERS = ("total_ops", "total_params")  # of thop, which registers them as buffers


def load_state(model: nn.Module, state_dict: dict[str, Tensor]) -> None:
    """Copy a state dict with the original's key names into a model, in the model's dtype.

    Search networks: the dict holds no alphas, and they stay as they are. A missing `num_batches_tracked` (PyTorch before 0.4.1
    had none) is tolerated. Raises DartsError listing everything else that does not fit; the model is then unchanged.
    """
    ours = {original_key(model, key): tensor for key, tensor in model.state_dict().items() if not key.startswith("alphas.")}
    shared = [key for key in ours if key in state_dict]
    tensors = [key for key in shared if isinstance(state_dict[key], Tensor)]
    differences = {
        "missing": [key for key in ours if key not in state_dict and not key.endswith("num_batches_tracked")],
        "left over": [str(key) for key in state_dict if key not in ours],
        "not a tensor": [key for key in shared if key not in tensors],
        "shape": [
            f"{key} {tuple(state_dict[key].shape)} instead of {tuple(ours[key].shape)}"
            for key in tensors
            if state_dict[key].shape != ours[key].shape
        ],
    }
    listed = [f"{kind}: {', '.join(keys)}" for kind, keys in differences.items() if keys]
    if listed:
        raise DartsError(f"the state dict does not fit this {type(model).__name__}; {'; '.join(listed)}")
    with torch.no_grad():
        for key in tensors:
            ours[key].copy_(state_dict[key])


def original_key(model: nn.Module, key: str) -> str:
    """The original's name of a tensor in the model's state dict.

    The original kept the edges of a cell as `_ops`, the operations of a mixed edge as `_ops` again, and numbered the layers of
    an operation: `cells.3.edges.5.sep_conv_3x3.depth1.weight` was `cells.3._ops.5._ops.4.op.1.weight`. It had no module around
    the ImageNet stem. Its recurrent cell was `rnns.0`, with the weights `_W0` and `_Ws`. The search network of NAS-Bench-201
    called the second operation of the edge from node 0 to node 1 `edges.1<-0.1`.
    """
    path = key.split(".")
    for end in range(len(path)):
        names = getattr(model.get_submodule(".".join(key.split(".")[:end])), "original_names", {})
        path[end] = names.get(path[end], path[end])
    key = re.sub(r"^stem\.(stem\d\.)", r"\1", ".".join(path))
    key = re.sub(r"^cell\.(W?)", lambda match: f"rnns.0.{'_' * bool(match[1])}{match[1]}", key)
    space = getattr(model, "space", None)
    if space is not None and space.macro == "nas-bench-201":
        ends = [f"{node}<-{state}" for state, node in space.edges()]
        named = re.compile(rf"edges\.(\d+)\.({'|'.join(space.operations)})\.")
        return named.sub(lambda m: f"edges.{ends[int(m[1])]}.{space.operations.index(m[2])}.", key)
    key = re.sub(r"\.edges\.", "._ops.", key)
    operations = default("cnn").operations
    return re.sub(rf"(\._ops\.\d+)\.({'|'.join(operations)})\.", lambda m: f"{m[1]}._ops.{operations.index(m[2])}.", key)


class Checkpoint(NamedTuple):
    """A checkpoint in memory, ours or the original's."""

    path: Path
    state: dict

    @property
    def domain(self) -> str:
        """The domain of its network, cnn or rnn."""
        if "command" in self.state:
            return "rnn" if str(self.state["command"]).endswith("rnn") else "cnn"
        try:
            return "rnn" if "encoder.weight" in weights(self.state) else "cnn"
        except DartsError:
            return "cnn"


def open_checkpoint(path: str | Path) -> Checkpoint:
    """The checkpoint in a file, or the best one in a run folder. Raises DartsError as `read_checkpoint` does."""
    path = checkpoint.file(path)
    return Checkpoint(path, read_checkpoint(path))


def read_checkpoint(path: str | Path) -> dict:
    """The contents of a checkpoint, old (PyTorch 0.3) or new, on the CPU: plain containers, tensors and primitives.

    The original's `cifar10_model.pt` is a flat state dict; its `imagenet_model.pt` holds one as "state_dict"; its
    `ptb_model.pt` is a pickled RNNModel: {"state_dict": flat, "config": the plain attributes of the model and its cell}.
    Nothing in the file is executed. Raises DartsError for a file that refers to any other class or function, naming it, and for
    a file that is damaged or not a checkpoint.
    """
    try:
        data = checkpoint.verified(Path(path))
        state = checkpoint.loaded(data) if data[:2] == b"PK" else unpickle.load(data)
        if isinstance(state, unpickle.StandIn):
            return unpickle.model_state(state)
    except OSError as error:
        raise DartsError(f"{path}: {'no such file' if isinstance(error, FileNotFoundError) else error.strerror}") from None
    except DartsError as error:
        remedy = f"{checkpoint.PREVIOUS} beside it is intact" if checkpoint.spare(Path(path)) else "name another"
        raise DartsError(f"{path}: {error}; {remedy}") from None
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise DartsError(f"{path}: is not a checkpoint but a {type(state).__name__}")
    return state


def weights(state: dict) -> dict[str, Tensor]:
    """The state dict in a checkpoint that is not ours: flat, or under a usual name.

    The prefixes that DataParallel, torch.compile and Lightning add to all keys are removed, and the counters that a profiler
    left among the weights. Raises DartsError, saying what the checkpoint holds, when it has no state dict.
    """
    found = next((state[key] for key in STATE_DICTS if isinstance(state.get(key), dict)), state)
    found = {key: tensor for key, tensor in found.items() if str(key).rpartition(".")[2] not in COUNTERS}
    if not found or not all(isinstance(key, str) and isinstance(tensor, Tensor) for key, tensor in found.items()):
        listed = ", ".join(str(key)[:30] for key in list(found)[:6]) or "nothing"
        raise DartsError(f"it holds no state dict, neither by itself nor as {' or '.join(STATE_DICTS)}, but {listed}")
    while prefix := next((prefix for prefix in PREFIXES if all(key.startswith(prefix) for key in found)), None):
        found = {key.removeprefix(prefix): tensor for key, tensor in found.items()}
    return found


def sizes(state_dict: dict[str, Tensor]) -> dict:
    """The arguments of `cnn.model.Network`, except the genotype, that fit a state dict of the original.

    Raises DartsError when it belongs to another kind of network.
    """
    shaped = {key: tensor for key, tensor in state_dict.items() if tensor.dim()}
    cifar_stem, imagenet_stem = shaped.get("stem.0.weight"), shaped.get("stem1.1.weight")
    classifier, layers = shaped.get("classifier.weight"), cells(state_dict)
    if classifier is None or not layers or (cifar_stem is None) == (imagenet_stem is None):
        listed = ", ".join(key[:40] for key in list(state_dict)[:3])
        raise DartsError(f"it has no stem, no cells or no classifier of a convolutional network, but {listed}, ...")
    return {
        "channels": len(cifar_stem) // 3 if imagenet_stem is None else len(imagenet_stem),
        "num_classes": len(classifier),
        "layers": layers,
        "auxiliary": any(key.startswith("auxiliary_head.") for key in state_dict),
        "stem": "cifar" if imagenet_stem is None else "imagenet",
    }


def cells(state_dict: dict[str, Tensor]) -> int:
    """The number of cells in the state dict of a convolutional network, ours or the original's."""
    return len({key.split(".")[1] for key in state_dict if key.startswith("cells.")})
