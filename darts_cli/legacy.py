"""State dicts of the original code (quark0/darts), read into the models of this one."""

import re

import torch
from torch import Tensor, nn

from darts_cli import DartsError
from darts_cli.cnn.ops import DilConv, ReLUConvBN, SepConv
from darts_cli.genotype import SPACES

SEARCHED = SPACES["cnn"].searched


def load_state(model: nn.Module, state_dict: dict[str, Tensor]) -> None:
    """Copy a state dict with the original's key names into a model, in the model's dtype.

    Search networks: the dict holds no alphas, and they stay as they are. A missing `num_batches_tracked` (PyTorch before 0.4.1
    had none) is tolerated. Raises DartsError listing what else is missing, left over or of another shape; the model is then
    unchanged.
    """
    ours = {original_key(model, key): tensor for key, tensor in model.state_dict().items() if not key.startswith("alphas.")}
    missing = [key for key in ours if key not in state_dict and not key.endswith("num_batches_tracked")]
    left_over = [key for key in state_dict if key not in ours]
    both = [key for key in ours if key in state_dict]
    shapes = [
        f"{key} {tuple(state_dict[key].shape)} instead of {tuple(ours[key].shape)}"
        for key in both
        if state_dict[key].shape != ours[key].shape
    ]
    wrong = [
        f"{what}: {', '.join(keys)}"
        for what, keys in (("missing", missing), ("left over", left_over), ("shape", shapes))
        if keys
    ]
    if wrong:
        raise DartsError(f"the state dict does not fit this {type(model).__name__}; {'; '.join(wrong)}")
    with torch.no_grad():
        for key in both:
            ours[key].copy_(state_dict[key])


def original_key(model: nn.Module, key: str) -> str:
    """The original's name of a tensor of the model.

    It kept the edges of a cell as `_ops`, the operations of a mixed edge as `_ops` again, and the layers of some as `op`:
    `cells.3.edges.5.sep_conv_3x3.1.weight` was `cells.3._ops.5._ops.4.op.1.weight`. Its ImageNet stem was no module.
    """
    path = key.split(".")
    for end in range(len(path) - 1, 0, -1):
        if isinstance(model.get_submodule(".".join(path[:end])), ReLUConvBN | DilConv | SepConv):
            path.insert(end, "op")
    key = re.sub(r"^stem\.(stem\d\.)", r"\1", ".".join(path))
    key = re.sub(r"\.edges\.", "._ops.", key)
    return re.sub(rf"(\._ops\.\d+)\.({'|'.join(SEARCHED)})\.", lambda m: f"{m[1]}._ops.{SEARCHED.index(m[2])}.", key)
