"""Checkpoints of the original code (quark0/darts), and their tensors in the models of this one."""

import re
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from darts_cli import DartsError
from darts_cli.formats import unpickle
from darts_cli.runs import checkpoint
from darts_cli.spaces import SPACES

SEARCHED = SPACES["cnn"].searched


def load_state(model: nn.Module, state_dict: dict[str, Tensor]) -> None:
    """Copy a state dict with the original's key names into a model, in the model's dtype.

    Search networks: the dict holds no alphas, and they stay as they are. A missing `num_batches_tracked` (PyTorch before 0.4.1
    had none) is tolerated. Raises DartsError listing what else is missing, left over, no tensor or of another shape; the model
    is then unchanged.
    """
    ours = {original_key(model, key): tensor for key, tensor in model.state_dict().items() if not key.startswith("alphas.")}
    missing = [key for key in ours if key not in state_dict and not key.endswith("num_batches_tracked")]
    left_over = [key for key in state_dict if key not in ours]
    both = [key for key in ours if key in state_dict]
    others = [key for key in both if not isinstance(state_dict[key], Tensor)]
    shapes = [
        f"{key} {tuple(state_dict[key].shape)} instead of {tuple(ours[key].shape)}"
        for key in both
        if key not in others and state_dict[key].shape != ours[key].shape
    ]
    found = {"missing": missing, "left over": [*map(str, left_over)], "no tensor": others, "shape": shapes}
    wrong = [f"{what}: {', '.join(keys)}" for what, keys in found.items() if keys]
    if wrong:
        raise DartsError(f"the state dict does not fit this {type(model).__name__}; {'; '.join(wrong)}")
    with torch.no_grad():
        for key in both:
            ours[key].copy_(state_dict[key])


def original_key(model: nn.Module, key: str) -> str:
    """The original's name of a tensor of the model.

    It kept the edges of a cell as `_ops`, the operations of a mixed edge as `_ops` again, and the layers of some as `op`:
    `cells.3.edges.5.sep_conv_3x3.1.weight` was `cells.3._ops.5._ops.4.op.1.weight`. Its ImageNet stem was no module. Its
    recurrent cell was `rnns.0`, the weights `_W0` and `_Ws`.
    """
    path = key.split(".")
    for end in range(len(path) - 1, 0, -1):
        if getattr(model.get_submodule(".".join(path[:end])), "original_op", False):
            path.insert(end, "op")
    key = re.sub(r"^stem\.(stem\d\.)", r"\1", ".".join(path))
    key = re.sub(r"^cell\.(W?)", lambda match: f"rnns.0.{'_' * bool(match[1])}{match[1]}", key)
    key = re.sub(r"\.edges\.", "._ops.", key)
    return re.sub(rf"(\._ops\.\d+)\.({'|'.join(SEARCHED)})\.", lambda m: f"{m[1]}._ops.{SEARCHED.index(m[2])}.", key)


class Checkpoint(NamedTuple):
    """A checkpoint that has been read, ours or the original's."""

    path: Path
    state: dict

    @property
    def domain(self) -> str:
        """The domain of its network, cnn or rnn."""
        if "command" in self.state:
            return "rnn" if str(self.state["command"]).endswith("rnn") else "cnn"
        weights = self.state.get("state_dict", self.state)
        return "rnn" if isinstance(weights, dict) and "encoder.weight" in weights else "cnn"


def open_checkpoint(path: str | Path) -> Checkpoint:
    """The checkpoint in that file, or the best one of that run folder. Raises DartsError as `read_checkpoint` does."""
    path = checkpoint.file(path)
    return Checkpoint(path, read_checkpoint(path))


def read_checkpoint(path: str | Path) -> dict:
    """What a checkpoint holds, old (PyTorch 0.3) or new, on the CPU: plain containers, tensors and primitives.

    The original's `cifar10_model.pt` is a flat state dict, its `imagenet_model.pt` holds one as "state_dict". Its
    `ptb_model.pt` is a whole RNNModel: {"state_dict": flat, "config": its plain attributes, and those of its cell}. Nothing in
    the file is executed: a file that names any other class or function is refused with that name, in a DartsError; so is one
    that is cut short or no checkpoint.
    """
    try:
        data = checkpoint.verified(Path(path))
        state = checkpoint.loaded(data) if data[:2] == b"PK" else unpickle.load(data)
        if isinstance(state, unpickle.Plain):
            return _whole_model(state)
    except OSError as error:
        raise DartsError(f"{path}: {'no such file' if isinstance(error, FileNotFoundError) else error.strerror}") from None
    except DartsError as error:
        remedy = f"{checkpoint.PREVIOUS} beside it is intact" if checkpoint.spare(Path(path)) else "name another"
        raise DartsError(f"{path}: {error}; {remedy}") from None
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise DartsError(f"{path}: is no checkpoint but a {type(state).__name__}")
    return state


def _whole_model(model: unpickle.Plain) -> dict:
    try:
        state = unpickle.module_state(model)
        cells = dict(vars(model).get("_modules", {})).get("rnns")
        inner = dict(vars(cells).get("_modules", {})).values() if isinstance(cells, unpickle.Plain) else ()
        config = {}
        for module in (*inner, model):
            config |= unpickle.plain_attributes(module)
    except (TypeError, ValueError) as error:
        raise DartsError(f"is no checkpoint, or is damaged ({type(error).__name__})") from None
    return {"state_dict": state, "config": config}


def weights(state: dict) -> dict[str, Tensor]:
    """The state dict in a checkpoint of the original, without the prefix that training on several GPUs has put before its keys.

    Raises DartsError when there is none.
    """
    found = state.get("state_dict", state)
    tensors = isinstance(found, dict) and all(isinstance(k, str) and isinstance(t, Tensor) for k, t in found.items())
    if not found or not tensors:
        raise DartsError("it holds no state dict")
    return {key.removeprefix("module."): tensor for key, tensor in found.items()}


def sizes(state_dict: dict[str, Tensor]) -> dict:
    """The arguments of `cnn.model.Network`, but the genotype, that fit a state dict of the original.

    Raises DartsError when it is not of such a network.
    """
    shaped = {key: tensor for key, tensor in state_dict.items() if tensor.dim()}
    small, large, last = (shaped.get(key) for key in ("stem.0.weight", "stem1.1.weight", "classifier.weight"))
    layers = cells(state_dict)
    if last is None or not layers or (small is None) == (large is None):
        raise DartsError("it has no stem, no cells or no classifier of a convolutional network")
    return {
        "channels": len(small) // 3 if large is None else len(large),
        "num_classes": len(last),
        "layers": layers,
        "auxiliary": any(key.startswith("auxiliary_head.") for key in state_dict),
        "stem": "cifar" if large is None else "imagenet",
    }


def cells(state_dict: dict[str, Tensor]) -> int:
    """How many cells a convolutional network of that state dict has, ours or the original's."""
    return len({key.split(".")[1] for key in state_dict if key.startswith("cells.")})
