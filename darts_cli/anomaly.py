"""Where a number stops being finite: every module's output and every gradient looked at (`--detect-anomaly`)."""

import contextlib
import re
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from darts_cli import DartsError


@contextlib.contextmanager
def detection(network: nn.Module, wanted: bool) -> Iterator[None]:
    """Inside, if wanted, the first output of a module that is not finite, or gradient that is NaN, raises DartsError naming it.

    Gradients are PyTorch's anomaly detection, which also tells the line of the operation. It all takes several times longer.
    """
    if not wanted:
        yield
        return
    names = {module: name or "the network" for name, module in network.named_modules()}

    def look(module: nn.Module, _inputs, output) -> None:
        if module in names and not all(tensor.isfinite().all() for tensor in _floating(output)):
            raise DartsError(f"--detect-anomaly: the output of {names[module]} ({type(module).__name__}) is not finite")

    hook, said = nn.modules.module.register_module_forward_hook(look), []
    try:
        with warnings.catch_warnings(record=True) as said, torch.autograd.set_detect_anomaly(True):
            warnings.filterwarnings("always", message="Error detected in")
            yield
    except RuntimeError as error:
        found = re.search(r"Function '(\w+?)(?:Backward\w*)?' returned nan", str(error))
        if found is None:
            raise
        lines = re.findall(r'File ".*?(darts_cli[^"]*)", line (\d+), in (\w+)', "".join(str(each.message) for each in said))
        place = f" ({lines[-1][0]}, line {lines[-1][1]}, in {lines[-1][2]})" if lines else ""
        raise DartsError(f"--detect-anomaly: the gradient of {found[1]}{place} is NaN") from None
    finally:
        hook.remove()
        for each in said:
            if "Error detected in" not in str(each.message):
                warnings.showwarning(each.message, each.category, each.filename, each.lineno)


def _floating(output: object) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, list | tuple):
        for each in output:
            yield from _floating(each)
