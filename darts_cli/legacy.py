"""State dicts of the original code (quark0/darts), read into the models of this one."""

import re

import torch
from torch import Tensor, nn

from darts_cli import DartsError
from darts_cli.genotype import SPACES


def load_state(model: nn.Module, state_dict: dict[str, Tensor]) -> None:
    """Copy a state dict with the original's key names into a model, in the model's dtype.

    Search networks: the dict holds no alphas, and they stay as they are. A missing `num_batches_tracked` (PyTorch before 0.4.1
    had none) is tolerated. Raises DartsError listing what else is missing, left over or of another shape; the model is then
    unchanged.
    """
    given = {_our_key(key): tensor for key, tensor in state_dict.items()}
    ours = {key: tensor for key, tensor in model.state_dict().items() if not key.startswith("alphas.")}
    missing = [key for key in ours if key not in given and not key.endswith("num_batches_tracked")]
    left_over = [key for key in state_dict if _our_key(key) not in ours]
    shapes = [
        f"{key} {tuple(given[key].shape)} instead of {tuple(ours[key].shape)}"
        for key in ours
        if key in given and given[key].shape != ours[key].shape
    ]
    wrong = [
        f"{what}: {', '.join(keys[:5])}{f' and {len(keys) - 5} more' if len(keys) > 5 else ''}"
        for what, keys in (("missing", missing), ("left over", left_over), ("shape", shapes))
        if keys
    ]
    if wrong:
        raise DartsError(f"the state dict does not fit this {type(model).__name__}; {'; '.join(wrong)}")
    with torch.no_grad():
        for key, tensor in ours.items():
            if key in given:
                tensor.copy_(given[key])


def _our_key(key: str) -> str:
    """`cells.3._ops.5._ops.4.op.1.weight` (cell, edge, operation, layer) is `cells.3.edges.5.sep_conv_3x3.1.weight` here."""
    key = re.sub(r"\._ops\.(\d+)\._ops\.(\d+)\.", lambda match: f".edges.{match[1]}.{_operation(match[2])}.", key)
    return key.replace(".op.", ".")


def _operation(column: str) -> str:
    searched = SPACES["cnn"].searched
    return searched[int(column)] if int(column) < len(searched) else column
